"""The breakdown of a step as a page of text and as JSON's data: the verdict first, then tables that add up.

What belongs here: lines and columns. What is concluded is in `verdict`, what adds up in `breakdown`.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpbench.errors import printable
from mpbench.records.profile import TENSOR_CORES, LayerRow
from mpbench.text_table import render
from mpbench.why.reading.breakdown import CLASS, IDLE, LAYER, PASS, Breakdown, adding_up, aligned, row_name
from mpbench.why.reading.figures import deduced_steps, profile_record
from mpbench.why.reading.trace import UnreadableTrace, read_trace
from mpbench.why.reading.verdict import Arm, is_host_bound, ms, verdict

WIDTH = 118
"""Of a line of prose, in characters."""

SHOWN_LAYERS = 12

ON_A_CPU = "no operation runs"
"""What IDLE is on a CPU."""


def step_lines(title: str, arms: Sequence[Arm], baseline: str = "") -> list[str]:
    """A model's step in one phase.

    Args:
        title: model and phase.
        arms: precisions with a profile, the baseline among them if it has one; the last is what the verdict is on.
        baseline: its name.
    """
    base = next((arm for arm in arms if arm.name == baseline and arm is not arms[-1]), None)
    lines = [title, *prose(f"- {sentence}" for sentence in verdict(arms[-1], base))]
    for by, what in ((CLASS, "by class of work"), (PASS, "by pass"), (LAYER, "by layer")):
        lines += ["", *_table({arm.name: arm.breakdown for arm in arms}, base.name if base else "", by, what)]
    return [printable(line) for line in [*lines, "", *prose(_notes(arms))]]


def trace_lines(path: Path, steps: int | None = None) -> list[str]:
    """The breakdown of a trace that was taken elsewhere.

    Args:
        path: `*.xplane.pb`.
        steps: that it holds; None where it shall be told from the trace.

    Raises:
        UnreadableTrace: it cannot be read; one line.
    """
    trace = read_trace(path)
    number = steps or deduced_steps(trace)
    record = profile_record(trace, number or 1, "")
    arm = Arm("", Breakdown(record, record.span_seconds))
    told = f"{number} steps" if steps else f"{number} steps, told from how often each kernel ran"
    notes = [
        f"Of {told}." if number else "Figures are of the whole trace: how many steps it holds is not clear (--steps)."
    ]
    notes.append("The step's time is the trace's own, with what the profiler added to it.")
    where = record.device_name or ("a GPU" if record.on_device else "a CPU")
    lines = step_lines(f"{path.name}, {where}{', XLA' if trace.compiled else ''}", [arm])
    return [printable(line) for line in [*lines, *prose(notes)]]


def _table(breakdowns: Mapping[str, Breakdown], baseline: str, by: str, what: str) -> list[str]:
    """Milliseconds of each precision in rows that add up as they are printed."""
    rows = aligned(breakdowns) if by == LAYER else {name: of.rows(by) for name, of in breakdowns.items()}
    last = list(breakdowns)[-1]
    digits = 2 if max(of.step_seconds for of in breakdowns.values()) >= 0.01 else 3
    if by == LAYER:
        rows = _shortened(rows, last)
    whole = {name: adding_up(of, 10.0**-digits / 1000) for name, of in rows.items()}
    names = list(dict.fromkeys(name for of in (rows[last], *rows.values()) for name in of))
    names.sort(key=lambda name: name == IDLE)  # a precision's last row is everyone's
    layers = {row_name(row): row for row in breakdowns[last].record.rows}
    table = []
    for name in [*names, "= the step"]:
        total = name == "= the step"
        label = ON_A_CPU if name == IDLE and not breakdowns[last].record.on_device else name
        row = {f"ms a step {what}": _short(label, 46)}
        cells = {key: sum(of.values()) if total else of.get(name, 0) for key, of in whole.items()}
        for key, of in breakdowns.items():
            row[key or "ms"] = f"{cells[key] / 10**digits:.{digits}f}"
            share = 100 * (of.step_seconds if total else rows[key].get(name, 0.0)) / of.step_seconds
            row[f"{key} %".strip()] = f"{share:.0f}"
        for key in breakdowns if baseline else ():
            if key != baseline:
                row["saved" if len(breakdowns) == 2 else f"{key} saved"] = (
                    f"{(cells[baseline] - cells[key]) / 10**digits:.{digits}f}"
                )
        if by == LAYER:
            row["mostly"] = _mostly(layers[name]) if name in layers and not total else ""
        table.append(row)
    return render([{key: cell for key, cell in row.items()} for row in table], ("mostly",))


def _shortened(rows: Mapping[str, Mapping[str, float]], last: str) -> dict[str, dict[str, float]]:
    """The largest layers, and a row for the others."""
    worth = {name: max(of.get(name, 0.0) for of in rows.values()) for name in rows[last]}
    kept = sorted((name for name in worth if name != IDLE), key=lambda name: -worth[name])[:SHOWN_LAYERS]
    short: dict[str, dict[str, float]] = {}
    for key, of in rows.items():
        short[key] = {name: of[name] for name in kept if name in of}
        others = {name: value for name, value in of.items() if name not in kept and name != IDLE}
        if others:
            short[key]["all others"] = sum(others.values())
        short[key][IDLE] = of.get(IDLE, 0.0)
    return short


def _mostly(row: LayerRow) -> str:
    """The class that most of a layer's time goes to, how much of it XLA fused with others, and its product's kernel."""
    kinds: Counter[str] = Counter()
    for (_, kind), ns in row.ns.items():
        kinds[kind] += ns
    (kind, ns), *_ = kinds.most_common(1) or [("", 0)]
    words = [f"{kind.replace('convolution and matmul on ', '')} {100 * ns / max(row.total_ns, 1):.0f} %"]
    if row.fused_ns * 20 >= row.total_ns > 0:
        words.append(f"fused {100 * row.fused_ns / row.total_ns:.0f} %")
    if row.channels and row.kernel and kinds[TENSOR_CORES] < row.total_ns // 2:
        words.append(f"{row.channels[0]} -> {row.channels[1]}")
    return ", ".join(words) if kind else ""


def _notes(arms: Sequence[Arm]) -> list[str]:
    notes = []
    for arm in arms:
        of = arm.breakdown
        if not of.record.source:
            continue
        added = f"{abs(1000 * of.profiler_seconds):.3g} ms {'more' if of.profiler_seconds > 0 else 'less'}"
        notes.append(
            f"{arm.name}: {of.record.steps} steps profiled by {of.record.source}; a step took {added} under the "
            "profiler than without it, which is in no row."
        )
    if any(row.fused_ns for arm in arms for row in arm.breakdown.record.rows):
        notes.append(
            "Fused: XLA made one kernel of operations of several layers or passes; its time is divided among them by "
            "the bytes of the largest array that each reads or writes."
        )
    return notes


def step_data(arms: Sequence[Arm], baseline: str = "") -> dict[str, Any]:
    """What `step_lines` says, for JSON: seconds per step and fractions, nothing rounded."""
    base = next((arm for arm in arms if arm.name == baseline and arm is not arms[-1]), None)
    return {
        "verdict": verdict(arms[-1], base),
        "baseline": base.name if base else None,
        "precisions": {arm.name: _data(arm.breakdown) for arm in arms},
    }


def _data(of: Breakdown) -> dict[str, Any]:
    record = of.record
    return {
        "step_seconds": of.step_seconds,
        "busy_seconds": of.busy_seconds,
        "idle_seconds": of.idle_seconds,
        "host_bound": is_host_bound(of),
        "profiler_seconds": of.profiler_seconds,
        "kernels_per_step": record.kernels_per_step,
        "tensor_core_share": of.class_seconds(TENSOR_CORES) / of.busy_seconds if record.on_device else None,
        "by_class": of.rows(CLASS),
        "by_pass": of.rows(PASS),
        "by_layer": of.rows(LAYER),
        "layers": [_layer_data(record.seconds(row.total_ns), row) for row in record.rows if row.is_layer],
        "operations": [
            {"type": one.type, "class": one.kind, "seconds": record.seconds(one.ns), "count": one.count}
            for one in record.operations
        ],
        "source": record.source,
        "on_device": record.on_device,
        "device_name": record.device_name,
        "steps": record.steps,
        "devices": record.devices,
    }


def _layer_data(seconds: float, row: LayerRow) -> dict[str, Any]:
    share = seconds / row.total_ns if row.total_ns else 0.0
    return {
        "layer": row.name,
        "type": row.type,
        "dtype": row.dtype,
        "channels": row.channels,
        "kernel": row.kernel,
        "seconds": seconds,
        "cast_seconds": row.cast_ns * share,
        "fused_seconds": row.fused_ns * share,
        "by_pass_and_class": [
            {"pass": part, "class": kind, "seconds": ns * share} for (part, kind), ns in row.ns.items()
        ],
    }


def prose(lines: Iterable[str]) -> list[str]:
    """Sentences in lines that are not too wide."""
    return [
        part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False)
    ]


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


__all__ = ["UnreadableTrace", "ms", "prose", "step_data", "step_lines", "trace_lines"]
