"""The clock through which rounds that were measured together reach each case's own `benchmark` fixture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class ReplayClock:
    """A timer for pytest-benchmark that replays measured rounds: called twice a round, at its start and end."""

    __name__ = "mpbench_replay"

    def __init__(self) -> None:
        self._times: Iterator[float] = iter(())

    def load(self, rounds: Sequence[float]) -> None:
        # Every round starts at 0, so that end - start is the measured figure to the last bit.
        self._times = iter([t for seconds in rounds for t in (0.0, seconds)])

    def __call__(self) -> float:
        return next(self._times)
