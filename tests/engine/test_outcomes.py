"""engine.outcomes and engine.interrupts: what was measured outlives whatever ends a group after its rounds."""

import os
import signal

import pytest

from mpbench.engine.interrupts import held_interrupts
from mpbench.engine.outcomes import Outcomes
from mpbench.errors import CaseFailure

IDS = {"float32": "one", "mixed_float16": "two", "tf32": "three"}
TIMES = {"float32": "times", "mixed_float16": "times"}


@pytest.fixture
def outcomes():
    found = Outcomes()
    found.journal = []
    found.on_measured = lambda measured: found.journal.append(dict(measured))
    return found


def result(outcomes, id, measure):
    return outcomes.result(id, [IDS], measure)


def test_a_group_is_measured_once_and_told_once_where_nothing_is_added(outcomes):
    calls = []

    def measure(keep):
        calls.append("measured")
        keep(0, TIMES)
        yield 0, {**TIMES, "tf32": CaseFailure("no")}

    assert [result(outcomes, id, measure) for id in ("one", "two")] == ["times", "times"]
    with pytest.raises(CaseFailure, match="no"):
        result(outcomes, "three", measure)
    assert calls == ["measured"]
    assert outcomes.journal == [{"one": "times", "two": "times"}]


def test_what_is_added_afterwards_is_told_once_more(outcomes):
    def measure(keep):
        keep(0, TIMES)
        yield 0, dict.fromkeys(TIMES, "times and energy") | {"tf32": CaseFailure("no")}

    assert result(outcomes, "one", measure) == "times and energy"
    assert outcomes.journal == [{"one": "times", "two": "times"}, dict.fromkeys(("one", "two"), "times and energy")]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, TimeoutError("slow"), SystemExit])
def test_what_ends_the_group_after_its_rounds_costs_no_round(outcomes, ending):
    def measure(keep):
        keep(0, TIMES)
        raise ending
        yield

    with pytest.raises(ending if isinstance(ending, type) else type(ending)):
        result(outcomes, "one", measure)
    assert outcomes.journal == [{"one": "times", "two": "times"}]
    assert result(outcomes, "two", None) == "times"
    with pytest.raises(CaseFailure, match="measuring its group ended with"):
        result(outcomes, "three", None)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as Python has it where nobody ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_takes_effect_once_all_is_kept(ctrl_c):
    done = []

    def keep():
        with held_interrupts():
            ctrl_c()
            ctrl_c()
            done.append("kept")

    with pytest.raises(KeyboardInterrupt):
        keep()
    assert done == ["kept"]
    with held_interrupts():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_ctrl_c_stays_ignored(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_interrupts():
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
