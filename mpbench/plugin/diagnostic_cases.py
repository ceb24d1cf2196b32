"""Diagnostic cases in a session: peaks, input pipeline, end-to-end steps; measured by `mpbench.why.measuring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from mpbench.plugin.kinds import DIAGNOSTIC_MARK, Cases, argument_of, mark_of, parameters_of, source_of
from mpbench.records.diagnostics import DIAGNOSTICS, DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.why.measuring.session import PARAMETERS, DiagnosticCase, Diagnostics, cases_of_kind

if TYPE_CHECKING:
    from mpbench.plugin.session import Session


class DiagnosticCases(Cases[DiagnosticRecord]):
    """See `Cases`."""

    kind = DIAGNOSTICS
    mark = DIAGNOSTIC_MARK
    values = tuple(PARAMETERS)
    fixture = "diagnose"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.run = Diagnostics(session.run)
        self.run.outcomes.on_measured = session.keep
        session.config.add_cleanup(self.run.close)

    def parameters(self, value: str) -> tuple[str, ...]:
        return PARAMETERS[value]

    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        return cases_of_kind(value, models, self.settings)

    def is_wanted(self, item: pytest.Item) -> bool:
        """Whether the command line names the case's file, not only a folder with it, asks for its mark, or for
        --mp-why, which leaves out end-to-end steps: they would be built once more for it."""
        config = self.session.config
        mark = mark_of(item)
        if config.getoption("mp_why") and mark is not None and argument_of(mark) != "end_to_end":
            return True
        files = (argument.partition("::")[0] for argument in config.args)
        return DIAGNOSTIC_MARK in (config.option.markexpr or "") or any(
            item.path == (config.invocation_params.dir / file).resolve() for file in files
        )

    def select(self, items: Sequence[pytest.Function]) -> None:
        super().select(items)
        self.run.select(map(_case, items))

    def label(self, id: str) -> str:
        return self.run.cases[id].label

    def group(self, id: str) -> str:
        return " ".join(self.run.cases[id].group)

    def prepare(self) -> None:
        self.run.prepare()

    def restore(self, cases: Mapping[str, Measured[DiagnosticRecord]]) -> None:
        self.run.outcomes.restore(cases)

    def result(self, id: str) -> Measured[DiagnosticRecord]:
        return self.run.result(self.run.cases[id])

    def run_once(self, id: str) -> None:
        self.run.run_once(self.run.cases[id])


def _case(item: pytest.Function) -> DiagnosticCase:
    mark, params = mark_of(item), parameters_of(item)
    assert mark is not None
    kind = str(argument_of(mark))
    values = tuple((name, str(params.pop(name))) for name in PARAMETERS[kind])
    return DiagnosticCase(item.nodeid, source_of(item, params), kind, values)
