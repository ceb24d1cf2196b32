"""mpbench.system.code: what was imported is noted by its contents, and what has changed since is found."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

from mpbench.system.code import PACKAGE, code_files, digest_of


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose module imports a helper, both loaded, and a package that counts as installed."""
    (tmp_path / "own").mkdir()
    (tmp_path / "installed" / "zoo").mkdir(parents=True)
    (tmp_path / "own" / "mpb_model.py").write_text("import mpb_helper")
    (tmp_path / "own" / "mpb_helper.py").write_text("x = 1")
    (tmp_path / "installed" / "zoo" / "__init__.py").write_text("x = 1")
    for folder in ("own", "installed"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path / "installed")])
    for name in ("mpb_model", "zoo"):
        importlib.import_module(name)
    yield tmp_path
    for name in ("mpb_model", "mpb_helper", "zoo"):
        del sys.modules[name]


def later():
    return time.time() + 10


def own(files):
    return {key: digest for key, digest in files.items() if "mpb_" in key or "zoo" in key}


def test_what_is_imported_is_noted_but_not_what_is_installed(project):
    files = code_files(project, (), later())
    assert sorted(own(files)) == ["own/mpb_helper.py", "own/mpb_model.py"]
    assert len(files[PACKAGE]) == 64
    assert not {"numpy", "json", "pytest"} & {Path(key).parent.name for key in files}
    assert sorted(own(code_files(project, ("zoo",), later()))) == [
        "installed/zoo/__init__.py", "own/mpb_helper.py", "own/mpb_model.py",
    ]  # fmt: skip
    elsewhere = own(code_files(project / "own", (), later()))
    assert sorted(elsewhere) == ["mpb_helper.py", "mpb_model.py"]
    outside = own(code_files(project / "installed", (), later()))
    assert sorted(outside) == [str(project / "own" / name) for name in ("mpb_helper.py", "mpb_model.py")]


def test_digests_follow_the_contents(project):
    files = code_files(project, (), later())
    assert all(digest == digest_of(key, project) for key, digest in files.items())
    helper = project / "own" / "mpb_helper.py"
    helper.write_text("x = 2")
    assert digest_of("own/mpb_helper.py", project) not in ("", files["own/mpb_helper.py"])
    helper.write_text("x = 1")
    assert digest_of("own/mpb_helper.py", project) == files["own/mpb_helper.py"]
    helper.unlink()
    assert digest_of("own/mpb_helper.py", project) == ""


def test_what_was_changed_after_it_may_have_been_imported_is_unknown(project):
    assert set(own(code_files(project, (), time.time() - 3600)).values()) == {""}
    now = time.time()
    for name in ("mpb_helper.py", "mpb_model.py"):
        os.utime(project / "own" / name, (now - 60, now - 60 if name == "mpb_model.py" else now + 60))
    files = own(code_files(project, (), now))
    assert files["own/mpb_helper.py"] == ""
    assert len(files["own/mpb_model.py"]) == 64
