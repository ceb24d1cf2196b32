"""The answer as a page of text: per model the speedups, where the time goes, and what became of it.

Pure functions from `explanation.Phase` to lines. No line says more than its figures: milliseconds have the digits that
the step's interval leaves, rounded so that a column adds up as it is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mpbench.config.precisions import CPU_NOTE
from mpbench.errors import printable
from mpbench.records.diagnostics import LayerRecord
from mpbench.text_table import render
from mpbench.why.reading.account import CASTS, KEPT, LABELS, STEP_SOURCES, UNEXPLAINED, UPDATE, layer_types
from mpbench.why.reading.explanation import Headline, LayerChange, Phase, explanation
from mpbench.why.reading.findings import Figure, Findings
from mpbench.why.reading.printing import (
    MS,
    decimals,
    decimals_for,
    milliseconds,
    percent_of,
    prose,
    shares_of_saving,
    shortened,
    table_lines,
    with_share,
)
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY

SHOWN_LAYERS = 10
SHOWN_ABOVE = 5
SHOWN_CLASSES = 8
"""Of a profile."""


def page_lines(findings: Sequence[Findings], notes: Sequence[str]) -> list[str]:
    """The whole answer, line by line; a terminal may show each.

    Args:
        findings: of each model and setting.
        notes: on the runs.
    """
    lines: list[str] = []
    phases = [explanation(found) for found in findings]
    for found, of in zip(findings, phases, strict=True):
        lines += [*_model_lines(found, of), ""]
    if len(findings) > 1 and (table := _side_by_side([phase for of in phases for phase in of])):
        lines += [*table, ""]
    lines += [f"note: {note}" for note in notes]
    if any(phase.missing for of in phases for phase in of):
        lines.append("All that was not measured: make why")
    if any(found.setting.device == "cpu" for found in findings):
        lines.append(CPU_NOTE)
    return [printable(line) for line in lines]


def _model_lines(found: Findings, phases: Iterable[Phase]) -> list[str]:
    title = f"{found.setting.model} on {found.setting}"
    lines = [title, "=" * min(len(title), 120)]
    for phase in phases:
        lines += ["", *_phase_lines(phase)]
    if found.notes:
        lines += ["", *prose(f"note: {note}" for note in dict.fromkeys(found.notes))]
    return lines


SHORT = {
    UPDATE: "update",
    COMPUTE: "compute",
    MEMORY: "memory",
    LAUNCH: "launch",
    KEPT: "float32",
    CASTS: "casts",
    UNEXPLAINED: "unexplained",
}
"""Rows as the columns of the table of all models."""


def _side_by_side(phases: Iterable[Phase]) -> list[str]:
    """Speedups of all models, and the shares of their steps."""
    rows = []
    for phase in phases:
        for name, of in phase.headlines.items():
            limit = phase.allowed[name].speedup if name in phase.allowed else None
            percent = percent_of(phase.accounts[name]) if name in phase.accounts else {}
            rows.append(
                {
                    "model": phase.found.setting.model,
                    "phase": f"{phase.name}, {name}",
                    "speedup": f"{of.speedup:.2f}{' NOISY' if of.noisy else ''}",
                    "roofline": "" if limit is None else f"{limit:.2f}",
                }
                | {f"{short} %": percent.get(key, "") for key, short in SHORT.items()}
            )
    return ["Side by side: speedups, and shares of the step that is left", *render(rows)] if rows else []


def _phase_lines(phase: Phase) -> list[str]:
    lines = [f"{phase.name.upper()}", *prose(_headlines(phase)), *_feed_lines(phase)]
    for section in (
        _accounts(phase),
        _differences(phase),
        _split(phase),
        _types(phase),
        _layers(phase),
        _profiles(phase),
    ):
        if section:
            lines += ["", *section]
    closing = [*(f"! {line}" for line in phase.cautions), *(f"- {line}" for line in phase.missing)]
    if closing:
        lines += ["", *prose(closing)]
    said = phase.conclusions or ["The figures name no main cause."]
    return [*lines, "", *prose(f"=> {sentence}" for sentence in said)]


def _headlines(phase: Phase) -> list[str]:
    if not phase.found.baseline:
        return ["No baseline was measured: there is no speedup to explain."]
    lines = [_headline(name, phase.found.baseline, of) for name, of in phase.headlines.items()]
    for name, of in phase.allowed.items():
        if of.speedup is None:
            lines.append(f"What the roofline would allow {name} is unknown: {of.missing}.")
        else:
            lines.append(
                f"The roofline would allow {name} {of.speedup:.2f} times, if both ran at it: all layers"
                f"{' and the update' if phase.name == 'training' else ''} at their bounds take "
                f"{MS * of.baseline_seconds:.3g} -> {MS * of.seconds:.3g} ms."
            )
    return lines


def _headline(name: str, baseline: str, of: Headline) -> str:
    digits = 3 if of.interval else 2
    interval = f" [{of.interval.low:.3f}, {of.interval.high:.3f}]" if of.interval else " (no interval)"
    return (
        f"{name} is {of.speedup:.{digits}f}{interval} times as fast as {baseline}: {MS * of.baseline_seconds:.4g} -> "
        f"{MS * of.seconds:.4g} ms ({STEP_SOURCES[of.source]}){' NOISY' if of.noisy else ''}."
    )


def _says_something(phase: Phase) -> bool:
    """Whether anything but the step itself was measured."""
    return any(set(rows) != {UNEXPLAINED} for rows in phase.accounts.values())


def _accounts(phase: Phase) -> list[str]:
    if phase.steps is None or not _says_something(phase):
        return []
    digits = decimals(phase.steps.figures.values())
    cells = {name: (milliseconds(rows, digits), percent_of(rows)) for name, rows in phase.accounts.items()}
    keys = [key for key in LABELS if any(key in rows for rows in phase.accounts.values())]
    first = "where the step goes, in ms"
    table = [
        {first: LABELS[key]}
        | {name: with_share(ms[key], percent[key]) if key in ms else "" for name, ((ms, _), percent) in cells.items()}
        for key in keys
    ]
    total = {first: "= the step"} | {name: with_share(total_ms, "100") for name, ((_, total_ms), _) in cells.items()}
    lines = [*table_lines([*table, total]), f"It adds up to {STEP_SOURCES[phase.steps.source]}."]
    predicted = [
        f"{100 * of.predicted / of.split.step:.0f} % of the step in {name}"
        for name, of in phase.measured.items()
        if of.predicted is not None
    ]
    if predicted:
        with_update = all(of.split.update is not None for of in phase.measured.values() if of.predicted is not None)
        lines.append(f"The sum over the layers{' and the update' if with_update else ''} is {', '.join(predicted)}.")
    if phase.name == "training" and any(of.split.update is None for of in phase.measured.values()):
        lines.append("Where the update was not measured, it is in what is unexplained.")
    if any(rows[UNEXPLAINED] < 0 for rows in phase.accounts.values()):
        lines.append("Unexplained is negative where the parts, timed one by one, take longer than within the step.")
    if phase.name == "inference" and any(
        figure.record.cast_bytes
        for (name, _), of in phase.found.layers.items()
        if name == "inference"
        for figure in of.values()
    ):
        lines.append("Casts are within the layers: in inference nothing has measured them apart.")
    return lines


def _differences(phase: Phase) -> list[str]:
    lines: list[str] = []
    for name, of in phase.differences.items() if _says_something(phase) else ():
        assert phase.steps is not None
        base = phase.found.baseline or ""
        digits = decimals([phase.steps.figures[base], phase.steps.figures[name]])
        before, total_before = milliseconds(of.before, digits)
        after, total_after = milliseconds(of.after, digits)
        step_before = math.fsum(of.before.values())
        clear = name in phase.headlines and phase.headlines[name].direction != 0
        shares = shares_of_saving(of.saved, step_before, clear)
        first = f"what became of it in {name}"
        table = [
            {
                first: LABELS[key],
                f"{base} ms": before[key],
                f"{name} ms": after[key],
                "less ms": f"{float(before[key]) - float(after[key]):.{digits}f}",
                "% of the saving": shares[key],
            }
            for key in of.after
        ]
        total = {first: "= the step", f"{base} ms": total_before, f"{name} ms": total_after}
        total["less ms"] = f"{float(total_before) - float(total_after):.{digits}f}"
        total["% of the saving"] = "100" if any(shares.values()) else ""
        lines += ["", *table_lines([*table, total])] if lines else table_lines([*table, total])
        lines.append(f"Layers stand in the class that they have in {name}, in both columns.")
        if not any(shares.values()):
            lines.append("The steps differ too little, or not for sure: no shares of the saving.")
    return lines


def _split(phase: Phase) -> list[str]:
    table = []
    for name, of in phase.measured.items():
        split = of.split
        pieces = {"forward": split.forward, "backward": split.backward, "update": split.update, "rest": split.rest}
        known = {key: seconds for key, seconds in pieces.items() if seconds is not None}
        if len(known) == len(pieces):
            cells, total = milliseconds(known, decimals(f for (p, _), f in phase.found.parts.items() if p == name))
            percent = percent_of(known)
            row = {"training step": name}
            row |= {f"{key} ms": f"{cells[key]} ({percent[key]} %)" for key in known}
            table.append(row | {"step ms": total})
    return table_lines(table) if table else []


def _types(phase: Phase) -> list[str]:
    by_precision = {name: layer_types(phase.found, phase.name, name) for name in phase.found.precisions}
    by_precision = {name: types for name, types in by_precision.items() if types}
    keys = list(dict.fromkeys(key for types in by_precision.values() for key in types))
    if not keys:
        return []
    base = by_precision.get(phase.found.baseline or "", {})
    percent = {name: percent_of(types) for name, types in by_precision.items()}
    saved = {
        name: shares_of_saving(
            {key: base.get(key, 0.0) - types.get(key, 0.0) for key in keys}, math.fsum(base.values())
        )
        for name, types in by_precision.items()
        if base and types is not base and set(types) == set(base)
    }
    table = []
    for key in keys:
        row = {"layers by type, in ms": key}
        for name, types in by_precision.items():
            if key in types:
                of_type = [f for f in phase.found.layers[phase.name, name].values() if f.record.layer_type == key]
                digits = _layer_decimals(of_type)
                row[name] = with_share(f"{MS * types[key]:.{digits}f}", percent[name][key])
            if name in saved:
                row[f"% of what {name} saves"] = saved[name][key]
        table.append(row)
    return table_lines(table)


def _layer_decimals(figures: Iterable[Figure[LayerRecord]]) -> int:
    """As `decimals`, of the time that all layers like these take in a step."""
    return decimals_for(max((figure.doubt_seconds * figure.record.count for figure in figures), default=0.0))


def _layers(phase: Phase) -> list[str]:
    lines: list[str] = _peaks(phase) if any(of == phase.name for of, _ in phase.found.layers) else []
    for name in phase.others:
        changes = phase.changes(name)
        if changes:
            title = f"The layers that gain or lose most in {name}, {min(SHOWN_LAYERS, len(changes))} of {len(changes)}:"
            lines += [title, *table_lines([_layer(change) for change in changes[:SHOWN_LAYERS]], ("what",))]
            above = sorted(((_above(change), change) for change in changes), key=lambda pair: -pair[0])
            slow = [f"{shortened(c.after.record.layer, 24)} {MS * s:.2g} ms" for s, c in above[:SHOWN_ABOVE] if s > 0]
            if slow:
                lines += prose([f"Longest above their bounds in {name}: {', '.join(slow)}."])
    return lines


def _above(change: LayerChange) -> float:
    """Seconds in a step that a layer takes beyond its bound; 0 where there is none."""
    bound = change.roof_after.bound_seconds
    return 0.0 if bound is None else (change.after.seconds - bound) * change.after.record.count


def _peaks(phase: Phase) -> list[str]:
    peaks = phase.peaks
    said = [
        f"{'TF32' if tf32 else dtype} {flops / 1e12:.3g} TFLOP/s"
        for (dtype, tf32), flops in peaks.flops_per_second.items()
    ]
    said += [f"copies of {dtype} {rate / 1e9:.3g} GB/s" for dtype, rate in peaks.bytes_per_second.items()]
    said += [f"one tiny operation in {dtype} {1e6 * s:.2g} us" for dtype, s in peaks.launch_seconds.items()]
    return prose([f"Roofs, measured: {', '.join(said)}."]) if said else []


def _layer(change: LayerChange) -> dict[str, str]:
    record, before, after = change.before.record, change.roof_before, change.roof_after
    bounds = [(bound or "?").removesuffix("-bound") for bound in (before.bound_by, after.bound_by)]
    reached = ["?" if f is None else f"{100 * f:.0f}" for f in (before.fraction, after.fraction)]
    count = record.count
    digits = _layer_decimals((change.before, change.after))
    return {
        "layer": shortened(record.layer, 24),
        "what": shortened(f"{record.layer_type} {record.config}".strip(), 30),
        "times": str(count),
        "bound by": bounds[0] if bounds[0] == bounds[1] else " -> ".join(bounds),
        "ms": f"{MS * count * before.seconds:.{digits}f} -> {MS * count * after.seconds:.{digits}f}",
        "less ms": f"{MS * change.saved:.{digits}f}",
        "% of roof": " -> ".join(reached),
    }


def _feed_lines(phase: Phase) -> list[str]:
    table = []
    for name, of in phase.fed.items():
        digits = decimals(phase.found.feeds[phase.name, name].values())
        rows = {"step": of.step, **of.rows}
        cells, total = milliseconds(rows, digits)
        row = {"with its input": name, "step ms": cells["step"]}
        if of.device != of.step:
            row["measured apart ms"] = cells["measured-apart"]
        row |= {"input ms": cells["input"], "= fed step ms": total}
        if of.pipeline is not None:
            rate = phase.found.setting.batch_size / of.pipeline
            row["pipeline ms (images/s)"] = f"{MS * of.pipeline:.{digits}f} ({rate:.0f})"
        table.append(row | {"verdict": phase.feed_verdicts[name].verdict})
    if not table:
        return []
    return ["", *table_lines(table), *prose(f"{verdict.sentence}." for verdict in phase.feed_verdicts.values())]


def _profiles(phase: Phase) -> list[str]:
    profiles = {name: figure for (of, name), figure in phase.found.profiles.items() if of == phase.name}
    lines: list[str] = []
    for name, figure in profiles.items():
        record = figure.record
        classes = record.seconds_by_class
        shown = dict(list(classes.items())[:SHOWN_CLASSES])
        if len(classes) > len(shown):
            shown["others"] = math.fsum(list(classes.values())[SHOWN_CLASSES:])
        whose = "the device's time" if record.on_device else "the host's time"
        total = math.fsum(shown.values())
        parts = [f"{key} {MS * s:.3g} ms ({100 * s / total:.0f} %)" for key, s in shown.items() if total]
        lines.append(f"Profile of {name}, {whose} per step, by {record.source}: {'; '.join(parts)}.")
        if record.tensor_core_share is not None:
            lines.append(f"On tensor cores: {100 * record.tensor_core_share:.0f} % of the device's time in {name}.")
    return prose(lines)
