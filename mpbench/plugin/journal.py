"""A session's journal: its finished cases go into it as they are measured, and resumed ones come out of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mpbench.journal.lines import Finished
from mpbench.journal.saving import RunSaver
from mpbench.plugin.benchmark_adapter import commit_problem, entry_of, header
from mpbench.records.measured import Measured
from mpbench.system.code import code_files

if TYPE_CHECKING:
    from mpbench.plugin.session import Session


class SessionJournal:
    """The journal of one session that measures.

    Args:
        session: ours.
        benchmark_session: pytest-benchmark's.
        saver: of the session.
    """

    def __init__(self, session: Session, benchmark_session: Any, saver: RunSaver) -> None:
        self._session = session
        self._benchmark_session = benchmark_session
        self._saver = saver
        self._items = {id: item for kind in session.kinds for id, item in kind.selected.items()}
        self._groups = {id: kind.group(id) for kind in session.kinds for id in kind.selected}
        self._measurements: dict[frozenset[str], str] = {}

    def open(self, resume: bool) -> None:
        """Open the journal, and hand resumed cases to their kinds; raises UsageProblem as `RunSaver.begin` does."""
        run = self._session.run
        of_session = header(self._benchmark_session, self._session.settings, list(self._groups))
        if problem := of_session.commit_info.get("error"):
            run.progress(f"the commit is not known: {commit_problem(str(problem))}")
        resumed = self._saver.begin(of_session, resume, self._groups)
        for kind in self._session.kinds:
            kind.restore(
                {
                    id: Measured(kind.kind.read(case.benchmark["extra_info"]), tuple(case.rounds), id)
                    for id, case in resumed.items()
                    if id in kind.selected
                }
            )

    def write(self, cases: Mapping[str, Measured[Any]]) -> None:
        """Write cases that were measured together, by id; once more where they say more now."""
        measurement = self._measurements.setdefault(frozenset(cases), secrets.token_hex(8))
        models = {str(getattr(case.record, "model", "")) for case in cases.values()}
        factories = {model.partition(":")[0].partition(".")[0] for model in models if ":" in model}
        # Nothing of the program was imported before the session began.
        code = code_files(self._session.config.rootpath, factories, self._session.began_s)
        now = datetime.now(timezone.utc).isoformat()
        self._saver.finished(
            [
                Finished(
                    # What a test adds to extra_info is not in it yet.
                    entry_of(self._benchmark_session, self._items[id], case.record.as_extra_info()),
                    list(case.rounds),
                    self._groups[id],
                    measurement,
                    now,
                    code,
                )
                for id, case in cases.items()
            ]
        )
