"""mpbench.numerics.loss_scales: which scales serve a step, found in few runs."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mpbench.numerics.loss_scales import (
    ENOUGH_LOG2,
    LOWEST_LOG2,
    WINDOW_LOG2,
    AtScale,
    LossScales,
    find_loss_scales,
    largest_that_holds,
)

EDGES = st.integers(LOWEST_LOG2 - 3, WINDOW_LOG2[1] + 3)
HONEST = st.integers(-3, 3)


class Step:
    """Overflows above an exponent and loses gradients up to another.

    Args:
        error: by how much its headroom is wrong.
    """

    def __init__(self, largest_good, last_losing, error=0):
        self.largest_good, self.last_losing, self.error = largest_good, last_losing, error
        self.runs = []

    def __call__(self, exponent):
        assert exponent not in self.runs, "a run is not repeated"
        self.runs.append(exponent)
        if exponent > self.largest_good:
            return AtScale(True, 1.0, -math.inf)
        lost = 0.5 if exponent <= self.last_losing else 0.0
        return AtScale(False, lost, self.largest_good + 0.5 + self.error - exponent)


def by_brute_force(step, initial):
    top = 0 if initial is None else initial
    settled = next((e for e in range(top, LOWEST_LOG2 - 1, -1) if e <= step.largest_good), None)
    if initial is None and settled != 0:
        settled = None
    high = min(step.largest_good, max(WINDOW_LOG2[1], top))
    if high < LOWEST_LOG2:
        return LossScales(initial, None, None, None)
    low = max(min(0, high - ENOUGH_LOG2), step.last_losing + 1)
    return LossScales(initial, settled, *((low, high) if low <= high else (None, None)))


@given(EDGES, EDGES, HONEST, st.one_of(st.none(), st.integers(-3, 24)))
def test_the_same_as_by_trying_all(largest_good, last_losing, error, initial):
    step = Step(largest_good, last_losing, error)
    found = find_loss_scales(step, None if initial is None else 2.0**initial)
    assert found == by_brute_force(step, initial)


@given(st.integers(0, 24), st.integers(-30, 24))
def test_an_honest_headroom_takes_few_runs(largest_good, last_losing):
    step = Step(largest_good, last_losing)
    find_loss_scales(step, 2.0**15)
    assert len(step.runs) <= 12
    plain = Step(largest_good, -30)
    find_loss_scales(plain, 2.0**15)
    assert len(plain.runs) <= 4


def test_random_weights_overflow_at_first_and_the_scale_settles():
    found = find_loss_scales(Step(9, -30), 2.0**15)
    assert found == LossScales(initial=15, settled=9, low=0, high=9)
    assert (found.halvings, found.width_log2) == (6, 9)


def test_an_initial_scale_that_is_no_power_of_two_is_rounded_down():
    assert find_loss_scales(Step(24, -30), 1000.0).initial == 9


def test_a_window_that_ends_near_no_scaling_is_looked_into_below_it():
    assert find_loss_scales(Step(1, -30), 2.0**15) == LossScales(15, 1, -2, 1)
    assert find_loss_scales(Step(1, -1), 2.0**15) == LossScales(15, 1, 0, 1)


def test_where_all_overflow_or_all_is_lost_there_is_no_window():
    nothing = find_loss_scales(Step(LOWEST_LOG2 - 1, -30), 2.0**15)
    assert nothing == LossScales(15, None, None, None)
    assert nothing.width_log2 == -1
    assert find_loss_scales(Step(10, 12), 2.0**15) == LossScales(15, 10, None, None)


def test_without_dynamic_scaling_nothing_is_lowered():
    assert find_loss_scales(Step(-5, -30), None) == LossScales(None, None, -8, -5)
    assert find_loss_scales(Step(12, 3), None) == LossScales(None, 0, 4, 12)


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(0, 20), st.integers(-30, 30))
def test_largest_that_holds(edge, low, size, guess):
    high, asked = low + size, []

    def holds(number):
        asked.append(number)
        return number <= edge

    found = largest_that_holds(holds, low, high, guess)
    assert found == (None if edge < low else min(edge, high))
    assert all(low <= one <= high for one in asked)
    assert len(asked) == len(set(asked))
