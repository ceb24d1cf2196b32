"""How cases are called and in which order they stand in the figures. Pure: from records to text."""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.errors import printable
from mpbench.records.speed import CaseRecord
from mpbench.report import thesis
from mpbench.report.drawing import fitted


def by_phase(records: Sequence[CaseRecord]) -> dict[str, list[CaseRecord]]:
    """Records by phase, in each those of one model together, in the order in which models and precisions appear."""
    phases: dict[str, dict[str, list[CaseRecord]]] = {phase: {} for phase in thesis.TABLE}
    for r in records:
        phases.setdefault(r.phase, {}).setdefault(heading(r), []).append(r)
    return {phase: [r for rows in of.values() for r in rows] for phase, of in phases.items() if of}


def heading(r: CaseRecord) -> str:
    return printable(" ".join(filter(None, [r.model, r.variant])))


def arm(r: CaseRecord) -> str:
    """What tells a case from others of its model, for a margin."""
    return fitted(arm_in_full(r))


def arm_in_full(r: CaseRecord) -> str:
    return printable(" ".join(filter(None, [r.precision, r.mode, "(control)" if r.control else ""])))
