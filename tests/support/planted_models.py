"""Factories of models with a planted cause, for `--mp-models planted_models:name`: what a breakdown must find in them.

Their size follows the image's: tiny on a CPU at 32 px, worth a GPU's while at 224 px.
"""

import keras
from keras import layers


def _classes(x):
    return layers.Activation("softmax", dtype="float32")(layers.Dense(8)(x))


def _sequence(image, features):
    """An image as a sequence of its rows' patches, (batch, steps, features)."""
    x = layers.Conv2D(features, 8, strides=8, name="patches")(image)
    return layers.Reshape((-1, features))(x)


def huge_dense(shape):
    """Compute: nearly all is one matrix product, forward and backward."""
    image = keras.Input(shape)
    units = 32 * shape[0]
    x = layers.Dense(units, name="widen")(layers.GlobalAveragePooling2D()(image))
    return keras.Model(image, _classes(layers.Dense(units, name="huge")(x)))


def elementwise_only(shape):
    """Memory: additions and activations of the whole image, one layer after the other."""
    image = keras.Input(shape)
    x = layers.Concatenate()([image, image, image, image])
    for i in range(10):
        x = layers.Add()([x, layers.Activation("tanh", name=f"tanh_{i}")(x)])
    return keras.Model(image, _classes(layers.GlobalAveragePooling2D()(x)))


def tiny_layers(shape, count=100):
    """Launches: many layers of next to no work each."""
    image = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(image)
    for i in range(count):
        x = layers.Dense(4, name=f"tiny_{i}")(x)
    return keras.Model(image, _classes(x))


def channels_30(shape):
    """Tensor cores: 3x3 convolutions whose channels are no multiple of 8."""
    image = keras.Input(shape)
    x = image
    for i in range(6):
        x = layers.Conv2D(30, 3, padding="same", activation="relu", name=f"conv30_{i}")(x)
    return keras.Model(image, _classes(layers.GlobalAveragePooling2D()(x)))


def float32_layer(shape):
    """One layer that somebody has left in float32 takes most of the step."""
    image = keras.Input(shape)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="half_1")(image)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="kept_in_float32", dtype="float32")(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="half_2")(x)
    return keras.Model(image, _classes(layers.GlobalAveragePooling2D()(x)))


def half_normalisation(shape):
    """Batch normalisation as often as convolution: Keras computes it in float32 from single operations."""
    image = keras.Input(shape)
    x = image
    for i in range(6):
        x = layers.Conv2D(32, 1, use_bias=False, name=f"conv_{i}")(x)
        x = layers.Activation("relu")(layers.BatchNormalization(name=f"norm_{i}")(x))
    return keras.Model(image, _classes(layers.GlobalAveragePooling2D()(x)))


def lstm(shape):
    """A recurrent layer over the image's patches."""
    image = keras.Input(shape)
    x = layers.LSTM(max(16, shape[0]), name="recurrent")(_sequence(image, max(16, shape[0])))
    return keras.Model(image, _classes(x))


def transformer(shape):
    """Two Transformer blocks, of which the second is made of nested layers of a class of its own."""
    width = max(16, shape[0] // 8 * 8)
    image = keras.Input(shape)
    x = _sequence(image, width)
    attended = layers.MultiHeadAttention(4, width // 4, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm_1")(layers.Add()([x, attended]))
    fed = layers.Dense(width, name="feed_2")(layers.Dense(4 * width, activation="gelu", name="feed_1")(x))
    x = layers.LayerNormalization(name="norm_2")(layers.Add()([x, fed]))
    x = Block(width, name="block")(x)
    return keras.Model(image, _classes(layers.GlobalAveragePooling1D()(x)))


class Block(layers.Layer):
    """A Transformer block as users write them: layers in attributes, called in `call`."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(4, width // 4)
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.feed = keras.Sequential([layers.Dense(4 * width, activation="gelu"), layers.Dense(width)])

    def build(self, shape):
        self.attention.build(shape, shape)
        for part in (*self.norms, self.feed):
            part.build(shape)
        super().build(shape)

    def call(self, x):
        x = self.norms[0](x + self.attention(x, x))
        return self.norms[1](x + self.feed(x))


def unet(shape):
    """A small U-Net: shared shapes, transposed convolutions, concatenations across it."""
    image = keras.Input(shape)

    def twice(x, filters, name):
        for part in "ab":
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}_{part}")(x)
        return x

    down_1 = twice(image, 32, "down_1")
    down_2 = twice(layers.MaxPooling2D(name="pool_1")(down_1), 64, "down_2")
    middle = twice(layers.MaxPooling2D(name="pool_2")(down_2), 128, "middle")
    up_2 = layers.Conv2DTranspose(64, 2, strides=2, name="grow_2")(middle)
    up_2 = twice(layers.Concatenate()([up_2, down_2]), 64, "up_2")
    up_1 = layers.Conv2DTranspose(32, 2, strides=2, name="grow_1")(up_2)
    up_1 = twice(layers.Concatenate()([up_1, down_1]), 32, "up_1")
    return keras.Model(image, _classes(layers.GlobalAveragePooling2D()(up_1)))


class Subclassed(keras.Model):
    """A subclassed model with one layer called twice, and names that look like others' (`adam`, `gradient_tape`)."""

    def __init__(self):
        super().__init__()
        self.first = layers.Conv2D(32, 3, padding="same", activation="relu", name="adam")
        self.shared = layers.Conv2D(32, 3, padding="same", activation="relu", name="gradient_tape")
        self.norm = layers.BatchNormalization(name="cast")
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(8)

    def call(self, x, training=False):
        x = self.shared(self.shared(self.first(x)))
        return self.head(self.pool(self.norm(x, training=training)))


def subclassed(shape):
    return Subclassed()


PLANTED = (
    huge_dense, elementwise_only, tiny_layers, channels_30, float32_layer, half_normalisation, lstm, transformer, unet,
    subclassed,
)  # fmt: skip
