"""What a run was measured with, how to repeat it, and its raw numbers.

Pure functions from a saved run to tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.comparable import COMPARABLE_FACTS, configuration, differences
from mpbench.records.diagnostics import PeakRecord
from mpbench.records.rounds import numbers
from mpbench.records.runs import SavedRun
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report.content import Block, Cell, Command, Number, Sentence, Table
from mpbench.report.tables import MIB, device_label, each, precision_label, throttled_rounds

MOST_ROUNDS = 5000
"""That are listed one by one: a page must stay small. The JSON has all of them."""

GIB = 2**30
COMMIT_CHARACTERS = 10


def title(run: SavedRun) -> str:
    return f"Mixed precision on {_device(run)}, {run.time:%Y-%m-%d}"


def blocks(run: SavedRun) -> list[Block]:
    """The environment, the settings, the command, the numbers."""
    found: list[Block] = [_environment(run), _settings(run)]
    if run.command:
        found += [Sentence("What was typed, to repeat it:"), Command(run.command)]
    else:
        found += [Sentence("This run does not say what was typed. From its settings, about:"), Command(_command(run))]
    if run.speed:
        found.append(_cases(run.speed.values()))
        number = sum(len(case.rounds) for case in run.speed.values())
        if number <= MOST_ROUNDS:
            found.append(_rounds(run.speed.values()))
        else:
            found.append(Sentence(f"{number:,} rounds are too many to list here; the JSON file has them."))
    return found


def side_by_side(one: SavedRun, other: SavedRun) -> Table:
    """Both runs' cases, in milliseconds per step, and what differs in how they were measured."""
    rows = []
    for name in dict.fromkeys([*one.speed, *other.speed]):
        pair = [run.speed.get(name) for run in (one, other)]
        ms: list[Cell] = [_ms(case.median_seconds) if case else "not measured" for case in pair]
        speedups: list[Cell] = [_speedup(case.record) if case else "" for case in pair]
        differing = ""
        if pair[0] and pair[1]:
            then, now = configuration(one.facts, pair[0].record), configuration(other.facts, pair[1].record)
            differing = ", ".join(map(str, differences(then, now)))
        rows.append((name, *ms, *speedups, differing))
    columns = ("case", "earlier, ms", "this, ms", "earlier speedup", "this speedup", "measured differently")
    return Table(f"Run of {one.time:%Y-%m-%d %H:%M} beside this one (UTC)", columns, tuple(rows), sortable=True)


def _device(run: SavedRun) -> str:
    labels = [device_label(case.record) for case in run.speed.values()]
    labels += [device_label(case.record) for case in run.accuracy.values()]
    if labels:
        return each(labels)
    kinds = {diagnosed.record.device for diagnosed in run.diagnostics.values()}
    return "a CPU" if kinds == {"cpu"} else str(run.facts.get("gpu") or "a GPU")


def _environment(run: SavedRun) -> Table:
    facts: dict[str, Any] = {"measured": f"{run.time:%Y-%m-%d %H:%M} UTC", "file": run.path.name}
    facts["commit"] = f"{run.commit[:COMMIT_CHARACTERS]}{' and uncommitted changes' if run.dirty else ''}"
    facts["branch"] = run.branch
    facts |= {"machine": run.facts.get("node")} | {name: run.facts.get(name) for name in COMPARABLE_FACTS}
    others = {k: v for k, v in run.facts.items() if k not in facts and k != "node"}
    if isinstance(memory := others.pop("gpu_memory_bytes", None), int):
        facts["gpu memory"] = f"{memory / GIB:.1f} GiB"
    facts |= others
    rows = tuple((name.replace("_", " "), str(value)) for name, value in facts.items() if value not in (None, ""))
    return Table("Environment", ("what", "value"), rows)


def _settings(run: SavedRun) -> Table:
    speed = [case.record for case in run.speed.values()]
    accuracy = [case.record for case in run.accuracy.values()]
    rows: list[tuple[Cell, ...]] = []
    if speed:
        own = {"replicas": each(r.replicas for r in speed), "layout": each(r.layout for r in speed) or "unknown"}
        rows += [("speed", *pair) for pair in (_shared(speed) | own).items()]
    if accuracy:
        own = {"data": each(r.data for r in accuracy), "weights": each(r.weights for r in accuracy)}
        rows += [("accuracy", *pair) for pair in (_shared(accuracy) | own).items()]
    diagnostics = [
        diagnosed.record for diagnosed in run.diagnostics.values() if not isinstance(diagnosed.record, PeakRecord)
    ]
    if diagnostics:
        rows.append(("causes", "cases", str(len(run.diagnostics))))
        sizes = {"batch, images": "batch_size", "image, pixels": "image_size"}
        rows += [("causes", title, each(getattr(r, name) for r in diagnostics)) for title, name in sizes.items()]
    return Table("Settings", ("of", "setting", "value"), tuple(rows))


def _shared(records: Sequence[CaseRecord | AccuracyRecord]) -> dict[str, str]:
    """The settings that both kinds of records have."""
    return {
        "profile": each(r.profile for r in records),
        "batch, images": each(r.batch_size for r in records),
        "image, pixels": each(r.image_size for r in records),
        "XLA": each("on" if r.jit else "off" for r in records),
    }


def _command(run: SavedRun) -> str:
    """A command that measures about the same."""
    records = [case.record for case in run.speed.values()]
    of: list[CaseRecord] | list[AccuracyRecord] = records or [case.record for case in run.accuracy.values()]
    words = ["pytest", "bench/" if records or not of else "tests/test_accuracy.py"]
    if of:
        precisions = dict.fromkeys([*(r.baseline or "" for r in of), *(r.precision for r in of)])
        words += [f"--mp-models={','.join(dict.fromkeys(r.model for r in of))}"]
        words += [f"--mp-precisions={','.join(name for name in precisions if name)}"]
        words += [f"--mp-device={of[0].device}", f"--mp-profile={of[0].profile}"]
        sizes = {"--mp-batch-size": {r.batch_size for r in of}, "--mp-image-size": {r.image_size for r in of}}
        words += [f"{option}={values.pop()}" for option, values in sizes.items() if len(values) == 1]
    return " ".join(words)


def _cases(cases: Iterable[SpeedCase]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        r, counted = case.record, case.judged.rounds
        marks = [word for word, holds in ((r.doubt, r.doubt), ("THROTTLED", r.throttled_blocks)) if holds]
        marks += ["not settled"] * (not r.warmup_settled) + ["skipped steps"] * bool(r.skipped_steps)
        rows.append(
            (
                r.name,
                precision_label(r),
                r.phase,
                _ms(case.median_seconds),
                _ms(min(counted)),
                _ms(max(counted)),
                Number(str(r.rounds), r.rounds),
                Number(str(throttled_rounds(r)), throttled_rounds(r)),
                Number(f"{r.images_per_second:,.1f}", r.images_per_second),
                _speedup(r),
                Number(f"{r.peak_memory_bytes / MIB:,.0f}", r.peak_memory_bytes),
                Number(f"{r.first_step_seconds:.1f}", r.first_step_seconds),
                Number(str(r.skipped_steps), r.skipped_steps),
                ", ".join(marks),
            )
        )
    columns = (
        *("model", "precision", "phase", "median, ms", "least, ms", "most, ms", "rounds", "throttled rounds"),
        *("images/s", "speedup [95 % interval]", "peak MiB", "first step, s", "skipped steps", "notes"),
    )
    return Table("All cases", columns, tuple(rows), sortable=True)


def _rounds(cases: Iterable[SpeedCase]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        r = case.record
        out = numbers(r.throttled_blocks)
        for block, seconds in zip(case.blocks, case.rounds, strict=True):
            note = "throttled" if block in out else ""
            rows.append((r.name, precision_label(r), r.phase, Number(str(block), block), _ms(seconds), note))
    columns = ("model", "precision", "phase", "block", "ms per step", "note")
    return Table("Rounds", columns, tuple(rows), sortable=True)


def _ms(seconds: float) -> Number:
    return Number(f"{1000 * seconds:.3f}", seconds)


def _speedup(r: CaseRecord) -> Cell:
    if r.interval is None:
        return ""
    return Number(f"{r.interval.estimate:.3f} [{r.interval.low:.3f}, {r.interval.high:.3f}]", r.interval.estimate)
