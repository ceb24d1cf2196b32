"""The gate at the end of a session: what it compares with is loaded before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mpbench.errors import UsageProblem, printable
from mpbench.gate.judge import assess
from mpbench.gate.rules import Rules, read_rules
from mpbench.gate.verdict import Verdict
from mpbench.records.runs import SavedRun, load_runs
from mpbench.system.cache import expanded
from mpbench.system.storage import DEFAULT_FOLDER

CLOCKS_DIFFER = timedelta(minutes=5)
"""By so much at most: machines that share a storage need not agree to the second."""


class SessionGate:
    """Rules and earlier runs, loaded.

    Args:
        storage: as in `--benchmark-storage`.
        root: folder of the pyproject.toml with the rules, if there is one.
        missing: one of MISSING_CHOICES, or None for the rules'.
        warn: takes one line for each saved run that cannot be read.

    Raises:
        UsageProblem: the storage is a server, the rules are malformed, or there are runs from the future.
    """

    def __init__(self, storage: str | None, root: Path, missing: str | None, warn: Callable[[str], None]) -> None:
        self.rules = default_rules(root).with_missing(missing)
        self._earlier = load_runs(storage_folder(storage or DEFAULT_FOLDER), warn)
        later = [run for run in self._earlier if run.time > datetime.now(timezone.utc) + CLOCKS_DIFFER]
        if later:
            raise UsageProblem(
                f"--mp-gate: {len(later)} of {len(self._earlier)} saved runs are later than now, such as "
                f"{printable(str(later[-1].path))} ({later[-1].time:%Y-%m-%d %H:%M} UTC): they would not count. "
                "Set this machine's clock, or move them away"
            )

    def assess(self, new: SavedRun, confirming: Sequence[SavedRun] = ()) -> tuple[list[Verdict], list[str]]:
        """Verdicts on what a session has measured, and which of its cases are to be measured again.

        Args:
            new: the session's run.
            confirming: what fresh processes have measured of it again.
        """
        return assess(new, [*self._earlier, *confirming], self.rules)


def default_rules(root: Path) -> Rules:
    """Those in a folder's pyproject.toml; the defaults where there is none."""
    path = root / "pyproject.toml"
    return read_rules(path) if path.is_file() else Rules()


def storage_folder(storage: str) -> Path:
    """The folder that `--benchmark-storage` means.

    Raises:
        UsageProblem: it is a server.
    """
    if "://" in storage and not storage.startswith("file://"):
        raise UsageProblem(f"--benchmark-storage: {storage}: with --mp-gate it must be a folder")
    return expanded(storage.removeprefix("file://"))
