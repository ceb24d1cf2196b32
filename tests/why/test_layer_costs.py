"""Costs of layers, counted by hand."""

import keras
import pytest
import tensorflow as tf
from keras import layers

from mpbench.why.measuring.layer_costs import layer_costs, names_in
from mpbench.why.measuring.profile import known_model
from mpbench.why.reading.attribution import Attribution

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def costs():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="first")(image)
    x = layers.Conv2D(5, 3, padding="same", use_bias=False, name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, name="top")(x))
    model.compile(keras.optimizers.SGD(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    data = tf.ones((2, 8, 8, 3)), tf.zeros((2,), tf.int32)
    graph = tf.function(lambda: model.train_step(data), autograph=False).get_concrete_function().graph
    known = known_model(model)
    return layer_costs(graph, Attribution(list(names_in(graph)), known.layers, known.optimizers))


def test_flops_of_convolutions(costs):
    values = 2 * 8 * 8
    # Forward and the filter's gradient; the second's input has a gradient too. A bias adds and sums.
    assert costs["first"].flops == 2 * (2 * values * 6 * 27) + 2 * values * 6
    assert costs["second"].flops == 3 * (2 * values * 5 * 54)


def test_flops_of_a_product(costs):
    assert costs["top"].flops == 3 * (2 * 2 * 5 * 4) + 2 * 2 * 4


def test_bytes_that_cross_a_layers_border(costs):
    values, weights = 2 * 8 * 8, 9 * 6 * 5
    # Input and output, their gradients, the filter and its gradient.
    assert costs["second"].bytes == 4 * (2 * values * 6 + 2 * values * 5 + 2 * weights)


def test_what_cannot_be_counted_is_nothing():
    model = keras.Sequential(
        [keras.Input((5, 3)), layers.LSTM(4, unroll=False, name="loop"), layers.Dense(2, name="d")]
    )
    graph = tf.function(lambda: model(tf.ones((2, 5, 3))), autograph=False).get_concrete_function().graph
    known = known_model(model)
    of = layer_costs(graph, Attribution(list(names_in(graph)), known.layers))
    assert of["loop"].flops == 0
    assert of["d"].flops == 2 * 2 * 4 * 2 + 2 * 2
