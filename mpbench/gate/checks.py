"""What the gate judges besides times: vanished cases, steps that loss scaling dropped, accuracy.

Pure: saved runs in, verdicts out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpbench.gate.rules import Rules
from mpbench.gate.verdict import ACCURACY, FAILED, MISSING, NEW, SKIPPED, Verdict
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.runs import SavedCase, SavedRun
from mpbench.stats.change_test import SAME

SKIPPED_SHARE_RISE = 0.01
"""Rise of the share of steps that loss scaling dropped, below which it does not count."""

SKIPPED_ALPHA = 0.001
"""Level of the test that the rise is none by chance: a single dropped step is ordinary loss scaling."""


def missing_verdicts(new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> list[Verdict]:
    """Cases that one of the last runs had and this one lacks; runs without any case in common with it do not count."""
    have = {*new.cases, *new.accuracy}
    alike = [run for run in before if have & {*run.cases, *run.accuracy}][-rules.last :]
    since: dict[str, int] = {}
    for ago, run in enumerate(reversed(alike), start=1):
        for name in (*run.cases, *run.accuracy):
            since.setdefault(name, ago)
    return [
        Verdict(
            name, MISSING, rules.missing_fails, None, "the last run has it" if ago == 1 else f"it ran {ago} runs ago"
        )
        for name, ago in since.items()
        if name not in have
    ]


def skipped_step_verdicts(new: SavedRun, earlier: Mapping[str, Sequence[SavedRun]]) -> list[Verdict]:
    """Cases in which loss scaling dropped more steps than in comparable earlier runs."""
    verdicts = []
    for name, case in new.cases.items():
        if not (cases := [run.cases[name] for run in earlier[name]]):
            continue
        dropped, kept = _steps(case)
        their_dropped, their_kept = (sum(counts) for counts in zip(*map(_steps, cases), strict=True))
        now, before = dropped / (dropped + kept), their_dropped / (their_dropped + their_kept)
        if now > before + SKIPPED_SHARE_RISE and _at_least(dropped, kept, their_dropped, their_kept) <= SKIPPED_ALPHA:
            detail = f"loss scaling dropped {now:.1%} of the steps, in earlier runs {before:.1%}"
            verdicts.append(Verdict(f"{SKIPPED}{name}", FAILED, True, None, detail))
    return verdicts


def _steps(case: SavedCase) -> tuple[int, int]:
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
    for name, record in new.accuracy.items():
        reasons = accuracy_problems(record)
        earlier = [run.accuracy[name] for run in before if name in run.accuracy]
        earlier = [other for other in earlier if _setting(other) == _setting(record)][-rules.last :]
        if earlier:
            accuracies = {
                record.precision: (record.accuracy, [r.accuracy for r in earlier]),
                record.baseline: (record.baseline_accuracy, [r.baseline_accuracy for r in earlier]),
            }
            for precision, (now, theirs) in accuracies.items():
                usual = float(np.median(theirs))
                if now < usual - record.margin:
                    reasons.append(f"accuracy in {precision} fell from {usual:.2%} to {now:.2%}: more than the margin")
        kind = FAILED if reasons else SAME if earlier else NEW
        detail = "; ".join(reasons) or f"McNemar p {record.mcnemar_exact_p:.3f}"
        verdicts.append(Verdict(f"{ACCURACY}{name}", kind, bool(reasons), None, detail))
    return verdicts


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


def _setting(r: AccuracyRecord) -> tuple[object, ...]:
    inputs = r.data_digest, r.weights, r.preprocessing, r.image_size, r.batch_size, r.profile
    return *inputs, r.device, r.baseline, r.precision
