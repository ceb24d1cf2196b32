"""The cases that look for causes as users meet them: a real run of all of them on a tiny model, and what it leaves."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from paths import ROOT, SUPPORT

from mpbench.records.diagnostics import read_probe
from mpbench.records.runs import read_run

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]

FILES = ["test_input_pipeline", "test_layers", "test_step_parts"]
MODEL = "tiny_models:classifier"


def pytest_in(folder, *args):
    command = [sys.executable, "-m", "pytest", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def project(folder):
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(SUPPORT / "tiny_models.py", folder)
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def why(tmp_path_factory):
    """A folder with a run of everything, and its output."""
    folder = project(tmp_path_factory.mktemp("why"))
    files = [f"bench/{name}.py" for name in (*FILES, "test_training", "test_inference")]
    return folder, pytest_in(folder, *files, f"--mp-models={MODEL}", "--benchmark-json=why.json", "--mp-workers=2")


def records(why):
    benches = json.loads((why[0] / "why.json").read_text())["benchmarks"]
    return {
        bench["fullname"].partition("::")[2]: read_probe(bench["extra_info"])
        for bench in benches
        if "mpbench_probe_schema" in bench["extra_info"]
    }


def test_every_case_is_measured_saved_and_read_back(why):
    folder, result = why
    assert result.returncode == 0, result.stdout
    saved = read_run(folder / "why.json")
    kinds = Counter(type(probed.record).kind for probed in saved.probes.values())
    # Two precisions: 5 parts, of which float32 has no casts; the pipeline alone; 2 phases x 2 feeds; 3 peaks; and 2
    # phases of the pooling, the dense layer and what else the classifier has.
    assert {kind: kinds[kind] for kind in ("part", "input", "feed", "peak")} == dict(part=9, input=1, feed=8, peak=6)
    assert kinds["layer"] >= 2 * 2 * 2
    assert len(saved.cases) == 4
    for probed in saved.probes.values():
        assert len(probed.rounds) == probed.record.rounds >= 1


def test_layers_have_taken_the_place_of_the_case_that_stood_for_all(why):
    names = [name for name in records(why) if name.startswith("test_layer[")]
    assert f"test_layer[{MODEL}-dense-training-mixed_float16]" in names
    assert f"test_layer[{MODEL}-global_average_pooling2d-inference-float32]" in names
    assert not any("-each-" in name for name in names)
    assert "INTERNALERROR" not in why[1].stdout
    assert "The same again, or as JSON: python -m mpbench explain why.json" in why[1].stdout


def test_groups_in_the_table_are_what_is_measured_together(why):
    for group in (
        f"{MODEL} parts': 9 tests",
        f"{MODEL} dense training layer': 2 tests",
        f"{MODEL} training fed': 4 tests",
        "peak matmul': 2 tests",
    ):
        assert f"benchmark '{group}" in why[1].stdout


def test_explain_adds_up(why):
    folder, _ = why
    result = subprocess.run(
        [sys.executable, "-m", "mpbench", "explain", "why.json"], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert MODEL in result.stdout
    assert "unexplained" in result.stdout
    page = result.stdout.splitlines()
    assert page[0] in why[1].stdout.splitlines()
    assert [line for line in page if line not in why[1].stdout.splitlines()] == []
    assert " images/s: 1000 generated pictures to 16x16 px, 2 threads, cache none" in why[1].stdout


def test_unless_named_they_are_left_out(tmp_path):
    folder = project(tmp_path)
    everything = pytest_in(folder, "bench", "--collect-only", "-q", f"--mp-models={MODEL}")
    assert "4/" in everything.stdout
    assert "test_layer[" not in everything.stdout
    assert "not measured unless named: bench/test_input_pipeline.py, bench/test_layers.py" in everything.stdout
    named = pytest_in(folder, "bench/test_layers.py", "--collect-only", "-q", f"--mp-models={MODEL}")
    assert f"test_layer[{MODEL}-each-training-float32]" in named.stdout
    by_id = pytest_in(folder, "bench/test_layers.py::test_peak", "--collect-only", "-q")
    assert "6 tests collected" in by_id.stdout
    marked = pytest_in(folder, "bench", "-m", "mpbench_cause", "--collect-only", "-q", f"--mp-models={MODEL}")
    assert "test_pipeline" in marked.stdout
    assert "test_training" not in marked.stdout


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("@pytest.mark.mpbench_cause('colour')", "mark mpbench_cause: given ('colour',): valid is one of parts, "),
        ("@pytest.mark.mpbench_cause('parts', models=[])", "mark mpbench_cause: models=[]: valid is a list of names"),
        ("@pytest.mark.mpbench_cause('parts', models=['vgg17'])", "mark mpbench_cause: unknown model 'vgg17'"),
    ],
)
def test_a_wrong_mark_is_told_in_one_line(tmp_path, source, line):
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    test = "def test_it(model, precision, part, probe, benchmark): probe(benchmark)"
    (tmp_path / "test_own.py").write_text(f"import pytest\n\n{source}\n{test}\n")
    result = pytest_in(tmp_path, "test_own.py")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: test_own.py::test_it: {line}" in result.stderr


def test_a_sweep_does_not_go_with_them(tmp_path):
    result = pytest_in(project(tmp_path), "bench/test_step_parts.py", f"--mp-models={MODEL}", "--mp-sweep=batch=1,2")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--mp-sweep: parts cases are measured at one size" in result.stderr
