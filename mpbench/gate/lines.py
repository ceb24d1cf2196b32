"""The gate's verdicts in words, the outcome first.

Pure functions from verdicts to lines of text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mpbench.gate.rules import Rules, looser, unused_patterns
from mpbench.gate.verdict import Kind, Verdict, is_red

MAX_ALIKE = 3
"""More verdicts without a figure that say the same of different cases become one line."""


def gate_lines(verdicts: Sequence[Verdict], rules: Rules | None = None) -> list[str]:
    """The outcome, then those verdicts that fail the gate, all others that are not SAME, levels that were accepted, the
    counts, and where the rules are given, in what they are looser than the defaults, and which pattern fits no case."""
    loosened = [f"  the rules are looser than the defaults: {words}"] if rules and (words := looser(rules)) else []
    if not verdicts:
        return ["GATE PASSED: no cases to judge", *loosened]
    shown = [verdict for verdict in verdicts if verdict.kind is not Kind.SAME]
    lines = [outcome(verdicts)]
    lines += [f"  {line}" for red in (True, False) for line in _grouped([v for v in shown if v.red == red])]
    lines += [f"  {verdict.accepted}: {verdict.name}" for verdict in verdicts if verdict.accepted]
    unused = [f"  {line}" for line in unused_patterns(rules, {v.case for v in verdicts})] if rules else []
    return [*lines, f"  {counts(verdicts)}", *loosened, *unused]


def _grouped(verdicts: Sequence[Verdict]) -> list[str]:
    """Each in a line; those that say the same of many cases in one."""
    alike: dict[tuple[Kind, str], list[Verdict]] = {}
    for verdict in verdicts:
        alike.setdefault((verdict.kind, verdict.detail if verdict.change is None else verdict.name), []).append(verdict)
    lines = []
    for (kind, detail), these in alike.items():
        if len(these) > MAX_ALIKE:
            lines.append(f"{kind.value}: {len(these)} cases and speedups: {detail}")
        else:
            lines += map(in_words, these)
    return lines


def outcome(verdicts: Sequence[Verdict]) -> str:
    """PASSED or FAILED, in one line."""
    if is_red(verdicts):
        return f"GATE FAILED: {counts(verdict for verdict in verdicts if verdict.red)}"
    if any(verdict.change for verdict in verdicts):
        return "GATE PASSED"
    kinds = {verdict.kind for verdict in verdicts}
    if Kind.UNSURE in kinds:
        return "GATE PASSED: nothing can be judged"
    if kinds & {Kind.MISSING, Kind.NOT_COMPARABLE}:
        return "GATE PASSED: no earlier run has these cases in these settings"
    return "GATE PASSED: there is no earlier run to compare with"


def counts(verdicts: Iterable[Verdict]) -> str:
    """How many there are of each kind."""
    return ", ".join(f"{count} {kind.value}" for kind, count in Counter(verdict.kind for verdict in verdicts).items())


def in_words(verdict: Verdict) -> str:
    """One verdict in one line."""
    change = ""
    if verdict.change is not None:
        c = verdict.change
        change = f" {100 * c.estimate:+.1f} % [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
    return f"{verdict.kind.value}: {verdict.name}{change}{f': {verdict.detail}' if verdict.detail else ''}"
