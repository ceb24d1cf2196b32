"""What a session is refused for once it is known what is selected, in one line; from a worker of pytest-xdist too.

A plugin module beside `hooks.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from mpbench.plugin.console import benchmark_session, is_worker

JUDGING = ("mp_gate", "benchmark_compare_fail")
KEEPING = (
    *("benchmark_json", "benchmark_save", "benchmark_autosave", "benchmark_histogram", "benchmark_compare"),
    *("mp_report", "mp_summary", "mp_resume"),
)
"""Options that want something measured: to judge it, and to save or show it."""

NOTHING_MEASURED = "nothing was measured, so nothing was judged: run at least one case"
"""What follows the option that wants to judge."""

OF_WORKER = "mpbench_problem"


def refuse(session: pytest.Session, problem: str) -> None:
    """End the session with a usage error; a worker of pytest-xdist tells it to whoever started it, and runs nothing."""
    if not is_worker(session.config):
        raise pytest.UsageError(problem)
    session.items[:] = []
    session.config.workeroutput[OF_WORKER] = problem  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    # A worker that has crashed has no output.
    if problem := getattr(node, "workeroutput", {}).get(OF_WORKER):
        raise pytest.UsageError(problem)


def problem_of_options(config: pytest.Config) -> str | None:
    """Why cases cannot be measured as the options ask for; None if they can."""
    if benchmark_session(config) is None:
        return "-p no:benchmark: mpbench reports through pytest-benchmark and needs it"
    if config.getoption("collectonly"):
        return None
    worker = is_worker(config)
    wanted = given(config, *JUDGING, *(KEEPING if worker else ()))
    reason, valid = ("pytest-xdist", "one process, -n0") if worker else (unmeasured(config), "one of them")
    if not wanted or not reason:
        return None
    return f"{wanted[0]}: given together with {reason}, under which nothing is measured: use {valid}"


def unmeasured(config: pytest.Config) -> str | None:
    """The option under which pytest-benchmark measures nothing; None where there is none."""
    benchmarks = benchmark_session(config)
    if benchmarks.skip:
        return "--benchmark-skip"
    return "--benchmark-disable" if benchmarks.disabled else None


def given(config: pytest.Config, *names: str) -> list[str]:
    """Those of some options that are given, as they are typed."""
    return [f"--{name.replace('_', '-')}" for name in names if config.getoption(name, None)]
