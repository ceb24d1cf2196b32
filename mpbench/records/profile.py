"""The profile of a step as it is saved: where the device's time went, by layer, pass and class of work.

What belongs here: the record, its names of passes and classes, and how it is written to JSON and checked when it is
read back. How a trace becomes one is in `why.reading`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mpbench.records.fields import as_object, must_be, quoted

PROFILE_SCHEMA = 1
PROFILE_SCHEMA_KEY = "mpbench_profile_schema"

MAX_PROFILE_BYTES = 20_000
"""The longest record in JSON. A run of 18 cases then grows by 360 kB at most."""

MAX_OPERATIONS = 16
MAX_TYPES = 24
"""Types into which the layers without a row of their own are summed up."""

MAX_TEXT = 200
"""The longest name, in characters."""

NS_PER_S = 1e9

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"
LOSS_SCALING, CHECKS = "loss scaling", "gradients' casts and checks"
INPUT, UNATTRIBUTED = "input", "unattributed"
PASSES = (FORWARD, BACKWARD, UPDATE, LOSS_SCALING, CHECKS, INPUT, UNATTRIBUTED)

TENSOR_CORES = "convolution and matmul on tensor cores"
OTHER_PRODUCTS = "other convolution and matmul"
NORMALISATION = "normalisation"
REDUCTIONS = "reductions and pooling"
ELEMENTWISE = "elementwise"
COPIES = "copies, casts and layout"
OPTIMIZER = "optimizer"
UNCLASSIFIED = "unclassified"
CLASSES = (
    *(TENSOR_CORES, OTHER_PRODUCTS, NORMALISATION, REDUCTIONS),
    *(ELEMENTWISE, COPIES, OPTIMIZER, UNCLASSIFIED),
)

_PASS_CODES = dict(zip(PASSES, ("fwd", "bwd", "upd", "scale", "check", "input", "none"), strict=True))
_CLASS_CODES = dict(zip(CLASSES, ("tensor", "product", "norm", "reduce", "elem", "copy", "opt", "none"), strict=True))
_CELLS = {f"{p}.{c}": (whole, kind) for whole, p in _PASS_CODES.items() for kind, c in _CLASS_CODES.items()}
_CODES = {cell: code for code, cell in _CELLS.items()}

PassAndClass = tuple[str, str]
"""A pass and a class."""

Check = Callable[[Any, str], Any]
"""Gives a field from its value in JSON; raises ValueError, which names it."""


@dataclass(frozen=True)
class LayerRow:
    """The device's time of one layer, or of all other layers of a type; nanoseconds of all profiled steps.

    Attributes:
        name: the layer's path within the model, such as `block1/conv`; of something that is no layer in brackets,
            such as `(optimizer)`; empty where the row sums up layers.
        type: name of its class; empty where it is not known.
        layers: how many it sums up.
        dtype: that the layer computes in by its policy; empty where it is not known.
        channels: of its kernel, in and out; None where there is none, or it is not known.
        kernel: name of its longest convolution or matrix product on the device; empty where there is none.
        kernels: how many kernels or operations ran, in all profiled steps.
        cast_ns: of its time, casts.
        fused_ns: of its time, its part of kernels in which XLA fused operations of several layers or passes.
        flops, bytes: of one step, as its graph has them (a multiplication and an addition are two; what it must at
            least read and write); 0 where they were not counted.
        ns: by pass and class.
    """

    name: str
    type: str
    layers: int = 1
    dtype: str = ""
    channels: tuple[int, int] | None = None
    kernel: str = ""
    kernels: int = 0
    cast_ns: int = 0
    fused_ns: int = 0
    flops: int = 0
    bytes: int = 0
    ns: Mapping[PassAndClass, int] = field(default_factory=dict)

    @property
    def total_ns(self) -> int:
        return sum(self.ns.values())

    def of_class(self, kind: str) -> int:
        return sum(ns for (_, of), ns in self.ns.items() if of == kind)

    @property
    def is_layer(self) -> bool:
        """Whether it is one layer, not a sum of several nor something beside the layers."""
        return bool(self.name) and not self.name.startswith("(")


@dataclass(frozen=True)
class Operations:
    """The operations of one type whose kernels are of one class: nanoseconds and number, over all profiled steps."""

    type: str
    kind: str
    ns: int
    count: int


@dataclass(frozen=True)
class ProfileRecord:
    """A profile of a few steps.

    Attributes:
        source: what took it, with its version.
        on_device: whether its times are a GPU's own (kernels and copies) or the host's (operations).
        device_name: as the trace has it; empty where it does not say.
        steps: that were profiled.
        devices: GPUs that worked in them; 1 on a CPU. The figures are sums over all of them.
        span_ns: from the first kernel's start to the last one's end, profiler and all.
        tensor_cores: whether the device has any; None where nothing says.
        rows: of layers, largest first.
        operations: by type and class, largest first; what is left has no type.
    """

    source: str
    on_device: bool
    device_name: str
    steps: int
    devices: int
    span_ns: int
    tensor_cores: bool | None
    rows: tuple[LayerRow, ...]
    operations: tuple[Operations, ...]

    @property
    def busy_ns(self) -> int:
        """Time in which anything ran, summed over all steps and devices."""
        return sum(row.total_ns for row in self.rows)

    def seconds(self, ns: int) -> float:
        """Seconds per step and device."""
        return ns / NS_PER_S / (self.steps * self.devices)

    @property
    def busy_seconds(self) -> float:
        """Per step and device."""
        return self.seconds(self.busy_ns)

    @property
    def span_seconds(self) -> float:
        """Per step, measured under the profiler."""
        return self.span_ns / NS_PER_S / self.steps

    @property
    def kernels_per_step(self) -> float:
        """Per device."""
        return sum(row.kernels for row in self.rows) / (self.steps * self.devices)

    def as_text(self) -> str:
        """JSON in one line, so that no indentation of the file around it makes it longer: see `fitted`."""
        return _text(fitted(self))


def fitted(record: ProfileRecord, max_bytes: int = MAX_PROFILE_BYTES) -> ProfileRecord:
    """A record that takes no more than that as text in a JSON file: the largest layers keep rows of their own, the
    others are summed up by type, so that no sum changes. Where that does not do, names are cut and types summed up."""
    by_size = sorted(record.rows, key=lambda row: -row.total_ns)
    layers = [row for row in by_size if row.is_layer]
    others = [row for row in by_size if not row.is_layer]
    record = replace(record, rows=tuple(by_size), operations=_largest_operations(record.operations))
    kept = len(layers)
    while len(json.dumps(_text(record))) > max_bytes and kept:
        kept = kept * 9 // 10
        rest = summed_by_type([*layers[kept:], *(row for row in others if not row.name)])
        rows = [*layers[:kept], *(row for row in others if row.name), *rest]
        record = replace(record, rows=tuple(sorted(rows, key=lambda row: -row.total_ns)))
    for characters, types in ((100, 20), (50, 10), (25, 5), (12, 2), (6, 1)):
        if len(json.dumps(_text(record))) <= max_bytes:
            break
        record = _with_short_names(record, characters, types)
    return record


def _with_short_names(record: ProfileRecord, characters: int, types: int) -> ProfileRecord:
    rows = [
        replace(row, name=row.name[:characters], type=row.type[:characters], kernel=row.kernel[:characters])
        for row in record.rows
    ]
    rows = [*(row for row in rows if row.name), *summed_by_type((row for row in rows if not row.name), types)]
    return replace(
        record,
        source=record.source[:characters],
        device_name=record.device_name[:characters],
        rows=tuple(sorted(rows, key=lambda row: -row.total_ns)),
        operations=tuple(replace(one, type=one.type[:characters]) for one in record.operations),
    )


def summed_by_type(rows: Iterable[LayerRow], most: int = MAX_TYPES) -> list[LayerRow]:
    """One row for all layers of each type, and for all types beyond so many; the largest first."""
    by_type: dict[str, list[LayerRow]] = defaultdict(list)
    for row in rows:
        by_type[row.type].append(row)
    types = sorted(by_type, key=lambda kind: -sum(row.total_ns for row in by_type[kind]))
    summed = [_summed(kind, by_type[kind]) for kind in types[:most]]
    if rest := [row for kind in types[most:] for row in by_type[kind]]:
        summed.append(_summed("other types", rest))
    return summed


def _summed(kind: str, rows: Sequence[LayerRow]) -> LayerRow:
    ns: defaultdict[PassAndClass, int] = defaultdict(int)
    for row in rows:
        for cell, value in row.ns.items():
            ns[cell] += value
    dtypes = {row.dtype for row in rows}
    return LayerRow(
        name="",
        type=kind,
        layers=sum(row.layers for row in rows),
        dtype=dtypes.pop() if len(dtypes) == 1 else "",
        kernels=sum(row.kernels for row in rows),
        cast_ns=sum(row.cast_ns for row in rows),
        fused_ns=sum(row.fused_ns for row in rows),
        flops=sum(row.flops for row in rows) if all(row.bytes for row in rows) else 0,
        bytes=sum(row.bytes for row in rows) if all(row.bytes for row in rows) else 0,
        ns=dict(ns),
    )


def _largest_operations(operations: Sequence[Operations]) -> tuple[Operations, ...]:
    by_size = sorted(operations, key=lambda one: (one.type == "", -one.ns))
    rest = by_size[MAX_OPERATIONS:]
    left = Operations("", UNCLASSIFIED, sum(one.ns for one in rest), sum(one.count for one in rest))
    return (*by_size[:MAX_OPERATIONS], *((left,) if rest else ()))


def _text(record: ProfileRecord) -> str:
    return json.dumps(_as_json(record), separators=(",", ":"))


def _as_json(record: ProfileRecord) -> dict[str, Any]:
    as_it_is = {name: getattr(record, name) for name in _RECORD_CHECKS if name not in ("rows", "operations")}
    rows = [
        [
            *(getattr(row, name) for name in _ROW_CHECKS if name != "ns"),
            {_CODES[cell]: ns for cell, ns in row.ns.items() if ns},
        ]
        for row in record.rows
    ]
    operations = [[one.type, _CLASS_CODES[one.kind], one.ns, one.count] for one in record.operations]
    own = {"busy_ns": record.busy_ns, "rows": rows, "operations": operations}
    return {PROFILE_SCHEMA_KEY: PROFILE_SCHEMA} | as_it_is | own


def read_profile(text: str) -> ProfileRecord:
    """A record from its text.

    Raises:
        ValueError: it is none, or a field is missing, not of its type, negative, or the sums do not agree; one line
            that names the field.
    """
    try:
        return _read(json.loads(text))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("profile: no JSON") from None
    except ValueError as error:
        raise ValueError(f"profile: {error}") from None


def _read(data: Any) -> ProfileRecord:
    data = as_object(data, "the whole")
    if data.get(PROFILE_SCHEMA_KEY) != PROFILE_SCHEMA:
        schema = quoted(data.get(PROFILE_SCHEMA_KEY))
        raise ValueError(f"{PROFILE_SCHEMA_KEY} is {schema}: this version reads {PROFILE_SCHEMA}")
    record = ProfileRecord(**{name: check(data.get(name), name) for name, check in _RECORD_CHECKS.items()})
    busy = _whole(data.get("busy_ns"), "busy_ns", 1)
    if busy != record.busy_ns:
        raise ValueError(f"busy_ns is {busy}, its rows add up to {record.busy_ns}")
    if (total := sum(one.ns for one in record.operations)) != busy:
        raise ValueError(f"operations add up to {total} ns, busy_ns is {busy}")
    if not any(row.kernels for row in record.rows):
        raise ValueError("kernels: none in any row")
    if busy > record.span_ns * record.devices:
        raise ValueError(f"busy_ns is {busy}, more than span_ns of {record.devices} devices: {record.span_ns}")
    return record


def _read_row(row: Any, where: str) -> LayerRow:
    found = LayerRow(**_checked(row, where, _ROW_CHECKS))
    for part, ns in (("cast_ns", found.cast_ns), ("fused_ns", found.fused_ns)):
        if ns > found.total_ns:
            raise ValueError(f"{where}.{part} is {ns}, more than the row's {found.total_ns}")
    return found


def _read_operations(one: Any, where: str) -> Operations:
    return Operations(**_checked(one, where, _OPERATIONS_CHECKS))


def _checked(values: Any, where: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    """The fields that a list holds in the order of their checks."""
    if not isinstance(values, list) or len(values) != len(checks):
        raise must_be(f"a list of {len(checks)}", where, values)
    return {name: check(value, f"{where}.{name}") for value, (name, check) in zip(values, checks.items(), strict=True)}


def _list_of(check: Check, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise must_be("a list", where, value)
    return tuple(check(one, f"{where}[{number}]") for number, one in enumerate(value))


def _whole(value: Any, where: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 2**63:
        raise must_be(f"a whole number of at least {least}", where, value)
    return value


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT:
        raise must_be(f"a printable text of at most {MAX_TEXT} characters", where, value)
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise must_be("true or false", where, value)
    return value


def _channels(value: Any, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    first, second = _list_of(_at_least_1, value, where) if isinstance(value, list) and len(value) == 2 else (0, 0)
    if not first:
        raise must_be("two numbers", where, value)
    return first, second


def _cells(value: Any, where: str) -> dict[PassAndClass, int]:
    cells = as_object(value, where)
    if unknown := [code for code in cells if code not in _CELLS]:
        raise ValueError(f"{where}: {quoted(unknown[0])} is no pass and class")
    return {_CELLS[code]: _whole(ns, f"{where}.{code}") for code, ns in cells.items()}


def _class(value: Any, where: str) -> str:
    if value not in _CLASS_CODES.values():
        raise ValueError(f"{where}: {quoted(value)} is no class")
    return next(kind for kind, code in _CLASS_CODES.items() if code == value)


_at_least_1 = partial(_whole, least=1)
_OPERATIONS_CHECKS: Mapping[str, Check] = {"type": _name, "kind": _class, "ns": _whole, "count": _whole}
_ROW_CHECKS: Mapping[str, Check] = {
    **{"name": _name, "type": _name, "layers": _at_least_1, "dtype": _name, "channels": _channels, "kernel": _name},
    **dict.fromkeys(("kernels", "cast_ns", "fused_ns", "flops", "bytes"), _whole),
    "ns": _cells,
}
_RECORD_CHECKS: Mapping[str, Check] = {
    **{"source": _name, "on_device": _flag, "device_name": _name, "steps": _at_least_1, "devices": _at_least_1},
    **{"span_ns": _whole, "tensor_cores": lambda value, where: None if value is None else _flag(value, where)},
    **{"rows": partial(_list_of, _read_row), "operations": partial(_list_of, _read_operations)},
}
"""The fields of each class in their order, with what checks and reads a field's value."""
