"""What is drawn and said of a very large run has bounds: neither minutes of work nor a page that no browser opens."""

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from case_records import pair, record

from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun
from mpbench.report import drawing, figures
from mpbench.report.benefit import equal_benefit
from mpbench.report.content import Drawing
from mpbench.report.figures import throughput
from mpbench.report.labels import MAX_EACH, each
from mpbench.report.page import page
from mpbench.report.sections import report
from mpbench.report.speed_tables import phase_table

MANY = 300


@pytest.fixture(scope="module")
def many():
    return [case for number in range(MANY) for case in pair(f"model{number}", 100, 60)]


def panels(drawn):
    return len(drawn.figure.axes)


def test_rows_of_a_figure(many):
    drawn = figures.speedups(many)
    assert drawn.title.endswith(f"(the first {drawing.MOST_ROWS} of {MANY})")
    assert f"model{drawing.MOST_ROWS - 1}," in drawn.alternative
    assert f"model{drawing.MOST_ROWS}," not in drawn.alternative
    assert throughput(many).title.endswith(f"(the first {drawing.MOST_ROWS} of {2 * MANY})")
    assert "first" not in figures.speedups(many[:10]).title


def test_figures_of_a_kind_and_panels_of_a_figure(many):
    assert len(figures.step_times(many)) == drawing.MOST_DRAWINGS
    of_one = [Measured(record(), [0.1] * 12) for _ in range(MANY)]
    (drawn,) = figures.step_times(of_one)
    assert panels(drawn) == drawing.MOST_PANELS
    assert drawn.title.endswith(f"(the first {drawing.MOST_PANELS} of {MANY})")


def test_marks_of_a_panel_keep_the_extremes():
    rounds = [0.1] * 50_000
    rounds[123], rounds[45_678] = 0.01, 0.9
    blocks = ",".join(map(str, range(50_000, 60_000)))
    case = Measured(record(rounds=50_000, unpaired_blocks=blocks), rounds)
    (drawn,) = figures.step_times([case])
    (line,) = [
        one for one in drawn.figure.axes[0].get_lines() if len(one.get_xdata()) > 100 and one.get_marker() != "|"
    ]
    values = [y for y in line.get_ydata() if y == y]
    assert len(values) <= figures.MOST_MARKS
    assert (min(values), max(values)) == (10, 900)
    assert "drawn are the least and the largest of neighbours" in drawn.alternative
    assert len(drawn.alternative) < 2000


def test_few_marks_are_all_drawn():
    points = [(block, float(block % 7)) for block in range(figures.MOST_MARKS)]
    assert figures._thinned(points) == points
    thinned = figures._thinned([*points, (9999, 0.5)])
    assert sorted(thinned) == thinned
    assert len(thinned) < len(points)


def test_words_about_many_models(many):
    assert each(range(MAX_EACH)) == "/".join(map(str, range(MAX_EACH)))
    assert each(range(1000)).endswith(f"/{MAX_EACH - 1}/and {1000 - MAX_EACH} more")
    (line,) = equal_benefit(many)
    assert line.endswith(f"{MANY} models are too many to compare any two in words: the table has their intervals.")
    assert len(phase_table(many).rows) == MANY


def test_names_of_many_drawings_stay_apart():
    wanted = ["a"] * 50 + ["a-2", "A!"] * 2
    names = [one.name for one in drawing.named(Drawing(name, "", "", None) for name in wanted)]
    assert len(set(names)) == len(names) == 54
    assert names[:3] == ["a", "a-2", "a-3"]


def test_a_long_name_makes_no_page_of_many_times_its_size():
    def size(name):
        cases = {
            f"bench/t.py::t[{number}]": Measured(one.record, tuple(one.rounds), f"bench/t.py::t[{number}]")
            for number, one in enumerate(pair(name, 100, 60))
        }
        time = datetime(2026, 5, 1, tzinfo=timezone.utc)
        return len(page(report([SavedRun(Path("r.json"), time, "", False, "", {}, cases)])))

    assert size("x" * 1000) - size("x") < 100 * 1000


def test_a_baseline_is_found_in_each_test_of_a_long_run(many):
    table = phase_table([replace(one, record=replace(one.record, phase="inference")) for one in many])
    assert sum("1.667 [" in line for line in table.lines()) == MANY
