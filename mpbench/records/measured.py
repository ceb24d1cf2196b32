"""What all kinds of case have in common: a record with its rounds, and how one kind's records are written and read.

A kind is registered in `kinds.py`; what is special about it stands in its own module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from mpbench.records.fields import as_object, must_be, quoted, read_fields
from mpbench.records.limits import MAX_ROUND_S, MAX_ROUNDS, MIN_ROUND_S
from mpbench.records.older import with_current_names
from mpbench.records.rounds import Judged, blocks_of, numbers

BLOCK_NUMBERS = re.compile(r"(\d{1,9}(,\d{1,9})*)?", re.ASCII)


@dataclass(frozen=True)
class Record:
    """What a case writes into `extra_info`: numbers, names and flags, flat; never tensors or lists."""

    kind: ClassVar[CaseKind[Any]]

    def as_extra_info(self) -> dict[str, Any]:
        return {self.kind.schema_key: self.kind.schema, **asdict(self)}


R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


@dataclass(frozen=True)
class Measured(Generic[R_co]):
    """A case's record with its rounds, just measured or read back.

    Attributes:
        record: what was measured, and how.
        rounds: seconds, in the order measured; positive and finite.
        fullname: pytest's node id, such as `bench/test_training.py::test_training[vgg16-float32]`; empty until saved.
    """

    record: R_co
    rounds: Sequence[float]
    fullname: str = ""

    @property
    def blocks(self) -> list[int]:
        """Number of the block of each round."""
        return blocks_of(self.rounds, getattr(self.record, "unpaired_blocks", ""))

    @property
    def judged(self) -> Judged:
        """The rounds that figures are made of: those measured while the GPU was not throttled, or else all."""
        throttled = getattr(self.record, "throttled", False)
        out = set() if throttled else numbers(getattr(self.record, "throttled_blocks", ""))
        if not out:
            return Judged(tuple(self.rounds), tuple(self.blocks))
        return Judged.of((block, one) for block, one in zip(self.blocks, self.rounds, strict=True) if block not in out)

    @property
    def median_seconds(self) -> float:
        """Of the rounds that count."""
        return float(np.median(self.judged.rounds))


class CaseKind(Generic[R]):
    """One kind of case, as far as its records go.

    Attributes:
        schema_key: the key in `extra_info` that tells its cases from those of other kinds.
        schema: the version that is written; earlier ones are read.
        max_cases: of a run; None where only the number of all cases is bounded.
    """

    schema_key: str
    schema: int
    max_cases: int | None = None

    def record_type(self, extra_info: Mapping[str, Any]) -> type[R] | None:
        """The type of record in extra_info; None for what an earlier version wrote and nobody reads any more.

        Raises:
            ValueError: it cannot be told.
        """
        raise NotImplementedError

    def check(self, record: R) -> None:
        """Raise ValueError, which names the field, where nothing can have been measured so."""

    def completed(self, case: Measured[R]) -> Measured[R]:
        """A case with what follows from its rounds; raises ValueError where they do not fit its record."""
        return case

    def checked_together(self, cases: Mapping[str, Measured[R]]) -> tuple[Mapping[str, Measured[R]], list[str]]:
        """A run's cases of this kind, corrected by each other's rounds, and a line for each correction."""
        return cases, []

    def read(self, extra_info: Mapping[str, Any]) -> R:
        """The record in a benchmark's extra_info, checked.

        Raises:
            ValueError: not of this kind, from another version, or with a field that is missing, of the wrong type or
                impossible; the message names it.
        """
        extra_info = with_current_names(extra_info)
        if self.schema_key not in extra_info:
            raise ValueError(f"extra_info has no {self.schema_key}: not a case of mpbench")
        if extra_info[self.schema_key] not in range(1, self.schema + 1):
            raise ValueError(f"{self.schema_key} is {extra_info[self.schema_key]}: this version reads {self.schema}")
        if (record_type := self.record_type(extra_info)) is None:
            raise ValueError("written by an earlier version, and no longer read")
        record = record_type(**read_fields(record_type, extra_info))
        self.check(record)
        return record

    def read_case(self, benchmark: Mapping[str, Any], fullname: str) -> Measured[R]:
        """One case of a saved run; raises ValueError as `read` does, and for rounds that cannot be."""
        record = self.read(benchmark["extra_info"])
        return self.completed(Measured(record, read_rounds(benchmark, record), fullname))


def read_rounds(benchmark: Mapping[str, Any], record: Record) -> tuple[float, ...]:
    """A benchmark's rounds in seconds, checked against its record; raises ValueError."""
    for name in ("unpaired_blocks", "throttled_blocks"):
        if not BLOCK_NUMBERS.fullmatch(text := getattr(record, name, "")):
            raise ValueError(f"{name}: {quoted(text)}: valid are numbers between commas")
    data = as_object(benchmark.get("stats"), "stats").get("data")
    if not isinstance(data, list) or not 0 < len(data) <= MAX_ROUNDS:
        raise must_be(f"the list of rounds, {MAX_ROUNDS} at most", "stats.data", data)
    # numpy would also take "0.1" and true for numbers.
    if not set(map(type, data)) <= {float, int}:
        raise ValueError("stats.data: must hold numbers only")
    try:
        rounds = np.array(data, dtype=float)
    except OverflowError:
        rounds = np.array([math.inf])
    shortest, longest = rounds.min(), rounds.max()  # either is nan where a round is
    if not 0 < shortest <= longest < math.inf:
        raise ValueError("stats.data: a round is not positive and finite")
    if not MIN_ROUND_S <= shortest <= longest <= MAX_ROUND_S:
        raise ValueError(f"stats.data: a round is not between {MIN_ROUND_S:g} and {MAX_ROUND_S:g} s")
    if rounds.size != (number := getattr(record, "rounds", rounds.size)):
        raise ValueError(f"stats.data: {rounds.size} rounds where the record says {number}")
    return tuple(rounds.tolist())
