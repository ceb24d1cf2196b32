"""The kinds of case in a session: what hooks and fixtures ask of each, and what their marks say.

A new kind is a subclass of `Cases` in a module of its own, a line in `Session` (session.py), one in
`mpbench.records.kinds`, and a fixture that calls `report` (fixtures.py).
"""

from __future__ import annotations

import unittest
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import pytest

from mpbench.config.model_names import canonical_name
from mpbench.config.settings import Settings
from mpbench.config.values import check_each_once
from mpbench.errors import UsageProblem
from mpbench.records.measured import CaseKind, Measured, R

if TYPE_CHECKING:
    from mpbench.plugin.session import Session

MARK = "mpbench"
"""Of cases that have a phase: `mpbench(phase="training")`."""

DIAGNOSTIC_MARK = "mpbench_diagnostic"
"""Of diagnostic cases: `mpbench_diagnostic("peaks")`."""


class Cases(ABC, Generic[R]):
    """The cases of one kind in one session.

    Attributes:
        kind: of their records.
        mark, values: the mark that makes a test such a case, and the values that its argument may have.
        fixture: that such a test takes.
        has_timeout: whether a limit of time for each test makes sense; not where the first case measures for all.
        order: of measuring: cases of a higher one come after all of a lower one.
        selected: pytest's items by id.
        reported: what has been measured and reported, by id.
    """

    kind: CaseKind[R]
    mark: ClassVar[str] = MARK
    values: ClassVar[tuple[str, ...]]
    fixture: ClassVar[str]
    has_timeout: ClassVar[bool] = True
    order: ClassVar[int] = 0

    def __init__(self, session: Session) -> None:
        self.session = session
        self.selected: dict[str, pytest.Function] = {}
        self.reported: dict[str, Measured[R]] = {}

    def __contains__(self, item: pytest.Item) -> bool:
        """Whether an item is marked as such a case."""
        return self.session.kind_of(item) is self

    @property
    def settings(self) -> Settings:
        return self.session.settings

    @abstractmethod
    def parameters(self, value: str) -> tuple[str, ...]:
        """Names of the parameters of a case, in the order of its id, for a value of the mark's argument."""

    @abstractmethod
    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        """For each case the values of its parameters; raises UsageProblem where the options give none."""

    def is_wanted(self, item: pytest.Item) -> bool:
        """Whether a collected case is measured although nobody has asked for it by name."""
        return True

    def select(self, items: Sequence[pytest.Function]) -> None:
        """Take the cases that are measured; the last word on them has been spoken."""
        self.selected = {item.nodeid: item for item in items}

    @abstractmethod
    def label(self, id: str) -> str:
        """Of a case's group, in pytest-benchmark's table."""

    def group(self, id: str) -> str:
        """Equal for the cases that are measured together: a run that was broken off is resumed by whole groups."""
        return id

    @abstractmethod
    def prepare(self) -> None:
        """Find what is wrong with the options before anything slow is done; raises UsageProblem."""

    @abstractmethod
    def restore(self, cases: Mapping[str, Measured[R]]) -> None:
        """Take cases from an interrupted run, by id, in place of measuring them."""

    @abstractmethod
    def result(self, id: str) -> Measured[R]:
        """The measurement of a case; raises CaseFailure or UsageProblem where it cannot be had."""

    @abstractmethod
    def run_once(self, id: str) -> Measured[R] | None:
        """Run a case without measuring it (--benchmark-disable); what came of it, where that is not about speed."""

    def tables(self) -> list[str]:
        """Lines for the terminal's summary about what has been reported."""
        return []


class CasesOneByOne(Cases[R]):
    """Cases that are measured alone, each when its turn comes; what they find is no time, so none is left out."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._found: dict[str, Measured[R]] = {}

    @abstractmethod
    def look(self, id: str) -> Measured[R]:
        """Measure a case; raises as `result` does."""

    def restore(self, cases: Mapping[str, Measured[R]]) -> None:
        self._found.update(cases)

    def result(self, id: str) -> Measured[R]:
        if id not in self._found:
            self.session.keep({id: self.run_once(id)})
        return self._found[id]

    def run_once(self, id: str) -> Measured[R]:
        if id not in self._found:
            self._found[id] = self.look(id)
        return self._found[id]


def mark_of(item: pytest.Item) -> pytest.Mark | None:
    """The mark of a function that makes it a case; None for any other test."""
    mark = item.get_closest_marker(MARK) or item.get_closest_marker(DIAGNOSTIC_MARK)
    return mark if isinstance(item, pytest.Function) else None


def argument_of(mark: pytest.Mark) -> Any:
    """What a mark says of the kind of case."""
    return mark.kwargs.get("phase") if mark.name == MARK else next(iter(mark.args), None)


def models_of(mark: pytest.Mark, settings: Settings) -> list[str]:
    """Canonical names of the models that a mark asks for, or the options; raises UsageProblem."""
    given = mark.kwargs.get("models", settings.models)
    where = f"mark {mark.name}"
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise UsageProblem(f"{where}: models={given!r}: must be a list of names")
    names = [canonical_name(name, where) for name in given]
    check_each_once(where, names)
    return names


def check_mark(mark: pytest.Mark, valid: Sequence[str]) -> None:
    """Raise UsageProblem where a mark is malformed.

    Args:
        valid: values of its argument.
    """
    value, others = argument_of(mark), set(mark.kwargs) - {"models"}
    if mark.name == MARK:
        if mark.args or others != {"phase"} or value not in valid:
            raise UsageProblem(
                f"mark {MARK}: given {mark.args or mark.kwargs}: "
                f"valid is phase={' or '.join(map(repr, valid))}, and models=[names]"
            )
    elif len(mark.args) != 1 or others or value not in tuple(valid):
        raise UsageProblem(
            f"mark {mark.name}: given {(*mark.args, *mark.kwargs)}: "
            f"valid is one of {', '.join(valid)}, and models=[names]"
        )


def misplaced(item: pytest.Item, kind: Cases[Any] | None) -> str | None:
    """Why a marked test is not a case; None where all is well."""
    mark = mark_of(item)
    if mark is None:
        return None
    if item.get_closest_marker(MARK) and item.get_closest_marker(DIAGNOSTIC_MARK):
        return f"{item.nodeid}: marks {MARK} and {DIAGNOSTIC_MARK}: use one of them"
    wanted = kind.parameters(argument_of(mark)) if kind else ("model", "precision")
    if set(wanted) <= set(parameters_of(item)):
        return None
    assert isinstance(item, pytest.Function)
    what = "a method of unittest.TestCase" if item.cls and issubclass(item.cls, unittest.TestCase) else "a test"
    return (
        f"{item.nodeid}: mark {mark.name}: given to {what} without the parameters {' and '.join(wanted)}: valid is a "
        "function, or a method of a plain class, that is marked where it is defined"
    )


def parameters_of(item: pytest.Item) -> dict[str, Any]:
    """An item's parameters by name."""
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def source_of(item: pytest.Function, further: Mapping[str, Any]) -> str:
    """Where a case comes from: a test's further parameters make further groups."""
    source = "::".join(filter(None, [item.parent.nodeid if item.parent else "", item.originalname]))
    return source + "".join(f" {name}={value!r}" for name, value in sorted(further.items()))
