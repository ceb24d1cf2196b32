"""mpbench.system.cache: what is published is whole, and nothing else stays."""

import atexit
import hashlib
import os
import time
from pathlib import Path

import pytest

from mpbench.system import cache


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def no_atexit(monkeypatch):
    """The substitute of this test alone, and its removal to be called."""
    removals = []
    monkeypatch.setattr(atexit, "register", lambda *args, **options: removals.append((args, options)))
    cache._temporary.cache_clear()
    yield removals
    cache._temporary.cache_clear()
    for (function, *args), options in removals:
        function(*args, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folder_is_made_in_the_users_cache(home):
    folder = cache.folder("a", "b")
    assert folder == home / "cache" / "mpbench" / "a" / "b"
    assert folder.is_dir()
    assert names(folder) == []
    assert cache.folder("a", "b") == folder


def test_an_unwritable_cache_is_replaced_for_this_process(home, monkeypatch, no_atexit):
    (home / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    folder = cache.folder("a")
    assert home not in folder.parents
    assert cache.folder("a") == folder
    [((function, *args), options)] = no_atexit
    function(*args, **options)
    assert not folder.exists()


def test_a_missing_home_does_not_lead_into_the_working_directory(home, monkeypatch, no_atexit):
    monkeypatch.chdir(home)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/mpbench"))
    assert cache.folder("a").is_absolute()
    assert names(home) == []


def test_without_a_home_and_a_name(home, monkeypatch, no_atexit):
    def homeless(*_, **__):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.chdir(home)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", homeless)
    assert cache.folder("a").is_dir()
    assert names(home) == []
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache.expanded("~/a") == Path("~/a")


def test_expanded(home):
    assert cache.expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert cache.expanded("~/a") == Path.home() / "a"


def test_published_file_and_folder(tmp_path):
    with cache.publish(tmp_path / "file") as partial:
        assert partial.name.startswith(".mpbench-partial-")
        partial.write_text("x")
        assert names(tmp_path) == [partial.name]
    with cache.publish(tmp_path / "folder") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "a").write_text("y")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder" / "deep" / "a").read_text() == "y"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_stays_of_what_failed(tmp_path, error, is_folder):
    def fill(partial):
        if is_folder:
            partial.mkdir()
            partial = partial / "a"
        partial.write_text("x")
        raise error

    with pytest.raises(error), cache.publish(tmp_path / "target") as partial:
        fill(partial)
    assert names(tmp_path) == []


def test_a_later_file_replaces_and_a_later_folder_is_discarded(tmp_path):
    for text in ("first", "second"):
        with cache.publish(tmp_path / "file") as partial:
            partial.write_text(text)
        with cache.publish(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / "a").write_text(text)
    assert (tmp_path / "file").read_text() == "second"
    assert (tmp_path / "folder" / "a").read_text() == "first"
    assert names(tmp_path) == ["file", "folder"]


def test_what_cannot_be_put_there_is_an_error(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"), cache.publish(tmp_path / "target") as partial:
        partial.write_text("a file, where a folder is")
    assert names(tmp_path) == ["target"]
    with pytest.raises(FileNotFoundError), cache.publish(tmp_path / "nothing"):
        pass


def test_what_killed_processes_left_goes_after_a_day(tmp_path):
    long_ago = time.time() - cache.ABANDONED_AFTER_S - 60
    for name in (".mpbench-partial-old", ".partial-of-somebody"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("x")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".mpbench-partial-new").write_text("x")
    with cache.publish(tmp_path / "target") as partial:
        partial.write_text("x")
    assert names(tmp_path) == [".mpbench-partial-new", ".partial-of-somebody", "target"]


def test_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK_BYTES", 3)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert cache.sha256_of(tmp_path / "a") == hashlib.sha256(b"0123456789").hexdigest()
