"""engine.compile_cache: what XLA has compiled comes back whole or not at all; what goes wrong ends no run."""

import os
import sys
from pathlib import Path

import pytest

from mpbench.engine import compile_cache
from mpbench.engine.compile_cache import CompileCache, open_cache

FACTS = {"tensorflow": "2.21.0", "gpu": "NVIDIA H200", "driver": "580"}


@pytest.fixture
def kept(tmp_path):
    folder = tmp_path / "user" / "key"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def session(tmp_path, kept):
    """Begins a session: its cache, its own folder, what it says."""
    count = 0

    def begin():
        nonlocal count
        count += 1
        own, messages = tmp_path / f"own{count}", []
        own.mkdir()
        return CompileCache(kept, own, messages.append), own, messages

    return begin


def test_what_is_compiled_is_found_by_the_next_run_and_is_not_new_to_it(session):
    cache, own, messages = session()
    (own / "step.pb").write_bytes(b"executable")
    assert cache.new_files() == {"step.pb"}
    assert cache.new_files() == set()
    cache.keep()
    cache, own, more = session()
    assert (own / "step.pb").read_bytes() == b"executable"
    assert cache.new_files() == set()
    (own / "other.pb").write_bytes(b"another")
    assert cache.new_files() == {"other.pb"}
    assert messages == more == []


@pytest.mark.parametrize("damage", [b"", b"exec", b"executablf", b"x" * 100])
def test_a_damaged_file_is_named_removed_and_never_seen_by_tensorflow(session, kept, damage):
    cache, own, _ = session()
    (own / "step.pb").write_bytes(b"executable")
    cache.keep()
    (file,) = kept.iterdir()
    file.write_bytes(damage)
    _, own, messages = session()
    assert list(own.iterdir()) == []
    assert messages == [f"a compiled step is damaged, and compiled anew: {file}"]
    assert not file.exists()


def test_a_foreign_or_unreadable_entry_costs_a_line(session, kept):
    (kept / "0123456789abcdef.step.pb").mkdir()
    (kept / "notes.txt").write_text("mine")
    _, own, messages = session()
    assert list(own.iterdir()) == []
    assert len(messages) == 1
    assert messages[0].startswith("a compiled step cannot be used: ")
    assert (kept / "notes.txt").exists()


def test_a_folder_that_is_gone_or_full_costs_a_line(session, kept, monkeypatch):
    cache, own, messages = session()
    (own / "step.pb").write_bytes(b"executable")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compile_cache.shutil, "copyfile", full)
    cache.keep()
    assert messages == [f"compiled steps are not kept for the next run: {kept}: No space left on device"]
    assert list(kept.iterdir()) == []


def test_the_oldest_go_first(session, kept, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 25)
    cache, own, _ = session()
    for number, name in enumerate(("a", "b", "c")):
        (own / f"{name}.pb").write_bytes(name.encode() * 10)
        cache.keep()
        for path in kept.glob(f"*.{name}.pb"):
            os.utime(path, (number, number))
    cache.keep()
    assert sorted(path.name.split(".")[1] for path in kept.iterdir()) == ["b", "c"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.delenv(compile_cache.FLAG, raising=False)
    return tmp_path


def test_tensorflow_is_told_of_a_folder_that_goes_at_the_end(home, monkeypatch):
    monkeypatch.setenv(compile_cache.FLAG, "--tf_xla_auto_jit=0")
    endings = []
    cache = open_cache(endings.append, pytest.fail)
    first, *flags = os.environ[compile_cache.FLAG].split()
    assert first == "--tf_xla_auto_jit=0"
    folder = Path(flags[0].removeprefix("--tf_xla_persistent_cache_directory="))
    assert folder.is_dir()
    assert flags[1:] == ["--tf_xla_persistent_cache_device_types="]
    assert cache.new_files() == set()
    for ending in endings:
        ending()
    assert not folder.exists()


def test_other_versions_and_cards_have_another_folder(home, monkeypatch):
    keys = set()
    for change in ({}, {"driver": "581"}, {"gpu": "H100"}):
        monkeypatch.setattr(compile_cache.machine, "machine_facts", lambda change=change: FACTS | change)
        keys.add(compile_cache._key())
    assert len(keys) == 3


def test_there_is_none_where_tensorflow_is_loaded_or_the_user_has_one_or_no_room(home, monkeypatch):
    messages = []
    monkeypatch.setattr(compile_cache, "FREE_BYTES", 2**80)
    assert open_cache(pytest.fail, messages.append) is None
    assert "compiled steps are not kept: less than " in messages[0]
    monkeypatch.setenv(compile_cache.FLAG, "--tf_xla_persistent_cache_directory=/mine")
    assert open_cache(pytest.fail, pytest.fail) is None
    monkeypatch.delenv(compile_cache.FLAG)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert open_cache(pytest.fail, pytest.fail) is None
