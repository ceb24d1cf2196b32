"""Where a base's weights come from (`--mp-weights`): ImageNet's, random ones, or the user's files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpbench.config.model_names import APPLICATIONS, squeezed
from mpbench.config.profiles import SEED
from mpbench.engine.models import build_pooled_base
from mpbench.errors import UsageProblem, described
from mpbench.system.cache import expanded, sha256_of
from mpbench.system.downloads import network_timeout

if TYPE_CHECKING:
    import keras

    from mpbench.config.precisions import Precision

SUFFIX = ".h5"
"""Keras's own `.weights.h5` and the older `.h5` both end so."""

NETWORK_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Weights:
    """The weights of one model's base.

    Attributes:
        kind: `imagenet`, `random`, `file`, or `factory` (whatever a user's factory gives).
        path: of the file, for `file`.
        arrays: for `factory`, those of the model that it gave first: every precision is compared with these.
    """

    kind: str
    path: Path | None = None
    arrays: tuple[NDArray[Any], ...] | None = None

    @property
    def label(self) -> str:
        """For tables and records: the kind, or the file's name."""
        return self.path.name if self.path else self.kind

    def identity(self) -> str:
        """What tells them from others for a cache, short of building the model."""
        if self.path:
            return sha256_of(self.path)
        return f"{self.kind} {SEED}"


def find_weights(choice: str, model: str) -> Weights:
    """What `--mp-weights` means for one model.

    Args:
        choice: `imagenet`, `random`, or the path of a file or of a folder with a file for each model.
        model: canonical name or factory; a factory's weights are its own.

    Raises:
        UsageProblem: no such path, no file for the model or several of them.
    """
    if ":" in model:
        return Weights("factory")
    if choice in ("imagenet", "random"):
        return Weights(choice)
    path = expanded(choice)
    if path.is_dir():
        path = _file_for(model, path)
    if not path.is_file():
        raise UsageProblem(f"--mp-weights: {choice!r} does not exist: valid are imagenet, random, a file and a folder")
    if path.suffix != SUFFIX:
        raise UsageProblem(f"--mp-weights: {path}: valid is a Keras weight file, *.weights.h5 or *.h5")
    return Weights("file", path)


def load_pooled_base(model: str, image_size_px: int, precision: Precision, weights: Weights) -> keras.Model:
    """`models.build_pooled_base` with these weights in it.

    Raises:
        UsageProblem: the file is of another architecture or damaged, ImageNet's weights cannot be fetched, or a weight
            is not finite.
    """
    if weights.kind == "imagenet":
        with network_timeout(NETWORK_TIMEOUT_SECONDS):
            try:
                pooled = build_pooled_base(model, image_size_px, precision, "imagenet")
            except Exception as error:  # keras.utils.get_file raises a bare Exception
                raise UsageProblem(
                    f"--mp-weights: imagenet: those of {model} are not in Keras's cache and cannot be fetched "
                    f"({described(error)}): give --mp-weights FILE or FOLDER, or random"
                ) from error
    else:
        pooled = build_pooled_base(model, image_size_px, precision)
    if weights.arrays is not None:
        pooled.set_weights(list(weights.arrays))
    if weights.path:
        _read(pooled, model, weights.path)
    for weight in pooled.weights:
        if not np.isfinite(weight.numpy().astype(np.float32)).all():
            raise UsageProblem(
                f"--mp-weights: {weights.label}: {weight.path} of {model} is not finite (NaN or infinity)"
            )
    return pooled


def _read(pooled: keras.Model, model: str, path: Path) -> None:
    base = pooled.layers[1]
    before = [weight.numpy().astype(np.float32) for weight in base.weights]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's advice about layers that it left alone: looked for below
            base.load_weights(path)
    except Exception as error:  # h5py's and Keras's many ways to say that a file does not fit
        raise UsageProblem(
            f"--mp-weights: {path}: no weights of {APPLICATIONS[model]} without its top: {described(error)}"
        ) from error
    kernels = [weight for weight in base.weights if len(weight.shape) > 1]
    if kernels and not any(kernel.numpy().any() for kernel in kernels):
        raise UsageProblem(f"--mp-weights: {path}: holds nothing but zeros for {model}")
    for weight, old in zip(base.weights, before, strict=True):
        # A kernel drawn at random that a file leaves as it was has not been read from it.
        if len(weight.shape) > 1 and np.array_equal(weight.numpy().astype(np.float32), old):
            raise UsageProblem(f"--mp-weights: {path}: holds nothing for {weight.path} of {model}")


def _file_for(model: str, folder: Path) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.suffix == SUFFIX and _model_of(path.name) == model]
    # Keras's own files come with and without the top.
    fitting = [path for path in files if "notop" in squeezed(path.name)] or files
    if len(fitting) == 1:
        return fitting[0]
    found = f"has {', '.join(path.name for path in fitting)}" if fitting else "has none"
    raise UsageProblem(
        f"--mp-weights: {folder} {found} for {model}: valid is one file whose name begins with the model's, "
        f"such as {model}{SUFFIX}"
    )


def _model_of(file_name: str) -> str | None:
    """The model whose name a file's begins with; the longest, since resnet50 begins resnet50_v2's."""
    beginning = squeezed(file_name).removeprefix("weights")
    fitting = [name for name in APPLICATIONS if beginning.startswith(squeezed(name))]
    return max(fitting, key=len, default=None)
