"""May two figures be compared? What must agree between them, of the machines and of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpbench.records.speed import CaseRecord

if TYPE_CHECKING:
    from mpbench.records.diagnostics import Probed
    from mpbench.records.runs import SavedCase, SavedRun

COMPARABLE_FACTS = ("gpu", "driver", "cuda", "cudnn", "tensorflow", "keras", "cpu", "cores")
"""Facts of the machine that must agree before figures of two runs may be compared."""

COMPARABLE_SETTINGS = ("device", "device_name", "profile", "batch_size", "image_size", "jit", "tf32", "replicas")
"""Settings of a case that must agree before two of its figures may be compared."""


def configuration(run: SavedRun, case: SavedCase | Probed) -> dict[str, Any]:
    """All that must agree before this case's figures may be compared with its figures in another run.

    Returns:
        Values by the names in COMPARABLE_FACTS and COMPARABLE_SETTINGS, in that order; None where unknown.
    """
    facts = {name: run.facts.get(name) for name in COMPARABLE_FACTS}
    return facts | {name: getattr(case.record, name, None) for name in COMPARABLE_SETTINGS}


COMPARABLE = ("device", "device_name", "batch_size", "image_size", "jit", "tf32", "replicas")
"""Settings that must agree before two figures of one case may be compared."""


def not_comparable(now: CaseRecord, then: CaseRecord) -> str | None:
    """A line that names the settings in which a case and its earlier self differ; None where they agree."""
    differing = [
        f"{field} {getattr(then, field)} -> {getattr(now, field)}"
        for field in COMPARABLE
        if getattr(then, field) != getattr(now, field)
    ]
    return f"NOT COMPARABLE: {now.phase}, {now.case_name}: {', '.join(differing)}" if differing else None
