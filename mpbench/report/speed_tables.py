"""The tables of speed: the thesis's Tables 4 and 5 as measured now, sweeps, energy, XLA, replicas and first steps.

Pure functions from cases to tables, and to the lines that a session prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mpbench.config.precisions import CPU_NOTE, DEFAULT_BASELINE
from mpbench.records.arms import Arms
from mpbench.records.marks import Mark
from mpbench.records.speed import SpeedCase, SpeedRecord
from mpbench.report import thesis
from mpbench.report.benefit import batches_differ, equal_benefit, over
from mpbench.report.content import Cell, Table, number
from mpbench.report.labels import MIB, each, interval_label, precision_label, setting_label
from mpbench.report.marks import gpu_busy_percent, marked, marks_beside, notes
from mpbench.stats.intervals import Interval

REFERENCES = {
    "jit=off": "XLA's speedup: over the same precision without it [95 % interval]",
    "replicas=1": "Scaling efficiency of replicas: 1 is N times as many images/s as one [95 % interval]",
}
"""What `SpeedRecord.reference_ratio` is, by the mode that it refers to."""


def speed_lines(cases: Sequence[SpeedCase]) -> list[str]:
    """Everything printed after pytest-benchmark's own table, line by line.

    Args:
        cases: of one run, in any order.
    """
    lines: list[str] = []
    for phase in thesis.TABLE_OF_PHASE:
        of_phase = [case for case in cases if case.record.phase == phase]
        if of_phase:
            lines += [*phase_table(of_phase).lines(), *(f"{note.word}: {note.text}" for note in notes(of_phase))]
            lines += [*equal_benefit(case for case in of_phase if not case.record.point), ""]
        if (swept := sweep_table(of_phase)).rows:
            lines += [*swept.lines(), ""]
    for beside in (*energy_tables(cases), *mode_tables(cases)):
        lines += [*beside.lines(), ""]
    if any(case.record.device == "cpu" for case in cases):
        lines.append(CPU_NOTE)
    return lines


def phase_table(cases: Sequence[SpeedCase]) -> Table:
    """Each arm of one phase against its baseline; a baseline that stands alone gets a row of its own."""
    arms = Arms(cases)
    bases = [arms.baseline_of(case) for case in cases]
    referred_to = {id(base) for base in bases}
    rows = [
        _row(case, base, _strict_float32(case, arms))
        for case, base in zip(cases, bases, strict=True)
        if not case.record.control and id(case) not in referred_to
    ]
    return Table.of(title([case.record for case in cases]), rows or [_row(case, None, None) for case in cases])


def title(records: Sequence[SpeedRecord]) -> str:
    """What the table of a phase holds and how it was measured."""
    return f"{thesis.TABLE_OF_PHASE[records[0].phase]}: median ms/step on {setting_label(records)}"


def sweep_table(cases: Sequence[SpeedCase]) -> Table:
    """Speedups of one phase at the points of a sweep, a row per model and precision; empty if nothing was swept."""
    arms = Arms(cases)
    rows: dict[tuple[str, str, str | None], dict[str, str]] = {}
    for case in cases:
        r = case.record
        if not r.point or r.interval is None or r.control:
            continue
        model = " ".join(filter(None, [r.model, r.variant.removesuffix(r.point).strip(), r.mode]))
        row = rows.setdefault((model, r.precision, r.baseline), {"model": model, "precision": r.precision})
        base = arms.baseline_of(case)
        batches = f" ({base.record.batch_size} -> {r.batch_size} images)" if base and batches_differ(base, case) else ""
        row[r.point] = f"{marked(interval_label(r.interval), case, base)}{batches}"
    over = each(baseline for _, _, baseline in rows)
    of_images = " in images/s" if any("max" in column for row in rows.values() for column in row) else ""
    phase = each(case.record.phase for case in cases)
    return Table.of(f"Sweep, {phase}: speedup{of_images} over {over} [95 % interval]", rows.values())


def energy_tables(cases: Sequence[SpeedCase]) -> list[Table]:
    """One table for each phase in which energy was measured."""
    found = [energy_table([case for case in cases if case.record.phase == phase]) for phase in thesis.TABLE_OF_PHASE]
    return [one for one in found if one.rows]


def mode_tables(cases: Sequence[SpeedCase]) -> list[Table]:
    """XLA's speedup, the scaling of replicas, the first step: the tables that are not empty."""
    found = reference_tables(cases)
    if len({case.record.jit for case in cases}) > 1:
        found.append(first_step_table(cases))
    return [one for one in found if one.rows]


def energy_table(cases: Sequence[SpeedCase]) -> Table:
    """Joules per image in one phase, each arm against its baseline, with the spread of the passes.

    A saving within the spread of its two figures says so: each figure is taken to be good to the whole spread of its
    passes, to either side.
    """
    arms, rows = Arms(cases), []
    referred_to = {id(arms.baseline_of(case)) for case in cases}
    for case in cases:
        r, base = case.record, arms.baseline_of(case)
        if not r.joules_per_image or r.control:
            continue
        before = None if base is None else base.record.joules_per_image
        if base is None or not before:
            if id(case) not in referred_to:
                rows.append(_named(r) | {"J/image": joules_label(r), "W": f"{_watts(case):.0f}"})
            continue
        saving = f"{100 * (before - r.joules_per_image) / before:.1f}"
        if _spread(base.record).overlaps(_spread(r)):
            saving += " (within the spread)"
        if Mark.THROTTLED in marks_beside(case, base):
            saving += f" {Mark.THROTTLED.value}"
        rows.append(
            _named(r)
            | {f"{base.record.precision} J/image": joules_label(base.record), "J/image": joules_label(r)}
            | {"less %": saving, "W": f"{_watts(base):.0f} -> {_watts(case):.0f}"}
        )
    phase = cases[0].record.phase if cases else ""
    together = ", all replicas together" if any(case.record.replicas > 1 for case in cases) else ""
    return Table.of(f"Energy, {phase}: joules per image ± spread of the passes{together}", rows)


def reference_tables(cases: Iterable[SpeedCase]) -> list[Table]:
    """What another mode of the same precision brings: XLA's speedup; how close to N times as fast N replicas are."""

    def cell(case: SpeedCase) -> str:
        throttled = [Mark.THROTTLED.value] if case.record.throttled else []
        return " ".join([interval_label(ratio), *throttled]) if (ratio := case.record.over_reference) else ""

    return [
        Table.of(heading, _by_phase([case for case in cases if case.record.reference == reference], cell))
        for reference, heading in REFERENCES.items()
    ]


def first_step_table(cases: Iterable[SpeedCase]) -> Table:
    """Seconds before the second step: tracing and compiling."""

    def cell(case: SpeedCase) -> str:
        r = case.record
        if r.trace_seconds is None or r.compile_seconds is None:
            return ""
        return f"{r.trace_seconds:.1f} + {r.compile_seconds:.1f}{' (cached)' if r.compile_cached else ''}"

    return Table.of("First step: seconds to trace + to compile", _by_phase(cases, cell))


def _by_phase(cases: Iterable[SpeedCase], cell: Callable[[SpeedCase], str]) -> list[dict[str, str]]:
    """A row per model and precision, a column per phase; without what has no cell, and without controls."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in cases:
        r = case.record
        if not r.control and (text := cell(case)):
            rows.setdefault((r.name, r.precision), _named(r))[r.phase] = text
    return [*rows.values()]


def _named(record: SpeedRecord) -> dict[str, str]:
    return {"model": record.name, "precision": record.precision}


def joules_label(record: SpeedRecord) -> str:
    """Per image, with the spread of the passes."""
    spread = "" if record.joules_spread is None else f" ± {100 * record.joules_spread:.1f} %"
    return f"{record.joules_per_image:.4g}{spread}"


def _spread(record: SpeedRecord) -> Interval:
    joules, spread = record.joules_per_image or 0.0, record.joules_spread or 0.0
    return Interval(joules, joules * (1 - spread), joules * (1 + spread))


def _watts(case: SpeedCase) -> float:
    return (case.record.joules_per_step or 0.0) / case.median_seconds


def _strict_float32(case: SpeedCase, arms: Arms) -> SpeedCase | None:
    """The strict float32 case beside a case whose speedup refers to another precision; None without one."""
    if case.record.baseline in (None, DEFAULT_BASELINE) or case.record.precision == DEFAULT_BASELINE:
        return None
    return next(iter(arms.of_precision(case.record, DEFAULT_BASELINE)), None)


def _row(case: SpeedCase, base: SpeedCase | None, strict_base: SpeedCase | None) -> dict[str, Cell]:
    """A row's cells by column; without a baseline only the case's own.

    Args:
        strict_base: see `_strict_float32`.
    """
    r, ms = case.record, 1000 * case.median_seconds
    peak = "peak MiB" if r.memory_kind == "device" else "process MiB"
    row: dict[str, Cell] = {"model": r.name, "precision": precision_label(r)}
    if base is None:
        row |= {"ms": number(ms, ".2f")} | ({"GPU busy %": busy} if (busy := gpu_busy_percent(case)) else {})
        return row | {"images/s": number(r.images_per_second, ".1f"), peak: number(r.peak_memory_bytes / MIB, ".0f")}
    b, base_ms = base.record, 1000 * base.median_seconds
    row |= {f"{b.precision} ms": number(base_ms, ".2f"), "ms": number(ms, ".2f")}
    if batches_differ(base, case):
        row |= {"batch": f"{b.batch_size} -> {r.batch_size}"}
    else:
        row |= {"less ms": number(base_ms - ms, ".2f"), "less %": number(100 * (base_ms - ms) / base_ms, ".1f")}
    if busy := " -> ".join(filter(None, map(gpu_busy_percent, (base, case)))):
        row |= {"GPU busy %": busy}
    row |= {
        "speedup [95 % interval]": marked(interval_label(r.interval), case, base),
        "images/s": f"{b.images_per_second:.1f} -> {r.images_per_second:.1f}",
        peak: _peak_pair(b, r),
    }
    strict = None if strict_base is None else over(case, strict_base)
    if strict is not None:
        row |= {"over strict float32": interval_label(strict)}
    was = thesis.MS_PER_STEP.get((r.model, r.phase))
    of_thesis = b.precision == "float32" or strict is not None
    if was is not None and of_thesis and (r.precision, r.replicas) == ("mixed_float16", 1):
        row |= {f"{thesis.DEVICE}: ms": f"{was[0]} -> {was[1]}", f"{thesis.DEVICE}: x": number(was[0] / was[1], ".2f")}
    return row


def _peak_pair(base: SpeedRecord, other: SpeedRecord) -> str:
    """Both peaks; for a process one figure, since it holds all arms at once and grows as they are built."""
    if other.memory_kind != "device":
        return f"{max(base.peak_memory_bytes, other.peak_memory_bytes) / MIB:.0f}"
    return f"{base.peak_memory_bytes / MIB:.0f} -> {other.peak_memory_bytes / MIB:.0f}"
