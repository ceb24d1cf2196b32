"""The head: the thesis's classifier trained on a frozen base's features, and its answers.

Trained on features it ends bit for bit where it would have ended inside the full model (tests/accuracy/test_head.py),
without running the base in every epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mpbench.accuracy.base import ArmSpec
from mpbench.config.profiles import SEED
from mpbench.engine.interleave import Progress
from mpbench.engine.models import build_under, classify
from mpbench.errors import CaseFailure

CONSTANT_FEATURE = 1e-6
"""Standard deviation over mean below which a feature is noise of rounding: it is not blown up to 1."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TrainedHead:
    """A head after its best epoch.

    Attributes:
        spec: what it was trained with.
        model: from features to probabilities.
        epoch: the best one by training accuracy, the earliest on a tie; from 1.
        training_accuracy: in that epoch as Keras reports it, over the steps of the epoch.
        skipped_steps: updates that loss scaling dropped, in all epochs.
    """

    spec: ArmSpec
    model: keras.Model
    epoch: int
    training_accuracy: float
    skipped_steps: int

    def answers(self, features: Floats) -> NDArray[np.int64]:
        """Class numbers, shape (n,), for features of shape (n, channels), in one batched pass.

        Raises:
            CaseFailure: a feature or a probability is NaN or infinite.
        """
        _check_finite(self.spec.label, features)
        with tf.device(self.spec.device.placement):
            batch = self.spec.recipe.batch_size
            probabilities = self.model.predict(features.astype(np.float32), batch_size=batch, verbose=0)
        bad = ~np.isfinite(probabilities).all(axis=1)
        if bad.any():
            raise CaseFailure(f"{self.spec.label}: {bad.sum()} of {bad.size} answers are not finite (NaN or infinity)")
        return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)


def build_head(spec: ArmSpec, features: Floats) -> keras.Model:
    """An untrained, compiled head; the same initial weights in every call and precision.

    Args:
        features: of the training images, shape (n, channels); the recipe may standardise by their mean and variance.
    """

    def build() -> keras.Model:
        inputs = keras.Input((features.shape[1],))
        x = inputs
        if spec.recipe.standardise:
            scale, offset = standardisation(features)
            # Not Keras's Normalization, which divides by 1e-7 at least: some bases give smaller features.
            x = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(x)
        return keras.Model(inputs, classify(x, spec.classes))

    model = build_under(spec.precision.policy, build)
    compile_for(spec, model)
    return model


def compile_for(spec: ArmSpec, model: keras.Model) -> None:
    """Give a model that ends in the head's probabilities the recipe's optimizer and loss."""
    # Under mixed_float16 Keras wraps the optimizer in a LossScaleOptimizer by itself.
    model.compile(
        keras.optimizers.Adam(spec.recipe.learning_rate, epsilon=spec.precision.adam_epsilon),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=spec.jit,
    )
    # Built before fit traces its step: inside the trace the initial loss scale would become a constant.
    model.optimizer.build(model.trainable_variables)


def standardisation(features: Floats) -> tuple[Floats, Floats]:
    """Scale and offset that give each feature mean 0 and variance 1, shape (channels,) each.

    A constant feature becomes 0.
    """
    exact = features.astype(np.float64)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    varies = deviation > CONSTANT_FEATURE * np.abs(mean)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    return scale, -mean * scale


def epoch_order(count: int, epoch: int) -> NDArray[np.int64]:
    """The order of the training images in an epoch: the same for every precision."""
    return np.random.default_rng((SEED, epoch)).permutation(count)


def train_head(spec: ArmSpec, features: Floats, labels: NDArray[np.int64], progress: Progress) -> TrainedHead:
    """Train a head for the recipe's epochs and go back to its best.

    Args:
        features: shape (n, channels).
        labels: class numbers, shape (n,).

    Raises:
        CaseFailure: all features are alike; one, the loss or a weight is not finite; loss scaling dropped most
            updates.
    """
    _check_finite(spec.label, features)
    if (features == features[0]).all():
        raise CaseFailure(
            f"{spec.label}: the base gives the same features for every image: with random weights some bases' are so "
            "small that float16 has only zeros for them: give --mp-weights"
        )
    recipe = spec.recipe
    with tf.device(spec.device.placement):
        model = build_head(spec, features)
        inputs = features.astype(np.float32)
        best_epoch, best_accuracy, best_weights = 0, -1.0, model.get_weights()
        for epoch in range(1, recipe.epochs + 1):
            order = epoch_order(len(labels), epoch)
            log = model.fit(
                inputs[order], labels[order], batch_size=recipe.batch_size, epochs=1, shuffle=False, verbose=0
            ).history
            loss, accuracy = log["loss"][0], log["accuracy"][0]
            if not math.isfinite(loss):
                raise CaseFailure(f"{spec.label}: loss is not finite ({loss}) in epoch {epoch}")
            if accuracy > best_accuracy:
                best_epoch, best_accuracy, best_weights = epoch, accuracy, model.get_weights()
        model.set_weights(best_weights)
        for weight in model.trainable_weights:
            if not np.isfinite(weight.numpy().astype(np.float32)).all():
                raise CaseFailure(f"{spec.label}: {weight.path} of the head is not finite after training")
        taken = recipe.epochs * math.ceil(len(labels) / recipe.batch_size)
        skipped = taken - int(model.optimizer.iterations.numpy())
    if skipped > taken // 2:
        raise CaseFailure(
            f"{spec.label}: loss scaling skipped {skipped} of {taken} steps: a skipped step trains nothing"
        )
    progress(f"{spec.label}: head trained, best epoch {best_epoch}, training accuracy {100 * best_accuracy:.2f} %")
    return TrainedHead(spec, model, best_epoch, best_accuracy, skipped)


def _check_finite(label: str, features: Floats) -> None:
    # Asked here because the head would not show it: its ReLU turns NaN into 0.
    if not np.isfinite(features.astype(np.float32)).all():
        raise CaseFailure(f"{label}: a feature is not finite (NaN or infinity)")
