"""The gate: is this run slower than the last ones? Verdicts per case and per speedup, by the rules of docs/gate.md.

Pure: saved runs in, verdicts out. Knows neither files nor pytest. What is not a time is judged in `checks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mpbench.errors import printable
from mpbench.gate.book import Book, Found
from mpbench.gate.cases import baseline_of, group_of, no_figure
from mpbench.gate.checks import accuracy_verdicts, missing_verdicts, skipped_step_verdicts
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import CREEP, NEW, NOT_COMPARABLE, SPEEDUP, Verdict
from mpbench.records.arms import by_function
from mpbench.records.runs import SavedRun
from mpbench.stats.change_test import FASTER, MIN_ROUNDS, SAME, SLOWER, UNSURE, Finding

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
    book = open_book(new, earlier, rules)
    verdicts, suspects = speed_verdicts(book)
    verdicts += missing_verdicts(new, book.before, rules)
    verdicts += skipped_step_verdicts(new, {name: runs[-rules.last :] for name, runs in book.comparable.items()})
    return verdicts + accuracy_verdicts(new, book.before, rules), suspects


def speed_verdicts(book: Book) -> tuple[list[Verdict], list[str]]:
    """Those of `assess` that are about times and speedups, on the run that a book is open at."""
    new, found = book.new, book.found()
    verdicts = [_time_verdict(book, name, found) for name in new.speed]
    verdicts += [v for name in new.speed if (v := _speedup_verdict(book, name, found)) is not None]
    verdicts += [v for name in new.speed if (v := _creep_verdict(book, name, found)) is not None]
    groups = {group_of(case) for name, case in new.speed.items() if _is_suspect(book, name, found)}
    return verdicts, [name for name, case in new.speed.items() if group_of(case) in groups]


def _is_suspect(book: Book, name: str, found: Mapping[str, Found]) -> bool:
    fails_if_faster = book.rules.thresholds(name)[1] is not None
    for prefix in ("", CREEP):
        time, speedup = found.get(prefix + name), found.get(prefix + SPEEDUP + name)
        if time and time.suspect and (time.finding.shift > 0 or fails_if_faster):
            return True
        if speedup and speedup.suspect:
            base = book.bases[name]
            odds = _log_odds(found.get(prefix + name), found.get(prefix + base), speedup.finding)
            if odds > math.log(SUSPECT_ODDS) or fails_if_faster or book.rules.thresholds(base)[1] is not None:
                return True
    return False


def open_book(new: SavedRun, earlier: Iterable[SavedRun], rules: Rules) -> Book:
    """The book of a run, with the runs before it and what confirms them; arguments as in `judge`."""
    again: dict[str, list[SavedRun]] = {}
    before = list[SavedRun]()
    for run in sorted(earlier, key=lambda run: (run.time, run.path)):
        if run.confirms:
            again.setdefault(run.confirms, []).append(run)
        elif run.time < new.time:
            before.append(run)
    return Book(new, before, {id: _each_once(runs) for id, runs in again.items()}, rules)


def _each_once(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """Without copies: no two measurements have the same rounds."""
    kept: dict[object, SavedRun] = {}
    for run in runs:
        kept.setdefault(tuple(case.rounds for case in run.speed.values()), run)
    return list(kept.values())


def _time_verdict(book: Book, name: str, found: Mapping[str, Found]) -> Verdict:
    """On one case's time."""
    if book.time(book.new, name) is None:
        return Verdict(name, UNSURE, False, None, no_figure(book.new.speed[name]))
    if name not in found:
        return _without_baseline(book, name, book.differing[name])
    one = found[name]
    red = one.finding.kind == SLOWER or (one.finding.kind == FASTER and book.rules.thresholds(name)[1] is not None)
    relative = "" if one.rest is None else f", relative to the other cases ({100 * math.expm1(one.rest):+.1f} %)"
    detail = f"{_because(one)}{relative}"
    return Verdict(name, one.finding.kind, red, one.finding.change, detail, _accepted(book, name))


def _speedup_verdict(book: Book, name: str, found: Mapping[str, Found]) -> Verdict | None:
    """On one case's speedup; None where it has none and earlier runs had none."""
    title = SPEEDUP + name
    if name not in book.bases or book.ratio(book.new, name) is None:
        return _lost_speedup(book, name)
    base = book.bases[name]
    if title not in found:
        differing = book.differing[name] or book.differing[base]
        if not differing and book.comparable[name] and book.comparable[base]:
            was = book.comparable[name][-1].cases[name].record.baseline
            differing = {"baseline": (was, book.new.speed[name].record.baseline)}
        return _without_baseline(book, title, differing)
    one = found[title]
    kind, red, detail = _blamed(book, name, found, one)
    return Verdict(title, kind, red, one.finding.change, detail, _accepted(book, title))


def _lost_speedup(book: Book, name: str) -> Verdict | None:
    """Where an earlier run in the same settings had a speedup and this one cannot have one."""
    case = book.new.speed[name]
    having = [run for run in book.comparable[name] if run.speed[name].record.speedup is not None]
    before = [run for run in having if baseline_of(by_function(run.speed), run.speed[name])]
    if not before or case.record.control or book.time(book.new, name) is None:
        return None  # where its time cannot be judged, that has been said
    base = baseline_of(by_function(before[-1].cases), before[-1].cases[name])
    if base not in book.new.speed:
        return None  # MISSING, unless it was not selected
    if name in book.bases:
        if book.time(book.new, book.bases[name]) is None:
            return None
        reason = f"fewer than {MIN_ROUNDS} blocks have a round of both precisions"
    else:
        reason = "this run has none, earlier ones had"
    return Verdict(SPEEDUP + name, UNSURE, False, None, reason)


def _creep_verdict(book: Book, name: str, found: Mapping[str, Found]) -> Verdict | None:
    """On what has crept in: only where it fails, and the last runs alone do not say so."""
    one, now = found.get(CREEP + name), found.get(name)
    if one and one.finding.kind == SLOWER and now and now.finding.kind != SLOWER:
        return Verdict(CREEP + name, SLOWER, True, one.finding.change, f"{_because(one)} 10 to 20 runs ago")
    speedup, now = found.get(CREEP + SPEEDUP + name), found.get(SPEEDUP + name)
    if speedup and speedup.finding.kind in (SLOWER, FASTER) and now and now.finding.kind != speedup.finding.kind:
        its = {figure.removeprefix(CREEP): of for figure, of in found.items() if figure.startswith(CREEP)}
        kind, red, detail = _blamed(book, name, its, speedup)
        if red and kind == SLOWER:
            return Verdict(CREEP + SPEEDUP + name, kind, red, speedup.finding.change, f"{detail}, in 10 to 20 runs")
    return None


def _blamed(book: Book, name: str, found: Mapping[str, Found], one: Found) -> tuple[str, bool, str]:
    """Kind, redness and reason of a speedup's verdict: which of its two cases a change is due to."""
    finding, base, detail = one.finding, book.bases[name], _because(one)
    if finding.kind not in (SLOWER, FASTER):
        return finding.kind, False, detail
    slower, faster = (name, base) if finding.kind == SLOWER else (base, name)
    odds = _log_odds(found.get(name), found.get(base), finding)
    if odds >= math.log(BLAME_ODDS):
        return SLOWER, True, f"{detail}: {slower} became slower"
    if odds <= -math.log(BLAME_ODDS):
        least = book.rules.thresholds(faster)[1]
        red = least is not None and abs(finding.shift) >= -math.log1p(-least)
        return FASTER, red, f"{detail}: {faster} became faster"
    detail += f": whether {slower} became slower or {faster} faster cannot be told, times differ too much between runs"
    return UNSURE, False, detail


def _log_odds(one: Found | None, other: Found | None, ratio: Finding) -> float:
    """Logarithm of the odds that the slower of the two slowed down against that the faster one sped up.

    Either explains the ratio's shift d. The mean of the two times' shifts is then +d/2 or -d/2, with the spread of
    times between runs: the ratio of the two likelihoods, after Student since the spread is an estimate.
    """
    if one is None or other is None or (one.rest is None) != (other.rest is None):
        return 0.0
    mean, half = (one.finding.shift + other.finding.shift) / 2, abs(ratio.shift) / 2
    variance = (one.finding.spread**2 + other.finding.spread**2) / 2  # as if the two went wholly together
    degrees = min(one.finding.degrees, other.finding.degrees)
    against, towards = (math.log1p((mean + side * half) ** 2 / variance / degrees) for side in (1, -1))
    return (degrees + 1) / 2 * (against - towards)


def _accepted(book: Book, figure: str) -> str:
    """What is said of a level that was accepted lately; empty without one."""
    moved, since = book.moved(figure), book.baseline(figure).since
    if moved is None or since is None:
        return ""
    commit = printable(since.commit[:7]) or f"{since.time:%Y-%m-%d}"
    return f"new level accepted: {100 * math.expm1(moved):+.1f} %, since {commit}"


def _without_baseline(book: Book, name: str, differing: Mapping[str, tuple[object, object]]) -> Verdict:
    if not differing:
        others = len(book.before)
        none = f"none of the {others} earlier runs has it" if others > 1 else "no earlier run has it"
        return Verdict(name, NEW, False, None, none)
    fields = ", ".join(f"{field} {old} -> {now}" for field, (old, now) in differing.items())
    return Verdict(name, NOT_COMPARABLE, False, None, fields)


def _because(found: Found) -> str:
    finding = found.finding
    runs = f"against {finding.runs} run{'s' if finding.runs > 1 else ''}"
    if found.again:
        each = ", ".join(f"{100 * math.expm1(shift):+.1f} %" for shift in found.again)
        runs += f", measured again: {each}"
    if finding.kind == UNSURE:
        return f"{finding.advice}, {runs}"
    return runs if finding.kind == SAME else f"p {finding.p:.1g}, {runs}"
