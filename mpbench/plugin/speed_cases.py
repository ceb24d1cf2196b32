"""Speed cases in a session: training and inference steps, measured by `mpbench.engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from mpbench.engine.run import Case, Run
from mpbench.errors import NotBesideOthers
from mpbench.plugin.kinds import Cases, argument_of, mark_of, parameters_of, source_of
from mpbench.records.measured import Measured
from mpbench.records.speed import PHASES, SPEED, SpeedRecord
from mpbench.report.speed_tables import speed_lines

if TYPE_CHECKING:
    from mpbench.plugin.session import Session

MODE = "mpbench_mode"
"""Parameter with the label of a mode; only where there are several."""

POINT = "mpbench_point"
"""Parameter with the label of a point of a sweep; only where something is swept."""


class SpeedCases(Cases[SpeedRecord]):
    """See `Cases`."""

    kind = SPEED
    values = PHASES
    fixture = "measure"
    has_timeout = False  # the first to run has most of the session measured

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.run: Run = session.run
        self.run.outcomes.on_measured = session.keep

    def parameters(self, value: str) -> tuple[str, ...]:
        modes = (MODE,) if len(self.settings.modes) > 1 else ()
        return ("model", "precision", *modes, *((POINT,) if self.settings.sweep else ()))

    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        settings = self.settings
        cases: list[tuple[str, ...]] = [(model, arm) for model in models for arm in settings.arms]
        if len(settings.modes) > 1:
            cases = [(*case, mode.label) for case in cases for mode in settings.modes]
        if settings.sweep:
            cases = [(*case, str(point)) for case in cases for point in settings.sweep]
        return cases

    def select(self, items: Sequence[pytest.Function]) -> None:
        super().select(items)
        self.run.select(map(_case, items))

    def label(self, id: str) -> str:
        return self.run.group_label(self.run.cases[id])

    def group(self, id: str) -> str:
        return " ".join(self.run.cases[id].group)

    def prepare(self) -> None:
        self.run.prepare()

    def restore(self, cases: Mapping[str, Measured[SpeedRecord]]) -> None:
        self.run.outcomes.restore(cases)

    def result(self, id: str) -> Measured[SpeedRecord]:
        """A case that nobody has asked for by name, and that cannot be measured beside the others, is skipped."""
        try:
            return self.run.result(self.run.cases[id])
        except NotBesideOthers as problem:
            if self.settings.given_precisions:
                raise
            reason = str(problem)
        pytest.skip(reason)

    def run_once(self, id: str) -> None:
        self.run.take_first_steps(self.run.cases[id])

    def tables(self) -> list[str]:
        if not self.reported:
            return []
        records = {id: case.record for id, case in self.reported.items()}
        return [*speed_lines(list(self.reported.values())), *self.session.compared_run.lines(records)]


def _case(item: pytest.Function) -> Case:
    params = parameters_of(item)
    model, arm = str(params.pop("model")), str(params.pop("precision"))
    point, mode = (str(params.pop(name, "")) for name in (POINT, MODE))
    mark = mark_of(item)
    assert mark is not None
    return Case(item.nodeid, source_of(item, params), model, arm, argument_of(mark), point, mode)
