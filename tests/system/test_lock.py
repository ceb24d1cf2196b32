"""mpbench.system.lock and the plugin's use of it: one session per GPU or machine, and nobody waits for the dead."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.errors import UsageProblem
from mpbench.system import lock as locking
from mpbench.system.lock import HELD, MACHINE, NOTE_SUFFIX, SessionLock, holder, keys_of, shared_folder

KEY = "GPU-1234-5a"
HOLD = f"""
import sys
from mpbench.system.lock import SessionLock
lock = SessionLock("wait", "pytest bench/", print)
lock.take({KEY!r})
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A machine of its own, as far as locks go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(HELD, "")  # and what a test leaves there is undone
    return tmp_path / locking.FOLDER


@pytest.fixture
def other():
    """A process that holds KEY until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def session(mode="fail", say=pytest.fail):
    return SessionLock(mode, "pytest -k mine", say)


def test_a_lock_is_held_until_it_is_released(folder):
    first = session()
    first.take(KEY)
    first.take(KEY)
    assert os.environ[HELD] == KEY
    assert "(pytest -k mine, since " in holder(folder / f"{KEY}.lock")
    del os.environ[HELD]  # as in a process that is no child of this one
    with pytest.raises(UsageProblem, match=rf"^--mp-lock=fail: pid {os.getpid()} of .* \(pytest -k mine, since "):
        session().take(KEY)
    session().take(MACHINE)
    os.environ[HELD] = KEY
    first.release()
    assert HELD not in os.environ
    assert not first.holds_any
    assert holder(folder / f"{KEY}.lock") == "another process"
    again = session()
    again.take(KEY)
    again.release()


def test_a_lock_is_for_all_users(folder):
    lock = session()
    before = os.umask(0o077)
    try:
        lock.take(MACHINE)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {locking.FOLDER: 0o777, "this_machine.lock": 0o666, "this_machine.holder": 0o644}
    lock.release()


def test_off_takes_nothing(folder):
    session("off").take(KEY)
    assert not folder.exists()


def test_the_two_keys_of_a_session_are_released_together(monkeypatch):
    monkeypatch.setenv(HELD, "GPU-of-a-parent")
    lock = session()
    lock.take(KEY)
    lock.take(MACHINE)
    assert os.environ[HELD].split(",") == ["GPU-of-a-parent", KEY, MACHINE]
    lock.release()
    assert os.environ[HELD] == "GPU-of-a-parent"


def test_a_waiter_says_for_whom_and_again_and_then_goes_on(other, monkeypatch):
    monkeypatch.setattr(locking, "REMIND_S", 0.3)
    monkeypatch.setattr(locking, "POLL_S", 0.05)
    lines = []

    def say(line):
        lines.append(line)
        if len(lines) == 2:
            other.stdin.write("\n")
            other.stdin.flush()

    lock = session("wait", say)
    lock.take(KEY)
    assert lock.holds_any
    lock.release()
    assert lines[0].startswith(f"waiting for pid {other.pid} of ")
    assert "(pytest bench/, since " in lines[0]
    assert lines[0].endswith(f") to be done with {KEY}")
    assert lines[1] == lines[0]


def test_a_killed_holder_blocks_nobody(other, folder):
    with pytest.raises(UsageProblem, match=f"pid {other.pid} of"):
        session().take(KEY)
    other.kill()
    other.wait()
    assert holder(folder / f"{KEY}.lock").startswith(f"pid {other.pid} of ")
    lock = session()
    lock.take(KEY)
    assert holder(folder / f"{KEY}.lock").startswith(f"pid {os.getpid()} of ")
    lock.release()


def test_a_child_process_does_not_wait_for_its_parent():
    lock = session()
    lock.take(KEY)
    child = subprocess.run(
        [sys.executable, "-c", HOLD],
        input="\n",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    assert child.stdout == "held\n"
    del os.environ[HELD]
    with pytest.raises(UsageProblem, match="is measuring on"):
        session().take(KEY)
    lock.release()


def test_ctrl_c_ends_the_waiting(other, interruptible):
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    lock = session("wait", lambda line: interrupt.start())
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        lock.take(KEY)
    assert time.monotonic() - start < 30
    assert not lock.holds_any


def make_file(folder):
    folder.write_text("")


def make_link(folder):
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def make_dangling_link(folder):
    folder.symlink_to(folder.parent / "nowhere")


def make_folder_for_lock(folder):
    (folder / f"{KEY}.lock").mkdir(parents=True)


def make_link_for_lock(folder):
    folder.mkdir()
    (folder / f"{KEY}.lock").symlink_to(folder.parent / "precious")


@pytest.mark.parametrize(
    "make",
    [make_file, make_link, make_dangling_link, make_folder_for_lock, make_link_for_lock],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("mode", ["wait", "fail"])
def test_a_hostile_folder_is_one_clear_line(folder, make, mode):
    make(folder)
    with pytest.raises(UsageProblem, match=r"^--mp-lock: .*: use .* or --mp-lock=off$"):
        session(mode).take(KEY)
    session("off").take(KEY)
    assert not (folder.parent / "precious").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_one_clear_line(folder):
    folder.mkdir(mode=0o555)
    with pytest.raises(UsageProblem, match=r"^--mp-lock: .*: Permission denied: use"):
        session().take(KEY)


def test_a_missing_temporary_folder_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(UsageProblem, match=r"^--mp-lock: .*: No such file or directory: use"):
        session().take(KEY)


def test_a_note_steers_no_terminal_and_has_an_end(folder):
    path = shared_folder() / f"{KEY}.lock"
    note = path.with_suffix(NOTE_SUFFIX)
    for content, line in (
        (b"", "another process"),
        (b"rm\n\x1b[31m\xff", "rm??[31m\ufffd"),
        (b"x" * 10_000, "x" * 300),
    ):
        note.write_bytes(content)
        assert holder(path) == line
    lock = session()
    lock.take(KEY)
    assert holder(path).startswith(f"pid {os.getpid()} of ")
    lock.release()


def test_a_note_that_is_not_a_file_names_nobody_and_blocks_nobody(folder):
    for n, make in enumerate([Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")]):
        note = shared_folder() / f"key{n}{NOTE_SUFFIX}"
        make(note)
        assert holder(note.with_suffix(".lock")) == "another process"
        lock = session()
        lock.take(f"key{n}")
        lock.release()


def test_a_long_command_is_cut(folder):
    lock = SessionLock("fail", "x" * 200, pytest.fail)
    lock.take(KEY)
    assert holder(folder / f"{KEY}.lock").count("x") == locking.COMMAND_CHARACTERS
    lock.release()


def test_the_key_is_the_gpus_unless_the_cases_run_on_the_cpu(monkeypatch):
    monkeypatch.setattr("mpbench.system.nvidia.gpu_uuids", lambda count: ["GPU-2", "GPU-1"][:count])
    assert [keys_of(device) for device in ("auto", "gpu", "cpu")] == [["GPU-2"], ["GPU-2"], [MACHINE]]
    assert keys_of("auto", 2) == ["GPU-1", "GPU-2"]
    monkeypatch.setattr("mpbench.system.nvidia.gpu_uuids", lambda count: [])
    assert keys_of("auto") == [MACHINE]


# The plugin.


@pytest.fixture
def machine_is_taken():
    """Another session has this machine; what this one starts does not know that it is a child."""
    lock = session()
    lock.take(MACHINE)
    del os.environ[HELD]
    yield
    lock.release()


ARGS = ("bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", "--mp-models=tiny_models:classifier")


@pytest.fixture
def project(pytester, monkeypatch):
    for name, content in {
        "conftest.py": (ROOT / "conftest.py").read_text(),
        "bench/test_training.py": (ROOT / "bench" / "test_training.py").read_text(),
        "tiny_models.py": (SUPPORT / "tiny_models.py").read_text(),
    }.items():
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def test_a_session_that_may_not_wait_fails_before_tensorflow_is_loaded(project, machine_is_taken):
    result = project.runpytest_subprocess(*ARGS, "--mp-lock=fail")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --mp-lock=fail: pid {os.getpid()} of * is measuring on this machine: *"])
    assert "loading TensorFlow" not in result.stdout.str()
    result = project.runpytest_subprocess(*ARGS, "--mp-lock=maybe")
    result.stderr.fnmatch_lines(["ERROR: --mp-lock: unknown 'maybe': valid are wait, fail, off"])


def test_ctrl_c_while_a_session_waits(project, machine_is_taken, interruptible):
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *ARGS], stdout=subprocess.PIPE, text=True, cwd=project.path
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "waiting for" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == pytest.ExitCode.INTERRUPTED
    assert any("waiting for pid" in line for line in lines)
    assert not any("loading TensorFlow" in line for line in lines)


@pytest.mark.parametrize("args", [["--collect-only"], ["--benchmark-skip"], ["-k", "nothing"]])
def test_what_measures_nothing_waits_for_nobody(project, machine_is_taken, args):
    result = project.runpytest_subprocess(*ARGS, "--mp-lock=fail", *args)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
