"""The figures of what explains a step: its account as stacked bars, its layers under the roofline.

Pure: `explain.explanation.Phase` in, `content.Drawing` out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mpbench.errors import printable
from mpbench.records.diagnostics import LayerRecord
from mpbench.report.content import Drawing
from mpbench.report.drawing import (
    FAINT,
    INK,
    PAPER,
    SERIES,
    Row,
    add_keys,
    fitted,
    looks,
    named,
    rows_under_headings,
    stacked,
    style,
)
from mpbench.why.reading.account import LABELS, STEP_SOURCES, UNEXPLAINED
from mpbench.why.reading.explanation import Phase
from mpbench.why.reading.findings import Figure
from mpbench.why.reading.roofline import roof

MS = 1000.0
POINTS_OF_A_STEP = 400.0
"""Area, in square points, of the mark of a layer that takes the whole step."""

LEAST_POINTS = 8.0
LEAST_SHARE = 0.03
"""Of the longest bar: what is narrower holds no number."""

NUMBER: dict[str, Any] = {"fontsize": 7, "color": INK, "bbox": {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}}
DASHES = ("-", "--", ":", "-.")


def causes(phases: Iterable[Phase]) -> list[Drawing]:
    """Where the time of a step goes: for each model, setting and phase the account of every precision as a stacked bar.

    Args:
        phases: all of `explanation(found)` for each of `findings.matched(runs)`; those without an account are left out.
    """
    return named(_account(phase) for phase in phases if phase.accounts)


def rooflines(phases: Iterable[Phase]) -> list[Drawing]:
    """Layers under the measured roofs: FLOP/byte against FLOP/s as achieved, the larger the more of the step it takes.

    Args:
        phases: as of `causes`; those without layers or without peaks are left out.
    """
    return named(drawing for phase in phases if (drawing := _roofline(phase)) is not None)


def _account(phase: Phase) -> Drawing:
    accounts = phase.accounts
    whose = _whose(phase)
    used = [key for key in LABELS if any(key in rows for rows in accounts.values())]
    colours = {key: SERIES[i % len(SERIES)] for i, key in enumerate(LABELS)} | {UNEXPLAINED: FAINT}
    number = {key: i for i, key in enumerate(used, 1)}
    rows = [Row(whose, fitted(name), f"{MS * math.fsum(of.values()):.4g} ms", 1.4) for name, of in accounts.items()]
    with style():
        keys = [Patch(facecolor=colours[key], label=f"{number[key]} {LABELS[key]}") for key in used]
        figure, (panel,), (ys,) = rows_under_headings([phase.name.capitalize()], [rows], keys, "ms per step")
        reach = MS * max(math.fsum(abs(seconds) for seconds in of.values()) for of in accounts.values())
        for y, of in zip(ys, accounts.values(), strict=True):
            ends = {1: 0.0, -1: 0.0}  # what is negative lies left of 0
            for key in used:
                ms = MS * of.get(key, 0.0)
                side = -1 if ms < 0 else 1
                panel.barh(y, ms, 1.1, left=ends[side], color=colours[key], edgecolor=PAPER, linewidth=0.8)
                if abs(ms) >= LEAST_SHARE * reach:
                    panel.text(ends[side] + ms / 2, y, str(number[key]), ha="center", va="center", **NUMBER)
                ends[side] += ms
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(6))
    sentences = []
    for name, of in accounts.items():
        total = math.fsum(of.values())
        parts = [f"{LABELS[key]} {MS * of[key]:.3g} ms ({100 * of[key] / total:.0f} %)" for key in used if key in of]
        sentences.append(f"{printable(name)}: {MS * total:.4g} ms: {', '.join(parts)}.")
    source = f" It adds up to {STEP_SOURCES[phase.steps.source]}." if phase.steps else ""
    title = f"Where the time of a step goes: {whose}, {phase.name}"
    return Drawing(f"causes {phase.found.setting.model} {phase.name}", title, " ".join(sentences) + source, figure)


def _roofline(phase: Phase) -> Drawing | None:
    peaks = phase.peaks
    layers = {
        precision: [figure for figure in of.values() if figure.record.flops > 0 and figure.record.minimal_bytes > 0]
        for (name, precision), of in phase.found.layers.items()
        if name == phase.name
    }
    layers = {precision: of for precision, of in layers.items() if of}
    if not layers or not peaks.flops_per_second or not peaks.bytes_per_second:
        return None
    whose = _whose(phase)
    with style():
        figure, (panel,) = stacked([2.6], left=0.75, right=0.2, top=0.1, bottom=0.45)
        every = [(one.record.flops / one.record.minimal_bytes) for of in layers.values() for one in of]
        ridges = [
            flops / peaks.bytes_per_second[dtype]
            for (dtype, _), flops in peaks.flops_per_second.items()
            if dtype in peaks.bytes_per_second
        ]
        reach = np.geomspace(min([*every, *ridges]) / 2, max([*every, *ridges]) * 4, 100)
        keys: list[Line2D] = []
        for dashes, ((dtype, tf32), flops) in zip(
            itertools.cycle(DASHES), peaks.flops_per_second.items(), strict=False
        ):
            rate = peaks.bytes_per_second.get(dtype)
            if rate is None:
                continue
            label = f"roof: {'TF32' if tf32 else printable(dtype)}, {_si(flops)}FLOP/s, {_si(rate)}B/s"
            keys += panel.plot(reach, np.minimum(flops, rate * reach), dashes, color=INK, linewidth=1, label=label)
        keys += [_layer_marks(panel, precision, of) for precision, of in layers.items()]
        panel.set(xscale="log", yscale="log", xlabel="FLOP per byte that must be moved", ylabel="FLOP/s")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _si(y).strip()))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(numticks=9))
            axis.set_minor_locator(NullLocator())
        panel.grid()
        panel.set_axisbelow(True)
        add_keys(figure, keys)
    title = f"Layers under the measured roofs: {whose}, {phase.name}"
    sentences = " ".join(_layers_in_words(phase, precision, of) for precision, of in layers.items())
    return Drawing(f"roofline {phase.found.setting.model} {phase.name}", title, sentences, figure)


def _layer_marks(panel: Any, precision: str, layers: list[Figure[LayerRecord]]) -> Line2D:
    """The layers of one precision; returns the mark for the key."""
    total = math.fsum(one.seconds * one.record.count for one in layers)
    colour, marker = looks([precision])[precision]
    panel.scatter(
        [one.record.flops / one.record.minimal_bytes for one in layers],
        [one.record.flops / one.seconds for one in layers],
        [LEAST_POINTS + POINTS_OF_A_STEP * one.seconds * one.record.count / total for one in layers],
        linewidths=0.9,
        marker=marker,
        facecolors="none",
        edgecolors=colour,
    )
    return Line2D(
        [],
        [],
        marker=marker,
        markerfacecolor="none",
        markeredgecolor=colour,
        linestyle="none",
        label=f"layer in {fitted(precision)}",
    )


def _layers_in_words(phase: Phase, precision: str, layers: list[Figure[LayerRecord]]) -> str:
    roofs = [roof(one, phase.peaks) for one in layers]
    bounds = [one.bound_by for one in roofs if one.bound_by]
    counts = ", ".join(f"{bounds.count(bound)} {bound}" for bound in dict.fromkeys(bounds))
    longest = max(layers, key=lambda one: one.seconds * one.record.count)
    fraction = roof(longest, phase.peaks).fraction
    reached = "" if fraction is None else f", at {100 * fraction:.0f} % of its roof"
    r = longest.record
    return (
        f"{printable(precision)}: {len(layers)} different layers{f' ({counts})' if counts else ''}; the longest is "
        f"{printable(r.layer)}, {MS * longest.seconds * r.count:.3g} ms of a step in {r.count} "
        f"{'call' if r.count == 1 else 'calls'}: {_si(r.flops / longest.seconds)}FLOP/s{reached}."
    )


def _whose(phase: Phase) -> str:
    return printable(f"{phase.found.setting.model} on {phase.found.setting}")


def _si(value: float) -> str:
    """Three digits with the prefix of the unit that follows: `15.7 T`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
