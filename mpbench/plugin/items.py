"""What pytest's items and their marks say of a case."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from mpbench.config.model_names import canonical_name
from mpbench.config.settings import Settings, check_each_once
from mpbench.engine.run import Case
from mpbench.errors import UsageProblem
from mpbench.why.measuring.session import PARAMETERS, DiagnosticCase

MARK = "mpbench"
DIAGNOSTIC_MARK = "mpbench_diagnostic"
PHASES = ("training", "inference")
ACCURACY = "accuracy"
POINT = "mpbench_point"
"""Parameter with the label of a point of a sweep; only where something is swept."""

MODE = "mpbench_mode"
"""Parameter with the label of a mode to run a precision; only where there are several."""


def phase_of(item: pytest.Item) -> str | None:
    """The phase of a case; None for a test that is none."""
    mark = item.get_closest_marker(MARK)
    return mark.kwargs.get("phase") if mark is not None and isinstance(item, pytest.Function) else None


def model_of(item: pytest.Item) -> str:
    """The model of a case."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["model"])


def case_of(item: pytest.Item) -> Case | None:
    """The speed case of an item; None for any other test."""
    phase = phase_of(item)
    if phase not in PHASES or not isinstance(item, pytest.Function):
        return None
    params = dict(item.callspec.params)
    model, arm = str(params.pop("model")), str(params.pop("precision"))
    point, mode = (str(params.pop(name, "")) for name in (POINT, MODE))
    return Case(item.nodeid, _source(item, params), model, arm, phase, point, mode)


def diagnostic_case_of(item: pytest.Item) -> DiagnosticCase | None:
    """The diagnostic case of an item; None for any other test."""
    mark = item.get_closest_marker(DIAGNOSTIC_MARK)
    if mark is None or not isinstance(item, pytest.Function):
        return None
    kind = str(mark.args[0]) if mark.args else ""
    if kind not in PARAMETERS:  # to be told as a usage error
        return None
    params = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    own = [name for name in PARAMETERS[kind] if name in params]
    values = tuple((name, str(params.pop(name))) for name in own)
    return DiagnosticCase(item.nodeid, _source(item, params), kind, values)


def misplaced_mark(item: pytest.Item) -> str | None:
    """Why a marked item is no case, though it is a test; None where all is well."""
    speed, cause = item.get_closest_marker(MARK), item.get_closest_marker(DIAGNOSTIC_MARK)
    mark = speed or cause
    if mark is None or not isinstance(item, pytest.Function):
        return None
    if speed and cause:
        return f"{item.nodeid}: marks {MARK} and {DIAGNOSTIC_MARK}: valid is one of them"
    wanted = ("model", "precision") if speed else parameters_of(mark)
    if set(wanted) <= set(item.callspec.params if hasattr(item, "callspec") else ()):
        return None
    what = "a method of unittest.TestCase" if item.cls and issubclass(item.cls, unittest.TestCase) else "a test"
    return (
        f"{item.nodeid}: mark {mark.name}: given to {what} without the parameters {' and '.join(wanted)}: valid is a "
        "function, or a method of a plain class, that is marked where it is defined"
    )


def models_of(mark: pytest.Mark, settings: Settings) -> list[str]:
    """Canonical names of the models that a mark asks for; raises UsageProblem where it is malformed."""
    valid = (*PHASES, ACCURACY)
    if mark.args or mark.kwargs.get("phase") not in valid or set(mark.kwargs) - {"phase", "models"}:
        raise UsageProblem(
            f"mark {MARK}: given {mark.args or mark.kwargs}: "
            f"valid is phase={' or '.join(map(repr, valid))}, and models=[names]"
        )
    return _models(mark, settings)


def parameters_of(mark: pytest.Mark) -> tuple[str, ...]:
    """The parameters of the cases that a mark asks for; none where it is malformed."""
    return PARAMETERS.get(str(mark.args[0]) if mark.args else "", ())


def kind_and_models_of(mark: pytest.Mark, settings: Settings) -> tuple[str, list[str]]:
    """Kind and models of the diagnostic cases, as their mark has it; raises UsageProblem as `models_of`."""
    if len(mark.args) != 1 or mark.args[0] not in tuple(PARAMETERS) or set(mark.kwargs) - {"models"}:
        raise UsageProblem(
            f"mark {DIAGNOSTIC_MARK}: given {(*mark.args, *mark.kwargs)}: "
            f"valid is one of {', '.join(PARAMETERS)}, and models=[names]"
        )
    return str(mark.args[0]), _models(mark, settings)


def _models(mark: pytest.Mark, settings: Settings) -> list[str]:
    given = mark.kwargs.get("models", settings.models)
    where = f"mark {mark.name}"
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise UsageProblem(f"{where}: models={given!r}: valid is a list of names")
    names = [canonical_name(name, where) for name in given]
    check_each_once(where, names)
    return names


def _source(item: pytest.Function, further: dict[str, Any]) -> str:
    """Where a case comes from: a test's further parameters make further groups."""
    source = "::".join(filter(None, [item.parent.nodeid if item.parent else "", item.originalname]))
    return source + "".join(f" {name}={value!r}" for name, value in sorted(further.items()))
