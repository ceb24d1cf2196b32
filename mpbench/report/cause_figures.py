"""The figures that explain a step: where its time goes as stacked bars, its layers under the roofline.

Pure: from steps as `why.reading.matched` has them to drawings.
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
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

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
    look,
    named,
    rows_under_headings,
    stacked,
    style,
)
from mpbench.why.reading.breakdown import IDLE, LONGER, By
from mpbench.why.reading.matched import StepRecords
from mpbench.why.reading.roofline import Roof

MS = 1000.0
POINTS_OF_A_STEP = 400.0
"""Area of a layer's mark in square points, if the layer took the whole step."""

LEAST_POINTS = 8.0
NUMBERED_SHARE = 0.03
"""A part that is narrower than this share of the longest bar gets no number."""

NUMBER: dict[str, Any] = {"fontsize": 7, "color": INK, "bbox": {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}}
DASHES = ("-", "--", ":", "-.")
FLOPS, BYTES = EngFormatter("FLOP/s"), EngFormatter("B/s")
ROWS = (*CLASSES, IDLE, LONGER)
COLOURS = dict(zip(CLASSES, (*SERIES, INK, SERIES[0]), strict=True)) | {IDLE: FAINT, LONGER: FAINT}


def breakdowns(steps: Iterable[StepRecords]) -> list[Drawing]:
    """For each step that was profiled, the breakdown of every precision as a stacked bar."""
    return named(_breakdown(step) for step in steps if step.arms)


def rooflines(steps: Iterable[StepRecords]) -> list[Drawing]:
    """Layers under the measured roofs: FLOP per byte against the FLOP/s achieved; a larger mark takes more of the step.

    Steps without measured peaks or without layer costs are left out.
    """
    return named(drawing for step in steps if (drawing := _roofline(step)) is not None)


def _breakdown(step: StepRecords) -> Drawing:
    seconds = {arm.name: arm.breakdown.rows(By.CLASS) for arm in step.arms}
    totals = {name: math.fsum(rows.values()) for name, rows in seconds.items()}
    labels = {IDLE: IDLE if step.arms[-1].breakdown.record.on_device else "no operation runs"}
    used = [key for key in ROWS if any(rows.get(key) for rows in seconds.values())]
    rows = [Row(_whose(step), fitted(name), f"{MS * total:.4g} ms", 1.4) for name, total in totals.items()]
    reach = max(math.fsum(map(abs, one.values())) for one in seconds.values())
    sentences = []
    with style():
        keys = [Patch(facecolor=COLOURS[key], label=f"{i} {labels.get(key, key)}") for i, key in enumerate(used, 1)]
        heading = step.setting.phase.capitalize()
        figure, (panel,), (ys,) = rows_under_headings([heading], [rows], keys, "ms per step")
        for y, (name, of_arm) in zip(ys, seconds.items(), strict=True):
            ends, parts = {1: 0.0, -1: 0.0}, []  # what is negative lies left of 0
            for i, key in enumerate(used, 1):
                ms = MS * of_arm.get(key, 0.0)
                side = -1 if ms < 0 else 1
                panel.barh(y, ms, 1.1, left=ends[side], color=COLOURS[key], edgecolor=PAPER, linewidth=0.8)
                if abs(ms) >= NUMBERED_SHARE * MS * reach:
                    panel.text(ends[side] + ms / 2, y, str(i), ha="center", va="center", **NUMBER)
                ends[side] += ms
                if ms:
                    parts.append(f"{labels.get(key, key)} {ms:.3g} ms ({100 * ms / MS / totals[name]:.0f} %)")
            sentences.append(f"{printable(name)}: {MS * totals[name]:.4g} ms: {', '.join(parts)}.")
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(6))
    title = f"Where the time of a step goes: {_whose(step)}, {step.setting.phase}"
    return Drawing(f"causes {step.setting.model} {step.setting.phase}", title, " ".join(sentences), figure)


def _roofline(step: StepRecords) -> Drawing | None:
    rate, peaks = step.peaks.bytes_per_second, step.peaks.flops_per_second
    layers = {arm: {name: roof for name, roof in roofs.items() if roof.flops > 0} for arm, roofs in step.roofs.items()}
    layers = {arm: roofs for arm, roofs in layers.items() if roofs}
    if not layers or rate is None:
        return None
    with style():
        figure, (panel,) = stacked([2.6], left=0.75, right=0.2, top=0.1, bottom=0.45)
        intensities = [roof.flops / roof.bytes for roofs in layers.values() for roof in roofs.values()]
        intensities += [flops / rate for flops in peaks.values()]
        reach = np.geomspace(min(intensities) / 2, max(intensities) * 4, 100)
        keys: list[Line2D] = []
        for dashes, ((dtype, tf32), flops) in zip(itertools.cycle(DASHES), peaks.items(), strict=False):
            label = f"roof: {'TF32' if tf32 else printable(dtype)}, {FLOPS(_rounded(flops))}, {BYTES(_rounded(rate))}"
            keys += panel.plot(reach, np.minimum(flops, rate * reach), dashes, color=INK, linewidth=1, label=label)
        keys += [_layer_marks(panel, precision, list(roofs.values())) for precision, roofs in layers.items()]
        panel.set(xscale="log", yscale="log", xlabel="FLOP per byte that must be moved", ylabel="FLOP/s")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.yaxis.set_major_formatter(EngFormatter())
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(numticks=9))
            axis.set_minor_locator(NullLocator())
        panel.grid()
        panel.set_axisbelow(True)
        add_keys(figure, keys)
    title = f"Layers under the measured roofs: {_whose(step)}, {step.setting.phase}"
    sentences = " ".join(_layers_in_words(precision, roofs) for precision, roofs in layers.items())
    return Drawing(f"roofline {step.setting.model} {step.setting.phase}", title, sentences, figure)


def _layer_marks(panel: Any, precision: str, layers: list[Roof]) -> Line2D:
    """The layers of one precision; returns the mark for the key."""
    total = math.fsum(layer.seconds for layer in layers)
    colour, marker = look(precision)
    panel.scatter(
        [layer.flops / layer.bytes for layer in layers],
        [layer.flops / layer.seconds for layer in layers],
        [LEAST_POINTS + POINTS_OF_A_STEP * layer.seconds / total for layer in layers],
        linewidths=0.9,
        marker=marker,
        facecolors="none",
        edgecolors=colour,
    )
    label = f"layer in {fitted(precision)}"
    return Line2D([], [], marker=marker, markerfacecolor="none", markeredgecolor=colour, linestyle="none", label=label)


def _layers_in_words(precision: str, layers: Mapping[str, Roof]) -> str:
    limits = Counter(layer.bound_by.value for layer in layers.values()).most_common()
    counts = ", ".join(f"{number} {limit}-bound" for limit, number in limits)
    name, longest = max(layers.items(), key=lambda item: item[1].seconds)
    return (
        f"{printable(precision)}: {len(layers)} layers ({counts}); the longest is {printable(name)}, "
        f"{MS * longest.seconds:.3g} ms of a step: {FLOPS(_rounded(longest.flops / longest.seconds))}, at "
        f"{100 * longest.fraction:.0f} % of its roof."
    )


def _whose(step: StepRecords) -> str:
    return printable(f"{' '.join(filter(None, [step.setting.model, step.setting.variant]))} on {step.setting.where}")


def _rounded(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")
