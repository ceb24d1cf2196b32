"""The gate: is this run slower than the last ones? Verdicts per case and per speedup, by the rules of docs/gate.md.

Pure: saved runs in, verdicts out. Knows neither files nor pytest. What is not a time is judged in `gate_checks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mpbench.gate.checks import accuracy_verdicts, missing_verdicts, skipped_step_verdicts
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import NEW, NOT_COMPARABLE, SPEEDUP, Verdict
from mpbench.records.comparable import configuration
from mpbench.records.rounds import paired
from mpbench.records.runs import SavedCase, SavedRun
from mpbench.stats.change_test import (
    FASTER,
    MIN_HISTORY,
    MIN_ROUNDS,
    SAME,
    SLOWER,
    UNSURE,
    Finding,
    Level,
    Limits,
    compare,
    is_unusual,
    level,
    pooled_excess,
    shift_excess,
)

FALSE_ALARM_LEVEL = 0.003
"""Share of unchanged runs in which any case or speedup may be called changed, divided among all that are judged. A
third of the 1 % aimed at: how much runs differ is itself an estimate, and bursts are not normal."""

LEAST_TIME_SD = 0.01
"""Least standard deviation that a step's time is taken to have between runs, on an idle machine."""

LEAST_RELATIVE_SD = 0.005
"""The same for times relative to the rest of the run: what slows all of it cancels, what slows a part does not."""

LEAST_RATIO_SD = 0.003
"""The same for speedups: their rounds are measured within seconds of each other."""

SLOW_MACHINE_FACTOR = 4.0
"""By which a CPU may slow down unseen, for a case or a whole run: a virtual one has been seen to take 2.6 times as long
over hours, with nothing else running on it. Times on a CPU are no evidence below it; speedups are."""

BUSY_SHARE = 0.05
"""Share of all cores' time that others used while a case was measured on a CPU, above which its figures say nothing."""

SHORT_HISTORY_FACTOR = 2.0
"""So many times the least is assumed with fewer than MIN_HISTORY earlier runs: it is hardly known how runs differ."""

MIN_ALIKE = 5
"""Speedups from which on their shifts show it instead."""

MIN_OTHERS = 4
"""Cases of other groups below which there is no rest of the run to relate to."""

USUAL_SHIFT_LEVEL = 0.05
"""Two-sided level at which the rest of the run has shifted unusually: it is then no yardstick."""

CONFIRMING_RUNS = 3
"""A level that so many runs in a row are at is the new normal: half of the default five, rounded up."""

BLAME_ODDS = 3.0
"""By which the times must speak for one of the two to be blamed for a changed speedup."""

LOOKBACK = 4
"""So many times `last` runs are looked through for those that make the baseline."""


def judge(new: SavedRun, earlier: Iterable[SavedRun], rules: Rules) -> list[Verdict]:
    """Verdicts on a run.

    Args:
        new: the run to judge.
        earlier: other runs, in any order; only those before it count, and what was measured once counts once.
        rules: thresholds.

    Returns:
        One for each case, each speedup and each accuracy comparison, and for each case that has vanished.
    """
    before = sorted((run for run in earlier if run.time < new.time), key=lambda run: (run.time, run.path))
    book = _Book(new, before, rules)
    found: dict[str, _Found] = {}
    for run in book.timeline:
        found = book.judged(run)
        book.enter(run, found)
    verdicts = [book.time_verdict(name, found) for name in new.cases]
    verdicts += [v for name in new.cases if (v := book.speedup_verdict(name, found)) is not None]
    verdicts += missing_verdicts(new, before, rules)
    verdicts += skipped_step_verdicts(new, {name: runs[-rules.last :] for name, runs in book.comparable.items()})
    return verdicts + accuracy_verdicts(new, before, rules)


@dataclass(frozen=True)
class _Found:
    """A finding, and the median shift of the rest of the run where it is relative to that; None where it is not."""

    finding: Finding
    rest: float | None = None


@dataclass(frozen=True)
class _Question:
    """A figure of a run, the same of the runs of its baseline, and what counts as a change; `rest` as in _Found."""

    figure: str
    now: Level
    earlier: Sequence[Level]
    limits: Limits
    rest: float | None


@dataclass
class _Baseline:
    """The runs that a figure is compared with, and the last ones that were elsewhere, all in one direction."""

    accepted: list[SavedRun] = field(default_factory=list)
    elsewhere: list[SavedRun] = field(default_factory=list)
    direction: str = ""

    def enter(self, run: SavedRun, kind: str, confirming: int) -> None:
        if kind not in (SLOWER, FASTER):
            self.accepted.append(run)
            self.elsewhere.clear()
            return
        if kind != self.direction:
            self.elsewhere.clear()
        self.direction = kind
        self.elsewhere.append(run)
        if len(self.elsewhere) >= confirming:
            self.accepted, self.elsewhere = self.elsewhere, []


class _Book:
    """Goes through the runs in the order in which they were made, and keeps which of them make each figure's baseline.

    A run in which a figure was SLOWER or FASTER does not enter that figure's baseline, so that a regression stays red;
    a level that CONFIRMING_RUNS runs in a row are at becomes the baseline.
    """

    def __init__(self, new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> None:
        self.new, self.rules = new, rules
        self.comparable: dict[str, list[SavedRun]] = {}
        self._differing: dict[str, dict[str, tuple[object, object]]] = {}
        for name, case in new.cases.items():
            self.comparable[name], self._differing[name] = _comparable(new, case, before)
        self._members = {
            name: {id(run) for run in runs[-LOOKBACK * rules.last :]} | {id(new)}
            for name, runs in self.comparable.items()
        }
        wanted = set().union(*self._members.values())
        self.timeline = [*(run for run in before if id(run) in wanted), new]
        self._levels: dict[tuple[int, str], Level | None] = {}
        self._baselines: dict[str, _Baseline] = {}
        names = [name for name in new.cases if self._time(new, name) is not None]
        self._bases = {name: base for name in names if (base := _baseline_of(new, new.cases[name]))}
        # A time is red in one direction, a speedup in both: either of its two cases may have become slower.
        self._alpha = FALSE_ALARM_LEVEL / max(len(names) + 2 * len(self._bases), 1)

    def enter(self, run: SavedRun, found: Mapping[str, _Found]) -> None:
        """Let a run that was judged into the baselines."""
        confirming = min(CONFIRMING_RUNS, (self.rules.last + 1) // 2)
        for name in self.new.cases:
            for figure, its in ((name, self._time(run, name)), (SPEEDUP + name, self._ratio(run, name))):
                if its is not None:
                    kind = found[figure].finding.kind if figure in found else UNSURE
                    self._baselines.setdefault(figure, _Baseline()).enter(run, kind, confirming)

    def judged(self, run: SavedRun) -> dict[str, _Found]:
        """What is found of a run's times and speedups against the baselines so far."""
        questions = [self._time_question(run, name) for name in self.new.cases]
        questions += [self._ratio_question(run, name) for name in self.new.cases]
        found: dict[str, _Found] = {}
        for kind in (LEAST_TIME_SD, LEAST_RELATIVE_SD, LEAST_RATIO_SD):
            alike = [q for q in questions if q is not None and q.limits.least_sd == kind]
            usual = pooled_excess(q.earlier for q in alike)
            short = [q for q in alike if len(q.earlier) < MIN_HISTORY]
            factor = SHORT_HISTORY_FACTOR
            if kind == LEAST_RATIO_SD and len(short) >= MIN_ALIKE:
                # Nothing but noise moves speedups of different models together or apart.
                usual, factor = max(usual, shift_excess([(q.now, q.earlier) for q in short])), 1.0
            for q in alike:
                limits = replace(q.limits, least_sd=factor * kind) if q in short else q.limits
                finding = compare(q.now, q.earlier, limits, usual)
                if kind != LEAST_RATIO_SD and self.new.cases[q.figure].record.device == "cpu":
                    finding = _on_a_cpu(finding)
                found[q.figure] = _Found(finding, q.rest)
        return found

    def _time_question(self, run: SavedRun, name: str) -> _Question | None:
        now, runs = self._time(run, name), self._runs(name)
        if now is None or not runs:
            return None
        slower, faster = self.rules.thresholds(name)
        earlier = [level for each in runs if (level := self._time(each, name))]
        shifts = self._rest(run, name, runs)
        if shifts is not None:
            now = _less(now, shifts[-1])
            earlier = [_less(level, shift) for level, shift in zip(earlier, shifts[:-1], strict=True)]
        least = LEAST_TIME_SD if shifts is None else LEAST_RELATIVE_SD
        limits = Limits(math.log1p(slower), -math.log1p(-(faster or slower)), 1, least, self._alpha)
        return _Question(name, now, earlier, limits, None if shifts is None else float(shifts[-1]))

    def _ratio_question(self, run: SavedRun, name: str) -> _Question | None:
        figure = SPEEDUP + name
        now, runs = self._ratio(run, name), self._runs(figure)
        if now is None or not runs:
            return None
        earlier = [level for each in runs if (level := self._ratio(each, name))]
        # Its fall is this case's slowdown, its rise that of the baseline precision.
        slower, base_slower = (self.rules.thresholds(case)[0] for case in (name, self._bases[name]))
        limits = Limits(-math.log1p(-slower), math.log1p(base_slower), -1, LEAST_RATIO_SD, self._alpha)
        return _Question(figure, now, earlier, limits, None)

    def time_verdict(self, name: str, found: Mapping[str, _Found]) -> Verdict:
        """On one case's time."""
        if self._time(self.new, name) is None:
            return Verdict(name, UNSURE, False, None, _no_figure(self.new.cases[name]))
        if name not in found:
            return _without_baseline(name, self._differing[name])
        one = found[name]
        red = one.finding.kind == SLOWER or (one.finding.kind == FASTER and self.rules.thresholds(name)[1] is not None)
        relative = "" if one.rest is None else f", relative to the other cases ({100 * math.expm1(one.rest):+.1f} %)"
        return Verdict(name, one.finding.kind, red, one.finding.change, f"{_because(one.finding)}{relative}")

    def speedup_verdict(self, name: str, found: Mapping[str, _Found]) -> Verdict | None:
        """On one case's speedup; None where it has none."""
        if name not in self._bases or self._ratio(self.new, name) is None:
            return None
        title, base = SPEEDUP + name, self._bases[name]
        if title not in found:
            differing = self._differing[name] or self._differing[base]
            if not differing and self.comparable[name] and self.comparable[base]:
                was = self.comparable[name][-1].cases[name].record.baseline
                differing = {"baseline": (was, self.new.cases[name].record.baseline)}
            return _without_baseline(title, differing)
        finding = found[title].finding
        detail = _because(finding)
        if finding.kind not in (SLOWER, FASTER):
            return Verdict(title, finding.kind, False, finding.change, detail)
        slower, faster = (name, base) if finding.kind == SLOWER else (base, name)
        odds = self._log_odds(found.get(name), found.get(base), finding)
        if odds >= math.log(BLAME_ODDS):
            return Verdict(title, SLOWER, True, finding.change, f"{detail}: {slower} became slower")
        if odds <= -math.log(BLAME_ODDS):
            least = self.rules.thresholds(faster)[1]
            red = least is not None and abs(finding.shift) >= -math.log1p(-least)
            return Verdict(title, FASTER, red, finding.change, f"{detail}: {faster} became faster")
        detail += (
            f": whether {slower} became slower or {faster} faster cannot be told, times differ too much between runs"
        )
        return Verdict(title, UNSURE, False, finding.change, detail)

    def _log_odds(self, one: _Found | None, other: _Found | None, ratio: Finding) -> float:
        """Logarithm of the odds that the slower of the two slowed down against that the faster one sped up.

        Either explains the ratio's shift d. The mean of the two times' shifts is then +d/2 or -d/2, with the spread of
        times between runs: the ratio of the two normal likelihoods.
        """
        if one is None or other is None or (one.rest is None) != (other.rest is None):
            return 0.0
        mean = (one.finding.shift + other.finding.shift) / 2
        variance = (one.finding.spread**2 + other.finding.spread**2) / 2  # as if the two went wholly together
        return mean * abs(ratio.shift) / variance

    def _runs(self, figure: str) -> list[SavedRun]:
        baseline = self._baselines.get(figure)
        return baseline.accepted[-self.rules.last :] if baseline else []

    def _time(self, run: SavedRun, name: str) -> Level | None:
        """Level of a case's time; None where this run has none that may be compared."""
        key = id(run), name
        if key not in self._levels:
            usable = id(run) in self._members[name] and not _no_figure(run.cases[name])
            self._levels[key] = level(np.log(run.cases[name].judged.rounds)) if usable else None
        return self._levels[key]

    def _ratio(self, run: SavedRun, name: str) -> Level | None:
        """Level of a case's log speedup over the blocks that both precisions have a round of."""
        base = self._bases.get(name)
        if base is None or self._time(run, name) is None or self._time(run, base) is None:
            return None
        key = id(run), SPEEDUP + name
        if key not in self._levels:
            case = run.cases[name]
            logs: list[float] = []
            if case.record.baseline == self.new.cases[name].record.baseline:
                logs = [
                    math.log(theirs / mine)
                    for mine, theirs in zip(*paired(case.judged, run.cases[base].judged), strict=True)
                ]
            self._levels[key] = level(logs) if len(logs) >= MIN_ROUNDS else None
        return self._levels[key]

    def _rest(self, run: SavedRun, name: str, runs: Sequence[SavedRun]) -> np.ndarray | None:
        """Median shift of the cases of other groups in these runs and, last, in this one, in logarithms.

        A slow machine shifts all cases alike, and hides a slow case among them. None where the rest is no yardstick:
        too few cases or runs, or shifted by more than runs usually do, since then it may be the rest that has changed.
        """
        if len(runs) < MIN_HISTORY:
            return None
        group = _group(self.new.cases[name])
        means = []
        for other, case in self.new.cases.items():
            levels = [self._time(each, other) for each in (*runs, run)]
            if _group(case) != group and None not in levels:
                means.append([one.mean for one in levels if one])
        if len(means) < MIN_OTHERS:
            return None
        others = np.array(means)
        shifts = np.median(others - np.median(others[:, :-1], axis=1, keepdims=True), axis=0)
        return None if is_unusual(float(shifts[-1]), shifts[:-1], LEAST_TIME_SD, USUAL_SHIFT_LEVEL) else shifts


def _comparable(
    new: SavedRun, case: SavedCase, before: Sequence[SavedRun]
) -> tuple[list[SavedRun], dict[str, tuple[object, object]]]:
    """The runs with this case in this configuration; without any, the fields in which the last one differs."""
    wanted = configuration(new, case)
    name = case.fullname
    rounds = {case.rounds}  # no two measurements are alike: a resumed run holds what an interrupted one has saved
    having = []
    for run in before:
        if name in run.cases and not _no_figure(run.cases[name]) and run.cases[name].rounds not in rounds:
            rounds.add(run.cases[name].rounds)
            having.append(run)
    fitting = [run for run in having if configuration(run, run.cases[name]) == wanted]
    if fitting or not having:
        return fitting, {}
    last = configuration(having[-1], having[-1].cases[name])
    return [], {field: (last[field], wanted[field]) for field in wanted if last[field] != wanted[field]}


def _no_figure(case: SavedCase) -> str:
    """Why a case's rounds can neither be judged nor be a baseline; empty where they can."""
    if case.record.throttled:
        return "measured while the GPU was throttled"
    if len(case.judged.rounds) < MIN_ROUNDS:
        return f"fewer than {MIN_ROUNDS} rounds"
    others = case.record.others_cpu_share
    if case.record.device == "cpu" and others is not None and others > BUSY_SHARE:
        return f"measured while other processes used {others:.0%} of this machine's CPU"
    return ""


def _on_a_cpu(finding: Finding) -> Finding:
    if finding.kind not in (SLOWER, FASTER) or abs(finding.shift) > math.log(SLOW_MACHINE_FACTOR):
        return finding
    return replace(finding, kind=UNSURE, advice="on a CPU that may be the machine: speedups tell")


def _without_baseline(name: str, differing: Mapping[str, tuple[object, object]]) -> Verdict:
    if not differing:
        return Verdict(name, NEW, False, None, "no earlier run has it")
    fields = ", ".join(f"{field} {old} -> {now}" for field, (old, now) in differing.items())
    return Verdict(name, NOT_COMPARABLE, False, None, fields)


def _because(finding: Finding) -> str:
    runs = f"against {finding.runs} run{'s' if finding.runs > 1 else ''}"
    if finding.kind == UNSURE:
        return f"{finding.advice}, {runs}"
    return runs if finding.kind == SAME else f"p {finding.p:.1g}, {runs}"


def _less(one: Level, shift: float) -> Level:
    return replace(one, mean=one.mean - float(shift))


def _baseline_of(run: SavedRun, case: SavedCase) -> str | None:
    """Name of the case of the same group that the case's speedup refers to."""
    wanted = case.record.baseline
    if case.record.speedup is None:
        return None
    for name, other in run.cases.items():
        r = other.record
        if _group(other) == _group(case) and not r.control and r.precision == wanted and other is not case:
            return name
    return None


def _group(case: SavedCase) -> tuple[str, str, str]:
    """Equal for the precisions of which one's speedup refers to another."""
    r = case.record
    return case.fullname.partition("[")[0], r.name, r.phase
