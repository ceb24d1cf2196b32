"""The frozen base: a model without its head, its features averaged over the image, with the weights that are meant; how
images are scaled for it; and what an arm of the experiment is.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mpbench.accuracy.weights import Weights
from mpbench.config.model_names import APPLICATIONS
from mpbench.config.precisions import Precision
from mpbench.config.profiles import Recipe
from mpbench.engine.factories import load_factory
from mpbench.engine.models import Shape, application, build_under, check_follows_policy, output_shape
from mpbench.errors import CaseFailure, UsageProblem, described
from mpbench.system.device import Device
from mpbench.system.downloads import network_timeout

NETWORK_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class ArmSpec:
    """One precision of a model: what its features and its head depend on, apart from the images.

    Attributes:
        model: canonical name or factory.
        precision: how base and head compute.
        weights: of the base.
        recipe: sizes, and how the head is trained.
        classes: number of them.
        thesis_preprocessing: 1/255 in place of the architecture's own scaling.
        jit: whether XLA compiles base and head.
        device: where they run.
    """

    model: str
    precision: Precision
    weights: Weights
    recipe: Recipe
    classes: int
    thesis_preprocessing: bool
    jit: bool
    device: Device

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.model}, {self.precision.name}"


def pooled_base(model: str, image_size_px: int, precision: Precision, weights: Weights) -> keras.Model:
    """A model without a head, frozen, its feature map averaged over height and width.

    Args:
        model: canonical name or a user's factory.
        image_size_px: height and width of its input, which has 3 channels.
        precision: gives the dtype policy to build under.
        weights: random ones are the same in every call.

    Returns:
        A built model from images to features of shape (batch, channels) in the precision's compute dtype. To be
        called with `training=False`.

    Raises:
        CaseFailure: a factory's model does not follow the dtype policy or does not end in a feature map.
        UsageProblem: the file is of another architecture or damaged, ImageNet's weights cannot be fetched, or a weight
            is not finite.
    """
    shape = (image_size_px, image_size_px, 3)

    def build() -> keras.Model:
        base = _from_factory(model, shape) if ":" in model else _from_keras(model, shape, weights)
        base.trainable = False
        image = keras.Input(shape)
        return keras.Model(image, keras.layers.GlobalAveragePooling2D()(base(image, training=False)), name=base.name)

    pooled = build_under(precision.policy, build)
    if ":" in model:
        check_follows_policy(pooled, model, precision)
    if weights.arrays is not None:
        pooled.set_weights(list(weights.arrays))
    if weights.path:
        _read(pooled.layers[1], model, weights.path)
    for weight in pooled.weights:
        if not np.isfinite(weight.numpy().astype(np.float32)).all():
            raise UsageProblem(
                f"--mp-weights: {weights.label}: {weight.path} of {model} is not finite (NaN or infinity)"
            )
    return pooled


def _from_factory(name: str, shape: Shape) -> keras.Model:
    base = load_factory(name)(shape)
    if len(output_shape(base, shape)) != 4:
        raise CaseFailure(
            f"{name} does not end in a feature map (batch, height, width, channels): there is no base to freeze"
        )
    return base


def _from_keras(name: str, shape: Shape, weights: Weights) -> keras.Model:
    imagenet = "imagenet" if weights.kind == "imagenet" else None
    with network_timeout(NETWORK_TIMEOUT_SECONDS):
        try:
            return application(name)(weights=imagenet, include_top=False, input_shape=shape)
        except Exception as error:  # keras.utils.get_file raises a bare Exception
            if not imagenet:
                raise
            raise UsageProblem(
                f"--mp-weights: imagenet: those of {name} are not in Keras's cache and cannot be fetched "
                f"({described(error)}): give --mp-weights FILE or FOLDER, or random"
            ) from error


def _read(base: keras.Model, model: str, path: Path) -> None:
    """Read a file into a base; raises UsageProblem where it does not hold all of its kernels."""
    before = [weight.numpy().astype(np.float32) for weight in base.weights]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's advice about layers that it left alone: looked for below
            base.load_weights(path)
    except Exception as error:  # h5py's and Keras's many ways to say that a file does not fit
        raise UsageProblem(
            f"--mp-weights: {path}: no weights of {APPLICATIONS[model]} without its top: {described(error)}"
        ) from error
    for weight, old in zip(base.weights, before, strict=True):
        # A kernel drawn at random that a file leaves as it was has not been read from it.
        if len(weight.shape) > 1 and np.array_equal(weight.numpy().astype(np.float32), old):
            raise UsageProblem(f"--mp-weights: {path}: holds nothing for {weight.path} of {model}")


def preprocessing(model: str, thesis: bool = False) -> Callable[[Any], Any]:
    """How images are scaled, from a float array of RGB values from 0 to 255 to another.

    Args:
        model: its architecture's own scaling; 1/255 for a factory's.
        thesis: 1/255 for every model.
    """
    if thesis or ":" in model:
        return lambda images: images / 255
    return sys.modules[application(model).__module__].preprocess_input  # type: ignore[no-any-return]
