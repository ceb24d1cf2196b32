"""Training on a frozen base's features: the same head, bit for bit, as training through the whole model."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from mpbench.accuracy.base import ArmSpec, pooled_base, preprocessing
from mpbench.accuracy.features import watched_inference
from mpbench.accuracy.head import build_head, compile_for, epoch_order, standardisation, train_head
from mpbench.accuracy.weights import Weights
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import RECIPES
from mpbench.engine.models import dtype_policy
from mpbench.errors import CaseFailure
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

BATCH = 4
COUNT = 12
SIZE_PX = 32


def head_spec(precision, **changes):
    recipe = replace(
        RECIPES["quick"], batch_size=BATCH, image_size_px=SIZE_PX, epochs=2, **({"learning_rate": 1e-3} | changes)
    )
    cpu = Device("cpu", "/CPU:0")
    return ArmSpec("test", PRECISIONS[precision], Weights("random"), recipe, 2, False, False, cpu)


def features_like(spec, count=64, channels=8):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, count)
    return (rng.normal(size=(count, channels)) + labels[:, None]).astype(spec.precision.compute_dtype), labels


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_training_on_features_is_training_through_the_whole_model(precision, standardise):
    spec = head_spec(precision, standardise=standardise)
    pooled = pooled_base("vgg16", SIZE_PX, spec.precision, spec.weights)
    rng = np.random.default_rng(0)
    images = preprocessing("vgg16")(rng.integers(0, 256, (COUNT, SIZE_PX, SIZE_PX, 3)).astype(np.float32))
    labels = rng.integers(0, 2, COUNT)
    infer = watched_inference(pooled, jit=False)
    features = np.concatenate([infer(images[i : i + BATCH])[0] for i in range(0, COUNT, BATCH)])
    trained = train_head(spec, features, labels, lambda _: None)

    head = build_head(spec, features)
    with dtype_policy(spec.precision.policy):
        image = keras.Input((SIZE_PX, SIZE_PX, 3))
        whole = keras.Model(image, head(pooled(image, training=False)))
    compile_for(spec, whole)
    before = [weight.numpy() for weight in head.trainable_weights]
    for epoch in range(1, trained.epoch + 1):
        order = epoch_order(COUNT, epoch)
        whole.fit(images[order], labels[order], batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    assert any((weight.numpy() != old).any() for weight, old in zip(head.trainable_weights, before, strict=True))
    for weight, other in zip(head.weights, trained.model.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy())
    expected = np.argmax(whole.predict(images, batch_size=BATCH, verbose=0), axis=1)
    np.testing.assert_array_equal(trained.answers(features), expected)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16", "float16"])
def test_two_trainings_give_the_same_bits(precision):
    spec = head_spec(precision)
    features, labels = features_like(spec)
    one, two = (train_head(spec, features, labels, lambda _: None) for _ in range(2))
    for weight, other in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    assert (one.answers(features) == labels).mean() > 0.7


def test_every_precision_starts_from_the_same_weights():
    start = build_head(head_spec("float32"), np.zeros((4, 8), np.float32)).get_weights()
    for precision in ("mixed_float16", "float16"):
        spec = head_spec(precision)
        weights = build_head(spec, np.zeros((4, 8), np.float32)).get_weights()
        for weight, first in zip(weights, start, strict=True):
            np.testing.assert_array_equal(weight, first.astype(weight.dtype))


def test_the_best_epoch_is_the_earliest_with_the_highest_training_accuracy():
    spec = head_spec("float32")
    features = np.eye(8, 4, dtype=np.float32)  # of one class only: it is answered in every epoch
    trained = train_head(spec, features, np.zeros(8, int), lambda _: None)
    again = train_head(replace(spec, recipe=replace(spec.recipe, epochs=5)), features, np.zeros(8, int), lambda _: None)
    assert again.training_accuracy == 1.0
    assert again.epoch == trained.epoch <= 2


def test_standardising_makes_features_of_any_size_comparable():
    features = np.tile([1e-4, 3.0, 7e-13], (6, 1)).astype(np.float32)
    features[:, 1] += np.arange(6)
    features[:, 2] *= np.arange(6)
    scale, offset = standardisation(features)
    scaled = features * scale + offset
    assert scale[0] == scaled[0, 0] == 0  # constant
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), [0, 1, 1], rtol=1e-5)


def test_features_of_any_size_are_learnt_from():
    spec = head_spec("float32")
    features, labels = features_like(spec)
    trained = train_head(spec, (features * 1e-12).astype(np.float32), labels, lambda _: None)
    assert (trained.answers((features * 1e-12).astype(np.float32)) == labels).mean() > 0.7


def test_features_that_are_all_alike_are_named():
    with pytest.raises(CaseFailure, match="test, float32: the base gives the same features for every image"):
        train_head(head_spec("float32"), np.zeros((8, 4), np.float32), np.zeros(8, int), lambda _: None)


def test_what_is_not_finite_fails_by_name():
    spec = head_spec("float32")
    features, labels = features_like(spec)
    trained = train_head(spec, features, labels, lambda _: None)
    weights = trained.model.get_weights()
    weights[-1][0] = np.nan
    trained.model.set_weights(weights)
    with pytest.raises(CaseFailure, match="test, float32: 64 of 64 answers are not finite"):
        trained.answers(features)
    with pytest.raises(CaseFailure, match=r"test, float32: loss is not finite \(nan\) in epoch 1"):
        train_head(head_spec("float32", learning_rate=1e38), features, labels, lambda _: None)
    features[3, 0] = np.nan
    with pytest.raises(CaseFailure, match="test, float32: a feature is not finite"):
        trained.answers(features)
    with pytest.raises(CaseFailure, match="test, float32: a feature is not finite"):
        train_head(spec, features, labels, lambda _: None)


def test_a_head_that_loss_scaling_hardly_lets_train_fails():
    spec = head_spec("mixed_float16", standardise=False)
    features, labels = features_like(spec, count=16)
    # 8 steps, of which more than half overflow: from 2**15 the scale has to come down to what these features allow.
    with pytest.raises(CaseFailure, match=r"loss scaling skipped . of 8 steps: a skipped step trains nothing"):
        train_head(spec, features * np.float16(4000), labels, lambda _: None)
