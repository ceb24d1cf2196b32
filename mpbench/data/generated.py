"""Pictures of cats and dogs that the project draws itself, so that the accuracy experiment runs without a download.

Only whole numbers reach Pillow, and of its operations only those that compute in whole numbers and have not changed
from version 10 to 13 (its polygons have, so outlines are filled here): the same seed gives the same bytes on every
machine. What a class has of its own is shape (ears, muzzle, tail) and coat (cats are mostly
striped, dogs mostly patched); colours, sizes, poses and backgrounds are drawn alike for both.
"""

from __future__ import annotations

import io
import math
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mpbench.data.data_set import DataSet, LabelledImage, by_name
from mpbench.system import cache
from mpbench.terminal import Progress, throttled

CLASSES = ("cat", "dog")
VERSION = 1
"""To be raised with every change of what is drawn: pictures of another version must not be taken from a cache."""

ODD_COAT_SHARE = 0.08
"""Share of animals in the other class's coat: no single cue decides."""

JPEG_QUALITY = 90
Colour = tuple[int, int, int]
Point = tuple[int, int]
Outline = Sequence[tuple[float, float]]

COATS: tuple[Colour, ...] = (
    (35, 32, 30), (95, 90, 88), (160, 155, 150), (225, 220, 210), (200, 130, 60), (140, 85, 45), (220, 180, 130),
)  # fmt: skip
"""Black, greys, cream, ginger, brown, fawn."""

SCENES: tuple[Colour, ...] = (
    (110, 150, 80), (150, 190, 225), (190, 175, 150), (120, 95, 75), (170, 170, 170), (205, 190, 205), (90, 110, 130),
)  # fmt: skip
"""Grass, sky, sand, earth, concrete, wallpaper, dusk."""


def data_set(count: int, seed: int, progress: Progress) -> DataSet:
    """A set of pictures, half of each class, drawn where the cache does not hold it yet.

    Args:
        count: of pictures, an even number.
        seed: of the whole set; a picture does not depend on how many there are.
        progress: called now and then with how far it is.
    """
    names = {f"{kind}.{i}.jpg": (kind, i) for i in range(count // len(CLASSES)) for kind in CLASSES}
    folder = cache.folder("generated") / f"v{VERSION}-seed{seed}-{count}"
    if folder.is_dir() and {path.name for path in folder.iterdir()} != set(names):
        shutil.rmtree(folder)  # somebody has tidied up in it
    if not folder.is_dir():
        say = throttled(progress)
        with cache.publish(folder) as partial:
            partial.mkdir()
            for done, (name, (kind, i)) in enumerate(names.items()):
                (partial / name).write_bytes(picture(kind, i, seed))
                say(f"drawing pictures: {done + 1} of {count}")
    images = [LabelledImage(name, folder / name, CLASSES.index(kind)) for name, (kind, _) in names.items()]
    return DataSet("generated pictures", CLASSES, by_name(images))


def picture(kind: str, index: int, seed: int) -> bytes:
    """One picture as the bytes of a JPEG file, about 500x375 pixels.

    Args:
        kind: one of CLASSES.
        index: number of the picture in its class.
        seed: of the whole set.
    """
    image = _Sketch(kind, random.Random(f"{seed} {kind} {index}")).draw()
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


@dataclass(frozen=True)
class _Frame:
    """Where a body part lies: its own coordinates, in thousandths of the animal's size, to whole pixels."""

    x: float
    y: float
    size: float
    angle: float
    mirrored: bool

    def at(self, x: float, y: float) -> Point:
        x = -x if self.mirrored else x
        turned_x = x * math.cos(self.angle) - y * math.sin(self.angle)
        turned_y = x * math.sin(self.angle) + y * math.cos(self.angle)
        return round(self.x + self.size * turned_x / 1000), round(self.y + self.size * turned_y / 1000)

    def path(self, points: Iterable[tuple[float, float]]) -> list[Point]:
        return [self.at(x, y) for x, y in points]

    def width(self, thousandths: float) -> int:
        return max(1, round(self.size * thousandths / 1000))


def _oval(x: float, y: float, half_width: float, half_height: float, lean: float = 0.0) -> Outline:
    corners = 28
    points = []
    for i in range(corners):
        turn = 2 * math.pi * i / corners
        dx, dy = half_width * math.cos(turn), half_height * math.sin(turn)
        points.append((x + dx * math.cos(lean) - dy * math.sin(lean), y + dx * math.sin(lean) + dy * math.cos(lean)))
    return points


def _byte(value: int) -> int:
    return min(255, max(0, value))


def _bounds(outline: Outline) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    return min(xs), min(ys), max(xs), max(ys)


def _filled(path: list[Point], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Which pixels of a box (left, top, right, bottom) lie inside a closed path, by the even-odd rule."""
    left, top, right, bottom = box
    inside = np.zeros((bottom - top, right - left), dtype=bool)
    columns = np.arange(left, right)
    for (x0, y0), (x1, y1) in zip(path, path[1:] + path[:1], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(y0, top), min(y1, bottom))
        if rows.size:
            crossings = x0 + (rows - y0) * (x1 - x0) // (y1 - y0)
            inside[rows - top] ^= columns < crossings[:, None]
    return inside


class _Sketch:
    """One animal on its background."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        self._rng = rng
        self._cat = kind == "cat"
        size = self._whole(430, 500), self._whole(320, 380)
        self._image = Image.new("RGB", size)
        self._pen = ImageDraw.Draw(self._image)
        self._coat = self._near(COATS)
        self._marks = self._apart_from(self._coat)
        striped = self._cat != (rng.random() < ODD_COAT_SHARE)
        self._fur = self._stripes if striped else self._patches
        self._frame = _Frame(
            x=size[0] * self._between(0.38, 0.62),
            y=size[1] * self._between(0.45, 0.6),
            size=size[1] * self._between(0.95, 1.35),
            angle=self._between(-0.25, 0.25),
            mirrored=rng.random() < 0.5,
        )

    def draw(self) -> Image.Image:
        self._background()
        self._tail()
        self._body()
        self._head()
        self._clutter(self._whole(0, 2))
        self._grain()
        return self._image

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self._rng.random()

    def _whole(self, low: int, high: int) -> int:
        return low + int(self._rng.random() * (high + 1 - low))

    def _colour(self) -> Colour:
        return self._whole(20, 235), self._whole(20, 235), self._whole(20, 235)

    def _near(self, colours: tuple[Colour, ...]) -> Colour:
        """One of them, a little off."""
        red, green, blue = colours[self._whole(0, len(colours) - 1)]
        light = self._whole(-20, 20)
        return _byte(red + light), _byte(green + light), _byte(blue + light + self._whole(-10, 10))

    def _apart_from(self, colour: Colour) -> Colour:
        """A darker or lighter shade of it."""
        shift = self._whole(75, 110) * (1 if sum(colour) < 3 * 128 else -1)
        red, green, blue = colour
        return _byte(red + shift), _byte(green + shift), _byte(blue + shift)

    def _background(self) -> None:
        width, height = self._image.size
        top, bottom, horizon = self._near(SCENES), self._near(SCENES), self._whole(height // 3, height)
        self._pen.rectangle((0, 0, width, horizon), fill=top)
        self._pen.rectangle((0, horizon, width, height), fill=bottom)
        if self._rng.random() < 0.3:  # a fence, wallpaper or planks: stripes that are not fur
            step, colour = self._whole(25, 70), self._apart_from(top)
            for x in range(self._whole(0, step), width, step):
                self._pen.line((x, 0, x + self._whole(-6, 6), horizon), fill=colour, width=self._whole(2, 8))
        self._clutter(self._whole(1, 6))

    def _clutter(self, count: int) -> None:
        width, height = self._image.size
        for _ in range(count):
            x, y, half = self._whole(0, width), self._whole(0, height), self._whole(6, 45)
            box = (x - half, y - half, x + half, y + self._whole(5, 60))
            if self._rng.random() < 0.5:
                self._pen.ellipse(box, fill=self._colour())
            else:
                self._pen.rectangle(box, fill=self._colour())

    def _fill(self, outline: Outline, colour: Colour, inside: Outline | None = None) -> None:
        """Fill an outline, or the part of it that lies inside another one."""
        path = self._frame.path(outline)
        xs, ys = [x for x, _ in path], [y for _, y in path]
        width, height = self._image.size
        box = max(0, min(xs)), max(0, min(ys)), min(width, max(xs)), min(height, max(ys))
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        mask = _filled(path, box)
        if inside is not None:
            mask &= _filled(self._frame.path(inside), box)
        self._image.paste(colour, box, Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))))

    def _tail(self) -> None:
        up = self._between(-330, -60)
        if self._cat:
            bend = [(-260, 250), (-400, 200), (-450, up), (-380, up - 90)]
            width = 45
        else:
            bend = [(-260, 200), (-400, up + 120)]
            width = 70
        self._pen.line(self._frame.path(bend), fill=self._coat, width=self._frame.width(width), joint="curve")

    def _body(self) -> None:
        long, high = self._between(270, 340), self._between(170, 220)
        for x in (-190, -110, 120, 200):
            leg = [(x - 35, 150), (x + 35, 150), (x + 30, 400), (x - 30, 400)]
            self._fill(leg, self._coat)
        self._fur(_oval(0, 120, long, high))

    def _head(self) -> None:
        x, y = self._between(190, 260), self._between(-190, -110)
        wide, high = (150, 130) if self._cat else (130, 150)
        if self._cat:
            for side in (-1, 1):
                ear = [
                    (x + side * 130, y - 20),
                    (x + side * 120, y - self._between(190, 230)),
                    (x + side * 30, y - 110),
                ]
                self._fill(ear, self._coat)
        self._fur(_oval(x, y, wide, high))
        if not self._cat:
            for side in (-1, 1):
                self._fill(_oval(x + side * 135, y + 10, 45, self._between(110, 140), side * -0.25), self._marks)
            self._fill(_oval(x + 20, y + 70, 85, 75), self._coat)
        self._face(x, y)

    def _face(self, x: float, y: float) -> None:
        eye, dark = self._colour(), (15, 12, 10)
        for side in (-1, 1):
            centre = x + side * 58
            self._fill(_oval(centre, y - 25, 26, 22), eye)
            self._fill(_oval(centre, y - 25, 7 if self._cat else 16, 20 if self._cat else 16), dark)
        nose = 20 if self._cat else 34
        self._fill(_oval(x, y + (35 if self._cat else 50), nose, nose * 0.7), dark)
        if self._cat:
            for side in (-1, 1):
                for slope in (-30, 0, 30):
                    whisker = self._frame.path([(x + side * 40, y + 45), (x + side * 210, y + 45 + slope)])
                    self._pen.line(whisker, fill=(235, 235, 230), width=self._frame.width(6))
        elif self._rng.random() < 0.5:
            self._fill(_oval(x + 10, y + 125, 22, 40), (200, 90, 100))

    def _stripes(self, outline: Outline) -> None:
        """The outline filled, with stripes across it."""
        self._fill(outline, self._coat)
        period, lean = self._between(42, 62), self._between(-0.35, 0.35)
        left, top, right, bottom = _bounds(outline)
        slant, x = lean * (bottom - top), left
        while x < right:
            wide = period * 0.45
            band = [(x, top), (x + wide, top), (x + slant + wide, bottom), (x + slant, bottom)]
            self._fill(band, self._marks, inside=outline)
            x += period * self._between(0.85, 1.15)

    def _patches(self, outline: Outline) -> None:
        """The outline filled, with a few large patches on it."""
        self._fill(outline, self._coat)
        left, top, right, bottom = _bounds(outline)
        for _ in range(self._whole(2, 4)):
            x, y = self._between(left, right), self._between(top, bottom)
            half_width = (right - left) * self._between(0.15, 0.3)
            spot = _oval(x, y, half_width, half_width * self._between(0.6, 1.1), self._between(0, 3))
            self._fill(spot, self._marks, inside=outline)

    def _grain(self) -> None:
        """A camera's noise: each pixel a little towards black or white."""
        width, height = self._image.size
        strength = self._whole(4, 9)
        for shade in (0, 255):
            noise = Image.frombytes("L", (width, height), self._rng.randbytes(width * height))
            self._image.paste((shade, shade, shade), mask=noise.point([value // strength for value in range(256)]))
