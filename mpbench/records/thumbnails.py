"""A few images on which two models disagree, small, as text in a record: made, checked and read back.

A file's text is not trusted: what is not such a text, or is larger than this module makes them, is refused.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

MAX_IMAGES = 4
SIDE_PX, MAX_READ_PX = 96, 256
"""Side of an image as it is made, and the largest side that is accepted."""

QUALITY = 70
MAX_JPEG_BYTES = 32 * 2**10
"""A thumbnail takes some 3 KiB."""

MAX_SAVED_CHARACTERS = 256 * 2**10
MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True)
class Thumbnail:
    """One image.

    Attributes:
        name: in its data set.
        label: name of its class.
        right: the precision that was right about it; the other one was wrong.
        jpeg: its bytes.
    """

    name: str
    label: str
    right: str
    jpeg: bytes


def chosen(baseline_right: NDArray[np.bool_], precision_right: NDArray[np.bool_]) -> list[int]:
    """Which images are shown: the first on which the two disagree, as many of either kind as there are.

    Args:
        baseline_right, precision_right: whether each answered an image rightly, shape (n,).

    Returns:
        At most MAX_IMAGES indices, in order.
    """
    kinds = [np.flatnonzero(baseline_right & ~precision_right), np.flatnonzero(precision_right & ~baseline_right)]
    half = MAX_IMAGES // 2
    first = min(len(kinds[0]), max(half, MAX_IMAGES - len(kinds[1])))
    return sorted(int(i) for i in (*kinds[0][:first], *kinds[1][: MAX_IMAGES - first]))


def jpeg_of(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels of shape (height, width, 3) as JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def as_text(thumbnails: Sequence[Thumbnail]) -> str:
    """Images for a record's field; empty without any."""
    if not thumbnails:
        return ""
    return json.dumps(
        [
            asdict(one)
            | {
                "name": one.name[-MAX_NAME_CHARACTERS:],
                "label": one.label[:MAX_NAME_CHARACTERS],
                "jpeg": base64.b64encode(one.jpeg).decode("ascii"),
            }
            for one in thumbnails
        ]
    )


def from_text(text: str) -> tuple[Thumbnail, ...]:
    """The images in a record's field.

    Raises:
        ValueError: `as_text` cannot have written it; says why in one line, without the field's name.
    """
    if not text:
        return ()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("no JSON: must be a list of images") from None
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_IMAGES:
        raise ValueError(f"must be a list of 1 to {MAX_IMAGES} images")
    return tuple(_thumbnail(entry, f"image {i}") for i, entry in enumerate(entries, 1))


def _thumbnail(entry: object, which: str) -> Thumbnail:
    names = ("name", "label", "right", "jpeg")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in names):
        raise ValueError(f"{which}: must be an object with the texts {', '.join(names)}")
    for name in names[:-1]:
        if len(entry[name]) > MAX_NAME_CHARACTERS:
            raise ValueError(f"{which}: {name}: must be of {MAX_NAME_CHARACTERS} characters at most")
    try:
        jpeg = base64.b64decode(entry["jpeg"], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{which}: jpeg: must be base64") from None
    if len(jpeg) > MAX_JPEG_BYTES:
        raise ValueError(f"{which}: jpeg: {len(jpeg)} bytes: must be {MAX_JPEG_BYTES} at most")
    _check_jpeg(jpeg, which)
    return Thumbnail(entry["name"], entry["label"], entry["right"], jpeg)


def _check_jpeg(jpeg: bytes, which: str) -> None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            size = image.size
            if max(size) <= MAX_READ_PX:
                image.load()
    except Exception as error:  # Pillow raises anything on what is damaged
        raise ValueError(f"{which}: jpeg: cannot be decoded: {type(error).__name__}") from None
    if max(size) > MAX_READ_PX:
        raise ValueError(f"{which}: jpeg: {size[0]}x{size[1]} px: must be {MAX_READ_PX} at most")
