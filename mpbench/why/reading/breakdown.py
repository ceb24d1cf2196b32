"""Where a step's time goes, in rows that add up to the step as it was measured; and what two precisions differ in.

What belongs here: sums over a profile's record, and how two of them are laid side by side. No text but rows' names.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from mpbench.records.profile import CLASSES, PASSES, LayerRow, ProfileRecord, read_profile
from mpbench.records.speed import SpeedCase

IDLE = "device idle"
"""The measured step less the work in it: time in which the device waits for the host."""

IDLE_ON_CPU = "no operation runs"
"""IDLE's name in tables of a CPU."""

LONGER = "ran longer under the profiler"
"""By how much the work in the profiled steps exceeds the measured step. Negative, so that no row hides it."""


class By(Enum):
    """What the rows of a breakdown are, as the header of its table says."""

    CLASS = "class of work"
    PASS = "pass"
    LAYER = "layer"


SMALL_SECONDS = 10e-6
"""An operation on a CPU that takes no longer spends most of this on being scheduled (2 to 5 us)."""


@dataclass(frozen=True)
class Breakdown:
    """A step's time; seconds per step, of several GPUs their mean.

    Attributes:
        record: what was profiled.
        step_seconds: as the rounds measured it, without a profiler; of a trace alone, as it was under the profiler.
    """

    record: ProfileRecord
    step_seconds: float

    @property
    def busy_seconds(self) -> float:
        return self.record.busy_seconds

    @property
    def idle_seconds(self) -> float:
        return max(self.step_seconds - self.busy_seconds, 0.0)

    @property
    def idle_share(self) -> float:
        return self.idle_seconds / self.step_seconds

    @property
    def profiler_seconds(self) -> float:
        """Time that the profiler added to a step; no row contains it."""
        return self.record.span_seconds - self.step_seconds

    @property
    def small_share(self) -> float:
        """Share of the step between operations or in operations of at most SMALL_SECONDS."""
        small = [
            self.record.seconds(one.ns)
            for one in self.record.operations
            if one.count and one.ns / 1e9 / one.count <= SMALL_SECONDS
        ]
        return (self.idle_seconds + math.fsum(small)) / self.step_seconds

    def rows(self, by: By) -> dict[str, float]:
        """Seconds by row, with IDLE, and LONGER where there is any: they add up to the step."""
        ns: defaultdict[str, int] = defaultdict(int)
        for row in self.record.rows:
            for (part, kind), value in row.ns.items():
                ns[{By.CLASS: kind, By.PASS: part, By.LAYER: row_name(row)}[by]] += value
        by_size = sorted(ns, key=lambda name: -ns[name])
        order = {By.CLASS: CLASSES, By.PASS: PASSES, By.LAYER: by_size}[by]
        return {name: self.record.seconds(ns[name]) for name in order if ns.get(name)} | self.rest()

    def rest(self) -> dict[str, float]:
        """The rows that are not work: IDLE, and LONGER where there is any."""
        rest = self.step_seconds - self.busy_seconds
        return {IDLE: max(rest, 0.0)} | ({LONGER: rest} if rest < 0 else {})

    def class_seconds(self, kind: str) -> float:
        return self.rows(By.CLASS).get(kind, 0.0)

    def row_seconds(self, row: LayerRow) -> float:
        return self.record.seconds(row.total_ns)


def breakdown_of(case: SpeedCase) -> Breakdown | None:
    """The breakdown of a speed case's step; None if it was not profiled."""
    text = case.record.step_profile
    return Breakdown(_read(text), case.median_seconds) if text else None


@functools.lru_cache(maxsize=64)
def _read(text: str) -> ProfileRecord:
    return read_profile(text)


def row_name(row: LayerRow) -> str:
    """What a row is called beside others."""
    return row.name or (f"other {row.type} layers" if row.type else "other layers")


def aligned(breakdowns: Mapping[str, Breakdown]) -> dict[str, dict[str, float]]:
    """Seconds by layer of several precisions, in the same rows."""
    named = [{row.name for row in of.record.rows if row.is_layer} for of in breakdowns.values()]
    common = set.intersection(*named) if named else set()
    return {key: _folded(of, common) for key, of in breakdowns.items()}


def _folded(breakdown: Breakdown, alone: Collection[str]) -> dict[str, float]:
    ns: defaultdict[str, int] = defaultdict(int)
    for row in breakdown.record.rows:
        kept = row.name in alone or (row.name and not row.is_layer)
        ns[row.name if kept else row_name(LayerRow("", row.type))] += row.total_ns
    by_size = sorted(ns, key=lambda name: -ns[name])
    return {name: breakdown.record.seconds(ns[name]) for name in by_size} | breakdown.rest()


def adding_up(seconds: Mapping[str, float], unit: float) -> dict[str, int]:
    """Values in whole units that add up to their rounded sum: each is rounded up or down (largest remainders)."""
    scaled = {key: value / unit for key, value in seconds.items()}
    whole = {key: math.floor(value) for key, value in scaled.items()}
    missing = round(math.fsum(scaled.values())) - sum(whole.values())
    by_remainder = sorted(scaled, key=lambda key: whole[key] - scaled[key])
    return {key: whole[key] + (key in by_remainder[:missing]) for key in seconds}
