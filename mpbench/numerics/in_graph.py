"""The counts of `statistics`, computed on the device: a few numbers of each tensor leave it, never the tensor."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mpbench.numerics.limits import limits_of
from mpbench.numerics.statistics import Comparison, Moved

FIELDS = 7
"""Of a Comparison, as one vector in float64, which counts exactly."""


def comparison(reference: tf.Tensor, here: tf.Tensor, dtype: str, scale: tf.Tensor) -> tf.Tensor:
    """`statistics.compared` as a float64 vector of FIELDS numbers; `read_comparison` reads it.

    Squares are summed in float32, as shares of the largest value in float32, so that none of them overflows. An
    error beyond 1e18 is infinite.
    """
    return _comparison(here.dtype, dtype)(reference, here, scale)


def read_comparison(row: Sequence[float]) -> Comparison:
    largest, reference_largest, not_finite, nonzero, lost, too_small, error = map(float, row)
    return Comparison(largest, reference_largest, int(not_finite), int(nonzero), int(lost), int(too_small), error)


def magnitude(tensor: tf.Tensor) -> tf.Tensor:
    """A float64 vector: the largest finite magnitude, and how many elements are not finite."""
    return _magnitude(tensor.dtype)(tensor)


def moved(before: tf.Tensor, after: tf.Tensor, dtype: str) -> Moved:
    """`statistics.moved` of tensors."""
    updated, unmoved, not_finite = _moved(before.dtype, dtype)(before, after).numpy().tolist()
    return Moved(updated, unmoved, not_finite)


# Each is traced once for any shape, and stands in a graph as one call: hundreds of layers would else be thousands of
# operations more to trace.


@functools.cache
def _comparison(kept: Any, dtype: str) -> Any:
    smallest = limits_of(dtype).smallest_normal

    def compute(reference: tf.Tensor, here: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        wanted, scaled = tf.reshape(reference, [-1]), tf.cast(tf.reshape(here, [-1]), tf.float32)
        is_wanted, is_scaled = tf.math.is_finite(wanted), tf.math.is_finite(scaled)
        both, zero = is_wanted & is_scaled, tf.zeros_like(wanted)
        lost = (wanted != 0) & (scaled == 0)
        reference_largest = _largest(tf.where(is_wanted, wanted, zero))
        unit = _largest(tf.where(both, wanted, zero))
        unit = tf.where(unit > 0, unit, _largest(tf.where(both, scaled, zero)))
        unit = tf.where(unit > 0, unit, 1)
        distance = _sum_of_squares(tf.where(both, scaled / scale - wanted, zero) / unit)
        size = _sum_of_squares(tf.where(both, wanted, zero) / unit)
        alone = tf.where(distance > 0, float("inf"), 0.0)
        numbers = (
            _largest(tf.where(is_scaled, scaled, zero)),
            reference_largest,
            _count(is_wanted & ~is_scaled),
            _count(wanted != 0),
            _count(lost),
            _count(lost & (tf.abs(wanted) * scale < smallest)),
            tf.where(size > 0, tf.sqrt(distance / size), alone),
        )
        return tf.stack([tf.cast(one, tf.float64) for one in numbers])

    specs = [tf.TensorSpec(None, tf.float32), tf.TensorSpec(None, kept), tf.TensorSpec((), tf.float32)]
    return _function(compute, specs)


@functools.cache
def _magnitude(dtype: Any) -> Any:
    def compute(tensor: tf.Tensor) -> tf.Tensor:
        values = tf.cast(tf.reshape(tensor, [-1]), tf.float32)
        finite = tf.math.is_finite(values)
        numbers = _largest(tf.where(finite, values, tf.zeros_like(values))), _count(~finite)
        return tf.stack([tf.cast(one, tf.float64) for one in numbers])

    return _function(compute, [tf.TensorSpec(None, dtype)])


@functools.cache
def _moved(kept: Any, dtype: str) -> Any:
    def compute(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        updated = before != after
        same = tf.cast(before, dtype) == tf.cast(after, dtype)
        return tf.stack([_count(updated), _count(updated & same), _count(~tf.math.is_finite(after))])

    specs = [tf.TensorSpec(None, kept)] * 2
    return _function(compute, specs)


def _function(compute: Any, specs: Sequence[tf.TensorSpec]) -> Any:
    """Not inlined: TensorFlow would optimise each of its calls anew, which takes longer than all the rest."""
    attributes = {"_noinline": True}
    return tf.function(compute, autograph=False, input_signature=specs, experimental_attributes=attributes)


def _largest(values: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.reduce_max(tf.abs(values)), 0)  # of none, it is minus infinity


def _sum_of_squares(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(values))


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.math.count_nonzero(mask, dtype=tf.int64)
