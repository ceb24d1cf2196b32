"""A data set's images: checked once, so that a session knows what it has, and given in batches."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mpbench.config.profiles import SEED, THESIS_IMAGES
from mpbench.data import decoding, division, generated, location
from mpbench.data.archives import Progress, shown, throttled
from mpbench.data.decoding import Pixels, UndecodableImage
from mpbench.data.division import MIN_IMAGES_PER_CLASS
from mpbench.data.loader import Files, Loader
from mpbench.data.source import DataSet, LabelledImage
from mpbench.errors import UsageProblem, described
from mpbench.system import cache

MAX_UNDECODABLE_SHARE = 0.10
CHECK_SECONDS, CHECK_SECONDS_PER_IMAGE = 60.0, 0.5
"""Of CPU time that checking a set may take; a photograph of 12 megapixels takes 0.1 s."""

AHEAD_PER_WORKER = 8
NAMED_IMAGES = 3

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Checked:
    """What a data set is worth.

    Attributes:
        images: those that decode, in the data set's order.
        skipped: name and reason of each of the others.
        digests: SHA-256 of the file of each image that decodes, by its name.
    """

    images: tuple[LabelledImage, ...]
    skipped: tuple[tuple[str, str], ...]
    digests: dict[str, str]


def check(data: DataSet, size_px: int, progress: Progress) -> Checked:
    """Read and decode every image once.

    Args:
        size_px: height and width that they will be decoded to.
        progress: called with how far it is every few seconds.

    Raises:
        UsageProblem: too many cannot be decoded, or too few of a class can, or it takes too long.
    """
    say = throttled(progress)
    images, skipped, digests = [], [], {}
    seconds: dict[str, float] = {}
    limit = CHECK_SECONDS + CHECK_SECONDS_PER_IMAGE * len(data.images)
    taken = 0.0
    ahead = AHEAD_PER_WORKER * _workers()
    with closing(_mapped(functools.partial(_examined, size_px=size_px), data.images, ahead)) as examined:
        for image, (digest, reason, seconds[image.name]) in zip(data.images, examined, strict=True):
            taken += seconds[image.name]
            if taken > limit:
                raise _too_slow(data, seconds)
            if reason is None:
                images.append(image)
                digests[image.name] = digest
            else:
                skipped.append((image.name, reason))
            say(f"checking images: {len(images) + len(skipped)} of {len(data.images)}")
    if len(skipped) > MAX_UNDECODABLE_SHARE * len(data.images):
        some = ", ".join(f"{shown(name)} ({reason})" for name, reason in skipped[:NAMED_IMAGES])
        raise UsageProblem(
            f"--mp-data: {shown(data.label)}: {len(skipped)} of {len(data.images)} images cannot be decoded: {some}: "
            f"valid is a data set with {MAX_UNDECODABLE_SHARE:.0%} of such at most"
        )
    counts = Counter(image.label for image in images)
    for label, name in enumerate(data.classes):
        if counts[label] < MIN_IMAGES_PER_CLASS:
            raise UsageProblem(
                f"--mp-data: {shown(data.label)}: class {shown(name)} has {counts[label]} images that can be decoded: "
                f"valid are {MIN_IMAGES_PER_CLASS} or more of each class"
            )
    return Checked(tuple(images), tuple(skipped), digests)


def batches(
    images: Sequence[LabelledImage], size_px: int, batch_size: int
) -> Generator[tuple[Pixels, int], None, None]:
    """Images in the given order, decoded by threads a few batches ahead; closing it stops them.

    Args:
        images: that can be decoded.
        size_px: height and width.
        batch_size: of every batch: the last one is filled up with zeros.

    Yields:
        An array of shape (batch_size, size_px, size_px, 3), and how many of its images are real.

    Raises:
        UndecodableImage: a file is not what it was when it was checked.
    """
    with Loader(Files(images, size_px), batch_size, workers=_workers(), endless=False) as loader:
        for batch in loader:
            yield batch.pixels, batch.valid


def _too_slow(data: DataSet, seconds: Mapping[str, float]) -> UsageProblem:
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:NAMED_IMAGES]
    some = ", ".join(f"{shown(name)} {seconds[name]:.1f} s" for name in slowest)
    return UsageProblem(
        f"--mp-data: {shown(data.label)}: decoding {len(seconds)} of {len(data.images)} images took "
        f"{sum(seconds.values()):.0f} s ({some}): valid are {CHECK_SECONDS_PER_IMAGE:g} s an image"
    )


def _examined(image: LabelledImage, size_px: int) -> tuple[str, str | None, float]:
    """Digest of an image's file, why it cannot be decoded, and the CPU time in seconds that both took."""
    digest, reason, start = "", None, time.thread_time()
    try:
        data = decoding.read(image.path)
        digest = hashlib.sha256(data).hexdigest()
        decoding.decoded(data, size_px)
    except UndecodableImage as error:
        reason = str(error)
    return digest, reason, time.thread_time() - start


def _workers() -> int:
    return os.cpu_count() or 1


def _mapped(work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Generator[Result, None, None]:
    """Results in the items' order, from threads that are at most so many items ahead; closing it stops them."""
    rest = iter(items)
    pool = ThreadPoolExecutor(_workers(), thread_name_prefix="mpbench-images")
    try:
        pending: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(rest, max(1, ahead)))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


LISTED_IMAGES = 20
"""Undecodable images named in the output; all of them are in a file that it names."""


@dataclass(frozen=True)
class Images:
    """What is trained and what is judged on.

    Attributes:
        label, classes: of the data set.
        all: those used, in the order of their features.
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
        UsageProblem: see `data.location.find`.
    """
    try:
        if choice == "generated":
            return generated.data_set(count or THESIS_IMAGES, SEED, progress)
        data = location.find(choice, progress)
        progress(data.summary)
    except OSError as error:
        raise UsageProblem(
            f"--mp-data: {choice}: {described(error)}: valid is a cache folder with space (XDG_CACHE_HOME moves it)"
        ) from error
    counts = Counter(image.label for image in data.images)
    for label, name in enumerate(data.classes):
        if counts[label] < MIN_IMAGES_PER_CLASS:
            raise UsageProblem(
                f"--mp-data: {shown(data.label)}: class {shown(name)} has {counts[label]} images: valid are "
                f"{MIN_IMAGES_PER_CLASS} or more of each class"
            )
    if count is None or count >= len(data.images):
        return data
    progress(f"{data.label}: {count} of {len(data.images)} images are used")
    return DataSet(data.label, data.classes, tuple(division.sample(data.images, count, SEED)))


def checked_images(data: DataSet, image_size_px: int, progress: Progress) -> Images:
    """The images of a data set that can be decoded to that size, split into those to train and those to judge on.

    Raises:
        UsageProblem: see `data.images.check`.
    """
    # Split before the undecodable ones are left out: whether one of them is must not move another to the other side.
    training = {image.name for image in division.split(data.images, SEED)[0]}
    checked = check(data, image_size_px, progress)
    if checked.skipped:
        _list_skipped(data.label, checked.skipped, progress)
    copies = len(checked.digests) - len(set(checked.digests.values()))
    if copies:
        progress(f"{data.label}: {copies} images are copies of others: answers to them are not independent")
    return Images(
        data.label,
        data.classes,
        checked.images,
        np.array([image.name in training for image in checked.images]),
        np.array([image.label for image in checked.images], dtype=np.int64),
        checked.digests,
        len(checked.skipped),
    )


def _list_skipped(label: str, skipped: Sequence[tuple[str, str]], progress: Progress) -> None:
    progress(f"{label}: {len(skipped)} images cannot be decoded and are left out:")
    for name, reason in skipped[:LISTED_IMAGES]:
        progress(f"  {shown(name)}: {reason}")
    if len(skipped) > LISTED_IMAGES:
        text = "".join(f"{shown(name)}\t{reason}\n" for name, reason in skipped)
        names = cache.folder("skipped") / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
        with cache.publish(names) as partial:
            partial.write_text(text, encoding="utf-8")
        progress(f"  and {len(skipped) - LISTED_IMAGES} more: all of them are in {names}")
