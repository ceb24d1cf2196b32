"""May two figures be compared? What must agree between them, of the machines and of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpbench.records.speed import CaseRecord

if TYPE_CHECKING:
    from mpbench.records.measured import Measured, Record
    from mpbench.records.runs import SavedRun

COMPARABLE_FACTS = (
    *("gpu", "driver", "cuda", "cudnn", "tensorflow", "keras", "cpu", "cores"),
    *("cpu_affinity", "cpu_quota", "threads", "onednn"),
)
"""Facts of the machine that must agree before figures of two runs may be compared. The second line's are None where
nothing was set, as in runs that were saved before they were recorded."""

COMPARABLE_SETTINGS = (
    *("model", "precision", "parameters"),
    *("device", "device_name", "profile", "batch_size", "image_size", "layout", "jit", "tf32", "replicas"),
)
"""Settings of a case that must agree before two of its figures may be compared."""

DEFAULT_LAYOUT = "channels_last"
"""Keras's: of runs that were saved before it was recorded."""


def configuration(run: SavedRun, case: Measured[Any]) -> dict[str, Any]:
    """All that must agree before this case's figures may be compared with its figures in another run.

    Returns:
        Values by the names in COMPARABLE_FACTS and COMPARABLE_SETTINGS, in that order; None where unknown.
    """
    facts = {name: run.facts.get(name) for name in COMPARABLE_FACTS}
    return facts | {name: _setting(case.record, name) for name in COMPARABLE_SETTINGS}


def _setting(record: Record, name: str) -> Any:
    value = getattr(record, name, None)
    return DEFAULT_LAYOUT if name == "layout" and value == "" else value


def not_comparable(now: CaseRecord, then: CaseRecord) -> str | None:
    """A line that names the settings in which a case and its earlier self differ; None where they agree."""
    differing = [
        f"{field} {_setting(then, field)} -> {_setting(now, field)}"
        for field in COMPARABLE_SETTINGS
        if field != "profile" and _setting(then, field) != _setting(now, field)
    ]
    return f"NOT COMPARABLE: {now.phase}, {now.case_name}: {', '.join(differing)}" if differing else None
