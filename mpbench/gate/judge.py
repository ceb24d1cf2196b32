"""The gate: is this run slower than the last ones? Verdicts per case and per speedup, by the rules of docs/gate.md.

Pure: saved runs in, verdicts out. Knows neither files nor pytest. What is not a time is judged in `checks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mpbench.gate.checks import accuracy_verdicts, missing_verdicts, skipped_step_verdicts
from mpbench.gate.figures import Figures, Key, baseline_of, group_of, no_figure
from mpbench.gate.findings import CHANGED, CREEPS, Findings, Found
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Figure, Kind, Verdict
from mpbench.records.arms import by_function
from mpbench.records.comparable import Difference
from mpbench.records.runs import SavedRun
from mpbench.stats.change_test import MIN_ROUNDS, Outcome

TIMES_OF = {Figure.SPEEDUP: Figure.TIME, Figure.SPEEDUP_CREEP: Figure.CREEP}
"""Which times tell why a speedup has changed."""

BLAME_ODDS = 100.0
"""By which the times must speak for one of the two to be blamed for a changed speedup."""

SUSPECT_ODDS = 3.0
"""The same before the two are measured again, which will tell more."""


def judge(new: SavedRun, earlier: Iterable[SavedRun], rules: Rules) -> list[Verdict]:
    """Verdicts on a run.

    Args:
        new: the run to judge.
        earlier: other runs, in any order; only those before it count, what was measured once counts once, and those
            that confirm a run count with it, this one included.
        rules: thresholds.

    Returns:
        One for each case, each speedup and each accuracy comparison, and for each case that has vanished.
    """
    return assess(new, earlier, rules)[0]


def assess(new: SavedRun, earlier: Iterable[SavedRun], rules: Rules) -> tuple[list[Verdict], list[str]]:
    """Verdicts on a run, and which of its cases are to be measured again before it may be red for them.

    Those are all cases of a group of which one's time or speedup is red or might be: a group is measured together. They
    are more than what is SLOWER in this run alone, since several processes can tell what one cannot.

    Args:
        new, earlier, rules: as in `judge`.

    Returns:
        What `judge` returns; full names, in the run's order, of the suspects.
    """
    again: dict[str, list[SavedRun]] = {}
    before: list[SavedRun] = []
    for run in sorted(earlier, key=lambda run: (run.time, run.path)):
        if run.confirms:
            again.setdefault(run.confirms, []).append(run)
        elif run.time < new.time:
            before.append(run)
    figures = Figures(new, before, {id: _each_once(runs) for id, runs in again.items()}, rules.last)
    of_speed = _Judge(Findings(figures, rules), len(before))
    verdicts = of_speed.verdicts()
    verdicts += missing_verdicts(new, before, rules)
    verdicts += skipped_step_verdicts(new, {name: runs[-rules.last :] for name, runs in figures.comparable.items()})
    verdicts += accuracy_verdicts(new, before, rules)
    return verdicts, of_speed.suspects()


def _each_once(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """Without copies: no two measurements have the same rounds."""
    kept: dict[object, SavedRun] = {}
    for run in runs:
        kept.setdefault(tuple(case.rounds for case in run.speed.values()), run)
    return list(kept.values())


class _Judge:
    """Makes verdicts of what was found of times and speedups.

    Args:
        before: how many runs there are before the new one.
    """

    def __init__(self, findings: Findings, before: int) -> None:
        self._findings, self._found, self._before = findings, findings.found, before
        self._figures, self._rules = findings.figures, findings.rules
        self._new = findings.figures.new

    def verdicts(self) -> list[Verdict]:
        """On the time of each case, its speedup, and what has crept in."""
        cases = list(self._new.speed)
        verdicts = [self._on_time(name) for name in cases]
        return verdicts + [v for on in (self._on_speedup, self._on_creep) for name in cases if (v := on(name))]

    def suspects(self) -> list[str]:
        """The cases of each group of which one's time or speedup is to be measured again."""
        cases = self._new.speed
        groups = {group_of(cases[name]) for figure, name in self._found if self._is_suspect((figure, name))}
        return [name for name, case in cases.items() if group_of(case) in groups]

    def _is_suspect(self, key: Key) -> bool:
        (figure, name), found = key, self._found[key]
        if not found.suspect or self._fails_if_faster(name):
            return found.suspect
        if figure not in TIMES_OF:
            return found.finding.shift > 0
        return self._log_odds(key) > math.log(SUSPECT_ODDS) or self._fails_if_faster(self._figures.bases[name])

    def _fails_if_faster(self, name: str) -> bool:
        return self._rules.thresholds(name)[1] is not None

    def _on_time(self, name: str) -> Verdict:
        key = Figure.TIME, name
        if reason := no_figure(self._new.speed[name]):
            return Verdict(name, Figure.TIME, Kind.UNSURE, reason)
        return self._on(key) if key in self._found else self._without_baseline(key, self._figures.differing[name])

    def _on_speedup(self, name: str) -> Verdict | None:
        """None where it has no speedup and earlier runs had none."""
        key, figures = (Figure.SPEEDUP, name), self._figures
        if not figures.level(self._new, key):
            return self._on_lost_speedup(name)
        if key in self._found:
            return self._on(key)
        base = figures.bases[name]
        differing = figures.differing[name] or figures.differing[base]
        if not differing and figures.comparable[name] and figures.comparable[base]:
            was = figures.comparable[name][-1].speed[name].record.baseline
            differing = [Difference("baseline", was, self._new.speed[name].record.baseline)]
        return self._without_baseline(key, differing)

    def _on_lost_speedup(self, name: str) -> Verdict | None:
        """Where an earlier run in the same settings had a speedup and this one cannot have one."""
        case, figures = self._new.speed[name], self._figures
        having = [run for run in figures.comparable[name] if run.speed[name].record.speedup is not None]
        bases = [base for run in having if (base := baseline_of(by_function(run.speed), run.speed[name]))]
        if not bases or case.record.control or no_figure(case):
            return None  # that its time cannot be judged is a verdict of its own
        if bases[-1] not in self._new.speed:
            return None  # MISSING, unless it was not selected
        reason = "this run has none, earlier ones had"
        if name in figures.bases:
            if no_figure(self._new.speed[figures.bases[name]]):
                return None
            reason = f"fewer than {MIN_ROUNDS} blocks have a round of both precisions"
        return Verdict(name, Figure.SPEEDUP, Kind.UNSURE, reason)

    def _on_creep(self, name: str) -> Verdict | None:
        """On what has crept in: only where it fails, and the last runs alone do not say so."""
        for figure, creep in CREEPS.items():
            now, then = self._found.get((figure, name)), self._found.get((creep, name))
            if now and then and now.finding.outcome is not then.finding.outcome:
                verdict = self._on((creep, name))
                if verdict.red and verdict.kind is Kind.SLOWER:
                    return verdict
        return None

    def _on(self, key: Key) -> Verdict:
        """On a figure of which something was found."""
        figure, name = key
        found = self._found[key]
        outcome, detail = found.finding.outcome, _because(found, figure in CREEPS.values())
        kind = Kind[outcome.name]
        if figure in (Figure.TIME, Figure.CREEP):
            red = outcome is Outcome.SLOWER or (outcome is Outcome.FASTER and self._fails_if_faster(name))
            if found.rest is not None:
                detail += f", relative to the other cases ({100 * math.expm1(found.rest):+.1f} %)"
        elif outcome in CHANGED:
            kind, red, blame = self._blamed(key)
            detail += f": {blame}"
        else:
            red = False
        return Verdict(name, figure, kind, detail, found.finding.change, red, self._accepted(key))

    def _blamed(self, key: Key) -> tuple[Kind, bool, str]:
        """Of a speedup that has changed: which of its two cases that is due to, and whether it fails for it."""
        name = key[1]
        finding, base = self._found[key].finding, self._figures.bases[name]
        slower, faster = (name, base) if finding.outcome is Outcome.SLOWER else (base, name)
        odds = self._log_odds(key)
        if odds >= math.log(BLAME_ODDS):
            return Kind.SLOWER, True, f"{slower} became slower"
        if odds <= -math.log(BLAME_ODDS):
            least = self._rules.thresholds(faster)[1]
            red = least is not None and abs(finding.shift) >= -math.log1p(-least)
            return Kind.FASTER, red, f"{faster} became faster"
        either = f"whether {slower} became slower or {faster} faster cannot be told"
        return Kind.UNSURE, False, f"{either}, times differ too much between runs"

    def _log_odds(self, key: Key) -> float:
        """Logarithm of the odds that the slower of the two slowed down against that the faster one sped up.

        Either explains the speedup's shift d. The mean of the two times' shifts is then +d/2 or -d/2, with the spread
        of times between runs: the ratio of the two likelihoods, after Student since the spread is an estimate.
        """
        figure, name = key
        time, speedup = TIMES_OF[figure], self._found[key].finding
        one, other = self._found.get((time, name)), self._found.get((time, self._figures.bases[name]))
        if one is None or other is None or (one.rest is None) != (other.rest is None):
            return 0.0
        mean, half = (one.finding.shift + other.finding.shift) / 2, abs(speedup.shift) / 2
        variance = (one.finding.spread**2 + other.finding.spread**2) / 2  # as if the two went wholly together
        degrees = min(one.finding.degrees, other.finding.degrees)
        against, towards = (math.log1p((mean + side * half) ** 2 / variance / degrees) for side in (1, -1))
        return (degrees + 1) / 2 * (against - towards)

    def _accepted(self, key: Key) -> str:
        """Words about a level that was accepted lately; empty without one."""
        moved, since = self._findings.moved(key), self._findings.baselines[key].since
        if moved is None or since is None:
            return ""
        commit = since.commit[:7] or f"{since.time:%Y-%m-%d}"
        return f"new level accepted: {100 * math.expm1(moved):+.1f} %, since {commit}"

    def _without_baseline(self, key: Key, differing: Sequence[Difference]) -> Verdict:
        figure, name = key
        if differing:
            return Verdict(name, figure, Kind.NOT_COMPARABLE, ", ".join(map(str, differing)))
        several = f"none of the {self._before} earlier runs has it"
        return Verdict(name, figure, Kind.NEW, several if self._before > 1 else "no earlier run has it")


def _because(found: Found, long_ago: bool) -> str:
    finding = found.finding
    runs = f"against {finding.runs} run{'s' if finding.runs > 1 else ''}{' 10 to 20 runs ago' if long_ago else ''}"
    if found.again:
        each = ", ".join(f"{100 * math.expm1(shift):+.1f} %" for shift in found.again)
        runs += f", measured again: {each}"
    if finding.outcome is Outcome.UNSURE:
        return f"{finding.advice}, {runs}"
    return runs if finding.outcome is Outcome.SAME else f"p {finding.p:.1g}, {runs}"
