"""mpbench.accuracy.features: streamed, watched, and kept on disk under a key of everything that matters."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tiny_models import pretended_application

import mpbench
from mpbench.accuracy import features as module
from mpbench.accuracy.base import ArmSpec, pooled_base
from mpbench.accuracy.features import extract, pooled_features, watched_inference
from mpbench.accuracy.weights import Weights
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import RECIPES
from mpbench.data.data_set import LabelledImage
from mpbench.errors import CaseFailure
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

RECIPE = replace(RECIPES["quick"], image_size_px=16, batch_size=4)
SPEC = ArmSpec(
    model="tiny_models:feature_map",
    precision=PRECISIONS["mixed_float16"],
    weights=Weights("factory"),
    recipe=RECIPE,
    classes=2,
    thesis_preprocessing=False,
    jit=False,
    device=Device("cpu", "/CPU:0"),
)


@pytest.fixture
def images(tmp_path):
    """Ten pictures of noise, and their digests."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(10):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        found.append(LabelledImage(path.name, path, i % 2))
    return found


APPLICATION = replace(SPEC, model="mobilenet_v2", weights=Weights("random"))


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The folder of the cache's entries, and a count of the extractions; keras.applications are a tiny model."""
    monkeypatch.setattr("mpbench.accuracy.base.application", lambda name: pretended_application)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    extractions = []

    def counted(*args):
        extractions.append(args)
        return extract(*args)

    monkeypatch.setattr(module, "extract", counted)
    return tmp_path / "cache" / "mpbench" / "features", extractions


def digests(images):
    return {image.name: image.path.name for image in images}


def compute(images, **changes):
    return pooled_features(replace(APPLICATION, **changes), images, digests(images), lambda _: None)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_features_are_those_of_the_model_in_the_order_of_the_images(images, precision):
    spec = replace(SPEC, precision=PRECISIONS[precision])
    pooled = pooled_base(spec.model, 16, spec.precision, spec.weights)
    features = extract(spec, pooled, images, lambda _: None)
    assert features.shape == (10, 8)
    assert str(features.dtype) == spec.precision.compute_dtype
    pixels = np.stack([np.asarray(Image.open(i.path).resize((16, 16), Image.Resampling.BILINEAR)) for i in images])
    expected = pooled(pixels.astype(np.float32) / 255, training=False)
    np.testing.assert_allclose(features.astype(np.float32), np.asarray(expected, np.float32), rtol=0.02, atol=1e-3)


def test_the_cache_is_used_and_gives_the_same_bits(images, cached):
    folder, extractions = cached
    first, second = compute(images), compute(images)
    assert len(extractions) == 1
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"precision": PRECISIONS["float32"]},
        {"precision": PRECISIONS["float16"]},
        {"precision": PRECISIONS["mixed_bfloat16"]},
        {"recipe": replace(RECIPE, image_size_px=18)},
        {"recipe": replace(RECIPE, batch_size=5)},
        {"thesis_preprocessing": True},
        {"model": "mobilenet"},
        {"weights": Weights("imagenet")},
    ],
)
def test_whatever_matters_is_in_the_key(images, cached, change):
    compute(images)
    compute(images, **change)
    assert len(cached[1]) == 2


def test_weights_images_and_code_are_in_the_key(images, cached, monkeypatch):
    compute(images)
    images[3].path.write_bytes(images[4].path.read_bytes())
    pooled_features(APPLICATION, images, digests(images) | {"3.png": "other"}, lambda _: None)
    compute(images[:9])
    monkeypatch.setattr("mpbench.accuracy.weights.SEED", 43)
    compute(images)
    monkeypatch.setattr(module.cache, "sha256_of", lambda path: "other code")
    compute(images)
    assert len(cached[1]) == 5


def test_a_users_code_is_never_in_a_key(images, cached):
    for _ in range(2):
        pooled_features(SPEC, images, digests(images), lambda _: None)
    assert len(cached[1]) == 2
    assert not cached[0].exists() or not list(cached[0].iterdir())


@pytest.mark.parametrize("damage", ["truncated", "empty", "bit", "other array", "nan"])
def test_a_damaged_entry_is_computed_again(images, cached, damage):
    folder, extractions = cached
    first = compute(images)
    (entry,) = folder.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "truncated":
        entry.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        entry.write_bytes(b"")
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    elif damage == "other array":
        np.savez(entry, features=np.zeros((3, 8), np.uint16))
    else:
        np.savez(entry, features=np.full((10, 8), np.float16(np.nan)).view("u2"))
    np.testing.assert_array_equal(compute(images), first)
    assert len(extractions) == 2
    compute(images)
    assert len(extractions) == 2  # and the entry is whole again


def test_a_full_disk_costs_no_result(images, cached, monkeypatch):
    messages = []
    monkeypatch.setattr(np, "savez", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert pooled_features(APPLICATION, images, digests(images), messages.append).shape == (10, 8)
    assert any("features not kept for the next run" in line for line in messages)
    assert list(cached[0].iterdir()) == []


def test_the_layer_that_ceases_to_be_finite_is_named(images):
    pooled = pooled_base("vgg16", 32, PRECISIONS["float32"], Weights("random"))
    layer = pooled.layers[1].get_layer("block3_conv2")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 1e36, bias])
    spec = replace(SPEC, model="vgg16", precision=PRECISIONS["float32"], recipe=replace(RECIPE, image_size_px=32))
    with pytest.raises(CaseFailure, match=r"vgg16, float32: block3_conv2 is not finite .* for one of 0.png to 3.png"):
        extract(spec, pooled, images, lambda _: None)


def test_an_overflow_in_half_precision_is_named():
    image = keras.Input((8, 8, 3))
    huge = keras.layers.Conv2D(4, 1, kernel_initializer=keras.initializers.Constant(1e4), dtype="mixed_float16")
    base = keras.Model(image, keras.layers.ReLU()(huge(image)))
    pooled_image = keras.Input((8, 8, 3))
    pooled = keras.Model(pooled_image, keras.layers.GlobalAveragePooling2D()(base(pooled_image)))
    infer = watched_inference(pooled, jit=False)
    assert infer(np.ones((1, 8, 8, 3), np.float32))[1] is None
    assert infer(np.full((1, 8, 8, 3), 10, np.float32))[1] == huge.name


def test_a_subclassed_base_is_watched_at_its_end(images):
    spec = replace(SPEC, model="tiny_models:SubclassedFeatures")
    pooled = pooled_base(spec.model, 16, spec.precision, spec.weights)
    assert extract(spec, pooled, images, lambda _: None).shape == (10, 600)


def test_a_model_without_a_feature_map_has_no_base():
    with pytest.raises(CaseFailure, match="tiny_models:classifier does not end in a feature map"):
        pooled_base("tiny_models:classifier", 16, PRECISIONS["float32"], Weights("factory"))


def test_code_that_features_depend_on_exists():
    assert all((Path(mpbench.__file__).parent / source).is_file() for source in module.SOURCES)
