"""Why, as users meet it: a real run of all that looks for causes on a tiny model, and what it leaves."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from paths import ROOT, SUPPORT

from mpbench.records.profile import MAX_PROFILE_BYTES, read_profile
from mpbench.records.runs import read_run

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]

MODEL = "tiny_models:classifier"


def pytest_in(folder, *args):
    command = [sys.executable, "-m", "pytest", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def project(folder):
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(SUPPORT / "tiny_models.py", folder)
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("__pycache__", "test_numerics.py"))
    return folder


@pytest.fixture(scope="module")
def why(tmp_path_factory):
    """A folder with a run of everything, and its output."""
    folder = project(tmp_path_factory.mktemp("why"))
    what = ("bench/", "bench/test_input_pipeline.py", "--mp-why", f"--mp-models={MODEL}")
    return folder, pytest_in(folder, *what, "--benchmark-json=why.json", "--mp-workers=2", "--mp-report=why.html")


def test_every_case_is_measured_saved_and_read_back(why):
    folder, result = why
    assert result.returncode == 0, result.stdout
    saved = read_run(folder / "why.json")
    kinds = Counter(type(diagnosed.record).type for diagnosed in saved.diagnostics.values())
    # The pipeline alone; 2 phases x 2 precisions x two inputs; 3 peaks in 2 precisions.
    assert kinds == dict(input=1, end_to_end=8, peak=6)
    assert len(saved.speed) == 4
    for diagnosed in saved.diagnostics.values():
        assert len(diagnosed.rounds) == diagnosed.record.rounds >= 1


def test_each_speed_case_has_the_profile_of_its_step(why):
    for case in read_run(why[0] / "why.json").speed.values():
        assert case.record.no_step_profile == ""
        assert len(json.dumps(case.record.step_profile)) <= MAX_PROFILE_BYTES
        profile = read_profile(case.record.step_profile)
        assert not profile.on_device
        assert profile.steps == 3
        names = {row.name: row for row in profile.rows}
        assert names["dense"].flops >= 2 * 3 * 5 * case.record.batch_size  # a product of 3 features and 5 classes
        assert ("(optimizer)" in names) == (case.record.phase == "training")


def test_a_run_ends_with_the_verdicts_and_explain_begins_with_them(why):
    folder, result = why
    explained = subprocess.run(
        [sys.executable, "-m", "mpbench", "explain", "why.json"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    printed = result.stdout.splitlines()
    assert explained[0].startswith(f"{MODEL}, ")
    assert explained[0] in printed
    assert "All of it, or as JSON: python -m mpbench explain why.json" in printed
    assert any("images/s: 1000 generated pictures to 16x16 px, 2 threads, cache none" in line for line in printed)
    assert (folder / "why.html").stat().st_size > 10_000


def test_unless_asked_for_they_are_left_out(tmp_path):
    folder = project(tmp_path)
    collect = ("--collect-only", "-q", f"--mp-models={MODEL}")
    everything = pytest_in(folder, "bench", *collect)
    assert "4/" in everything.stdout  # speed in two phases and precisions
    assert "test_peak[" not in everything.stdout
    assert "not measured unless named: bench/test_input_pipeline.py, bench/test_peaks.py" in everything.stdout
    why = pytest_in(folder, "bench", "--mp-why", *collect).stdout
    assert "test_peak[" in why
    assert "test_pipeline" in why
    assert "test_end_to_end_step[" not in why
    by_id = pytest_in(folder, "bench/test_peaks.py::test_peak", *collect)
    assert "6 tests collected" in by_id.stdout
    marked = pytest_in(folder, "bench", "-m", "mpbench_diagnostic", *collect)
    assert "test_end_to_end_step[" in marked.stdout
    assert "test_training" not in marked.stdout


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "@pytest.mark.mpbench_diagnostic('colour')",
            "mark mpbench_diagnostic: given ('colour',): valid is one of peaks, ",
        ),
        (
            "@pytest.mark.mpbench_diagnostic('end_to_end', models=[])",
            "mark mpbench_diagnostic: models=[]: must be a list of names",
        ),
        (
            "@pytest.mark.mpbench_diagnostic('end_to_end', models=['vgg17'])",
            "mark mpbench_diagnostic: unknown model 'vgg17'",
        ),
    ],
)
def test_a_wrong_mark_is_told_in_one_line(tmp_path, source, line):
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    test = "def test_it(model, phase, precision, input, diagnose, benchmark): diagnose(benchmark)"
    (tmp_path / "test_own.py").write_text(f"import pytest\n\n{source}\n{test}\n")
    result = pytest_in(tmp_path, "test_own.py")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: test_own.py::test_it: {line}" in result.stderr


def test_a_sweep_does_not_go_with_them(tmp_path):
    result = pytest_in(project(tmp_path), "bench/test_peaks.py", f"--mp-models={MODEL}", "--mp-sweep=batch=1,2")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--mp-sweep: peaks cases are measured at one size" in result.stderr
