"""FLOPs and minimal bytes of each layer of a step, counted over the graph of the step itself.

What belongs here: walking a graph of TensorFlow's. Which layer an operation belongs to is told by its name, as in the
profile (`reading.attribution`), and what an operation costs is arithmetic (`costs`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mpbench.engine.costs import alive_in, operation_flops
from mpbench.why.reading.attribution import Attribution

_FREE = frozenset(
    {
        *("Const", "Identity", "IdentityN", "Placeholder", "PlaceholderWithDefault", "StopGradient", "PreventGradient"),
        *("VarHandleOp", "VarIsInitializedOp", "NoOp", "CheckNumerics", "Assert", "Reshape", "Squeeze", "ExpandDims"),
        *("Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs", "ReadVariableOp"),
    }
)
"""Operation types that read, rename or pass on a buffer: they compute nothing."""

_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf")
_ATTRIBUTES = frozenset({"ksize", "transpose_a", "adj_x", "equation"})


@dataclass(frozen=True)
class LayerCosts:
    """The costs of one layer in one step, forward and backward.

    Attributes:
        flops: 0 if they cannot be counted: the layer has a loop, or shapes that are known only when it runs.
        bytes: that it must at least move: its weights, what comes from other layers and what goes to others, each once;
            0 where it cannot be counted.
    """

    flops: int
    bytes: int


def layer_costs(graph: Any, attribution: Attribution) -> dict[str, LayerCosts]:
    """The costs of each layer, by its label.

    Args:
        graph: of the step's concrete function, as it was traced.
        attribution: of the names in it.
    """
    alive = alive_in(graph)
    operations = [op for op in graph.get_operations() if op.name in alive]
    owner = {op.name: attribution.place(f"{op.name}:{op.type}").layer for op in operations}
    flops: defaultdict[str, int] = defaultdict(int)
    crossing: defaultdict[str, dict[str, int]] = defaultdict(dict)
    unknown: set[str] = set()
    for op in operations:
        layer = owner[op.name]
        try:
            flops[layer] += _flops(op)
            for tensor in op.inputs:
                source = owner[tensor.op.name]
                if source != layer and tensor.op.type != "Const" and _holds_values(tensor):
                    crossing[layer][tensor.name] = crossing[source][tensor.name] = _bytes(tensor)
            if op.type == "ReadVariableOp":
                crossing[layer][op.inputs[0].name] = _bytes(op.outputs[0])
        except ValueError:
            unknown.add(layer)
    return {
        layer: LayerCosts(0, 0) if layer in unknown else LayerCosts(flops[layer], sum(crossing[layer].values()))
        for layer in dict.fromkeys(owner.values())
    }


def names_in(graph: Any) -> Iterable[str]:
    """`path:Type` of all operations, for an Attribution."""
    return (f"{op.name}:{op.type}" for op in graph.get_operations())


def _flops(op: Any) -> int:
    """FLOPs of an operation; raises ValueError if its shapes are not known, or it calls a function."""
    if op.type in _CALLS:
        raise ValueError(f"{op.name} calls a function")
    if op.type in _FREE or not any(out.dtype.is_floating for out in op.outputs):
        return 0  # arithmetic on shapes is the host's
    attributes = {attribute.name for attribute in op.op_def.attr} & _ATTRIBUTES
    of = {name: op.get_attr(name) for name in attributes}
    return operation_flops(op.type, [_shape(x) for x in op.inputs], [_shape(x) for x in op.outputs], of)


def _shape(tensor: Any) -> tuple[int | None, ...]:
    """A tensor of unknown rank stands as one unknown dimension."""
    return (None,) if tensor.shape.rank is None else tuple(tensor.shape)


def _holds_values(tensor: Any) -> bool:
    """Whether a tensor holds values; a variable's handle does not, its values are counted where they are read."""
    return bool(tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool)


def _bytes(tensor: Any) -> int:
    size = tensor.shape.num_elements()
    if size is None:
        raise ValueError(f"the shape of {tensor.name} is known only when it runs")
    return int(size) * int(tensor.dtype.size)
