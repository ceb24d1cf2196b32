"""The programs that XLA compiled, as a trace holds them: which TensorFlow operations each instruction stands for.

What belongs here: reading HLO's protobuf, and how a fused kernel's time is divided among the operations in it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

MAX_STEPS = 8
"""The longest path from an instruction without a name to one with a name."""

_PRODUCTS = ("dot", "convolution", "ragged-dot")
_PRODUCT_TARGETS = ("gemm", "matmul", "conv", "cudnn", "cublas", "onednn", "fmha")
_PRODUCT_TYPE = re.compile(r"Conv\dD|MatMul|Einsum|DepthwiseConv|CudnnRNN|FusedConv|XlaDot|XlaConv")
_MOVING_NOTHING = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "broadcast", "after-all", "reshape")
)
_CONTAINERS = frozenset(("while", "conditional", "call"))
_HALF = (10, 16, 19, 20)
"""Numbers of F16, BF16, F8E5M2 and F8E4M3FN in xla_data.proto."""

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 15: 8, 16: 2, 18: 16, 19: 1, 20: 1}
"""Of one value, by the number of its type there."""


@dataclass(frozen=True)
class Part:
    """A TensorFlow operation that an instruction stands for, or is a part of it.

    Attributes:
        op: `path:Type`, as the trace of an operation without XLA has it.
        share: of the instruction's time.
    """

    op: str
    share: float


@dataclass(frozen=True)
class Instruction:
    """One instruction that runs as kernels of its own.

    Attributes:
        opcode: of HLO.
        parts: whose shares add up to 1; empty where neither it nor what it is near to has a name.
        product: whether it convolves or multiplies matrices.
        half: whether that is of float16, bfloat16 or float8 values.
        container: whether it only runs other instructions.
    """

    opcode: str
    parts: tuple[Part, ...]
    product: bool
    half: bool
    container: bool


def instructions(proto: bytes) -> dict[str, Instruction]:
    """The instructions of a module, fused ones within their fusion, by name.

    A fusion's time goes to the operations fused, in proportion to the bytes of the largest array that each reads or
    writes in it: such a kernel is bound by what it moves. Where it multiplies matrices, it goes to the products alone.

    Args:
        proto: HloProto, serialised.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    module = _message_class().FromString(proto).hlo_module
    computations = {one.id: one for one in module.computations}
    fused = {
        number
        for one in module.computations
        for instruction in one.instructions
        if instruction.opcode == "fusion"
        for number in instruction.called_computation_ids
    }
    found: dict[str, Instruction] = {}
    for computation in module.computations:
        if computation.id in fused:
            continue
        inner = {one.id: _inside(one, computations) for one in computation.instructions}
        named = {one.id: _names(one, inner[one.id]) for one in computation.instructions}
        near = _neighbours(computation.instructions)
        for one in computation.instructions:
            products = [part for part in inner[one.id] if _is_product(part)]
            weights: Mapping[str, float] = _names(one, products) if products else {}
            weights = weights or named[one.id] or _nearest(one.id, named, near)
            if products:  # XLA lost its name, and what is near to it holds other operations too
                weights = {op: weight for op, weight in weights.items() if is_product_type(_type(op))} or weights
            total = math.fsum(weights.values())
            found[one.name] = Instruction(
                opcode=one.opcode,
                parts=tuple(Part(op, weight / total) for op, weight in weights.items()),
                product=bool(products),
                half=any(_is_half(part, inner[one.id]) for part in products),
                container=one.opcode in _CONTAINERS,
            )
    return found


def _inside(instruction: Any, computations: Mapping[int, Any]) -> list[Any]:
    """The instructions fused in one, or itself."""
    if instruction.opcode != "fusion":
        return [instruction]
    inner: list[Any] = []
    for number in instruction.called_computation_ids:
        for one in computations[number].instructions if number in computations else ():
            inner += _inside(one, computations)
    return inner


def _names(instruction: Any, inside: Iterable[Any]) -> dict[str, float]:
    """For each operation named in an instruction, the bytes that it moves there."""
    inside = list(inside)
    sizes = {one.id: _size(one.shape) for one in inside}
    weights: dict[str, float] = {}
    for moving in (True, False):  # what moves nothing only if there is nothing else
        for one in inside:
            if one.metadata.op_name and (one.opcode not in _MOVING_NOTHING) == moving:
                op = f"{one.metadata.op_name}:{one.metadata.op_type}"
                size = max([sizes[one.id], *(sizes.get(number, 0) for number in one.operand_ids)])
                weights[op] = max(weights.get(op, 1.0), float(size))
        if weights:
            return weights
    metadata = instruction.metadata
    return {f"{metadata.op_name}:{metadata.op_type}": 1.0} if metadata.op_name else {}


def _neighbours(all_instructions: Iterable[Any]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The users and the operands of each instruction."""
    users: dict[int, list[int]] = {}
    operands: dict[int, list[int]] = {}
    for one in all_instructions:
        operands[one.id] = list(one.operand_ids)
        for number in one.operand_ids:
            users.setdefault(number, []).append(one.id)
    return users, operands


def _nearest(
    start: int, named: Mapping[int, Mapping[str, float]], near: tuple[Mapping[int, list[int]], Mapping[int, list[int]]]
) -> Mapping[str, float]:
    """The names of the nearest instruction with names: first among the users of the result, else among the operands.

    XLA drops the names of instructions that it makes anew, such as a convolution in another layout.
    """
    for edges in near:
        seen, reached = {start}, [start]
        for _ in range(MAX_STEPS):
            reached = [number for at in reached for number in edges.get(at, []) if number not in seen]
            seen.update(reached)
            for number in reached:
                if named.get(number):
                    return named[number]
    return {}


def _type(op: str) -> str:
    return op.rpartition(":")[2]


def is_product_type(kind: str) -> bool:
    """Whether a type of TensorFlow's operations convolves or multiplies matrices."""
    return bool(_PRODUCT_TYPE.search(kind)) and not kind.endswith("BiasAddGrad")


def _is_product(instruction: Any) -> bool:
    if instruction.opcode == "custom-call":
        return any(word in instruction.custom_call_target.lower() for word in _PRODUCT_TARGETS)
    return instruction.opcode in _PRODUCTS


def _is_half(product: Any, inside: Iterable[Any]) -> bool:
    by_id = {one.id: one for one in inside}
    shapes = [by_id[number].shape for number in product.operand_ids if number in by_id] or [product.shape]
    types = [part.element_type for shape in shapes for part in (shape.tuple_shapes or (shape,))]
    return any(number in _HALF for number in types[:2])


def _size(shape: Any) -> int:
    """Bytes of an array; of several together."""
    if shape.tuple_shapes:
        return sum(_size(part) for part in shape.tuple_shapes)
    return _BYTES.get(shape.element_type, 4) * math.prod(max(int(size), 0) for size in shape.dimensions)


_FIELDS = {
    "HloProto": (("hlo_module", 1, "HloModuleProto", False),),
    "HloModuleProto": (("computations", 3, "HloComputationProto", True),),
    "HloComputationProto": (("instructions", 2, "HloInstructionProto", True), ("id", 5, "int64", False)),
    "HloInstructionProto": (
        *(("name", 1, "string", False), ("opcode", 2, "string", False), ("shape", 3, "ShapeProto", False)),
        *(("metadata", 7, "OpMetadata", False), ("custom_call_target", 28, "string", False)),
        *(("id", 35, "int64", False), ("operand_ids", 36, "int64", True)),
        ("called_computation_ids", 38, "int64", True),
    ),
    "OpMetadata": (("op_type", 1, "string", False), ("op_name", 2, "string", False)),
    "ShapeProto": (
        *(("element_type", 2, "int32", False), ("dimensions", 3, "int64", True)),
        ("tuple_shapes", 4, "ShapeProto", True),
    ),
}
"""The fields of HLO's protobuf that are needed: name, number, type, whether there are several.

TensorFlow ships the whole in `compiler/xla/service/hlo_pb2.py`, which cannot be imported without TensorFlow itself.
"""


@functools.cache
def _message_class() -> Any:
    """Of HloProto, with the fields that are needed; in a pool of its own, beside TensorFlow's."""
    proto = descriptor_pb2.FileDescriptorProto(name="mpbench_hlo.proto", package="mpbench.hlo", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    types = {"int64": kinds.TYPE_INT64, "int32": kinds.TYPE_INT32, "string": kinds.TYPE_STRING}
    for name, fields in _FIELDS.items():
        message = proto.message_type.add(name=name)
        for field, number, kind, several in fields:
            label = kinds.LABEL_REPEATED if several else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            added.type = types.get(kind, kinds.TYPE_MESSAGE)
            if kind in _FIELDS:
                added.type_name = f".mpbench.hlo.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mpbench.hlo.HloProto"))
