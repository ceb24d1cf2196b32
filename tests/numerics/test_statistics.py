"""mpbench.numerics.statistics: what is counted of a tensor in two precisions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mpbench.numerics.statistics import Comparison, Moved, aligned, compared, moved, total_unmoved_share

NUMBERS = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)
TENSORS = arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=NUMBERS)


def in_float16(tensor, scale=1.0):
    with np.errstate(over="ignore"):
        return (tensor * np.float32(scale)).astype(np.float16)


def test_each_count_by_hand():
    reference = np.float32([1, -2, 3e-8, 2e-8, 1e5, 0, 0, 4])
    here = np.float16([1, -2, 6e-8, 0, np.inf, 0, 1, np.nan])
    found = compared(reference, here, "float16")
    assert found == Comparison(
        largest=2,
        reference_largest=pytest.approx(1e5),
        not_finite=2,
        nonzero=6,
        lost=1,
        too_small=1,
        relative_error=pytest.approx(1 / math.sqrt(5), rel=1e-6),
    )
    assert found.lost_share == 1 / 6
    assert not found.vanished


def test_what_float32_itself_does_not_hold_is_no_fault():
    found = compared(np.float32([-np.inf, np.nan, 1]), np.float16([-np.inf, np.nan, 1]), "float16")
    assert (found.not_finite, found.largest, found.reference_largest, found.relative_error) == (0, 1, 1, 0)


def test_what_was_large_enough_and_is_zero_was_rounded_not_lost():
    """As on the other side of a ReLU, or in a sum that cancels out."""
    found = compared(np.float32([0.5, 1e-6, 2.0]), np.float16([0, 0, 2]), "float16")
    assert (found.lost, found.too_small, found.lost_share) == (2, 1, 1 / 3)


def test_a_loss_scale_lifts_what_would_be_too_small():
    gradient = np.float32([1e-9, 1e-3])
    unscaled, scaled = (compared(gradient, in_float16(gradient, s), "float16", s) for s in (1.0, 2.0**14))
    assert (unscaled.lost_share, scaled.lost_share) == (0.5, 0)
    assert scaled.relative_error < 1e-3
    assert scaled.largest == pytest.approx(1e-3 * 2**14, rel=1e-3)
    assert scaled.reference_largest == np.float32(1e-3)


def test_nothing_and_all_zero():
    assert compared(np.float32([]), np.float16([]), "float16") == Comparison(0, 0, 0, 0, 0, 0, 0)
    vanished = compared(np.float32([1, 2]), np.float16([0, 0]), "float16")
    assert (vanished.vanished, vanished.relative_error) == (True, 1)
    assert compared(np.float32([0]), np.float16([3]), "float16").relative_error == math.inf


@given(TENSORS)
def test_a_tensor_is_like_itself(tensor):
    found = compared(tensor, tensor, "float32")
    assert (found.not_finite, found.lost, found.relative_error) == (0, 0, 0)
    assert found.largest == found.reference_largest == np.abs(tensor).max()


@given(TENSORS)
def test_rounding_to_float16_loses_just_what_is_below_half_its_smallest_number(tensor):
    found = compared(tensor, in_float16(tensor), "float16")
    magnitude = np.abs(tensor.astype(np.float64))
    assert found.lost == found.too_small == ((magnitude > 0) & (magnitude <= 2.0**-25)).sum()
    assert found.not_finite == (magnitude >= 65520).sum()
    assert 0 <= found.lost_share <= 1
    assert found.vanished == (found.nonzero > 0 and found.lost == found.nonzero)
    if not found.lost and not found.not_finite and magnitude.min() >= 2.0**-14:
        assert found.relative_error <= 2.0**-11 * (1 + 1e-9)


@given(TENSORS, st.integers(-10, 10))
def test_a_power_of_two_divided_out_changes_no_count(tensor, exponent):
    scale = 2.0**exponent
    one, other = compared(tensor, tensor, "float32"), compared(tensor, tensor * np.float32(scale), "float32", scale)
    assert other.relative_error == 0
    assert other.largest == pytest.approx(one.largest * scale)
    assert (other.nonzero, other.lost) == (one.nonzero, one.lost)


def test_an_update_of_less_than_half_the_spacing_is_rounded_away():
    before = np.float32([1, 1, 1, 1, 0.25])
    after = before + np.float32([0, 2**-12, -(2**-13), 2**-7, 2**-12])
    assert moved(before, after, "float16") == Moved(updated=4, unmoved=2)
    assert moved(before, after, "bfloat16") == Moved(updated=4, unmoved=3)
    assert moved(before, np.float32([1, 1, np.nan, np.inf, 0.25]), "float16").not_finite == 2


@given(TENSORS, TENSORS, st.sampled_from(["float16", "bfloat16"]))
def test_moved_by_its_definition(before, update, dtype):
    update = np.resize(update, before.shape)
    found = moved(before, before + update, dtype)
    assert 0 <= found.unmoved <= found.updated <= before.size
    assert found.updated == (before + update != before).sum()
    assert moved(before, before, dtype) == Moved(0, 0)


def test_shares_of_several_weights_are_of_all_elements():
    assert total_unmoved_share([Moved(10, 10), Moved(90, 0), Moved(0, 0)]) == 0.1
    assert total_unmoved_share([]) == Moved(0, 0).unmoved_share == 0


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_alignment_is_in_order_and_of_the_same_things(reference, here):
    places = aligned(reference, here)
    known = [place for place in places if place is not None]
    assert len(places) == len(here)
    assert known == sorted(set(known))
    assert all(place is None or reference[place] == one for place, one in zip(places, here, strict=True))


@given(st.lists(st.integers(0, 3)), st.integers(0, 20))
def test_the_same_sequence_is_aligned_whole_and_an_insertion_stands_alone(sequence, place):
    assert aligned(sequence, sequence) == list(range(len(sequence)))
    at = min(place, len(sequence))
    places = aligned(sequence, [*sequence[:at], "new", *sequence[at:]])
    assert places[at] is None
    assert [one for one in places if one is not None] == list(range(len(sequence)))
