"""What cases, their settings and their figures are called, wherever they are shown. Pure: from records to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.speed import PHASES, SpeedCase, SpeedRecord
from mpbench.stats.intervals import Interval

MIB, GIB = 2**20, 2**30

MAX_EACH = 20
"""Of one setting at most so many values are named."""


def each(values: Iterable[object]) -> str:
    """The different values of a setting; if they are many, the first ones."""
    found = list(dict.fromkeys(map(str, values)))
    more = [f"and {len(found) - MAX_EACH} more"] if len(found) > MAX_EACH else []
    return "/".join([*found[:MAX_EACH], *more])


def setting_label(records: Sequence[SpeedRecord | AccuracyRecord]) -> str:
    """How cases were measured; a setting that differs between them shows all its values."""
    per_replica = " per replica" if any(getattr(r, "replicas", 1) > 1 for r in records) else ""
    return (
        f"{each(map(device_label, records))}, batch {each(r.batch_size for r in records)}{per_replica}, "
        f"{each(f'{r.image_size}x{r.image_size}' for r in records)} px, "
        f"XLA {each('on' if r.jit else 'off' for r in records)}, profile {each(r.profile for r in records)}"
    )


def by_phase(cases: Iterable[SpeedCase]) -> dict[str, list[SpeedCase]]:
    """Cases by phase, training first, in each those of one model together, in the order in which models appear."""
    phases: dict[str, dict[str, list[SpeedCase]]] = {phase: {} for phase in PHASES}
    for case in cases:
        groups = phases.setdefault(case.record.phase, {})
        groups.setdefault(group_label(case.record), []).append(case)
    return {phase: [case for group in groups.values() for case in group] for phase, groups in phases.items() if groups}


def device_label(record: SpeedRecord | AccuracyRecord) -> str:
    return "a CPU" if record.device == "cpu" else record.device_name


def precision_label(record: SpeedRecord) -> str:
    """A case's precision, and that it is the control."""
    return f"{record.precision} (control)" if record.control else record.precision


def group_label(record: SpeedRecord) -> str:
    """A case's model and variant: what its group is called."""
    return " ".join(filter(None, [record.model, record.variant]))


def arm_label(record: SpeedRecord) -> str:
    """What tells a case from the others of its group."""
    return " ".join(filter(None, [record.precision, record.mode, "(control)" if record.control else ""]))


def change_label(change: Interval | None) -> str:
    """A relative change with its 95 % interval, in per cent; empty without one."""
    if change is None:
        return ""
    return f"{100 * change.estimate:+.1f} % [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def interval_label(interval: Interval | None) -> str:
    """A ratio with its 95 % interval; empty without one. Ratios from 1000 on have three digits."""
    if interval is None:
        return ""
    values = (interval.estimate, interval.low, interval.high)
    estimate, low, high = (f"{x:.3f}" if x < 1000 else f"{x:.3g}" for x in values)
    return f"{estimate} [{low}, {high}]"
