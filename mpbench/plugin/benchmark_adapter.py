"""What mpbench takes from pytest-benchmark's session object beyond its hooks, and the methods that it replaces.

pytest-benchmark numbers a file and then writes it in place, both without a lock, and raises inside the hook in which
the terminal's summary is made. So the session's two functions that save are replaced by ones that lock, write whole
files and never raise: a wrapper around that hook could do none of this but lock, and would lose the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest_benchmark

from mpbench.config.settings import Settings
from mpbench.errors import printable
from mpbench.journal.lines import Header
from mpbench.journal.saving import RunSaver
from mpbench.system.storage import DEFAULT_FOLDER

COMMIT_PROBLEM_CHARACTERS = 300


def run_folder(benchmark_session: Any) -> Path | None:
    """The folder of saved runs; None where they go to a server."""
    path = getattr(benchmark_session.storage, "path", None)
    return Path(path) if isinstance(path, Path) else None


def machine_folder(benchmark_session: Any) -> Path | None:
    """Where this session's run goes; None where that is a server."""
    folder = run_folder(benchmark_session)
    return folder / benchmark_session.machine_id if folder else None


def journal_folder(benchmark_session: Any) -> Path:
    """A run that goes to a server has its journal here all the same."""
    return run_folder(benchmark_session) or Path(DEFAULT_FOLDER).absolute()


def asked_for(benchmark_session: Any) -> set[str]:
    """Where the run is to be saved, as `RunSaver.end` has it."""
    asked = {"storage"} if benchmark_session.save or benchmark_session.autosave else set()
    return asked | ({"json"} if benchmark_session.json else set())


def header(benchmark_session: Any, settings: Settings, cases: list[str]) -> Header:
    """The journal's header for a session that begins now."""
    now = datetime.now(timezone.utc)
    config = benchmark_session.config
    commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
    config.hook.pytest_benchmark_update_commit_info(config=config, commit_info=commit)
    changes = "_uncommitted-changes" if commit.get("dirty") else ""
    return Header(
        began=now.isoformat(timespec="microseconds"),
        name=benchmark_session.save or benchmark_session.autosave or f"{commit.get('id')}_{now:%Y%m%d_%H%M%S}{changes}",
        machine=benchmark_session.machine_id,
        version=pytest_benchmark.__version__,
        machine_info=benchmark_session.get_machine_info(),
        commit_info=commit,
        settings=asdict(settings),
        cases=cases,
    )


def commit_problem(error: str) -> str:
    """Why pytest-benchmark could not have the commit, from its error, in one line."""
    found = re.search(r"fatal: (.*?)(?:\\n|'\)$|$)", error)
    text = printable(found[1].replace("\\'", "'") if found else error)[:COMMIT_PROBLEM_CHARACTERS]
    if "dubious ownership" in text:
        text += "; git config --global --add safe.directory FOLDER trusts it"
    return text


def entry_of(benchmark_session: Any, item: Any, extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """A case's entry in a saved run but for its rounds, as its `benchmark` fixture will report it.

    Args:
        item: pytest's.
        extra_info: of its record.
    """
    mark = item.get_closest_marker("benchmark")
    options = {**benchmark_session.options, **(mark.kwargs if mark else {})}
    is_precise = bool(options["precision"] and options["confidence"])
    return {
        "group": options.get("group"),
        "name": item.name,
        "fullname": item.nodeid,
        "params": dict(item.callspec.params) if hasattr(item, "callspec") else None,
        "param": item.callspec.id if hasattr(item, "callspec") else None,
        "extra_info": dict(extra_info),
        "options": {
            "disable_gc": options["disable_gc"],
            "timer": options["timer"].__name__,
            "min_rounds": options["min_rounds"],
            "max_time": float(options["max_time"]),
            "min_time": float(options["min_time"]),
            "precision": float(options["precision"]) if is_precise else None,
            "confidence": float(options["confidence"]) if is_precise else None,
            "warmup": options["warmup"] and options["warmup_iterations"],
        },
    }


def guard_saving(benchmark_session: Any, saver: RunSaver, interrupted: Callable[[], None]) -> None:
    """Replace the session's two functions that save, and let the tables follow where Ctrl-C ends them.

    Args:
        interrupted: called where it does.
    """
    storage, say, save_all = benchmark_session.storage, benchmark_session.logger.info, benchmark_session.handle_saving

    def save_json(output_json: Mapping[str, Any]) -> None:
        if saver.save_json(benchmark_session.json, output_json):
            say(f"Wrote benchmark data in: {benchmark_session.json}", purple=True)

    def save(output_json: Mapping[str, Any], name: str) -> None:
        if path := saver.save_run(benchmark_session.machine_id, name, output_json):
            say(f"Saved benchmark data in: {path}")

    def handle_saving() -> None:
        try:
            save_all()
        except KeyboardInterrupt:
            saver.problems.append("NOT SAVED, or not wholly: Ctrl-C")
            interrupted()

    benchmark_session.handle_saving = handle_saving
    benchmark_session.save_json = save_json
    if run_folder(benchmark_session) is not None:
        storage.save = save
    else:
        saver.watch_server(storage)
