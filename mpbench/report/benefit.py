"""Do all models benefit equally? And the speedup over any case of a group, from paired rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from mpbench.config.precisions import DEFAULT_BASELINE
from mpbench.records.arms import Arms
from mpbench.records.rounds import paired
from mpbench.records.speed import SpeedCase
from mpbench.stats.intervals import CONFIDENCE, MIN_PAIRS, Interval, simultaneous, speedup_interval

MAX_PAIRS_OF = 40
"""With more models the pairs are not compared in words; keras.applications has 38."""


def equal_benefit(cases: Iterable[SpeedCase]) -> list[str]:
    """The thesis's question, *do all benefit equally?*, answered per precision from the intervals.

    Two models differ where their intervals do not overlap; that is stricter than a test of the difference. The
    intervals are simultaneous: all of them hold the truth in 95 % of runs. Each mode is asked for separately.
    """
    cases = list(cases)
    arms = Arms(cases)
    by_precision: dict[str, list[SpeedCase]] = {}
    for case in cases:
        r = case.record
        if r.interval and not r.control and r.precision != DEFAULT_BASELINE:  # strict float32 is nobody's choice
            by_precision.setdefault(" ".join(filter(None, [r.precision, r.mode])), []).append(case)
    return [
        f"Do all benefit equally from {precision}? {_compared(_jointly(of, arms))}"
        for precision, of in by_precision.items()
        if len(of) > 1
    ]


def _jointly(asked: Sequence[SpeedCase], arms: Arms) -> list[tuple[str, Interval]]:
    """Each case's model with its simultaneous interval, which is never narrower than the case's own."""
    confidence, found = simultaneous(len(asked)), []
    for case in asked:
        base, own = arms.baseline_of(case), case.record.interval
        joint = over(case, base, confidence) if base else None
        if own and joint:
            own = Interval(own.estimate, min(own.low, joint.low), max(own.high, joint.high))
        if own:
            found.append((" ".join(filter(None, [case.record.model, case.record.variant])), own))
    return found


def over(case: SpeedCase, other: SpeedCase, confidence: float = CONFIDENCE) -> Interval | None:
    """Speedup over another case of the group, from paired rounds; None if these are too few or the batches differ."""
    theirs, mine = paired(other.judged, case.judged)
    if len(mine) < MIN_PAIRS or batches_differ(other, case):
        return None
    return speedup_interval(theirs, mine, confidence)


def batches_differ(base: SpeedCase, case: SpeedCase) -> bool:
    return base.record.batch_size != case.record.batch_size


def _compared(models: Sequence[tuple[str, Interval]]) -> str:
    if len(models) > MAX_PAIRS_OF:
        return f"{len(models)} models are too many to compare any two in words: the table has their intervals."
    apart: dict[str, list[str]] = {}
    alike: list[str] = []
    for (name_a, a), (name_b, b) in combinations(sorted(models, key=lambda m: -m[1].estimate), 2):
        if a.overlaps(b):
            alike.append(f"{name_a} and {name_b}")
        else:
            apart.setdefault(name_a, []).append(name_b)
    slower = [name for name, interval in models if interval.high < 1]
    ending = f" Slower with it: {', '.join(slower)}." if slower else ""
    if not apart:
        return f"Not distinguishable: the intervals of {', '.join(name for name, _ in models)} overlap.{ending}"
    parts = [f"{name} more than {' and '.join(others)}" for name, others in apart.items()]
    if alike:
        parts.append(f"not distinguishable: {', '.join(alike)}")
    return f"No: {'; '.join(parts)}.{ending}"
