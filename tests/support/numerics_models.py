"""Models for tests of numerics, compiled: with a planted fault, each in one layer, and without one."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

FEATURES = 8
CLASSES = 4


def batch(count=8, features=FEATURES, classes=CLASSES):
    """Random features and class numbers, the same in every call."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(count, features)).astype("float32"), draw.integers(0, classes, count)


def compiled(model, loss="sparse_categorical_crossentropy", optimizer=None):
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss)
    return model


def classifier():
    """Its loss goes back from the softmax to the logits."""
    x = keras.Input((FEATURES,))
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES, name="last")(layers.Dense(16, name="first")(x)))))


class Own(layers.Layer):
    """A softmax of TensorFlow's, which Keras's losses find by its operation."""

    def call(self, x):
        return tf.nn.softmax(x)


def own_softmax():
    x = keras.Input((FEATURES,))
    wide = keras.initializers.RandomNormal(stddev=8.0, seed=3)  # some probabilities are so small that a loss clips them
    y = layers.Dense(CLASSES, name="last", kernel_initializer=wide)(x)
    return compiled(keras.Model(x, Own(dtype="float32", name="own")(y)))


def _softmax(x):
    return layers.Activation("softmax", dtype="float32", name="answers")(x)


class Times(layers.Layer):
    """Its input by a factor."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * keras.ops.cast(self.factor, x.dtype)


class Steep(layers.Layer):
    """Its input as it is; its gradient by a factor on the way back."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        factor = tf.cast(self.factor, x.dtype)
        return tf.custom_gradient(lambda y: (tf.identity(y), lambda upstream: upstream * factor))(x)


class Reciprocal(layers.Layer):
    """Divides by a square and an epsilon."""

    def call(self, x):
        return (1 / (x * x + 1e-7)) * 1e-7


def overflowing():
    """`planted` gives values up to some 1e5; float16 ends at 65504."""
    x = keras.Input((FEATURES,))
    y = layers.Dense(16, name="before")(x)
    y = Times(1e5, name="planted")(y)
    y = layers.Dense(CLASSES, name="after")(Times(1e-5, name="back")(y))
    return compiled(keras.Model(x, _softmax(y)))


def overflows_and_recovers():
    """What overflows in `planted` is what a sigmoid makes 0 or 1 of anyway."""
    x = keras.Input((FEATURES,))
    y = layers.Activation("sigmoid", name="squash")(Times(6e4, name="planted")(layers.Dense(16)(x)))
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(y))))


def little_headroom():
    """`planted` gives values some factor of 2 below float16's largest."""
    x = keras.Input((FEATURES,))
    y = layers.Rescaling(2.0**14, name="planted")(layers.Activation("tanh")(x))
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(layers.Rescaling(2.0**-14)(y)))))


def softmax_of_a_thousand():
    """Most of 1,000 probabilities are too small for float16."""
    x = keras.Input((FEATURES,))
    wide = keras.initializers.RandomNormal(stddev=4.0, seed=1)
    y = layers.Dense(1000, name="scores", kernel_initializer=wide)(x)
    return compiled(keras.Model(x, layers.Softmax(name="planted")(y)))


def tiny_loss(size=1e-8):
    """A loss, and so all gradients, of that size."""
    x = keras.Input((FEATURES,))
    y = layers.Dense(CLASSES, name="last")(layers.Dense(16, activation="tanh", name="first")(x))

    def loss(targets, answers):
        return size * keras.losses.sparse_categorical_crossentropy(targets, answers, from_logits=True)

    return compiled(keras.Model(x, y), loss)


def vanishing():
    """What `planted` hands back is too small for float16 at any loss scale at which the rest does not overflow."""
    x = keras.Input((FEATURES,))
    y = layers.Dense(16, name="first")(x)
    y = layers.Dense(CLASSES, name="last")(Steep(1e-14, name="planted")(y))
    return compiled(keras.Model(x, _softmax(y)))


def steep():
    """What `planted` hands back is too large for float16 at any loss scale."""
    x = keras.Input((FEATURES,))
    y = layers.Dense(16, name="first")(x)
    y = layers.Dense(CLASSES, name="last")(Steep(1e14, name="planted")(y))
    return compiled(keras.Model(x, _softmax(y)))


def epsilon():
    """The epsilon of `planted`, 1e-7, is all that is left of its denominator in float16, and 1 / 1e-7 is infinite."""
    x = keras.Input((FEATURES,))
    y = Reciprocal(name="planted")(Times(1e-4, name="small")(layers.Dense(16)(x)))
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(y))))


def tiny_epsilon():
    """Adam's epsilon is 0 in float16, and so are its mean squares of gradients: it divides by 0."""
    x = keras.Input((FEATURES,))
    y = layers.Dense(CLASSES, name="planted")(Times(1e-3, name="small")(x))
    return compiled(keras.Model(x, _softmax(y)), optimizer=keras.optimizers.Adam(0.1, epsilon=1e-9))


def exploding_lstm():
    """The state of `planted` is three times as large after each of 12 steps."""
    x = keras.Input((12, FEATURES))
    y = layers.LSTM(
        6,
        activation="linear",
        recurrent_activation="relu",
        recurrent_initializer=keras.initializers.Identity(3.0),
        kernel_initializer="ones",
        name="planted",
    )(x)
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(Times(1e-30, name="back", dtype="float32")(y)))))


def half_batch_normalisation():
    """`planted` keeps its moving variance in float16 whatever the policy is, and the variance is some 1e6."""
    x = keras.Input((FEATURES,))
    y = layers.Rescaling(1e4, name="wide")(x)
    y = layers.BatchNormalization(dtype="float16", name="planted")(y)
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(y))))


def scores_overflow():
    """Queries and keys of `planted` fit, their products do not."""
    x = keras.Input((5, FEATURES))
    large = keras.initializers.RandomNormal(stddev=200.0, seed=2)
    y = layers.MultiHeadAttention(2, 16, name="planted", kernel_initializer=large)(x, x)
    y = layers.GlobalAveragePooling1D()(layers.Rescaling(1e-4)(y))
    return compiled(keras.Model(x, _softmax(layers.Dense(CLASSES)(y))))


# Clean ones.


def three_layers():
    x = keras.Input((FEATURES,))
    y = layers.Dense(16, activation="relu", name="first")(x)
    y = layers.Dense(12, activation="tanh", name="second")(y)
    return compiled(keras.Model(x, layers.Dense(CLASSES, name="third")(y)), "mse")


def transformer():
    """Token ids, an embedding, masked attention, dropout."""
    ids = keras.Input((6,), dtype="int32")
    y = layers.Embedding(20, 16, mask_zero=True, name="embedding")(ids)
    y = layers.LayerNormalization(name="norm")(y + layers.MultiHeadAttention(2, 8, dropout=0.1, name="attention")(y, y))
    y = layers.Dropout(0.2)(layers.Dense(16, activation="gelu", name="feed")(y))
    return compiled(keras.Model(ids, _softmax(layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(y)))))


def unet():
    image = keras.Input((16, 16, 3))
    down = layers.Conv2D(8, 3, padding="same", activation="relu", name="down")(image)
    middle = layers.Conv2D(8, 3, padding="same", activation="relu", name="middle")(layers.MaxPooling2D()(down))
    up = layers.Concatenate()([layers.Conv2DTranspose(8, 2, strides=2, name="up")(middle), down])
    return compiled(keras.Model(image, layers.Conv2D(2, 1, activation="softmax", dtype="float32", name="pixels")(up)))


def two_outputs():
    """Inputs, outputs and losses in dicts, a regularizer, a layer in float32, operations between layers."""
    x = {"a": keras.Input((FEATURES,), name="a"), "b": keras.Input((FEATURES,), name="b")}
    y = layers.Dense(16, kernel_regularizer="l2", name="joined")(x["a"] + x["b"] / 2.0)
    outputs = {
        "value": layers.Dense(1, name="value")(y),
        "kind": layers.Dense(CLASSES, activation="softmax", dtype="float32", name="kind")(y),
    }
    return compiled(keras.Model(x, outputs), {"value": "mse", "kind": "sparse_categorical_crossentropy"})


def siamese():
    """Two inputs go through one nested model."""
    first, second = keras.Input((FEATURES,), name="first"), keras.Input((FEATURES,), name="second")
    inner = keras.Input((FEATURES,))
    y = layers.Dense(8, name="out")(layers.Dense(8, activation="relu", name="in")(inner))
    shared = keras.Model(inner, y, name="shared")
    distance = layers.Subtract(name="distance")([shared(first), shared(second)])
    answers = layers.Dense(1, activation="sigmoid", dtype="float32", name="same")(distance)
    return compiled(keras.Model([first, second], answers), "binary_crossentropy")


class Block(layers.Layer):
    """Layers in attributes, operations of its own between them."""

    def __init__(self, width, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.factor = width, factor
        self.inner = layers.Dense(width, activation="relu", name="inner")
        self.norm = layers.LayerNormalization(name="norm")

    def build(self, shape):
        self.inner.build(shape)
        self.norm.build((*shape[:-1], self.width))
        super().build(shape)

    def call(self, x):
        return self.norm(self.inner(x) * self.factor * self.factor)


class Subclassed(keras.Model):
    """A block that is called twice, and a nested Sequential model."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.block = Block(FEATURES, factor, name="block")
        self.tail = keras.Sequential(
            [layers.Dense(8, activation="tanh", name="in"), layers.Dense(CLASSES, name="out")], name="tail"
        )

    def call(self, x, training=False):
        return self.tail(self.block(self.block(x)))


def subclassed(factor=1.0):
    return compiled(Subclassed(factor), keras.losses.SparseCategoricalCrossentropy(from_logits=True))


def subclassed_overflowing():
    """The operations of `block` between its layers overflow."""
    return subclassed(1e4)
