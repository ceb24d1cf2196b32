"""Which weights a base gets (`--mp-weights`): ImageNet's, random ones, or those of the user's files. Loads none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mpbench.config.model_names import APPLICATIONS, squeezed
from mpbench.config.profiles import SEED
from mpbench.errors import UsageProblem
from mpbench.system.cache import expanded, sha256_of

SUFFIX = ".h5"
"""Keras's own `.weights.h5` and the older `.h5` both end so."""


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
        return sha256_of(self.path) if self.path else f"{self.kind} {SEED}"


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
    return max((name for name in APPLICATIONS if beginning.startswith(squeezed(name))), key=len, default=None)
