"""A real run with a storage full of files that are no usable runs: each is named, and none stops it."""

import json
import os
from pathlib import Path

import keras  # noqa: F401 (pytester unloads what a run imports, and TensorFlow loaded a second time aborts)
import pytest
from child_runs import BARE
from harmful_files import ABSURD, HARMFUL, TABLE_ONLY
from paths import ROOT

from mpbench.engine import group  # noqa: F401
from mpbench.system import machine

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def project(pytester, monkeypatch):
    for name in ("conftest.py", "bench/test_inference.py", "tests/support/tiny_models.py"):
        target = pytester.path / name.removeprefix("tests/support/")
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / name).read_text())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: None)  # what else the machine does decides no test
    return pytester


ARGS = ("bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", "--mp-models=tiny_models:classifier")


def test_a_run_beside_all_of_it(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    args = (
        *ARGS,
        f"--benchmark-storage=file://{outside}",
        "--benchmark-compare",
        "--benchmark-compare-fail=min:100000%",
    )
    # The first run of a CI has no predecessor, and must not fail over that.
    one = project.runpytest_inprocess(*args, "--benchmark-autosave")
    one.assert_outcomes(passed=2)
    assert one.ret == 0
    one.stdout.fnmatch_lines(
        [
            "* s] nothing to compare with: no saved run in *: --benchmark-compare-fail fails nothing in this run",
            "Nothing to compare with: *",
        ]
    )
    (good,) = outside.rglob("*.json")
    saved = json.loads(good.read_text())
    saved["machine_info"]["mpbench"]["driver"] = "1.2"
    saved["machine_info"]["release"] = "0.1"
    good.write_text(json.dumps(saved))
    zoo = HARMFUL | ABSURD | TABLE_ONLY
    for n, make in enumerate(zoo.values(), 2):
        make(good.parent / f"{n:04}_x.json")
    with_odd_name = os.fsencode(good.parent) + b"/0999_\xff\n.json"
    Path(os.fsdecode(with_odd_name)).write_text("{")
    two = project.runpytest_inprocess(*args, "--mp-gate")
    two.assert_outcomes(passed=2)
    assert two.ret == 0
    output = two.stdout.str()
    for n in range(2, len(zoo) + 2):
        assert f"{n:04}_x.json: " in output
    assert "0999_??.json: truncated or not JSON" in output
    two.stdout.fnmatch_lines(
        [
            "*the machine of the run that is compared with differs: release 0.1 -> *, mpbench.driver 1.2 -> none",
            "*test_inference*classifier-float32] (0001_*",
            "NOT COMPARABLE: another machine: driver 1.2 -> none",
        ]
    )
    assert "INTERNALERROR" not in output + two.stderr.str()
    assert "Traceback" not in output + two.stderr.str()
