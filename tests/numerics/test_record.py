"""numerics.saved and records.numerics: what is saved, and what is believed of it."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_findings import comparison, findings, gradient, output

from mpbench.numerics.findings import BackwardFlow
from mpbench.numerics.loss_scales import LossScales
from mpbench.numerics.saved import details_of, layer_rows, summary, worst_layers
from mpbench.numerics.verdict import judge
from mpbench.records.kinds import kind_of
from mpbench.records.numerics import MAX_LAYERS, MAX_TEXT, NUMERICS, NumericsRecord, SavedRemedy


class Remedy:
    what, verdict, helps, sentence = "first in float32", None, False, "could not be tried: no reason"


def record(found=None, remedies=()):
    found = found or findings()
    judgement = judge(found)
    return NumericsRecord(
        model="tiny",
        precision=found.precision,
        phase="training",
        device="cpu",
        device_name="CPU",
        batch_size=8,
        image_size=32,
        tf32=False,
        data="synthetic",
        seconds=1.5,
        details=details_of(found, judgement, remedies),
        **summary(found, judgement),
    )


def saved(one):
    return json.loads(json.dumps(one.as_extra_info(), allow_nan=False))


def test_what_is_saved_reads_back():
    one = record(remedies=[Remedy])
    assert kind_of(saved(one)) is NUMERICS
    assert NUMERICS.read(saved(one)) == one
    assert [row.name for row in one.layers] == ["first", "second", "(loss)"]
    assert one.remedies == [SavedRemedy("first in float32", "", False, "could not be tried: no reason")]
    assert (one.verdict, one.layer, one.where, one.concerns) == ("SAFE", "", "", [])


def test_the_worst_stands_in_the_record():
    found = findings(
        outputs=(output("first", 6e4), output("second", is_output=True, relative_error=0.25)),
        gradients=(gradient("first", settled_lost=0.1, unscaled_lost=0.7), gradient("second", unscaled_lost=0.9)),
        scales=LossScales(15, 12, 3, 12),
    )
    one = record(found)
    assert (one.verdict, one.layer, one.where) == ("WATCH", "first", "forward")
    assert one.headroom_log2 == pytest.approx(0.1266, abs=1e-4)
    assert (one.headroom_layer, one.output_error) == ("first", 0.25)
    assert (one.gradient_lost, one.gradient_lost_unscaled, one.gradient_lost_weight) == (0.1, 0.9, "first/kernel")
    assert (one.initial_scale_log2, one.settled_scale_log2) == (15, 12)
    assert (one.window_low_log2, one.window_high_log2) == (3, 12)
    assert [concern.where for concern in one.concerns] == ["forward", "backward"]
    row = one.layers[0]
    assert (row.name, row.type, row.dtype, row.gradient_lost, row.gradient_lost_unscaled) == (
        *("first", "Dense", "float16"),
        *(0.1, 0.7),
    )


def test_numbers_that_json_does_not_have_are_left_out():
    outputs = (output("first", 0.0, not_finite=1, reference_largest=1.0, relative_error=float("inf")),)
    one = record(findings(outputs=outputs, loss=comparison(relative_error=float("inf"))))
    assert NUMERICS.read(saved(one)) == one
    assert (one.headroom_log2, one.output_error, one.loss_error) == (None, None, None)
    assert not one.layers[0].finite


def test_what_cannot_be_compared_is_not_told():
    one = record(findings(unlike="it draws random numbers"))
    assert (one.output_lost, one.output_error, one.gradient_lost, one.loss_error) == (None,) * 4
    assert {row.error for row in one.layers} == {row.gradient_error for row in one.layers} == {None}


def test_calls_of_one_layer_are_one_row():
    found = findings(
        outputs=(output("shared", 8.0), output("shared", 16.0, call=1)), gradients=(), flows=(), updates=()
    )
    (row,) = layer_rows(found)
    assert row.headroom_log2 == pytest.approx(12, abs=0.01)
    found = replace(found, flows=(BackwardFlow("shared", "float16", 0.0, 3),))
    assert not layer_rows(found)[0].backward_finite


def test_of_many_layers_those_to_blame_come_first_and_few_are_kept():
    outputs = tuple(output(f"layer_{i}", 2.0 + i) for i in range(100))
    found = findings(outputs=outputs, gradients=(gradient("layer_3", settled_lost=1.0),), flows=(), updates=())
    rows = worst_layers(found, judge(found))
    assert len(rows) == MAX_LAYERS
    assert [row.name for row in rows[:3]] == ["layer_3", "layer_99", "layer_98"]


def test_a_record_stays_small():
    long = "a/very/long/name/" * 100
    outputs = tuple(output(f"{long}{i}", 6e4) for i in range(100))
    one = record(findings(outputs=outputs), remedies=[Remedy] * 50)
    assert len(one.details) < 40_000
    assert NUMERICS.read(saved(one)) == one
    assert all(len(row.name) <= MAX_TEXT for row in one.layers)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("verdict", "FINE", "verdict: 'FINE': valid are SAFE, WATCH, BREAKS"),
        ("where", "sideways", "where: 'sideways': valid are forward, backward, update"),
        ("details", "{}", "details: no layers can be read"),
        ("details", "[" * 10_000, "details: no layers can be read"),
        ("details", '{"layers": {}, "concerns": [], "remedies": []}', "details: layers must be a list of at most 20"),
        ("details", '{"layers": [{"name": "a"}], "concerns": [], "remedies": []}', "one of layers has fields"),
        (
            "details",
            '{"layers": [{"name": "a", "type": "b", "dtype": "c", "error": true}], "concerns": [], "remedies": []}',
            "one of layers has fields",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(field, value, message):
    with pytest.raises(ValueError, match=message):
        NUMERICS.read({**saved(record()), field: value})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
    )
)
def test_any_json_is_read_or_refused(value):
    for text in (json.dumps(value), json.dumps({"layers": value, "concerns": [value], "remedies": []})):
        with suppress(ValueError):
            assert NUMERICS.read({**saved(record()), "details": text}).layers is not None


def test_another_kind_of_case_is_none():
    assert kind_of({"mpbench_schema": 2}) is not NUMERICS
    with pytest.raises(ValueError, match="extra_info has no mpbench_numerics_schema"):
        NUMERICS.read({})
