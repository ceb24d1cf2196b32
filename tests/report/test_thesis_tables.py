"""The thesis's tables as measured: its figures beside ours, and only what was measured."""

from dataclasses import replace

import pytest
from case_records import accuracy_record
from saved_runs import cases, saved_run

from mpbench.records.runs import read_run
from mpbench.report.content import cell_text
from mpbench.report.thesis_tables import thesis_tables


@pytest.fixture
def tables(tmp_path):
    """Of a run of these pairs: title, columns, and rows as text of each table."""

    def made_of(*pairs):
        path = saved_run(tmp_path, time="2026-04-01T12:00:00+00:00", commit="a" * 40, records_and_rounds=pairs)
        made = thesis_tables(read_run(path))
        return [(table.title, table.columns, [tuple(map(cell_text, row)) for row in table.rows]) for table in made]

    return made_of


def test_all_five_from_the_thesiss_own_figures(tables):
    made = tables(*cases(303, 196), *cases(138, 100, phase="inference"), (accuracy_record(), [0.1]))
    assert [title.partition(":")[0] for title, _, _ in made] == [
        "Table 1, models",
        "Table 2, validation accuracy in %",
        "Table 3, McNemar",
        "Table 4, training",
        "Table 5, inference",
    ]
    rows = [row for _, _, (row,) in made]
    assert rows[0] == ("vgg16", "15.0", "16", "138")
    arm = ("vgg16", "mixed_float16")
    assert rows[1] == (*arm, "91.76", "91.62", "-0.14 [-0.42, +0.13]", "0.39", "7, 8", "91.70 -> 90.74")
    images = "4562 / 26 / 19 / 393"
    assert rows[2] == (*arm, "4562", "26", "19", "393", "0.371", "0.302", "0.371", images, "0.371")
    assert rows[3][:7] == (*arm, "303.00", "196.00", "107.00", "35.3", "1.546 [1.530, 1.561]")
    assert rows[3][-2:] == ("303 -> 196", "1.55")
    assert rows[4][:7] == (*arm, "138.00", "100.00", "38.00", "27.5", "1.380 [1.366, 1.394]")
    assert "NVIDIA V100, batch 64, 224x224 px, XLA on" in made[3][0]


def test_what_the_thesis_did_not_measure_stands_alone(tables):
    made = tables(*cases(30, 20, model="mobilenet"), (accuracy_record("mobilenet"), [0.1]))
    assert [title[:7] for title, _, _ in made] == ["Table 1", "Table 2", "Table 3", "Table 4"]
    assert not [column for _, columns, _ in made for column in columns if "thesis" in column or "V100" in column]


def test_notes_stand_with_the_figure_and_sweeps_and_controls_in_none(tables):
    noisy = cases(303, 196, noisy=True, throttled=True)
    swept = cases(30, 20, model="vgg19", variant="batch=8", point="batch=8")
    control = cases(50, 50, model="vgg13", control=True)[1:]
    made = tables(*noisy, *swept, *control)
    assert [row[0] for row in made[0][2]] == ["vgg16"]
    assert [row[6] for row in made[1][2]] == ["1.546 [1.530, 1.561] NOISY THROTTLED"]


def test_batches_that_differ_have_no_share(tables):
    base, (record, rounds) = cases(303, 196)
    (_, _, (row,)) = tables(base, (replace(record, batch_size=128), rounds))[1]
    assert row[4] == "64 -> 128"


def test_only_a_baseline_stands_alone(tables):
    assert [title[:7] for title, _, _ in tables(cases(303, 196)[0])] == ["Table 1", "Table 4"]
    assert [title[:7] for title, _, _ in tables((accuracy_record(), [0.1]))] == ["Table 2", "Table 3"]
