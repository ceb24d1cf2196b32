"""Pooled features of a frozen base: computed once per (model, precision), streamed, and kept on disk.

A frozen base gives the same features in every epoch. They are bit-equal to those in the middle of the full model as
long as the batch has the same size, so the last batch is filled up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mpbench.accuracy.base import ArmSpec, pooled_base, preprocessing
from mpbench.data.data_set import LabelledImage
from mpbench.data.decoding import UndecodableImage, decoder_version
from mpbench.data.loader import Files, Loader
from mpbench.engine import device as devices
from mpbench.engine.interleave import Progress
from mpbench.errors import CaseFailure, harmless
from mpbench.system import cache

PROGRESS_SECONDS = 15.0
SOURCES = (
    *("accuracy/base.py", "accuracy/features.py", "engine/models.py"),
    *("data/loader.py", "data/decoding.py"),
)
"""The code that features depend on, within the package: a cache must not outlive it."""

Features = NDArray[Any]


def pooled_features(
    spec: ArmSpec, images: Sequence[LabelledImage], digests: Mapping[str, str], progress: Progress
) -> Features:
    """Features of images, from the disk where they have been computed before; a factory's always anew.

    Args:
        images: n of them, all of which can be decoded.
        digests: SHA-256 of each image's file, by its name.

    Returns:
        Shape (n, channels), in the precision's compute dtype, finite, in the order of `images`.

    Raises:
        CaseFailure: a feature is NaN or infinite.
        UsageProblem: the weights do not fit.
    """
    entry = None
    if spec.weights.kind != "factory":  # a user's code, which no key can hold
        entry = cache.folder("features") / f"{_key(spec, images, digests)}.npz"
        kept = _read(entry, len(images), _dtype(spec))
        if kept is not None:
            progress(f"{spec.label}: features of {len(images)} images from the cache")
            return kept
    progress(f"{spec.label}: building the base")
    pooled = pooled_base(spec.model, spec.recipe.image_size_px, spec.precision, spec.weights)
    features = extract(spec, pooled, images, progress)
    if entry is not None:
        _write(entry, features, progress)
    return features


def extract(spec: ArmSpec, pooled: keras.Model, images: Sequence[LabelledImage], progress: Progress) -> Features:
    """Run images through a base; memory grows with the features, not with the images.

    Returns and raises as `pooled_features`.
    """
    preprocess = preprocessing(spec.model, spec.thesis_preprocessing)
    features: Features = np.empty((len(images), pooled.output_shape[-1]), _dtype(spec))
    done, started, told = 0, time.monotonic(), time.monotonic()
    with tf.device(spec.device.placement):
        devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, spec.jit)
        devices.set_tf32(spec.precision.tf32)
        infer = watched_inference(pooled, spec.jit)
        for batch, valid in _batches(spec, images):
            out, bad_layer = infer(preprocess(batch.astype(np.float32)))
            if bad_layer is not None:
                names = f"{harmless(images[done].name)} to {harmless(images[done + valid - 1].name)}"
                raise CaseFailure(f"{spec.label}: {bad_layer} is not finite (NaN or infinity) for one of {names}")
            features[done : done + valid] = out[:valid]
            done += valid
            now = time.monotonic()
            if now - told > PROGRESS_SECONDS or done == len(images):
                told = now
                rate = done / (now - started)
                left = f", {(len(images) - done) / rate:.0f} s left" if done < len(images) else ""
                progress(f"{spec.label}: features of {done} of {len(images)} images, {rate:.1f} images/s{left}")
    return features


def _batches(spec: ArmSpec, images: Sequence[LabelledImage]) -> Iterator[tuple[Features, int]]:
    try:
        with Loader(Files(images, spec.recipe.image_size_px), spec.recipe.batch_size, endless=False) as loader:
            for batch in loader:
                yield batch.pixels, batch.valid
    except UndecodableImage as error:  # it could be decoded when the session began
        raise CaseFailure(f"{spec.label}: {error}") from error


def watched_inference(pooled: keras.Model, jit: bool) -> Callable[[Features], tuple[Features, str | None]]:
    """A compiled forward pass of a `pooled_base` that also says where it ceased to be finite.

    The features alone do not show it: a ReLU turns NaN into 0. Of a subclassed base only the features are watched.

    Returns:
        A function from images, shape (batch, height, width, 3), to features, shape (batch, channels), and the name of
        the first layer whose output has a NaN or infinity, None where there is none.
    """
    _, base, pool = pooled.layers
    layers = _layer_outputs(base)
    model = keras.Model(base.inputs, [*base.outputs, *(output for _, output in layers)]) if layers else None

    def forward(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, *outputs = model(images, training=False) if model else [base(images, training=False)]
        features = pool(features)
        # A float32 sum of finite activations is finite, and costs a twentieth of the pass.
        sums = [tf.reduce_sum(tf.cast(output, tf.float32)) for output in [*outputs, features]]
        return features, tf.math.is_finite(tf.stack(sums))

    compiled = tf.function(forward, autograph=False, jit_compile=jit)
    names = [*(name for name, _ in layers), "the pooled feature"]

    def infer(images: Features) -> tuple[Features, str | None]:
        features, finite = compiled(images)
        flags = finite.numpy()
        return features.numpy(), None if flags.all() else names[int(flags.argmin())]

    return infer


def _layer_outputs(base: keras.Model) -> list[tuple[str, Any]]:
    """Name and symbolic output of each layer with weights; none where the base has no graph."""
    found = []
    for layer in getattr(base, "layers", []):
        with suppress(AttributeError):  # no graph, or a layer used twice
            found += [(layer.name, layer.output)] if layer.weights else []
    return found


def _key(spec: ArmSpec, images: Sequence[LabelledImage], digests: Mapping[str, str]) -> str:
    parts = {
        "precision": asdict(spec.precision),
        "weights": spec.weights.identity(),
        "model": spec.model,
        "image_size_px": spec.recipe.image_size_px,
        "batch_size": spec.recipe.batch_size,
        "thesis_preprocessing": spec.thesis_preprocessing,
        "jit": spec.jit,
        "device": [spec.device.kind, devices.device_name(spec.device), devices.processor()],
        "versions": {package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "decoder": decoder_version(),
        "code": [cache.sha256_of(Path(__file__).parents[1] / source) for source in SOURCES],
        "images": [[image.name, digests[image.name]] for image in images],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(entry: Path, count: int, dtype: np.dtype[Any]) -> Features | None:
    """A cache entry; None where there is none, or it is damaged."""
    try:
        with np.load(entry, allow_pickle=False) as saved:
            raw = saved["features"]
    except Exception:  # missing, or one of the dozen kinds of error that zipfile and numpy raise for damaged files
        return None
    if raw.ndim != 2 or raw.shape[0] != count or raw.dtype != np.dtype(f"u{dtype.itemsize}"):
        return None
    features: Features = raw.view(dtype)
    return features if np.isfinite(features.astype(np.float32)).all() else None


def _write(entry: Path, features: Features, progress: Progress) -> None:
    # As whole numbers of the same width: numpy cannot save bfloat16.
    raw = features.view(f"u{features.dtype.itemsize}")
    try:
        with cache.publish(entry) as partial, partial.open("wb") as file:
            np.savez(file, features=raw)
    except OSError as error:  # a full disk costs the next run time, not this one its result
        progress(f"features not kept for the next run: {error}")


def _dtype(spec: ArmSpec) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(tf.as_dtype(spec.precision.compute_dtype).as_numpy_dtype)
    return dtype
