"""Points of a sweep, as `--mp-sweep` gives them, and the search for the largest batch that fits.

Pure: what a batch is tried with is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mpbench.config.values import integer
from mpbench.errors import UsageProblem

AXES = {"batch": "images", "image": "pixels"}
"""What can be swept, with its unit."""

MAX = "max"
"""In place of a batch: the largest that fits, for each precision its own."""

SEARCH_SHARE = 1 / 16
"""The largest batch is found to within this share of itself: finer differences do not show in images per second, and
each further attempt costs a step, under XLA a compilation."""

MAX_BATCH = 1 << 20
"""What ends a search that nothing else ends: no device holds a million images of a size that anybody trains on."""


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        axis: one of AXES.
        value: None for MAX.
    """

    axis: str
    value: int | None

    def __str__(self) -> str:
        return f"{self.axis}={MAX if self.value is None else self.value}"


def parse_sweep(given: str, where: str = "--mp-sweep") -> tuple[Point, ...]:
    """The points of a sweep; `where` is what a refusal names.

    Raises:
        UsageProblem: malformed, or a point given twice.
    """
    axis, equals, values = given.partition("=")
    valid = f"valid are {', '.join(f'{name}=N,N,...' for name in AXES)} and batch={MAX}"
    if axis not in AXES or not equals:
        raise UsageProblem(f"{where}: {given!r}: {valid}")
    points = [Point(axis, _value(axis, text.strip(), f"{where}: {given!r}")) for text in values.split(",")]
    if len(set(points)) < len(points):
        raise UsageProblem(f"{where}: {given!r} has a point twice: give each once")
    return tuple(points)


def parse_point(label: str) -> Point:
    """The point of which `str` gave the label."""
    (point,) = parse_sweep(label)
    return point


def _value(axis: str, text: str, where: str) -> int | None:
    if (axis, text) == ("batch", MAX):
        return None
    value = integer(text)
    if value is None or value < 1:
        also = f", or {MAX}" if axis == "batch" else ""
        raise UsageProblem(f"{where}: {text!r}: must be a whole number of {AXES[axis]}, 1 or more{also}")
    return value


def largest_batch(fits: Callable[[int], bool], limit: int = MAX_BATCH) -> int:
    """The largest batch that fits, within SEARCH_SHARE below it: doubled until one does not, then bisected.

    Args:
        fits: whether a step of so many images has run; if one fits, so does every smaller one.
        limit: no batch beyond is tried.

    Returns:
        A batch for which `fits` was True and was asked last of all that fitted; 0 if not even 1 does.
    """
    fitting, failing = 0, limit + 1
    batch = 1
    while batch < failing:
        if fits(batch):
            fitting = batch
            batch = min(2 * batch, limit) if batch < limit else failing
        else:
            failing = batch
    while failing - fitting > max(1, math.floor(fitting * SEARCH_SHARE)):
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting
