"""pytest-benchmark's statistics of rounds, as they stand in a saved run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest_benchmark.stats


def benchmark_statistics(rounds: Sequence[float]) -> dict[str, Any]:
    """All of them but the rounds themselves."""
    stats: Any = pytest_benchmark.stats.Stats()
    stats.data = list(rounds)
    return dict(stats.as_dict())
