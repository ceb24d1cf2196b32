"""Bounds on what a saved run may hold: of the right type and still absurd is refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MIN_ROUND_S, MAX_ROUND_S = 1e-9, 1e6
"""One step takes more than a tick of the clock and less than eleven days."""

MAX_ROUNDS = 1_000_000
"""Of a case. A round is made to take a tenth of a second: so many take a day."""

MAX_COUNT, MAX_AMOUNT = 1e9, 1e24
"""Of what is counted one by one; of FLOPs and bytes. Sums and rates of what is within them do not overflow."""

MAX_SECONDS = 1e9
MAX_SHARE = 1e6
"""Shares of what a clock or a counter gave may be above 1, by rounding or where a container sees the whole host."""

MIN_RATIO, MAX_RATIO = 1e-9, 1e9
"""Of times, with the ends of their intervals."""

MAX_NUMBER = 1e300
"""No field comes near it; beyond it sums and squares would overflow."""

MAX_TEXT_CHARACTERS = 1000
"""Of a name, a fact or another text of a record."""

ABOVE_0, BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)

Ranges = Mapping[str, tuple[float, float]]
"""Least and largest possible value of a field; None is possible where its type allows it."""


def ranges(*groups: tuple[tuple[str, ...], tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Ranges by field, from fields that share one."""
    return {name: limits for names, limits in groups for name in names}


def check_ranges(record: Any, limits: Ranges) -> None:
    """Raise ValueError for the first field of a record, of those that it has, that is out of its range."""
    for name, (least, largest) in limits.items():
        value = getattr(record, name, None)
        if value is not None and not least <= value <= largest:
            valid = "above 0 and below 1" if (least, largest) == (ABOVE_0, BELOW_1) else f"{least:g} to {largest:g}"
            raise ValueError(f"{name}: {value}: valid is {valid}")
