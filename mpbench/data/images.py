"""Image files to arrays: decoded the same way when they are checked and when they are used."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import stat
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mpbench.data.archives import MAX_IMAGE_BYTES, Progress, shown, throttled
from mpbench.data.source import MIN_IMAGES_PER_CLASS, DataSet, LabelledImage
from mpbench.errors import UsageProblem, described

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""By content, not by suffix. Pillow knows more, of which some start other programs."""

MAX_PIXELS = 80_000_000
"""Below the number from which Pillow warns of a decompression bomb."""

MAX_SIDE_PX = 20_000
MAX_JPEG_SCANS = 500
"""Usual are about 10. Every scan passes over the whole image: a small file could take hours."""

MAX_UNDECODABLE_SHARE = 0.10
AHEAD_BATCHES = 2
AHEAD_PER_WORKER = 8
LISTED_IMAGES = 3

JPEG_SCAN = b"\xff\xda"
_PILLOWS_MODULES = re.compile(r"PIL\b")

Item = TypeVar("Item")
Result = TypeVar("Result")


class UndecodableImage(ValueError):
    """A file that is no image that can be used: one line that says why."""


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


def decode(path: Path, size_px: int) -> NDArray[np.uint8]:
    """One image as Keras loads it: in RGB, bilinearly resized, its proportions not kept, the first frame of several.

    Args:
        size_px: height and width.

    Returns:
        Shape (size_px, size_px, 3).

    Raises:
        UndecodableImage: whatever is wrong with the file.
    """
    return _decoded(_read(path), size_px)


def check(data: DataSet, size_px: int, progress: Progress) -> Checked:
    """Read and decode every image once.

    Args:
        size_px: height and width that they will be decoded to.
        progress: called with how far it is every few seconds.

    Raises:
        UsageProblem: too many cannot be decoded, or too few of a class can.
    """
    say = throttled(progress)
    images, skipped, digests = [], [], {}
    ahead = AHEAD_PER_WORKER * _workers()
    with closing(_mapped(functools.partial(_examined, size_px=size_px), data.images, ahead)) as examined:
        for image, (digest, reason) in zip(data.images, examined, strict=True):
            if reason is None:
                images.append(image)
                digests[image.name] = digest
            else:
                skipped.append((image.name, reason))
            say(f"checking images: {len(images) + len(skipped)} of {len(data.images)}")
    if len(skipped) > MAX_UNDECODABLE_SHARE * len(data.images):
        some = ", ".join(f"{shown(name)} ({reason})" for name, reason in skipped[:LISTED_IMAGES])
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
) -> Generator[tuple[NDArray[np.uint8], int], None, None]:
    """Images in the given order, decoded by threads a few batches ahead; closing it stops them.

    Args:
        images: that can be decoded.
        size_px: height and width.
        batch_size: of every batch: the last one is filled up with zeros.

    Yields:
        A new array of shape (batch_size, size_px, size_px, 3), and how many of its images are real.

    Raises:
        UndecodableImage: a file is not what it was when it was checked.
    """
    work = functools.partial(_decoded_image, size_px=size_px)
    with closing(_mapped(work, images, AHEAD_BATCHES * batch_size)) as decoded:
        for start in range(0, len(images), batch_size):
            valid = min(batch_size, len(images) - start)
            batch = np.zeros((batch_size, size_px, size_px, 3), np.uint8)
            for i, pixels in enumerate(islice(decoded, valid)):
                batch[i] = pixels
            yield batch, valid


def _examined(image: LabelledImage, size_px: int) -> tuple[str, str | None]:
    """Digest of an image's file, and why it cannot be decoded."""
    digest = ""
    try:
        data = _read(image.path)
        digest = hashlib.sha256(data).hexdigest()
        _decoded(data, size_px)
    except UndecodableImage as error:
        return digest, str(error)
    return digest, None


def _decoded_image(image: LabelledImage, size_px: int) -> NDArray[np.uint8]:
    try:
        return decode(image.path, size_px)
    except UndecodableImage as error:
        raise UndecodableImage(f"{shown(image.name)}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UndecodableImage("not a file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise UndecodableImage(f"{status.st_size} bytes, more than {MAX_IMAGE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UndecodableImage(f"cannot be read: {error.strerror}") from error


def _decoded(data: bytes, size_px: int) -> NDArray[np.uint8]:
    if not data:
        raise UndecodableImage("empty file")
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
                raise UndecodableImage(
                    f"{width}x{height} pixels, more than {MAX_SIDE_PX} on a side or {MAX_PIXELS} in all"
                )
            if image.format in ("JPEG", "MPO") and data.count(JPEG_SCAN) > MAX_JPEG_SCANS:
                raise UndecodableImage(f"a JPEG file with more than {MAX_JPEG_SCANS} scans")
            image.load()
            resized = _in_rgb(image).resize((size_px, size_px), Image.Resampling.BILINEAR)
            return np.array(resized, dtype=np.uint8)
    except UndecodableImage:
        raise
    except UnidentifiedImageError as error:  # its text has an address, another one in each run
        raise UndecodableImage(f"not an image ({', '.join(FORMATS)}), or its beginning is damaged") from error
    except Exception as error:  # OSError, SyntaxError, struct.error, MemoryError, ...: Pillow's decoders raise anything
        raise UndecodableImage(shown(described(error))) from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip, to white mostly
        values = np.clip(np.asarray(image), 0, 0xFFFF) >> 8
        image = Image.fromarray(values.astype(np.uint8))
    return image.convert("RGB")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _silence_pillow() -> None:
    """No warnings from Pillow's modules about odd files, in whatever thread, and no errors where they are errors.

    `warnings.catch_warnings` would change and restore the filters of the whole process under the other threads' feet.
    """
    if list(warnings.filters[:1]) != [("ignore", None, Warning, _PILLOWS_MODULES, 0)]:
        warnings.filterwarnings("ignore", module=_PILLOWS_MODULES.pattern)


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
