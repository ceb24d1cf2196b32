"""Which case is another one's baseline, and whether a ratio that a record claims is one that the rounds allow.

The rounds are what was measured. A ratio is kept as it was saved where they allow it, however its interval was made,
and computed from them where they deny it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mpbench.records.rounds import paired
from mpbench.stats.intervals import MIN_PAIRS, Interval, speedup_interval

if TYPE_CHECKING:
    from mpbench.records.measured import Measured
    from mpbench.records.speed import SpeedRecord

ALLOWED_QUANTILES = (0.1, 0.9)
"""Of the paired rounds' ratios, between which their estimate lies: a mean that is trimmed by a fifth at either end lies
between the fifths, and a mean of several visits' means not far outside."""

ROUNDING = 1e-6
"""Relative: older files keep fewer digits of a round than of what was computed from it."""

RATIOS = {
    "speedup": ("speedup", "speedup_low", "speedup_high"),
    "reference_ratio": ("reference_ratio", "reference_low", "reference_high"),
}


class Arms:
    """The arms of a run's groups, each found in one step.

    Args:
        cases: of one run; of two alike the first counts.
    """

    def __init__(self, cases: Iterable[Measured[SpeedRecord]]) -> None:
        self._found: defaultdict[tuple[str, str, str], list[Measured[SpeedRecord]]] = defaultdict(list)
        self._modes: defaultdict[tuple[str, str, str, str, str], list[Measured[SpeedRecord]]] = defaultdict(list)
        for case in cases:
            r = case.record
            if not r.control:
                self._found[r.name, r.phase, r.precision].append(case)
                self._modes[r.model, r.variant, r.phase, r.precision, r.mode].append(case)

    def of_precision(self, record: SpeedRecord, precision: str) -> list[Measured[SpeedRecord]]:
        """The arms of that precision in the group of a record."""
        return self._found.get((record.name, record.phase, precision), [])

    def baseline_of(self, case: Measured[SpeedRecord]) -> Measured[SpeedRecord] | None:
        """The case that another one's speedup refers to; None where it is not among them."""
        of = self.of_precision(case.record, case.record.baseline) if case.record.baseline else []
        return of[0] if of else None

    def referred_to(self, case: Measured[SpeedRecord], field: str) -> list[Measured[SpeedRecord]]:
        """What a ratio of RATIOS refers to; several where that cannot be told."""
        r = case.record
        if field == "speedup":
            of = self.of_precision(r, r.baseline) if r.baseline else []
        else:
            of = self._modes.get((r.model, r.variant, r.phase, r.precision, r.reference), []) if r.reference else []
        return [other for other in of if other is not case]


def by_the_rounds(cases: Mapping[str, Measured[SpeedRecord]]) -> tuple[dict[str, SpeedRecord], list[str]]:
    """The records in which a ratio is none that the rounds allow, with what the rounds say in its place.

    Args:
        cases: of one run, by full name.

    Returns:
        Changed records by full name, and a line for each ratio that was denied.
    """
    arms = by_function(cases)
    changed: dict[str, SpeedRecord] = {}
    lines = []
    for name, case in cases.items():
        for field, fields in RATIOS.items():
            claimed = getattr(case.record, field)
            bases = arms[function_of(name)].referred_to(case, field) if claimed is not None else []
            if len(bases) != 1:
                continue  # one that is not in the file cannot be asked
            theirs, mine = _per_image(bases[0], case)
            if _allowed(claimed, theirs, mine):
                continue
            of = speedup_interval(theirs, mine) if len(mine) >= MIN_PAIRS else None
            values: Any = (of.estimate, of.low, of.high) if of else (None, None, None)
            changed[name] = replace(changed.get(name, case.record), **dict(zip(fields, values, strict=True)))
            lines.append(f"{name}: {field} {claimed:.4g} is not what its rounds say: {_in_words(of)}")
    return changed, lines


def by_function(cases: Mapping[str, Measured[SpeedRecord]]) -> dict[str, Arms]:
    """Arms by their test: cases of two tests are not measured together, though they may be called alike.

    Args:
        cases: of one run, by full name.
    """
    functions: dict[str, list[Measured[SpeedRecord]]] = {}
    for name, case in cases.items():
        functions.setdefault(function_of(name), []).append(case)
    return {function: Arms(of) for function, of in functions.items()}


def function_of(fullname: str) -> str:
    """The test of which a full name is one case."""
    return fullname.partition("[")[0]


def _per_image(base: Measured[SpeedRecord], case: Measured[SpeedRecord]) -> tuple[list[float], list[float]]:
    """Paired rounds of both, in seconds per image of one replica."""
    theirs, mine = paired(base.judged, case.judged)
    return [s / base.record.batch_size for s in theirs], [s / case.record.batch_size for s in mine]


def _allowed(claimed: float, theirs: list[float], mine: list[float]) -> bool:
    if len(mine) < MIN_PAIRS:
        return False
    least, most = np.quantile(np.array(theirs) / np.array(mine), ALLOWED_QUANTILES)
    return bool(least * (1 - ROUNDING) <= claimed <= most * (1 + ROUNDING))


def _in_words(of: Interval | None) -> str:
    if of is None:
        return f"fewer than {MIN_PAIRS} are paired, which is none"
    return f"{of.estimate:.4g} [{of.low:.4g}, {of.high:.4g}], which is shown"
