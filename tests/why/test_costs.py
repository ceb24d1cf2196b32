"""FLOPs and minimal bytes against hand-computed values, TensorFlow's own counter and published figures."""

import keras
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.models import build_model, dtype_policy
from mpbench.why.measuring.costs import Array, minimal_bytes, operation_flops, update_bytes
from mpbench.why.measuring.layer_call import CallFunction, call_costs
from mpbench.why.measuring.layers import distinct_layers
from mpbench.why.measuring.watch import traced_whole

pytestmark = pytest.mark.tensorflow

SHAPE = (16, 16, 8)
N = 2 * 16 * 16 * 8
"""Values of a batch of two."""


def costs_of(make, policy="float32", first=True, phases=("inference", "training")):
    """Of one layer on a batch of two; not the first of its model, unless said: then its input needs a gradient."""
    with dtype_policy(policy):
        image = keras.Input(SHAPE)
        x = image if first else keras.layers.Conv2D(8, 1)(image)
        model = keras.Model(image, make()(x))
    call = distinct_layers(model, SHAPE, 2, policy)[-1].call
    return [call_costs(call, phase) for phase in phases]


CONVOLUTION = 2 * (2 * 8 * 8 * 32) * (3 * 3 * 8)
"""Of 32 filters 3x3 with stride 2: each of the output's values is a sum of 3 * 3 * 8 products."""


def test_a_convolution():
    make = lambda: keras.layers.Conv2D(32, 3, strides=2, padding="same")  # noqa: E731
    out, weights, bias = 2 * 8 * 8 * 32, 3 * 3 * 8 * 32, 32
    inference, training = costs_of(make, first=False)
    assert inference.flops == CONVOLUTION + out  # the bias is added to each value
    # Backward: gradients of the filters and of the input, each as many products; and of the bias, a sum.
    assert training.flops == 3 * CONVOLUTION + 2 * out
    assert inference.minimal_bytes == 4 * (N + weights + bias + out)
    assert training.minimal_bytes == 4 * (2 * N + 2 * (weights + bias) + 2 * out)
    assert inference.kernels == 2  # convolution, bias
    assert inference.cast_bytes == training.cast_bytes == 0


def test_the_first_layer_needs_no_gradient_with_respect_to_the_image():
    make = lambda: keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)  # noqa: E731
    (training,) = costs_of(make, phases=["training"])
    assert training.flops == 2 * CONVOLUTION
    assert training.minimal_bytes == 4 * (N + 2 * 3 * 3 * 8 * 32 + 2 * 2 * 8 * 8 * 32)


def test_mixed_precision_halves_values_not_weights_and_casts_them():
    make = lambda: keras.layers.Conv2D(32, 3, strides=2, padding="same")  # noqa: E731
    out, weights = 2 * 8 * 8 * 32, 3 * 3 * 8 * 32 + 32
    inference, training = costs_of(make, "mixed_float16", first=False)
    assert inference.flops == CONVOLUTION + out
    assert inference.minimal_bytes == 2 * N + 4 * weights + 2 * out
    assert training.minimal_bytes == 2 * 2 * N + 2 * 4 * weights + 2 * 2 * out
    assert (inference.cast_bytes, training.cast_bytes) == (6 * weights, 12 * weights)
    assert inference.kernels == 4


def test_pure_half_precision_casts_nothing():
    (training,) = costs_of(lambda: keras.layers.Dense(4), "float16", first=False, phases=["training"])
    assert training.cast_bytes == 0


def test_a_dense_layer():
    inference, training = costs_of(lambda: keras.layers.Dense(32, activation="relu"), first=False)
    rows, product = 2 * 16 * 16, 2 * (2 * 16 * 16) * 8 * 32
    assert inference.flops == product + 2 * rows * 32  # bias, relu
    # Backward: relu, bias, gradients of weights and input.
    assert training.flops == 3 * product + 4 * rows * 32
    assert inference.minimal_bytes == 4 * (N + 8 * 32 + 32 + rows * 32)


def test_a_depthwise_convolution_and_its_gradients():
    inference, training = costs_of(lambda: keras.layers.DepthwiseConv2D(3, use_bias=False), first=False)
    assert inference.flops == 2 * (2 * 14 * 14 * 8) * 9
    assert training.flops == 3 * inference.flops


def test_a_separable_convolution_is_both():
    (inference,) = costs_of(lambda: keras.layers.SeparableConv2D(16, 3, use_bias=False), phases=["inference"])
    assert inference.flops == 2 * (2 * 14 * 14 * 8) * 9 + 2 * (2 * 14 * 14 * 16) * 8


def test_a_grouped_convolution_that_keras_compiles_apart():
    make = lambda: keras.layers.Conv2D(16, 3, groups=4, use_bias=False)  # noqa: E731
    inference, training = costs_of(make, first=False)
    assert inference.flops == 2 * (2 * 14 * 14 * 16) * 3 * 3 * (8 // 4)
    assert training.flops == 3 * inference.flops
    assert inference.kernels == 1


def test_batch_normalisation():
    inference, training = costs_of(keras.layers.BatchNormalization, first=False)
    # x * (gamma / sqrt(variance + epsilon)) + (beta - mean * ...): two for each value, five for each channel.
    assert inference.flops == 2 * N + 5 * 8
    assert inference.minimal_bytes == 4 * (2 * N + 4 * 8)
    # Gradients of gamma and beta; and the moving mean and variance are written.
    assert training.minimal_bytes == 4 * (4 * N + 4 * 8 + 2 * 8 + 2 * 8)
    # Per value at least: mean 1, variance 2, normalising 2; backward more than forward.
    assert 10 * N < training.flops < 20 * N


def test_elementwise_layers_and_pooling():
    relu, relu_training = costs_of(keras.layers.ReLU, first=False)
    assert (relu.flops, relu_training.flops) == (N, 2 * N)
    assert (relu.minimal_bytes, relu_training.minimal_bytes) == (8 * N, 16 * N)
    assert relu.kernels == 1
    (pool,) = costs_of(lambda: keras.layers.MaxPooling2D(2), phases=["inference"])
    assert (pool.flops, pool.minimal_bytes) == (N // 4 * 4, 4 * (N + N // 4))


def test_a_sum_of_three():
    image = keras.Input(SHAPE)
    x = [keras.layers.ReLU()(image), keras.layers.Activation("tanh")(image), image]
    call = distinct_layers(keras.Model(image, keras.layers.Add()(x)), SHAPE, 2)[-1].call
    costs = call_costs(call, "inference")
    assert (costs.flops, costs.minimal_bytes) == (2 * N, 4 * 4 * N)


def test_attention_is_counted_where_tensorflow_counts_nothing():
    image = keras.Input((5, 12))
    x = keras.layers.Dense(12)(image)
    model = keras.Model(image, keras.layers.MultiHeadAttention(2, 4)(x, x))
    inner = [layer for layer in distinct_layers(model, (5, 12), 3) if layer.layer_type == "MultiHeadAttention"]
    costs = call_costs(inner[0].call, "inference")
    projections = 3 * 2 * (3 * 5) * 12 * 8 + 2 * (3 * 5) * 8 * 12
    products = 2 * 2 * (3 * 2) * 5 * 5 * 4
    assert projections + products < costs.flops < 1.2 * (projections + products)


def test_a_layer_with_a_loop_is_not_counted():
    image = keras.Input((5, 12))
    call = distinct_layers(keras.Model(image, keras.layers.LSTM(3)(image)), (5, 12), 3)[0].call
    costs = call_costs(call, "inference")
    assert costs.flops == 0
    assert costs.minimal_bytes > 0


def test_a_layer_made_of_layers_trains_inside():
    class Dropping(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, x):
            return self.dropout(x)

    inference, training = costs_of(Dropping, first=False)
    assert inference.kernels == 0 < training.kernels


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.Conv2D(32, 3, padding="same"),
        lambda: keras.layers.Conv2D(32, 3, strides=2, padding="same"),
        lambda: keras.layers.Dense(32),
    ],
)
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_tensorflows_own_counter_agrees(make, phase):
    image = keras.Input(SHAPE)
    call = distinct_layers(keras.Model(image, make()(keras.layers.Conv2D(8, 1)(image))), SHAPE, 2)[-1].call
    function = CallFunction(call, phase)
    graph = traced_whole(lambda x, dy: function(x, dy), list(call.inputs), list(call.outputs)).graph
    options = {**tf.compat.v1.profiler.ProfileOptionBuilder.float_operation(), "output": "none"}
    theirs = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    # A sum of n values is n - 1 additions to them, n here.
    assert call_costs(call, phase).flops == pytest.approx(theirs, rel=0.01)


def test_a_transposed_convolution_spreads_each_input_value():
    (inference,) = costs_of(lambda: keras.layers.Conv2DTranspose(4, 3, use_bias=False), phases=["inference"])
    assert inference.flops == 2 * N * 3 * 3 * 4


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_a_product_is_the_same_as_an_einsum(rows, inner, columns, transposed):
    a = (inner, rows) if transposed else (rows, inner)
    flops = operation_flops("MatMul", [a, (inner, columns)], [(rows, columns)], {"transpose_a": transposed})
    equation = "ji,jk->ik" if transposed else "ij,jk->ik"
    einsum = operation_flops("Einsum", [a, (inner, columns)], [(rows, columns)], {"equation": equation.encode()})
    assert flops == einsum == 2 * rows * inner * columns


def test_an_einsum_of_any_rank_and_of_one_input():
    assert (
        operation_flops("Einsum", [(3, 4, 5), (5, 6)], [(3, 4, 6)], {"equation": "...i,ij->...j"}) == 2 * 3 * 4 * 5 * 6
    )
    assert operation_flops("Einsum", [(3, 4)], [(4, 3)], {"equation": "ij->ji"}) == 0
    assert operation_flops("Einsum", [(3, 4)], [(3,)], {"equation": "ij->i"}) == 12


def test_a_shape_that_is_not_known_is_no_number():
    with pytest.raises(ValueError, match="known only when it runs"):
        operation_flops("Relu", [(None, 3)], [(None, 3)], {})


def test_minimal_bytes_by_phase():
    x, y, w = Array((2, 3), 2), Array((5,), 4), Array((7,), 4)
    assert minimal_bytes("inference", [x], [y], [w], input_gradients=[x], weight_gradients=[w]) == 12 + 20 + 28
    assert minimal_bytes("training", [x], [y], [w]) == 12 + 20 + 28 + 20
    assert minimal_bytes("training", [x], [y], [w], input_gradients=[x], weight_gradients=[w]) == 2 * (12 + 20 + 28)


def test_adams_update_moves_28_bytes_a_weight():
    weight = Array((10, 10), 4)
    assert update_bytes([weight], [weight], [weight, weight]) == 28 * 100


PUBLISHED = [("vgg16", 224, 15.5), ("inception_v3", 299, 5.7), ("resnet152_v2", 224, 11.0)]
"""Multiplications with an addition, in billions, for one image. With their own classifiers; the thesis's head has 0.8 %
less for VGG16, and for the others about as many."""


@pytest.mark.parametrize(("name", "size_px", "billions"), PUBLISHED)
def test_sums_over_the_layers_are_the_published_figures(name, size_px, billions):
    model = build_model(name, size_px, PRECISIONS["float32"])
    layers = distinct_layers(model, (size_px, size_px, 3), 1)
    total = sum(layer.count * call_costs(layer.call, "inference").flops for layer in layers)
    assert total / 2e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize(
    ("name", "batch_size", "intensity", "kernels"),
    [
        ("huge_dense", 64, (20, 40), (6, 20)),
        ("elementwise_only", 8, (0, 0.2), (5, 20)),
        ("thousand_tiny_layers", 2, (0, 0.5), (1500, 2000)),
    ],
)
def test_models_with_a_planted_cause_have_it(name, batch_size, intensity, kernels):
    """FLOPs for each byte that must move at least, and launches."""
    model = build_model(f"tiny_models:{name}", 16, PRECISIONS["float32"])
    costs = [
        (layer.count, call_costs(layer.call, "inference")) for layer in distinct_layers(model, (16, 16, 3), batch_size)
    ]
    flops = sum(count * cost.flops for count, cost in costs)
    assert intensity[0] <= flops / sum(count * cost.minimal_bytes for count, cost in costs) <= intensity[1]
    assert kernels[0] <= sum(count * cost.kernels for count, cost in costs) <= kernels[1]
