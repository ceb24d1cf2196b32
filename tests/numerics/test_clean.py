"""Models without a fault are SAFE, whatever they are made of, and loss scales are those that training settles on."""

import numerics_models as models
import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.numerics.stepping import Batch
from mpbench.numerics.trial import Trial, made_by, record_of, trial_of
from mpbench.records.numerics import Safety
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
DRAW = np.random.default_rng(0)
FEATURES, CLASSES = models.batch()

BATCHES = {
    models.three_layers: Batch(FEATURES, DRAW.normal(size=(8, models.CLASSES))),
    models.transformer: Batch(DRAW.integers(0, 20, (8, 6)), CLASSES),
    models.unet: Batch(DRAW.normal(size=(4, 16, 16, 3)), DRAW.integers(0, 2, (4, 16, 16))),
    models.siamese: Batch([FEATURES, FEATURES[::-1].copy()], DRAW.integers(0, 2, (8, 1))),
    models.subclassed: Batch(FEATURES, CLASSES),
    models.two_outputs: Batch(
        {"a": FEATURES, "b": FEATURES[::-1].copy()}, {"value": DRAW.normal(size=(8, 1)), "kind": CLASSES}
    ),
}


def spec(model, phase="training", size=96, batch=8):
    return StepSpec(model, PRECISIONS["float32"], phase, batch, size, None, CPU)


@pytest.mark.parametrize("build", BATCHES)
def test_models_of_all_kinds(build):
    trial = Trial(made_by(build), BATCHES[build], "training", CPU)
    for name in ("mixed_float16", "mixed_bfloat16", "tf32"):
        outcome = trial.of(PRECISIONS[name])
        assert outcome.judgement.verdict is Safety.SAFE, outcome.judgement
        assert outcome.remedies == ()
        assert not outcome.findings.unlike
        assert not any(one.alone for one in outcome.findings.outputs)
        error = max(one.comparison.relative_error for one in outcome.findings.outputs)
        assert error == 0 if name == "tf32" else 0 < error < 0.05


def test_nothing_is_wrong_with_float32_beside_itself():
    outcome = Trial(made_by(models.transformer), BATCHES[models.transformer], "training", CPU).of(PRECISIONS["float32"])
    findings = outcome.findings
    compared = [one.comparison for one in findings.outputs] + [one.settled for one in findings.gradients if one.known]
    assert {(one.lost, one.not_finite) for one in compared} == {(0, 0)}
    assert max(one.relative_error for one in compared) < 1e-5  # TensorFlow fuses the two graphs differently


def test_an_architecture_with_random_weights():
    """Its first steps overflow at a loss scale of 2^15, which is no fault."""
    trial = trial_of(spec("mobilenet_v2"))
    outcome = trial.of(PRECISIONS["mixed_float16"])
    assert outcome.judgement.verdict is Safety.SAFE, outcome.judgement
    assert outcome.findings.scales.settled < 15
    unknown = {one.layer for one in outcome.findings.gradients if not one.known}
    assert unknown >= {"block_1_project_BN", "block_5_project_BN"}  # whose shifts the next normalisation takes out
    record = record_of(spec("mobilenet_v2"), outcome)
    assert (record.verdict, record.model, record.batch_size, record.image_size) == ("SAFE", "mobilenet_v2", 8, 96)
    assert len(record.layers) == 20


def test_inference_of_an_architecture_with_random_weights():
    """With the moving variances that it begins with, its last layers would give 1e-11, which is 0 in float16."""
    outcome = trial_of(spec("mobilenet_v2", "inference")).of(PRECISIONS["mixed_float16"])
    assert outcome.judgement.verdict is Safety.SAFE, outcome.judgement
    last = next(one for one in outcome.findings.outputs if one.layer == "out_relu")
    assert last.comparison.reference_largest > 0.1


def test_float32_with_xla_is_of_the_same_model():
    """TF32 is looked at with XLA on a GPU: what was done to the model's statistics holds there too."""
    trial = trial_of(spec("tiny_models:feature_map", "inference", 32, 4))
    plain, compiled = trial.reference(jit=False), trial.reference(jit=True)
    assert plain.model is compiled.model
    for one, other in zip(plain.outputs, compiled.outputs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["tiny_models:overflows_at_first", "users_models:sound_keras_step"])
def test_the_scale_that_settles_is_the_one_that_training_settles_on(model):
    settled = trial_of(spec(model, size=32, batch=4)).of(PRECISIONS["mixed_float16"]).findings.scales.settled
    step = Step(StepSpec(model, PRECISIONS["mixed_float16"], "training", 4, 32, False, CPU))
    assert step.loss_scale() == 2.0**settled


def test_photographs_stand_in_for_synthetic_images():
    pixels = DRAW.integers(0, 256, (4, 32, 32, 3)).astype("float32")
    plain, mine = (
        trial_of(spec("users_models:rescales", "inference", 32, 4), images).of(PRECISIONS["mixed_float16"])
        for images in (None, pixels)
    )
    assert plain.judgement.verdict is mine.judgement.verdict is Safety.SAFE
    assert [one.comparison.largest for one in plain.findings.outputs] != [
        one.comparison.largest for one in mine.findings.outputs
    ]
