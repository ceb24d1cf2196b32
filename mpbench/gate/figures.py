"""What runs show: which earlier runs a case may be compared with, the level of each figure in each run, and how the
rest of a run has shifted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from mpbench.gate.verdict import Figure
from mpbench.records.arms import Arms, by_function, function_of
from mpbench.records.comparable import Difference, configuration, differences
from mpbench.records.measured import Measured
from mpbench.records.rounds import paired
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.stats.change_test import MIN_HISTORY, MIN_ROUNDS, Level, is_unusual, level

BUSY_SHARE = 0.05
"""Share of all cores' time that others used while a case was measured on a CPU, above which its figures say nothing."""

LOOKBACK = 4
"""So many times `last` runs are looked through for those that make the baseline."""

LONG_AGO = slice(-20, -9)
"""The runs 10 to 20 ago, which a creep is seen against."""

LEAST_TIME_SD = 0.01
"""Least standard deviation that a step's time is taken to have between runs, on an idle machine."""

MIN_OTHERS = 4
"""Cases of other groups below which there is no rest of the run to relate to."""

USUAL_SHIFT_LEVEL = 0.05
"""Two-sided level at which the rest of the run has shifted unusually: it is then no yardstick."""

Key = tuple[Figure, str]
"""One figure of one case, by its full name."""


class Figures:
    """The times and speedups of a run, of the runs before it, and of those that measured some of their cases again.

    Args:
        new: the run to judge.
        before: the runs before it, oldest first.
        again: for a run's id, the runs that measured some of its cases again.
        last: runs that make a baseline.

    Attributes:
        comparable: for each case, the runs before that have it in the same configuration, oldest first.
        differing: where there is none, how the last run that has the case differs.
        timeline: the runs before that any case is compared with, oldest first.
        bases: for each case with a speedup, the case that it refers to.
    """

    def __init__(
        self, new: SavedRun, before: Sequence[SavedRun], again: Mapping[str, Sequence[SavedRun]], last: int
    ) -> None:
        self.new = new
        self.comparable: dict[str, list[SavedRun]] = {}
        self.differing: dict[str, list[Difference]] = {}
        for name, case in new.speed.items():
            self.comparable[name], self.differing[name] = comparable(new, case, _usable(case, before))
        kept = max(LOOKBACK * last, -LONG_AGO.start)
        cases: dict[int, list[str]] = {}
        for name, runs in self.comparable.items():
            for run in runs[-kept:]:
                cases.setdefault(id(run), []).append(name)
        self.timeline = [run for run in before if id(run) in cases]
        arms = by_function(new.speed)
        bases = {name: base for name, case in new.speed.items() if (base := baseline_of(arms, case))}
        self._levels = {id(run): self._levels_of(run, cases[id(run)], bases) for run in self.timeline}
        self._levels[id(new)] = self._levels_of(new, new.speed, bases)
        self.bases = {name: base for name, base in bases.items() if self.level(new, (Figure.TIME, name))}
        self._again = {id(run): again.get(run.id, ()) if run.id else () for run in (*self.timeline, new)}
        configurations = {name: configuration(new.facts, case.record) for name, case in new.speed.items()}
        for run in (one for runs in self._again.values() for one in runs):
            shared = [name for name in run.speed if name in configurations]
            alike = [n for n in shared if configuration(run.facts, run.speed[n].record) == configurations[n]]
            self._levels[id(run)] = self._levels_of(run, alike, bases)

    def _levels_of(self, run: SavedRun, names: Iterable[str], bases: Mapping[str, str]) -> dict[Key, Level]:
        """Of the times of some of its cases, and of the logarithms of their speedups."""
        found = {
            (Figure.TIME, name): level(np.log(run.speed[name].judged.rounds))
            for name in names
            if not no_figure(run.speed[name])
        }
        for name, base in bases.items():
            if (Figure.TIME, name) in found and (Figure.TIME, base) in found:
                case = run.speed[name]
                if case.record.baseline != self.new.speed[name].record.baseline:
                    continue
                both = zip(*paired(case.judged, run.speed[base].judged), strict=True)
                logs = [math.log(theirs / mine) for mine, theirs in both]
                if len(logs) >= MIN_ROUNDS:
                    found[Figure.SPEEDUP, name] = level(logs)
        return found

    @property
    def keys(self) -> list[Key]:
        """The figures that are judged."""
        return [(Figure.TIME, name) for name in self.new.speed] + [(Figure.SPEEDUP, name) for name in self.bases]

    def level(self, run: SavedRun, key: Key) -> Level | None:
        """A figure of a run; None where it has none that may be compared."""
        return self._levels[id(run)].get(key)

    def again(self, run: SavedRun, key: Key) -> list[SavedRun]:
        """The runs that measured a figure of a run again."""
        return [one for one in self._again[id(run)] if self.level(one, key)]

    def rest(self, name: str, runs: Sequence[SavedRun], others: Sequence[SavedRun]) -> dict[int, float] | None:
        """Median shift of the cases of other groups in these runs, in logarithms, by the runs' id().

        A slow machine shifts all cases alike, and hides a slow case among them. None where the rest is no yardstick:
        too few cases or runs, or shifted by more than runs usually do, since then it may be the rest that has changed.

        Args:
            name: the case.
            runs: of its baseline.
            others: the run to judge first, then others, of which some may lack the rest: they are left out.
        """
        if len(runs) < MIN_HISTORY:
            return None
        group = group_of(self.new.speed[name])
        usual: dict[Key, float] = {}
        for key in ((Figure.TIME, other) for other, case in self.new.speed.items() if group_of(case) != group):
            levels = [self.level(run, key) for run in (*runs, others[0])]
            if all(levels):
                usual[key] = median(level.mean for level in levels[:-1] if level)
        shifts = {}
        for run in (*runs, *others):
            found = [level.mean - mean for key, mean in usual.items() if (level := self.level(run, key))]
            if len(found) >= MIN_OTHERS:
                shifts[id(run)] = median(found)
        if id(others[0]) not in shifts:
            return None
        of_runs = [shifts[id(run)] for run in runs]
        return None if is_unusual(shifts[id(others[0])], of_runs, LEAST_TIME_SD, USUAL_SHIFT_LEVEL) else shifts


def no_figure(case: SpeedCase) -> str:
    """Why a case's rounds can neither be judged nor be a baseline; empty where they can."""
    if case.record.throttled:
        return "measured while the GPU was throttled"
    if len(case.judged.rounds) < MIN_ROUNDS:
        return f"fewer than {MIN_ROUNDS} rounds"
    others = case.record.others_cpu_share
    if case.record.device == "cpu" and others is not None and others > BUSY_SHARE:
        return f"measured while other processes used {others:.0%} of this machine's CPU"
    return ""


def baseline_of(arms: Mapping[str, Arms], case: SpeedCase) -> str | None:
    """Name of the case of the same group that the case's speedup refers to.

    Args:
        arms: of its run, by test.
    """
    if case.record.speedup is None:
        return None
    others = arms[function_of(case.fullname)].referred_to(case, "speedup")
    return others[0].fullname if others else None


def group_of(case: SpeedCase) -> tuple[str, str, str]:
    """Equal for the precisions of which one's speedup refers to another."""
    r = case.record
    return function_of(case.fullname), r.name, r.phase


def _usable(case: SpeedCase, before: Sequence[SavedRun]) -> list[SavedRun]:
    """The runs in which a case has a figure; what was measured once counts once, though a resumed run repeats it."""
    seen, found = {case.rounds}, []
    for run in before:
        theirs = run.speed.get(case.fullname)
        if theirs is not None and not no_figure(theirs) and theirs.rounds not in seen:
            seen.add(theirs.rounds)
            found.append(run)
    return found


def comparable(
    new: SavedRun, case: Measured[Any], having: Sequence[SavedRun]
) -> tuple[list[SavedRun], list[Difference]]:
    """The runs that have a case in the same configuration; without any, in what the last one differs.

    Args:
        new: the run to judge.
        case: of it.
        having: runs that have the case, oldest first.
    """
    wanted = configuration(new.facts, case.record)
    theirs = [configuration(run.facts, run.cases[case.fullname].record) for run in having]
    fitting = [run for run, of in zip(having, theirs, strict=True) if of == wanted]
    return fitting, [] if fitting or not having else differences(theirs[-1], wanted)
