"""Which cases a session measures: what its runs are told of the selected items, and what those become on the way."""

from __future__ import annotations

import pytest

from mpbench.plugin.items import ACCURACY, CAUSE_MARK, case_of, is_any_layer, phase_of, probe_case_of
from mpbench.plugin.replay_clock import ReplayClock
from mpbench.plugin.stash import CLOCKS, PROBES, RUN

EVALUATION = "accuracy (time of an evaluation pass, not a speed result)"


def select(session: pytest.Session) -> bool:
    """Tell the session's runs which cases are selected, and give each a clock; whether there are any."""
    stash, items = session.config.stash, session.items
    run = stash[RUN]
    cases = {item: case for item in items if (case := case_of(item))}
    probe_cases = {item: probed for item in items if (probed := probe_case_of(item))}
    run.select(cases.values())
    stash[PROBES].select(probe_cases.values())
    groups = {item: run.group_label(case) for item, case in cases.items()}
    groups |= {item: case.label for item, case in probe_cases.items()}
    groups |= {item: EVALUATION for item in items if phase_of(item) == ACCURACY}
    for item, group in groups.items():
        clock = stash[CLOCKS][item.nodeid] = ReplayClock()
        own = item.get_closest_marker("benchmark")
        options_of_mark = {"group": group, **(own.kwargs if own else {}), "timer": clock}
        item.add_marker(pytest.mark.benchmark(**options_of_mark), append=False)
    return bool(groups)


def name_layers(session: pytest.Session) -> None:
    """Put each model's layers, known now, in the place of the cases that stand for all of them."""
    standing_for_all = {item: case for item in session.items if (case := probe_case_of(item)) and is_any_layer(case)}
    if not standing_for_all:
        return
    wanted = {(case.source, *case.params[:1], *case.params[2:]) for case in standing_for_all.values()}
    named = []
    for parent in dict.fromkeys(item.parent for item in standing_for_all):
        assert isinstance(parent, pytest.Collector)
        for node in session.genitems(parent):
            case = probe_case_of(node)
            if case and case.kind == "layers" and (case.source, *case.params[:1], *case.params[2:]) in wanted:
                named.append(node)
    place = min(session.items.index(item) for item in standing_for_all)
    others = [item for item in session.items if item not in standing_for_all]
    session.items[:] = [*others[:place], *named, *others[place:]]
    session.testscollected = len(session.items)
    select(session)


def is_named(item: pytest.Item, config: pytest.Config) -> bool:
    """Whether the command line names the item's file, and not only a folder with it, or asks for its mark."""
    files = (argument.partition("::")[0] for argument in config.args)
    return CAUSE_MARK in (config.option.markexpr or "") or any(
        item.path == (config.invocation_params.dir / file).resolve() for file in files
    )
