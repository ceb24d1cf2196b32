"""The profiles: defaults that belong together, of speed cases and of the accuracy experiment."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 42
"""Of all that is drawn: weights, batches, which images are used."""

LEARNING_RATE = 1e-4
"""The thesis's, of Adam."""

LARGEST_BATCH = 0
"""In place of a number of images: as many as fit."""


@dataclass(frozen=True)
class Profile:
    """Defaults that belong together.

    Attributes:
        name: as in `--mp-profile`.
        batch_size: images.
        image_size_px: height and width.
        max_seconds: time limit for the blocks of one group; warm-up may take half as long before them.
        tolerance: relative half-width of the interval to reach, 0.01 for 1 %.
    """

    name: str
    batch_size: int
    image_size_px: int
    max_seconds: float
    tolerance: float = 0.01


PROFILES = {
    "paper": Profile("paper", batch_size=64, image_size_px=224, max_seconds=60.0),
    "quick": Profile("quick", batch_size=2, image_size_px=80, max_seconds=20.0, tolerance=0.05),
}

DEFAULT_PROFILE = {"gpu": "paper", "cpu": "quick"}


@dataclass(frozen=True)
class Recipe:
    """How the accuracy experiment of a profile trains: the same for every precision.

    Attributes:
        images: at most so many are used, and so many are drawn for `--mp-data generated`; None: all there are, and as
            many drawn as the thesis had.
        batch_size: images, of the base and of the head's steps.
        image_size_px: height and width.
        epochs: at most; the best by training accuracy is kept.
        learning_rate: of Adam.
        standardise: features to mean 0 and variance 1 over the training images before the head. A base with random
            weights gives features of 1e-4 to 1e-1, from which the thesis's head learns nothing in 8 epochs.
        weights: of the base, as in `--mp-weights`.
    """

    images: int | None
    batch_size: int
    image_size_px: int
    epochs: int
    learning_rate: float
    standardise: bool
    weights: str


RECIPES = {
    "paper": Recipe(None, 64, 224, 8, learning_rate=LEARNING_RATE, standardise=False, weights="imagenet"),
    "quick": Recipe(1000, 32, 80, 8, learning_rate=3e-4, standardise=True, weights="random"),
}

DEFAULT_RECIPE = "quick"
"""On a GPU too: the other one needs ImageNet's weights, hence a network."""

THESIS_IMAGES = 25_000


DEFAULT_WORKERS = 8
"""As many as the thesis used."""
