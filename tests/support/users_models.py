"""Factories as users write them, tiny, for `--mp-models users_models:name`: own steps, losses, inputs and dtypes."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def _features(shape):
    image = keras.Input(shape)
    return image, layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, strides=2, activation="relu")(image))


def _compiled(kind, shape, optimizer=None, loss=None):
    image, x = _features(shape)
    model = kind(image, layers.Dense(3)(x))
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss)
    return model


def _scaled(optimizer, loss):
    return optimizer.scale_loss(loss) if hasattr(optimizer, "scale_loss") else loss


# Training steps.


class Step(keras.Model):
    """One update, as Keras's own step makes it; what others do otherwise."""

    def gradients(self, data, optimizer, weights):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
            scaled = self.scaled(optimizer, loss)
        return loss, tape.gradient(scaled, weights)

    def scaled(self, optimizer, loss):
        return _scaled(optimizer, loss)

    def train_step(self, data):
        loss, gradients = self.gradients(data, self.optimizer, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class Unscaled(Step):
    def scaled(self, optimizer, loss):
        return loss


class ClipsBefore(Step):
    def gradients(self, data, optimizer, weights):
        loss, gradients = super().gradients(data, optimizer, weights)
        return loss, tf.clip_by_global_norm(gradients, 1.0)[0]


class InFunction(Step):
    train_step = tf.function(Step.train_step)


class Twice(Step):
    def train_step(self, data):
        super().train_step(data)
        return super().train_step(data)


class EveryFourth(Step):
    """Gradients of four steps are added up before they are applied."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count = tf.Variable(0, trainable=False)
        self.sums = [tf.Variable(tf.zeros(weight.shape), trainable=False) for weight in self.trainable_variables]

    def train_step(self, data):
        loss, gradients = self.gradients(data, self.optimizer, self.trainable_variables)
        for one, gradient in zip(self.sums, gradients, strict=True):
            one.assign_add(gradient / 4)

        def apply():
            sums = [tf.convert_to_tensor(one) for one in self.sums]
            self.optimizer.apply_gradients(zip(sums, self.trainable_variables, strict=True))
            for one in self.sums:
                one.assign(tf.zeros_like(one))

        tf.cond(tf.equal(self.count.assign_add(1) % 4, 0), apply, lambda: None)
        return {"loss": loss}


class TwoOptimizers(Step):
    """Each half of the weights has its optimizer, and Keras's own compile() gets none."""

    def compile(self, first, second):
        super().compile()
        self.optimizers, self.answers = (first, second), keras.losses.MeanSquaredError()

    def compute_loss(self, x, y, y_pred):
        return self.answers(y, y_pred)

    def train_step(self, data):
        weights = self.trainable_variables
        for optimizer, part in zip(self.optimizers, (weights[:2], weights[2:]), strict=True):
            loss, gradients = self.gradients(data, optimizer, part)
            optimizer.apply_gradients(zip(gradients, part, strict=True))
        return {"loss": loss}


class UnscaledTwoOptimizers(TwoOptimizers):
    def scaled(self, optimizer, loss):
        return loss


def sound_step(shape):
    return _compiled(Step, shape, keras.optimizers.SGD(0.01))


def sound_keras_step(shape):
    return _compiled(keras.Model, shape, keras.optimizers.SGD(0.01))


def sound_step_in_a_function(shape):
    return _compiled(InFunction, shape, keras.optimizers.SGD(0.01, momentum=0.9))


def unscaled(shape):
    return _compiled(Unscaled, shape, keras.optimizers.SGD(0.001))


def unscaled_adam(shape):
    """Adam divides by the gradients' own size: it trains nearly as it should."""
    return _compiled(Unscaled, shape)


def clips_scaled_gradients(shape):
    return _compiled(ClipsBefore, shape, keras.optimizers.SGD(0.01))


def twice_a_step(shape):
    return _compiled(Twice, shape)


def every_fourth_step(shape):
    return _compiled(EveryFourth, shape)


def accumulates_in_keras(shape):
    return _compiled(keras.Model, shape, keras.optimizers.Adam(1e-3, gradient_accumulation_steps=4))


def _in_mixed_float16():
    return keras.config.dtype_policy().name == "mixed_float16"


def _scaling(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer) if _in_mixed_float16() else optimizer


def _two_optimizers(kind, shape, wrapped, optimizer):
    image, x = _features(shape)
    model = kind(image, layers.Dense(3)(x))
    model.compile(*(wrapped(optimizer(0.001)) for _ in range(2)))
    return model


def two_optimizers(shape):
    return _two_optimizers(TwoOptimizers, shape, lambda one: one, keras.optimizers.Adam)


def two_scaled_optimizers(shape):
    return _two_optimizers(TwoOptimizers, shape, _scaling, keras.optimizers.SGD)


def one_scaled_optimizer_and_another(shape):
    image, x = _features(shape)
    model = TwoOptimizers(image, layers.Dense(3)(x))
    model.compile(_scaling(keras.optimizers.SGD(0.001)), keras.optimizers.Adam(0.001))
    return model


def two_unscaled_optimizers(shape):
    return _two_optimizers(UnscaledTwoOptimizers, shape, _scaling, keras.optimizers.SGD)


class Gan(keras.Model):
    """Two networks, a step that takes images alone, and no call of its own."""

    def __init__(self, shape):
        super().__init__()
        self.discriminator = keras.Sequential(
            [keras.Input(shape), layers.Conv2D(8, 4, strides=4), layers.Flatten(), layers.Dense(1)]
        )
        self.generator = keras.Sequential(
            [keras.Input((16,)), layers.Dense(shape[0] * shape[1] * 3), layers.Reshape(shape)]
        )

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, images):
        count = tf.shape(images)[0]
        made = tf.cast(self.generator(tf.random.normal((count, 16))), images.dtype)
        with tf.GradientTape() as tape:
            answers = self.discriminator(tf.concat([made, images], 0))
            d_loss = self.loss_fn(tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], 0), answers)
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            answers = self.discriminator(self.generator(tf.random.normal((count, 16))))
            g_loss = self.loss_fn(tf.zeros((count, 1)), answers)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}


def gan(shape):
    model = Gan(shape)
    model.compile(keras.optimizers.Adam(2e-4), keras.optimizers.Adam(2e-4))
    return model


def gan_uncompiled(shape):
    return Gan(shape)


class Autoencoder(keras.Model):
    """Its step takes images alone, and would take a pair for a stack of them."""

    def __init__(self, shape):
        super().__init__()
        self.layers_of_it = keras.Sequential([keras.Input(shape), layers.Conv2D(3, 3, padding="same")])

    def call(self, x):
        return self.layers_of_it(x)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(self(tf.convert_to_tensor(data)), tf.float32) - data))
            scaled = _scaled(self.optimizer, loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss, "rank": tf.rank(data)}


def autoencoder(shape):
    model = Autoencoder(shape)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


class Broken(Step):
    def train_step(self, data):
        raise KeyError("no such thing\nin here")


def broken_step(shape):
    return _compiled(Broken, shape)


def frozen(shape):
    image, x = _features(shape)
    model = keras.Model(image, layers.Dense(2)(x))
    model.trainable = False
    return model


# Outputs and losses.


def list_of_one(shape):
    image, x = _features(shape)
    return keras.Model([image], [layers.Dense(3)(x)])


def dict_of_one(shape):
    image, x = _features(shape)
    return keras.Model(image, {"answer": layers.Dense(3)(x)})


def dict_of_one_compiled(shape):
    image, x = _features(shape)
    model = keras.Model(image, {"answer": layers.Dense(3, name="answer", activation="softmax")(x)})
    model.compile("adam", {"answer": "sparse_categorical_crossentropy"}, metrics={"answer": ["accuracy"]})
    return model


def list_of_one_feature_map(shape):
    image = keras.Input(shape)
    return keras.Model(image, [layers.Conv2D(8, 3)(image)])


def loss_in_a_list(shape):
    return _compiled(keras.Model, shape, loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True)])


def own_sparse_loss(shape):
    def focal(targets, answers):
        return keras.losses.sparse_categorical_crossentropy(targets, answers, from_logits=True)

    return _compiled(keras.Model, shape, loss=focal)


def own_loss_of_classes(shape):
    def entropy(targets, answers):
        return -tf.reduce_sum(tf.one_hot(tf.cast(targets, tf.int32), 3) * tf.nn.log_softmax(answers), -1)

    return _compiled(keras.Model, shape, loss=entropy)


def own_dense_loss(shape):
    class Squares(keras.losses.Loss):
        def call(self, targets, answers):
            return tf.reduce_mean(tf.square(targets - answers), -1)

    return _compiled(keras.Model, shape, loss=Squares())


def loss_that_takes_nothing(shape):
    def loss(targets, answers):
        raise ValueError("what is this?\nand that")

    return _compiled(keras.Model, shape, loss=loss)


def masks_of_any_size(shape):
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 1, activation="softmax")(layers.Conv2D(8, 3, padding="same")(image))
    model = keras.Model(image, x)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# Inputs.


def _after(image, x):
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))))


def uint8_pixels(shape):
    image = keras.Input(shape, dtype="uint8")
    return _after(image, layers.Rescaling(1 / 255)(image))


def rescales(shape):
    image = keras.Input(shape)
    return _after(image, layers.Rescaling(1 / 127.5, -1)(layers.RandomFlip()(image)))


def normalizes(shape):
    image = keras.Input(shape)
    return _after(image, layers.Normalization(mean=[123.0, 117.0, 104.0], variance=[3400.0] * 3)(image))


def divides(shape):
    image = keras.Input(shape)
    return _after(image, image / 255.0 - 0.5)


class Divides(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]

    def call(self, x):
        x = tf.cast(x, tf.float32) / 127.5 - 1.0
        for part in self.parts:
            x = part(x)
        return x


def divides_in_its_call(shape):
    return Divides()


def multiplies_first(shape):
    image = keras.Input(shape)
    return _after(image, layers.Rescaling(1 / 255)(layers.Rescaling(255.0)(image)))


def embeds_pixels(shape):
    image = keras.Input(shape, dtype="int32")
    x = layers.Reshape((-1, 24))(layers.Embedding(64, 8)(image))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def grey(shape):
    image = keras.Input((*shape[:2], 1))
    return _after(image, image)


def two_inputs(shape):
    images = keras.Input(shape), keras.Input(shape)
    return _after(images, layers.Subtract()(images))


class AddsWhatDoesNotFit(keras.layers.Layer):
    def call(self, x):
        return x + keras.ops.ones((7, 7, 7))


def fails_in_a_layer(shape):
    return keras.Sequential([layers.Conv2D(8, 3), AddsWhatDoesNotFit()])


# Dtypes.


class ProductIn(layers.Layer):
    """A matrix product in a dtype of its own, whatever the policy is."""

    def __init__(self, units, dtype_of_it, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units, self.dtype_of_it = units, dtype_of_it

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))

    def call(self, x):
        x, kernel = (tf.cast(one, self.dtype_of_it) for one in (x, self.kernel))
        return tf.cast(tf.matmul(x, kernel), self.compute_dtype)


def hard_float32(shape):
    image = keras.Input(shape)
    return keras.Model(image, layers.Dense(2)(ProductIn(256, "float32", name="hard")(layers.Flatten()(image))))


def hard_float16(shape):
    image = keras.Input(shape)
    return keras.Model(image, layers.Dense(2)(ProductIn(256, "float16", name="hard")(layers.Flatten()(image))))


def a_third_hard_float32(shape):
    image = keras.Input(shape)
    x = layers.Dense(64)(layers.Flatten()(image)[:, :64])
    x = ProductIn(64, "float32", name="hard")(x)
    return keras.Model(image, layers.Dense(64)(x))


def a_third_declared_float32(shape):
    image = keras.Input(shape)
    x = layers.Dense(64)(layers.Flatten()(image)[:, :64])
    x = layers.Dense(64, dtype="float32", name="declared")(x)
    return keras.Model(image, layers.Dense(64)(x))


class HardCell(layers.Layer):
    def __init__(self):
        super().__init__(autocast=False, name="cell")
        self.state_size = 16

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1] + 16, 16))

    def call(self, x, states):
        joined = tf.cast(tf.concat([x, tf.cast(states[0], x.dtype)], -1), tf.float32)
        out = tf.cast(tf.tanh(tf.matmul(joined, tf.cast(self.kernel, tf.float32))), x.dtype)
        return out, [out]


def hard_float32_in_a_loop(shape):
    """The product of a step in time is small; there are as many as rows."""
    image = keras.Input(shape)
    x = layers.RNN(HardCell())(layers.Reshape((shape[0], -1))(image))
    return keras.Model(image, layers.Dense(128)(x))


def attention(shape):
    image = keras.Input(shape)
    x = layers.Reshape((-1, 16))(layers.Conv2D(16, 4, strides=4)(image))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)])
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def recurrent(shape):
    image = keras.Input(shape)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(layers.Reshape((shape[0], -1))(image))
    return keras.Model(image, layers.Dense(5)(layers.GRU(8)(x)))


def convolutions_of_all_kinds(shape):
    image = keras.Input(shape)
    x = layers.SeparableConv2D(8, 3)(layers.Conv2DTranspose(8, 2, strides=2)(layers.Conv2D(8, 3, groups=1)(image)))
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv1D(8, 3)(layers.Reshape((-1, 8))(x))
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def sets_floatx(shape):
    keras.config.set_floatx("float16")
    return frozen(shape)


def sets_the_policy(shape):
    keras.config.set_dtype_policy("mixed_float16")
    image, x = _features(shape)
    return keras.Model(image, layers.Dense(2)(x))


# Data of their own.


def _rng():
    return np.random.default_rng(0)


def _classes():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Block(layers.Layer):
    """Attention and a feed-forward part, each with its residual."""

    def __init__(self):
        super().__init__()
        self.attention, self.norms = layers.MultiHeadAttention(2, 8), [layers.LayerNormalization() for _ in range(2)]
        self.dense = keras.Sequential([layers.Dense(64, activation="gelu"), layers.Dense(32)])

    def call(self, x):
        x = self.norms[0](x + self.attention(x, x, use_causal_mask=True))
        return self.norms[1](x + self.dense(x))


class Transformer(keras.Model):
    """A language model on token ids, not built before it is called."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = layers.Embedding(50, 32, mask_zero=True), layers.Embedding(12, 32)
        self.blocks, self.head = [Block(), Block()], layers.Dense(50, dtype="float32")

    def call(self, ids):
        x = self.tokens(ids) + self.places(tf.range(tf.shape(ids)[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def transformer(shape):
    ids = _rng().integers(1, 50, (5, 13), dtype=np.int32)
    ids[:, 9:] = 0
    model = Transformer()
    model.compile(keras.optimizers.Adam(1e-3), _classes())
    return model, (ids[:, :-1], ids[:, 1:])


def segmenter(shape):
    """A U-Net with masks and uint8 images, in a tf.data.Dataset."""
    image = keras.Input(shape, dtype="uint8")
    first = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    x = layers.Concatenate()([first, layers.Conv2DTranspose(8, 2, strides=2)(x)])
    model = keras.Model(image, layers.Conv2D(4, 1, dtype="float32")(x))
    model.compile("adam", _classes())
    images = _rng().integers(0, 256, (10, *shape), dtype=np.uint8)
    masks = _rng().integers(0, 4, (10, *shape[:2]), dtype=np.uint8)
    return model, tf.data.Dataset.from_tensor_slices((images, masks)).batch(6)


def gan_with_dataset(shape):
    """Images alone from a generator, for a training step with two optimizers that scale their losses by themselves."""
    model = Gan(shape)
    model.compile(keras.optimizers.Adam(2e-4), keras.optimizers.Adam(2e-4))
    return model, (_rng().uniform(-1, 1, (3, *shape)).astype(np.float32) for _ in range(2))


def _pair(shape):
    return [*_rng().uniform(-1, 1, (2, 4, *shape))]


def _siamese(one, other, inputs):
    embed = keras.Sequential([layers.Conv2D(8, 3, strides=2), layers.GlobalAveragePooling2D(), layers.Dense(16)])
    distance = layers.Subtract()([embed(one), embed(other)])
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", dtype="float32")(distance))
    model.compile("adam", "binary_crossentropy")
    return model


def siamese_list(shape):
    one, other = keras.Input(shape), keras.Input(shape)
    return _siamese(one, other, [one, other]), (_pair(shape), np.array([[0], [1], [1], [0]]))


def siamese_dict(shape):
    inputs = {name: keras.Input(shape, name=name) for name in ("left", "right")}
    batch = dict(zip(inputs, _pair(shape), strict=True)), np.array([[0], [1], [1], [0]])
    return _siamese(inputs["left"], inputs["right"], inputs), batch


class Triplets(keras.Model):
    """Its step takes apart what Keras would take for x, y and sample_weight, and its call takes all three."""

    def __init__(self, shape):
        super().__init__()
        self.embed = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(8)])

    def call(self, three):
        anchor, positive, negative = (self.embed(one) for one in three)
        return tf.reduce_sum(tf.square(anchor - positive), -1), tf.reduce_sum(tf.square(anchor - negative), -1)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            near, far = self(data)
            loss = tf.reduce_mean(tf.maximum(tf.cast(near - far, tf.float32) + 0.5, 0.0))
            scaled = _scaled(self.optimizer, loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def triplets(shape):
    model = Triplets(shape)
    model.compile(keras.optimizers.Adam(1e-3))
    rng = _rng()
    return model, tuple(rng.uniform(-1, 1, (4, *shape)).astype(np.float32) for _ in range(3))


def weighted(shape):
    """Sample weights, and an own loss; NumPy's own generator, which mpbench seeds."""

    def squares(targets, answers):
        return tf.reduce_mean(tf.square(targets - answers), -1)

    inputs = keras.Input((7,))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(32, activation="relu")(inputs)))
    model.compile("adam", squares)
    return model, (np.random.normal(size=(9, 7)), np.random.normal(size=(9, 3)), np.arange(9.0))


class Batches(keras.utils.PyDataset):
    def __init__(self, count, shape):
        super().__init__()
        self.count, self.shape = count, shape

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        images = np.full((4, *self.shape), index + 1, np.float32)
        return images, {"kind": np.arange(4) % 3, "size": np.ones((4, 1), np.float32)}


def _two_heads(shape):
    image, x = _features(shape)
    return keras.Model(image, {"kind": layers.Dense(3)(x), "size": layers.Dense(1)(x)})


def two_outputs_in_a_pydataset(shape):
    def entropy(targets, answers):
        return keras.losses.sparse_categorical_crossentropy(targets, answers, from_logits=True)

    model = _two_heads(shape)
    model.compile("adam", {"kind": entropy, "size": "mse"}, loss_weights={"kind": 1.0, "size": 0.5})
    return model, Batches(2, shape)


def two_outputs_without_a_loss(shape):
    return _two_heads(shape), Batches(2, shape)


def classes_without_a_loss(shape):
    """Its loss is guessed, as with images; no head is put on a feature map."""
    ids = keras.Input((6,), dtype="int64")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 16)(ids))
    return keras.Model(ids, layers.Dense(4)(x)), (_rng().integers(0, 20, (8, 6)), np.arange(8) % 4)


def feature_map_with_images(shape):
    image = keras.Input(shape)
    return keras.Model(image, layers.Conv2D(8, 3)(image)), np.zeros((2, *shape), np.float32)


def _small(data):
    inputs = keras.Input((7,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    model.compile("adam", "mse")
    return model, data


def empty_dataset(shape):
    return _small(tf.data.Dataset.from_tensor_slices(np.zeros((0, 7))).batch(4))


def empty_pydataset(shape):
    return _small(Batches(0, shape))


def empty_batch(shape):
    return _small(np.zeros((0, 7)))


def not_batched(shape):
    return _small(tf.data.Dataset.from_tensor_slices((np.zeros((4, 7)), np.zeros(4))))


def of_different_sizes(shape):
    return _small((np.zeros((4, 7)), np.zeros((5, 3))))


def four_parts(shape):
    return _small([np.zeros((4, 7))] * 4)


def no_arrays(shape):
    return _small((np.zeros((4, 7)), [1, 2, 3, 4]))


def ragged(shape):
    return _small(tf.ragged.constant([[1.0], [2.0, 3.0]]))


def no_data(shape):
    return _small(7)


def weights_alone(shape):
    return _small((np.zeros((4, 7)), None, np.zeros(4)))


def fails_while_it_reads(shape):
    def batches():
        raise OSError("no such file: tokens.bin")
        yield

    return _small(batches())


def other_features(shape):
    return _small((np.zeros((4, 9)), np.zeros((4, 3))))


class TakesApart(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, parts):
        return self.dense(parts["left"] + parts["right"])


def other_names(shape):
    return TakesApart(), {"left": np.zeros((4, 7)), "wright": np.zeros((4, 7))}


def x_alone(shape):
    return _small(np.zeros((4, 7)))


def targets_that_do_not_fit(shape):
    return _small((np.zeros((4, 7)), np.zeros((4, 5))))


_calls = []


def another_batch_each_time(shape):
    _calls.append(shape)
    return _small((np.full((4, 7), len(_calls)), np.zeros((4, 3))))


def three_returned(shape):
    return (*_small(np.zeros((4, 7))), np.zeros((4, 3)))
