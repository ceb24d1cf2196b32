"""A layer alone does what it does in the model, as often as said; a step's parts are those of the step; peaks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.interleave import Plan
from mpbench.engine.models import build_model
from mpbench.engine.plan import StepSpec
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import PARTS, LayerRecord, PartRecord, PeakRecord
from mpbench.system.device import Device
from mpbench.why.measuring import layer_step, parts, peaks
from mpbench.why.measuring.layer_call import CallFunction, call_costs
from mpbench.why.measuring.layer_step import LayerStep, layer_probe
from mpbench.why.measuring.layers import distinct_layers, named_layers
from mpbench.why.measuring.parts import PartedStep, cast_weights, part_probes
from mpbench.why.measuring.peaks import peak_probe
from mpbench.why.measuring.probe import Builder, measure_probes

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
COMMON = {
    "model": "m",
    "phase": "training",
    "device": "cpu",
    "device_name": "CPU",
    "profile": "quick",
    "batch_size": 2,
    "image_size": 16,
}
PLAN = Plan(0.01, 0.5)


@pytest.fixture(autouse=True)
def _short_chains(monkeypatch):
    """Tracing many calls takes time."""
    monkeypatch.setattr(layer_step, "MAX_CHAIN_CALLS", 2)


def spec_of(model="tiny_models:feature_map", precision="float32", phase="training", jit=None):
    return StepSpec(model, PRECISIONS[precision], phase, 2, 16, jit, CPU)


def layers_of(spec):
    model = build_model(spec.model, spec.image_size_px, spec.precision)
    return named_layers(model, spec.model, spec.image_size_px, spec.batch_size, spec.precision)


def measured(names, build):
    return measure_probes([Builder(names, build)], PLAN, COMMON, CPU, "size", lambda _: None)


def test_gradients_are_those_of_the_model():
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(keras.layers.Dense(5)(image)))
    first, second = distinct_layers(model, (4, 4, 3), 2)
    x, dy = tf.random.normal((2, 4, 4, 3)), tf.random.normal((2, 2, 2, 2))
    with tf.GradientTape() as tape:
        y = model(x, training=True)
    expected = tape.gradient(y, model.trainable_weights, output_gradients=dy)
    (hidden,), _, _ = CallFunction(first.call, "inference")([x], [])
    outputs, of_weights, of_inputs = CallFunction(second.call, "training")([hidden], [dy])
    _, of_first, nothing = CallFunction(first.call, "training")([x], of_inputs)
    assert nothing == []
    np.testing.assert_allclose(outputs[0], y, rtol=1e-5, atol=1e-5)
    for got, wanted in zip([*of_first, *of_weights], expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_no_call_is_optimised_away(phase, jit):
    """Every call moves a moving average by its share, in training and only there; in both it is called so often."""
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.BatchNormalization(momentum=0.5)(image))
    (layer,) = distinct_layers(model, (4, 4, 3), 2)
    step = LayerStep(layer, spec_of(phase=phase, jit=jit))
    step._build(3)
    layer.layer.moving_variance.assign([1e6] * 3)
    step.run(2)
    halvings = np.log2(1e6 / np.asarray(layer.layer.moving_variance))
    np.testing.assert_allclose(halvings, 2 * 3 if phase == "training" else 0, atol=0.01)


def test_what_is_left_of_a_round_is_one_call():
    (layer, *_) = layers_of(spec_of())
    step = LayerStep(layer, spec_of())
    step.calls, step._empty_seconds = 4, [2.0, 1.0, 3.0]
    assert step.seconds(10.0) == (10.0 - 2.0) / 4
    assert step.seconds(1.5) == layer_step.MIN_CALL_SECONDS


def test_short_layers_are_called_often_and_long_ones_once(monkeypatch):
    (layer, *_) = layers_of(spec_of())
    monkeypatch.setattr(layer_step, "CHAIN_SECONDS", 0.0)
    assert LayerStep(layer, spec_of()).calls == 1
    monkeypatch.setattr(layer_step, "CHAIN_SECONDS", 1.0)
    monkeypatch.setattr(layer_step, "MAX_CHAIN_CALLS", 3)
    assert LayerStep(layer, spec_of()).calls == 3


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_each_layer_of_a_model_becomes_a_record(precision, phase):
    spec = spec_of(precision=precision, phase=phase)
    for layer in layers_of(spec):
        probe = layer_probe(layer, spec)
        probe.before()
        probe.run(1)
        probe.check()
        record = probe.record(**COMMON, rounds=5, steps_per_round=1, unpaired_blocks="", noisy=False)
        assert isinstance(record, LayerRecord)
        assert (record.layer, record.precision, record.phase, record.count) == (layer.id, precision, phase, 1)
        assert record.kernels > 0
        assert record.minimal_bytes > 0
        casting = precision == "mixed_float16" and record.layer_type in ("Conv2D", "Dense")
        assert (record.cast_bytes > 0) == casting
        probe.release()


def test_a_layer_that_gives_something_else_alone_fails():
    (layer, *_) = layers_of(spec_of())
    step = LayerStep(layer, spec_of())
    step._came = [((1,), tf.float32)]
    with pytest.raises(CaseFailure, match="alone, in the model"):
        step.check()


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "float16"])
def test_parts_of_a_step(precision):
    names = PARTS if precision == "mixed_float16" else PARTS[:-1]
    outcomes = measured(names, lambda progress: part_probes(spec_of(precision=precision), names, progress))
    assert [type(outcome).__name__ for outcome in outcomes.values()] == ["Probed"] * len(names)
    assert all(isinstance(outcome.record, PartRecord) for outcome in outcomes.values())
    model = build_model("tiny_models:feature_map", 16, PRECISIONS[precision])
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert outcomes["update"].record.minimal_bytes == weights * (14 if precision == "float16" else 28)
    assert outcomes["gradients"].record.minimal_bytes == 0


def test_the_gradients_alone_are_those_of_the_step():
    step = PartedStep(spec_of("tiny_models:compiled_regressor"))
    before = [weight.numpy().copy() for weight in step._model.trainable_weights]
    loss, gradients = step._gradients()()
    step.run(1)
    for old, gradient, weight in zip(before, gradients, step._model.trainable_weights, strict=True):
        np.testing.assert_allclose(old - 0.01 * np.asarray(gradient), weight, rtol=1e-4, atol=1e-6)
    assert float(loss) > 0


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_updates_alone_leave_weights_and_what_counts_skipped_steps_as_they_were(precision):
    step = PartedStep(spec_of(precision=precision))
    run, _ = step.part("update")
    before = [weight.numpy().copy() for weight in step._model.trainable_weights]
    skipped, scale, iterations = step.skipped_steps(), step.loss_scale(), int(step._model.optimizer.iterations.numpy())
    step.before_update()
    run(3)
    step.after_update()
    for old, weight in zip(before, step._model.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    assert (step.skipped_steps(), step.loss_scale()) == (skipped, scale)
    assert int(step._model.optimizer.iterations.numpy()) == iterations + 3
    assert float(step._inner_optimizer().learning_rate) == pytest.approx(1e-4)


def test_the_casts_are_those_of_the_layers():
    spec = spec_of(precision="mixed_float16")
    step = PartedStep(spec)
    _, moved = step.part("casts")
    assert moved == sum(layer.count * call_costs(layer.call, "training").cast_bytes for layer in layers_of(spec)) > 0
    names = [weight.name for weight, _ in cast_weights(step._model, step._batch)]
    assert "kernel" in names


def test_weights_that_are_not_finite_fail():
    step = PartedStep(spec_of())
    step._model.trainable_weights[0].assign(np.full(step._model.trainable_weights[0].shape, np.nan))
    with pytest.raises(CaseFailure, match="is not finite"):
        step.check_weights()


@pytest.mark.parametrize("what", ["matmul", "copy", "latency"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_peaks(what, precision, monkeypatch):
    monkeypatch.setattr(peaks, "MATMUL_SIZES", (8, 16))
    monkeypatch.setattr(peaks, "COPY_VALUES", {"cpu": 1000})
    monkeypatch.setattr(peaks, "CHAIN_OPERATIONS", 10)
    (outcome,) = measured(["p"], lambda _: {"p": peak_probe(what, PRECISIONS[precision], CPU)}).values()
    record = outcome.record
    assert isinstance(record, PeakRecord)
    assert (record.what, record.model, record.phase, record.precision) == (what, "", "", precision)
    assert (record.flops, record.bytes) == {
        "matmul": (2.0 * 16**3, 0.0),
        "copy": (0.0, 3 * 4000.0),
        "latency": (0.0, 0.0),
    }[what]


def test_a_product_grows_until_it_takes_long_enough(monkeypatch):
    monkeypatch.setattr(peaks, "MATMUL_SECONDS", 0.0)
    probe = peak_probe("matmul", PRECISIONS["float32"], CPU)
    record = probe.record(**COMMON, rounds=5, steps_per_round=1, unpaired_blocks="", noisy=False)
    assert record.size == "256x256x256"


def test_the_chain_is_not_drawn_together():
    """Its last value is that of a thousand alternating differences: of as many as were asked for."""
    first, other = (peaks._random((1,), seed, tf.float32) for seed in (0, 1))
    expected = first if peaks.CHAIN_OPERATIONS % 2 == 0 else other - first
    run = {}
    original = peaks._compiled
    try:
        peaks._compiled = lambda body, jit: run.setdefault("call", original(body, jit))
        peak_probe("latency", PRECISIONS["float32"], CPU)
    finally:
        peaks._compiled = original
    np.testing.assert_allclose(run["call"](), expected, atol=1e-4)
    kinds = [operation.type for operation in run["call"].graph.get_operations()]
    assert kinds.count("Sub") == peaks.CHAIN_OPERATIONS


def test_parts_release_their_model_when_the_last_is_released():
    released = []
    step_class = parts.PartedStep
    original = step_class.release
    step_class.release = lambda self: released.append(1) or original(self)
    try:
        probes = part_probes(spec_of(), ["forward", "step"])
        probes["forward"].release()
        assert not released
        probes["step"].release()
        assert released == [1]
    finally:
        step_class.release = original
