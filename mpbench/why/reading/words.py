"""How figures are written in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.stats.intervals import Interval

NEAR_1 = 0.095
"""A ratio that is nearer to 1 has a third decimal."""


def ms(seconds: float) -> str:
    """Milliseconds with three digits."""
    value = 1000 * seconds
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}" if abs(value) >= 0.9995 else f"{value:.3f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def times_label(ratio: float) -> str:
    """A speedup with the digits that tell it from 1."""
    return f"{ratio:.{_digits(ratio)}f}"


def speedup_label(interval: Interval) -> str:
    """The same with its interval, in as many digits."""
    digits = _digits(interval.estimate)
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _digits(ratio: float) -> int:
    return 3 if abs(ratio - 1) < NEAR_1 else 2


def listed(names: Sequence[str]) -> str:
    """Names, each once: `a, b and c`."""
    names = list(dict.fromkeys(names))
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
