"""What is seen of a step while it is traced: what each layer gives, what the backward pass hands on, the updates.

Layers are seen by their calls, so it is the same for functional, Sequential and subclassed models, nested and shared
layers. What is called within a loop, a branch or a function of its own is seen as a part of the layer around it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import tensorflow as tf

LOSS = "(loss)"
"""In place of a layer's name: what hands the first gradient to the model."""

MODEL = "(the model)"
"""In place of a layer's name: operations that the model does itself."""

PASSED_THROUGH = frozenset({"Cast", "Identity", "IdentityN", "StopGradient"})
"""Operations whose output is what they are given."""

ATTRIBUTES = ("_keras_mask", "_keras_logits")
"""That Keras hangs on tensors: what is padding, and the logits of a softmax, which its losses go back to."""

LOOKED_AT = frozenset({"Softmax", "Sigmoid"})
"""Operations that Keras's losses look for in a tensor without logits: it must stay as it is."""

GIVEN = frozenset({"Placeholder", "Const", "ReadVariableOp"})
"""Operations whose output is not computed: the batch, constants, weights."""

LOW_DTYPES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Seen:
    """A tensor of the forward pass.

    Attributes:
        name: of the layer, with the names of those around it, such as `encoder/attention`.
        call: how many times the layer has been called before.
        kind: the layer's class.
        before: whether it is not what the layer gave, but what operations outside all layers gave to it.
        owner: name of the layer that made it; empty where that is no layer of Keras, but the model's own operations.
        tensor: symbolic.
        is_output: of the model.
    """

    name: str
    call: int
    kind: str
    before: bool
    owner: str
    tensor: Any
    is_output: bool

    @property
    def token(self) -> tuple[Any, ...]:
        """What it has in common with the same one in another precision."""
        return self.kind, self.before, self.call, tuple(self.tensor.shape) if self.tensor.shape.rank is not None else ()


@dataclass(frozen=True)
class Flow:
    """A gradient on its way back.

    Attributes:
        name: of the layer that computed it, for what it was given; LOSS for the loss.
        tensor: symbolic.
    """

    name: str
    tensor: Any


@dataclass(frozen=True)
class Update:
    """What an optimizer was given.

    Attributes:
        gradients: for each variable, a dense symbolic tensor, or None.
        visible: whether they are tensors of the function that is traced; they are not where the update is made in a
            branch, a loop or a function of its own.
    """

    optimizer: Any
    gradients: tuple[Any, ...]
    variables: tuple[Any, ...]
    visible: bool


@dataclass
class Recording:
    """All that was seen.

    Attributes:
        outputs: in the order of the forward pass.
        flows: in the order of the backward pass.
        updates: in the order in which they are made.
        loss: before it was scaled; None where the step did not scale it.
        owners: name of the layer of each variable, by its id.
        layers: by name.
    """

    outputs: list[Seen] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    loss: Any = None
    owners: dict[int, str] = field(default_factory=dict)
    layers: dict[str, Any] = field(default_factory=dict)


@contextmanager
def watched(model: keras.Model, scale: Any, flows: bool) -> Iterator[Recording]:
    """While a step of a model is traced into the default graph: what it computes. It makes no update.

    Args:
        scale: that its loss is multiplied by where it is to be scaled, in place of the optimizer's own.
        flows: whether the backward pass is seen too. Forward it changes nothing.
    """
    watcher = _Watcher(model, flows)
    layer, operation = keras.layers.Layer, keras.Operation
    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(layer, "__call__", watcher.around))
        stack.enter_context(_replaced(operation, "__call__", watcher.around_operation))
        for kind in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer):
            stack.enter_context(_replaced(kind, "apply", watcher.in_place_of_apply))
            stack.enter_context(_replaced(kind, "scale_loss", lambda own: watcher.in_place_of_scale_loss(scale)))
        stack.enter_context(draws_in_float32())
        yield watcher.recording


@contextmanager
def _replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """An attribute of a class or a module is another for a while."""
    was_own, own = name in vars(owner), getattr(owner, name)
    setattr(owner, name, make(own))
    try:
        yield
    finally:
        if was_own:
            setattr(owner, name, own)
        else:
            delattr(owner, name)


@contextmanager
def draws_in_float32() -> Iterator[None]:
    """Random numbers of Keras's layers are drawn in float32 and rounded.

    The same seed gives other numbers in another dtype: dropout would drop other values, and nothing could be compared.
    The functions are Keras's own; where a version has others, they are left as they are.
    """
    from keras import src

    module = getattr(getattr(src, "backend", None), "random", None)

    def drawn(own: Any) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            dtype = kwargs.get("dtype")
            if dtype not in LOW_DTYPES:
                return own(*args, **kwargs)
            return tf.cast(own(*args, **{**kwargs, "dtype": "float32"}), dtype)

        return draw

    def dropped(own: Any) -> Any:
        def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
            if inputs.dtype.name not in LOW_DTYPES or not 0 < rate < 1:
                return own(inputs, rate, noise_shape=noise_shape, seed=seed)
            kept = own(tf.ones_like(inputs, tf.float32), rate, noise_shape=noise_shape, seed=seed)
            return tf.where(kept > 0, inputs * tf.cast(1 / (1 - rate), inputs.dtype), tf.zeros_like(inputs))

        return dropout

    with contextlib.ExitStack() as stack:
        for name, make in (("normal", drawn), ("uniform", drawn), ("truncated_normal", drawn), ("dropout", dropped)):
            if hasattr(module, name):
                stack.enter_context(_replaced(module, name, make))
        yield


class _Watcher:
    """The calls of a model's layers, one within the other.

    Args:
        flows: see `watched`.
    """

    def __init__(self, model: keras.Model, flows: bool) -> None:
        self.recording = Recording()
        self._model = model
        self._flows = flows
        self._graph = tf.compat.v1.get_default_graph()
        self._around: list[Any] = []
        self._path: list[str] = []
        self._calls: Counter[str] = Counter()
        self._known: dict[str, int | None] = {}
        """Names of tensors with their place among the outputs; None for those that need none."""

    def around(self, own: Any) -> Any:
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            return self._call(own, layer, args, kwargs)

        return call

    def around_operation(self, own: Any) -> Any:
        """Operations that stand in a functional model as layers do, such as `x / 255`."""

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.layers.Layer) or not (self._around and runs_a_graph(self._around[-1])):
                return own(operation, *args, **kwargs)
            return self._call(own, operation, args, kwargs)

        return call

    def in_place_of_apply(self, own: Any) -> Any:
        def apply(optimizer: Any, grads: Sequence[Any], trainable_variables: Any = None) -> None:
            variables = tuple(trainable_variables or optimizer._trainable_variables)
            visible = all(one is None or self._is_here(one) for one in grads)
            dense = tuple(None if one is None else tf.convert_to_tensor(one) for one in grads) if visible else ()
            self.recording.updates.append(Update(optimizer, dense, variables, visible))

        return apply

    def in_place_of_scale_loss(self, scale: Any) -> Any:
        def scale_loss(optimizer: Any, loss: Any) -> Any:
            if self._is_here(loss):
                self.recording.loss = loss
            return keras.ops.multiply(loss, scale)

        return scale_loss

    def _call(self, own: Any, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._is_traced_here():
            return own(layer, *args, **kwargs)
        outermost, is_model = not self._around, layer is self._model
        name = MODEL if is_model else self._name(layer)
        call = self._calls[name]
        self._calls[name] += 1
        handed_out = self._around and not runs_a_graph(self._around[-1])
        if outermost:
            keras.tree.map_structure(self._know, (args, kwargs))
        else:
            args, kwargs = keras.tree.map_structure(lambda one: self._taken(one, name, call, layer), (args, kwargs))
        self._around.append(layer)
        if not is_model:
            self._path.append(name)
        try:
            out = own(layer, *args, **kwargs)
        finally:
            self._around.pop()
            if not is_model:
                self._path.pop()
        for variable in getattr(layer, "weights", ()):
            self.recording.owners.setdefault(id(variable), name)
        owner = name if isinstance(layer, keras.layers.Layer) and not is_model else ""
        for tensor in keras.tree.flatten(out):
            self._record(tensor, Seen(name, call, type(layer).__name__, False, owner, tensor, outermost))
        if outermost or handed_out:
            # What computes this gradient stands outside all layers: in the layer around this one, or in the loss.
            computed_by = LOSS if outermost else self._path[-1] if self._path else MODEL
            out = keras.tree.map_structure(lambda one: self._hooked(one, computed_by), out)
        return out

    def _name(self, layer: Any) -> str:
        """Its name after those around it; layers of one name are told apart by a number."""
        plain = "/".join([*self._path[-1:], str(layer.name)])
        names = self.recording.layers
        number = 1
        name = plain
        while name in names and names[name] is not layer:
            number += 1
            name = f"{plain} ({number})"
        names[name] = layer
        return name

    def _taken(self, tensor: Any, name: str, call: int, layer: Any) -> Any:
        """An argument of a layer's call, as it will be handed to it."""
        owner = self._path[-1] if self._path else ""
        self._record(tensor, Seen(name, call, type(layer).__name__, True, owner, tensor, False))
        return self._hooked(tensor, name)

    def _record(self, tensor: Any, seen: Seen) -> None:
        if not self._is_here(tensor) or not tensor.dtype.is_floating:
            return
        origin = _origin(tensor)
        if origin.name not in self._known:
            self._known[origin.name] = None if origin.op.type in GIVEN else len(self.recording.outputs)
            if origin.op.type not in GIVEN:
                self.recording.outputs.append(seen)
        place = self._known[origin.name]
        if seen.is_output and place is not None:
            self.recording.outputs[place] = replace(self.recording.outputs[place], is_output=True)

    def _know(self, tensor: Any) -> Any:
        """Of what the model is given."""
        if self._is_here(tensor):
            self._known.setdefault(_origin(tensor).name, None)
        return tensor

    def _hooked(self, tensor: Any, name: str) -> Any:
        """The same tensor, whose gradient is recorded on its way back."""
        if not self._flows or not self._is_here(tensor) or not tensor.dtype.is_floating:
            return tensor
        if tensor.op.type in LOOKED_AT and not hasattr(tensor, "_keras_logits"):
            return tensor

        def backward(gradient: Any) -> Any:
            if self._is_here(gradient):
                self.recording.flows.append(Flow(name, tf.convert_to_tensor(gradient)))
            return gradient

        same = tf.custom_gradient(lambda x: (tf.identity(x), backward))(tensor)
        for attribute in ATTRIBUTES:
            if hasattr(tensor, attribute):
                setattr(same, attribute, getattr(tensor, attribute))
        return same

    def _is_traced_here(self) -> bool:
        return tf.compat.v1.get_default_graph() is self._graph

    def _is_here(self, tensor: Any) -> bool:
        return isinstance(tensor, (tf.Tensor, tf.IndexedSlices)) and getattr(tensor, "graph", None) is self._graph


def _origin(tensor: Any) -> Any:
    """What a tensor is a copy of, in whatever dtype."""
    while tensor.op.type in PASSED_THROUGH:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def runs_a_graph(layer: Any) -> bool:
    """Whether a model's call does nothing but call its layers: one that is functional or Sequential."""
    owner = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return isinstance(layer, keras.Model) and owner.__module__.startswith("keras.src.models.")
