"""What the gate says about one case, speedup or comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpbench.stats.intervals import Interval

SPEEDUP, ACCURACY, SKIPPED, CREEP = "speedup of ", "accuracy of ", "skipped steps of ", "creep of "
NEW, MISSING, NOT_COMPARABLE, FAILED = "NEW", "MISSING", "NOT COMPARABLE", "FAILED"
NOT_SELECTED = "NOT SELECTED"


@dataclass(frozen=True)
class Verdict:
    """What is said about one case or speedup.

    Attributes:
        name: the case's full name, with one of the prefixes above for what is not its time.
        kind: one of the constants above or of `evidence`.
        red: whether it fails the gate.
        change: of the time or of the speedup, a fraction (0.05: 5 % more), with its 95 % interval; None without one.
        detail: in words, may be empty.
        accepted: of a level that was accepted lately, in words; empty without one.
    """

    name: str
    kind: str
    red: bool
    change: Interval | None
    detail: str
    accepted: str = ""

    @property
    def case(self) -> str:
        """The case's full name alone."""
        name = self.name
        for prefix in (CREEP, SPEEDUP, ACCURACY, SKIPPED):
            name = name.removeprefix(prefix)
        return name


def is_red(verdicts: Iterable[Verdict]) -> bool:
    """Whether the gate fails."""
    return any(verdict.red for verdict in verdicts)
