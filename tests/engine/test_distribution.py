"""engine.distribution on two logical CPU devices and on two processes: data-parallel for sure, and in lockstep."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.engine.distribution import agreement
from mpbench.stats.intervals import MIN_PAIRS
from mpbench.system.cluster import Cluster

pytestmark = pytest.mark.tensorflow

TIME_LIMIT_SECONDS = 300
MODEL = "tiny_models:classifier"


@pytest.fixture(scope="module")
def messages():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    command = [sys.executable, str(SUPPORT / "replica_process.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_SECONDS)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("mixed_float16", 2e-3)])
def test_two_replicas_train_as_one_does_on_the_joined_batch(messages, precision, tolerance):
    found = messages[precision]
    assert found["steps"][0] == found["steps"][1]
    assert found["skipped"][0] == found["skipped"][1]
    assert found["between_replicas"] == 0
    assert found["to_joined"] <= tolerance * found["moved"]
    assert found["moved"] > 0
    assert len(set(found["losses"])) == 2  # each has its own half


def test_an_overflow_in_the_second_replica_alone_skips_the_update_on_both(messages):
    assert messages["overflow"] == {"skipped": 2, "scale": 0.25, "moved": 0, "between_replicas": 0}


def test_in_inference_each_replica_answers_for_its_own_batch(messages):
    assert messages["inference"]["shapes"] == [[4, 5], [4, 5]]
    assert messages["inference"]["to_joined"] < 1e-6


def test_metrics_that_replicas_cannot_share_are_named(messages):
    assert messages["metrics"].startswith("its factory compiles metrics, whose variables replicas cannot make")


def test_a_batch_is_spread_to_all_replicas(messages):
    assert messages["same_batch"] == [[1.0, 2.0], [1.0, 2.0]]


def test_a_worker_alone_agrees_with_itself():
    assert agreement(Cluster())(2.5) == 2.5


@pytest.fixture
def project(pytester, monkeypatch):
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copy(SUPPORT / "tiny_models.py", pytester.path)
    (pytester.path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "test_training.py", pytester.path / "bench")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


ARGS = ("bench", "--mp-device=cpu", f"--mp-models={MODEL}", "--mp-image-size=16", "--mp-batch-size=4")


def records(path):
    benches = json.loads(path.read_text())["benchmarks"]
    return {bench["param"].removeprefix(f"{MODEL}-"): bench["extra_info"] for bench in benches}


def check(found, replicas):
    """What a run of one and of several replicas has saved."""
    assert list(found) == [f"{precision}-replicas={n}" for precision in PRECISIONS for n in (1, replicas)]
    for name, record in found.items():
        several = name.endswith(f"={replicas}")
        assert record["replicas"] == (replicas if several else 1)
        assert not record["jit"]
        assert record["reference"] == ("replicas=1" if several and record["rounds"] >= MIN_PAIRS else "")
        assert (record["reference_ratio"] is None) == (not several)
        assert record["baseline"] == (None if name.startswith("float32") else "float32")


PRECISIONS = ("float32", "mixed_float16")


def test_replicas_of_one_machine(project):
    result = project.runpytest_subprocess(*ARGS, "--mp-max-time=1", "--mp-replicas=2", "--benchmark-json=run.json")
    result.assert_outcomes(passed=4)
    check(records(project.path / "run.json"), 2)


def start(project, index, addresses, *args):
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
    command = [sys.executable, "-m", "pytest", *ARGS, "--mp-replicas=2", *args]
    return subprocess.Popen(
        command, cwd=project.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_addresses():
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other)]


WRITES_WEIGHTS = """
import json
from mpbench.engine import batch as batches
from mpbench.engine import step as steps

index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
same, release = batches.synthetic_batch, steps.Step.release
batches.synthetic_batch = lambda *args: same(*args) * (-1) ** index  # each worker's own

def released(self):
    values = [w.numpy().astype("float64").ravel().tolist() for w in self.model.weights]
    with open(f"weights.{index}", "a") as file:
        print(json.dumps([f"{self.spec.precision.name}-replicas={self.spec.replicas}", values]), file=file)
    release(self)

steps.Step.release = released
"""


def test_two_workers_measure_in_lockstep_and_the_chief_saves(project):
    addresses = free_addresses()
    args = ("--mp-max-time=1", "--benchmark-json=run.json", "--benchmark-autosave", "--mp-summary=summary.md")
    with (project.path / "tiny_models.py").open("a") as file:
        file.write(WRITES_WEIGHTS)
    workers = [start(project, index, addresses, *args) for index in (0, 1)]
    printed = [worker.communicate(timeout=TIME_LIMIT_SECONDS)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(printed)
    check(records(project.path / "run.json"), 2)
    assert len(list((project.path / ".benchmarks").rglob("*.json"))) == 1
    assert "Wrote benchmark data in" in printed[0]
    assert "Wrote benchmark data in" not in printed[1]
    assert "worker 1 of 2: the chief saves and judges" in printed[1]
    tables = [[line for line in text.splitlines() if line.startswith("test_training[")] for text in printed]
    assert tables[0] == tables[1]  # not one round differs
    files = [(project.path / f"weights.{index}").read_text() for index in (0, 1)]
    one, other = [dict(json.loads(line) for line in text.splitlines()) for text in files]
    assert len(one) == 4
    assert {name for name in one if one[name] == other[name]} == {f"{name}-replicas=2" for name in PRECISIONS}


@pytest.mark.parametrize(
    ("args", "config", "line"),
    [
        (["--mp-replicas=2"], "{}", "TF_CONFIG: *: valid is *"),
        (["--mp-replicas=2", "--mp-jit=on"], None, "--mp-jit: on given together with --mp-replicas=2: *"),
    ],
)
def test_wrong_uses_are_told_before_tensorflow_is_loaded(project, monkeypatch, args, config, line):
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    result = project.runpytest_inprocess(*ARGS, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {line}"])
    assert "loading TensorFlow" not in result.stdout.str()
