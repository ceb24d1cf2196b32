"""What XLA has compiled, kept in the user's cache folder for the next run.

TensorFlow writes and reads executables in one folder (`tf_xla_persistent_cache_directory`), and a damaged file, or a
full disk, ends the compilation. So it gets a folder of this session's own: whole files come in at its start, each
checked against the digest in its name, and new ones go out after a group has been measured. What goes wrong here costs
a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mpbench.engine.device import processor
from mpbench.engine.interleave import Progress
from mpbench.errors import reason
from mpbench.system import cache, machine

FLAG = "TF_XLA_FLAGS"
FLAG_TEXT = "--tf_xla_persistent_cache_directory={folder} --tf_xla_persistent_cache_device_types="
"""No device types: for all of them."""

MAX_BYTES = 4 * 2**30
"""In the user's cache folder, of all machines and versions: the oldest go first. InceptionV3's training step takes tens
of MB."""

FREE_BYTES = 2 * 2**30
"""That must be free where temporary files lie: TensorFlow fails where it cannot write."""

DIGEST_CHARACTERS = 16


class CompileCache:
    """The executables of one session.

    Args:
        kept: the user's folder of them, for this machine and these versions.
        folder: this session's own.
        say: takes one line.
    """

    def __init__(self, kept: Path, folder: Path, say: Progress) -> None:
        self._kept = kept
        self._folder = folder
        self._say = say
        self._take_in()
        self._known = self._stored = self._names()

    def _names(self) -> set[str]:
        return {path.name for path in self._folder.glob("*.pb")}

    def new_files(self) -> set[str]:
        """Names of the executables that have been compiled, and not found, since this was asked last."""
        before, self._known = self._known, self._names()
        return self._known - before

    def keep(self) -> None:
        """Put what is new into the user's folder."""
        names = self._names()
        try:
            for name in sorted(names - self._stored):
                source = self._folder / name
                digest = cache.sha256_of(source)[:DIGEST_CHARACTERS]
                with cache.publish(self._kept / f"{digest}.{name}") as partial:
                    shutil.copyfile(source, partial)
            _prune(self._kept.parent)
        except OSError as error:
            self._say(f"compiled steps are not kept for the next run: {self._kept}: {reason(error)}")
        self._stored = names

    def _take_in(self) -> None:
        for path in sorted(self._kept.glob("*.pb")):
            digest, _, name = path.name.partition(".")
            try:
                if cache.sha256_of(path)[:DIGEST_CHARACTERS] != digest:
                    self._say(f"a compiled step is damaged, and compiled anew: {path}")
                    path.unlink()
                    continue
                shutil.copyfile(path, self._folder / name)
                os.utime(path)  # the oldest go first
            except OSError as error:
                self._say(f"a compiled step cannot be used: {path}: {reason(error)}")
                (self._folder / name).unlink(missing_ok=True)


def open_cache(cleanup: Callable[[Callable[[], None]], object], say: Progress) -> CompileCache | None:
    """The cache of this session, and TensorFlow, which is not imported yet, told of it; None where there can be none.

    Args:
        cleanup: takes what is to be called at the session's end.
        say: takes one line.
    """
    if "tensorflow" in sys.modules or "persistent_cache_directory" in os.environ.get(FLAG, ""):
        return None  # it has read its flags already; or the user has a cache of their own
    try:
        if shutil.disk_usage(tempfile.gettempdir()).free < FREE_BYTES:
            say(f"compiled steps are not kept: less than {FREE_BYTES >> 30} GiB are free in {tempfile.gettempdir()}")
            return None
        kept = cache.folder("compiled", _key())
        own = Path(tempfile.mkdtemp(prefix="mpbench-compiled-"))
    except OSError as error:
        say(f"compiled steps are not kept: {reason(error)}")
        return None
    cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    before = os.environ.get(FLAG, "")
    os.environ[FLAG] = f"{before} {FLAG_TEXT.format(folder=own)}".strip()
    return CompileCache(kept, own, say)


def _key() -> str:
    """Of all that an executable depends on besides what is compiled."""
    known = {**machine.machine_facts(), "flags": os.environ.get("XLA_FLAGS", ""), "processor": processor()}
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:DIGEST_CHARACTERS]


def _prune(folder: Path) -> None:
    """Remove the executables that were not used for longest, beyond MAX_BYTES."""
    files = sorted(folder.rglob("*.pb"), key=lambda path: -path.stat().st_mtime)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
