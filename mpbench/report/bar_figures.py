"""The figures that are bars, one per case: memory, energy, images per second. Pure: from cases to drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter, MaxNLocator

from mpbench.errors import printable
from mpbench.records.speed import SpeedCase
from mpbench.report.content import Drawing
from mpbench.report.drawing import INK, case_row, drawn_rows, look, rows_under_headings, style
from mpbench.report.labels import MIB, arm_label, by_phase
from mpbench.report.speed_tables import joules_label


def memory(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Peak memory of the device; None on a CPU: there only the whole process's memory is known."""
    bars = [
        Bar(case, r.peak_memory_bytes / MIB, f"{r.peak_memory_bytes / MIB:,.0f}")
        for case in _with_bars(cases)
        if (r := case.record).memory_kind == "device"
    ]
    return _drawn_bars("memory", "Peak memory of the device", "MiB", bars)


def energy(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Energy per image with the spread of its passes to either side; None where it was not measured."""
    bars = [
        Bar(case, joules, joules_label(case.record), (case.record.joules_spread or 0.0) * joules)
        for case in _with_bars(cases)
        if (joules := case.record.joules_per_image)
    ]
    return _drawn_bars("energy", "Energy per image", "J/image", bars)


def throughput(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Images per second at the median round; None without cases."""
    rates = [(case, case.record.images_per_second) for case in _with_bars(cases)]
    bars = [Bar(case, rate, f"{rate:,.1f}") for case, rate in rates]
    return _drawn_bars("throughput", "Images per second", "images/s", bars)


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        case: the case that it shows.
        value: its length.
        label: the same as text.
        spread: to either side of its end; 0 where there is none.
    """

    case: SpeedCase
    value: float
    label: str
    spread: float = 0.0


def _with_bars(cases: Sequence[SpeedCase]) -> list[SpeedCase]:
    """All but controls, which repeat their baseline."""
    return [case for case in cases if not case.record.control]


def _drawn_bars(name: str, title: str, unit: str, bars: Sequence[Bar]) -> Drawing | None:
    """A panel per phase; None without bars."""
    if not bars:
        return None
    bars, more = drawn_rows(bars)
    of_case = {id(bar.case): bar for bar in bars}
    phases = by_phase(bar.case for bar in bars)
    rows = [[case_row(case.record, of_case[id(case)].label) for case in cases] for cases in phases.values()]
    sentences = []
    with style():
        titles = [phase.capitalize() for phase in phases]
        figure, panels, places = rows_under_headings(titles, rows, x_label=unit)
        for panel, ys, cases in zip(panels, places, phases.values(), strict=True):
            for y, case in zip(ys, cases, strict=True):
                bar, r = of_case[id(case)], case.record
                panel.barh(y, bar.value, 0.7, color=look(r.precision)[0])
                if bar.spread:
                    ends = [bar.value - bar.spread, bar.value + bar.spread]
                    panel.plot(ends, [y, y], color=INK, linewidth=0.8, marker="|", markersize=5)
                sentences.append(printable(f"{r.name}, {r.phase}, {arm_label(r)}: {bar.label} {unit}."))
            panel.set_xlim(0)
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))
    return Drawing(name, f"{title}{more}", " ".join(sentences), figure)
