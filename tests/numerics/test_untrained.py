"""numerics.untrained: statistics that have never seen data are those of the batch; others stay."""

import keras
import numpy as np
import pytest

from mpbench.numerics.untrained import settle_statistics

pytestmark = pytest.mark.tensorflow

IMAGES = np.random.default_rng(0).normal(3, 2, (8, 6, 6, 3)).astype("float32")


def model():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 3)), layers.BatchNormalization(name="first"), layers.BatchNormalization(name="second")]
    )


def test_new_statistics_bring_the_output_to_the_size_of_1():
    built = model()
    assert settle_statistics(built, IMAGES) == 2
    first, second = (built.get_layer(name) for name in ("first", "second"))
    assert np.allclose(first.moving_variance, np.square(IMAGES).mean(), rtol=1e-4)
    assert np.allclose(first.moving_mean, 0)
    assert np.allclose(second.moving_variance, 1, rtol=1e-2)
    assert np.square(np.asarray(built(IMAGES))).mean() == pytest.approx(1, rel=0.01)


def test_statistics_that_have_seen_data_stay():
    built = model()
    built.get_layer("first").moving_mean.assign([1.0, 2.0, 3.0])
    assert settle_statistics(built, IMAGES) == 1
    assert np.allclose(built.get_layer("first").moving_mean, [1, 2, 3])
    assert np.allclose(built.get_layer("first").moving_variance, 1)
    assert settle_statistics(built, IMAGES) == 0
