"""What is found of a run's times and speedups: by going through the runs in the order in which they were made."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from mpbench.gate.baseline import Baseline, by_commit
from mpbench.gate.figures import LEAST_TIME_SD, LONG_AGO, Figures, Key
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Figure
from mpbench.records.runs import SavedRun
from mpbench.stats.change_test import (
    MIN_HISTORY,
    Finding,
    Level,
    Limits,
    Outcome,
    compare,
    mean_of,
    shift_excess,
)
from mpbench.stats.run_spread import (
    MIN_ALIKE,
    Prior,
    Spread,
    centre,
    estimated_prior,
    mean_excess,
    memory_of,
    spread,
    vary_alike,
)

FALSE_ALARM_LEVEL = 0.003
"""Share of unchanged runs in which any case or speedup may be called changed, divided among all that are judged. A
third of the 1 % aimed at: how much runs differ is itself an estimate, and bursts are not normal."""

CONFIRMED_LEVEL = 0.01
"""The same where fresh processes have measured again, each of which must agree besides, and figures vary alike."""

SUSPECT_LEVEL, SUSPECT_SHARE = 0.02, 0.8
"""Level, and share of its threshold, from which on a figure is measured again, where it can be: several processes may
tell what one cannot."""

LEAST_RELATIVE_SD = 0.005
"""As LEAST_TIME_SD, for times relative to the rest of the run: what slows all of it cancels, what slows a part does
not."""

LEAST_SPEEDUP_SD = 0.003
"""The same for speedups: their rounds are measured within seconds of each other."""

SLOW_MACHINE_FACTOR = 4.0
"""By which a CPU may slow down unseen, for a case or a whole run: a virtual one has been seen to take 2.6 times as long
over hours, with nothing else running on it. Times on a CPU are no evidence below it; speedups are."""

SHORT_HISTORY_FACTOR = 2.0
"""So many times the least is assumed with fewer than MIN_HISTORY earlier runs: it is hardly known how runs differ."""

FARTHEST_EXCURSION = 2.0
"""An excursion counts for the spread as so many times the threshold at most: what goes far beyond is something that
broke into one run, and would hide a slowdown for the next twenty."""

AGREEING_SHARE = 0.5
"""Of the threshold, that every process must be beyond before several agree: one that is nearer has come back."""

CLEAR_SPREADS = 0.7
"""Of what several processes find together, by which it must be beyond the threshold: levels that far apart are
common where there are any, and then all processes agree by chance in one of some hundred runs."""

CREEPING_MEMORY = 0.3
"""Correlation of neighbouring runs above which figures wander so that a creep cannot be told from it."""

CREEPS = {Figure.TIME: Figure.CREEP, Figure.SPEEDUP: Figure.SPEEDUP_CREEP}
CHANGED = (Outcome.SLOWER, Outcome.FASTER)


class Scale(Enum):
    """What a figure is relative to. Figures of one scale tell of each other how much they differ between runs."""

    TIME = "nothing"
    RELATIVE_TIME = "the rest of the run"
    SPEEDUP = "the baseline's time"


@dataclass(frozen=True)
class Found:
    """What was found of a figure.

    Attributes:
        finding: against the baseline.
        near: whether its shift is within the thresholds.
        suspect: whether it is to be measured again before it is believed, in one direction or the other.
        rest: median shift of the rest of the run where the figure is relative to that; None where it is not.
        again: its shifts in the processes that measured it again, in logarithms.
    """

    finding: Finding
    near: bool
    suspect: bool
    rest: float | None = None
    again: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Question:
    """Whether a figure has changed.

    Attributes:
        key, scale: which figure it is.
        now, again, earlier: its levels in the run, in the processes that measured it again, and for each commit of the
            baseline.
        own: how much it differs between runs.
        limits: what counts as a change.
        rest: as in Found.
        unrelated: variance of a process that measured again, where its own rest of the run is unknown.
    """

    key: Key
    scale: Scale
    now: Level
    again: Sequence[Level]
    earlier: Sequence[Level]
    own: Spread
    limits: Limits
    rest: float | None
    unrelated: float


class Findings:
    """Goes through the runs with a baseline for each figure, and ends with the new run.

    Attributes:
        found: of the new run's times and speedups, and of their creep.
        baselines: of times and speedups, without the new run.
    """

    def __init__(self, figures: Figures, rules: Rules) -> None:
        self.figures, self.rules = figures, rules
        self.baselines: defaultdict[Key, Baseline] = defaultdict(Baseline)
        self._memory: dict[Scale, float] = {}
        times = [name for name in figures.new.speed if figures.level(figures.new, (Figure.TIME, name))]
        # A time is red in one direction, a speedup in both: either of its two cases may have become slower.
        self._tests = max(len(times) + 2 * len(figures.bases), 1)
        for run in figures.timeline:
            found = self._judged(run)
            for key in figures.keys:
                if figures.level(run, key) is not None:
                    one = found.get(key)
                    outcome, near = (one.finding.outcome, one.near) if one else (None, True)
                    self.baselines[key].enter(run, outcome, near, rules.last)
        self.found = self._judged(figures.new)
        self.found |= self._crept()

    def moved(self, key: Key) -> float | None:
        """By how much a level that was accepted lately differs from the one before, in logarithms; None without one."""
        baseline, last = self.baselines[key], self.rules.last
        if baseline.since is None or baseline.entered >= last:
            return None
        levels = [
            [level.mean for run in runs[-last:] if (level := self.figures.level(run, key))]
            for runs in (baseline.level, baseline.was)
        ]
        return centre(levels[0]) - centre(levels[1]) if all(levels) else None

    def _judged(self, run: SavedRun) -> dict[Key, Found]:
        """What is found of a run's times and speedups against the baselines so far."""
        baselines = ((key, self.baselines[key]) for key in self.figures.keys)
        asked = [self._question(key, run, of.level[-self.rules.last :], of.spread()) for key, of in baselines]
        return self._answered([question for question in asked if question])

    def _crept(self) -> dict[Key, Found]:
        """Against the runs 10 to 20 ago, as far as they were at today's level: what moves slowly moves its own bar."""
        asked = []
        for key in self.figures.keys:
            of_level = {id(run) for run in self.baselines[key].stretches[-1]}
            runs = [run for run in self.figures.comparable[key[1]][LONG_AGO] if id(run) in of_level]
            if len(runs) >= MIN_HISTORY:
                asked.append(self._question(key, self.figures.new, runs, [runs]))  # the last may differ by the creep
        answered = self._answered([question for question in asked if question], look_back=True)
        return {(CREEPS[figure], name): found for (figure, name), found in answered.items()}

    def _question(
        self, key: Key, run: SavedRun, runs: Sequence[SavedRun], stretches: Sequence[Sequence[SavedRun]]
    ) -> _Question | None:
        """Whether a figure of a run has changed; None where there is nothing to compare.

        Args:
            runs: of the baseline.
            stretches: as in `Baseline.spread`.
        """
        now = self.figures.level(run, key)
        if now is None or not runs:
            return None
        figure, name = key
        again = self.figures.again(run, key)
        slower, faster = self.rules.thresholds(name)
        alpha = FALSE_ALARM_LEVEL / self._tests
        rest, unrelated = None, 0.0
        if figure is Figure.SPEEDUP:
            # Its fall is this case's slowdown, its rise that of the baseline precision.
            base_slower, _ = self.rules.thresholds(self.figures.bases[name])
            limits = Limits(-math.log1p(-slower), math.log1p(base_slower), -1, LEAST_SPEEDUP_SD, alpha)
            scale, threshold = Scale.SPEEDUP, min(limits.slower, limits.faster)
        else:
            rest = self.figures.rest(name, runs, [run, *again, *(one for stretch in stretches for one in stretch)])
            least_sd = LEAST_TIME_SD if rest is None else LEAST_RELATIVE_SD
            limits = Limits(math.log1p(slower), -math.log1p(-(faster or slower)), 1, least_sd, alpha)
            scale, threshold = Scale.TIME if rest is None else Scale.RELATIVE_TIME, limits.slower
        if rest is not None and any(id(one) not in rest for one in again):
            unrelated = max(float(np.var([rest[id(one)] for one in runs], ddof=1)), LEAST_RELATIVE_SD**2)
            rest = {id(one): rest[id(run)] for one in again} | rest

        def levels(of: Sequence[SavedRun]) -> dict[int, Level]:
            """Less the rest of the run, where it is known; by the runs' id()."""
            known = {id(one): level for one in of if (level := self.figures.level(one, key))}
            if rest is None:
                return known
            return {id: replace(one, mean=one.mean - rest[id]) for id, one in known.items() if id in rest}

        earlier = levels(runs)
        varying = [[(level.mean, level.error) for level in levels(stretch).values()] for stretch in stretches]
        return _Question(
            key,
            scale,
            now=levels([run])[id(run)],
            again=list(levels(again).values()),
            earlier=[mean_of([earlier[id(one)] for one in of_commit]) for of_commit in by_commit(runs)],
            own=spread(varying, FARTHEST_EXCURSION * threshold),
            limits=limits,
            rest=None if rest is None else rest[id(run)],
            unrelated=unrelated,
        )

    def _answered(self, questions: Sequence[_Question], look_back: bool = False) -> dict[Key, Found]:
        found: dict[Key, Found] = {}
        for scale in Scale:
            alike = [q for q in questions if q.scale is scale]
            if not alike:
                continue
            memory = memory_of([q.own for q in alike])
            if look_back and max(memory, self._memory.get(scale, 0.0)) > CREEPING_MEMORY:
                continue
            self._memory[scale] = memory
            alike = [replace(q, own=q.own.remembering(memory)) for q in alike]
            spreads = [q.own for q in alike]
            # Times that nothing is taken from all move with their run: many of them say no more than one.
            prior = None if scale is Scale.TIME else estimated_prior(spreads, memory)
            usual = mean_excess(spreads)
            short = [q for q in alike if len(q.earlier) < MIN_HISTORY]
            factor = SHORT_HISTORY_FACTOR
            if scale is Scale.SPEEDUP and len(short) >= MIN_ALIKE:
                # Nothing but noise moves speedups of different models together or apart.
                usual, factor = max(usual, shift_excess([(q.now, q.earlier) for q in short])), 1.0
            for q in alike:
                if len(q.earlier) < MIN_HISTORY:
                    q = replace(q, limits=replace(q.limits, least_sd=factor * q.limits.least_sd))
                found[q.key] = self._answer(q, prior, usual, memory)
        return found

    def _answer(self, q: _Question, prior: Prior | None, usual: float, memory: float) -> Found:
        limits = q.limits
        finding = compare(q.now, q.earlier, limits, prior, q.own, usual, memory)
        slowdown = limits.towards * finding.shift
        near = -limits.faster < slowdown < limits.slower
        beyond = max(slowdown / limits.slower, -slowdown / limits.faster)
        suspect = beyond >= SUSPECT_SHARE and finding.p <= SUSPECT_LEVEL
        at = q.now.mean - finding.shift
        shifts = tuple(one.mean - at for one in q.again)
        if q.again:
            together = mean_of([q.now, *q.again])
            error = math.sqrt(together.error**2 + len(q.again) * q.unrelated / together.runs**2)
            asked = replace(limits, alpha=CONFIRMED_LEVEL / self._tests) if vary_alike(prior) else limits
            joint = compare(replace(together, error=error), q.earlier, asked, prior, q.own, usual, memory)
            sign = math.copysign(1, joint.shift)
            threshold = limits.slower if sign == limits.towards else limits.faster
            agree = min(sign * shift for shift in (finding.shift, *shifts)) >= AGREEING_SHARE * threshold
            if not agree and (suspect or joint.outcome in CHANGED):
                finding = replace(finding, outcome=Outcome.UNSURE, advice="not confirmed")
            elif joint.outcome in CHANGED and abs(joint.shift) < threshold + CLEAR_SPREADS * joint.spread:
                unclear = "confirmed, but too near the threshold to be sure"
                finding = replace(joint, outcome=Outcome.UNSURE, advice=unclear)
            else:
                finding = joint
        if q.scale is not Scale.SPEEDUP and self.figures.new.speed[q.key[1]].record.device == "cpu":
            within = abs(finding.shift) <= math.log(SLOW_MACHINE_FACTOR)
            if finding.outcome in CHANGED and within:
                blind = "on a CPU that may be the machine: speedups tell"
                finding = replace(finding, outcome=Outcome.UNSURE, advice=blind)
            suspect = suspect and not within
        return Found(finding, near, suspect, q.rest, shifts)
