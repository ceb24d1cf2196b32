import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.records.profile import (
    CLASSES,
    COPIES,
    ELEMENTWISE,
    FORWARD,
    PASSES,
    REDUCTIONS,
    LayerRow,
    Operations,
    ProfileRecord,
)
from mpbench.why.reading.breakdown import IDLE, LONGER, Breakdown, By, adding_up, aligned

rows = st.lists(
    st.builds(
        LayerRow,
        name=st.sampled_from(["a", "b", "c/d", "(optimizer)", ""]),
        type=st.sampled_from(["Dense", "Conv2D"]),
        ns=st.dictionaries(
            st.tuples(st.sampled_from(PASSES), st.sampled_from(CLASSES)), st.integers(1, 10**9), min_size=1, max_size=5
        ),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda row: row.name,
)


def record(of_rows, steps=3, devices=1):
    busy = sum(row.total_ns for row in of_rows)
    operations = (Operations("Mul", ELEMENTWISE, busy, 5),)
    return ProfileRecord("a test", True, "", steps, devices, busy + 10, True, tuple(of_rows), operations)


breakdowns = st.builds(
    lambda of_rows, steps, devices, step: Breakdown(record(of_rows, steps, devices), step),
    rows,
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(1e-6, 10),
)


@given(breakdowns, st.sampled_from(By))
def test_rows_add_up_to_the_step(breakdown, by):
    assert math.fsum(breakdown.rows(by).values()) == pytest.approx(breakdown.step_seconds, abs=1e-9)


@given(breakdowns, breakdowns)
def test_layers_of_two_precisions_stand_in_the_same_rows_and_add_up(before, after):
    rows = aligned({"before": before, "after": after})
    for name, of in (("before", before), ("after", after)):
        assert math.fsum(rows[name].values()) == pytest.approx(of.step_seconds, abs=1e-9)


@given(st.dictionaries(st.text(), st.floats(-1, 1), min_size=1))
def test_printed_figures_add_up(values):
    assert sum(adding_up(values, 1e-3).values()) == round(math.fsum(value / 1e-3 for value in values.values()))


def one(ns=3_000_000, kind=ELEMENTWISE, **fields):
    return LayerRow("a", "Dense", ns={(FORWARD, kind): ns}, **fields)


def test_what_is_idle_is_what_the_step_has_left():
    breakdown = Breakdown(record([one()]), 0.004)  # 1 ms of each of three steps
    assert breakdown.rows(By.CLASS) == {ELEMENTWISE: 0.001, IDLE: 0.003}
    assert breakdown.idle_share == 0.75


def test_what_ran_longer_under_the_profiler_has_a_row():
    breakdown = Breakdown(record([one()]), 0.0009)
    assert breakdown.rows(By.CLASS) == pytest.approx({ELEMENTWISE: 0.001, IDLE: 0.0, LONGER: -0.0001})


def test_several_gpus_count_as_their_mean():
    assert Breakdown(record([one()], steps=3, devices=2), 0.001).busy_seconds == 0.0005


def test_what_the_profiler_adds_is_told():
    of = record([one()])
    assert Breakdown(of, 0.0004).profiler_seconds == pytest.approx(of.span_ns / 3e9 - 0.0004)


def test_a_layer_stands_alone_only_where_it_does_in_both():
    before = record(
        [LayerRow("a", "Dense", ns={(FORWARD, COPIES): 6}), LayerRow("b", "Dense", ns={(FORWARD, COPIES): 3})]
    )
    after = record(
        [LayerRow("a", "Dense", ns={(FORWARD, REDUCTIONS): 9}), LayerRow("", "Dense", ns={(FORWARD, COPIES): 3})]
    )
    of = aligned({"x": Breakdown(before, 1e-6), "y": Breakdown(after, 1e-6)})
    assert of["x"] == pytest.approx({"a": 2e-9, "other Dense layers": 1e-9, IDLE: 1e-6 - 3e-9})
    assert of["y"] == pytest.approx({"a": 3e-9, "other Dense layers": 1e-9, IDLE: 1e-6 - 4e-9})
