"""mpbench.engine.batch: images of the kind that a model takes, and targets of the kind that its loss takes."""

import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.batch import Images, images_of, synthetic_batch, target_forms
from mpbench.engine.models import build_model, compile_model
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
SHAPE = (16, 16, 3)
PIXELS = Images(0.0, 256.0)


def built(model, precision="float32", module="users_models"):
    model = build_model(f"{module}:{model}", 16, PRECISIONS[precision])
    compile_model(model, PRECISIONS[precision], False, SHAPE)
    return model


def targets_of(model, count):
    return np.asarray(target_forms(built(model), SHAPE)[0].make(count))


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "float16"])
@pytest.mark.parametrize(
    ("model", "images"),
    [
        ("uint8_pixels", Images(0.0, 256.0, "uint8")),
        ("rescales", PIXELS),
        ("normalizes", PIXELS),
        ("divides", PIXELS),
        ("divides_in_its_call", PIXELS),
        ("multiplies_first", Images()),
        ("embeds_pixels", Images(0.0, 64.0, "int32")),
        ("attention", Images()),
        ("gan", Images()),
    ],
)
def test_images_are_such_as_the_first_layers_take(model, images, precision):
    assert images_of(build_model(f"users_models:{model}", 16, PRECISIONS[precision]), SHAPE) == images


@pytest.mark.parametrize("model", ["classifier", "feature_map", "Subclassed", "odd_output", "huge_dense"])
def test_pooling_and_flattening_are_no_scaling(model):
    assert images_of(build_model(f"tiny_models:{model}", 16, PRECISIONS["float32"]), SHAPE) == Images()


def test_keras_own_models_get_what_they_take():
    for name, images in [("mobilenet_v2", Images()), ("mobilenet_v3_small", PIXELS), ("efficientnet_b0", PIXELS)]:
        assert images_of(build_model(name, 32, PRECISIONS["float32"]), (32, 32, 3)) == images


@pytest.mark.parametrize("images", [Images(), PIXELS, Images(0.0, 256.0, "uint8"), Images(-128.0, 128.0, "int8")])
def test_random_images_and_pixels_fill_the_range(images):
    drawn = np.asarray(synthetic_batch(64, SHAPE, images))
    pixels = np.asarray(images.of_pixels(np.arange(256, dtype=np.uint8)))
    for one in (drawn, pixels):
        assert one.dtype == images.dtype
        assert images.low <= one.min() <= images.low + (images.high - images.low) / 200
        assert images.high - (images.high - images.low) / 100 <= one.max() < images.high
    assert len(set(pixels.tolist())) == 256


def test_most_models_get_pixels_as_before():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(Images().of_pixels(pixels), pixels.astype(np.float32) / 128 - 1)


@pytest.mark.parametrize("phase", ["training", "inference"])
@pytest.mark.parametrize("model", ["uint8_pixels", "divides_in_its_call", "embeds_pixels"])
def test_what_was_guessed_is_said(model, phase):
    messages = []
    step = Step(StepSpec(f"users_models:{model}", PRECISIONS["float32"], phase, 4, 16, None, CPU), messages.append)
    step.check()
    assert [line for line in messages if "its images are made so" in line] == [step.images.note]


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        ("loss_in_a_list", 3),
        ("own_sparse_loss", 3),
        ("own_loss_of_classes", 3),
        ("dict_of_one_compiled", 3),
        ("list_of_one", 3),
        ("dict_of_one", 3),
        ("own_dense_loss", None),
    ],
)
def test_targets_are_such_as_the_loss_takes(model, classes):
    targets = targets_of(model, 8)
    if classes is None:
        assert targets.shape == (8, 3)
        assert targets.dtype == np.float32
    else:
        assert targets.shape == (8,)
        assert set(targets.tolist()) <= set(range(classes))


def test_targets_of_a_model_for_images_of_any_size_are_of_these():
    assert targets_of("masks_of_any_size", 2).shape == (2, 16, 16)


def test_a_loss_that_takes_neither_is_one_line_with_its_reason():
    with pytest.raises(CaseFailure) as caught:
        targets_of("loss_that_takes_nothing", 2)
    assert "(ValueError: what is this?)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "first", "count"),
    [
        ("own_sparse_loss", "images and class numbers", 1),
        ("sound_step", "images and class numbers", 3),
        ("two_optimizers", "images alone", 3),
        ("gan", "images alone", 1),
    ],
)
def test_only_a_step_of_ones_own_is_tried_with_others(model, first, count):
    forms = target_forms(built(model), SHAPE)
    assert forms[0].name == first
    assert len(forms) == count


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "model",
    [
        *("list_of_one", "dict_of_one", "dict_of_one_compiled", "list_of_one_feature_map", "loss_in_a_list"),
        *("own_sparse_loss", "own_loss_of_classes", "own_dense_loss", "masks_of_any_size"),
    ],
)
def test_they_train(model, precision):
    step = Step(StepSpec(f"users_models:{model}", PRECISIONS[precision], "training", 4, 16, None, CPU))
    step.run(3)
    step.check()
