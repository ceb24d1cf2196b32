"""The answer as a page of text and as JSON's data: the verdicts first, then tables that add up.

What belongs here: lines and columns. What is concluded is in `verdict`, what adds up in `breakdown`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpbench.config.precisions import CPU_NOTE
from mpbench.errors import printable
from mpbench.records.profile import CLASSES, TENSOR_CORES, LayerRow
from mpbench.text_table import render
from mpbench.why.reading.breakdown import (
    IDLE,
    IDLE_ON_CPU,
    LONGER,
    Breakdown,
    By,
    adding_up,
    aligned,
    row_name,
)
from mpbench.why.reading.matched import MatchedRuns, StepRecords
from mpbench.why.reading.roofline import Roof
from mpbench.why.reading.verdict import ProfiledArm, is_host_bound, verdict
from mpbench.why.reading.words import ms, percent, speedup_label

SCHEMA_KEY, SCHEMA = "mpbench_explanation_schema", 2
"""Schema 1 described isolated layers."""

WIDTH = 118
"""The longest line of prose, in characters."""

SHOWN_LAYERS = 12
TOTAL = "= the step"

MENTIONED_CPU_SHARE = 0.1
"""From this share of all cores' time on, the page mentions that others computed too."""


def page_lines(found: MatchedRuns) -> list[str]:
    """The whole answer: the verdicts on all steps, then their tables, then what was left out."""
    steps = found.steps
    lines = [line for step in steps for line in [*verdict_lines(step), ""]]
    for step in steps:
        lines += [*prose([title(step)] if len(steps) > 1 else []), *step_lines(step)]
    lines += prose(f"note: {note}" for note in found.notes)
    if any(step.setting.device == "cpu" for step in steps):
        lines += prose([CPU_NOTE])
    return [printable(line) for line in lines]


def verdict_lines(step: StepRecords) -> list[str]:
    """What a reader learns about a step in ten seconds."""
    return [printable(line) for line in [*prose([title(step)]), *(f"- {sentence}" for sentence in step.verdict)]]


def title(step: StepRecords) -> str:
    """What was measured, and the speedups as the speed cases have them."""
    parts = []
    for name, (case, _) in step.cases.items():
        r, base = case.record, step.cases.get(case.record.baseline or "")
        if r.interval:
            took = f", {ms(base[0].median_seconds)} -> {ms(case.median_seconds)} ms" if base else ""
            doubt = r.doubt or (base[0].record.doubt if base else None)
            speedup = f"{name} is {speedup_label(r.interval)} times as fast as {r.baseline}"
            parts.append(f"{speedup}{took}{f' {doubt.value}' if doubt else ''}")
    return f"{step.setting.step}{': ' if parts else ''}{'; '.join(parts)} ({step.setting.where})"


def step_lines(step: StepRecords) -> list[str]:
    """The tables of a step, its roofline, its input, and what must be known of them."""
    lines = tables(step.arms, step.base.name if step.base else "", step.roofs[step.arms[-1].name]) if step.arms else []
    notes = [*_roofline(step), *(f"Input: {found.sentence}." for found in step.inputs.values()), *_notes(step.arms)]
    notes += [f"{line}." for line in step.unprofiled if step.arms]
    shares = [case.record.others_cpu_share or 0.0 for case, _ in step.cases.values()]
    if shares and max(shares) >= MENTIONED_CPU_SHARE:
        notes.append(f"Others used up to {percent(max(shares))} of the CPU while this was measured.")
    return [*lines, *prose(notes), ""]


def trace_answer(path: Path, steps: int | None = None) -> tuple[list[str], dict[str, Any]]:
    """The breakdown of a trace that was taken elsewhere: as lines and as data.

    Args:
        path: `*.xplane.pb`.
        steps: that it holds; None where it shall be told from the trace.

    Raises:
        UnreadableTrace: it cannot be read; one line.
    """
    from mpbench.why.reading.attributed import deduced_steps, profile_record  # they need protobuf, which runs do not
    from mpbench.why.reading.trace import read_trace

    trace = read_trace(path)
    number = steps or deduced_steps(trace)
    record = profile_record(trace, number or 1, "")
    arm = ProfiledArm("", Breakdown(record, record.span_seconds))
    of_steps = f"Of {number} steps{'' if steps else ', told from how often each kernel ran'}."
    notes = [of_steps if number else "Figures are of the whole trace: how many steps it holds is not clear (--steps)."]
    notes.append("The step's time is the trace's own, with what the profiler added to it.")
    where = record.device_name or ("a GPU" if record.on_device else "a CPU")
    lines = [f"{path.name}, {where}{', XLA' if trace.compiled else ''}", *(f"- {one}" for one in verdict(arm))]
    lines += ["", *tables([arm], "", {}), *prose([*_notes([arm]), *notes])]
    data = {"trace": path.name, "verdict": verdict(arm), "notes": notes, **_data(arm, {})}
    return [printable(line) for line in lines], data


def tables(arms: Sequence[ProfiledArm], baseline: str, roofs: Mapping[str, Roof]) -> list[str]:
    """Where the time goes: by class, by pass and by layer.

    Args:
        roofs: of the last precision's layers.
    """
    breakdowns = {arm.name: arm.breakdown for arm in arms}
    lines: list[str] = []
    for by in By:
        lines += [*_table(breakdowns, baseline, by, roofs), ""]
    return lines


def _table(breakdowns: Mapping[str, Breakdown], baseline: str, by: By, roofs: Mapping[str, Roof]) -> list[str]:
    """Milliseconds of each precision in rows that add up as they are printed."""
    rows = aligned(breakdowns) if by is By.LAYER else {name: of.rows(by) for name, of in breakdowns.items()}
    last = list(breakdowns)[-1]
    digits = 2 if max(of.step_seconds for of in breakdowns.values()) >= 0.01 else 3
    if by is By.LAYER:
        rows = _shortened(rows, last)
    whole = {name: adding_up(of, 10.0**-digits / 1000) for name, of in rows.items()}
    names = list(dict.fromkeys(name for of in (rows[last], *rows.values()) for name in of))
    names.sort(key=lambda name: name == IDLE)  # a precision's last row is everyone's
    layers = {row_name(row): row for row in breakdowns[last].record.rows}
    table = []
    for name in [*names, TOTAL]:
        label = IDLE_ON_CPU if name == IDLE and not breakdowns[last].record.on_device else name
        row = {f"ms a step by {by.value}": label if len(label) <= 46 else f"{label[:43]}..."}
        cells = {key: sum(of.values()) if name == TOTAL else of.get(name, 0) for key, of in whole.items()}
        for key, of in breakdowns.items():
            row[key or "ms"] = f"{cells[key] / 10**digits:.{digits}f}"
            seconds = of.step_seconds if name == TOTAL else rows[key].get(name, 0.0)
            row[f"{key} %".strip()] = f"{100 * seconds / of.step_seconds:.0f}"
        for key in breakdowns if baseline else ():
            if key != baseline:
                saved = (cells[baseline] - cells[key]) / 10**digits
                row["saved" if len(breakdowns) == 2 else f"{key} saved"] = f"{saved:.{digits}f}"
        if by is By.LAYER and roofs:
            of_roof = roofs.get(name)
            row["% of roof"] = f"{100 * of_roof.fraction:.0f} {of_roof.bound_by.value}" if of_roof else ""
        if by is By.LAYER:
            row["mostly"] = _mostly(layers[name]) if name in layers else ""
        table.append(row)
    return render(table, ("mostly", "% of roof"))


def _shortened(rows: Mapping[str, Mapping[str, float]], last: str) -> dict[str, dict[str, float]]:
    """The largest layers, and a row for the others."""
    worth = {name: max(of.get(name, 0.0) for of in rows.values()) for name in rows[last]}
    kept = sorted((name for name in worth if name not in (IDLE, LONGER)), key=lambda name: -worth[name])[:SHOWN_LAYERS]
    short: dict[str, dict[str, float]] = {}
    for key, of in rows.items():
        short[key] = {name: of[name] for name in kept if name in of}
        if others := [value for name, value in of.items() if name not in (*kept, IDLE, LONGER)]:
            short[key]["all others"] = sum(others)
        short[key] |= {name: of[name] for name in (LONGER, IDLE) if name in of}
    return short


def _mostly(row: LayerRow) -> str:
    """The class that most of a layer's time goes to, how much of it XLA fused with others, and its channels where it
    hardly uses tensor cores."""
    kind = max(CLASSES, key=row.of_class)
    words = [
        f"{kind.replace('convolution and matmul on ', '')} {100 * row.of_class(kind) / max(row.total_ns, 1):.0f} %"
    ]
    if row.fused_ns * 20 >= row.total_ns > 0:
        words.append(f"fused {100 * row.fused_ns / row.total_ns:.0f} %")
    if row.channels and row.kernel and row.of_class(TENSOR_CORES) < row.total_ns // 2:
        words.append(f"{row.channels[0]} -> {row.channels[1]}")
    return ", ".join(words)


def _roofline(step: StepRecords) -> list[str]:
    """The measured roofs, and how fast the step would be at them."""
    if not any(step.roofs.values()):
        return []
    peaks, last = step.peaks, step.arms[-1].name if step.arms else ""
    products = [
        f"{'tf32' if tf32 else dtype} {rate / 1e12:.3g}" for (dtype, tf32), rate in peaks.flops_per_second.items()
    ]
    lines = [
        f"Roofs as measured: {', '.join(products)} TFLOP/s, {(peaks.bytes_per_second or 0) / 1e9:.3g} GB/s, "
        f"{1e6 * (peaks.launch_seconds or 0):.3g} us an operation."
    ]
    before, after = (step.allowed_seconds.get(name) for name in (step.baseline, last))
    if before and after and step.baseline != last:
        lines.append(
            f"At their roofs all layers{' and the update' if step.setting.phase == 'training' else ''} would take "
            f"{ms(before)} -> {ms(after)} ms: {before / after:.2f} times as fast."
        )
    return lines


def _notes(arms: Sequence[ProfiledArm]) -> list[str]:
    notes = [
        f"{arm.name}: {of.record.steps} steps profiled by {of.record.source}, each {ms(abs(of.profiler_seconds))} ms "
        f"{'longer' if of.profiler_seconds > 0 else 'shorter'} than without the profiler, which is in no row."
        for arm in arms
        if (of := arm.breakdown).record.source
    ]
    if any(row.fused_ns for arm in arms for row in arm.breakdown.record.rows):
        notes.append(
            "Fused: XLA made one kernel of operations of several layers or passes; its time is divided among them by "
            "the bytes of the largest array that each reads or writes."
        )
    return notes


def as_data(found: MatchedRuns) -> dict[str, Any]:
    """What the page says, for JSON: seconds per step and fractions, nothing rounded."""
    return {SCHEMA_KEY: SCHEMA, "notes": found.notes, "steps": [_step_data(step) for step in found.steps]}


def _step_data(step: StepRecords) -> dict[str, Any]:
    speedups = {
        name: {"speedup": r.speedup, "low": r.speedup_low, "high": r.speedup_high, "noisy": r.noisy}
        for name, (case, _) in step.cases.items()
        if (r := case.record).interval
    }
    peaks = step.peaks
    return {
        **asdict(step.setting),
        "verdict": step.verdict,
        "baseline": step.baseline or None,
        "speedups": speedups,
        "precisions": {arm.name: _data(arm, step.roofs[arm.name]) for arm in step.arms},
        "peaks": {
            "flops_per_second": {
                f"tf32 {d}" if tf32 else d: rate for (d, tf32), rate in peaks.flops_per_second.items()
            },
            "bytes_per_second": peaks.bytes_per_second,
            "launch_seconds": peaks.launch_seconds,
        },
        "roofline_seconds": step.allowed_seconds,
        "input": {name: asdict(of) for name, of in step.inputs.items()},
        "notes": step.unprofiled,
    }


def _data(arm: ProfiledArm, roofs: Mapping[str, Roof]) -> dict[str, Any]:
    of, record = arm.breakdown, arm.breakdown.record
    return {
        "step_seconds": of.step_seconds,
        "busy_seconds": of.busy_seconds,
        "idle_seconds": of.idle_seconds,
        "host_bound": is_host_bound(of),
        "profiler_seconds": of.profiler_seconds,
        "compiled_seconds": arm.compiled_seconds,
        "kernels_per_step": record.kernels_per_step,
        "tensor_core_share": of.class_seconds(TENSOR_CORES) / of.busy_seconds if record.on_device else None,
        "by_class": of.rows(By.CLASS),
        "by_pass": of.rows(By.PASS),
        "by_layer": of.rows(By.LAYER),
        "layers": [_layer_data(of, row, roofs.get(row_name(row))) for row in record.rows if row.is_layer],
        "operations": [
            {"type": one.type, "class": one.kind, "seconds": record.seconds(one.ns), "count": one.count}
            for one in record.operations
        ],
        **{key: getattr(record, key) for key in ("source", "on_device", "device_name", "steps", "devices")},
    }


def _layer_data(of: Breakdown, row: LayerRow, roof: Roof | None) -> dict[str, Any]:
    cells = [{"pass": p, "class": kind, "seconds": of.record.seconds(ns)} for (p, kind), ns in row.ns.items()]
    return {
        "layer": row.name,
        **{key: getattr(row, key) for key in ("type", "dtype", "channels", "kernel", "flops", "bytes")},
        "seconds": of.row_seconds(row),
        "cast_seconds": of.record.seconds(row.cast_ns),
        "fused_seconds": of.record.seconds(row.fused_ns),
        "bound_seconds": dict(roof.bounds) if roof else None,
        "fraction_of_roof": roof.fraction if roof else None,
        "by_pass_and_class": cells,
    }


def prose(lines: Iterable[str]) -> list[str]:
    """Sentences in lines that are not too wide."""
    return [
        part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False)
    ]
