"""mpbench.why.reading.roofline: bounds of a layer in a step, and nothing where a peak or a cost is missing."""

import pytest
from diagnostic_records import peak, peaks, profile, row
from hypothesis import given
from hypothesis import strategies as st

from mpbench.records.profile import OPTIMIZER, UPDATE, read_profile
from mpbench.why.reading.breakdown import Breakdown
from mpbench.why.reading.roofline import Limit, Peaks, allowed, peaks_of, roofs

PEAKS = peaks_of(peaks())


def under(*rows, dtype="float32", tf32=False, of=PEAKS, **changes):
    breakdown = Breakdown(read_profile(profile(*rows, **changes)), 0.1)
    return roofs(breakdown, dtype, tf32, of), breakdown


def test_peaks_are_rates():
    assert PEAKS.flops_per_second == pytest.approx({("float32", False): 1e12, ("float16", False): 4e12})
    assert (PEAKS.bytes_per_second, PEAKS.launch_seconds) == pytest.approx((1e11, 5e-6))


def test_of_several_peaks_the_best_counts_and_an_unknown_precision_does_not():
    more = [peak("matmul", 2), peak("latency", 9), peak("copy", 0.005), peak("matmul", 1e-9, "guess")]
    found = peaks_of([*peaks(), *more])
    assert found.flops_per_second == pytest.approx(PEAKS.flops_per_second)
    assert (found.bytes_per_second, found.launch_seconds) == pytest.approx((2e11, 5e-6))


@pytest.mark.parametrize(
    ("costs", "kind", "bound"),
    [
        ({"flops": 2_000_000_000, "bytes": 1_000_000, "kernels": 1}, Limit.COMPUTE, 2e-3),
        ({"flops": 2_000_000, "bytes": 100_000_000, "kernels": 1}, Limit.MEMORY, 1e-3),
        ({"flops": 1000, "bytes": 1000, "kernels": 20}, Limit.LAUNCH, 1e-4),
        ({"flops": 0, "bytes": 100_000_000, "kernels": 1}, Limit.MEMORY, 1e-3),
    ],
)
def test_the_largest_bound_names_the_class(costs, kind, bound):
    found = under(row("conv", 4, **costs))[0]["conv"]
    assert (found.bound_by, found.bound_seconds) == (kind, pytest.approx(bound))
    assert found.fraction == pytest.approx(bound / 4e-3)


def test_times_and_kernels_are_of_one_step():
    one = under(row("conv", 4, bytes=10, flops=10, kernels=20))[0]["conv"]
    three = under(row("conv", 4, bytes=10, flops=10, kernels=60), steps=3)[0]["conv"]
    assert three.bounds == pytest.approx(one.bounds)
    assert three.seconds == pytest.approx(one.seconds)


def test_the_peak_is_that_of_the_dtype_that_the_layer_computes_in():
    rows = [row("half", 9, flops=10**10, bytes=1), row("kept", 9, dtype="float32", flops=10**10, bytes=1)]
    found, _ = under(*rows, dtype="float16")
    assert found["half"].bound_seconds == pytest.approx(2.5e-3)
    assert found["kept"].bound_seconds == pytest.approx(1e-2)


def test_tf32_has_a_peak_of_its_own():
    conv = row("conv", 9, flops=10**10, bytes=1)
    assert under(conv, tf32=True)[0] == {}
    of = peaks_of([*peaks(), peak("matmul", 0.5, "tf32", tf32=True)])
    assert under(conv, tf32=True, of=of)[0]["conv"].bound_seconds == pytest.approx(5e-3)


@pytest.mark.parametrize("missing", ["matmul", "copy", "latency"])
def test_where_a_peak_is_missing_there_is_no_guess(missing):
    of = peaks_of(one for one in peaks() if one.record.what != missing)
    found, breakdown = under(row("conv", 4, flops=10, bytes=10), of=of)
    assert found == {}
    assert allowed(breakdown, found) is None


def test_what_the_roofs_allow_is_the_sum_of_the_bounds_of_all_layers_and_of_the_update():
    update = row("(optimizer)", 6, OPTIMIZER, UPDATE, type="", flops=1, bytes=300_000_000)
    loss = row("(loss and metrics)", 0.1)
    rows = [row("conv", 20, flops=10**10, bytes=10**6), row("norm", 5, flops=1, bytes=10**8), update, loss]
    found, breakdown = under(*rows)
    assert allowed(breakdown, found) == pytest.approx(0.010 + 0.001 + 0.003)
    found, breakdown = under(*rows, row("uncounted", 0.5))
    assert allowed(breakdown, found) is None
    found, breakdown = under(loss)
    assert allowed(breakdown, found) is None


@given(st.integers(0, 10**15), st.integers(1, 10**12), st.integers(1, 10**6), st.floats(0.001, 1e4))
def test_more_to_do_never_lowers_a_bound(flops, moved, kernels, ms):
    one = under(row("a", ms, flops=flops, bytes=moved, kernels=kernels))[0]["a"]
    more = under(row("a", ms, flops=flops + 10**9, bytes=2 * moved, kernels=kernels + 1))[0]["a"]
    assert 0 < one.bound_seconds <= more.bound_seconds
    assert one.fraction == pytest.approx(one.bound_seconds / one.seconds)
    assert under(row("a", ms, flops=flops, bytes=moved), of=Peaks())[0] == {}
