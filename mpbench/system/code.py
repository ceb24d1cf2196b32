"""Which files a program is made of, and whether they are still the same: what was measured, with git or without."""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

from mpbench.system.cache import sha256_of

PACKAGE = "mpbench"
"""Key of mpbench's own code, wherever it lies."""


def code_files(root: Path, packages: Collection[str], since_s: float) -> dict[str, str]:
    """SHA-256 of each file that was imported and is neither Python's own nor of an installed package.

    Args:
        root: names of files below it are relative to it, so that another checkout can be held against this one.
        packages: whose files count although they are installed, by their top-level names.
        since_s: when the program began, in seconds since the epoch.

    Returns:
        By name, one entry for mpbench as a whole; empty for what has changed since the program began: nobody knows
        which of the two was imported.
    """
    found = {PACKAGE: _unless_changed(PACKAGE, root, since_s)}
    foreign = _installed()
    for name, module in list(sys.modules.items()):
        file, top = getattr(module, "__file__", None), name.partition(".")[0]
        if not isinstance(file, str) or top == PACKAGE or name == "__main__":
            continue
        path = Path(os.path.abspath(file))  # noqa: PTH100  # links are kept: two of them may lead to one file
        if top not in packages and any(path.is_relative_to(folder) for folder in foreign):
            continue
        key = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        found[key] = _unless_changed(key, root, since_s)
    return found


def digest_of(key: str, root: Path) -> str:
    """SHA-256 of what a name of `code_files` stands for now; empty where that is not there or cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in _files(key, root):
            digest.update(f"{path.name} {sha256_of(path)}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        return ""
    return digest.hexdigest()


def _unless_changed(key: str, root: Path, since_s: float) -> str:
    try:
        changed = any(path.stat().st_mtime > since_s for path in _files(key, root))
    except OSError:
        return ""
    return "" if changed else digest_of(key, root)


def _files(key: str, root: Path) -> list[Path]:
    if key == PACKAGE:
        return sorted(Path(__file__).parents[1].rglob("*.py"))
    return [root / key]


def _installed() -> list[Path]:
    """The folders of Python's own modules and of installed packages."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = [os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()]  # noqa: PTH120
    return [Path(folder) for folder in (*folders, *own) if folder]
