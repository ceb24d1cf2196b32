"""In which dtype a traced step computes its matrix products and convolutions, layer by layer, and what follows of it.

A dtype policy says what a layer is to compute in; the graph says what it does. Told by the operations that stand in the
graph between the beginning and the end of a layer's call, so that names need not be understood.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras.layers import Layer

from mpbench.engine.costs import alive_in, known_size, operation_flops
from mpbench.engine.tracing import replaced
from mpbench.errors import CaseFailure

PRODUCTS = frozenset(
    {
        *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D"),
        *("Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNative"),
        *("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"),
    }
)
"""Of the forward pass: transposed convolutions are gradients of convolutions."""

ATTRIBUTES = ("transpose_a", "adj_x", "equation")
NAMED_LAYERS = 3

MOST = 0.5
"""Share of a step's FLOPs in another dtype than the layers say, from which on the arm is not what its name says."""

NEGLIGIBLE = 0.01
"""Share of its FLOPs that layers may compute in a dtype of their own without a word, such as a last layer's."""

Calls = list[tuple[Any, int, int, Layer]]
"""For each call of a layer the graph, the numbers of the first operation in it and of the first after it, the layer."""


@contextmanager
def watched_calls() -> Iterator[Calls]:
    """While a function is traced: where its layers are called."""
    calls: Calls = []
    own = Layer.__call__

    def call(self: Layer, *args: Any, **kwargs: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        first = graph.version  # the number of operations
        out = own(self, *args, **kwargs)
        calls.append((graph, first, graph.version, self))
        return out

    with replaced(Layer, "__call__", call):
        yield calls


@dataclass(frozen=True)
class Work:
    """The products of one layer in one dtype.

    Attributes:
        layer: its name.
        declared: dtype that its policy says.
        dtype: that they compute in.
        share: of the FLOPs of all products of the forward pass.
    """

    layer: str
    declared: str
    dtype: str
    share: float


def check_computes_in(dtype: str, work: Sequence[Work], model: str) -> list[str]:
    """Notes on what a step computes in another dtype than its precision's, a line each.

    Raises:
        CaseFailure: that is most of it, and not as its layers say.
    """
    declared = [one for one in work if one.dtype != dtype and one.dtype == one.declared]
    against = [one for one in work if one.dtype != dtype and one.dtype != one.declared]
    notes = []
    if against:
        what = f"computes {described_work(against)}, whatever its dtype policy says"
        if sum(one.share for one in against) > MOST:
            raise CaseFailure(f"{model} {what}")
        notes.append(f"it {what}")
    if sum(one.share for one in declared) > NEGLIGIBLE:
        notes.append(f"it computes {described_work(declared)}, as these layers declare")
    return notes


def described_work(work: Sequence[Work]) -> str:
    """For people: `92 % of the FLOPs of its matrix products and convolutions in float32 (dense 61 %, dense_1 31 %)`."""
    dtypes = " and ".join(dict.fromkeys(one.dtype for one in work))
    named = ", ".join(f"{one.layer} {_percent(one.share)}" for one in work[:NAMED_LAYERS])
    more = f", {len(work) - NAMED_LAYERS} more" if len(work) > NAMED_LAYERS else ""
    share = _percent(sum(one.share for one in work))
    return f"{share} of the FLOPs of its matrix products and convolutions in {dtypes} ({named}{more})"


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def work_by_layer(graph: Any, calls: Calls) -> list[Work]:
    """What the layers of a step compute in which dtype, the largest share first; its calls were watched."""
    flops: defaultdict[tuple[int, str], float] = defaultdict(float)
    layers: dict[int, Layer] = {}
    for op, layer, times in _products(graph, _owners(calls), None, 1):
        dtype = op.inputs[0].dtype if op.inputs else None
        if layer is None or dtype is None or not dtype.is_floating:
            continue  # outside all layers: the backward pass, whose products follow the forward pass's, or an optimizer
        layers[id(layer)] = layer
        flops[id(layer), dtype.name] += times * _flops(op)
    total = sum(flops.values()) or 1.0
    found = [
        Work(layers[key].name, str(layers[key].compute_dtype), dtype, one / total)
        for (key, dtype), one in flops.items()
    ]
    return sorted(found, key=lambda work: -work.share)


def _owners(calls: Calls) -> dict[int, list[Layer | None]]:
    """For each graph by its id, the innermost layer of each operation by its number."""
    owners: defaultdict[int, list[Layer | None]] = defaultdict(list)
    for graph, first, end, layer in sorted(
        calls, key=lambda call: call[1] - call[2]
    ):  # inner calls overwrite outer ones
        of_graph = owners[id(graph)]
        of_graph.extend([None] * (end - len(of_graph)))
        of_graph[first:end] = [layer] * (end - first)
    return owners


def _products(
    graph: Any, owners: Mapping[int, list[Layer | None]], caller: Layer | None, times: int
) -> Iterator[tuple[Any, Layer | None, int]]:
    """The products that a graph computes, those of the functions that it calls too; their layers, and how often."""
    of_graph = owners.get(id(graph), [])
    alive = alive_in(graph)
    for number, op in enumerate(graph.get_operations()):
        if op.name not in alive:
            continue
        layer = (of_graph[number] if number < len(of_graph) else None) or caller
        if op.type in PRODUCTS:
            yield op, layer, times
        else:
            for inner in _called(graph, op):
                yield from _products(inner, owners, layer, times * _turns(graph, op))


def _called(graph: Any, op: Any) -> Iterator[Any]:
    """The graphs of the functions that an operation calls: a loop's body, branches, a tf.function."""
    for attribute in op.op_def.attr:
        if attribute.type in ("func", "list(func)"):
            value = op.get_attr(attribute.name)
            for function in [value] if attribute.type == "func" else value:
                if inner := _function_graph(graph, function.name):
                    yield inner


def _function_graph(graph: Any, name: str) -> Any:
    """The graph of a function that a graph, or one around it, knows; None where none does."""
    inner = None
    while graph is not None and inner is None:
        inner = getattr(graph._get_function(name) if hasattr(graph, "_get_function") else None, "graph", None)
        graph = getattr(graph, "outer_graph", None)
    return inner


def _turns(graph: Any, op: Any) -> int:
    """How often a loop's body runs, where its condition compares with a constant; else 1."""
    if op.type not in ("While", "StatelessWhile"):
        return 1
    condition = _function_graph(graph, op.get_attr("cond").name)
    compared = [one for one in condition.get_operations() if one.type == "Less"] if condition else []
    bounds = [tf.get_static_value(one.inputs[1]) for one in compared]
    return max([1, *(int(bound) for bound in bounds if bound is not None)])


def _flops(op: Any) -> float:
    """Of one operation; of a batch of unknown size, for one image. 0 where its shapes do not tell."""
    inputs, outputs = ([_shape(tensor) for tensor in tensors] for tensors in (op.inputs, op.outputs))
    if op.type.startswith("CudnnRNN"):  # each weight is multiplied once for each value of the batch at each time
        return 2.0 * math.prod(inputs[0][:2]) * known_size(inputs[3])
    known = {attribute.name for attribute in op.op_def.attr}
    attributes = {name: op.get_attr(name) for name in ATTRIBUTES if name in known}
    try:
        return operation_flops(op.type, inputs, outputs, attributes)
    except (ValueError, IndexError):
        return 0.0


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(1 if size is None else int(size) for size in tensor.shape) if tensor.shape.rank is not None else ()
