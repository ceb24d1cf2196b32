"""Measuring cases again in fresh processes before the gate is red: the same command once more, of which only these run.

TensorFlow's choice of kernels holds for a process, so a process of its own is what may choose otherwise. The child has
the parent's options and environment, and with it the locks that the parent holds (`system.lock.HELD`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from mpbench.config.options import CHIEF_ONLY
from mpbench.errors import printable
from mpbench.records.runs import SavedRun, UnreadableRun, read_run

VARIABLE = "MPBENCH_MEASURES_AGAIN"
"""Environment variable with the name of the file that tells a child its task."""

ON_GPU, ON_CPU = 2, 0
"""Processes that measure again unless --mp-gate-confirm says how many."""

PARENTS_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(CHIEF_ONLY),
    "mp_resume": False,
    "mp_cache_compiled": "off",
    "benchmark_compare": None,
    "benchmark_compare_fail": [],
    "benchmark_histogram": None,
}
"""What a child does without: the parent compares, judges and reports, and what the parent has compiled holds the choice
of kernels that is to be made anew."""


@dataclass(frozen=True)
class Task:
    """What a child is to measure.

    Attributes:
        confirms: id of the parent's run.
        cases: node ids.
        json: file for the result.
    """

    confirms: str
    cases: tuple[str, ...]
    json: str


def own_task() -> Task | None:
    """This process's task; None where it is no child. Its own children get none."""
    if (name := os.environ.pop(VARIABLE, None)) is None:
        return None
    task = json.loads(Path(name).read_text(encoding="utf-8"))
    return Task(task["confirms"], tuple(task["cases"]), task["json"])


def take_over(config: pytest.Config, task: Task) -> None:
    """Let a child's options be those of its task; it saves where its parent does, besides."""
    for name, value in PARENTS_OPTIONS.items():
        setattr(config.option, name, value)
    config.option.benchmark_json = Path(task.json)


def measure_again(
    config: pytest.Config, id: str, cases: Sequence[str], processes: int, say: Callable[[str], None]
) -> list[SavedRun]:
    """Measure cases of this session again, in processes one after the other.

    Args:
        config: of this session.
        id: of its run.
        cases: node ids.
        processes: how many.
        say: shows one line at once.

    Returns:
        What they have measured; fewer than asked for where some failed, which is said.
    """
    runs = []
    with tempfile.TemporaryDirectory(prefix="mpbench-again-") as folder:
        for number in range(1, processes + 1):
            label = f"measured again, process {number} of {processes}"
            result, told = Path(folder, f"{number}.json"), Path(folder, f"{number}.task")
            told.write_text(json.dumps(asdict(Task(id, tuple(cases), str(result)))), encoding="utf-8")
            say(f"{label}: {len(cases)} cases")
            output = _run(config, told, lambda line, label=label: say(f"{label}: {line}"))  # type: ignore[misc]
            try:
                runs.append(read_run(result))
            except UnreadableRun:
                last = next((line for line in reversed(output) if line.strip()), "no output")
                say(f"{label}: failed: {printable(last.strip())}")
    return runs


def _run(config: pytest.Config, task: Path, say: Callable[[str], None]) -> list[str]:
    """The child's output, of which lines of progress are shown meanwhile; ends with it, or with Ctrl-C."""
    command = [sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)]
    output = []
    with subprocess.Popen(
        command,
        cwd=config.invocation_params.dir,
        env=os.environ | {VARIABLE: str(task)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                output.append(line)
                if line.startswith("[") or line.startswith("Saved benchmark data"):
                    say(printable(line.strip()))
        except BaseException:
            child.terminate()
            raise
    return output
