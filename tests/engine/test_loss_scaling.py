"""mpbench.engine.loss_scaling: how many updates were skipped, from the scale's own counters."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.engine.loss_scaling import ScaleState, skipped_between

pytestmark = pytest.mark.tensorflow

START = ScaleState(2.0**15, 0, 0)


def after(state, updates, growth_steps):
    """Keras's rule: False for an update that is skipped."""
    for accepted in updates:
        if not accepted:
            state = replace(state, scale=state.scale / 2, in_a_row=0)
        elif state.in_a_row == growth_steps - 1:
            state = ScaleState(state.scale * 2, 0, state.accepted + 1)
        else:
            state = replace(state, in_a_row=state.in_a_row + 1, accepted=state.accepted + 1)
    return state


UPDATES = st.lists(st.booleans(), max_size=60)


@given(UPDATES, UPDATES, st.integers(1, 20))
def test_whether_any_was_skipped_is_exact_and_how_many_at_least(before, then, growth_steps):
    first = after(START, before, growth_steps)
    found = skipped_between(first, after(first, then, growth_steps), growth_steps)
    skipped = then.count(False)
    assert found <= skipped
    assert (found > 0) == (skipped > 0)


@given(UPDATES, UPDATES)
def test_fewer_updates_than_make_the_scale_grow_are_counted_exactly(before, then):
    first = after(START, before, 2000)
    assert skipped_between(first, after(first, then, 2000), 2000) == then.count(False)


@given(UPDATES, UPDATES)
def test_a_scale_that_grows_each_time_is_counted_exactly(before, then):
    first = after(START, before, 1)
    assert skipped_between(first, after(first, then, 1), 1) == then.count(False)


def test_thousands_of_updates_without_a_skip():
    assert skipped_between(START, after(START, [True] * 7000, 2000), 2000) == 0


@pytest.mark.parametrize("scale", [0.0, math.inf])
def test_a_scale_that_has_left_its_range_tells_no_number(scale):
    assert skipped_between(START, replace(START, scale=scale), 2000) == 1
    assert skipped_between(replace(START, scale=scale), replace(START, scale=scale), 2000) == 0


def test_keras_own_optimizer_follows_the_rule():
    import keras
    import numpy as np

    from mpbench.engine.loss_scaling import LossScaling

    weight = keras.Variable(np.zeros(3, "float32"))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), dynamic_growth_steps=3)
    optimizer.build([weight])
    scaling = LossScaling([optimizer])
    updates = [False, True, True, True, True, False, False, True]
    state, skipped = START, []
    for accepted in updates:
        optimizer.apply([np.full(3, 1.0 if accepted else np.inf, "float32")], [weight])
        state = after(state, [accepted], 3)
        skipped.append(scaling.skipped)
        assert (scaling.scale, scaling.accepted) == (state.scale, state.accepted)
        assert int(optimizer.step_counter.numpy()) == state.in_a_row
    assert skipped == [1, 1, 1, 1, 1, 2, 3, 3]
    assert scaling.settled
