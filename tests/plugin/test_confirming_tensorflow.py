"""Measuring again with real steps: TensorFlow loaded in the session, and once more in the process that confirms."""

import shutil

import pytest
from child_runs import BARE
from paths import ROOT

from mpbench.records.runs import load_runs

pytestmark = pytest.mark.tensorflow

PLANTED = """
import os
import time

import keras
import tensorflow as tf


class Sleeps(keras.layers.Layer):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def call(self, x):
        def sleeping(values):
            time.sleep(self.seconds)
            return values

        y = tf.numpy_function(sleeping, [x], x.dtype)
        y.set_shape(x.shape)
        return y

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def sleeping(shape, seconds):
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(Sleeps(seconds)(x)))


def changed(shape):
    return sleeping(shape, 0.005 if os.environ.get("BEFORE") else 0.04)


def once(shape):  # a process that measures again is as before
    return sleeping(shape, 0.005 if os.environ.get("BEFORE") or "AGAIN" in os.environ else 0.04)
"""
"""Steps that sleep: their length depends on little else. Eight times as long is more than a CPU's
times may differ by unseen, and half of it, as the mean of two processes has it, is less."""

CONFTEST = """
import os

from mpbench.system import machine

machine.others_cpu_seconds = lambda: None  # what else this machine does decides no test
if "MPBENCH_MEASURES_AGAIN" in os.environ:
    os.environ["AGAIN"] = "1"
"""


@pytest.fixture
def project(pytester, monkeypatch):
    shutil.copytree(
        ROOT / "bench", pytester.path / "bench", ignore=shutil.ignore_patterns("__pycache__", "test_numerics.py")
    )
    (pytester.path / "conftest.py").write_text(CONFTEST)
    (pytester.path / "slower.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def run(project, model, *args):
    return project.runpytest_subprocess(
        "bench/test_inference.py", f"--mp-models=slower:{model}", "--mp-precisions=float32", "--mp-device=cpu",
        "--mp-image-size=32", "--mp-batch-size=2", "--mp-jit=off", "--mp-max-time=1.5", "--mp-lock=off",
        "--benchmark-autosave", *args,
    )  # fmt: skip


@pytest.mark.parametrize(("model", "status"), [("changed", 1), ("once", 0)])
def test_a_planted_slowdown_is_red_where_a_fresh_process_has_it_too(project, monkeypatch, model, status):
    monkeypatch.setenv("BEFORE", "1")
    assert run(project, model).ret == 0
    monkeypatch.delenv("BEFORE")
    result = run(project, model, "--mp-gate", "--mp-gate-confirm=1")
    result.stdout.fnmatch_lines(["* s] measured again, process 1 of 1: 1 cases"])
    assert result.ret == status
    first, new, again = load_runs(project.path / ".benchmarks", print)
    assert again.confirms == new.id
    assert set(again.cases) == set(new.speed) == set(first.cases)
