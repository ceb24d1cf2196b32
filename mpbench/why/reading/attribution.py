"""Which layer and which pass an operation belongs to, told from its path.

What belongs here: the names that Keras and TensorFlow give to operations, and how they are matched with a model's
layers. Paths look like `vgg16_1/block1_conv1_1/convolution`, `gradient_tape/vgg16_1/...`, `cond/then/_0/cond/adam/Mul`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from mpbench.records.profile import BACKWARD, CHECKS, FORWARD, INPUT, LOSS_SCALING, UNATTRIBUTED, UPDATE
from mpbench.why.reading.kernels import operation_type, updates_weights

OPTIMIZER_PLACE, LOSS, SCALING, FORKS = "(optimizer)", "(loss and metrics)", "(loss scaling)", "(sums of gradients)"
MODEL, DATA, NOWHERE = "(model itself)", "(input)", "(unattributed)"
"""Names that stand in place of a layer's for work outside the layers. TensorFlow's names hold no brackets.

If a layer's output goes to several others, `AddN` adds up their gradients, and its name tells no layer.
"""


@dataclass(frozen=True)
class KnownLayer:
    """A layer of the model that was profiled.

    Attributes:
        path: names from the model's own down to the layer's, as Keras has them.
        label: what tables call it; names that Keras made up are counted anew in them.
        type: name of its class.
        dtype: that it computes in by its policy.
        channels: of its kernel, in and out; None where it has none.
    """

    path: tuple[str, ...]
    label: str
    type: str
    dtype: str = ""
    channels: tuple[int, int] | None = None


@dataclass(frozen=True)
class Place:
    """Where an operation belongs: a layer's label, or one of the names in brackets; and a pass."""

    layer: str
    part: str
    known: KnownLayer | None = None


_NUMBER = re.compile(r"_\d+")
_SUFFIX = re.compile(r"(?P<name>.+)_(?P<number>\d+)")
_WRAPPER = re.compile(
    r"(?:cond|then|else|case|branch\d*|true_fn|false_fn|StatefulPartitionedCall|PartitionedCall|XlaLaunch|Func|input"
    r"|output|ConstantFolding|ArithmeticOptimizer)(?:_\d+)?"
)
_CONDITION = re.compile(r"(?:cond|then|else)(?:_\d+)?")
_GENERATED = re.compile(r"-\d+-(?:\d+-)?Transpose\w+-LayoutOptimizer$|-folded(?:-\d+)?$|/(?:eightbit|_mkl)\w*$")

_OPTIMIZER_NAME = re.compile(
    r"(?:adam|adamw|adamax|nadam|sgd|rmsprop|adagrad|adadelta|adafactor|ftrl|lion|lamb|muon|loss_scale_optimizer)(?:_\d+)?",
    re.IGNORECASE,
)
_CHECK = re.compile(r"(?:.*_)?(?:IsFinite|All)(?:_\d+)?|packed(?:_\d+)?|(?:.*_)?check_finite\w*")
_SCALED = re.compile(r"(?:mul|Mul)(?:_\d+)?")
_SUMMED = re.compile(r"(?:AddN|CollectiveReduce\w*|NcclAllReduce)(?:_\d+)?")
_LOSS = re.compile(r"compile_loss(?:_\d+)?|compile_metrics(?:_\d+)?|loss(?:_\d+)?")
_LOSSES_AND_METRICS = re.compile(
    r"(?:div_no_nan|Add|add|Sum|Mean|Cast|truediv|Square|L2Loss|ArgMax|Equal|AssignVariableOp|AssignAddVariableOp|Mul|mul"
    r"|Sub|sub|Squeeze|Shape|strided_slice|concat|zeros|ones|Const|Identity|GreaterEqual|LogicalAnd|Prod|Size)(?:_\d+)?"
)
_DATA = re.compile(r"IteratorGetNext\w*|Iterator\w*|.*Dataset\w*|infeed.*")
_MOVED = ("_Recv", "_HostRecv", "_Send", "_HostSend")
"""Copies between host and device; named after the operation whose result they bring, if it is one."""

_WHILE = re.compile(r"while(?:_grad|_cond|_body)?(?:_\d+)?|body|cond")

_OPERATION_SCOPE = re.compile(
    r"[A-Z][A-Za-z0-9]*|convolution|conv_transpose|separable_conv2d|depthwise|moments|batchnorm|mean|variance|mul|add"
    r"|sub|truediv|pow|neg|sqrt|rsqrt|transpose|strided_slice|concat|split|stack|unstack|einsum|dropout|range|zeros"
    r"|ones|zeros_like|ones_like|floordiv|mod|while|stateless_\w+|random_\w+|normalize|l2_normalize|gradients|clip_by_\w+"
)
"""Scopes of single operations of TensorFlow or Keras, without their numbers."""


class Attribution:
    """Where the operations of one trace belong.

    Args:
        ops: `path:Type` of all of them; what they have in common tells models from optimizers.
        layers: of the model, if it is known; else layers are derived from the paths alone.
        optimizers: names of the optimizer and of what wraps it, if they are known.
    """

    def __init__(
        self, ops: Collection[str], layers: Sequence[KnownLayer] = (), optimizers: Collection[str] = ()
    ) -> None:
        self._optimizers = frozenset(optimizers)
        parsed = [_parsed(op) for op in ops]
        if layers and not _called(parsed, layers[0].path[0]):  # a user's own step may call the layers one by one
            layers = [replace(layer, path=layer.path[1:]) for layer in layers if len(layer.path) > 1]
        self._tree = _tree(layers) if layers else None
        self._roots = frozenset({layer.path[0] for layer in layers} or _derived_roots(parsed, self._optimizers))
        # Keras opens a layer's name twice, to build it and to call it: TensorFlow numbers the second one.
        self._numbered = _numbered(parsed, self._roots, layers)
        self._forward = frozenset("/".join(one.names) for one in parsed if not one.backward and one.kind not in _MOVED)
        self._updating = frozenset(
            one.names[0]
            for one in parsed
            if updates_weights(one.kind) and len(one.names) > 1 and self._root_at(one.names) is None
        )

    def place(self, op: str) -> Place:
        """Where the operation `path:Type` belongs; an empty text belongs nowhere."""
        if not op:
            return Place(NOWHERE, UNATTRIBUTED)
        one = _parsed(op)
        if not one.names:
            return Place(NOWHERE, UNATTRIBUTED)
        at = self._root_at(one.names)
        if at is not None:
            return self._in_model(one, one.names[at:])
        return self._beside_the_model(one)

    def _in_model(self, one: _Parsed, names: Sequence[str]) -> Place:
        part = FORWARD
        if one.backward:
            part = CHECKS if self._casts_a_weight(names, one.kind) else BACKWARD
        elif updates_weights(one.kind):
            part = UPDATE
        if self._tree is not None:
            known = self._known(names)
            return Place(known.label if known else MODEL, part, known)
        return Place(self._derived(one, names) or MODEL, part)

    def _casts_a_weight(self, names: Sequence[str], kind: str) -> bool:
        """Whether an operation of the backward pass casts a weight's gradient back to the weight's own type.

        The operation that casts a weight is `layer/convolution/Cast` or `layer/Cast/Cast`, and its gradient's name has
        one more `/Cast`; one that casts what flows through a layer is `layer/Cast`.
        """
        if kind != "Cast" or len(names) < 4 or not _SUFFIXED_CAST.fullmatch(names[-1]):
            return False
        return bool(_SUFFIXED_CAST.fullmatch(names[-2])) and bool(
            _OPERATION_SCOPE.fullmatch(_without_number(names[-3]))
            and (not self._numbered or not _SUFFIX.fullmatch(names[-3]) or names[-3].startswith("Cast"))
        )

    def _known(self, names: Sequence[str]) -> KnownLayer | None:
        """The innermost layer whose name is in a path. Unknown scopes between are skipped, and the operation's own."""
        node = self._tree
        assert node is not None
        for name in names[:-1]:
            found = node.child(name, self._numbered)
            node = found or node
        return node.layer

    def _derived(self, one: _Parsed, names: Sequence[str]) -> str:
        """A layer's path, told from the names alone: without the model's name and scopes of single operations."""
        inner = list(names[1:-1])
        if one.backward:  # below the operation that it is the gradient of
            for length in range(len(names) - 1, 1, -1):
                if "/".join(names[:length]) in self._forward:
                    inner = list(names[1 : length - 1])
                    break
        for number, name in enumerate(inner):
            if number and _WHILE.fullmatch(name):
                inner = inner[:number]
                break
        while inner and self._is_scope(inner[-1], alone=len(inner) == 1):
            inner.pop()
        return "/".join(self._plain(name) for name in inner)

    def _is_scope(self, name: str, alone: bool) -> bool:
        numbered = _SUFFIX.fullmatch(name)
        if self._numbered and not numbered:
            return True
        operation = bool(_OPERATION_SCOPE.fullmatch(_without_number(name)))
        return operation and not (alone and self._numbered)

    def _plain(self, name: str) -> str:
        match = _SUFFIX.fullmatch(name)
        if not match or not self._numbered:
            return name
        return match["name"] if int(match["number"]) % 2 or match["name"].endswith("_1") else name

    def _root_at(self, names: Sequence[str]) -> int | None:
        """Where the model's own name stands in a path; only conditions and calls may stand before it."""
        for at, name in enumerate(names[:-1]):
            if self._is_root(name) and not (_CONDITION.fullmatch(name) and _CONDITION.fullmatch(names[at + 1])):
                return at
            if not _WRAPPER.fullmatch(name):
                return None
        return None

    def _is_root(self, name: str) -> bool:
        if self._tree is None:
            return name in self._roots
        match = _SUFFIX.fullmatch(name)
        called = match is not None and match["name"] in self._roots
        if self._numbered:
            return called and match is not None and int(match["number"]) % 2 == 1
        return called or name in self._roots

    def _beside_the_model(self, one: _Parsed) -> Place:
        conditional = any(_CONDITION.fullmatch(name) for name in one.names[:-1])
        names = [name for at, name in enumerate(one.names) if at == len(one.names) - 1 or not _WRAPPER.fullmatch(name)]
        first, last = names[0], names[-1]
        if _DATA.fullmatch(one.kind) or (one.kind == "_Recv" and not self._says_more(last)):
            return Place(DATA, INPUT)
        if (len(names) > 1 and (self._is_optimizer(first) or first in self._updating)) or updates_weights(one.kind):
            return Place(OPTIMIZER_PLACE, UPDATE)
        if _LOSS.fullmatch(first):
            return Place(LOSS, BACKWARD if one.backward else FORWARD)
        if _CHECK.fullmatch(last):
            return Place(SCALING, CHECKS)
        if _SUMMED.fullmatch(last):
            return Place(FORKS, BACKWARD)
        if conditional or (self._scales and _CONDITION.fullmatch(last)):
            return Place(SCALING, LOSS_SCALING)
        if len(names) == 1 and _SCALED.fullmatch(last):
            return Place(SCALING if self._scales else LOSS, LOSS_SCALING if self._scales else FORWARD)
        if len(names) == 1 and _LOSSES_AND_METRICS.fullmatch(last):
            return Place(LOSS, BACKWARD if one.backward else FORWARD)
        if one.backward:
            return Place(LOSS, BACKWARD)
        return Place(NOWHERE, UNATTRIBUTED)

    @property
    def _scales(self) -> bool:
        """Whether there is loss scaling: it checks that the gradients are finite."""
        return any(_CHECK.fullmatch(name) for name in self._forward)

    def _is_optimizer(self, name: str) -> bool:
        if self._optimizers:
            return name in self._optimizers or _without_number(name) in self._optimizers
        return bool(_OPTIMIZER_NAME.fullmatch(name))

    def _says_more(self, name: str) -> bool:
        """Whether a copy between host and device is named after an operation: it then brings that one's result."""
        return bool(_CHECK.fullmatch(name)) or any(other.rpartition("/")[2] == name for other in self._forward)


_SUFFIXED_CAST = re.compile(r"Cast(?:_\d+)?")


@dataclass(frozen=True)
class _Parsed:
    """A path without its empty parts: `gradient_tape`, calls around everything, numbers of copies."""

    names: tuple[str, ...]
    kind: str
    backward: bool


@functools.lru_cache(maxsize=50_000)
def _parsed(op: str) -> _Parsed:
    path, _, _ = op.rpartition(":")
    path = _GENERATED.sub("", path)
    names = [name for name in path.split("/") if name and not _NUMBER.fullmatch(name)]
    backward = False
    while names[:-1] and (names[0] in ("gradient_tape", "gradients") or _is_call(names[0])):
        backward = backward or not _is_call(names[0])
        names = names[1:]
    return _Parsed(tuple(names), operation_type(op), backward)


def _is_call(name: str) -> bool:
    return bool(re.fullmatch(r"(?:Stateful)?PartitionedCall(?:_\d+)?|ConstantFolding|replica_\d+", name))


def _without_number(name: str) -> str:
    match = _SUFFIX.fullmatch(name)
    return match["name"] if match else name


@dataclass
class _Node:
    """A layer with those inside it, by name."""

    layer: KnownLayer | None = None
    inside: dict[str, _Node] = field(default_factory=dict)

    def child(self, scope: str, numbered: bool) -> _Node | None:
        """The node that a scope's name means.

        Args:
            numbered: whether each call of a layer has a number, an odd one: `conv_1` is the first call of `conv`, and
                `conv_1_1` of `conv_1`.
        """
        match = _SUFFIX.fullmatch(scope)
        base = self.inside.get(match["name"]) if match else None
        if not numbered:
            return self.inside.get(scope) or base
        if match is None or base is None:
            return None
        return base if int(match["number"]) % 2 != _taken(match["name"], self.inside) else None


def _taken(name: str, names: Collection[str]) -> bool:
    """Whether the call of another layer has taken a layer's name: `conv` is called in `conv_1`, so layer `conv_1`
    is built in `conv_1_1` and called in `conv_1_2`."""
    match = _SUFFIX.fullmatch(name)
    return match is not None and int(match["number"]) == 1 and match["name"] in names


def _tree(layers: Iterable[KnownLayer]) -> _Node:
    """All layers below one node; the model's own name leads to its layers, as do those of layers called alone."""
    top = _Node()
    for layer in layers:
        node = top
        for name in layer.path:
            node = node.inside.setdefault(name, _Node())
        node.layer = layer
    return top


def _derived_roots(parsed: Iterable[_Parsed], optimizers: Collection[str]) -> set[str]:
    """The models' names: what gradients are taken through, else the first name of most paths."""
    backward: Counter[str] = Counter()
    forward: Counter[str] = Counter()
    for one in parsed:
        names = list(one.names)
        while names[:-1] and _WRAPPER.fullmatch(names[0]):
            names = names[1:]
        if len(names) < 2 or _LOSS.fullmatch(names[0]) or _OPTIMIZER_NAME.fullmatch(names[0]) or names[0] in optimizers:
            continue
        (backward if one.backward else forward)[names[0]] += 1
    both = set(backward) & set(forward)
    return both or {name for name, number in forward.items() if 5 * number >= forward.total()}


def _called(parsed: Iterable[_Parsed], model: str) -> bool:
    """Whether a model's name stands in any path."""
    return any(model in (name, _without_number(name)) for one in parsed for name in one.names[:-1])


def _numbered(parsed: Iterable[_Parsed], roots: Collection[str], layers: Sequence[KnownLayer]) -> bool:
    """Whether the models' names end in odd numbers, in the paths in which one of their layers follows."""
    inside = {layer.path[1] for layer in layers if len(layer.path) > 1}
    seen: Counter[bool] = Counter()
    for one in parsed:
        for name, following in pairwise(one.names):
            match = _SUFFIX.fullmatch(name)
            odd = match is not None and int(match["number"]) % 2 == 1
            if layers and not {following, _without_number(following)} & inside:
                continue
            if name in roots or (layers and _without_number(name) in roots):
                seen[odd and (not layers or name not in roots)] += 1
                break
    return seen[True] > seen[False]
