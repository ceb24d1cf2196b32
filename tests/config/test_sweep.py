"""mpbench.config.sweep: points as typed, and the search for the largest batch that fits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.config.sweep import MAX_BATCH, SEARCH_SHARE, Point, largest_batch, parse_point, parse_sweep
from mpbench.errors import UsageProblem


def test_points_in_the_order_given():
    assert parse_sweep("batch=8, 16,max") == (Point("batch", 8), Point("batch", 16), Point("batch", None))
    assert [str(point) for point in parse_sweep("image=64,96")] == ["image=64", "image=96"]
    assert parse_point("batch=max") == Point("batch", None)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("8,16", "valid are batch=N,N,..., image=N,N,... and batch=max"),
        ("depth=2", "'depth=2'"),
        ("batch", "'batch'"),
        ("batch=", "'': must be a whole number"),
        ("batch=0", "a whole number of images, 1 or more, or max"),
        ("batch=8,x", "'x': must be"),
        ("batch=²", "'²': must be"),
        ("image=max", "'max': must be a whole number of pixels, 1 or more"),
        ("image=-3", "'-3'"),
        ("batch=8,8", "twice"),
        ("batch=max,max", "twice"),
    ],
)
def test_malformed(text, word):
    with pytest.raises(UsageProblem) as caught:
        parse_sweep(text)
    assert word in str(caught.value)
    assert str(caught.value).startswith("--mp-sweep: ")


@given(st.integers(0, 1 << 15))
def test_the_largest_batch_is_found_within_its_share_and_few_attempts(room):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= room

    found = largest_batch(fits)
    assert room - max(0, math.floor(found * SEARCH_SHARE) - 1) <= found <= room
    assert len(tried) == len(set(tried)) <= 2 + 2 * max(1, room).bit_length()
    # What does not fit is never tried at more than twice the room: an attempt far beyond could take the machine down.
    assert max(tried) <= max(1, 2 * room)


def test_a_search_that_nothing_ends_stops_at_the_limit():
    assert largest_batch(lambda batch: True) == MAX_BATCH
    assert largest_batch(lambda batch: True, limit=100) == 100
