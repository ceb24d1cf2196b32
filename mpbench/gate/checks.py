"""What the gate judges besides times: vanished cases, steps that loss scaling dropped, accuracy.

Pure: saved runs in, verdicts out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy

from mpbench.gate.figures import comparable
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Figure, Kind, Verdict
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase

SKIPPED_SHARE_RISE = 0.01
"""Rise of the share of steps that loss scaling dropped, below which it does not count."""

SKIPPED_ALPHA = 0.001
"""Level of the test that the rise is none by chance: a single dropped step is ordinary loss scaling."""

FALLEN_ALPHA = 0.001
"""One-sided level of the test that an accuracy has fallen."""


def missing_verdicts(new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> list[Verdict]:
    """Cases that one of the last runs had and this one lacks.

    Runs without any case in common with it do not count, unless there are no others: then all cases may have been given
    other names, if they are in the same files or this run would have had them.
    """
    have = {*new.speed, *new.accuracy}
    alike = [run for run in before if have & _names(run)]
    if not alike:
        files = _files(have)
        alike = [run for run in before if new.paths is not None or files & _files(_names(run))]
    since: dict[str, int] = {}
    for ago, run in enumerate(reversed(alike[-rules.last :]), start=1):
        for name in (*run.speed, *run.accuracy):
            since.setdefault(name, ago)
    verdicts = []
    for name, ago in since.items():
        if name in have:
            continue
        if new.was_asked_for(name):
            detail = "the last run has it" if ago == 1 else f"it ran {ago} runs ago"
            verdicts.append(Verdict(name, Figure.TIME, Kind.MISSING, detail, red=rules.missing_fails))
        else:
            verdicts.append(Verdict(name, Figure.TIME, Kind.NOT_SELECTED, "this run was not asked for it"))
    return verdicts


def _names(run: SavedRun) -> set[str]:
    return {*run.speed, *run.accuracy}


def _files(names: Iterable[str]) -> set[str]:
    return {name.partition("::")[0] for name in names}


def skipped_step_verdicts(new: SavedRun, earlier: Mapping[str, Sequence[SavedRun]]) -> list[Verdict]:
    """Cases in which loss scaling dropped more steps than in comparable earlier runs."""
    verdicts = []
    for name, case in new.speed.items():
        if not (cases := [run.speed[name] for run in earlier[name]]):
            continue
        dropped, kept = _steps(case)
        their_dropped, their_kept = (sum(counts) for counts in zip(*map(_steps, cases), strict=True))
        now, before = dropped / (dropped + kept), their_dropped / (their_dropped + their_kept)
        if now > before + SKIPPED_SHARE_RISE and _at_least(dropped, kept, their_dropped, their_kept) <= SKIPPED_ALPHA:
            detail = f"loss scaling dropped {now:.1%} of the steps, in earlier runs {before:.1%}"
            verdicts.append(Verdict(name, Figure.SKIPPED_STEPS, Kind.FAILED, detail, red=True))
    return verdicts


def _steps(case: SpeedCase) -> tuple[int, int]:
    """Dropped and kept."""
    return case.record.skipped_steps, len(case.rounds) * case.record.steps_per_round


def _at_least(dropped: int, kept: int, their_dropped: int, their_kept: int) -> float:
    """Fisher's exact test, one-sided: chance that so many of all dropped steps are in this run."""
    from scipy import stats  # here: it takes longer to import than 500 runs to judge, and is seldom needed

    total = dropped + kept + their_dropped + their_kept
    return float(stats.hypergeom.sf(dropped - 1, total, dropped + their_dropped, dropped + kept))


def accuracy_verdicts(new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> list[Verdict]:
    """On each accuracy comparison: what it asserts, and whether accuracy on the same data has fallen."""
    verdicts = []
    for name, case in new.accuracy.items():
        record = case.record
        reasons = accuracy_problems(record)
        runs, differing = comparable(new, case, [run for run in before if name in run.accuracy])
        earlier = [run.accuracy[name].record for run in runs[-rules.last :]]
        for precision, now, theirs in (
            (record.precision, record.accuracy, [r.accuracy for r in earlier]),
            (record.baseline, record.baseline_accuracy, [r.baseline_accuracy for r in earlier]),
        ):
            if theirs and _has_fallen(now, usual := float(np.median(theirs)), record.margin, record.validation_images):
                reasons.append(f"accuracy in {precision} fell from {usual:.2%} to {now:.2%}: more than the margin")
        if reasons:
            kind, detail = Kind.FAILED, "; ".join(reasons)
        elif differing:
            kind, detail = Kind.NOT_COMPARABLE, ", ".join(map(str, differing))
        else:
            kind, detail = Kind.SAME if earlier else Kind.NEW, f"McNemar p {record.mcnemar_exact_p:.3f}"
        wider = [r.margin for r in earlier if r.margin < record.margin]
        if wider:
            detail += f"; its margin is {100 * record.margin:g} points, that of earlier runs {100 * wider[-1]:g}"
        verdicts.append(Verdict(name, Figure.ACCURACY, kind, detail, red=bool(reasons)))
    return verdicts


def _has_fallen(now: float, usual: float, margin: float, images: int) -> bool:
    """Whether an accuracy is lower by more than the margin, and that is not chance.

    By Newcombe's interval for the difference of two proportions (1998, Statistics in Medicine 17:873-890, method 10).
    The images are the same, but which of them each run had right is not saved: taken for independent the accuracies
    differ more by chance than they do, so that a fall is seen late rather than wrongly.
    """
    if usual - now <= margin:
        return False
    z = float(scipy.special.ndtri(1 - FALLEN_ALPHA))
    low_before, high_now = _wilson(usual, images, -z), _wilson(now, images, z)
    return usual - now > math.hypot(usual - low_before, high_now - now)


def _wilson(share: float, n: int, z: float) -> float:
    """A limit of Wilson's score interval for a share of n: the lower one for a negative z."""
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle + half) / (1 + z * z / n)


def accuracy_problems(record: AccuracyRecord) -> list[str]:
    """The assertions that a comparison's record fails, in words."""
    problems = []
    if record.unlearned:
        problems.append(f"{' and '.join(record.unlearned)} does not beat the most frequent class")
    if record.differs:
        problems.append(f"McNemar p {record.mcnemar_exact_p:.2g} is not above {record.alpha:g}")
    if record.require_equivalence and not record.equivalent:
        margin = f"{100 * record.margin:g} points"
        problems.append(f"not shown to be equivalent within {margin} (p {record.equivalence_p:.2g})")
    return problems
