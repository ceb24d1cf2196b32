"""One image file to pixels: the only decoder here, for checking images, for the input pipeline and for features alike.

The usual files, sound JPEGs in colour, are decoded by libjpeg-turbo (bit-equal to Pillow's decoder, without its copies)
and resized by a SIMD version of Pillow's bilinear filter (within RESIZED_TOLERANCE_LEVELS of it); both let go of the
interpreter's lock. Pillow does the rest: other formats, odd JPEGs, and whatever is damaged, to say why. What that gains
is in docs/pipeline.md.
"""

from __future__ import annotations

import functools
import io
import json
import re
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mpbench.data.archives import MAX_IMAGE_BYTES
from mpbench.errors import described, harmless
from mpbench.system import cache
from mpbench.system.machine import version_of

try:
    import cykooz_resizer
except ImportError:  # it has no wheels for Linux on ARM: Pillow resizes there
    cykooz_resizer = None

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""By content, not by suffix. Pillow knows more, of which some start other programs."""

MAX_PIXELS = 80_000_000
"""Below the number from which Pillow warns of a decompression bomb."""

MAX_SIDE_PX = 20_000
MAX_JPEG_SCANS = 500
MAX_SCANNED_PIXELS = 1_000_000_000
"""Usual are about 10 scans. Each passes over the whole image, in about 1 ns a pixel: a small file could take hours."""

MAX_JPEG_SEGMENTS = 10_000
MAX_HEADER_READS, MAX_READS = 20_000, 1_000_000
"""How often Pillow reads until it knows an image's size, and after that. A file of tiny pieces takes it a
second for each 2 MiB, a GIF of comments minutes; usual are below 1000, and 2 for each run of a run-length coded BMP."""

RESIZED_TOLERANCE_LEVELS = 1
"""Of 256: the most by which a value differs from Pillow's, whose filter rounds its weights otherwise."""

JPEG_START = b"\xff\xd8\xff"
MAX_KEPT_BYTES = 32 << 20
"""Of decoded pixels, in each thread: an image of 11 megapixels."""

SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
"""The start of a JPEG file's next segment, and its marker: padding, restart markers and other bytes are passed over."""

JPEG_SCAN, JPEG_END = 0xDA, 0xD9
SEQUENTIAL_FRAMES = (0xC0, 0xC1)

CHANNELS = 3
PACKAGES = ("pillow", "simplejpeg", "cykooz-resizer", "numpy")
_PILLOWS_MODULES = re.compile(r"PIL\b")

Pixels = NDArray[np.uint8]


class UndecodableImage(ValueError):
    """A file that cannot be used as an image: one line that says why."""


def read(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        UndecodableImage: it is not a file, too large for an image, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UndecodableImage("not a file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise UndecodableImage(f"{status.st_size} bytes, more than {MAX_IMAGE_BYTES}")
        with path.open("rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise UndecodableImage(f"cannot be read: {error.strerror}") from error


def decode(data: bytes, size_px: int) -> Pixels:
    """One image as Keras loads it: in RGB, bilinearly resized, its proportions not kept, the first frame of several.

    Args:
        data: a file's bytes.
        size_px: height and width.

    Returns:
        Shape (size_px, size_px, 3).

    Raises:
        UndecodableImage: whatever is wrong with the file.
    """
    pixels = np.empty((size_px, size_px, CHANNELS), np.uint8)
    decode_into(data, pixels)
    return pixels


def decode_into(data: bytes, out: Pixels) -> None:
    """As `decode`, to where the pixels shall lie.

    Args:
        out: shape (size, size, 3); left in any state where this raises.
    """
    if not data:
        raise UndecodableImage("empty file")
    try:
        if data.startswith(JPEG_START) and _quickly(data, out):
            return
        _silence_pillow()
        file = _Counted(data)
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            _check(width, height)
            if image.format in ("JPEG", "MPO"):
                _check_scans(data, width * height)
            file.left = MAX_READS
            image.load()
            out[:] = _resized_by_pillow(_in_rgb(image), out.shape[0])
    except UndecodableImage:
        raise
    except UnidentifiedImageError as error:  # its text has an address, another one in each run
        raise UndecodableImage(f"not an image ({', '.join(FORMATS)}), or its beginning is damaged") from error
    except Exception as error:  # OSError, SyntaxError, struct.error, MemoryError, ...: Pillow's decoders raise anything
        raise UndecodableImage(harmless(described(error))) from error


@functools.cache
def decoder_version() -> str:
    """All that pixels depend on apart from the file and their size, for keys of caches."""
    versions = {package: version_of(package) for package in PACKAGES}
    return json.dumps({"code": cache.sha256_of(Path(__file__)), **versions}, sort_keys=True)


def _check(width: int, height: int) -> None:
    """Refuse what would take too much memory, before it is decoded."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise UndecodableImage(f"{width}x{height} pixels, more than {MAX_SIDE_PX} on a side or {MAX_PIXELS} in all")


def _check_scans(jpeg: bytes, pixels: int) -> None:
    """Refuse what would take too much time: libjpeg decodes each scan, and walks over segments as this does."""
    at, scans, colours = 2, 0, 0
    for _ in range(MAX_JPEG_SEGMENTS):
        found = SEGMENT.search(jpeg, at)
        marker = found[1][0] if found else JPEG_END
        if found is None or marker == JPEG_END:
            return
        at = found.end()
        if marker in SEQUENTIAL_FRAMES:
            colours = int.from_bytes(jpeg[at + 7 : at + 8], "big")
        elif marker == JPEG_SCAN:
            if not scans and colours and colours == int.from_bytes(jpeg[at + 2 : at + 3], "big"):
                return  # sequential, with all its colours in one scan: libjpeg refuses another one
            scans += 1
            if scans > MAX_JPEG_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
                raise UndecodableImage(
                    f"a JPEG file of {scans} scans or more: valid are {MAX_JPEG_SCANS}, and {MAX_SCANNED_PIXELS} "
                    "pixels in all of them"
                )
        at += max(2, int.from_bytes(jpeg[at : at + 2], "big"))
    raise UndecodableImage(f"a JPEG file of more than {MAX_JPEG_SEGMENTS} segments")


class _Counted(io.BytesIO):
    """A file's bytes for Pillow, which may ask for them so many times."""

    left = MAX_HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise UndecodableImage("made of too many pieces")
        return super().read(size)


class _Own(threading.local):
    """What a thread keeps from one image to the next.

    New memory for each image would be given back and asked for again each time, and be cleared by the system page by
    page: a third of the time that an image takes.
    """

    def __init__(self) -> None:
        self.decoded: Pixels = np.empty(0, np.uint8)
        if cykooz_resizer is not None:
            self.resizer = cykooz_resizer.Resizer()
            bilinear = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)
            self.options = cykooz_resizer.ResizeOptions(bilinear)
            self.resized = cykooz_resizer.ImageData(1, 1, cykooz_resizer.PixelType.U8x3)


_own = _Own()


def _quickly(data: bytes, out: Pixels) -> bool:
    """Decode a whole and sound JPEG file in colour; False leaves it, and the verdict on it, to Pillow."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=True)
        if colours != "YCbCr":
            return False
        _check(width, height)
        _check_scans(data, width * height)
        size_bytes = height * width * CHANNELS
        if _own.decoded.size < size_bytes <= MAX_KEPT_BYTES:
            _own.decoded = np.empty(size_bytes, np.uint8)
        buffer = _own.decoded if size_bytes <= MAX_KEPT_BYTES else None
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True, buffer=buffer)
    except UndecodableImage:
        raise
    except ValueError:
        return False
    out[:] = pixels if pixels.shape == out.shape else _resized(pixels, out.shape[0])
    return True


def _resized(pixels: Pixels, size_px: int) -> Pixels:
    """By Pillow's bilinear filter (as wide as the reduction asks for), with SIMD instructions where they are to be had;
    valid until this thread's next call."""
    if cykooz_resizer is None:
        return _resized_by_pillow(Image.fromarray(pixels), size_px)
    colour = cykooz_resizer.PixelType.U8x3
    if _own.resized.width != size_px:
        _own.resized = cykooz_resizer.ImageData(size_px, size_px, colour)
    source = cykooz_resizer.ImageData(pixels.shape[1], pixels.shape[0], colour, pixels.tobytes())
    _own.resizer.resize(source, _own.resized, _own.options)
    return np.frombuffer(_own.resized.get_buffer(), np.uint8).reshape(size_px, size_px, CHANNELS)


def _resized_by_pillow(image: Image.Image, size_px: int) -> Pixels:
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR), dtype=np.uint8)


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip, to white mostly
        values = np.clip(np.asarray(image), 0, 0xFFFF) >> 8
        image = Image.fromarray(values.astype(np.uint8))
    return image.convert("RGB")


def _silence_pillow() -> None:
    """No warnings from Pillow's modules about odd files, in whatever thread, and no errors where they are errors.

    `warnings.catch_warnings` would change and restore the filters of the whole process under the other threads' feet.
    """
    if list(warnings.filters[:1]) != [("ignore", None, Warning, _PILLOWS_MODULES, 0)]:
        warnings.filterwarnings("ignore", module=_PILLOWS_MODULES.pattern)
