"""The terminal tables: the thesis's Tables 4 and 5 as measured now, and what follows from them, in words.

Pure functions from records to lines of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from mpbench import thesis
from mpbench.record import CaseRecord, Measured
from mpbench.statistics import Interval

CPU_NOTE = (
    "CPU figures: they say nothing about GPUs. A CPU has no tensor cores, and most compute float16 by converting "
    "it to float32 and back."
)
MIB = 2**20


def summary(cases: Sequence[Measured]) -> list[str]:
    """Everything printed after pytest-benchmark's own table, line by line.

    Args:
        cases: of one run, in any order.
    """
    lines: list[str] = []
    for phase in thesis.TABLE:
        of_phase = [case for case in cases if case.record.phase == phase]
        if of_phase:
            lines += [*phase_table(of_phase), *notes(of_phase), *equal_benefit(of_phase), ""]
    if any(case.record.device == "cpu" for case in cases):
        lines.append(CPU_NOTE)
    return lines


def phase_table(cases: Sequence[Measured]) -> list[str]:
    """Each arm of one phase against its baseline; a baseline that stands alone gets a row of its own."""
    baseline = next((case.record.baseline for case in cases if case.record.baseline), "baseline")
    headers = ["model", "precision", f"{baseline} ms", "ms", "less ms", "less %", "speedup [95 % interval]"]
    headers += ["images/s", "peak MiB"]
    beside = any(_thesis_cells(case.record) for case in cases)
    if beside:
        headers += [f"{thesis.DEVICE}: ms", "speedup"]
    rows: list[list[str]] = []
    for case in cases:
        if case.record.control:
            continue
        base = _baseline_of(case, cases)
        if base is None and any(_baseline_of(other, cases) is case for other in cases):
            continue
        rows.append([*_row(case, base), *((_thesis_cells(case.record) or ["", ""]) if beside else [])])
    return [title(cases[0].record), *render(headers, rows)]


def title(record: CaseRecord) -> str:
    return (
        f"{thesis.TABLE[record.phase]}: median ms/step on {_device(record)}, batch {record.batch_size}, "
        f"{record.image_size}x{record.image_size} px, XLA {'on' if record.jit else 'off'}, "
        f"profile {record.profile}"
    )


def notes(cases: Sequence[Measured]) -> list[str]:
    """A line for each thing a reader must know before believing a figure, and the noise floor if there is one."""
    lines = []
    for case in cases:
        r = case.record
        name = f"{r.model}-{'control' if r.control else r.precision}"
        if r.noisy:
            lines.append(f"NOISY: {name}: time limit before the interval was narrow enough ({r.rounds} rounds)")
        if not r.warmup_settled:
            lines.append(f"WARM-UP: {name}: not stationary after {r.warmup_rounds} warm-up rounds")
        if r.skipped_steps:
            lines.append(
                f"SKIPPED: {name}: loss scaling dropped {r.skipped_steps} steps in measured rounds; those rounds are "
                "left out"
            )
        if r.control and r.interval:
            floor = "" if r.interval.low <= 1 <= r.interval.high else ": 1 is outside, distrust small differences"
            lines.append(f"noise floor: {r.model}: {r.precision} against itself {_interval(r.interval)}{floor}")
    return lines


def equal_benefit(cases: Iterable[Measured]) -> list[str]:
    """The thesis's question, *do all benefit equally?*, answered per precision from the intervals.

    Two models differ where their 95 % intervals do not overlap; that is stricter than a test of the difference.
    """
    by_precision: dict[str, list[tuple[str, Interval]]] = {}
    for case in cases:
        r = case.record
        if r.interval and not r.control:
            by_precision.setdefault(r.precision, []).append((r.model, r.interval))
    return [
        f"Do all benefit equally from {precision}? {_compared(models)}"
        for precision, models in by_precision.items()
        if len(models) > 1
    ]


def render(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns: the first two to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    lines = []
    for cells in (headers, ["-" * width for width in widths], *rows):
        padded = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append("  ".join(padded).rstrip())
    return lines


def _baseline_of(case: Measured, cases: Iterable[Measured]) -> Measured | None:
    for other in cases:
        o = other.record
        if o.model == case.record.model and o.precision == case.record.baseline and not o.control:
            return other
    return None


def _row(case: Measured, base: Measured | None) -> list[str]:
    r, ms = case.record, 1000 * case.median_seconds
    if base is None:
        cells = ["", f"{ms:.2f}", "", "", "", f"{r.images_per_second:.1f}", f"{r.peak_memory_bytes / MIB:.0f}"]
        return [r.model, r.precision, *cells]
    base_ms = 1000 * base.median_seconds
    return [
        r.model,
        r.precision,
        f"{base_ms:.2f}",
        f"{ms:.2f}",
        f"{base_ms - ms:.2f}",
        f"{100 * (base_ms - ms) / base_ms:.1f}",
        (_interval(r.interval) if r.interval else "") + (" NOISY" if r.noisy else ""),
        f"{base.record.images_per_second:.1f} -> {r.images_per_second:.1f}",
        f"{base.record.peak_memory_bytes / MIB:.0f} -> {r.peak_memory_bytes / MIB:.0f}",
    ]


def _thesis_cells(record: CaseRecord) -> list[str] | None:
    was = thesis.MS_PER_STEP.get((record.model, record.phase))
    if was is None or record.precision != "mixed_float16" or record.baseline != "float32":
        return None
    return [f"{was[0]} -> {was[1]}", f"{was[0] / was[1]:.2f}"]


def _compared(models: Sequence[tuple[str, Interval]]) -> str:
    apart: list[tuple[str, str]] = []
    alike: list[tuple[str, str]] = []
    for (name_a, a), (name_b, b) in combinations(sorted(models, key=lambda m: -m[1].estimate), 2):
        (alike if a.overlaps(b) else apart).append((name_a, name_b))
    if not apart:
        return f"Not distinguishable: the intervals of {', '.join(name for name, _ in models)} overlap."
    answer = "No: " + "; ".join(f"{a} more than {b}" for a, b in apart)
    return answer + (f"; not distinguishable: {', '.join(f'{a} and {b}' for a, b in alike)}." if alike else ".")


def _device(record: CaseRecord) -> str:
    return "a CPU" if record.device == "cpu" else record.device_name


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
