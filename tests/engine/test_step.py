"""mpbench.engine.step with tiny real Keras models: a step really trains, and says so when it does not."""

import re
from dataclasses import replace

import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.loss_scaling import LossScaling
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")


def spec(model="classifier", precision="float32", phase="training", jit=None, module="tiny_models"):
    return StepSpec(f"{module}:{model}", PRECISIONS[precision], phase, 4, 16, jit, CPU)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "model",
    ["feature_map", "classifier", "compiled_regressor", "Subclassed", "SubclassedFeatures", "sequential_features"],
)
def test_training_moves_weights_and_stays_finite_in_every_precision(model, precision):
    step = Step(spec(model, precision))
    step.run(5)
    step.check()
    assert step.steps - step.skipped_steps() >= 6
    assert (step.loss_scale() is not None) == (precision == "mixed_float16")
    assert step.trace_seconds > 0 < step.first_run_seconds
    assert step.peak_memory_bytes > 2**20


def test_a_step_is_what_fit_does():
    import keras
    import tensorflow as tf

    from mpbench.engine.batch import synthetic_batch, target_forms
    from mpbench.engine.models import build_model, compile_model

    one = spec("feature_map", "mixed_float16")
    step = Step(one)
    step.run(3)
    with tf.device("/CPU:0"):
        model = build_model(one.model, one.image_size_px, one.precision)
        compile_model(model, one.precision, False, one.image_shape)
        batch = synthetic_batch(one.batch_size, one.image_shape)
        targets = target_forms(model, one.image_shape)[0].make(4)
        model.fit(batch, targets, batch_size=4, epochs=step.steps, shuffle=False, verbose=0)
    for ours, kerass in zip(step.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, kerass)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_inference_is_what_predict_does():
    import tensorflow as tf

    step = Step(spec("feature_map", "mixed_float16", "inference"))
    step.check()
    with tf.device("/CPU:0"):
        expected = step.model.predict(step.batch.x, verbose=0)
    np.testing.assert_array_equal(np.asarray(step._last), expected)
    assert step.skipped_steps() == 0


@pytest.mark.parametrize("phase", ["training", "inference"])
@pytest.mark.parametrize("jit", [True, False, None])
def test_xla_compiles_the_step_where_asked(phase, jit):
    step = Step(spec(phase=phase, jit=jit))
    assert step.jit is bool(jit)
    assert step._call.function_def.attr["_XlaMustCompile"].b is bool(jit)


def test_the_loss_scale_settles_before_anything_is_measured():
    step = Step(spec("overflows_at_first", "mixed_float16"))
    assert step.skipped_steps() > 0
    assert step.loss_scale() == 2.0 ** (15 - step.skipped_steps())


def test_gradients_that_are_never_finite_fail_the_case():
    with pytest.raises(CaseFailure, match="loss scaling skipped each of the first"):
        Step(spec("overflows_in_float16", "mixed_float16"))


def test_a_loss_that_is_not_a_number_fails_by_name():
    step = Step(spec("not_a_number"))
    with pytest.raises(CaseFailure, match=r"loss is not finite \(nan\)"):
        step.check()


def test_an_output_that_is_not_a_number_fails_by_name():
    step = Step(spec("not_a_number", phase="inference"))
    with pytest.raises(CaseFailure, match=r"output is not finite \(nan\)"):
        step.check()


def test_training_that_moves_no_weight_fails():
    step = Step(spec("frozen_learning_rate"))
    with pytest.raises(CaseFailure, match="moved none of 2 trainable weights"):
        step.check()


@pytest.mark.parametrize("model", ["ignores_the_policy", "ignores_the_policy_below_the_head"])
def test_a_factory_that_ignores_the_policy_fails_rather_than_being_measured_twice_in_float32(model):
    with pytest.raises(CaseFailure, match="does not compute in float16 under the dtype policy mixed_float16"):
        Step(spec(model, "mixed_float16"))


USERS = "users_models"


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "model",
    [
        *("sound_step", "sound_step_in_a_function", "twice_a_step", "every_fourth_step", "accumulates_in_keras"),
        *("two_optimizers", "two_scaled_optimizers", "gan", "autoencoder", "unscaled_adam"),
    ],
)
def test_a_step_of_the_models_own_is_measured_as_it_is(model, precision):
    step = Step(spec(model, precision, module=USERS))
    step.run(10)
    step.check()
    assert step.skipped_steps() == 0
    without_scaling = precision != "mixed_float16" or model in ("two_optimizers", "gan")
    assert step.loss_scale() == (None if without_scaling else 2.0**15)


@pytest.mark.parametrize(
    ("model", "updates"), [("twice_a_step", 2), ("every_fourth_step", 1 / 4), ("two_scaled_optimizers", 2)]
)
def test_skipped_updates_are_those_that_the_scales_tell(model, updates):
    step = Step(spec(model, "mixed_float16", module=USERS))
    for optimizer in step._scaling.optimizers:
        optimizer.dynamic_scale.assign(2.0**120)  # the gradients overflow
    step._scaling = LossScaling(step._scaling.optimizers)
    step.run(8)
    assert step.skipped_steps() == 8 * updates
    assert not step._scaling.settled


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("model", ["unscaled", "clips_scaled_gradients", "two_unscaled_optimizers"])
def test_a_step_that_does_not_train_under_loss_scaling_fails(model, jit):
    with pytest.raises(CaseFailure, match=r"does not train under loss scaling: .* an update is \d\d\d times as large"):
        Step(spec(model, "mixed_float16", jit=jit, module=USERS))
    Step(spec(model, "float32", jit=jit, module=USERS)).check()


def test_an_unscaled_loss_that_trains_all_the_same_is_told():
    messages = []
    Step(spec("unscaled_adam", "mixed_float16", module=USERS), messages.append)
    assert any(line.startswith("is its loss scaled (optimizer.scale_loss)?") for line in messages)


def test_looking_at_the_scale_leaves_no_trace():
    """The same weights as of a step that was not looked at: Keras's own, which needs none of it."""
    looked_at, other = (
        Step(spec(model, "mixed_float16", module=USERS)) for model in ("sound_step", "sound_keras_step")
    )
    for step in (looked_at, other):
        step.run(5)
    for mine, others in zip(looked_at.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, others)
    assert looked_at.loss_scale() == other.loss_scale()


def test_looking_at_the_scale_counts_as_no_step_of_another_optimizer():
    step = Step(spec("one_scaled_optimizer_and_another", "mixed_float16", module=USERS))
    assert [int(one.iterations) for one in step.model.optimizers] == [2, 2]  # its first step, and that of its memory


def test_without_keras_loss_scaling_it_is_said_that_skips_cannot_be_known():
    messages = []
    Step(spec("two_optimizers", "mixed_float16", module=USERS), messages.append)
    assert any("which steps it skips cannot be known" in line for line in messages)
    assert "its training step is given images and targets like its output" in messages
    messages.clear()
    Step(spec("two_scaled_optimizers", "mixed_float16", module=USERS), messages.append)
    assert not any("cannot be known" in line for line in messages)


def test_a_step_that_takes_images_alone_is_not_given_a_pair():
    messages = []
    step = Step(spec("autoencoder", module=USERS), messages.append)
    assert int(step._last["rank"]) == 4
    assert "its training step is given images alone" in messages


def test_what_has_no_weights_to_train_or_no_call_says_so():
    for precision in ("float32", "mixed_float16"):
        with pytest.raises(CaseFailure, match="none of its weights is trainable"):
            Step(spec("frozen", precision, module=USERS))
    Step(spec("frozen", phase="inference", module=USERS)).check()
    with pytest.raises(CaseFailure, match="let its factory compile it"):
        Step(spec("gan_uncompiled", module=USERS))
    with pytest.raises(CaseFailure, match=r"no call\(\): there is no inference to measure"):
        Step(spec("gan", phase="inference", module=USERS))


def test_a_step_that_raises_says_where_in_one_line():
    with pytest.raises(CaseFailure) as caught:
        Step(spec("broken_step", module=USERS))
    assert re.fullmatch(
        r"its training step cannot be traced: KeyError: .no such thing.* \(users_models.py, line \d+\)",
        str(caught.value),
    )


@pytest.mark.parametrize("model", ["two_scaled_optimizers", "autoencoder", "uint8_pixels", "own_sparse_loss"])
def test_they_take_batches_of_any_size_too(model):
    from mpbench.config.profiles import LARGEST_BATCH

    step = Step(replace(spec(model, "mixed_float16", module=USERS), batch_size=LARGEST_BATCH), whole=False)
    step.trace()
    for batch_size in (3, 5):
        step.set_batch(batch_size)
        step.run(2)
    step.check()


def test_steps_trained_before_are_not_counted():
    step = Step(spec("trained_before", "mixed_float16"))
    step.run(2)
    assert step.skipped_steps() == 0


def test_progress_names_the_slow_parts():
    parts = []
    Step(spec("overflows_at_first", "mixed_float16"), parts.append)
    assert parts == ["building", "tracing and compiling", "settling the loss scale"]


@pytest.mark.parametrize("phase", ["training", "inference"])
def test_a_step_that_takes_batches_computes_what_one_with_its_own_does(phase):
    import keras

    own = Step(spec("feature_map", "float32", phase))
    taking = Step(spec("feature_map", "float32", phase), takes_batches=True)
    own.run(2)
    taking.run_on([taking.batch.x] * 2)
    assert own.steps == taking.steps
    last = [keras.tree.flatten(step._last) for step in (own, taking)]
    for mine, other in zip(*last, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))
    for mine, other in zip(own.model.get_weights(), taking.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
