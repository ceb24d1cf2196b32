"""What plugin modules ask of pytest: lines shown at once, pytest-benchmark's session, what was typed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from mpbench.terminal import terminal_line


def typed(config: pytest.Config) -> str:
    """What was typed."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


def benchmark_session(config: pytest.Config) -> Any:
    """pytest-benchmark's session object; None without the plugin."""
    return getattr(config, "_benchmarksession", None)


def write_line(config: pytest.Config, line: str) -> None:
    """Show a line at once, past pytest's capturing; the line end that it may begin with stays."""
    lead = "\n" if line.startswith("\n") else ""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(lead + terminal_line(line.removeprefix(lead)))
            reporter.flush()


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers, which save and judge nothing."""
    return hasattr(config, "workerinput")
