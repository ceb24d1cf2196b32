"""Which earlier runs a figure is compared with: those that make its level, and those that show how much runs differ."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from mpbench.records.runs import SavedRun
from mpbench.stats.change_test import MIN_HISTORY, Outcome

CONFIRMING_COMMITS = 3
"""A level that so many commits in a row are at is the new normal: half of the default five, rounded up."""

SPREAD_RUNS = 20
"""So many of the last runs show how much runs differ: more than make the level, since five say little of that."""


@dataclass
class Baseline:
    """What the runs so far make of one figure.

    A run that is judged SAME joins the level. One that is not waits: once a later run is near the level again, it was
    an excursion, which shows how much runs differ; once runs of several commits in a row are SLOWER, or FASTER, they
    are the new level. So a regression neither lowers the bar nor blurs it, and one commit run again and again moves
    nothing. While there are few runs, those that are UNSURE join too: a level has to begin somewhere.

    Attributes:
        level: runs at the level, oldest first.
        stretches: for this level and those before it, the runs that show how much runs differ.
        was: the level before this one; empty where this is the first.
        since: the first run at this level, where there was one before.
        entered: runs since this level was accepted.
    """

    level: list[SavedRun] = field(default_factory=list)
    stretches: list[list[SavedRun]] = field(default_factory=lambda: [[]])
    was: list[SavedRun] = field(default_factory=list)
    since: SavedRun | None = None
    entered: int = 0
    _waiting: list[SavedRun] = field(default_factory=list)
    _elsewhere: list[SavedRun] = field(default_factory=list)
    _direction: Outcome | None = None

    def enter(self, run: SavedRun, outcome: Outcome | None, near: bool, last: int) -> None:
        """Take in a run that was judged.

        Args:
            run: the run.
            outcome: what was found of the figure; None where there was nothing to compare with.
            near: whether its shift is within the thresholds.
            last: runs that make a level.
        """
        self.entered += 1
        if outcome in (Outcome.SLOWER, Outcome.FASTER):
            if outcome is not self._direction:
                self._elsewhere.clear()
            self._direction = outcome
            self._elsewhere.append(run)
            self._waiting.append(run)
            if len({commit_of(one) for one in self._elsewhere}) >= min(CONFIRMING_COMMITS, (last + 1) // 2):
                self.was, self.level = self.level, list(self._elsewhere)
                self.since, self.entered = self.level[0], 0
                self.stretches.append(list(self.level))
                self._waiting.clear()
                self._elsewhere.clear()
            return
        if outcome and not near and len(self.level) >= MIN_HISTORY:
            self._waiting.append(run)
            return
        if outcome in (Outcome.SAME, None) or len(self.level) < (last if near else MIN_HISTORY):
            self.level.append(run)
        self.stretches[-1] += [*self._waiting, run]
        self._waiting.clear()
        self._elsewhere.clear()

    def spread(self) -> list[list[SavedRun]]:
        """The last runs of `stretches`."""
        left, kept = SPREAD_RUNS, list[list[SavedRun]]()
        for stretch in reversed(self.stretches):
            if left > 0 and stretch:
                kept.append(stretch[-left:])
                left -= len(stretch)
        return kept[::-1]


def commit_of(run: SavedRun) -> Hashable:
    """Equal for runs of one commit; a run whose commit is unknown is one of its own."""
    return run.commit or id(run)


def by_commit(runs: Sequence[SavedRun]) -> list[list[SavedRun]]:
    """Runs of one commit together, since they say one thing; each alone where there is no other commit."""
    together: dict[Hashable, list[SavedRun]] = {}
    for run in runs:
        together.setdefault(commit_of(run), []).append(run)
    return list(together.values()) if len(together) > 1 else [[run] for run in runs]
