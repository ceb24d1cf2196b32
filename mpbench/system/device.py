"""Which device the cases run on, as a value."""

from __future__ import annotations

from dataclasses import dataclass

DEVICES = ("auto", "gpu", "cpu")


@dataclass(frozen=True)
class Device:
    """The device that the cases run on.

    Attributes:
        kind: `gpu` or `cpu`.
        placement: the name that tf.device takes.
    """

    kind: str
    placement: str
