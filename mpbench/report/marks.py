"""Which case earns which mark, with its details. Pure: from cases to marks and notes about them."""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.config.precisions import DEFAULT_BASELINE, TF32
from mpbench.records.marks import Mark
from mpbench.records.rounds import numbers
from mpbench.records.speed import SpeedCase
from mpbench.report.content import Note
from mpbench.report.labels import interval_label
from mpbench.stats.intervals import MIN_PAIRS
from mpbench.why.reading.breakdown import breakdown_of
from mpbench.why.reading.verdict import is_host_bound

MAX_NAMED = 6
"""A note names at most so many cases."""


def marks_of(case: SpeedCase) -> dict[Mark, str]:
    """All marks of a case, each with its details, which may be empty."""
    r, found = case.record, dict[Mark, str]()
    if r.doubt:
        moved = r.doubt is Mark.DRIFTING and r.drift is not None
        found[r.doubt] = f"by {_percent(r.drift)}" if moved else f"{r.rounds} rounds"
    if not r.warmup_settled:
        found[Mark.WARM_UP] = f"{r.warmup_rounds} rounds"
    if r.rounds < MIN_PAIRS:
        found[Mark.FEW_ROUNDS] = f"{r.rounds} rounds"
    if r.throttled_blocks:
        counting = ", all count" if r.throttled else " left out"
        found[Mark.THROTTLED] = f"{len(numbers(r.throttled_blocks))} of {r.rounds} rounds{counting}"
    if r.power_limited_share:
        clock = "" if r.sm_clock_mhz is None else f", SM clock {r.sm_clock_mhz:.0f} MHz"
        found[Mark.POWER_LIMIT] = f"{100 * r.power_limited_share:.0f} % of rounds{clock}"
    if _is_host_bound(case):
        found[Mark.HOST_BOUND] = f"GPU busy {gpu_busy_percent(case)} %"
    if r.no_step_profile:
        found[Mark.NO_PROFILE] = r.no_step_profile
    if r.device == "cpu" and r.replicas > 1:
        found[Mark.REPLICAS] = ""
    if r.precision == TF32 and not r.tf32:
        found[Mark.NO_TF32] = ""
    if r.skipped_steps:
        found[Mark.SKIPPED] = f"{r.skipped_steps} steps"
    if r.control and r.interval:
        inside = r.interval.low <= 1 <= r.interval.high
        found[Mark.NOISE_FLOOR] = f"{interval_label(r.interval)}{'' if inside else ': 1 is outside'}"
    return found


def marks_beside(case: SpeedCase, base: SpeedCase | None = None) -> list[Mark]:
    """What must stand beside the speedup itself. It is THROTTLED too if its baseline was."""
    throttled = case.record.throttled or (base is not None and base.record.throttled)
    found = [case.record.doubt, Mark.THROTTLED if throttled else None]
    return [mark for mark in (*found, Mark.HOST_BOUND if _is_host_bound(case) else None) if mark]


def marked(text: str, case: SpeedCase, base: SpeedCase | None = None) -> str:
    """A figure with the words that must stand beside it."""
    return " ".join([text, *(mark.value for mark in marks_beside(case, base))]).strip()


def notes(cases: Sequence[SpeedCase]) -> list[Note]:
    """A note for each mark, which names the cases that have it, and one where the baseline may surprise."""
    of_mark: dict[Mark, list[str]] = {mark: [] for mark in Mark}
    for case in cases:
        for mark, details in marks_of(case).items():
            of_mark[mark].append(f"{case.record.case_name} ({details})" if details else case.record.case_name)
    found = [Note(mark.value, f"{_some(named)}: {mark.meaning}") for mark, named in of_mark.items() if named]
    records = [case.record for case in cases]
    if any(r.baseline == TF32 for r in records) and not any(r.precision == DEFAULT_BASELINE for r in records):
        found.append(
            Note(
                "BASELINE",
                "tf32 is what this GPU computes float32 in unless told not to; over strict float32, which the thesis "
                "had: a run with --mp-precisions=float32,mixed_float16",
            )
        )
    return found


def gpu_busy_percent(case: SpeedCase) -> str:
    """Share of the step in which the GPU worked, as text; empty without a profile of it."""
    breakdown = breakdown_of(case)
    on_gpu = breakdown is not None and breakdown.record.on_device
    return f"{100 * (1 - breakdown.idle_share):.0f}" if breakdown and on_gpu else ""


def _is_host_bound(case: SpeedCase) -> bool:
    breakdown = breakdown_of(case)
    return breakdown is not None and is_host_bound(breakdown)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.{1 if (share or 0) < 0.1 else 0}f} %"
