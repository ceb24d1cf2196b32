"""Which cases a session measures: what its runs are told of the selected items, and what those become on the way."""

from __future__ import annotations

import pytest

from mpbench.plugin.items import ACCURACY, DIAGNOSTIC_MARK, case_of, diagnostic_case_of, phase_of
from mpbench.plugin.replay_clock import ReplayClock
from mpbench.plugin.stash import CLOCKS, DIAGNOSTICS, RUN

EVALUATION = "accuracy (time of an evaluation pass, not a speed result)"


def select(session: pytest.Session) -> bool:
    """Tell the session's runs which cases are selected, and give each a clock; whether there are any."""
    stash, items = session.config.stash, session.items
    run = stash[RUN]
    cases = {item: case for item in items if (case := case_of(item))}
    diagnostic_cases = {item: diagnosed for item in items if (diagnosed := diagnostic_case_of(item))}
    run.select(cases.values())
    stash[DIAGNOSTICS].select(diagnostic_cases.values())
    groups = {item: run.group_label(case) for item, case in cases.items()}
    groups |= {item: case.label for item, case in diagnostic_cases.items()}
    groups |= {item: EVALUATION for item in items if phase_of(item) == ACCURACY}
    for item, group in groups.items():
        clock = stash[CLOCKS][item.nodeid] = ReplayClock()
        own = item.get_closest_marker("benchmark")
        options_of_mark = {"group": group, **(own.kwargs if own else {}), "timer": clock}
        item.add_marker(pytest.mark.benchmark(**options_of_mark), append=False)
    return bool(groups)


def is_named(item: pytest.Item, config: pytest.Config) -> bool:
    """Whether a diagnostic case is wanted: the command line names its file, not only a folder with it, asks
    for its mark, or for --mp-why, which leaves out end-to-end steps: they would be
    built once more for it."""
    case = diagnostic_case_of(item)
    if config.getoption("mp_why") and case is not None and case.kind != "end_to_end":
        return True
    files = (argument.partition("::")[0] for argument in config.args)
    return DIAGNOSTIC_MARK in (config.option.markexpr or "") or any(
        item.path == (config.invocation_params.dir / file).resolve() for file in files
    )
