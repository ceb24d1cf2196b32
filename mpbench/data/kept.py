"""Decoded images of a set that fits, in memory or in a file: a Source that copies where the files' one decodes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mpbench.config.profiles import DEFAULT_WORKERS
from mpbench.data.data_set import LabelledImage
from mpbench.data.decoding import CHANNELS, Pixels, decoder_version, read
from mpbench.data.loader import Files, Indices, Loader, Source
from mpbench.errors import UsageProblem, reason
from mpbench.system import cache, machine
from mpbench.terminal import Progress, throttled

MEMORY_SHARE = 0.5
"""Of the memory that is free; the rest is for models, batches and everybody else."""

DISK_RESERVE_BYTES = 1 << 30
"""Left free on the disk."""

FILL_BATCH = 32
GIB = 1 << 30


class Kept:
    """Decoded images in an array.

    Args:
        pixels: shape (images, size, size, 3).
        labels: class of each.
        where: it lies: `memory` or `disk`.
    """

    at_once: int | None = None

    def __init__(self, pixels: Pixels, labels: Indices, where: str) -> None:
        self.cache = where
        self.pixels = pixels
        self.labels = labels
        self.size_px = pixels.shape[1]

    def fetch(self, indices: Indices, out: Pixels) -> None:
        """See Source."""
        np.take(self.pixels, indices, axis=0, out=out, mode="clip")  # other modes write to a copy of `out` first


def source(
    images: Sequence[LabelledImage],
    size_px: int,
    kind: str,
    digests: Mapping[str, str],
    progress: Progress,
    workers: int = DEFAULT_WORKERS,
) -> Source:
    """Images as a loader takes them, decoded once beforehand where they are to be kept.

    Args:
        images: that can be decoded.
        size_px: height and width.
        kind: `none`, `memory` or `disk`. `disk` keeps them in mpbench's cache for later sessions too.
        digests: SHA-256 of each image's file, by its name; of files that are missing there it is computed.
        progress: called with how far it is every few seconds.
        workers: threads that decode.

    Raises:
        UsageProblem: they do not fit; before anything is decoded.
        UndecodableImage: an image is not what it was when it was checked.
    """
    files = Files(images, size_px)
    if kind == "none":
        return files
    shape = (len(images), size_px, size_px, CHANNELS)
    size_bytes = int(np.prod(shape))
    what = f"--mp-cache {kind}: {len(images)} images of {size_px} px take {size_bytes / GIB:.2f} GiB"
    if kind == "memory":
        free = _free_memory_bytes()
        if size_bytes > MEMORY_SHARE * free:
            raise UsageProblem(
                f"{what}, more than {MEMORY_SHARE:.0%} of the {free / GIB:.2f} GiB of memory that are free: "
                "use disk, none or a smaller data set"
            )
        pixels = np.empty(shape, np.uint8)
        done = 0
        for batch in _decoded(files, workers, progress):
            pixels[done : done + len(batch)] = batch
            done += len(batch)
        return Kept(pixels, files.labels, kind)
    entry = cache.folder("decoded") / f"{_key(images, size_px, digests)}.npy"
    kept = _opened(entry, shape)
    if kept is not None:
        progress(f"{len(images)} decoded images from the cache")
        return Kept(kept, files.labels, kind)
    free = shutil.disk_usage(entry.parent).free
    if size_bytes + DISK_RESERVE_BYTES > free:
        raise UsageProblem(
            f"{what}, and {max(free - DISK_RESERVE_BYTES, 0) / GIB:.2f} GiB of disk can be had in {entry.parent}: "
            "use memory, none or a smaller data set"
        )
    try:
        with cache.publish(entry) as partial, partial.open("wb") as file:
            # Written, not mapped: a full disk under a map ends the process.
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for batch in _decoded(files, workers, progress):
                file.write(batch.data)
    except OSError as error:
        raise UsageProblem(
            f"{what}, and writing them to {entry.parent} failed ({reason(error)}): use memory, none or a "
            "smaller data set"
        ) from error
    return Kept(np.asarray(np.load(entry, mmap_mode="r")), files.labels, kind)


def _decoded(files: Files, workers: int, progress: Progress) -> Iterator[Pixels]:
    """The images in their order, some at a time; each array is valid until the next."""
    say = throttled(progress)
    done, total = 0, len(files.labels)
    with Loader(files, FILL_BATCH, workers=workers, endless=False) as loader:
        for batch in loader:
            yield batch.pixels[: batch.valid]
            done += batch.valid
            say(f"decoding images: {done} of {total}")


def _opened(entry: Path, shape: tuple[int, ...]) -> Pixels | None:
    """A file of the cache, mapped; None where there is none, or it is not whole."""
    try:
        pixels = np.load(entry, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return np.asarray(pixels) if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _key(images: Sequence[LabelledImage], size_px: int, digests: Mapping[str, str]) -> str:
    parts = {
        "size_px": size_px,
        "decoder": decoder_version(),
        "images": [digests.get(image.name) or hashlib.sha256(read(image.path)).hexdigest() for image in images],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _free_memory_bytes() -> int:
    """All of the memory where nothing says how much is free."""
    free = machine.free_memory_bytes()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free
