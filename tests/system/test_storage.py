"""system.storage and plugin.output_files: whole files, numbers given once, and room that is really there."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mpbench.errors import UsageProblem
from mpbench.plugin.output_files import check_outputs
from mpbench.system.storage import (
    IN_PLACE,
    check_room,
    check_target,
    locked,
    publish_run,
    real_path,
    write_file,
)

FULL = Path("/dev/full")


def test_numbers_follow_the_highest_one_and_nothing_is_overwritten(tmp_path):
    assert publish_run(tmp_path, "machine", "a", b"1").name == "0001_a.json"
    (tmp_path / "0007_elsewhere.json").write_text("{}")
    (tmp_path / "machine" / "notes.json").write_text("{}")
    assert publish_run(tmp_path, "machine", "a", b"2") == tmp_path / "machine" / "0008_a.json"
    (tmp_path / "machine" / "9999_x.json").write_text("{}")
    assert [publish_run(tmp_path, "machine", "a", b"3").name for _ in range(2)] == ["10000_a.json", "10001_a.json"]
    # More digits than are counted: the name is taken and the next one is not.
    (tmp_path / "machine" / "999999999_x.json").write_text("{}")
    assert [publish_run(tmp_path, "machine", "a", b"3").name[:11] for _ in range(2)] == ["1000000000_", "1000000001_"]
    assert (tmp_path / "machine" / "0001_a.json").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".", "..", "a\0", "a" * 201])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    with pytest.raises(OSError, match="cannot be a file's name"):
        publish_run(tmp_path, "machine", name, b"1")
    with pytest.raises(OSError, match="cannot be a file's name"):
        publish_run(tmp_path, name, "a", b"1")
    assert not list(tmp_path.rglob("*.json"))


def _save_some(storage, start, number):
    start.wait()
    for _ in range(5):
        with locked(storage):
            publish_run(storage, "machine", "same", json.dumps(number).encode())


def test_processes_that_save_at_once_get_a_number_each(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=_save_some, args=(tmp_path, start, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    files = sorted((tmp_path / "machine").iterdir())
    assert [path.name for path in files] == [f"{n:04}_same.json" for n in range(1, 21)]
    assert sorted(json.loads(path.read_text()) for path in files) == sorted(list(range(4)) * 5)


def test_a_lock_that_is_never_released_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mpbench.system.storage.LOCK_SECONDS", 0.2)
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        with pytest.raises(OSError, match="could not be acquired"), locked(tmp_path):
            pass
    finally:
        done.set()
        thread.join()


def test_no_room_is_found_out_by_writing(tmp_path):
    code = (
        "import resource, sys, pathlib; from mpbench.system.storage import check_room\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try: check_room(pathlib.Path(sys.argv[1]))\n"
        "except OSError as error: print(error.strerror)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout == "File too large\n"
    check_room(tmp_path)
    assert not list(tmp_path.iterdir())


def test_targets_are_tried_and_left_as_they_are(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "run.json")
    for name in ("run.json", "new.json", "link.json"):
        check_target(tmp_path / name)
    check_target(Path("/dev/null"))
    assert (tmp_path / "run.json").read_text() == "{}"
    assert not (tmp_path / "new.json").exists()
    for bad in (
        tmp_path,
        tmp_path / "missing" / "run.json",
        tmp_path / "run.json" / "run.json",
        Path("/proc/run.json"),
    ):
        with pytest.raises(OSError):  # noqa: PT011 -- of four kinds
            check_target(bad)


@pytest.mark.skipif(not FULL.exists(), reason="Linux only")
def test_a_full_device_is_refused_at_the_start():
    with pytest.raises(UsageProblem, match=r"--benchmark-json: /dev/full: valid is .*No space left on device"):
        check_outputs({"benchmark_json": FULL}.get, None)


def test_a_file_is_replaced_whole_and_a_link_written_through(tmp_path):
    target = tmp_path / "run.json"
    target.write_text("old and long")
    (tmp_path / "link.json").symlink_to(target)
    write_file(target, b"new")
    assert target.read_bytes() == b"new"
    write_file(tmp_path / "link.json", b"newer")
    assert target.read_bytes() == b"newer"
    assert (tmp_path / "link.json").is_symlink()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "run.json"]


def test_a_file_behind_a_link_is_replaced_whole_and_keeps_its_mode(tmp_path):
    target, link = tmp_path / "page.html", tmp_path / "link.html"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    before = target.stat().st_ino
    write_file(link, b"new")
    assert (target.read_bytes(), link.is_symlink()) == (b"new", True)
    assert target.stat().st_ino != before  # never half of either
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_loop_of_links_is_refused_and_left(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for refused in (lambda: write_file(loop, b""), lambda: check_target(loop), lambda: real_path(loop)):
        with pytest.raises(OSError, match="Too many levels"):
            refused()
    assert loop.is_symlink()


@pytest.mark.parametrize("number", IN_PLACE)
def test_where_nothing_can_be_put_beside_it_a_file_is_written_in_place(tmp_path, monkeypatch, number):
    def refuse(self, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    write_file(tmp_path / "page.html", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]
