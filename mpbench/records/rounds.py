"""Rounds: how they are kept, numbered by their blocks, and paired between cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Judged:
    """Rounds that count, in seconds per step, with the numbers of their blocks."""

    rounds: tuple[float, ...]
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float]]) -> Judged:
        """From blocks with their rounds."""
        kept = list(pairs)
        return cls(tuple(one for _, one in kept), tuple(block for block, _ in kept))


class Rounds(Protocol):
    """Rounds that know their blocks: a series just measured, or a case read back."""

    @property
    def rounds(self) -> Sequence[float]: ...
    @property
    def blocks(self) -> Sequence[int]: ...


def paired(one: Rounds, other: Rounds) -> tuple[list[float], list[float]]:
    """The rounds of the blocks in which both series have one, in the order measured."""
    theirs = dict(zip(other.blocks, other.rounds, strict=True))
    both = [(mine, theirs[b]) for b, mine in zip(one.blocks, one.rounds, strict=True) if b in theirs]
    return [mine for mine, _ in both], [their for _, their in both]


ROUND_DIGITS = 9
"""Significant digits of a round that are kept: finer than any clock, and half as long in JSON as all 17."""


def kept_rounds(seconds: Iterable[float]) -> tuple[float, ...]:
    """Rounds as they are shown, judged and saved: all from the same figures."""
    return tuple(float(f"{value:.{ROUND_DIGITS}g}") for value in seconds)


def blocks_of(rounds: Sequence[float], unpaired_blocks: str) -> list[int]:
    """Number of the block of each round, from a record's `unpaired_blocks`."""
    gaps = numbers(unpaired_blocks)
    return [n for n in range(len(rounds) + len(gaps)) if n not in gaps][: len(rounds)]


def numbers(text: str) -> set[int]:
    """Of blocks, from a field that joins them with commas."""
    return {int(number) for number in text.split(",") if number}
