"""mpbench.numerics.in_graph: the device counts what the definitions in NumPy say."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mpbench.numerics import in_graph
from mpbench.numerics.statistics import Comparison, Moved, compared, moved

pytestmark = pytest.mark.tensorflow

NUMBERS = st.one_of(
    st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False),
    st.sampled_from([0.0, 1e-30, 6e-8, 2e-8, 65504.0, 65519.0, 65520.0, float("inf"), float("-inf"), float("nan")]),
)
SHAPES = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
DTYPES = st.sampled_from(["float16", "bfloat16", "float32"])


def counted(reference, here, dtype, scale=1.0):
    row = in_graph.comparison(tf.constant(reference), here, dtype, tf.constant(scale))
    return in_graph.read_comparison(row.numpy().tolist())


@given(st.data(), DTYPES, st.integers(-4, 12))
def test_comparisons(data, dtype, exponent):
    shape, scale = data.draw(SHAPES), 2.0**exponent
    reference = data.draw(arrays(np.float32, shape, elements=NUMBERS))
    other = data.draw(arrays(np.float32, shape, elements=NUMBERS))
    here = tf.cast(tf.where(data.draw(arrays(bool, shape)), reference * np.float32(scale), other), dtype)
    expected = compared(reference, here.numpy(), dtype, scale)
    found = counted(reference, here, dtype, scale)
    if expected.relative_error > 1e15:
        assert found.relative_error > 1e15
        return
    assert found == Comparison(
        **{**vars(expected), "relative_error": pytest.approx(expected.relative_error, rel=1e-4, abs=1e-7)}
    )


@given(arrays(np.float32, SHAPES, elements=NUMBERS), DTYPES)
def test_magnitudes(values, dtype):
    tensor = tf.cast(tf.constant(values), dtype)
    largest, not_finite = in_graph.magnitude(tensor).numpy().tolist()
    expected = compared(np.zeros_like(values), tensor.numpy(), dtype)
    assert (largest, not_finite) == (expected.largest, expected.not_finite)


@given(st.data(), st.sampled_from(["float16", "bfloat16"]))
def test_updates(data, dtype):
    shape = data.draw(SHAPES)
    before, update = (data.draw(arrays(np.float32, shape, elements=st.floats(-100, 100, width=32))) for _ in range(2))
    before[np.abs(before) < 1e-30] = 0  # TensorFlow flushes float32's subnormal numbers to 0
    after = np.asarray(before + update * np.float32(2.0 ** data.draw(st.integers(-20, 0))))
    after[np.abs(after) < 1e-30] = 0
    found = in_graph.moved(tf.constant(before), tf.constant(after), dtype)
    assert found == moved(before, after, dtype)


def test_an_update_in_half_precision_itself():
    before = tf.constant([1.0, 2.0, 3.0], tf.float16)
    after = tf.constant([1.0, float("inf"), float("nan")], tf.float16)
    assert in_graph.moved(before, after, "float16") == Moved(updated=2, unmoved=0, not_finite=2)


def test_a_large_tensor_is_summed_up_exactly_enough():
    reference = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    here = tf.cast(tf.constant(reference), tf.float16)
    expected = compared(reference, here.numpy(), "float16")
    assert counted(reference, here, "float16").relative_error == pytest.approx(expected.relative_error, rel=1e-3)
