"""Pooled features of a frozen base: computed once per (model, precision), streamed, and kept on disk.

A frozen base gives the same features in every epoch. They are bit-equal to those in the middle of the full model as
long as the batch has the same size, so the last batch is filled up.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mpbench.accuracy.weights import Weights, load_pooled_base
from mpbench.config.precisions import Precision
from mpbench.data.data_set import LabelledImage
from mpbench.data.decoding import UndecodableImage, decoder_version
from mpbench.data.loader import Files, Loader
from mpbench.engine import device as devices
from mpbench.engine.models import preprocessing, scale_to_one
from mpbench.errors import CaseFailure, harmless
from mpbench.system import cache
from mpbench.system.device import Device

PROGRESS_SECONDS = 15.0
SOURCES = (
    "accuracy/features.py",
    "accuracy/weights.py",
    "engine/models.py",
    "data/loader.py",
    "data/decoding.py",
)
"""The code that features depend on, within the package: a cache must not outlive it."""

Progress = Callable[[str], None]
Features = NDArray[Any]


@dataclass(frozen=True)
class FeatureSpec:
    """What features depend on, apart from the images.

    Attributes:
        model: canonical name or factory.
        precision: how the base computes.
        weights: of the base.
        image_size_px: height and width.
        batch_size: images; of every batch, the last one too.
        thesis_preprocessing: 1/255 in place of the architecture's own scaling.
        jit: whether XLA compiles the base.
        device: where it runs.
    """

    model: str
    precision: Precision
    weights: Weights
    image_size_px: int
    batch_size: int
    thesis_preprocessing: bool
    jit: bool
    device: Device

    @property
    def label(self) -> str:
        return f"{self.model}, {self.precision.name}"


def pooled_features(
    spec: FeatureSpec, images: Sequence[LabelledImage], digests: dict[str, str], progress: Progress
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
        kept = _read(entry, len(images), spec.precision)
        if kept is not None:
            progress(f"{spec.label}: features of {len(images)} images from the cache")
            return kept
    progress(f"{spec.label}: building the base")
    pooled = load_pooled_base(spec.model, spec.image_size_px, spec.precision, spec.weights)
    features = extract(spec, pooled, images, progress)
    if entry is not None:
        _write(entry, features, progress)
    return features


def extract(spec: FeatureSpec, pooled: keras.Model, images: Sequence[LabelledImage], progress: Progress) -> Features:
    """Run images through a base; memory grows with the features, not with the images.

    Returns and raises as `pooled_features`.
    """
    preprocess = scale_to_one if spec.thesis_preprocessing else preprocessing(spec.model)
    features: Features = np.empty((len(images), pooled.output_shape[-1]), _numpy_dtype(spec.precision))
    done, started, said = 0, time.monotonic(), time.monotonic()
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
            if now - said > PROGRESS_SECONDS or done == len(images):
                said = now
                rate = done / (now - started)
                left = f", {(len(images) - done) / rate:.0f} s left" if done < len(images) else ""
                progress(f"{spec.label}: features of {done} of {len(images)} images, {rate:.1f} images/s{left}")
    return features


def _batches(spec: FeatureSpec, images: Sequence[LabelledImage]) -> Iterator[tuple[Features, int]]:
    try:
        with Loader(Files(images, spec.image_size_px), spec.batch_size, endless=False) as loader:
            for batch in loader:
                yield batch.pixels, batch.valid
    except UndecodableImage as error:  # it could be decoded when the session began
        raise CaseFailure(f"{spec.label}: {error}") from error


def watched_inference(pooled: keras.Model, jit: bool) -> Callable[[Features], tuple[Features, str | None]]:
    """A compiled forward pass of a frozen base that also says where it ceased to be finite.

    The features alone do not show it: a ReLU turns NaN into 0.

    Args:
        pooled: as `models.build_pooled_base` gives it.

    Returns:
        A function from images, shape (batch, height, width, 3), to features, shape (batch, channels), and the name of
        the first layer whose output has a NaN or infinity, None where there is none. Of a subclassed base only the
        features are watched.
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


def _key(spec: FeatureSpec, images: Sequence[LabelledImage], digests: dict[str, str]) -> str:
    parts = {
        "precision": asdict(spec.precision),
        "weights": spec.weights.identity(),
        "model": spec.model,
        "image_size_px": spec.image_size_px,
        "batch_size": spec.batch_size,
        "thesis_preprocessing": spec.thesis_preprocessing,
        "jit": spec.jit,
        "device": [spec.device.kind, devices.device_name(spec.device), _processor()],
        "versions": {package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "decoder": decoder_version(),
        "code": [cache.sha256_of(Path(__file__).parents[1] / source) for source in SOURCES],
        "images": [[image.name, digests[image.name]] for image in images],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(entry: Path, count: int, precision: Precision) -> Features | None:
    """A cache entry; None where there is none, or it is damaged."""
    dtype = _numpy_dtype(precision)
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


def _numpy_dtype(precision: Precision) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(tf.as_dtype(precision.compute_dtype).as_numpy_dtype)
    return dtype


def _processor() -> str:
    """The processor's model: other instruction sets round otherwise."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
