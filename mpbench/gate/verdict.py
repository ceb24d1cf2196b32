"""What the gate judges of a case, and its verdict on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from mpbench.stats.intervals import Interval


class Figure(Enum):
    """What is judged of a case; the value stands before the case's name where it is printed."""

    TIME = ""
    SPEEDUP = "speedup of "
    CREEP = "creep of "
    SPEEDUP_CREEP = "creep of speedup of "
    SKIPPED_STEPS = "skipped steps of "
    ACCURACY = "accuracy of "


class Kind(Enum):
    """What the verdict is, as it is printed: each `stats.change_test.Outcome`, and what takes no test of a change."""

    SLOWER = "SLOWER"
    FASTER = "FASTER"
    SAME = "SAME"
    UNSURE = "UNSURE"
    FAILED = "FAILED"
    NEW = "NEW"
    NOT_COMPARABLE = "NOT COMPARABLE"
    MISSING = "MISSING"
    NOT_SELECTED = "NOT SELECTED"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one figure.

    Attributes:
        case: full name.
        figure: what is judged of it; TIME where the case as a whole is MISSING or NOT SELECTED.
        kind: what the verdict is.
        detail: why, in words; may be empty.
        change: of the figure, a fraction (0.05: 5 % more), with its 95 % interval; None without one.
        red: whether it fails the gate.
        accepted: of a level that was accepted lately, in words; empty without one.
    """

    case: str
    figure: Figure
    kind: Kind
    detail: str = ""
    change: Interval | None = None
    red: bool = False
    accepted: str = ""

    @property
    def name(self) -> str:
        """What is judged, as it is printed."""
        return f"{self.figure.value}{self.case}"


def is_red(verdicts: Iterable[Verdict]) -> bool:
    """Whether the gate fails."""
    return any(verdict.red for verdict in verdicts)
