"""The figures that are bars, one per case: memory, energy, images per second.

Pure: records in, `content.Drawing` out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter, MaxNLocator

from mpbench.errors import printable
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report.case_rows import arm, arm_in_full, by_phase, heading
from mpbench.report.content import Drawing
from mpbench.report.drawing import INK, Row, drawn_rows, looks, rows_under_headings, style
from mpbench.report.tables import MIB, joules


def memory(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Peak memory of the device; None where the allocator was not asked: a process's holds all cases at once."""
    bars = [
        Bar(r, r.peak_memory_bytes / MIB, f"{r.peak_memory_bytes / MIB:,.0f}")
        for r in _records(cases)
        if r.memory_kind == "device"
    ]
    return _drawn_bars("memory", "Peak memory of the device", "MiB", bars)


def energy(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Energy per image with the spread of its passes to either side; None where it was not measured."""
    bars = [
        Bar(r, r.joules_per_image, joules(r), (r.joules_spread or 0.0) * r.joules_per_image)
        for r in _records(cases)
        if r.joules_per_image
    ]
    return _drawn_bars("energy", "Energy per image", "J/image", bars)


def throughput(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Images per second at the median round; None without cases."""
    bars = [Bar(r, r.images_per_second, f"{r.images_per_second:,.1f}") for r in _records(cases)]
    return _drawn_bars("throughput", "Images per second", "images/s", bars)


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        record: whose it is.
        value: its length.
        shown: the same as text.
        spread: to either side of its end; 0 where there is none.
    """

    record: CaseRecord
    value: float
    shown: str
    spread: float = 0.0


def _records(cases: Sequence[SpeedCase]) -> list[CaseRecord]:
    """Those that get a bar: a control is its baseline once more."""
    return [case.record for case in cases if not case.record.control]


def _drawn_bars(name: str, title: str, unit: str, bars: Sequence[Bar]) -> Drawing | None:
    """A panel per phase; None without bars."""
    if not bars:
        return None
    bars, more = drawn_rows(bars)
    of_record = {id(bar.record): bar for bar in bars}
    phases = by_phase([bar.record for bar in bars])
    panels_bars = [[of_record[id(r)] for r in of] for of in phases.values()]
    rows = [[Row(heading(bar.record), arm(bar.record), bar.shown) for bar in of] for of in panels_bars]
    of_precision = looks(bar.record.precision for bar in bars)
    with style():
        titles = [phase.capitalize() for phase in phases]
        figure, panels, places = rows_under_headings(titles, rows, x_label=unit)
        for panel, ys, of in zip(panels, places, panels_bars, strict=True):
            for y, bar in zip(ys, of, strict=True):
                panel.barh(y, bar.value, 0.7, color=of_precision[bar.record.precision][0])
                if bar.spread:
                    ends = [bar.value - bar.spread, bar.value + bar.spread]
                    panel.plot(ends, [y, y], color=INK, linewidth=0.8, marker="|", markersize=5)
            panel.set_xlim(0)
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))
    sentences = [
        f"{printable(f'{bar.record.name}, {bar.record.phase}')}, {arm_in_full(bar.record)}: {bar.shown} {unit}."
        for of in panels_bars
        for bar in of
    ]
    return Drawing(name, f"{title}{more}", " ".join(sentences), figure)
