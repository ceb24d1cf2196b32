"""Profiles of real, tiny Keras models, taken by TensorFlow's own profiler on the CPU."""

import keras
import pytest
import tensorflow as tf
from keras import layers
from traces import levels

from mpbench.records.profile import BACKWARD, CHECKS, FORWARD, LOSS_SCALING, UNATTRIBUTED, UPDATE, read_profile
from mpbench.why.measuring import profile as measuring
from mpbench.why.measuring.profile import known_layers, known_model, profile_step
from mpbench.why.reading.trace import UnreadableTrace

pytestmark = pytest.mark.tensorflow


class Step:
    """A training step, or one of inference, as it can be profiled; `skips` are those that loss scaling will drop."""

    def __init__(self, model, image_shape, jit=False, skips=0):
        self.skips, self.skipped, self.ran = skips, 0, 0
        x, y = tf.ones((2, *image_shape)), tf.zeros((2,), tf.int32)
        model(x)
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        self.call = tf.function(lambda: model.train_step((x, y)), jit_compile=jit, autograph=False)
        self.call()

    def run(self, steps):
        for _ in range(steps):
            self.call()
        self.ran += steps
        if self.skips:
            self.skips -= 1
            self.skipped += 1

    def skipped_steps(self):
        return self.skipped


class Gate(keras.layers.Layer):
    """Layers inside a user's own."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.first, self.second = layers.Dense(units, name="mul"), layers.Dense(units)

    def call(self, x):
        return self.second(self.first(x)) * 2.0 + x


class Odd(keras.Model):
    """A subclassed model with names of an optimizer, a condition and a gradient, a shared layer and a nested one."""

    def __init__(self):
        super().__init__(name="odd")
        self.pool, self.adam = layers.GlobalAveragePooling2D(), layers.Dense(8, name="adam")
        self.shared, self.gate = layers.Dense(8, name="cond"), Gate(8, name="gradient_tape")
        self.inner = keras.Sequential([layers.Dense(8, name="conv.1"), layers.Dense(8)], name="inner")
        self.out = layers.Dense(4, activation="softmax", dtype="float32", name="kept")

    def call(self, x):
        x = self.shared(self.shared(self.adam(self.pool(x))))
        return self.out(self.inner(self.gate(x)))


ODD_LAYERS = {
    *("global_average_pooling2d", "adam", "cond", "gradient_tape", "gradient_tape/mul", "gradient_tape/dense"),
    *("inner/conv.1", "inner/dense_1", "kept"),
}


def convolutions():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, name="convolve")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="normal")(x))
    x = layers.MaxPooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", dtype="float32")(layers.Flatten()(x)))


@pytest.fixture(autouse=True)
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def odd():
    keras.config.set_dtype_policy("mixed_float16")
    model = Odd()
    return model, Step(model, (4, 4, 3))


def profiled(step, model, **options):
    record = profile_step(step, known_model(model), on_gpu=False, **options)
    assert not isinstance(record, str), record
    parts, rows = {}, {row.name: row for row in record.rows}
    for row in record.rows:
        for (part, _), ns in row.ns.items():
            parts[part] = parts.get(part, 0) + ns
    assert parts.get(UNATTRIBUTED, 0) <= 0.03 * record.busy_ns
    assert {FORWARD, BACKWARD, UPDATE, LOSS_SCALING, CHECKS} <= set(parts)
    assert read_profile(record.as_text()).busy_ns == record.busy_ns
    return record, rows


def test_names_of_a_users_own(odd):
    model, step = odd
    record, rows = profiled(step, model)
    assert set(rows) >= ODD_LAYERS
    assert record.steps == 3
    assert not record.on_device
    for name in ("adam", "cond", "kept"):
        products = [kind for _, kind in rows[name].ns if "convolution and matmul" in kind]
        assert products, name
        assert not any(part == UPDATE for part, _ in rows[name].ns)
    once = sum(1 for row in record.rows if row.name == "cond")
    assert once == 1  # shared: called twice
    assert rows["cond"].kernels > rows["adam"].kernels
    assert (rows["kept"].dtype, rows["adam"].dtype) == ("float32", "float16")
    assert (rows["adam"].channels, rows["kept"].channels) == ((3, 8), (8, 4))


def test_xla_is_attributed_through_its_programs():
    model = convolutions()
    record, rows = profiled(Step(model, (16, 16, 3), jit=True), model, steps=2)
    assert set(rows) >= {"convolve", "normal", "pool", "dense"}
    assert record.steps == 2
    assert rows["normal"].fused_ns > 0
    assert {kind for _, kind in rows["normal"].ns} == {"normalisation"}


def test_the_levels_are_in_force_and_no_option_is_warned_of(tmp_path, monkeypatch, capfd):
    function = tf.function(lambda x: tf.nn.relu(x @ x) + 1)
    function(tf.ones((8, 8)))
    seen = []
    monkeypatch.setattr(measuring, "read_trace", lambda path, **_: seen.append(levels(path)))
    measuring.take_trace(lambda: function(tf.ones((8, 8))), on_gpu=False)
    assert seen == [{"host_tracer_level": 3, "device_tracer_level": 1}]  # python's is 0, which is not written
    assert "expects" not in capfd.readouterr().err


def test_layers_as_tables_call_them():
    first, second = convolutions(), convolutions()
    assert [layer.label for layer in known_layers(first)] == [layer.label for layer in known_layers(second)]
    assert [layer.path for layer in known_layers(first)] != [layer.path for layer in known_layers(second)]
    assert next(layer for layer in known_layers(first) if layer.label == "convolve").channels == (3, 6)
    transposed = keras.Sequential([keras.Input((4, 4, 8)), layers.Conv2DTranspose(5, 2, name="up")])
    assert [layer.channels for layer in known_layers(transposed) if layer.label == "up"] == [(8, 5)]


def test_a_skipped_step_is_never_what_is_profiled(odd):
    model, step = odd
    step.skips, before = 2, step.ran
    assert not isinstance(profile_step(step, known_model(model), on_gpu=False), str)
    assert step.ran == before + 9
    step.skips = 99
    reason = profile_step(step, known_model(model), on_gpu=False)
    step.skips = 0
    assert reason == "loss scaling skipped a step in each of 3 profiles of 3 steps"


def test_without_kernels_there_is_a_reason(odd):
    model, step = odd
    reason = profile_step(step, known_model(model), on_gpu=True)
    assert isinstance(reason, str)
    assert reason.startswith("no kernel of a GPU")
    assert "CUPTI" in reason


def test_another_profiler_is_a_reason(odd, tmp_path):
    model, step = odd
    tf.profiler.experimental.start(str(tmp_path))
    try:
        reason = profile_step(step, known_model(model), on_gpu=False)
    finally:
        tf.profiler.experimental.stop()
    assert isinstance(reason, str)
    assert "profiler is running" in reason
    assert not isinstance(profile_step(step, known_model(model), on_gpu=False), str)


def test_a_step_that_fails_is_a_reason(odd):
    def fails(steps):
        raise tf.errors.ResourceExhaustedError(None, None, "no room\nfor it")

    failing = type("Failing", (), {"run": staticmethod(fails), "skipped_steps": staticmethod(lambda: 0)})()
    reason = profile_step(failing, known_model(odd[0]), on_gpu=False)
    assert reason == "no profile could be taken: ResourceExhaustedError: no room"
    assert not isinstance(profile_step(odd[1], known_model(odd[0]), on_gpu=False), str)


def test_nothing_that_ran_is_a_reason():
    with pytest.raises(UnreadableTrace, match="neither kernels"):
        measuring.take_trace(lambda: None, on_gpu=False)
