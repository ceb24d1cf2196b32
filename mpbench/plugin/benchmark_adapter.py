"""What mpbench takes from pytest-benchmark's session object beyond its hooks, and the methods that it replaces.

pytest-benchmark numbers a file and then writes it in place, both without a lock, and raises inside the hook in which
the terminal's summary is made. So the session's two ways of saving are replaced by ones that lock, write whole files
and never raise: a wrapper around that hook could do none of this but lock, and would lose the tables.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest_benchmark

from mpbench.accuracy.experiment import Comparison
from mpbench.config.settings import Settings
from mpbench.engine.run import Run
from mpbench.errors import printable
from mpbench.journal.lines import Finished, Header
from mpbench.journal.saving import RunSaver
from mpbench.records.accuracy import ACCURACY
from mpbench.records.diagnostics import DIAGNOSTICS, DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.records.speed import SPEED, SpeedCase
from mpbench.system.code import code_files
from mpbench.system.storage import DEFAULT_FOLDER
from mpbench.why.measuring.session import Diagnostics

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
    said = re.search(r"fatal: (.*?)(?:\\n|'\)$|$)", error)
    text = printable(said[1].replace("\\'", "'") if said else error)[:COMMIT_PROBLEM_CHARACTERS]
    if "dubious ownership" in text:
        text += "; git config --global --add safe.directory FOLDER trusts it"
    return text


class JournalWriter:
    """Writes a session's finished cases into its journal, and reads resumed ones out of it.

    Args:
        benchmark_session: pytest-benchmark's.
        saver: of the session.
        run: its speed cases.
        diagnostics: its diagnostic cases.
        items: pytest's, of all selected cases.
        since_s: when the session began, in seconds since the epoch: nothing of the program was imported earlier.
    """

    def __init__(
        self,
        benchmark_session: Any,
        saver: RunSaver,
        run: Run,
        diagnostics: Diagnostics,
        items: Sequence[Any],
        since_s: float,
    ) -> None:
        self._benchmark_session = benchmark_session
        self._saver = saver
        self._run = run
        self._probes = diagnostics
        self._items = {item.nodeid: item for item in items}
        self._since_s = since_s
        self._measurements: dict[frozenset[str], str] = {}

    def begin(self, resume: bool) -> dict[str, Comparison]:
        """Open the journal; the run gets its resumed cases, and the resumed accuracy comparisons are returned by id.

        Raises:
            UsageProblem: see `RunSaver.begin`.
        """
        groups = {id: self._group(id) for id in self._items}
        of_session = header(self._benchmark_session, self._run.settings, list(groups))
        if problem := of_session.commit_info.get("error"):
            self._run.progress(f"the commit is not known: {commit_problem(str(problem))}")
        compared = {}
        for id, case in self._saver.begin(of_session, resume, groups).items():
            extra_info, rounds = case.benchmark["extra_info"], tuple(case.rounds)
            if id in self._run.cases:
                self._run.outcomes.restore({id: Measured(SPEED.read(extra_info), rounds)})
            elif id in self._probes.cases:
                self._probes.outcomes.restore({id: Measured(DIAGNOSTICS.read(extra_info), rounds)})
            else:
                compared[id] = Comparison(ACCURACY.read(extra_info), rounds)
        self._run.outcomes.on_measured = self._probes.outcomes.on_measured = self.finished
        return compared

    def finished(self, cases: Mapping[str, SpeedCase | Measured[DiagnosticRecord] | Comparison]) -> None:
        """Put cases that were measured together into the journal, by id; once more where they say more now."""
        measurement = self._measurements.setdefault(frozenset(cases), secrets.token_hex(8))
        models = {str(getattr(case.record, "model", "")) for case in cases.values()}
        factories = {model.partition(":")[0].partition(".")[0] for model in models if ":" in model}
        code = code_files(self._benchmark_session.config.rootpath, factories, self._since_s)
        self._saver.finished([self._entry(id, case, measurement, code) for id, case in cases.items()])

    def _group(self, id: str) -> str:
        case = self._run.cases.get(id) or self._probes.cases.get(id)
        return " ".join(case.group) if case else id

    def _entry(
        self, id: str, case: SpeedCase | Measured[DiagnosticRecord] | Comparison, measurement: str, code: dict[str, str]
    ) -> Finished:
        """A case as its `benchmark` fixture will report it; what its test adds to extra_info is not in it yet."""
        item = self._items[id]
        mark = item.get_closest_marker("benchmark")
        options = {**self._benchmark_session.options, **(mark.kwargs if mark else {})}
        precise = bool(options["precision"] and options["confidence"])
        benchmark = {
            "group": options.get("group"),
            "name": item.name,
            "fullname": item.nodeid,
            "params": dict(item.callspec.params) if hasattr(item, "callspec") else None,
            "param": item.callspec.id if hasattr(item, "callspec") else None,
            "extra_info": case.record.as_extra_info(),
            "options": {
                "disable_gc": options["disable_gc"],
                "timer": options["timer"].__name__,
                "min_rounds": options["min_rounds"],
                "max_time": float(options["max_time"]),
                "min_time": float(options["min_time"]),
                "precision": float(options["precision"]) if precise else None,
                "confidence": float(options["confidence"]) if precise else None,
                "warmup": options["warmup"] and options["warmup_iterations"],
            },
        }
        rounds = case.pass_seconds if isinstance(case, Comparison) else case.rounds
        now = datetime.now(timezone.utc).isoformat()
        return Finished(benchmark, list(rounds), self._group(id), measurement, now, code)


def guard_saving(benchmark_session: Any, saver: RunSaver, interrupted: Callable[[], None]) -> None:
    """Replace the session's two ways of saving, and let the tables follow where Ctrl-C ends them.

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
