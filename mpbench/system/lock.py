"""One benchmark at a time: a lock that all users of the machine share, keyed by the GPU, and who holds it.

The kernel's lock on the file decides, so what a killed session leaves behind stops nobody. A note beside it says who
holds it, for those who wait. The temporary folder is where all users meet: where each has one of his own (TMPDIR), each
has locks of his own.
"""

from __future__ import annotations

import errno
import getpass
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mpbench.errors import UsageProblem, printable, reason
from mpbench.system import cache, nvidia

MODES = ("wait", "fail", "off")
FOLDER = "mpbench-locks"
MACHINE = "this machine"
"""The key where no GPU is used, and where nothing can tell which."""

HELD = "MPBENCH_LOCKS_HELD"
"""Environment variable with the keys that a session holds, comma-separated. Its child processes inherit it and do not
wait for what their own parent holds: a test that runs pytest in a process of its own would wait for ever."""

REMIND_S = 60.0
"""A waiter says again for whom it waits: a silent minute looks like a hang."""

POLL_S = 0.2
"""Between two looks at a held lock: nothing to a machine, and soon enough for a person."""

NOTE_SUFFIX = ".holder"
NOTE_BYTES = 300
COMMAND_CHARACTERS = 80
"""Of a command line in a message."""


def keys_of(device: str, gpus: int = 1) -> list[str]:
    """The keys of the devices that cases will run on: UUIDs of the first visible GPUs, else MACHINE.

    Args:
        device: one of `device.DEVICES`.
        gpus: how many.

    Returns:
        In an order that is the same for all sessions: two of them never wait for each other.
    """
    return sorted(nvidia.gpu_uuids(gpus) if device != "cpu" else []) or [MACHINE]


class SessionLock:
    """The locks of one session, usually one.

    Args:
        mode: one of MODES.
        command: what others are told that this session is.
        say: shows one line at once.
    """

    def __init__(self, mode: str, command: str, say: Callable[[str], None]) -> None:
        self._mode = mode
        short = command if len(command) <= COMMAND_CHARACTERS else f"{command[:COMMAND_CHARACTERS]}..."
        self._me = f"pid {os.getpid()} of {_user()} ({short}, since {datetime.now():%Y-%m-%d %H:%M})"
        self._say = say
        self._locks: dict[str, FileLock] = {}

    def take(self, key: str) -> None:
        """Take a key's lock, if the mode asks for it and neither this session nor a parent process has it.

        Raises:
            UsageProblem: the mode is fail and another holds it, or the folder of locks cannot be used.
        """
        if self._mode == "off" or key in _held():
            return
        path = shared_folder() / f"{re.sub('[^A-Za-z0-9-]', '_', key)}.lock"
        lock = FileLock(path, mode=0o666)  # another user's session opens it for writing too
        try:
            self._acquire(lock, key)
        except (OSError, NotImplementedError) as error:
            raise UsageProblem(
                f"--mp-lock: {path}: {reason(error)}: use a file that can be locked, or --mp-lock=off"
            ) from None
        self._locks[key] = lock
        os.environ[HELD] = ",".join([*_held(), key])
        # Without it the lock holds all the same.
        with suppress(OSError), cache.publish(path.with_suffix(NOTE_SUFFIX)) as partial:
            partial.write_text(self._me, encoding="utf-8")
            partial.chmod(0o644)

    @property
    def holds_any(self) -> bool:
        return bool(self._locks)

    def release(self) -> None:
        """Release all; without effect where there are none."""
        for key, lock in self._locks.items():
            with suppress(OSError):
                Path(lock.lock_file).with_suffix(NOTE_SUFFIX).unlink()
            with suppress(OSError):
                lock.release()
            left = [other for other in _held() if other != key]
            os.environ.pop(HELD, None)
            if left:
                os.environ[HELD] = ",".join(left)
        self._locks.clear()

    def _acquire(self, lock: FileLock, key: str) -> None:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        path = Path(lock.lock_file)
        if self._mode == "fail":
            raise UsageProblem(
                f"--mp-lock=fail: {holder(path)} is measuring on {key}: use --mp-lock=wait to wait until that is done"
            )
        while True:
            self._say(f"waiting for {holder(path)} to be done with {key}")
            with suppress(Timeout):
                lock.acquire(timeout=REMIND_S, poll_interval=POLL_S)
                return


def shared_folder() -> Path:
    """The folder of locks, made where it is missing, for all users of the machine.

    Raises:
        UsageProblem: what is there is not a folder, or cannot be written to.
    """
    folder = Path(tempfile.gettempdir()) / FOLDER
    # Not sticky as /tmp is: with that, Linux and filelock keep one user from locking a file that another has made.
    before = os.umask(0)
    try:
        folder.mkdir(mode=0o777, exist_ok=True)
        if folder.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "is a link")
    except OSError as error:
        raise UsageProblem(
            f"--mp-lock: {folder}: {reason(error)}: use a folder that every user can write to, another temporary "
            "folder (TMPDIR), or --mp-lock=off"
        ) from None
    finally:
        os.umask(before)
    return folder


def holder(lock_file: Path) -> str:
    """Who holds a lock, in one line, as far as its note says."""
    text = b""
    with suppress(OSError):
        # Anybody can put anything there: a pipe would wait for a writer, a link may lead anywhere.
        descriptor = os.open(lock_file.with_suffix(NOTE_SUFFIX), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            text = os.read(descriptor, NOTE_BYTES)
        finally:
            os.close(descriptor)
    return printable(text.decode(errors="replace")) or "another process"


def _held() -> list[str]:
    return [key for key in os.environ.get(HELD, "").split(",") if key]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        return f"user {os.getuid()}"
