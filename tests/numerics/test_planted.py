"""Planted faults: each is named by its layer and its pass, and what helps is told as it was measured."""

import keras
import numerics_models as models
import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.numerics.stepping import Batch
from mpbench.numerics.trial import Trial, made_by
from mpbench.records.numerics import Pass, Safety
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
BREAKS, WATCH, SAFE = Safety.BREAKS, Safety.WATCH, Safety.SAFE
FORWARD, BACKWARD, UPDATE = Pass


def trial(build, inputs=None, targets=None, phase="training"):
    features, classes = models.batch()
    inputs, targets = (features if inputs is None else inputs), (classes if targets is None else targets)
    return Trial(made_by(build), Batch(inputs, targets), phase, CPU)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


INPUTS = {models.exploding_lstm: normal(8, 12, 8), models.scores_overflow: normal(8, 5, 8)}
TARGETS = {models.softmax_of_a_thousand: np.arange(8) * 100}


@pytest.mark.parametrize(
    ("build", "precision", "verdict", "where", "layer"),
    [
        (models.overflowing, "mixed_float16", BREAKS, FORWARD, "planted"),
        (models.overflowing, "float16", BREAKS, FORWARD, "planted"),
        (models.overflowing, "mixed_bfloat16", SAFE, None, None),
        (models.overflows_and_recovers, "mixed_float16", WATCH, FORWARD, "planted"),
        (models.little_headroom, "mixed_float16", WATCH, FORWARD, "planted"),
        (models.epsilon, "float16", BREAKS, FORWARD, "planted"),
        (models.epsilon, "mixed_float16", BREAKS, FORWARD, "planted"),
        (models.exploding_lstm, "mixed_float16", BREAKS, FORWARD, "planted"),
        (models.scores_overflow, "mixed_float16", BREAKS, FORWARD, "planted"),
        (models.subclassed_overflowing, "mixed_float16", BREAKS, FORWARD, "block"),
        (models.softmax_of_a_thousand, "mixed_float16", WATCH, FORWARD, "planted"),
        (models.softmax_of_a_thousand, "mixed_bfloat16", SAFE, None, None),
        (models.steep, "mixed_float16", BREAKS, BACKWARD, "planted"),
        (models.steep, "mixed_bfloat16", SAFE, None, None),
        (models.vanishing, "mixed_float16", BREAKS, BACKWARD, "planted"),
        (models.tiny_loss, "float16", BREAKS, BACKWARD, "first"),
        (models.tiny_loss, "mixed_float16", SAFE, None, None),
        (models.half_batch_normalisation, "mixed_float16", BREAKS, UPDATE, "planted"),
        (models.half_batch_normalisation, "mixed_bfloat16", BREAKS, UPDATE, "planted"),
        (models.tiny_epsilon, "float16", BREAKS, UPDATE, "planted"),
        (models.tiny_epsilon, "mixed_float16", SAFE, None, None),
    ],
)
def test_the_fault_is_named(build, precision, verdict, where, layer):
    judgement = trial(build, INPUTS.get(build), TARGETS.get(build)).of(PRECISIONS[precision], remedies=False).judgement
    assert judgement.verdict is verdict, judgement
    if where is not None:
        first = judgement.concerns[0]
        assert (first.where, first.layers[0]) == (where, layer), first.sentence


@pytest.mark.parametrize("build", [models.overflowing, models.exploding_lstm, models.little_headroom])
def test_inference_has_the_faults_of_the_forward_pass(build):
    judgement = trial(build, INPUTS.get(build), phase="inference").of(PRECISIONS["mixed_float16"]).judgement
    assert judgement.verdict is (WATCH if build is models.little_headroom else BREAKS)
    assert (judgement.concerns[0].where, judgement.concerns[0].layers[0]) == (FORWARD, "planted")


def remedies(build, precision="mixed_float16"):
    outcome = trial(build, INPUTS.get(build)).of(PRECISIONS[precision])
    assert outcome.remedies
    return {one.what: (one.helps, one.verdict) for one in outcome.remedies}


def test_the_layer_in_float32_helps_and_the_next_one_is_added_where_it_must_be():
    assert remedies(models.overflowing) == {
        "planted, back in float32": (True, SAFE),
        "mixed_bfloat16": (True, SAFE),
    }


def test_a_layer_is_in_float32_with_its_weights():
    tried = remedies(models.half_batch_normalisation)
    assert tried["planted in float32"] == (True, WATCH)  # what comes before it has little headroom
    assert tried["mixed_bfloat16"] == (False, BREAKS)


def test_a_layer_of_a_subclassed_model_is_in_float32_with_all_within_it():
    assert remedies(models.subclassed_overflowing)["block in float32"] == (True, SAFE)


def test_another_initial_loss_scale_helps_where_it_was_tried():
    build = lambda: models.tiny_loss(1e-10)  # noqa: E731
    outcome = trial(build).of(PRECISIONS["mixed_float16"])
    scales = outcome.findings.scales
    assert (scales.settled, outcome.judgement.verdict) == (15, WATCH)
    assert scales.low > 15
    first = outcome.remedies[0]
    assert first.what == f"an initial loss scale of 2^{(scales.low + scales.high) // 2}"
    assert (first.helps, first.verdict) == (True, SAFE)


def test_pure_float16_is_told_what_float32_weights_would_do():
    tried = remedies(models.tiny_loss, "float16")
    assert tried["an initial loss scale of 2^17"] == (False, BREAKS)  # updates are too small for float16 weights
    assert tried["mixed_float16"] == (True, SAFE)


class Stubborn(models.Times):
    """Computes in float16 whatever its policy says, and with little headroom."""

    def call(self, x):
        return keras.ops.cast(super().call(keras.ops.cast(x, "float16")), "float16")


def test_a_layer_that_its_policy_does_not_reach_could_not_be_tried():
    def build():
        x = keras.Input((models.FEATURES,))
        y = Stubborn(1e4, name="planted")(x)
        y = keras.layers.Dense(models.CLASSES, activation="softmax", dtype="float32")(y)
        return models.compiled(keras.Model(x, y))

    outcome = trial(build).of(PRECISIONS["mixed_float16"])
    assert outcome.remedies[0].verdict is None
    assert outcome.remedies[0].sentence == "could not be tried: planted computes in float16 all the same"
