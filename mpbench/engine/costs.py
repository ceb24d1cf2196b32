"""FLOPs: arithmetic over the shapes of a graph's operations. Imports no TensorFlow.

A multiplication and an addition are two FLOPs. TensorFlow's own counter (`tf.compat.v1.profiler`, float_operation)
agrees for convolutions and products, backward ones too, and is what the tests check against. But it counts nothing for
depthwise convolutions' backward pass, Einsum (attention), ReLU and what a function called inside a graph holds (grouped
convolutions on a CPU), and too much for transposed convolutions, so it is not what is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = Sequence[int | None]

SOFTMAX_FLOPS_PER_VALUE = 5
"""Maximum, subtraction, exponential, sum, division."""

FUSED_NORMALIZATION_FLOPS_PER_VALUE = 5
"""Of normalising: sum and sum of squares, subtraction, product, addition; twice that for its gradient."""

_MOVING_ONLY = (
    *("Cast", "Pad", "PadV2", "MirrorPad", "MirrorPadGrad", "Transpose", "Concat", "ConcatV2", "Slice", "StridedSlice"),
    *("StridedSliceGrad", "Gather", "GatherV2", "GatherNd", "Fill", "Tile", "ZerosLike", "OnesLike", "OneHot", "Split"),
    *("SplitV", "Pack", "Unpack", "Select", "SelectV2", "BroadcastTo", "Reverse", "ReverseV2", "ScatterNd", "Range"),
    *("DepthToSpace", "SpaceToDepth", "SpaceToBatchND", "BatchToSpaceND", "ResizeNearestNeighbor", "DynamicStitch"),
    *("ResizeNearestNeighborGrad", "ResourceGather", "InvertPermutation"),
)
"""Operations that only move or convert values."""


def known_size(shape: Shape) -> int:
    """Number of values; raises ValueError where a dimension is not known."""
    if any(size is None for size in shape):
        raise ValueError(f"the shape {tuple(shape)} is known only when it runs")
    return math.prod(size for size in shape if size is not None)


def update_bytes(gradients: int, weights: int, slots: int) -> int:
    """Bytes that an optimizer's update must at least move: gradients read, weights and slots read and written.

    For Adam, whose slots are two moments for each weight, in float32: 4 + 2 * 4 + 4 * 4 = 28 bytes a weight.

    Args: bytes of all of each.
    """
    return gradients + 2 * (weights + slots)


def alive_in(graph: Any) -> set[str]:
    """Names of the operations of a TensorFlow graph that a result depends on.

    TensorFlow drops the others before it runs a graph: the gradient of the image, a cell that Keras has called once
    more to learn its output's shape.
    """
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    seen = {op.name for op in waiting}
    while waiting:
        op = waiting.pop()
        for other in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if other.name not in seen:
                seen.add(other.name)
                waiting.append(other)
    return seen


def operation_flops(kind: str, inputs: Sequence[Shape], outputs: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
    """FLOPs of one operation of a TensorFlow graph.

    Args:
        kind: its type, such as `Conv2D`.
        inputs, outputs: shapes, channels last.
        attributes: by name; needed are those of the type (`ksize`, `transpose_a`, `equation`).

    Raises:
        ValueError: a shape that it depends on is not known.
    """
    if kind in _COUNTED:
        return _COUNTED[kind](inputs, outputs, attributes)
    return sum(known_size(shape) for shape in outputs)  # elementwise: one per value


def _product(inputs: Sequence[Shape], outputs: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
    transposed = attributes.get("transpose_a") or attributes.get("adj_x")
    return 2 * known_size(outputs[0]) * known_size([inputs[0][-2 if transposed else -1]])


def _einsum(inputs: Sequence[Shape], _: Sequence[Shape], attributes: Mapping[str, Any]) -> int:
    """Two inputs: a product and a sum for each combination of all indices. One: a sum, or nothing."""
    equation = attributes["equation"]
    equation = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    left, right = equation.split("->")
    sizes: dict[str, int] = {}
    for labels, sizes_of in zip(left.split(","), inputs, strict=True):
        head, dots, tail = labels.partition("...")
        wide = len(sizes_of) - len(head) - len(tail) if dots else 0
        names = [*head, *(f"...{wide - i}" for i in range(wide)), *tail]
        sizes.update({name: known_size([size]) for name, size in zip(names, sizes_of, strict=True) if size != 1})
    combinations = math.prod(sizes.values())
    if len(inputs) == 1:
        return combinations if set(left.replace("...", "")) - set(right) else 0
    return 2 * combinations


_COUNTED: dict[str, Callable[[Sequence[Shape], Sequence[Shape], Mapping[str, Any]], int]] = {
    # Every output value of a convolution is a sum over the window and the channels (of its group) of the filter, and
    # its gradients are as many products: the output's shape is that of the gradient that comes in.
    **dict.fromkeys(("Conv2D", "Conv3D"), lambda ins, outs, _: 2 * known_size(outs[0]) * known_size(ins[1][:-1])),
    **dict.fromkeys(
        ("Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        lambda ins, outs, _: 2 * known_size(ins[2]) * known_size(ins[1][:-1]),
    ),
    **dict.fromkeys(
        ("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"),
        lambda ins, outs, _: 2 * known_size(ins[2]) * known_size(outs[0][:-1]),
    ),
    "DepthwiseConv2dNative": lambda ins, outs, _: 2 * known_size(outs[0]) * known_size(ins[1][:2]),
    "DepthwiseConv2dNativeBackpropInput": lambda ins, outs, _: 2 * known_size(ins[2]) * known_size(ins[1][:2]),
    "DepthwiseConv2dNativeBackpropFilter": lambda ins, outs, _: 2 * known_size(ins[2]) * known_size(outs[0][:2]),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product),
    "Einsum": _einsum,
    **dict.fromkeys(
        ("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"),
        lambda ins, outs, attributes: known_size(outs[0]) * known_size(attributes["ksize"]),
    ),
    **dict.fromkeys(
        ("MaxPoolGrad", "AvgPoolGrad", "MaxPool3DGrad", "AvgPool3DGrad"),
        lambda ins, outs, attributes: known_size(ins[-1]) * known_size(attributes["ksize"]),
    ),
    **dict.fromkeys(
        ("Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "BiasAddGrad", "L2Loss"),
        lambda ins, outs, _: known_size(ins[0]),
    ),
    "AddN": lambda ins, outs, _: (len(ins) - 1) * known_size(outs[0]),
    **dict.fromkeys(("Softmax", "LogSoftmax"), lambda ins, outs, _: SOFTMAX_FLOPS_PER_VALUE * known_size(outs[0])),
    **dict.fromkeys(
        ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
        lambda ins, outs, _: FUSED_NORMALIZATION_FLOPS_PER_VALUE * known_size(outs[0]),
    ),
    **dict.fromkeys(
        ("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3"),
        lambda ins, outs, _: 2 * FUSED_NORMALIZATION_FLOPS_PER_VALUE * known_size(outs[0]),
    ),
    **dict.fromkeys(_MOVING_ONLY, lambda ins, outs, _: 0),
}
