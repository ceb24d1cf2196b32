"""Factories of tiny real Keras models, good and bad, for `--mp-models tiny_models:name`."""

import os

import keras
import numpy as np
import tensorflow as tf

from mpbench.system import machine

# What else this machine does shall not decide a test; in the tests' own process it is what some of them test.
if os.environ.get("MPBENCH_TESTS_PID") != str(os.getpid()):
    machine.others_cpu_seconds = lambda: None


def feature_map(shape):
    image = keras.Input(shape)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    return keras.Model(image, keras.layers.BatchNormalization()(x))


def classifier(shape):
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))


def compiled_regressor(shape):
    image = keras.Input(shape)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, x)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def compiled_with_metrics(shape):
    model = classifier(shape)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def frozen_learning_rate(shape):
    model = classifier(shape)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    return model


class _Poison(keras.layers.Layer):
    def __init__(self, value):
        super().__init__()
        self._value = value

    def call(self, x):
        return x * keras.ops.cast(self._value, x.dtype)


def not_a_number(shape):
    image = keras.Input(shape)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))
    return keras.Model(image, keras.layers.Activation("softmax", dtype="float32")(_Poison(float("nan"))(x)))


def overflows_in_float16(shape):
    """Under loss scaling its gradients are never finite: they exceed float16's largest number at any scale."""
    image = keras.Input(shape)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))
    x = _Poison(1e30)(x) if keras.config.dtype_policy().name == "mixed_float16" else x
    return keras.Model(image, keras.layers.Activation("softmax", dtype="float32")(x))


def fails_under_mixed_float16(shape):
    if keras.config.dtype_policy().name == "mixed_float16":
        raise MemoryError("no room for 99 TiB")
    return classifier(shape)


def ignores_the_policy(shape):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return classifier(shape)
    finally:
        keras.config.set_dtype_policy(before)


def odd_output(shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Reshape((-1, 3))(image))


def no_model(shape):
    return "a string"


def raises(shape):
    raise RuntimeError("out of ideas")


not_callable = 42


def overflows_at_first(shape):
    """Its gradients pass float16's largest number, 65504, until the loss scale has come down some powers of two."""
    image = keras.Input(shape)
    x = keras.layers.Dense(2, use_bias=False)(keras.layers.GlobalAveragePooling2D()(image))
    return keras.Model(image, keras.layers.Activation("softmax", dtype="float32")(_Poison(2.0**9)(x)))


@keras.saving.register_keras_serializable()
class _Restless(keras.optimizers.LossScaleOptimizer):
    """Raises its scale far beyond float16 after each accepted step, so that about every other one overflows."""

    def __init__(self, inner_optimizer, **kwargs):
        super().__init__(inner_optimizer, initial_scale=2.0**15, dynamic_growth_steps=1, **kwargs)


def overflows_every_other_step(shape):
    model = overflows_at_first(shape)
    model.compile(_Restless(keras.optimizers.Adam(1e-4)), keras.losses.SparseCategoricalCrossentropy())
    return model


def ignores_the_policy_below_the_head(shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Conv2D(600, 3, strides=8, dtype="float32")(image))


def two_outputs(shape):
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])


def ignores_the_shape(shape):
    return classifier((8, 8, 1))


_kept = {}


def the_same_again(shape):
    return _kept.setdefault(keras.config.dtype_policy().name, classifier(shape))


def trained_before(shape):
    model = classifier(shape)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy())
    model.fit(np.zeros((4, *shape)), np.zeros(4), epochs=3, verbose=0)
    return model


class Subclassed(keras.Model):
    def __init__(self, shape):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(5, activation="softmax")

    def call(self, x):
        return self.dense(self.pool(x))


class SubclassedFeatures(keras.Model):
    def __init__(self, shape):
        super().__init__()
        self.conv = keras.layers.Conv2D(600, 3, strides=8)

    def call(self, x):
        return self.conv(x)


def logits(shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(image)))


def sequential_features(shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Conv2D(600, 3, strides=8)])


def edges(shape):
    """A base whose pooled features tell stripes from patches: random convolutions, larger ones deeper."""
    image = keras.Input(shape)
    x = keras.layers.Conv2D(32, 3, activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(64, 3, strides=2, activation="relu")(x))


class _LostInFloat16(keras.layers.Layer):
    """Leaves its input as it is, but in float16 gives every place a sign and size of its own."""

    def call(self, x):
        if self.compute_dtype != "float16":
            return x
        return x * keras.random.normal(x.shape[1:], seed=1, dtype="float16")


def edges_lost_in_float16(shape):
    """Under mixed_float16 the same base tells its images apart much worse."""
    base = edges(shape)
    return keras.Model(base.input, _LostInFloat16()(base.output))


def other_weights_each_time(shape):
    """The same architecture; its weights are drawn anew in each call, whatever the seed."""
    base = edges(shape)
    for weight in base.trainable_weights:
        weight.assign(np.random.default_rng().normal(0, 0.1, weight.shape))
    return base


def all_zero(shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Conv2D(4, 3, kernel_initializer="zeros")(image))


def preprocess_input(images):
    """As the modules of keras.applications have it; for tests that pass these models off as some of them."""
    return images / 100


def pretended_application(weights, include_top, input_shape):
    return feature_map(input_shape)


def overflowing_base(shape):
    image = keras.Input(shape)
    x = keras.layers.Conv2D(8, 3, kernel_initializer=keras.initializers.Constant(1e4))(image)
    return keras.Model(image, keras.layers.Activation("relu")(x))


class _Room(keras.layers.Layer):
    """Runs out of memory where a batch is larger than fits; TensorFlow's allocators would first wait for 10 s."""

    def call(self, x):
        room = {"float32": 37, "float16": 80}[self.compute_dtype]

        def allocate(images):
            if images > room:
                raise MemoryError
            return np.float32(0)

        return x + tf.cast(tf.ensure_shape(tf.numpy_function(allocate, [tf.shape(x)[0]], tf.float32), ()), x.dtype)


def room_for_37_or_80(shape):
    """Runs out of memory beyond 37 images in float32 and 80 in mixed_float16."""
    image = keras.Input(shape)
    x = _Room()(keras.layers.GlobalAveragePooling2D()(image))
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))


def huge_dense(shape):
    """Nearly all of its time is one product: compute-bound."""
    image = keras.Input(shape)
    x = keras.layers.Flatten()(image)
    for _ in range(2):
        x = keras.layers.Dense(4096)(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


def elementwise_only(shape):
    """Nearly all of its time goes by reading and writing: memory-bound."""
    image = keras.Input(shape)
    x = keras.layers.UpSampling2D(16)(image)
    for _ in range(5):
        x = keras.layers.Add()([x, keras.layers.ReLU()(x)])
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


def thousand_tiny_layers(shape):
    """Nearly all of its time goes by launching: each layer has a few values."""
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(image)
    for _ in range(10):  # in parts: Keras follows a model's layers by recursion
        part = [layer for _ in range(50) for layer in (keras.layers.Dense(3), keras.layers.ReLU())]
        x = keras.Sequential(part)(x)
    return keras.Model(image, keras.layers.Dense(2)(x))
