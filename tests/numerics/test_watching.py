"""mpbench.numerics.watching and stepping: what is seen of a step, and that looking changes nothing."""

import keras
import numerics_models as models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.models import build_under, dtype_policy
from mpbench.engine.plan import StepSpec
from mpbench.errors import CaseFailure
from mpbench.numerics.reference import Reference
from mpbench.numerics.stepping import Batch, Kind, Stepping, copy_variables, gradients_of
from mpbench.numerics.trial import Trial, compare, made_by, trial_of
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
DRAW = np.random.default_rng(0)
FEATURES, CLASSES = models.batch()
BATCHES = {
    models.transformer: Batch(DRAW.integers(0, 20, (8, 6)), CLASSES),
    models.siamese: Batch([FEATURES, FEATURES[::-1].copy()], DRAW.integers(0, 2, (8, 1))),
    models.three_layers: Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES))),
    models.exploding_lstm: Batch(DRAW.normal(size=(8, 12, 8)) * 1e-4, CLASSES),
}


def batch_of(build):
    return BATCHES.get(build, Batch(FEATURES, CLASSES))


def stepping(build, policy="float32"):
    model = build_under(policy, build)
    if not model.built:
        model(FEATURES)
    return Stepping(model, Kind(batch_of(build).on(CPU), True, False, CPU, False))


def seen(build, policy="float32", flows=False):
    """The recording of a step, its outputs and gradients."""
    one = stepping(build, policy)

    def body(recording, scale):
        return [each.tensor for each in recording.outputs], [each for _, each in gradients_of(recording)]

    call = one.trace(body, flows=flows)
    outputs, gradients = one.run(call, 2.0**8)
    return one.recording, outputs, gradients


ALL = [
    models.classifier,
    models.own_softmax,
    models.softmax_of_a_thousand,
    models.three_layers,
    models.transformer,
    models.siamese,
    models.subclassed,
    models.exploding_lstm,
]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("build", ALL)
def test_looking_at_the_backward_pass_changes_no_gradient(build, policy):
    """Keras's losses look at where their input came from: they must find the same."""
    plain, hooked = seen(build, policy)[2], seen(build, policy, flows=True)[2]
    for one, other in zip(plain, hooked, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5 if policy == "float32" else 2e-2, atol=1e-6)


@pytest.mark.parametrize("build", ALL)
def test_gradients_are_those_of_a_step_that_nobody_looks_at(build):
    model = build_under("float32", build)
    if not model.built:
        model(FEATURES)
    batch = batch_of(build).on(CPU)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.optimizer.build(model.trainable_variables)
    tf.function(model.train_step)((batch.inputs, batch.targets))
    rate = float(model.optimizer.learning_rate)
    recording, _, gradients = seen(build)
    for (variable, _), gradient, start, weight in zip(
        gradients_of(recording), gradients, before, model.trainable_weights, strict=True
    ):
        np.testing.assert_allclose(
            start - rate * gradient / 2.0**8, weight, rtol=1e-4, atol=1e-6, err_msg=variable.path
        )


def names(recording):
    return [
        ("before " if one.before else "") + one.name + (f" {one.call}" if one.call else "") for one in recording.outputs
    ]


def test_layers_are_named_with_those_around_them_and_calls_are_counted():
    assert names(seen(models.subclassed)[0]) == [
        *("block/inner", "before block/norm", "block/norm"),
        *("block/inner 1", "before block/norm 1", "block/norm 1"),
        *("tail/in", "tail/out"),
    ]
    assert names(seen(models.siamese)[0]) == [
        *("shared/in", "shared/out", "shared/in 1", "shared/out 1", "distance", "same"),
    ]


def test_outputs_are_those_of_the_layers_and_the_models_own_is_known():
    recording, outputs, _ = seen(models.classifier)
    model = build_under("float32", models.classifier)
    parts = keras.Model(model.inputs, [layer.output for layer in model.layers[1:]])
    for found, expected in zip(outputs, parts([FEATURES]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [one.name for one in recording.outputs if one.is_output] == ["answers"]


def test_casts_between_dtypes_are_no_outputs():
    assert names(seen(models.subclassed)[0]) == names(seen(models.subclassed, "mixed_float16")[0])
    assert names(seen(models.siamese)[0]) == names(seen(models.siamese, "mixed_float16")[0])


def test_gradients_come_back_in_the_order_of_the_backward_pass():
    recording = seen(models.subclassed, flows=True)[0]
    order = [one.name for one in recording.flows]
    assert order[0] == "(loss)"
    assert order.index("tail/out") < order.index("tail/in") < order.index("block/norm") < order.index("block/inner")


def test_operations_of_a_functional_model_are_seen_as_layers_are():
    def build():
        x = keras.Input((models.FEATURES,))
        y = layers.Dense(models.CLASSES, name="last")(keras.ops.exp(x / 2.0))
        return models.compiled(keras.Model(x, y), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    recording = seen(build)[0]
    assert [one.kind for one in recording.outputs] == ["TrueDivide", "Exp", "Dense"]


def test_two_layers_of_one_name_are_two():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = (layers.Dense(models.FEATURES, name="twin") for _ in range(2))

        def call(self, x):
            return self.second(self.first(x))

    model = models.compiled(Twins(), "mse")
    model(FEATURES)
    one = Stepping(model, Kind(Batch(FEATURES, FEATURES).on(CPU), True, False, CPU, False))
    one.trace(lambda recording, scale: scale)
    assert names(one.recording) == ["twin", "twin (2)"]


def values(model):
    variables = (*model.variables, *model.optimizer.variables)
    return [variable.numpy().tolist() for variable in variables]


def test_all_is_left_as_it_was():
    """Weights, moving averages, random states, the optimizer's slots and its loss scale."""

    def build():
        x = keras.Input((models.FEATURES,))
        y = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(16)(x)))
        return models.compiled(keras.Model(x, layers.Dense(models.CLASSES)(y)), "mse", keras.optimizers.Adam(0.01))

    batch = Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES)))
    for policy in ("mixed_float16", "float16"):
        pair = [build_under(name, build) for name in ("float32", policy)]
        copy_variables(*pair)
        for model in pair:
            model.optimizer.build(model.trainable_variables)
        before = [values(model) for model in pair]
        compare(*pair, PRECISIONS[policy], batch, "training", CPU)
        assert [values(model) for model in pair] == before
    assert keras.layers.Layer.__call__.__module__.startswith("keras.")
    assert "__call__" in vars(keras.Operation)


def random_layers():
    x = keras.Input((models.FEATURES,))
    y = layers.GaussianNoise(0.5)(layers.Dropout(0.5, name="drop")(layers.Dense(64)(x)))
    return models.compiled(keras.Model(x, layers.Dense(models.CLASSES)(y)), "mse")


def drew_alike(findings):
    return not findings.unlike and max(one.comparison.relative_error for one in findings.outputs) < 0.02


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_dropout_drops_the_same_in_every_precision(precision):
    batch = Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES)))
    assert drew_alike(Trial(made_by(random_layers), batch, "training", CPU).of(PRECISIONS[precision], False).findings)


def test_a_pair_of_models_draws_alike_whatever_their_seeds():
    pair = [random_layers()]
    with dtype_policy("mixed_float16"):
        pair.append(random_layers())
    batch = Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES)))
    assert drew_alike(compare(*pair, PRECISIONS["mixed_float16"], batch, "training", CPU).findings)


def users(model, phase="training"):
    spec = StepSpec(f"users_models:{model}", PRECISIONS["float32"], phase, 4, 32, None, CPU)
    return trial_of(spec).of(PRECISIONS["mixed_float16"], remedies=False).findings


@pytest.mark.parametrize(
    ("model", "gradients"),
    [
        ("sound_step", 4),
        ("sound_step_in_a_function", 4),
        ("twice_a_step", 8),
        ("two_scaled_optimizers", 4),
        ("autoencoder", 2),
        ("list_of_one", 4),
        ("own_loss_of_classes", 4),
        ("uint8_pixels", 4),
        ("embeds_pixels", 3),
        ("recurrent", 11),
        ("hard_float32_in_a_loop", 3),
    ],
)
def test_gradients_of_users_steps_are_seen(model, gradients):
    findings = users(model)
    assert len(findings.gradients) == gradients
    assert (findings.no_backward, findings.unlike) == ("", "")
    assert all(one.settled.relative_error < 0.1 for one in findings.gradients)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("every_fourth_step", "its training step makes its updates in a branch, a loop or a function of its own"),
        ("frozen", "none of its weights is trainable"),
    ],
)
def test_why_there_is_no_backward_pass_is_told(model, reason):
    findings = users(model)
    assert findings.no_backward.startswith(reason)
    assert findings.outputs
    assert not findings.gradients


def test_a_step_that_does_not_scale_its_loss_is_told_of():
    findings = users("unscaled")
    assert findings.notes[-1] == "its training step does not scale its loss: loss scales cannot be tried"
    assert findings.scales.initial is None


def test_random_numbers_that_cannot_be_repeated_are_told_of():
    findings = users("gan")
    assert findings.unlike.startswith("two float32 steps from one start differ")
    assert len(findings.gradients) == 6


def test_a_step_that_fails_is_one_line_with_its_place():
    with pytest.raises(
        CaseFailure, match=r"its training step cannot be taken: KeyError: .* \(users_models.py, line \d+\)"
    ):
        users("broken_step")


def test_a_gan_has_no_inference():
    with pytest.raises(CaseFailure, match="no call"):
        users("gan", "inference")


def test_float32_that_is_not_finite_has_nothing_to_compare_with():
    def build():
        x = keras.Input((models.FEATURES,))
        return models.compiled(keras.Model(x, layers.Dense(models.CLASSES)(models.Times(float("inf"))(x))), "mse")

    with pytest.raises(CaseFailure, match="float32 itself is not finite: the output of dense"):
        Reference(build(), Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES))), "training", CPU)


def test_models_with_other_weights_are_not_compared():
    with pytest.raises(CaseFailure, match="it has other weights than in float32"):
        copy_variables(models.classifier(), models.three_layers())
