"""What became of the cases of a session: the first that is asked for has those measured that are selected with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from mpbench.engine import device as devices
from mpbench.errors import CaseFailure, described

Result = TypeVar("Result")
Keep = Callable[[int, Mapping[str, Result]], None]
"""Takes the number of a group and its arms that are measured, before all is done that is done with them."""

Measure = Callable[[Keep[Result]], Iterator[tuple[int, Mapping[str, Result | Exception]]]]
"""Measures groups: yields the number of each that is finished, in any order, and what became of its arms."""


class Outcomes(Generic[Result]):
    """The results of cases, or what ended them, by their ids.

    Attributes:
        on_measured: called with the measured cases of a group by id, before any of them is reported; again where
            something has been added to them.
    """

    def __init__(self) -> None:
        self.on_measured: Callable[[Mapping[str, Result]], None] = lambda measured: None
        self._by_id: dict[str, Result | Exception] = {}
        self._going_on: Iterator[None] | None = None

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def restore(self, measured: Mapping[str, Result]) -> None:
        """Take cases as measured, by their ids; all selected ones of a group or none."""
        self._by_id.update(measured)

    def result(self, id: str, groups: Sequence[Mapping[str, str]], measure: Measure[Result]) -> Result:
        """The measurement of one case; measures these groups where that has not happened yet.

        Args:
            id: of the case.
            groups: its own among them: of each the ids of its cases, by arm.
            measure: measures them; gone on with by the next case.

        Raises:
            CaseFailure: the case failed for a known reason.
            Exception: whatever else ended it.
        """
        if id not in self._by_id:
            devices.check_not_deterministic()
        while id not in self._by_id:
            self._going_on = self._going_on or self._measured(groups, measure)
            next(self._going_on, None)  # ended, it is None: these groups are others than those
        outcome = self._by_id[id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _measured(self, groups: Sequence[Mapping[str, str]], measure: Measure[Result]) -> Iterator[None]:
        """Measure groups, with a pause after each that is finished."""
        kept: list[dict[str, Result]] = [{} for _ in groups]
        left = set(range(len(groups)))

        def keep(number: int, measured: Mapping[str, Result]) -> None:
            by_id = {groups[number][arm]: one for arm, one in measured.items()}
            if by_id != kept[number]:
                kept[number] = by_id
                self.on_measured(by_id)

        try:
            for number, of_group in measure(keep):
                left.remove(number)
                self._by_id.update({id: of_group[arm] for arm, id in groups[number].items()})
                keep(number, {arm: one for arm, one in of_group.items() if not isinstance(one, Exception)})
                yield
        except GeneratorExit:
            raise
        except BaseException as error:  # a time-out's too: the other cases must not measure it all again
            lost = CaseFailure(f"measuring its group ended with {described(error)}")
            for number in left:
                self._by_id.update({id: kept[number].get(id, lost) for id in groups[number].values()})
            raise
        finally:
            self._going_on = None
