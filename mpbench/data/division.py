"""How a data set is divided and sampled: by the images' names and a seed alone, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from mpbench.data.data_set import LabelledImage, by_name

VALIDATION_SHARE = 0.2

MIN_IMAGES_PER_CLASS = 10
"""With fewer there is next to nothing to train on, and two images or less to judge on."""


def split(images: Sequence[LabelledImage], seed: int) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """Training and validation images, 80 to 20 in each class, by their names and the seed alone.

    Args:
        images: in any order, 2 or more of each class.

    Returns:
        Both sorted by name; each has every class.

    Raises:
        ValueError: a class has one image only.
    """
    training, validation = [], []
    for label, members in _by_class(images).items():
        if len(members) < 2:
            raise ValueError(f"class {label} has one image: it takes two to have one on each side")
        count = max(1, round(len(members) * VALIDATION_SHARE))
        shuffled = _shuffled(members, f"split {seed}")
        validation += shuffled[:count]
        training += shuffled[count:]
    return by_name(training), by_name(validation)


def sample(images: Sequence[LabelledImage], count: int, seed: int) -> tuple[LabelledImage, ...]:
    """Some of the images, in the same proportions of classes, by their names and the seed alone.

    Of a rare class MIN_IMAGES_PER_CLASS are kept, if it has as many, at the expense of the most frequent ones.

    Args:
        images: in any order.
        count: how many at most; at least MIN_IMAGES_PER_CLASS for each class.

    Returns:
        Sorted by name.
    """
    if count >= len(images):
        return by_name(images)
    classes = _by_class(images)
    quotas = {label: divmod(count * len(members), len(images)) for label, members in classes.items()}
    left = count - sum(whole for whole, _ in quotas.values())
    rounded_up = sorted(quotas, key=lambda label: (-quotas[label][1], label))[:left]
    sizes = {label: whole + (label in rounded_up) for label, (whole, _) in quotas.items()}
    for label in sorted(sizes):
        wanted = max(sizes[label], min(MIN_IMAGES_PER_CLASS, len(classes[label])))
        largest = max(sizes, key=lambda other: (sizes[other], -other))
        if largest != label and sizes[largest] - (wanted - sizes[label]) >= MIN_IMAGES_PER_CLASS:
            sizes[largest] -= wanted - sizes[label]
            sizes[label] = wanted
    for label in sorted(sizes):  # where the largest has too little to give alone
        while sizes[label] < min(MIN_IMAGES_PER_CLASS, len(classes[label])):
            largest = max(sizes, key=lambda other: (sizes[other], -other))
            if sizes[largest] <= MIN_IMAGES_PER_CLASS:
                break
            sizes[largest] -= 1
            sizes[label] += 1
    chosen: list[LabelledImage] = []
    for label, members in classes.items():
        chosen += _shuffled(members, f"sample {seed}")[: sizes[label]]
    return by_name(chosen)


def _by_class(images: Sequence[LabelledImage]) -> dict[int, list[LabelledImage]]:
    classes: dict[int, list[LabelledImage]] = defaultdict(list)
    for image in images:
        classes[image.label].append(image)
    return classes


def _shuffled(images: Sequence[LabelledImage], salt: str) -> list[LabelledImage]:
    """In an order that depends on the names and the salt alone, on every machine and in every version."""
    return sorted(images, key=lambda image: (hashlib.sha256(f"{salt} {image.name}".encode()).digest(), image.name))
