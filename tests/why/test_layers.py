"""Every call of a layer is seen, like ones are counted together, and precisions pair."""

import keras
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.models import build_model, dtype_policy
from mpbench.errors import CaseFailure
from mpbench.why.measuring.layers import distinct_layers, layer_ids, named_layers, same_layers
from mpbench.why.measuring.watch import watch_calls

pytestmark = pytest.mark.tensorflow

SHAPE = (16, 16, 3)


def in_short(layers):
    return [(layer.id, layer.layer_type, layer.count) for layer in layers]


def nested():
    inner_image = keras.Input((14, 14, 4))
    inner = keras.Model(inner_image, keras.layers.ReLU()(keras.layers.Conv2D(4, 3, padding="same")(inner_image)))
    sequential = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same"), keras.layers.ReLU()])
    image = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(image)
    y = sequential(inner(inner(x)))
    return keras.Model(image, keras.layers.Add()([x, y]))


def test_models_inside_models_are_looked_into_and_like_layers_counted_together():
    layers = distinct_layers(nested(), SHAPE, 2)
    assert in_short(layers) == [
        ("conv2d", "Conv2D", 1),
        ("conv2d_1", "Conv2D", 3),
        ("re_lu", "ReLU", 3),
        ("add", "Add", 1),
    ]
    first, second, _, add = layers
    assert (first.input_shape, first.output_shape) == ("2x16x16x3", "2x14x14x4")
    assert (first.parameters, second.parameters) == (3 * 3 * 3 * 4 + 4, 3 * 3 * 4 * 4 + 4)
    assert first.config == "4 filters 3x3"
    assert add.input_shape == "2x14x14x4, 2x14x14x4"
    assert second.calls == (1, 3, 5)


class Block(keras.layers.Layer):
    """Made of layers: one unit."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.units = keras.layers.Dense(units), units

    def call(self, x):
        return self.dense(keras.layers.ReLU()(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.shared = keras.layers.Flatten(), keras.layers.Dense(6)
        self.blocks = [Block(6), Block(6), Block(7)]

    def call(self, x):
        x = self.shared(self.shared(self.blocks[1](self.blocks[0](self.shared(self.flat(x)[:, :6])))))
        return self.blocks[2](x)


def test_a_subclassed_model_with_a_shared_layer_and_layers_made_of_layers():
    model = Subclassed()
    model(keras.Input(SHAPE))
    layers = distinct_layers(model, SHAPE, 2)
    # The first call of the shared layer is another one: nothing before it is trained.
    assert in_short(layers) == [
        ("dense", "Dense", 1),
        ("block", "Block", 2),
        ("dense-2", "Dense", 2),
        ("block_2", "Block", 1),
    ]
    assert [layer.call.needs_input_gradient for layer in layers] == [(False,), (True,), (True,), (True,)]


def test_only_what_follows_something_trained_needs_a_gradient_with_respect_to_its_input():
    model = nested()
    model.layers[1].trainable = False
    gradients = [call.needs_input_gradient for call in watch_calls(model, SHAPE, 1)]
    assert model.layers[1].name.startswith("conv2d")
    assert gradients == [(False,), (False,), (True,), (True,), (True,), (True,), (True,), (False, True)]


class FrozenPart(keras.Model):
    def __init__(self):
        super().__init__()
        self.base = keras.Sequential([keras.layers.BatchNormalization()])
        self.top = keras.layers.BatchNormalization()

    def call(self, x):
        return self.top(self.base(x, training=False))


def test_a_part_that_is_frozen_by_its_call_is_seen_as_such():
    model = FrozenPart()
    model(keras.Input(SHAPE))
    assert [call.training for call in watch_calls(model, SHAPE, 1)] == [False, None]
    assert [layer.count for layer in distinct_layers(model, SHAPE, 1)] == [1, 1]


def test_differences_in_values_alone_make_no_other_layer():
    image = keras.Input(SHAPE)
    x = keras.layers.Dense(3, kernel_initializer="zeros", name="one")(keras.layers.Dense(3)(image))
    x = keras.layers.Dense(3, activation="relu")(x)
    layers = distinct_layers(keras.Model(image, keras.layers.Dense(3, kernel_initializer="ones")(x)), SHAPE, 1)
    assert in_short(layers) == [("dense", "Dense", 1), ("one", "Dense", 2), ("dense_1", "Dense", 1)]


def test_what_launches_nothing_is_left_out_and_what_trains_only_is_not():
    image = keras.Input(SHAPE)
    x = keras.layers.Dropout(0.5)(keras.layers.Reshape((16, 48))(keras.layers.Activation("linear")(image)))
    assert in_short(distinct_layers(keras.Model(image, keras.layers.Flatten()(x)), SHAPE, 1)) == [
        ("dropout", "Dropout", 1)
    ]


def test_an_operation_in_a_functional_model_is_a_layer_too():
    image = keras.Input(SHAPE)
    model = keras.Model(image, keras.ops.multiply(keras.layers.Dense(3)(image), image))
    (_, multiply) = distinct_layers(model, SHAPE, 2)
    assert (multiply.layer_type, multiply.parameters) == ("Multiply", 0)
    assert multiply.call.needs_input_gradient == (True, False)


def two_softmaxes(shape):
    image = keras.Input(shape)
    x = keras.layers.Activation("softmax", dtype="float32")(keras.layers.Activation("softmax")(image))
    return keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Dense(5)(x)))


def test_precisions_pair_though_only_one_tells_two_layers_apart():
    models = {}
    for name in ("float32", "mixed_bfloat16"):
        with dtype_policy(PRECISIONS[name].policy):
            models[PRECISIONS[name]] = two_softmaxes(SHAPE)
    assert [layer.count for layer in distinct_layers(models[PRECISIONS["float32"]], SHAPE, 1)] == [2, 1, 1]
    paired = same_layers(models, SHAPE, 1)
    assert [layer.id for layer in paired["float32"]] == [layer.id for layer in paired["mixed_bfloat16"]]
    assert [layer.compute_dtype for layer in paired["mixed_bfloat16"]] == ["bfloat16", "float32", "bfloat16", "float32"]
    assert [layer.kept_float32 for layer in paired["mixed_bfloat16"]] == [False, True, False, True]
    assert not any(layer.kept_float32 for layer in paired["float32"])


def test_precisions_that_build_other_models_do_not_pair():
    models = {PRECISIONS["float32"]: nested(), PRECISIONS["tf32"]: two_softmaxes(SHAPE)}
    with pytest.raises(CaseFailure, match="8 in float32, 4 in tf32"):
        same_layers(models, SHAPE, 1)


def test_ids_are_those_of_every_precision_and_of_every_build():
    ids = layer_ids("tiny_models:feature_map", 16)
    assert ids == ["conv2d", "batch_normalization", "global_average_pooling2d", "dense", "dense_1", "activation"]
    for name in ("float32", "mixed_float16", "float16"):
        model = build_model("tiny_models:feature_map", 16, PRECISIONS[name])
        layers = named_layers(model, "tiny_models:feature_map", 16, 3, PRECISIONS[name])
        assert [layer.id for layer in layers] == ids
        assert layers[-1].kept_float32 == (name != "float32")


def test_a_model_that_fails_while_it_is_traced_is_a_failure_of_the_case():
    with pytest.raises(CaseFailure, match="cannot be watched"):
        watch_calls(nested(), (3, 3, 3), 1)
