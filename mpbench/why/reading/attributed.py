"""From a trace to the record of a profile: each kernel's time to a layer, a pass and a class of work.

What belongs here: the sums over a trace, and how its picoseconds become the record's nanoseconds. How an operation's
place and class are told is in `attribution` and `kernels`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from mpbench.errors import printable
from mpbench.records.profile import (
    MAX_TEXT,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    TENSOR_CORES,
    UPDATE,
    Cell,
    LayerRow,
    Operations,
    ProfileRecord,
)
from mpbench.why.reading.attribution import Attribution, KnownLayer, Place
from mpbench.why.reading.kernels import is_cast, kernel_class, operation_type
from mpbench.why.reading.trace import Trace, Work

KERNEL_TEXT = 80
"""Characters of a kernel's name that are kept: enough for its kind, its types and its tile."""

_NORMALISING = re.compile(r"Normali[sz]ation$")
_NORMALISING_PATH = re.compile(
    r"(?:^|/)(?:\w*_)?(?:bn|batch_?norm|(?:batch|layer|group|unit|rms)_normalization)(?:_\w+)?(?:/|$)", re.IGNORECASE
)
"""Where a layer's type is not known: `conv2_block1_1_bn`, `batch_normalization_3/batchnorm`."""

_NORMALISING_SCOPE = re.compile(r"/(?:moments|batchnorm)/|BatchNorm")

Key = TypeVar("Key", bound=Hashable)


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
    attribution = Attribution({op for work in trace.work for op in _operations(work)}, layers, optimizers)
    cells: Counter[tuple[str, Cell]] = Counter()
    operations: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    kernels: Counter[str] = Counter()
    casts: Counter[str] = Counter()
    fused: Counter[str] = Counter()
    products: defaultdict[str, Counter[str]] = defaultdict(Counter)
    known = {}
    placed = [
        (work, parts, [attribution.place(op) for op, _ in parts]) for work in trace.work for parts in [_parts(work)]
    ]
    normalising = _normalising_layers(placed)
    for work, parts, places in placed:
        of_place: Counter[tuple[str, str]] = Counter()
        across = len({(place.layer, place.part) for place in places}) > 1
        for number, ((op, ps), place) in enumerate(zip(parts, places, strict=True)):
            kind = operation_type(op)
            of_class = _class(work, kind, place, place.layer in normalising, trace.on_device)
            cells[place.layer, (place.part, of_class)] += ps
            operations[kind, of_class] += ps
            known[place.layer] = place.known
            casts[place.layer] += ps if is_cast(work.kernel, kind) else 0
            fused[place.layer] += ps if across else 0
            of_place[place.layer, of_class] += ps
            if number == 0:
                counts[kind, of_class] += work.count
            if of_class in (TENSOR_CORES, OTHER_PRODUCTS) and trace.on_device:
                products[place.layer][work.kernel] += ps
        kernels[of_place.most_common(1)[0][0][0]] += work.count
    ns = in_ns(cells)
    by_layer: defaultdict[str, dict[Cell, int]] = defaultdict(dict)
    for (layer, cell), value in ns.items():
        by_layer[layer] |= {cell: value} if value else {}
    rows = []
    for layer, of_layer in known.items():
        total = sum(by_layer[layer].values())
        longest = products[layer].most_common(1)
        rows.append(
            LayerRow(
                name=_text(layer),
                type=_text(of_layer.type) if of_layer else "",
                dtype=_text(of_layer.dtype) if of_layer else "",
                channels=of_layer.channels if of_layer else None,
                kernel=_text(longest[0][0].replace("void ", ""))[:KERNEL_TEXT] if longest else "",
                kernels=kernels[layer],
                cast_ns=min(casts[layer] // 1000, total),
                fused_ns=min(fused[layer] // 1000, total),
                ns=by_layer[layer],
            )
        )
    of_types = in_ns(operations)
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
            for (kind, of_class), value in sorted(of_types.items(), key=lambda pair: -pair[1])
        ),
    )


def in_ns(ps: Mapping[Key, int]) -> dict[Key, int]:
    """Picoseconds as nanoseconds that add up to the rounded sum: the largest remainders are rounded up."""
    whole = {key: value // 1000 for key, value in ps.items()}
    missing = (sum(ps.values()) + 500) // 1000 - sum(whole.values())
    for key in sorted(ps, key=lambda key: -(ps[key] % 1000))[: max(missing, 0)]:
        whole[key] += 1
    return whole


def deduced_steps(trace: Trace) -> int | None:
    """How many steps a trace holds: as it says itself, else how often most of its kernels ran; None where that is not
    clear. Operations in loops run more often than once a step."""
    if trace.marked_steps:
        return trace.marked_steps
    often: Counter[int] = Counter()
    for work in trace.work:
        if not any("while" in op for op in _operations(work)):
            often[work.count] += 1
    if not often:
        return None
    number, of_it = often.most_common(1)[0]
    return number if 2 * of_it > often.total() else None


def _operations(work: Work) -> list[str]:
    return [op for op, _ in _parts(work)]


def _parts(work: Work) -> list[tuple[str, int]]:
    """The operations that a kernel ran for, each with its part of the time; the largest first."""
    if work.instruction is None or not work.instruction.parts:
        return [(work.op, work.ps)]
    parts = [(part.op, int(part.share * work.ps)) for part in work.instruction.parts]
    parts.sort(key=lambda part: -part[1])
    left = work.ps - sum(ps for _, ps in parts)
    return [(parts[0][0], parts[0][1] + left), *parts[1:]]


def _normalising_layers(placed: Iterable[tuple[Work, list[tuple[str, int]], list[Place]]]) -> set[str]:
    """The layers that normalise: by their type, or where that is not known by their name and the scopes in them."""
    found: set[str] = set()
    for _, parts, places in placed:
        for (op, _), place in zip(parts, places, strict=True):
            if place.known is not None:
                normalises = _NORMALISING.search(place.known.type)
            elif place.layer.startswith("("):
                continue
            else:
                normalises = _NORMALISING_PATH.search(place.layer) or _NORMALISING_SCOPE.search(op)
            if normalises:
                found.add(place.layer)
    return found


def _class(work: Work, kind: str, place: Place, normalises: bool, on_device: bool) -> str:
    found = kernel_class(work.kernel, kind, work.instruction, on_device)
    if found in (TENSOR_CORES, OTHER_PRODUCTS):
        return found
    if place.part == UPDATE:
        return OPTIMIZER
    return NORMALISATION if normalises else found


def _text(name: str) -> str:
    return printable(name)[:MAX_TEXT]
