"""mpbench.why.reading.account: it adds up to the measured step, whatever was measured, and counts nothing twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_records import feed, found_in, layer, part, peaks, pipeline
from saved_runs import cases

from mpbench.why.reading.account import (
    CASTS,
    KEPT,
    LABELS,
    REST,
    UNCLASSED,
    UNEXPLAINED,
    UPDATE,
    WHOLE,
    account,
    adding_up,
    difference,
    fed_of,
    layer_types,
    measured,
    split_of,
    steps_of,
)
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY, peaks_of

LAYERS = [
    layer("conv", 20, flops=1e10, count=2),
    layer("add", 2, flops=1e3, minimal_bytes=1e8, layer_type="Add"),
    layer("tiny", 0.1, flops=1e3, minimal_bytes=1e3, kernels=20, count=10, layer_type="ReLU"),
    layer("softmax", 1, flops=1e3, minimal_bytes=1e8, layer_type="Activation"),
    layer("reshape", 0.5, kernels=0, layer_type="Reshape"),
]
MIXED = [
    layer("conv", 9, "mixed_float16", flops=1e10, count=2, cast_bytes=300.0),
    layer("add", 1, "mixed_float16", flops=1e3, minimal_bytes=1e8, layer_type="Add"),
    layer("tiny", 0.1, "mixed_float16", flops=1e3, minimal_bytes=1e3, kernels=20, count=10, cast_bytes=20.0),
    layer("softmax", 1, "mixed_float16", compute_dtype="float32", layer_type="Activation"),
    layer("reshape", 0.5, "mixed_float16", kernels=0, layer_type="Reshape"),
]
PARTS = [
    *(part(name, ms) for name, ms in {"step": 100, "forward": 20, "gradients": 50, "update": 45}.items()),
    *(
        part(name, ms, "mixed_float16")
        for name, ms in {"step": 80, "forward": 12, "gradients": 32, "update": 45, "casts": 4}.items()
    ),
]


def of(precision, *probes, phase="training", step_ms=None, cases=()):
    found = found_in(*probes, cases=cases)
    seconds = step_ms / 1000 if step_ms else steps_of(found, phase).figures[precision].seconds
    return measured(found, phase, precision, seconds, peaks_of(found.peaks))


def in_ms(rows):
    return {key: round(1000 * seconds, 9) for key, seconds in rows.items()}


def test_each_row_holds_what_it_says():
    rows = account(of("float32", *LAYERS, *PARTS, *peaks()))
    expected = {UPDATE: 45, COMPUTE: 40, MEMORY: 3, LAUNCH: 1, UNCLASSED: 0.5, REST: 5, UNEXPLAINED: 5.5}
    assert in_ms(rows) == expected
    assert list(rows) == [key for key in LABELS if key in rows]


def test_casts_are_taken_out_of_the_layers_by_their_bytes_so_that_nothing_counts_twice():
    rows = account(of("mixed_float16", *MIXED, *PARTS, *peaks()))
    # 4 ms by 2 x 300 and 10 x 20 bytes: 3 ms of the convolutions, and the tiny ones' whole millisecond.
    assert in_ms(rows) == {
        UPDATE: 45,
        COMPUTE: 15,
        MEMORY: 1,
        LAUNCH: 0,
        UNCLASSED: 0.5,
        KEPT: 1,
        CASTS: 4,
        REST: 3,
        UNEXPLAINED: 10.5,
    }
    dear = [layer("conv", 9, "mixed_float16", flops=1e10, cast_bytes=1.0), part("casts", 20, "mixed_float16")]
    rows = account(of("mixed_float16", *dear, *peaks(), step_ms=50))
    assert in_ms(rows) == {COMPUTE: 0, CASTS: 9, UNEXPLAINED: 41}


def test_in_inference_casts_stay_in_the_layers():
    inference = [layer("conv", 9, "mixed_float16", "inference", cast_bytes=300.0, flops=1e10)]
    rows = account(of("mixed_float16", *inference, *PARTS, *peaks(), phase="inference", step_ms=10))
    assert in_ms(rows) == {COMPUTE: 9, UNEXPLAINED: 1}


def test_without_layers_the_passes_are_one_row():
    rows = account(of("mixed_float16", *PARTS))
    assert in_ms(rows) == {UPDATE: 45, CASTS: 4, WHOLE: 28, REST: 3, UNEXPLAINED: 0}


def test_without_parts_the_update_is_unexplained():
    rows = account(of("float32", *LAYERS, *peaks(), step_ms=100))
    assert in_ms(rows) == {COMPUTE: 40, MEMORY: 3, LAUNCH: 1, UNCLASSED: 0.5, UNEXPLAINED: 55.5}


def test_without_peaks_no_layer_has_a_class():
    rows = account(of("mixed_float16", *MIXED, step_ms=40))
    assert in_ms(rows) == {UNCLASSED: 20.5, KEPT: 1, UNEXPLAINED: 18.5}


def test_unexplained_may_be_negative():
    found = of("float32", *LAYERS, *peaks(), step_ms=30)
    assert account(found)[UNEXPLAINED] == pytest.approx(-14.5e-3)
    assert found.predicted == pytest.approx(44.5e-3)


def test_the_difference_keeps_a_layer_in_one_row():
    found = found_in(*LAYERS, *MIXED, *PARTS, *peaks())
    base, mixed = (measured(found, "training", p, s, peaks_of(found.peaks)) for p, s in
                   {"float32": 0.1, "mixed_float16": 0.08}.items())  # fmt: skip
    between = difference(base, mixed)
    assert in_ms(between.before)[KEPT] == in_ms(between.after)[KEPT] == 1
    assert in_ms(between.before)[MEMORY] == 2
    assert in_ms(between.saved)[CASTS] == -4
    assert in_ms(between.saved)[UPDATE] == 0
    assert math.fsum(between.before.values()) == pytest.approx(0.1)
    assert math.fsum(between.saved.values()) == pytest.approx(0.02)


def test_what_only_one_side_has_is_no_saving():
    found = found_in(*LAYERS, *MIXED[:2], *PARTS[:4], part("step", 80, "mixed_float16"), *peaks())
    base, mixed = (measured(found, "training", p, s, peaks_of(found.peaks)) for p, s in
                   {"float32": 0.1, "mixed_float16": 0.08}.items())  # fmt: skip
    between = difference(base, mixed)
    assert set(between.after) == set(between.before) == {COMPUTE, MEMORY, UNEXPLAINED}
    assert in_ms(between.before) == {COMPUTE: 40, MEMORY: 2, UNEXPLAINED: 58}
    assert in_ms(between.after) == {COMPUTE: 18, MEMORY: 1, UNEXPLAINED: 61}


def test_where_the_step_comes_from():
    speed, fed = cases(150, 100), [feed("device", 98), feed("device", 79, "mixed_float16")]
    assert steps_of(found_in(*PARTS, *fed, cases=speed), "training").source == "parts"
    one_sided = found_in(PARTS[0], *fed, cases=speed)
    steps = steps_of(one_sided, "training")
    assert steps.source == "speed"
    assert steps.figures["mixed_float16"].seconds == pytest.approx(0.1)
    assert steps_of(found_in(PARTS[0], *fed), "training").source == "feed"
    assert steps_of(found_in(PARTS[0]), "training").source == "parts"
    assert steps_of(found_in(*PARTS), "inference") is None


def test_a_step_split_into_its_parts():
    found = found_in(*PARTS[:4])
    split = split_of(found, "float32", 0.1)
    assert (split.forward, split.backward, split.update, split.rest) == pytest.approx((0.02, 0.03, 0.045, 0.005))
    split = split_of(found, "mixed_float16", 0.1)
    assert (split.forward, split.backward, split.update, split.rest) == (None,) * 4


def test_the_fed_step_is_the_step_and_what_the_input_adds():
    fed = [feed("device", 98), feed("fed", 120), pipeline(70, cache="memory"), pipeline(110)]
    found = fed_of(found_in(*PARTS, *fed), "training", "float32", 0.1)
    assert (found.pipeline, found.device, found.fed) == (0.11, 0.098, 0.12)
    assert found.rows == pytest.approx({"input": 0.022, "measured-apart": -0.002})
    assert found.step + math.fsum(found.rows.values()) == pytest.approx(0.12)
    assert fed_of(found_in(*fed[:2]), "training", "float32", None).pipeline is None
    assert fed_of(found_in(*fed[1:]), "training", "float32", None) is None


def test_layer_types_are_summed_longest_first():
    types = layer_types(found_in(*LAYERS), "training", "float32")
    assert in_ms(types) == {"Conv2D": 40, "Add": 2, "ReLU": 1, "Activation": 1, "Reshape": 0.5}
    assert next(iter(types)) == "Conv2D"


times = st.floats(1e-3, 1e4)
layers = st.lists(
    st.tuples(times, st.integers(1, 100), st.sampled_from([0.0, 1e3, 1e9]), st.integers(0, 30), st.booleans()),
    max_size=8,
)


@given(
    times,
    st.dictionaries(st.sampled_from(["forward", "gradients", "update", "casts"]), times),
    layers,
    st.dictionaries(st.sampled_from(["forward", "gradients", "update", "casts"]), times),
    layers,
    st.booleans(),
)
def test_it_always_adds_up_to_the_measured_step(step, parts_before, before, parts_after, after, with_peaks):
    probes = [part("step", step), part("step", step / 2, "mixed_float16"), *(peaks() if with_peaks else [])]
    for precision, parts, some in (("float32", parts_before, before), ("mixed_float16", parts_after, after)):
        probes += [part(name, ms, precision) for name, ms in parts.items()]
        probes += [
            layer(
                f"layer{n}",
                ms,
                precision,
                count=count,
                flops=flops,
                kernels=kernels,
                cast_bytes=8.0 * n,
                **({"compute_dtype": "float32"} if kept else {}),
            )
            for n, (ms, count, flops, kernels, kept) in enumerate(some)
        ]
    both = {name: of(name, *probes) for name in ("float32", "mixed_float16")}
    between = difference(*both.values())
    steps = {name: one.split.step for name, one in both.items()}
    scale = sum(steps.values()) + sum(math.fsum(map(abs, account(one).values())) for one in both.values())
    for rows, seconds in [
        *((account(one), steps[name]) for name, one in both.items()),
        (between.before, steps["float32"]),
        (between.after, steps["mixed_float16"]),
        (between.saved, steps["float32"] - steps["mixed_float16"]),
    ]:
        assert math.fsum(rows.values()) == pytest.approx(seconds, abs=1e-12 * scale)
    for one in both.values():
        assert all(seconds >= 0 for seconds in one.layers.values())


@given(
    st.dictionaries(st.text(max_size=3), st.floats(-1e6, 1e6), min_size=1, max_size=20), st.sampled_from([1, 0.1, 5])
)
def test_what_is_printed_adds_up_and_no_figure_is_off_by_a_unit(values, unit):
    whole = adding_up(values, unit)
    assert sum(whole.values()) == round(math.fsum(value / unit for value in values.values()))
    assert all(abs(whole[key] - value / unit) < 1 + 1e-9 for key, value in values.items())
