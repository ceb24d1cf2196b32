"""What a run was measured with, what was typed, and its raw numbers. Pure functions from a saved run to tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mpbench.records.comparable import COMPARABLE_FACTS, configuration, differences
from mpbench.records.diagnostics import PeakRecord
from mpbench.records.rounds import numbers
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase, SpeedRecord
from mpbench.report.accuracy import accuracy_setting
from mpbench.report.content import Block, Cell, Command, Number, Sentence, Table, number
from mpbench.report.labels import GIB, MIB, device_label, each, interval_label, precision_label, setting_label
from mpbench.report.marks import marks_of

MOST_ROUNDS = 5000
"""With more, rounds are not listed one by one: a page must stay small, and the JSON has all of them."""

SHOWN_OF_COMMIT = 10
"""Characters of its id."""


def title(run: SavedRun) -> str:
    return f"Mixed precision on {_device(run)}, {run.time:%Y-%m-%d}"


def blocks(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    """The section: the environment, the settings, the command, the numbers."""
    found: list[Block] = [_environment(run), _settings(run)]
    if run.command:
        found += [Sentence("What was typed, to repeat it:"), Command(run.command)]
    else:
        found.append(Sentence("This run does not say what was typed."))
    if run.speed:
        found.append(_cases(run.speed.values()))
        count = sum(len(case.rounds) for case in run.speed.values())
        if count <= MOST_ROUNDS:
            found.append(_rounds(run.speed.values()))
        else:
            found.append(Sentence(f"{count:,} rounds are too many to list here; the JSON file has them."))
    return found


def side_by_side(one: SavedRun, other: SavedRun) -> Table:
    """Both runs' cases, in milliseconds per step, and what differs in how they were measured."""
    rows = []
    for name in dict.fromkeys([*one.speed, *other.speed]):
        earlier, this = one.speed.get(name), other.speed.get(name)
        row: dict[str, Cell] = {"case": name}
        for when, case in (("earlier", earlier), ("this", this)):
            row[f"{when}, ms"] = _ms(case.median_seconds) if case else "not measured"
        for when, case in (("earlier", earlier), ("this", this)):
            row[f"{when} speedup"] = _speedup(case.record) if case else ""
        differing = ""
        if earlier and this:
            then, now = configuration(one.facts, earlier.record), configuration(other.facts, this.record)
            differing = ", ".join(map(str, differences(then, now)))
        rows.append(row | {"measured differently": differing})
    return Table.of(f"Run of {one.time:%Y-%m-%d %H:%M} beside this one (UTC)", rows, sortable=True)


def _device(run: SavedRun) -> str:
    labels = [device_label(case.record) for case in run.speed.values()]
    labels += [device_label(case.record) for case in run.accuracy.values()]
    if labels:
        return each(labels)
    kinds = {diagnosed.record.device for diagnosed in run.diagnostics.values()}
    return "a CPU" if kinds == {"cpu"} else str(run.facts.get("gpu") or "a GPU")


def _environment(run: SavedRun) -> Table:
    facts: dict[str, Any] = {"measured": f"{run.time:%Y-%m-%d %H:%M} UTC", "file": run.path.name}
    facts["commit"] = f"{run.commit[:SHOWN_OF_COMMIT]}{' and uncommitted changes' if run.dirty else ''}"
    facts |= {"branch": run.branch, "machine": run.facts.get("node")}
    facts |= {name: run.facts.get(name) for name in COMPARABLE_FACTS}
    others = {name: value for name, value in run.facts.items() if name not in facts and name != "node"}
    if isinstance(memory := others.pop("gpu_memory_bytes", None), int):
        facts["gpu memory"] = f"{memory / GIB:.1f} GiB"
    shown = {name: value for name, value in (facts | others).items() if value not in (None, "")}
    return Table.of("Environment", ({"what": name.replace("_", " "), "value": str(shown[name])} for name in shown))


def _settings(run: SavedRun) -> Table:
    rows = []
    if speed := [case.record for case in run.speed.values()]:
        replicas, layout = each(r.replicas for r in speed), each(r.layout for r in speed) or "unknown"
        rows.append(("speed", f"{setting_label(speed)}, replicas {replicas}, layout {layout}"))
    if accuracy := [case.record for case in run.accuracy.values()]:
        rows.append(("accuracy", accuracy_setting(accuracy)))
    diagnostics = [case.record for case in run.diagnostics.values()]
    if sized := [record for record in diagnostics if not isinstance(record, PeakRecord)]:
        sizes = f"batch {each(r.batch_size for r in sized)}, {each(r.image_size for r in sized)} px"
        rows.append(("diagnostics", f"{len(diagnostics)} cases, {sizes}"))
    return Table("Settings", ("of", "measured with"), tuple(rows))


def _cases(cases: Iterable[SpeedCase]) -> Table:
    rows: list[dict[str, Cell]] = []
    for case in cases:
        r, counted = case.record, case.judged.rounds
        rows.append(
            {
                "model": r.name,
                "precision": precision_label(r),
                "phase": r.phase,
                "median, ms": _ms(case.median_seconds),
                "least, ms": _ms(min(counted)),
                "most, ms": _ms(max(counted)),
                "rounds": number(r.rounds),
                "throttled rounds": number(len(numbers(r.throttled_blocks))),
                "images/s": number(r.images_per_second, ",.1f"),
                "speedup [95 % interval]": _speedup(r),
                "peak MiB": Number(f"{r.peak_memory_bytes / MIB:,.0f}", r.peak_memory_bytes),
                "first step, s": number(r.first_step_seconds, ".1f"),
                "skipped steps": number(r.skipped_steps),
                "notes": ", ".join(mark.value for mark in marks_of(case)),
            }
        )
    return Table.of("All cases", rows, sortable=True)


def _rounds(cases: Iterable[SpeedCase]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        r = case.record
        out = numbers(r.throttled_blocks)
        for block, seconds in zip(case.blocks, case.rounds, strict=True):
            note = "throttled" if block in out else ""
            rows.append((r.name, precision_label(r), r.phase, number(block), _ms(seconds), note))
    columns = ("model", "precision", "phase", "block", "ms per step", "note")
    return Table("Rounds", columns, tuple(rows), sortable=True)


def _ms(seconds: float) -> Number:
    return Number(f"{1000 * seconds:.3f}", seconds)


def _speedup(record: SpeedRecord) -> Cell:
    return Number(interval_label(record.interval), record.interval.estimate) if record.interval else ""
