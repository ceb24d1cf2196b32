"""Batches of images from threads that work a bounded number of batches ahead; it can be stopped while others are timed.

What an image's pixels are is a Source's business: files here, decoded images kept in memory or on disk in `kept.py`.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpbench.config.profiles import DEFAULT_WORKERS
from mpbench.data import decoding
from mpbench.data.data_set import LabelledImage
from mpbench.data.decoding import CHANNELS, Pixels, UndecodableImage
from mpbench.errors import harmless
from mpbench.system.machine import usable_cores

AHEAD_BATCHES = 2
FILES_AT_ONCE = 8
"""Read, then decoded by one thread without a hand-over: those cost, with 8 threads on 2 cores, a sixth of the rate."""

THREAD_NAME = "mpbench-images"
_ALONE = 2
"""What sys.getrefcount says of an array in a list that nobody else holds."""

Indices = NDArray[np.int64]


class Source(Protocol):
    """Images that can be had by their number.

    Attributes:
        labels: class of each; their number is that of the images.
        size_px: height and width of all.
        cache: where they come from decoded: `none`, `memory` or `disk`.
        at_once: how many images one thread fetches before it looks for the next task; None for a whole batch.
    """

    labels: Indices
    size_px: int
    cache: str
    at_once: int | None

    def fetch(self, indices: Indices, out: Pixels) -> None:
        """Write the images with these numbers to `out`, shape (len(indices), size_px, size_px, 3)."""


class Files:
    """Image files, read and decoded each time.

    Args:
        images: in the order of their numbers.
        size_px: height and width that they are resized to.
    """

    cache = "none"
    at_once: int | None = FILES_AT_ONCE

    def __init__(self, images: Sequence[LabelledImage], size_px: int) -> None:
        self.images = images
        self.size_px = size_px
        self.labels: Indices = np.array([image.label for image in images], np.int64)
        # Reading waits, so all threads may; decoding computes, and many more threads than cores would push each other
        # out of the caches and queue for the interpreter's lock. One more, so that no core waits for a hand-over.
        self._slots = threading.BoundedSemaphore(usable_cores() + 1)

    def fetch(self, indices: Indices, out: Pixels) -> None:
        """See Source; raises UndecodableImage with the image's name."""
        index, files = 0, []
        try:
            for index in indices:
                files.append(decoding.read(self.images[index].path))
            with self._slots:
                for index, data, pixels in zip(indices, files, out, strict=True):  # noqa: B007  # in the error
                    decoding.decode_into(data, pixels)
        except UndecodableImage as error:
            raise UndecodableImage(f"{harmless(self.images[index].name)}: {error}") from error


@dataclass(frozen=True)
class Batch:
    """Images and their classes.

    Attributes:
        pixels: shape (batch, size, size, 3); zeros beyond `valid`. Its memory is used again once nobody holds it.
        labels: shape (valid,).
        valid: how many are images: fewer than the batch only at the end of a loader that has one.
    """

    pixels: Pixels
    labels: Indices
    valid: int


@dataclass
class _Job:
    """A batch in the making.

    Attributes:
        parts: what one thread fetches at a time: the numbers of its images, and the rows of the batch for them.
        fetched: what becomes of each part.
    """

    indices: Indices
    pixels: Pixels
    parts: list[tuple[Indices, Pixels]]
    fetched: list[Future[None]]


class Loader:
    """An iterator of batches; a context manager that stops its threads. It is used by one thread.

    Args:
        source: of the images.
        batch_size: images.
        workers: threads.
        ahead: batches that may be finished or in the making and not taken.
        seed: of the order, another one in each epoch; None for the order of the source.
        endless: epochs follow one another, batches go on over their ends and are always full. Otherwise one epoch,
            whose last batch is filled up with zeros.
        paused: starts no work until `resume`.
        label: what tables call the images.

    Raises:
        Exception: from `next`, what the source raised for an image of that batch; the loader is then closed.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        workers: int = DEFAULT_WORKERS,
        ahead: int = AHEAD_BATCHES,
        seed: int | None = None,
        endless: bool = True,
        paused: bool = False,
        label: str = "",
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.workers = workers
        self.ahead = ahead
        self.endless = endless
        self.label = label
        self._buffers = _Buffers((batch_size, source.size_px, source.size_px, CHANNELS), ahead + 1)
        self._orders = _orders(len(source.labels), batch_size, seed, endless)
        self._jobs: deque[_Job] = deque()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=THREAD_NAME)
        self._paused = paused
        self._begin()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch, as soon as it is whole; while paused, only one that was whole before."""
        if not self._jobs:
            raise StopIteration
        try:
            for part in self._jobs[0].fetched:
                part.result()
        except Exception:
            self.close()
            raise
        job = self._jobs.popleft()
        self._begin()
        return Batch(job.pixels, self.source.labels[job.indices], len(job.indices))

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ready(self) -> int:
        """How many of the next batches are whole."""
        whole = (all(part.done() and not part.cancelled() for part in job.fetched) for job in self._jobs)
        return sum(takewhile(bool, whole))

    def pause(self) -> None:
        """Start no other image; returns when those that were in the making are done and the threads take no CPU."""
        self._paused = True
        wait([part for job in self._jobs for part in job.fetched if not part.cancel()])

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self._paused = False
        for job in self._jobs:
            job.fetched = [
                self._fetch(part) if fetched.cancelled() else fetched
                for part, fetched in zip(job.parts, job.fetched, strict=True)
            ]
        self._begin()

    def close(self) -> None:
        """Stop the threads, whatever they were about to do; `next` then ends."""
        self._jobs.clear()
        self._orders = iter(())
        self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        """Have as many batches in the making as may be."""
        while not self._paused and len(self._jobs) < self.ahead:
            indices = next(self._orders, None)
            if indices is None:
                return
            pixels = self._buffers.take()
            pixels[len(indices) :] = 0
            size = self.source.at_once or len(indices)
            rows = pixels[: len(indices)]
            parts = [(indices[i : i + size], rows[i : i + size]) for i in range(0, len(indices), size)]
            self._jobs.append(_Job(indices, pixels, parts, [self._fetch(part) for part in parts]))

    def _fetch(self, part: tuple[Indices, Pixels]) -> Future[None]:
        return self._pool.submit(self.source.fetch, *part)


class _Buffers:
    """Memory of batches, used again when nobody holds the batch, or a part of it, any more.

    TensorFlow may compute on a NumPy array's own memory, so that a batch can be in use long after it was taken.
    """

    def __init__(self, shape: tuple[int, ...], keep: int) -> None:
        self._shape = shape
        self._keep = keep
        self._kept: list[Pixels] = []

    def take(self) -> Pixels:
        for i in range(len(self._kept)):
            if sys.getrefcount(self._kept[i]) == _ALONE:
                return self._kept[i]
        pixels = np.empty(self._shape, np.uint8)
        if len(self._kept) < self._keep:
            self._kept.append(pixels)
        return pixels


def _orders(count: int, batch_size: int, seed: int | None, endless: bool) -> Iterator[Indices]:
    """Numbers of the images of each batch."""
    left = np.empty(0, np.int64)
    epoch = 0
    while count:
        order = np.arange(count) if seed is None else np.random.default_rng([seed, epoch]).permutation(count)
        left = np.concatenate([left, order])
        epoch += 1
        while len(left) >= batch_size:
            yield left[:batch_size]
            left = left[batch_size:]
        if not endless:
            break
    if len(left):
        yield left
