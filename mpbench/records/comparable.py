"""May two figures be compared? The one list of what must agree, and the one function that says what does not.

`--benchmark-compare`, the gate, the history, the report, `explain` and `--mp-resume` go by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mpbench.records.accuracy import ACCURACY
from mpbench.records.speed import SPEED, SpeedRecord

if TYPE_CHECKING:
    from mpbench.records.measured import CaseKind, Record

COMPARABLE_FACTS = (
    *("gpu", "driver", "cuda", "cudnn", "tensorflow", "keras", "cpu", "cores"),
    *("cpu_affinity", "cpu_quota", "threads", "onednn"),
)
"""Facts of the machine that must agree before figures of two runs may be compared. The second line's are None where
nothing was set, as in runs that were saved before they were recorded."""

STEP_SETTINGS = ("device", "device_name", "batch_size", "image_size", "jit", "replicas")
"""How a step was run, whatever its precision: what must agree before two figures are of one step."""

COMPARABLE_SETTINGS: Mapping[CaseKind[Any], tuple[str, ...]] = {
    SPEED: ("model", "precision", "parameters", *STEP_SETTINGS, "layout", "tf32", "data"),
    ACCURACY: (
        *("model", "precision", "baseline", *STEP_SETTINGS),
        *("profile", "data_digest", "weights", "preprocessing"),
    ),
}
"""Settings that must agree before figures of two cases of a kind may be compared.

A profile is a set of defaults: the batch and the image size that it gives stand here themselves, and its tolerance and
time limit only say when measuring stops. So its name need not agree, but for accuracy: there it stands for the recipe,
such as the learning rate, of which the record says nothing else.
"""

UNRECORDED = {"layout": "channels_last", "replicas": 1, "data": "synthetic images"}
"""Values of settings in records of kinds and versions that do not have them."""

SHOWN_CHARACTERS = 60
"""Of a value: where one is longer, a difference names the field alone."""


class Difference(NamedTuple):
    """A fact or a setting in which two figures differ; as text `driver 550 -> 580`."""

    field: str
    then: object
    now: object

    def __str__(self) -> str:
        values = in_words(self.then), in_words(self.now)
        return self.field if max(map(len, values)) > SHOWN_CHARACTERS else f"{self.field} {' -> '.join(values)}"


def configuration(facts: Mapping[str, Any], record: Record | None = None) -> dict[str, Any]:
    """All that must agree before a case's figures may be compared with its figures in another run.

    Args:
        facts: of the machine, as `SavedRun.facts`.
        record: of a speed or an accuracy case; None for the machine alone.

    Returns:
        Values by the names in COMPARABLE_FACTS and, with a record, in its kind's COMPARABLE_SETTINGS, in that order;
        None where unknown.
    """
    found = {name: facts.get(name) for name in COMPARABLE_FACTS}
    return found if record is None else found | settings(record, COMPARABLE_SETTINGS[record.kind])


def settings(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    """Some of a record's settings by name."""
    found = {name: getattr(record, name, None) for name in names}
    return {name: UNRECORDED.get(name, value) if value in (None, "") else value for name, value in found.items()}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """In what two configurations differ; none where their figures may be compared."""
    names = dict.fromkeys((*then, *now))
    return [Difference(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


def not_comparable(now: SpeedRecord, then: SpeedRecord) -> str | None:
    """A line that names the settings in which a case and its earlier self differ; None where they agree."""
    found = differences(configuration({}, then), configuration({}, now))
    return f"NOT COMPARABLE: {now.phase}, {now.case_name}: {', '.join(map(str, found))}" if found else None


def in_words(value: object) -> str:
    """A fact's or a setting's value for people."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    return str(value)
