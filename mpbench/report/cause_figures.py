"""The figures of what explains a step: where its time goes as stacked bars, its layers under the roofline.

Pure: `why.reading.matched.Step` in, `content.Drawing` out.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mpbench.errors import printable
from mpbench.records.profile import CLASSES
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
from mpbench.why.reading.breakdown import CLASS, IDLE, LONGER
from mpbench.why.reading.matched import Step
from mpbench.why.reading.roofline import Roof

MS = 1000.0
POINTS_OF_A_STEP = 400.0
"""Area, in square points, of the mark of a layer that takes the whole step."""

LEAST_POINTS = 8.0
LEAST_SHARE = 0.03
"""Of the longest bar: what is narrower holds no number."""

NUMBER: dict[str, Any] = {"fontsize": 7, "color": INK, "bbox": {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}}
DASHES = ("-", "--", ":", "-.")
ROWS = (*CLASSES, IDLE, LONGER)
COLOURS = dict(zip(CLASSES, (*SERIES, INK, SERIES[0]), strict=True)) | {IDLE: FAINT, LONGER: FAINT}


def causes(steps: Iterable[Step]) -> list[Drawing]:
    """Where the time of a step goes: of each step the breakdown of every precision as a stacked bar, with what is idle.

    Args:
        steps: as of `matched`; those without a profile are left out.
    """
    return named(_breakdowns(step) for step in steps if step.arms)


def rooflines(steps: Iterable[Step]) -> list[Drawing]:
    """Layers under the measured roofs: FLOP/byte against FLOP/s as achieved, the larger the more of the step it takes.

    Args:
        steps: as of `causes`; those without peaks, or whose layers' costs are not known, are left out.
    """
    return named(drawing for step in steps if (drawing := _roofline(step)) is not None)


def _breakdowns(step: Step) -> Drawing:
    of_arms = {arm.name: arm.breakdown.rows(CLASS) for arm in step.arms}
    label = {IDLE: IDLE if step.arms[-1].breakdown.record.on_device else "no operation runs"}
    used = [key for key in ROWS if any(of.get(key) for of in of_arms.values())]
    number = {key: i for i, key in enumerate(used, 1)}
    rows = [
        Row(_whose(step), fitted(name), f"{MS * math.fsum(of.values()):.4g} ms", 1.4) for name, of in of_arms.items()
    ]
    with style():
        keys = [Patch(facecolor=COLOURS[key], label=f"{number[key]} {label.get(key, key)}") for key in used]
        heading = step.setting.phase.capitalize()
        figure, (panel,), (ys,) = rows_under_headings([heading], [rows], keys, "ms per step")
        reach = MS * max(math.fsum(map(abs, of.values())) for of in of_arms.values())
        for y, of in zip(ys, of_arms.values(), strict=True):
            ends = {1: 0.0, -1: 0.0}  # what is negative lies left of 0
            for key in used:
                ms = MS * of.get(key, 0.0)
                side = -1 if ms < 0 else 1
                panel.barh(y, ms, 1.1, left=ends[side], color=COLOURS[key], edgecolor=PAPER, linewidth=0.8)
                if abs(ms) >= LEAST_SHARE * reach:
                    panel.text(ends[side] + ms / 2, y, str(number[key]), ha="center", va="center", **NUMBER)
                ends[side] += ms
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(6))
    sentences = []
    for name, of in of_arms.items():
        total = math.fsum(of.values())
        parts = [f"{label.get(k, k)} {MS * of[k]:.3g} ms ({100 * of[k] / total:.0f} %)" for k in used if of.get(k)]
        sentences.append(f"{printable(name)}: {MS * total:.4g} ms: {', '.join(parts)}.")
    title = f"Where the time of a step goes: {_whose(step)}, {step.setting.phase}"
    return Drawing(f"causes {step.setting.model} {step.setting.phase}", title, " ".join(sentences), figure)


def _roofline(step: Step) -> Drawing | None:
    rate = step.peaks.bytes_per_second
    layers = {name: {key: one for key, one in of.items() if one.flops > 0} for name, of in step.roofs.items()}
    layers = {name: of for name, of in layers.items() if of}
    if not layers or rate is None:
        return None
    peaks = step.peaks.flops_per_second
    with style():
        figure, (panel,) = stacked([2.6], left=0.75, right=0.2, top=0.1, bottom=0.45)
        every = [one.flops / one.bytes for of in layers.values() for one in of.values()]
        every += [flops / rate for flops in peaks.values()]
        reach = np.geomspace(min(every) / 2, max(every) * 4, 100)
        keys: list[Line2D] = []
        for dashes, ((dtype, tf32), flops) in zip(itertools.cycle(DASHES), peaks.items(), strict=False):
            label = f"roof: {'TF32' if tf32 else printable(dtype)}, {_si(flops)}FLOP/s, {_si(rate)}B/s"
            keys += panel.plot(reach, np.minimum(flops, rate * reach), dashes, color=INK, linewidth=1, label=label)
        keys += [_layer_marks(panel, precision, of.values()) for precision, of in layers.items()]
        panel.set(xscale="log", yscale="log", xlabel="FLOP per byte that must be moved", ylabel="FLOP/s")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _si(y).strip()))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(numticks=9))
            axis.set_minor_locator(NullLocator())
        panel.grid()
        panel.set_axisbelow(True)
        add_keys(figure, keys)
    title = f"Layers under the measured roofs: {_whose(step)}, {step.setting.phase}"
    sentences = " ".join(_layers_in_words(precision, of) for precision, of in layers.items())
    return Drawing(f"roofline {step.setting.model} {step.setting.phase}", title, sentences, figure)


def _layer_marks(panel: Any, precision: str, layers: Iterable[Roof]) -> Line2D:
    """The layers of one precision; returns the mark for the key."""
    layers = list(layers)
    total = math.fsum(one.seconds for one in layers)
    colour, marker = looks([precision])[precision]
    panel.scatter(
        [one.flops / one.bytes for one in layers],
        [one.flops / one.seconds for one in layers],
        [LEAST_POINTS + POINTS_OF_A_STEP * one.seconds / total for one in layers],
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


def _layers_in_words(precision: str, layers: Mapping[str, Roof]) -> str:
    counts = ", ".join(
        f"{n} {bound}-bound" for bound, n in Counter(one.bound_by for one in layers.values()).most_common()
    )
    name, longest = max(layers.items(), key=lambda item: item[1].seconds)
    return (
        f"{printable(precision)}: {len(layers)} layers ({counts}); the longest is {printable(name)}, "
        f"{MS * longest.seconds:.3g} ms of a step: {_si(longest.flops / longest.seconds)}FLOP/s, at "
        f"{100 * longest.fraction:.0f} % of its roof."
    )


def _whose(step: Step) -> str:
    variant = f" {step.setting.variant}" if step.setting.variant else ""
    return printable(f"{step.setting.model}{variant} on {step.setting.where}")


def _si(value: float) -> str:
    """Three digits with the prefix of the unit that follows: `15.7 T`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
