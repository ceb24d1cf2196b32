"""What a step is given: random images such as a model's first layers expect, and targets that its loss takes.

All inputs of a step come from here, by `built_with_data` and `Targets.make`. What a factory gives for them in place of
images is in `own_data.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mpbench.config.profiles import SEED
from mpbench.engine.models import Shape, build_with_data, can_be_called, has_own_step, output_shape
from mpbench.engine.own_data import Batch
from mpbench.engine.plan import StepSpec
from mpbench.engine.tracing import replaced
from mpbench.errors import CaseFailure, described

PIXEL_VALUES = 256
FAR = 8.0
"""Where what a first layer with weights gets spans more or less than [-1, 1) by this factor, others are expected."""

TRIED_TARGETS = 7
"""Targets on which an own loss is tried; no dimension of an output may be the same, or what fits by chance fits."""


@dataclass(frozen=True)
class Images:
    """What a model takes.

    Attributes:
        low, high: the values of its images, [low, high).
        dtype: theirs.
    """

    low: float = -1.0
    high: float = 1.0
    dtype: str = "float32"

    @property
    def note(self) -> str:
        """For people; nothing where it is what most models take."""
        if self == Images():
            return ""
        return f"its first layers take {self.dtype} from {self.low:g} to {self.last:g}: its images are made so"

    @property
    def last(self) -> float:
        """The largest value that is still one of theirs."""
        return self.high - 1 if self.high - self.low > 2 else self.high

    def of_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels from 0 to 255 as the model takes them."""
        scaled = tf.cast(pixels, tf.float32) * ((self.high - self.low) / PIXEL_VALUES) + self.low
        return tf.cast(scaled, self.dtype)


WITHOUT_SCALING = Images()


def built_with_data(spec: StepSpec) -> tuple[keras.Model, Batch, Images]:
    """A model, and the batch on the device that its step is given: its factory's own, or else random images.

    Compiled it can be trained with what `target_forms` gives, `replace(batch, y=form.make(batch.samples))`.

    Returns:
        The model, as `build_with_data` returns it; its batch, without `y` for inference and if it is of images, which
        is then of the spec's size; which images it takes.

    Raises:
        CaseFailure: as `build_with_data`.
    """
    model, own = build_with_data(spec.model, spec.image_size_px, spec.precision)
    if own:
        return model, own if spec.phase == "training" else Batch(own.x, source=own.source), WITHOUT_SCALING
    images = images_of(model, spec.image_shape)
    return model, Batch(synthetic_batch(spec.batch_size or 1, spec.image_shape, images)), images


def synthetic_batch(batch_size: int, image_shape: Shape, images: Images = WITHOUT_SCALING) -> tf.Tensor:
    """Random images on the device, shape (batch_size, *image_shape)."""
    shape = (batch_size, *image_shape)
    values = tf.random.stateless_uniform(shape, seed=(SEED, 0), minval=images.low, maxval=images.high)
    return values if images.dtype == "float32" else tf.cast(tf.floor(values), images.dtype)


def images_of(model: keras.Model, image_shape: Shape) -> Images:
    """What a built model takes: the dtype of its input, and values that its own scaling makes small.

    Told by running it as far as its first layer with weights: scaling by a layer (Rescaling, Normalization) or by
    operations is then over. Where that cannot be run it is taken for a model without scaling.
    """
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or ())
    dtype = str(inputs[0].dtype) if len(inputs) == 1 else "float32"
    candidates = [WITHOUT_SCALING, Images(0.0, 1.0), Images(0.0, 256.0)]
    if "int" in dtype:
        candidates = [Images(-128.0, 128.0, dtype) if dtype == "int8" else Images(0.0, 256.0, dtype)]
    distances = {}
    for images in candidates:
        ends = [tf.fill(image_shape, value) for value in (images.low, images.last)]
        reached = _first_weighted(model, tf.cast(tf.stack(ends), images.dtype))
        if isinstance(reached, int):  # an embedding's number of rows
            return Images(0.0, float(reached), dtype if "int" in dtype else "float32")
        if reached is None or not 0 < reached < math.inf:
            continue
        distances[images] = abs(math.log(reached))
        if distances[images] < math.log(FAR):
            return images
    return min(distances, key=distances.__getitem__, default=candidates[0])


class _Reached(BaseException):
    """No Exception: Keras would wrap it, and a user's layer may catch it."""


def _first_weighted(model: keras.Model, two_images: tf.Tensor) -> float | int | None:
    """Half the distance between what the first layer with a matrix of weights gets of two images of one value each.

    Pooling keeps such values, and what normalises by an image's own values gives 0, which asks for no other images.

    A mean; of an embedding the number of its rows; None where no such layer is reached.
    """
    found: list[float | int] = []
    own = keras.layers.Layer.__call__

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if getattr(layer, "_layers", None) or not any(len(weight.shape) > 1 for weight in layer.weights):
            return own(layer, *args, **kwargs)
        if isinstance(layer, keras.layers.Embedding):
            found.append(int(layer.input_dim))
        elif args and hasattr(args[0], "dtype"):
            found.append(float(tf.reduce_mean(tf.math.reduce_std(tf.cast(args[0], tf.float32), axis=0))))
        raise _Reached

    try:
        with replaced(keras.layers.Layer, "__call__", call):
            model(two_images)
    except _Reached:
        pass
    except Exception:  # whatever a user's layers raise: the step will say it
        return None
    return found[0] if found else None


@dataclass(frozen=True)
class Targets:
    """What a training step is given beside its images.

    Attributes:
        name: of all that it is given, for people.
        make: takes the number of images; gives None where they stand alone.
    """

    name: str
    make: Callable[[int], tf.Tensor | None]


IMAGES_ALONE = Targets("images alone", lambda images: None)


def target_forms(model: keras.Model, image_shape: Shape, batch: Batch | None = None) -> list[Targets]:
    """The targets that a built model's loss takes; for a training step of its own those to be tried after them, too.

    One without a loss for Keras is tried with images alone first: those who take them do not fail at being given more.

    Args:
        image_shape: of the images that it takes.
        batch: of its factory, which then has its targets.

    Raises:
        CaseFailure: an own loss takes neither class numbers nor targets like its output; a factory's batch has no
            targets, and Keras's training step needs them.
    """
    losses = [loss for loss in keras.tree.flatten(getattr(model, "loss", None)) if loss is not None]
    if batch and batch.source:
        if losses and batch.y is None and not has_own_step(model):
            raise CaseFailure(
                f"the batch of its factory is {batch.shapes}, and its loss takes targets: "
                "valid is (x, y) or (x, y, sample_weight)"
            )
        return [Targets("the batch of its factory", lambda _: batch.y)]
    if not can_be_called(model):
        return [IMAGES_ALONE]
    shape = output_shape(model, image_shape)[1:]
    classes = Targets("images and class numbers", lambda images: class_numbers(images, shape))
    like = Targets("images and targets like its output", lambda images: like_output(images, shape))
    # Without a loss, or with several, its training step has its own.
    forms = [classes, like] if len(losses) == 1 and _takes_classes(losses[0], shape) else [like, classes]
    if not has_own_step(model):
        return forms[:1]
    return [*forms, IMAGES_ALONE] if losses else [IMAGES_ALONE, *forms]


def class_numbers(batch_size: int, shape: tuple[int | None, ...]) -> tf.Tensor:
    """For outputs of a shape, without the batch, whose last dimension is the classes."""
    return tf.random.stateless_uniform(
        (batch_size, *shape[:-1]), seed=(SEED, 1), minval=0, maxval=shape[-1], dtype=tf.int32
    )


def like_output(batch_size: int, shape: tuple[int | None, ...]) -> tf.Tensor:
    """From 0 to 1, for outputs of a shape, without the batch."""
    return tf.random.stateless_uniform((batch_size, *shape), seed=(SEED, 1))


def _takes_classes(loss: Any, shape: tuple[int | None, ...]) -> bool:
    """Whether a loss takes class numbers; an own one is tried with targets like the output first.

    Raises:
        CaseFailure: an own one takes neither.
    """
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", None) or ""
    if name.startswith("sparse") or type(loss).__name__.startswith("Sparse"):
        return True
    if isinstance(loss, str) or (getattr(loss, "__module__", "") or "").startswith("keras."):
        return False

    class AsKerasCallsIt(keras.losses.Loss):  # type: ignore[misc]
        def call(self, targets: Any, answers: Any) -> Any:
            return loss(targets, answers)

    tried = loss if isinstance(loss, keras.losses.Loss) else AsKerasCallsIt()
    count = next(size for size in range(TRIED_TARGETS, 1000) if size not in shape)
    answers = tf.nn.softmax(like_output(count, shape))
    reasons = []
    for targets in (like_output, class_numbers):
        try:
            tried(targets(count, shape), answers)
        except Exception as error:  # whatever a user's loss raises
            reasons.append(described(error))
        else:
            return targets is class_numbers
    raise CaseFailure(
        f"its loss takes neither targets of its output's shape {shape} ({reasons[0]}) nor class numbers ({reasons[1]})"
    )
