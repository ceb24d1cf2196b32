"""The terminal tables: the thesis's Tables 4 and 5 as measured now, and what follows from them, in words.

Pure functions from records to lines of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mpbench.config.precisions import CPU_NOTE, DEFAULT_BASELINE, TF32
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.arms import Arms
from mpbench.records.rounds import numbers
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report import thesis
from mpbench.report.benefit import batches_differ, equal_benefit, over
from mpbench.stats.intervals import MIN_PAIRS, Interval
from mpbench.text_table import render
from mpbench.why.reading.breakdown import breakdown_of
from mpbench.why.reading.verdict import is_host_bound

DOUBTS = {
    "NOISY": "the time limit (--mp-max-time) came before the interval was narrow",
    "DRIFTING": "moved by so much while they were measured: one number does not describe them",
    "BROKEN OFF": "ended before they were measured as often as they should be",
}
"""What the words of `CaseRecord.doubt` mean, said of the cases so marked."""

MAX_NAMED = 3
"""Cases at their power limit beyond which no more are named: under full load all of them may be."""

MAX_EACH = 20
"""Values of one setting that are named."""

MIB = 2**20


def summary(cases: Sequence[SpeedCase]) -> list[str]:
    """Everything printed after pytest-benchmark's own table, line by line.

    Args:
        cases: of one run, in any order.
    """
    lines: list[str] = []
    for phase in thesis.TABLE:
        of_phase = [case for case in cases if case.record.phase == phase]
        if of_phase:
            benefit = equal_benefit(case for case in of_phase if not case.record.point)
            lines += [*phase_table(of_phase), *notes(of_phase), *benefit, ""]
        if (swept := sweep_table(of_phase)).rows:
            lines += [swept.title, *render(swept.rows), ""]
    for beside in tables_beside(cases):
        lines += [beside.title, *render(beside.rows), ""]
    if any(case.record.device == "cpu" for case in cases):
        lines.append(CPU_NOTE)
    return lines


def phase_table(cases: Sequence[SpeedCase]) -> list[str]:
    """Each arm of one phase against its baseline; a baseline that stands alone gets a row of its own."""
    arms = Arms(cases)
    bases = [arms.baseline_of(case) for case in cases]
    referred_to = {id(base) for base in bases}
    rows = [
        _row(case, base, strict_float32(case, arms))
        for case, base in zip(cases, bases, strict=True)
        if not case.record.control and id(case) not in referred_to
    ]
    return [title([case.record for case in cases]), *render(rows or [_row(case, None) for case in cases])]


def title(records: Sequence[CaseRecord]) -> str:
    """What the table holds and how it was measured; a setting that differs between rows shows all its values."""

    return (
        f"{thesis.TABLE[records[0].phase]}: median ms/step on {each(map(device_label, records))}, "
        f"batch {each(r.batch_size for r in records)}{per_replica(records)}, "
        f"{each(f'{r.image_size}x{r.image_size}' for r in records)} px, "
        f"XLA {each('on' if r.jit else 'off' for r in records)}, profile {each(r.profile for r in records)}"
    )


class Beside(NamedTuple):
    """A table beside those of the phases: its title, and cells by column; models and precisions as recorded."""

    title: str
    rows: list[dict[str, str]]


def sweep_table(cases: Sequence[SpeedCase]) -> Beside:
    """Speedups of one phase as a function of what was swept, a row per model and precision; without rows where nothing
    was."""
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
        row[r.point] = f"{_interval(r.interval)}{_marks(case, base)}{batches}"
    over = each(baseline for _, _, baseline in rows)
    points = {point for row in rows.values() for point in row}
    of_images = " in images/s" if any("max" in point for point in points) else ""
    phase = each(case.record.phase for case in cases)
    return Beside(f"Sweep, {phase}: speedup{of_images} over {over} [95 % interval]", [*rows.values()])


def tables_beside(cases: Sequence[SpeedCase]) -> list[Beside]:
    """Energy, and what modes to run a precision differ in: those that the records have something for."""
    return [*energy_tables(cases), *mode_tables(cases)]


def energy_tables(cases: Sequence[SpeedCase]) -> list[Beside]:
    """Of each phase that has a figure, the thesis's first."""
    found = [energy_table([case for case in cases if case.record.phase == phase]) for phase in thesis.TABLE]
    return [one for one in found if one.rows]


def mode_tables(cases: Sequence[SpeedCase]) -> list[Beside]:
    """XLA's speedup, the scaling of replicas, the first step: those that the records have something for."""
    found = reference_tables(cases)
    if len({case.record.jit for case in cases}) > 1:
        found.append(first_step_table(cases))
    return [one for one in found if one.rows]


def energy_table(cases: Sequence[SpeedCase]) -> Beside:
    """Joules per image of one phase, of each arm against its baseline, with the spread of the passes.

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
                rows.append(_named(r) | {"J/image": joules(r), "W": f"{_watts(case):.0f}"})
            continue
        saving = f"{100 * (before - r.joules_per_image) / before:.1f}"
        if _spread(base.record).overlaps(_spread(r)):
            saving += " (within the spread)"
        saving += _throttled(case, base)
        rows.append(
            _named(r)
            | {f"{base.record.precision} J/image": joules(base.record), "J/image": joules(r), "less %": saving}
            | {"W": f"{_watts(base):.0f} -> {_watts(case):.0f}"}
        )
    phase = cases[0].record.phase if cases else ""
    together = ", all replicas together" if per_replica(case.record for case in cases) else ""
    return Beside(f"Energy, {phase}: joules per image ± spread of the passes{together}", rows)


def reference_tables(cases: Iterable[SpeedCase]) -> list[Beside]:
    """What another way to run the same precision brings: XLA's speedup; how close to N times as fast N replicas are."""
    titles = {
        "jit=off": "XLA's speedup: over the same precision without it [95 % interval]",
        "replicas=1": "Scaling efficiency of replicas: 1 is N times as many images/s as one [95 % interval]",
    }

    def cell(case: SpeedCase) -> str:
        ratio = case.record.over_reference
        return "" if ratio is None else _interval(ratio) + _throttled(case, None)

    return [
        Beside(heading, _by_phase([case for case in cases if case.record.reference == reference], cell))
        for reference, heading in titles.items()
    ]


def first_step_table(cases: Iterable[SpeedCase]) -> Beside:
    """What has to be waited for before the second step, apart."""

    def cell(case: SpeedCase) -> str:
        r = case.record
        if r.trace_seconds is None or r.compile_seconds is None:
            return ""
        return f"{r.trace_seconds:.1f} + {r.compile_seconds:.1f}{' (cached)' if r.compile_cached else ''}"

    return Beside("First step: seconds to trace + to compile", _by_phase(cases, cell))


def _by_phase(cases: Iterable[SpeedCase], cell: Callable[[SpeedCase], str]) -> list[dict[str, str]]:
    """A row per model and precision, a column per phase; without what has no cell, and without controls."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in cases:
        r = case.record
        if not r.control and (text := cell(case)):
            rows.setdefault((r.name, r.precision), _named(r))[r.phase] = text
    return [*rows.values()]


def _named(record: CaseRecord) -> dict[str, str]:
    return {"model": record.name, "precision": record.precision}


def joules(record: CaseRecord) -> str:
    """Per image, with the spread of the passes."""
    spread = "" if record.joules_spread is None else f" ± {100 * record.joules_spread:.1f} %"
    return f"{record.joules_per_image:.4g}{spread}"


def _spread(record: CaseRecord) -> Interval:
    joules = record.joules_per_image or 0.0
    return Interval(joules, joules * (1 - (record.joules_spread or 0.0)), joules * (1 + (record.joules_spread or 0.0)))


def _watts(case: SpeedCase) -> float:
    return (case.record.joules_per_step or 0.0) / case.median_seconds


def per_replica(records: Iterable[CaseRecord]) -> str:
    """What to say of a batch where several replicas have one each."""
    return " per replica" if any(r.replicas > 1 for r in records) else ""


def notes(cases: Sequence[SpeedCase]) -> list[str]:
    """A line for each thing a reader must know before believing a figure, and the noise floor if there is one."""
    lines = []
    for word, why in DOUBTS.items():
        if marked := [f"{c.record.case_name} ({doubted(c.record)})" for c in cases if c.record.doubt == word]:
            lines.append(f"{word}: {', '.join(marked)}: {why}")
    warming = [f"{c.record.case_name} ({c.record.warmup_rounds} rounds)" for c in cases if not c.record.warmup_settled]
    if warming:
        lines.append(f"WARM-UP: {', '.join(warming)}: half the time limit was over before it was seen to be stationary")
    few = [f"{c.record.case_name} ({c.record.rounds} rounds)" for c in cases if c.record.rounds < MIN_PAIRS]
    if few:
        lines.append(f"FEW ROUNDS: {', '.join(few)}: below {MIN_PAIRS} there is no interval, and no speedup")
    lines += _gpu_notes([case.record for case in cases])
    if bound := [f"{c.record.case_name} ({_gpu_busy(c)} %)" for c in cases if "HOST-BOUND" in marks(c, None)]:
        lines.append(
            f"HOST-BOUND: {', '.join(bound)}: the GPU is busy for less than half of the step and waits for the host"
        )
    if missing := [f"{c.record.case_name} ({c.record.no_step_profile})" for c in cases if c.record.no_step_profile]:
        lines.append(f"NO PROFILE: {', '.join(missing)}")
    if any(case.record.device == "cpu" and case.record.replicas > 1 for case in cases):
        lines.append("REPLICAS: on one machine's CPU they share its cores: their scaling efficiency says nothing")
    if any(c.record.baseline == TF32 for c in cases) and not any(c.record.precision == "float32" for c in cases):
        lines.append(
            "BASELINE: tf32 is what this GPU computes float32 in unless told not to; over strict float32, which the "
            "thesis had: a run with --mp-precisions=float32,mixed_float16"
        )
    for case in cases:
        r = case.record
        name = r.case_name
        if r.precision == "tf32" and not r.tf32:
            lines.append(f"TF32: {name}: this device has no TF32, the figures are plain float32's")
        if r.skipped_steps:
            lines.append(
                f"SKIPPED: {name}: loss scaling dropped {r.skipped_steps} steps in measured rounds; those rounds are "
                "left out"
            )
        if r.control and r.interval:
            floor = "" if r.interval.low <= 1 <= r.interval.high else ": 1 is outside, distrust small differences"
            lines.append(f"noise floor: {r.name}: {r.precision} against itself {_interval(r.interval)}{floor}")
    return lines


def _gpu_notes(records: Sequence[CaseRecord]) -> list[str]:
    lines = []
    if all_count := [f"{r.case_name} ({throttled_rounds(r)} of {r.rounds} rounds)" for r in records if r.throttled]:
        lines.append(
            f"THROTTLED: {', '.join(all_count)}: heat or the power supply slowed the GPU down in too many rounds to "
            "leave them out: the figures are of all rounds"
        )
    left_out = [
        f"{r.case_name} ({throttled_rounds(r)} of {r.rounds} rounds)"
        for r in records
        if r.throttled_blocks and not r.throttled
    ]
    if left_out:
        lines.append(
            f"THROTTLED: {', '.join(left_out)}: heat or the power supply slowed the GPU down; these rounds are left out"
        )
    if limited := [r for r in records if r.power_limited_share]:
        lines.append(
            f"POWER LIMIT: {_limited(limited)}: the clock was lowered to stay within the power limit, as a GPU does "
            "under full load"
        )
    return lines


def _limited(records: Sequence[CaseRecord]) -> str:
    """Each by its name; of many their range."""
    if len(records) <= MAX_NAMED:
        return ", ".join(f"{r.case_name} ({power_limit(r)})" for r in records)
    shares = [100 * (r.power_limited_share or 0) for r in records]
    clocks = [r.sm_clock_mhz for r in records if r.sm_clock_mhz is not None]
    clock = f", SM clocks {min(clocks):.0f} to {max(clocks):.0f} MHz" if clocks else ""
    return f"{len(records)} cases ({min(shares):.0f} to {max(shares):.0f} % of rounds{clock})"


def throttled_rounds(record: CaseRecord) -> int:
    """How many were measured while the GPU was throttled."""
    return len(numbers(record.throttled_blocks))


def power_limit(record: CaseRecord) -> str:
    """In how many rounds it was reached, and at which clock, for people."""
    clock = "" if record.sm_clock_mhz is None else f", SM clock {record.sm_clock_mhz:.0f} MHz"
    return f"{100 * (record.power_limited_share or 0):.0f} % of rounds{clock}"


def strict_float32(case: SpeedCase, arms: Arms) -> SpeedCase | None:
    """The strict float32 that was measured beside a case whose speedup refers to something else; None without one."""
    if case.record.baseline in (None, DEFAULT_BASELINE) or case.record.precision == DEFAULT_BASELINE:
        return None
    return next(iter(arms.of_precision(case.record, DEFAULT_BASELINE)), None)


def _row(case: SpeedCase, base: SpeedCase | None, strict_base: SpeedCase | None = None) -> dict[str, str]:
    """A row's cells by column; without a baseline only the case's own.

    Args:
        strict_base: see `strict_float32`.
    """
    r, ms = case.record, 1000 * case.median_seconds
    peak = "peak MiB" if r.memory_kind == "device" else "process MiB"
    row = {"model": r.name, "precision": precision_label(r)}
    if base is None:
        own = {"ms": f"{ms:.2f}", **({"GPU busy %": busy} if (busy := _gpu_busy(case)) else {})}
        own |= {"images/s": f"{r.images_per_second:.1f}", peak: f"{r.peak_memory_bytes / MIB:.0f}"}
        return row | own
    b, base_ms = base.record, 1000 * base.median_seconds
    row |= {f"{b.precision} ms": f"{base_ms:.2f}", "ms": f"{ms:.2f}"}
    if batches_differ(base, case):
        row |= {"batch": f"{b.batch_size} -> {r.batch_size}"}
    else:
        row |= {"less ms": f"{base_ms - ms:.2f}", "less %": f"{100 * (base_ms - ms) / base_ms:.1f}"}
    if busy := " -> ".join(filter(None, map(_gpu_busy, (base, case)))):
        row |= {"GPU busy %": busy}
    row |= {
        "speedup [95 % interval]": (_interval(r.interval) if r.interval else "") + _marks(case, base),
        "images/s": f"{b.images_per_second:.1f} -> {r.images_per_second:.1f}",
        peak: _peak_pair(b, r),
    }
    strict = None if strict_base is None else over(case, strict_base)
    if strict is not None:
        row |= {"over strict float32": _interval(strict)}
    was = thesis.MS_PER_STEP.get((r.model, r.phase))
    of_thesis = b.precision == "float32" or strict is not None
    if was is not None and of_thesis and (r.precision, r.replicas) == ("mixed_float16", 1):
        row |= {f"{thesis.DEVICE}: ms": f"{was[0]} -> {was[1]}", f"{thesis.DEVICE}: x": f"{was[0] / was[1]:.2f}"}
    return row


def doubted(record: CaseRecord) -> str:
    """Of a figure that is noisy: by how much the figure moved, or of how many rounds it is."""
    if record.doubt == "DRIFTING" and record.drift is not None:
        return f"by {100 * record.drift:.{1 if record.drift < 0.1 else 0}f} %"
    return f"{record.rounds} rounds"


def marks(case: SpeedCase, base: SpeedCase | None) -> list[str]:
    """What must stand beside a speedup; it is of throttled rounds too where its baseline's are."""
    breakdown = breakdown_of(case)
    bound = ["HOST-BOUND"] if breakdown and is_host_bound(breakdown) else []
    return list(filter(None, [case.record.doubt])) + _throttled(case, base).split() + bound


def _gpu_busy(case: SpeedCase) -> str:
    """Per cent of the step in which anything ran on the GPU; empty where no profile says so."""
    breakdown = breakdown_of(case)
    if breakdown is None or not breakdown.record.on_device:
        return ""
    return f"{100 * (1 - breakdown.idle_share):.0f}"


def _marks(case: SpeedCase, base: SpeedCase | None) -> str:
    return "".join(f" {word}" for word in marks(case, base))


def _throttled(case: SpeedCase, base: SpeedCase | None) -> str:
    return " THROTTLED" if case.record.throttled or (base is not None and base.record.throttled) else ""


def precision_label(record: CaseRecord) -> str:
    """A case's precision, and that it is the control."""
    return f"{record.precision} (control)" if record.control else record.precision


def _peak_pair(base: CaseRecord, other: CaseRecord) -> str:
    """Both peaks; for a process one figure, since it holds all arms at once and grows as they are built."""
    if other.memory_kind != "device":
        return f"{max(base.peak_memory_bytes, other.peak_memory_bytes) / MIB:.0f}"
    return f"{base.peak_memory_bytes / MIB:.0f} -> {other.peak_memory_bytes / MIB:.0f}"


def each(values: Iterable[object]) -> str:
    """A setting's values, each once; of many the first."""
    found = list(dict.fromkeys(map(str, values)))
    more = [f"and {len(found) - MAX_EACH} more"] if len(found) > MAX_EACH else []
    return "/".join([*found[:MAX_EACH], *more])


def device_label(record: CaseRecord | AccuracyRecord) -> str:
    return "a CPU" if record.device == "cpu" else record.device_name


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
