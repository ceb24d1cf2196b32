"""A session that a test of another session starts does not wait for that one, and no lock outlives a failing one."""

import os
import tempfile

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.system.lock import HELD, MACHINE, SessionLock

pytestmark = pytest.mark.tensorflow

ARGS = ("bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", "--mp-models=tiny_models:classifier")


@pytest.fixture
def project(pytester, monkeypatch, tmp_path):
    """Locks of its own too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(HELD, "")  # and what the test leaves there is undone
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


def test_a_session_within_a_session_and_a_failing_one_leave_no_lock(project):
    (project.path / "bench" / "test_within.py").write_text(
        f"""
import subprocess, sys, os

ARGS = {ARGS!r}

def test_within():
    assert os.environ["{HELD}"] == "{MACHINE}"
    args = ["--mp-lock=fail", *ARGS, "--deselect=bench/test_within.py", "-k", "float32"]
    assert subprocess.run([sys.executable, "-m", "pytest", *args]).returncode == 0

def test_broken():
    raise RuntimeError
"""
    )
    result = project.runpytest_subprocess(*ARGS, "--mp-lock=fail", "-k", "broken or within or mixed")
    result.assert_outcomes(passed=2, failed=1, deselected=1)
    lock = SessionLock("fail", "pytest -k mine", pytest.fail)
    lock.take(MACHINE)
    lock.release()


def test_first_steps_alone_wait_for_nobody(project):
    """Another session has this machine; what this one starts does not know that it is a child."""
    lock = SessionLock("fail", "pytest -k mine", pytest.fail)
    lock.take(MACHINE)
    del os.environ[HELD]
    result = project.runpytest_subprocess(*ARGS, "--mp-lock=fail", "--benchmark-disable")
    lock.release()
    assert result.ret == pytest.ExitCode.OK
