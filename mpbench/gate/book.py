"""What is found of a run's times and speedups, one run after the other, in the order in which they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpbench.gate.baseline import Baseline, by_commit
from mpbench.gate.cases import baseline_of, comparable, group_of, no_figure
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import CREEP, SPEEDUP
from mpbench.records.arms import by_function
from mpbench.records.comparable import configuration
from mpbench.records.rounds import paired
from mpbench.records.runs import SavedRun
from mpbench.stats.change_test import (
    FASTER,
    MIN_HISTORY,
    MIN_ROUNDS,
    SLOWER,
    UNSURE,
    Finding,
    Level,
    Limits,
    compare,
    is_unusual,
    level,
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

LEAST_TIME_SD = 0.01
"""Least standard deviation that a step's time is taken to have between runs, on an idle machine."""

LEAST_RELATIVE_SD = 0.005
"""The same for times relative to the rest of the run: what slows all of it cancels, what slows a part does not."""

LEAST_RATIO_SD = 0.003
"""The same for speedups: their rounds are measured within seconds of each other."""

SLOW_MACHINE_FACTOR = 4.0
"""By which a CPU may slow down unseen, for a case or a whole run: a virtual one has been seen to take 2.6 times as long
over hours, with nothing else running on it. Times on a CPU are no evidence below it; speedups are."""

SHORT_HISTORY_FACTOR = 2.0
"""So many times the least is assumed with fewer than MIN_HISTORY earlier runs: it is hardly known how runs differ."""

MIN_OTHERS = 4
"""Cases of other groups below which there is no rest of the run to relate to."""

USUAL_SHIFT_LEVEL = 0.05
"""Two-sided level at which the rest of the run has shifted unusually: it is then no yardstick."""

FARTHEST_EXCURSION = 2.0
"""An excursion counts for the spread as so many times the threshold at most: what goes far beyond is something that
broke into one run, and would hide a slowdown for the next twenty."""

AGREEING_SHARE = 0.5
"""Of the threshold, that every process must be beyond before several agree: one that is nearer has come back."""

CLEAR_SPREADS = 0.7
"""Of what several processes find together, by which it must be beyond the threshold: levels that far apart are
common where there are any, and then all processes agree by chance in one of some hundred runs."""

LOOKBACK = 4
"""So many times `last` runs are looked through for those that make the baseline."""

CREEPING_MEMORY = 0.3
"""Correlation of neighbouring runs above which figures wander so that a creep cannot be told from it."""

LONG_AGO = slice(-20, -9)
"""The runs 10 to 20 ago, which a creep is seen against."""


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
    """A figure of a run, the same of the runs of its baseline, and what counts as a change; `rest` as in Found."""

    figure: str
    now: Level
    again: Sequence[Level]
    earlier: Sequence[Level]
    own: Spread
    limits: Limits
    rest: float | None
    unrelated: float = 0.0
    """Variance of a process that measured again, whose own rest of the run is unknown."""


class Book:
    """Keeps the baseline of each figure while it goes through the runs.

    Args:
        new: the run to judge.
        before: runs before it, oldest first.
        again: for a run's id, the runs that measured some of its cases again.
        rules: thresholds.
    """

    def __init__(
        self, new: SavedRun, before: Sequence[SavedRun], again: Mapping[str, Sequence[SavedRun]], rules: Rules
    ) -> None:
        self.new, self.before, self.rules = new, before, rules
        self.comparable: dict[str, list[SavedRun]] = {}
        self.differing: dict[str, dict[str, tuple[object, object]]] = {}
        for name, case in new.speed.items():
            self.comparable[name], self.differing[name] = comparable(new, case, before)
        kept = max(LOOKBACK * rules.last, -LONG_AGO.start)
        self._members = {name: {id(run) for run in runs[-kept:]} for name, runs in self.comparable.items()}
        wanted = set().union(*self._members.values())
        self.timeline = [*(run for run in before if id(run) in wanted), new]
        self._settings = {name: configuration(new, case) for name, case in new.speed.items()}
        self._kept: list[SavedRun] = []  # what is known of a run is kept by its id()
        self._again: dict[int, list[SavedRun]] = {}
        for run in self.timeline:
            self._take_in(run, again.get(run.id, ()) if run.id else ())
        self._levels: dict[tuple[int, str], Level | None] = {}
        self._means: dict[int, np.ndarray] = {}
        self._rests: dict[object, dict[int, float] | None] = {}
        self._baselines: dict[str, Baseline] = {}
        self._memory: dict[float, float] = {}
        self._groups = np.array([hash(group_of(case)) for case in new.speed.values()])
        names = [name for name in new.speed if self.time(new, name) is not None]
        arms = by_function(new.speed)
        self.bases = {name: base for name in names if (base := baseline_of(arms, new.speed[name]))}
        # A time is red in one direction, a speedup in both: either of its two cases may have become slower.
        self._tests = max(len(names) + 2 * len(self.bases), 1)
        for run in self.timeline[:-1]:
            self._enter(run, self._judged(run))

    def turn_to(self, run: SavedRun, confirming: Sequence[SavedRun] = ()) -> None:
        """Judge another run, of the same cases in the same settings, after the same ones."""
        self.new = run
        self._take_in(run, confirming)

    def found(self) -> dict[str, Found]:
        """What is found of the new run's times and speedups, and of their creep."""
        return self._judged(self.new) | self._crept()

    def _take_in(self, run: SavedRun, confirming: Sequence[SavedRun]) -> None:
        self._again[id(run)] = list(confirming)
        self._kept += [run, *confirming]
        for one in (run, *confirming):
            for name in self._settings.keys() & one.speed.keys():
                if configuration(one, one.speed[name]) == self._settings[name] and (one is not run or run is self.new):
                    self._members[name].add(id(one))

    def baseline(self, figure: str) -> Baseline:
        return self._baselines.setdefault(figure, Baseline())

    def moved(self, figure: str) -> float | None:
        """By how much a level that was accepted lately differs from the one before, in logarithms; None without one."""
        baseline, name = self.baseline(figure), figure.removeprefix(SPEEDUP)
        if baseline.since is None or baseline.entered >= self.rules.last:
            return None
        of = self.ratio if figure != name else self.time
        now, then = (
            [one.mean for run in runs[-self.rules.last :] if (one := of(run, name))]
            for runs in (baseline.level, baseline.was)
        )
        return centre(now) - centre(then) if now and then else None

    def _enter(self, run: SavedRun, found: Mapping[str, Found]) -> None:
        for name in self.new.speed:
            for figure, its in ((name, self.time(run, name)), (SPEEDUP + name, self.ratio(run, name))):
                if its is not None:
                    one = found.get(figure)
                    kind, near = (one.finding.kind, one.near) if one else ("", True)
                    self.baseline(figure).enter(run, kind, near, self.rules.last)

    def _judged(self, run: SavedRun) -> dict[str, Found]:
        """What is found of a run's times and speedups against the baselines so far."""
        questions = list[_Question | None]()
        for name in self.new.speed:
            for figure, ask in ((name, self._time_question), (SPEEDUP + name, self._ratio_question)):
                questions.append(ask(run, name, self._runs(figure), self.baseline(figure).spread()))
        return self._answered([question for question in questions if question is not None])

    def _crept(self) -> dict[str, Found]:
        """Against the runs 10 to 20 ago, as far as they were at today's level: what moves slowly moves its own bar."""
        questions = list[_Question | None]()
        for name in self.new.speed:
            then = self.comparable[name][LONG_AGO]
            for figure, ask in ((name, self._time_question), (SPEEDUP + name, self._ratio_question)):
                of_level = {id(run) for run in self.baseline(figure).stretches[-1]}
                runs = [run for run in then if id(run) in of_level]
                if len(runs) >= MIN_HISTORY:
                    questions.append(ask(self.new, name, runs, [runs]))  # the last ones may differ by the creep
        answered = self._answered([question for question in questions if question is not None], look_back=True)
        return {CREEP + figure: found for figure, found in answered.items()}

    def _answered(self, questions: Sequence[_Question], look_back: bool = False) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for kind in (LEAST_TIME_SD, LEAST_RELATIVE_SD, LEAST_RATIO_SD):
            alike = [q for q in questions if q.limits.least_sd == kind]
            if not alike:
                continue
            memory = memory_of([q.own for q in alike])
            if look_back and max(memory, self._memory.get(kind, 0.0)) > CREEPING_MEMORY:
                continue
            self._memory[kind] = memory
            alike = [replace(q, own=q.own.remembering(memory)) for q in alike]
            spreads = [q.own for q in alike]
            # Times that nothing is taken from all move with their run: many of them say no more than one.
            prior = None if kind == LEAST_TIME_SD else estimated_prior(spreads, memory)
            usual = mean_excess(spreads)
            short = [q for q in alike if len(q.earlier) < MIN_HISTORY]
            factor = SHORT_HISTORY_FACTOR
            if kind == LEAST_RATIO_SD and len(short) >= MIN_ALIKE:
                # Nothing but noise moves speedups of different models together or apart.
                usual, factor = max(usual, shift_excess([(q.now, q.earlier) for q in short])), 1.0
            for q in alike:
                limits = replace(q.limits, least_sd=factor * kind) if len(q.earlier) < MIN_HISTORY else q.limits
                found[q.figure] = self._answer(replace(q, limits=limits), prior, usual, memory, kind != LEAST_RATIO_SD)
        return found

    def _answer(self, q: _Question, prior: Prior | None, usual: float, memory: float, on_cpu: bool) -> Found:
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
            if not agree and (suspect or joint.kind in (SLOWER, FASTER)):
                finding = replace(finding, kind=UNSURE, advice="not confirmed")
            elif joint.kind in (SLOWER, FASTER) and abs(joint.shift) < threshold + CLEAR_SPREADS * joint.spread:
                finding = replace(joint, kind=UNSURE, advice="confirmed, but too near the threshold to be sure")
            else:
                finding = joint
        if on_cpu and self.new.speed[q.figure.removeprefix(SPEEDUP)].record.device == "cpu":
            if finding.kind in (SLOWER, FASTER) and abs(finding.shift) <= math.log(SLOW_MACHINE_FACTOR):
                finding = replace(finding, kind=UNSURE, advice="on a CPU that may be the machine: speedups tell")
            suspect = suspect and abs(finding.shift) > math.log(SLOW_MACHINE_FACTOR)
        return Found(finding, near, suspect, q.rest, shifts)

    def _time_question(
        self, run: SavedRun, name: str, runs: Sequence[SavedRun], stretches: Sequence[Sequence[SavedRun]]
    ) -> _Question | None:
        now = self.time(run, name)
        if now is None or not runs:
            return None
        slower, faster = self.rules.thresholds(name)
        again = [one for one in self._again.get(id(run), ()) if self.time(one, name)]
        rest = self._rest(name, runs, [run, *again, *(one for stretch in stretches for one in stretch)])

        def of(one: SavedRun) -> Level | None:
            its = self.time(one, name)
            if its is None or rest is None:
                return its
            return replace(its, mean=its.mean - rest[id(one)]) if id(one) in rest else None

        least, unrelated, shift = LEAST_TIME_SD, 0.0, None
        if rest is not None:
            least, shift = LEAST_RELATIVE_SD, rest[id(run)]
            if any(id(one) not in rest for one in again):
                of_runs = float(np.var([rest[id(one)] for one in runs], ddof=1))
                unrelated = max(of_runs, LEAST_RELATIVE_SD**2)
                rest = {id(one): shift for one in again} | rest
            now = replace(now, mean=now.mean - shift)
        limits = Limits(math.log1p(slower), -math.log1p(-(faster or slower)), 1, least, FALSE_ALARM_LEVEL / self._tests)
        confirming = [level for one in again if (level := of(one))]
        earlier = self._earlier(runs, {id(one): level for one in runs if (level := of(one))})
        own = _own(stretches, {id(one): level for s in stretches for one in s if (level := of(one))}, limits.slower)
        return _Question(name, now, confirming, earlier, own, limits, shift, unrelated)

    def _ratio_question(
        self, run: SavedRun, name: str, runs: Sequence[SavedRun], stretches: Sequence[Sequence[SavedRun]]
    ) -> _Question | None:
        figure = SPEEDUP + name
        now = self.ratio(run, name)
        if now is None or not runs:
            return None
        levels = {id(one): level for one in runs if (level := self.ratio(one, name))}
        if not levels:
            return None
        # Its fall is this case's slowdown, its rise that of the baseline precision.
        slower, base_slower = (self.rules.thresholds(case)[0] for case in (name, self.bases[name]))
        limits = Limits(
            -math.log1p(-slower), math.log1p(base_slower), -1, LEAST_RATIO_SD, FALSE_ALARM_LEVEL / self._tests
        )
        again = [level for one in self._again.get(id(run), ()) if (level := self.ratio(one, name))]
        own = _own(
            stretches,
            {id(one): level for stretch in stretches for one in stretch if (level := self.ratio(one, name))},
            min(limits.slower, limits.faster),
        )
        return _Question(figure, now, again, self._earlier(runs, levels), own, limits, None)

    def _earlier(self, runs: Sequence[SavedRun], levels: Mapping[int, Level]) -> list[Level]:
        """A level for each commit."""
        return [
            mean_of([levels[id(run)] for run in of_commit])
            for of_commit in by_commit([run for run in runs if id(run) in levels])
        ]

    def _runs(self, figure: str) -> list[SavedRun]:
        return self.baseline(figure).level[-self.rules.last :]

    def time(self, run: SavedRun, name: str) -> Level | None:
        """Level of a case's time; None where this run has none that may be compared."""
        key = id(run), name
        if key not in self._levels:
            usable = id(run) in self._members[name] and not no_figure(run.speed[name])
            self._levels[key] = level(np.log(run.speed[name].judged.rounds)) if usable else None
        return self._levels[key]

    def ratio(self, run: SavedRun, name: str) -> Level | None:
        """Level of a case's log speedup over the blocks that both precisions have a round of."""
        base = self.bases.get(name)
        if base is None or self.time(run, name) is None or self.time(run, base) is None:
            return None
        key = id(run), SPEEDUP + name
        if key not in self._levels:
            case = run.speed[name]
            logs: list[float] = []
            if case.record.baseline == self.new.speed[name].record.baseline:
                logs = [
                    math.log(theirs / mine)
                    for mine, theirs in zip(*paired(case.judged, run.speed[base].judged), strict=True)
                ]
            self._levels[key] = level(logs) if len(logs) >= MIN_ROUNDS else None
        return self._levels[key]

    def _all_means(self, run: SavedRun) -> np.ndarray:
        """Of all cases of the new run, in its order, shape (cases,); NaN where this run has none."""
        if id(run) not in self._means:
            levels = [self.time(run, name) for name in self.new.speed]
            self._means[id(run)] = np.array([math.nan if one is None else one.mean for one in levels])
        return self._means[id(run)]

    def _rest(self, name: str, runs: Sequence[SavedRun], others: Sequence[SavedRun]) -> dict[int, float] | None:
        """Median shift of the cases of other groups in these runs, in logarithms, by the runs' id.

        A slow machine shifts all cases alike, and hides a slow case among them. None where the rest is no yardstick:
        too few cases or runs, or shifted by more than runs usually do, since then it may be the rest that has changed.

        Args:
            name: the case.
            runs: of its baseline.
            others: the run to judge first, then others, of which some may lack the rest: they are left out.
        """
        if len(runs) < MIN_HISTORY:
            return None
        group = hash(group_of(self.new.speed[name]))
        key = group, tuple(map(id, runs)), tuple(map(id, others))
        if key not in self._rests:
            self._rests[key] = self._shifts(self._groups != group, runs, others)
        return self._rests[key]

    def _shifts(
        self, elsewhere: np.ndarray, runs: Sequence[SavedRun], others: Sequence[SavedRun]
    ) -> dict[int, float] | None:
        means = np.array([self._all_means(run)[elsewhere] for run in (*runs, *others)])
        n = len(runs)
        means = means[:, ~np.isnan(means[: n + 1]).any(axis=0)]
        if means.shape[1] < MIN_OTHERS:
            return None
        deviations = means - np.median(means[:n], axis=0)
        enough = (~np.isnan(deviations)).sum(axis=1) >= MIN_OTHERS
        medians = (
            np.nanmedian(deviations[enough], axis=1) if np.isnan(deviations).any() else np.median(deviations, axis=1)
        )
        known = [run for run, ok in zip((*runs, *others), enough, strict=True) if ok]
        shifts = {id(run): float(shift) for run, shift in zip(known, medians, strict=True)}
        usual = [shifts[id(run)] for run in runs]
        return None if is_unusual(shifts[id(others[0])], usual, LEAST_TIME_SD, USUAL_SHIFT_LEVEL) else shifts


def _own(stretches: Sequence[Sequence[SavedRun]], levels: Mapping[int, Level], threshold: float) -> Spread:
    known = [
        [(levels[id(run)].mean, levels[id(run)].error) for run in stretch if id(run) in levels] for stretch in stretches
    ]
    return spread(known, FARTHEST_EXCURSION * threshold)
