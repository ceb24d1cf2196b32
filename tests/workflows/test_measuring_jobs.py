"""The benchmarking workflow's jobs one after another with real measurements on a CPU."""

import json
import os

import pytest
from markdown_text import cells
from paths import ROOT
from workflow_runner import Job, Server, git

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]

MEASURE = "Measure and judge"
STORE = "Store the history"


def rewrite_history(server, folder, seconds):
    """As if all stored runs had measured that much per step, within a per mille."""
    git("clone", "--quiet", "--branch=benchmark-history", server.url, str(folder))
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        for bench in content["benchmarks"]:
            rounds = len(bench["stats"]["data"])
            bench["stats"]["data"] = [seconds * (1 + 0.001 * (-1) ** i) for i in range(rounds)]
        path.write_text(json.dumps(content))
    git("commit", "--quiet", "--all", "--message=rewritten", cwd=folder)
    git("push", "--quiet", "origin", "HEAD", cwd=folder)


def test_consecutive_jobs_with_real_measurements_on_a_cpu(tmp_path):
    """Nothing stands in but the installation: a first run, one against it that passes, one against faster ones that
    fails; the three are stored."""
    names = ["conftest.py", "bench/test_inference.py", "tests/support/tiny_models.py"]
    files = {name.removeprefix("tests/support/"): (ROOT / name).read_text() for name in names}
    server = Server(tmp_path, files)
    own = "--mp-device=cpu --mp-image-size=16 --mp-max-time=3 --mp-precisions=float32"
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), "."]), "BENCH_PATHS": "bench"}
    env["BENCH_ARGS"] = f"{own} --mp-models=tiny_models:feature_map"

    first = Job(server, "one", env=env).rest()
    assert not first.failed, first.done
    assert "**The gate passed: there is no earlier run to compare with yet (1 NEW).**" in first.summary
    assert len(server.stored()) == 1

    rewrite_history(server, tmp_path / "slow", 1.0)
    second = Job(server, "two", env=env).rest()
    assert not second.failed, second.done
    assert "Saved runs restored: 1\n" in second.done["Restore the history"].output
    assert second.summary.startswith("## mpbench: passed\n\n**The gate passed: nothing is slower for sure; ")
    assert "1 FASTER" in second.summary
    assert len(server.stored()) == 2

    rewrite_history(server, tmp_path / "fast", 1e-6)
    third = Job(server, "three", env=env).rest()
    assert third.done[MEASURE].status == 1
    assert third.summary.startswith("## mpbench: FAILED\n\n**The gate failed: 1 SLOWER for sure; ")
    rows = [row for table in cells(third.summary) for row in table]
    assert any(row[:2] == ["tiny_models:feature_map", "float32"] for row in rows), third.summary
    assert third.done[STORE].output == "Stored.\n"
    assert len(server.stored()) == 3
    assert len(list((third.temp / "report").glob("*.json"))) == 1
