"""mpbench.why.reading.roofline: classes and bounds, and nothing where a peak is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_records import found_in, layer, part, peak, peaks

from mpbench.why.reading.findings import Figure
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY, allowed, peaks_of, roof, update_bound


def figure(probed):
    return Figure(probed.record, probed.rounds)


PEAKS = peaks_of(map(figure, peaks()))


def under_roof(ms=3.0, precision="float32", of=PEAKS, **costs):
    return roof(figure(layer("conv", ms, precision, **costs)), of)


def test_peaks_are_rates():
    assert PEAKS.flops_per_second == pytest.approx({("float32", False): 1e12, ("float16", False): 4e12})
    assert PEAKS.bytes_per_second == pytest.approx({"float32": 1e11, "float16": 1e11})
    assert PEAKS.launch_seconds == pytest.approx({"float32": 5e-6, "float16": 5e-6})


def test_of_two_peaks_of_one_dtype_the_better_counts_and_an_unknown_precision_does_not():
    more = [peak("matmul", 2), peak("latency", 9), peak("copy", 0.005), peak("matmul", 1e-9, "guess")]
    found = peaks_of(map(figure, [*peaks(), *more]))
    assert found.flops_per_second == pytest.approx(PEAKS.flops_per_second)
    assert found.launch_seconds["float32"] == pytest.approx(5e-6)
    assert found.bytes_per_second["float32"] == pytest.approx(2e11)


@pytest.mark.parametrize(
    ("costs", "kind", "bound"),
    [
        ({"flops": 2e9, "minimal_bytes": 1e6, "kernels": 1}, COMPUTE, 2e-3),
        ({"flops": 2e6, "minimal_bytes": 1e8, "kernels": 1}, MEMORY, 1e-3),
        ({"flops": 1e3, "minimal_bytes": 1e3, "kernels": 20}, LAUNCH, 1e-4),
        ({"flops": 0.0, "minimal_bytes": 1e8, "kernels": 1, "parameters": 0}, MEMORY, 1e-3),
    ],
)
def test_the_largest_bound_names_the_class(costs, kind, bound):
    found = under_roof(4.0, **costs)
    assert (found.bound_by, found.bound_seconds) == (kind, pytest.approx(bound))
    assert found.fraction == pytest.approx(bound / 4e-3)
    assert found.flops_per_second == pytest.approx(costs["flops"] / 4e-3)
    assert found.bytes_per_second == pytest.approx(costs["minimal_bytes"] / 4e-3)
    assert found.flops_per_byte == pytest.approx(costs["flops"] / costs["minimal_bytes"])


def test_the_peak_is_that_of_the_dtype_that_the_layer_computes_in():
    assert under_roof(precision="mixed_float16", flops=1e10).bound_seconds == pytest.approx(2.5e-3)
    kept = under_roof(precision="mixed_float16", flops=1e10, compute_dtype="float32")
    assert kept.bound_seconds == pytest.approx(1e-2)


def test_tf32_has_a_peak_of_its_own():
    of = peaks_of(map(figure, [*peaks(), peak("matmul", 0.5, "tf32", tf32=True)]))
    assert under_roof(precision="tf32", of=of, flops=1e10, tf32=True).bound_seconds == pytest.approx(5e-3)
    assert under_roof(precision="tf32", flops=1e10, tf32=True).bound_seconds is None


@pytest.mark.parametrize("missing", ["matmul", "copy", "latency"])
def test_where_a_peak_is_missing_there_is_no_class_and_no_guess(missing):
    of = peaks_of(figure(one) for one in peaks() if one.record.what != missing)
    found = under_roof(of=of)
    assert (found.bound_by, found.bound_seconds, found.fraction) == (None, None, None)
    assert found.flops_per_second > 0


def test_what_was_not_counted_is_no_bound_either():
    assert under_roof(flops=0.0, parameters=10).bound_by is None
    assert under_roof(minimal_bytes=0.0).bound_by is None
    assert under_roof(minimal_bytes=0.0).flops_per_byte is None


def test_what_launches_nothing_has_nothing_to_do():
    found = under_roof(kernels=0, minimal_bytes=1e6, flops=0.0)
    assert (found.bound_by, found.bound_seconds) == (None, 0)


LAYERS = [
    layer("conv", 20, flops=1e10, count=3),
    layer("conv", 9, "mixed_float16", flops=1e10, count=3),
    layer("add", 2, flops=1e3, minimal_bytes=1e8),
    layer("add", 1, "mixed_float16", flops=1e3, minimal_bytes=5e7),
]
UPDATES = [part("update", 60, minimal_bytes=2e9), part("update", 60, "mixed_float16", minimal_bytes=2e9)]


def allowed_in(*probes, phase="training"):
    found = found_in(*probes)
    layers = {precision: of for (_, precision), of in found.layers.items()}
    updates = {name: found.parts.get((name, "update")) for name in ("float32", "mixed_float16")}
    return allowed(layers, updates if phase == "training" else None, peaks_of(found.peaks), "float32", "mixed_float16")


def test_the_speedup_that_the_roofline_would_allow():
    # float32: 3 x 10 + 1 ms, mixed_float16: 3 x 2.5 + 0.5 ms; the update moves 2 GB at 100 GB/s in both.
    found = allowed_in(*LAYERS, *UPDATES, *peaks())
    assert (found.baseline_seconds, found.seconds) == pytest.approx((51e-3, 28e-3))
    assert found.speedup == pytest.approx(51 / 28)
    assert allowed_in(*LAYERS, *peaks(), phase="inference").speedup == pytest.approx(31 / 8)


def test_without_all_that_it_takes_no_speedup_is_allowed():
    assert "layer was measured" in allowed_in(*LAYERS[:3], *UPDATES, *peaks()).missing
    assert "no bound" in allowed_in(*LAYERS, *UPDATES, *peaks(["float32"])).missing
    assert "update in float32" in allowed_in(*LAYERS, *peaks()).missing
    uncounted = allowed_in(*LAYERS, UPDATES[0], part("update", 60, "mixed_float16"), *peaks())
    assert (uncounted.speedup, "update in mixed_float16" in uncounted.missing) == (None, True)


def test_an_update_moves_what_the_weights_are_kept_in():
    of = peaks_of(map(figure, [peak("copy", 0.01), peak("copy", 0.02, "float16")]))
    for precision, seconds in {"float32": 0.01, "mixed_float16": 0.01, "float16": 0.02}.items():
        assert update_bound(figure(part("update", 1, precision, minimal_bytes=1e9)), of) == pytest.approx(seconds)


amounts = st.floats(1, 1e12)


@given(amounts, amounts, st.integers(1, 1000), st.floats(1e-3, 1e3))
def test_the_bound_is_never_below_any_roof(flops, minimal_bytes, kernels, ms):
    found = under_roof(ms, flops=flops, minimal_bytes=minimal_bytes, kernels=kernels)
    bounds = {COMPUTE: found.compute_seconds, MEMORY: found.memory_seconds, LAUNCH: found.launch_seconds}
    assert all(bound <= found.bound_seconds for bound in bounds.values())
    assert bounds[found.bound_by] == found.bound_seconds
