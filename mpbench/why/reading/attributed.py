"""From a trace to the record of a profile: each kernel's time to a layer, a pass and a class of work.

What belongs here: the sums over a trace, and how its picoseconds become the record's nanoseconds. How an operation's
place and class are told is in `attribution` and `kernels`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mpbench.errors import printable
from mpbench.records.profile import (
    MAX_TEXT,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    TENSOR_CORES,
    UPDATE,
    LayerRow,
    Operations,
    PassAndClass,
    ProfileRecord,
)
from mpbench.why.reading.attribution import Attribution, KnownLayer, Place
from mpbench.why.reading.kernels import is_cast, kernel_class, operation_type
from mpbench.why.reading.trace import KernelWork, Trace

KERNEL_TEXT = 80
"""So many characters of a kernel's name are kept: enough for its kind, its types and its tile."""

_NORMALISING = re.compile(r"Normali[sz]ation$")
_NORMALISING_PATH = re.compile(
    r"(?:^|/)(?:\w*_)?(?:bn|batch_?norm|(?:batch|layer|group|unit|rms)_normalization)(?:_\w+)?(?:/|$)", re.IGNORECASE
)
"""Used if a layer's type is not known: `conv2_block1_1_bn`, `batch_normalization_3/batchnorm`."""

_NORMALISING_SCOPE = re.compile(r"/(?:moments|batchnorm)/|BatchNorm")

Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Sums:
    """One layer's sums, in picoseconds and kernels."""

    known: KnownLayer | None
    kernels: int = 0
    casts: int = 0
    fused: int = 0
    products: Counter[str] = field(default_factory=Counter)


def profile_record(
    trace: Trace,
    steps: int,
    source: str,
    layers: Sequence[KnownLayer] = (),
    optimizers: Collection[str] = (),
) -> ProfileRecord:
    """The record of a trace.

    Args:
        steps: that it was taken of.
        source: what took it.
        layers, optimizers: of the model, if it is known.
    """
    attribution = Attribution({op for work in trace.work for op, _ in _parts(work)}, layers, optimizers)
    placed = [(work, [(op, ps, attribution.place(op)) for op, ps in _parts(work)]) for work in trace.work]
    normalising = {place.layer for _, parts in placed for op, _, place in parts if _normalises(op, place)}
    sums: dict[str, _Sums] = {}
    cells: Counter[tuple[str, PassAndClass]] = Counter()
    operations: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for work, parts in placed:
        across = len({(place.layer, place.part) for _, _, place in parts}) > 1
        shares: Counter[tuple[str, str]] = Counter()
        for number, (op, ps, place) in enumerate(parts):
            kind = operation_type(op)
            of_class = _class(work, kind, place, place.layer in normalising, trace.on_device)
            layer = sums.setdefault(place.layer, _Sums(place.known))
            cells[place.layer, (place.part, of_class)] += ps
            layer.casts += ps if is_cast(work.kernel, kind) else 0
            layer.fused += ps if across else 0
            if of_class in (TENSOR_CORES, OTHER_PRODUCTS) and trace.on_device:
                layer.products[work.kernel] += ps
            operations[kind, of_class] += ps
            counts[kind, of_class] += work.count if number == 0 else 0
            shares[place.layer, of_class] += ps
        (largest, _), _ = shares.most_common(1)[0]
        sums[largest].kernels += work.count
    ns: defaultdict[str, dict[PassAndClass, int]] = defaultdict(dict)
    for (name, cell), value in in_ns(cells).items():
        ns[name] |= {cell: value} if value else {}
    rows = [_row(name, layer, ns[name]) for name, layer in sums.items()]
    return ProfileRecord(
        source=source,
        on_device=trace.on_device,
        device_name=trace.device_name,
        steps=steps,
        devices=trace.devices,
        span_ns=-(-trace.span_ps // 1000) + 1,  # never less than what ran in it, rounded
        tensor_cores=trace.tensor_cores,
        rows=tuple(sorted(rows, key=lambda row: -row.total_ns)),
        operations=tuple(
            Operations(_text(kind), of_class, value, counts[kind, of_class])
            for (kind, of_class), value in sorted(in_ns(operations).items(), key=lambda pair: -pair[1])
        ),
    )


def _row(name: str, layer: _Sums, ns: Mapping[PassAndClass, int]) -> LayerRow:
    total = sum(ns.values())
    known = layer.known or KnownLayer((), "", "")
    longest = layer.products.most_common(1)
    return LayerRow(
        name=_text(name),
        type=_text(known.type),
        dtype=_text(known.dtype),
        channels=known.channels,
        kernel=_text(longest[0][0].replace("void ", ""))[:KERNEL_TEXT] if longest else "",
        kernels=layer.kernels,
        cast_ns=min(layer.casts // 1000, total),
        fused_ns=min(layer.fused // 1000, total),
        ns=ns,
    )


def in_ns(ps: Mapping[Key, int]) -> dict[Key, int]:
    """Picoseconds as nanoseconds that add up to the rounded sum: the largest remainders are rounded up."""
    whole = {key: value // 1000 for key, value in ps.items()}
    missing = (sum(ps.values()) + 500) // 1000 - sum(whole.values())
    for key in sorted(ps, key=lambda key: -(ps[key] % 1000))[: max(missing, 0)]:
        whole[key] += 1
    return whole


def deduced_steps(trace: Trace) -> int | None:
    """How many steps a trace holds: as often as most of its kernels ran; None if that is not clear.

    Operations in loops do not count: they run several times a step.
    """
    often: Counter[int] = Counter()
    for work in trace.work:
        if not any("while" in op for op, _ in _parts(work)):
            often[work.count] += 1
    if not often:
        return None
    number, of_it = often.most_common(1)[0]
    return number if 2 * of_it > often.total() else None


def _parts(work: KernelWork) -> list[tuple[str, int]]:
    """The operations that a kernel ran for, each with its part of the time; the largest first."""
    if work.instruction is None or not work.instruction.parts:
        return [(work.op, work.ps)]
    parts = [(part.op, int(part.share * work.ps)) for part in work.instruction.parts]
    parts.sort(key=lambda part: -part[1])
    left = work.ps - sum(ps for _, ps in parts)
    return [(parts[0][0], parts[0][1] + left), *parts[1:]]


def _normalises(op: str, place: Place) -> bool:
    """Whether a layer normalises: by its type, or if that is not known by its name and the scopes in it."""
    if place.known is not None:
        return bool(_NORMALISING.search(place.known.type))
    by_name = _NORMALISING_PATH.search(place.layer) or _NORMALISING_SCOPE.search(op)
    return bool(by_name) and not place.layer.startswith("(")


def _class(work: KernelWork, kind: str, place: Place, normalises: bool, on_device: bool) -> str:
    found = kernel_class(work.kernel, kind, work.instruction, on_device)
    if found in (TENSOR_CORES, OTHER_PRODUCTS):
        return found
    if place.part == UPDATE:
        return OPTIMIZER
    return NORMALISATION if normalises else found


def _text(name: str) -> str:
    return printable(name)[:MAX_TEXT]
