"""What pytest's items and their marks say of a case."""

from __future__ import annotations

import pytest

from mpbench.errors import UsageProblem
from mpbench.models import canonical_name
from mpbench.run import Case
from mpbench.settings import Settings, check_each_once

MARK = "mpbench"
PHASES = ("training", "inference")
ACCURACY = "accuracy"


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
    # A test's further parameters make further groups.
    source = "::".join(filter(None, [item.parent.nodeid if item.parent else "", item.originalname]))
    source += "".join(f" {name}={value!r}" for name, value in sorted(params.items()))
    return Case(item.nodeid, source, model, arm, phase)


def models_of(mark: pytest.Mark, settings: Settings) -> list[str]:
    """Canonical names of the models that a mark asks for; raises UsageProblem where it is malformed."""
    valid = (*PHASES, ACCURACY)
    if mark.args or mark.kwargs.get("phase") not in valid or set(mark.kwargs) - {"phase", "models"}:
        raise UsageProblem(
            f"mark mpbench: given {mark.args or mark.kwargs}: "
            f"valid is phase={' or '.join(map(repr, valid))}, and models=[names]"
        )
    given = mark.kwargs.get("models", settings.models)
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise UsageProblem(f"mark mpbench: models={given!r}: valid is a list of names")
    names = [canonical_name(name, "mark mpbench") for name in given]
    check_each_once("mark mpbench", names)
    return names
