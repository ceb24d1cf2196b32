"""The images of `--mp-data` that are used: found, sampled, checked once, and divided into training and validation."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mpbench.config.profiles import SEED, THESIS_IMAGES
from mpbench.data import division, generated, location
from mpbench.data.data_set import DataSet, LabelledImage
from mpbench.data.decoding import UndecodableImage, decode, read
from mpbench.data.division import MIN_IMAGES_PER_CLASS
from mpbench.errors import UsageProblem, described, harmless
from mpbench.system import cache
from mpbench.system.machine import usable_cores
from mpbench.terminal import Progress, throttled

MAX_UNDECODABLE_SHARE = 0.10
CHECK_SECONDS, CHECK_SECONDS_PER_IMAGE = 60.0, 0.5
"""Of CPU time that checking a set may take; a photograph of 12 megapixels takes 0.1 s."""

NAMED_IMAGES = 3
LISTED_IMAGES = 20
"""Undecodable images named in the output; all of them are in a file that it names."""


@dataclass(frozen=True)
class Images:
    """What is trained and what is judged on.

    Attributes:
        label, classes: of the data set.
        all: those that can be decoded, in the data set's order, which is that of their features.
        training: whether each is a training image, shape (n,).
        labels: class numbers, shape (n,).
        digests: SHA-256 of each file by the image's name.
        skipped: number of images that cannot be decoded.
    """

    label: str
    classes: tuple[str, ...]
    all: tuple[LabelledImage, ...]
    training: NDArray[np.bool_]
    labels: NDArray[np.int64]
    digests: dict[str, str]
    skipped: int

    @property
    def digest(self) -> str:
        text = "\n".join(f"{image.name} {self.digests[image.name]}" for image in self.all)
        return hashlib.sha256(text.encode()).hexdigest()


def find_images(choice: str, count: int | None, progress: Progress) -> DataSet:
    """The images of `--mp-data` that are used, not looked into yet.

    Args:
        choice: the data's source.
        count: at most so many are used; None: all.

    Raises:
        UsageProblem: see `data.location.find`, or a class has too few.
    """
    try:
        if choice == "generated":
            return generated.data_set(count or THESIS_IMAGES, SEED, progress)
        data = location.find(choice, progress)
        progress(data.summary)
    except OSError as error:
        raise UsageProblem(
            f"--mp-data: {choice}: {described(error)}: use a cache folder with space (XDG_CACHE_HOME moves it)"
        ) from error
    _check_classes(data, data.images, "images")
    if count is None or count >= len(data.images):
        return data
    progress(f"{data.label}: {count} of {len(data.images)} images are used")
    return DataSet(data.label, data.classes, tuple(division.sample(data.images, count, SEED)))


def checked_images(data: DataSet, image_size_px: int, progress: Progress) -> Images:
    """The images of a data set that can be decoded, each of them tried, split into those to train and to judge on.

    Args:
        image_size_px: height and width that they are decoded to.
        progress: called with how far it is every few seconds, and with what is left out.

    Raises:
        UsageProblem: too many cannot be decoded, or too few of a class can, or it takes too long.
    """
    # Split before the undecodable ones are left out: whether one of them is must not move another to the other side.
    training = {image.name for image in division.split(data.images, SEED)[0]}
    digests, skipped = _decoded_once(data, image_size_px, progress)
    if len(skipped) > MAX_UNDECODABLE_SHARE * len(data.images):
        some = ", ".join(f"{harmless(name)} ({why})" for name, why in islice(skipped.items(), NAMED_IMAGES))
        raise UsageProblem(
            f"--mp-data: {harmless(data.label)}: {len(skipped)} of {len(data.images)} images cannot be decoded: "
            f"{some}: use a data set with {MAX_UNDECODABLE_SHARE:.0%} of such at most"
        )
    images = tuple(image for image in data.images if image.name in digests)
    _check_classes(data, images, "images that can be decoded")
    if skipped:
        _list_skipped(data.label, skipped, progress)
    if copies := len(digests) - len(set(digests.values())):
        progress(f"{data.label}: {copies} images are copies of others: answers to them are not independent")
    return Images(
        data.label,
        data.classes,
        images,
        np.array([image.name in training for image in images]),
        np.array([image.label for image in images], dtype=np.int64),
        digests,
        len(skipped),
    )


def _check_classes(data: DataSet, images: Iterable[LabelledImage], what: str) -> None:
    counts = Counter(image.label for image in images)
    for label, name in enumerate(data.classes):
        if counts[label] < MIN_IMAGES_PER_CLASS:
            raise UsageProblem(
                f"--mp-data: {harmless(data.label)}: class {harmless(name)} has {counts[label]} {what}: valid are "
                f"{MIN_IMAGES_PER_CLASS} or more of each class"
            )


def _decoded_once(data: DataSet, size_px: int, progress: Progress) -> tuple[dict[str, str], dict[str, str]]:
    """Read and decode every image once.

    Returns:
        SHA-256 of the file of each image that decodes, and why each of the others does not, by the images' names.
    """
    say = throttled(progress)
    digests: dict[str, str] = {}
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    taken, limit = 0.0, CHECK_SECONDS + CHECK_SECONDS_PER_IMAGE * len(data.images)
    pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="mpbench-images")
    try:
        examined = pool.map(functools.partial(_examined, size_px=size_px), data.images)
        for image, (digest, reason, seconds[image.name]) in zip(data.images, examined, strict=True):
            taken += seconds[image.name]
            if taken > limit:
                raise _too_slow(data, seconds)
            if reason is None:
                digests[image.name] = digest
            else:
                skipped[image.name] = reason
            say(f"checking images: {len(seconds)} of {len(data.images)}")
    finally:
        pool.shutdown(cancel_futures=True)
    return digests, skipped


def _examined(image: LabelledImage, size_px: int) -> tuple[str, str | None, float]:
    """Digest of an image's file, why it cannot be decoded, and the CPU time in seconds that both took."""
    digest, reason, start = "", None, time.thread_time()
    try:
        content = read(image.path)
        digest = hashlib.sha256(content).hexdigest()
        decode(content, size_px)
    except UndecodableImage as error:
        reason = str(error)
    return digest, reason, time.thread_time() - start


def _too_slow(data: DataSet, seconds: Mapping[str, float]) -> UsageProblem:
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:NAMED_IMAGES]
    some = ", ".join(f"{harmless(name)} {seconds[name]:.1f} s" for name in slowest)
    return UsageProblem(
        f"--mp-data: {harmless(data.label)}: decoding {len(seconds)} of {len(data.images)} images took "
        f"{sum(seconds.values()):.0f} s ({some}): valid are {CHECK_SECONDS_PER_IMAGE:g} s an image"
    )


def _list_skipped(label: str, skipped: Mapping[str, str], progress: Progress) -> None:
    progress(f"{label}: {len(skipped)} images cannot be decoded and are left out:")
    for name, reason in islice(skipped.items(), LISTED_IMAGES):
        progress(f"  {harmless(name)}: {reason}")
    if len(skipped) > LISTED_IMAGES:
        text = "".join(f"{harmless(name)}\t{reason}\n" for name, reason in skipped.items())
        names = cache.folder("skipped") / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
        with cache.publish(names) as partial:
            partial.write_text(text, encoding="utf-8")
        progress(f"  and {len(skipped) - LISTED_IMAGES} more: all of them are in {names}")
