"""`mpbench try`: one model's whole answer in one command, without a bench/ folder."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

from mpbench.__main__ import main
from mpbench.plugin.try_command import DEFAULTS, arguments
from mpbench.records.runs import load_runs
from mpbench.report.answers import MAX_LINES, answers

pytestmark = pytest.mark.tensorflow

SIZES = ("--mp-image-size=32", "--mp-max-time=1", "--mp-lock=off", "--mp-device=cpu")


def test_options_take_the_place_of_what_is_given_otherwise():
    given = arguments("m", ["--mp-report=mine.html", "--mp-max-time", "3"])
    assert [one for one in given if one.startswith("--mp-report")] == ["--mp-report=mine.html"]
    assert [one for one in given if one.startswith("--mp-max-time")] == ["--mp-max-time"]
    assert {one.partition("=")[0] for one in arguments("m", [])} >= set(DEFAULTS)


def test_an_option_in_place_of_the_model_is_one_line(capsys):
    assert main(["try", "--mp-image-size=32"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_model_is_answered_from_an_empty_folder(tmp_path):
    (tmp_path / "mine.py").write_text("from tiny_models import classifier as net\n")
    command = [sys.executable, "-m", "mpbench", "try", "mine:net", *SIZES]
    env_path = f"{ROOT}:{ROOT / 'tests' / 'support'}"
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": env_path, "PYTEST_ADDOPTS": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000
    (run,) = load_runs(tmp_path / ".benchmarks", print)
    assert sorted(name.partition("[")[0] for name in run.cases) == sorted(
        2 * ["test_model.py::test_inference", "test_model.py::test_numerics", "test_model.py::test_training"]
    )
    verdict = answers(run)
    assert len(verdict) <= MAX_LINES
    shown = done.stdout[done.stdout.index(" the answer ") :]
    assert verdict[0] in shown
