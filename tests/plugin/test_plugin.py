"""The plugin as users meet it: real pytest runs of the real bench/ files, with tiny real Keras models."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras  # noqa: F401
import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.engine import group  # noqa: F401
from mpbench.records.kinds import kind_of
from mpbench.records.speed import BROKEN_OFF, SPEED
from mpbench.system import machine

pytestmark = pytest.mark.tensorflow

# Keras is imported above because pytester unloads what a run in this process imports, and TensorFlow, loaded a second
# time, aborts.
SPEED_FILES = {"test_training.py", "test_inference.py"}
"""The others are left out of a run unless they are named, and counted as deselected: test_cause_cases.py."""

NO_GPU = not Path("/dev/nvidia0").exists()


@pytest.fixture
def project(pytester, monkeypatch):
    """A copy of conftest.py and bench/ beside the factories of tiny models."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(ROOT / "bench", pytester.path / "bench", ignore=lambda _, names: {*names} - SPEED_FILES)
    shutil.copy(SUPPORT / "tiny_models.py", pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: None)  # what else the machine does decides no test
    return pytester


def run(project, *args, models="feature_map"):
    """In this process, where TensorFlow is loaded already: loading it takes longer than these runs."""
    names = ",".join(f"tiny_models:{name}" for name in models.split(","))
    return project.runpytest_inprocess(
        "bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.3", f"--mp-models={names}", *args
    )


def saved(project, folder=".benchmarks"):
    return [json.loads(path.read_text()) for path in sorted((project.path / folder).rglob("*.json"))]


def test_a_run_and_a_second_against_it(project):
    args = ("--benchmark-compare", "--benchmark-autosave", "--mp-control")
    first = run(project, *args)
    first.assert_outcomes(passed=6)
    first.stdout.fnmatch_lines(["Nothing to compare with: no earlier run holds one of these cases."])
    first.stdout.fnmatch_lines(
        [
            "* s] tiny_models:feature_map inference, float32: building",
            "* s] tiny_models:feature_map inference, mixed_float16: tracing and compiling",
            "* s] 2 groups are built: measuring them in turns",
            "* s] tiny_models:feature_map inference: warming up",
            "* s] tiny_models:feature_map inference: visit 3: *",
            "*benchmark 'tiny_models:feature_map inference': 3 tests*",
            "*benchmark 'tiny_models:feature_map training': 3 tests*",
            "Table 4, training: median ms/step on a CPU, batch 2, 16x16 px, XLA off, profile quick",
            "tiny_models:feature_map  mixed_float16 *",
            "NOISE FLOOR: tiny_models:feature_map-control (*): the baseline against itself*",
            "Table 5, inference: *",
            "CPU figures: they say nothing about GPUs.*",
        ]
    )
    second = run(project, *args)
    second.assert_outcomes(passed=6)
    second.stdout.fnmatch_lines(["*(0001_*", "*(NOW)*"])
    assert "Nothing to compare with" not in second.stdout.str()
    assert "NOT COMPARABLE" not in second.stdout.str()
    assert "machine_info is different" not in second.stderr.str() + second.stdout.str()

    one, two = saved(project)
    assert one["machine_info"] == two["machine_info"]
    assert one["machine_info"]["mpbench"]["tensorflow"]
    assert not [field for field in one["machine_info"]["cpu"] if field.startswith("hz_")]
    by_name = {bench["name"]: bench for bench in one["benchmarks"]}
    assert sorted(by_name) == sorted(
        f"test_{phase}[tiny_models:feature_map-{arm}]"
        for phase in ("inference", "training")
        for arm in ("float32", "mixed_float16", "control")
    )
    for bench in by_name.values():
        record = SPEED.read(bench["extra_info"])
        assert bench["group"] == f"tiny_models:feature_map {record.phase}"
        assert len(bench["stats"]["data"]) == record.rounds == bench["stats"]["rounds"]
        assert min(bench["stats"]["data"]) == bench["stats"]["min"]
        assert (record.speedup is None) == (record.precision == "float32" and not record.control)
        if record.speedup is not None:
            assert record.speedup_low <= record.speedup <= record.speedup_high
            assert record.baseline == "float32"
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare"],
        capture_output=True,
        text=True,
        cwd=project.path,
        check=True,
    )
    assert "test_training[tiny_models:feature_map-mixed_float16]" in compared.stdout


def test_comparing_with_other_settings_is_named(project):
    for batch in ("2", "3"):
        args = ("-k", "inference", "--benchmark-autosave", "--benchmark-compare", f"--mp-batch-size={batch}")
        result = run(project, *args, "--mp-max-time=0.5")
    result.stdout.fnmatch_lines(["NOT COMPARABLE: inference, tiny_models:feature_map-mixed_float16: batch_size 2 -> 3"])


def test_what_is_selected_is_what_is_interleaved(project):
    result = run(project, "-k", "training and mixed_float16", "--benchmark-json=run.json")
    result.assert_outcomes(passed=1, deselected=3)
    assert "float32: building" not in result.stdout.str().replace("mixed_float16: building", "")
    (bench,) = json.loads((project.path / "run.json").read_text())["benchmarks"]
    record = SPEED.read(bench["extra_info"])
    assert record.speedup is None
    assert bench["stats"]["rounds"] >= 5


def test_a_case_that_fails_costs_the_others_nothing(project):
    result = run(project, "--benchmark-json=run.json", models="fails_under_mixed_float16,not_a_number")
    result.assert_outcomes(passed=2, failed=6)
    output = result.stdout.str()
    assert "out of memory on the cpu at batch 2, 16 px, training" in output
    assert "the batch is never shrunk" in output
    assert "loss is not finite (nan) after" in output
    assert "output is not finite (nan) after" in output
    assert "During handling" not in output
    assert "fixture was not used" not in output
    benches = json.loads((project.path / "run.json").read_text())["benchmarks"]
    assert sorted(bench["param"] for bench in benches) == ["tiny_models:fails_under_mixed_float16-float32"] * 2
    again = run(project, "--lf", "--collect-only", "-q", models="fails_under_mixed_float16,not_a_number")
    assert "6 tests collected" in again.stdout.str()


def test_all_cases_failing_is_a_plain_failure(project):
    result = run(project, "--benchmark-autosave", "--mp-summary=summary.md", "--no-summary", models="not_a_number")
    assert result.ret == 1
    summary = (project.path / "summary.md").read_text()
    assert summary.startswith("## mpbench: FAILED\n\n**4 tests failed. ")
    name = r"test\_training\[tiny\_models:not\_a\_number-float32\]"
    assert f"| {name} | loss is not finite (nan) after " in summary
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("name", ["float16", "tf32", "mixed_bfloat16"])
def test_other_precisions_run(project, name):
    result = run(project, f"--mp-precisions={name}", f"--mp-baseline={name}", "--mp-max-time=0.5")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--mp-models=no_module:f"], "ERROR: --mp-models: 'no_module:f' cannot be imported: ModuleNotFoundError*"),
        (["--mp-models=tiny_models:no_model"], "ERROR: --mp-models: 'tiny_models:no_model' returned a str: valid is*"),
        pytest.param(
            ["--mp-device=auto", "--mp-require-gpu"],
            "ERROR: --mp-require-gpu: TensorFlow * sees no GPU*",
            marks=pytest.mark.skipif(not NO_GPU, reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_is_built(project, args, message):
    result = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert ": building" not in result.stdout.str()


def test_disabled_benchmarks_take_their_first_steps_only(project):
    result = run(project, "--benchmark-disable")
    result.assert_outcomes(passed=4)
    assert "warming up" not in result.stdout.str()
    run(project, "--benchmark-disable", "-k", "training", models="not_a_number").assert_outcomes(failed=2, deselected=2)


def test_ctrl_c_between_visits_keeps_what_was_measured_so_far(project, interruptible):
    command = [sys.executable, "-m", "pytest", "bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=2"]
    command += ["--mp-models=tiny_models:feature_map,tiny_models:classifier", "--benchmark-autosave"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project.path)
    output = ""
    for line in process.stdout:
        output += line
        if "visit 2" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == pytest.ExitCode.INTERRUPTED
    assert saved(project) == []
    assert "8 measured cases are not saved: `python -m mpbench recover` saves what is in" in output
    subprocess.run([sys.executable, "-m", "mpbench", "recover"], cwd=project.path, check=True, capture_output=True)
    (run_,) = saved(project)
    assert len(run_["benchmarks"]) == 8
    assert all(kind_of(bench["extra_info"]) is SPEED for bench in run_["benchmarks"])
    assert {bench["extra_info"]["noisy_because"] for bench in run_["benchmarks"]} == {BROKEN_OFF}


def test_ctrl_c_before_the_first_case_is_finished(project, interruptible):
    command = [sys.executable, "-m", "pytest", "bench", "--mp-device=cpu", "--mp-image-size=16", "--benchmark-autosave"]
    command += ["--mp-models=tiny_models:feature_map", "--benchmark-json=run.json", "--mp-summary=summary.md"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=project.path)
    output, summary = "", project.path / "summary.md"
    for line in process.stdout:
        output += line
        if "warming up" in line:
            # What a run that is killed now leaves.
            assert summary.read_text().startswith("## mpbench: not finished")
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == pytest.ExitCode.INTERRUPTED
    assert "min() arg is an empty sequence" not in output
    assert "INTERNALERROR" not in output
    assert summary.read_text().startswith("## mpbench: interrupted")
    assert summary.read_text().endswith("\n\n### Nothing was measured.\n")
    assert "fixture was not used" not in output


def test_a_users_own_bench_file(project):
    project.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.mpbench(phase="training", models=["tiny_models:classifier"])
        @pytest.mark.benchmark(group="mine")
        @pytest.mark.parametrize("again", [1, 2])
        def test_mine(model, precision, measure, benchmark, again):
            measure(benchmark, model, precision)

        def test_needs_a_gpu(gpu):
            assert gpu.kind == "gpu"

        def test_without_a_mark(measure):
            pass
        """
    )
    args = ("--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", "--benchmark-json=run.json")
    result = project.runpytest_inprocess("test_mine.py", *args)
    result.assert_outcomes(passed=4, skipped=1, errors=1)
    result.stdout.fnmatch_lines(["*the fixture `measure` needs the mark mpbench(phase=...)*"])
    benches = json.loads((project.path / "run.json").read_text())["benchmarks"]
    assert [bench["group"] for bench in benches] == ["mine"] * 4
    assert {bench["extra_info"]["variant"].partition(" ")[2] for bench in benches} == {"again=1", "again=2"}


def test_the_gate_passes_without_a_baseline_and_fails_a_slower_step(project, monkeypatch):
    args = ("-k", "inference", "--mp-gate", "--benchmark-autosave", "--mp-max-time=4")
    first = run(project, *args)
    assert first.ret == 0
    first.stdout.fnmatch_lines(["GATE PASSED: there is no earlier run to compare with", "  NEW: bench/*", "  3 NEW"])
    (path,) = (project.path / ".benchmarks").rglob("*.json")
    (project.path / ".benchmarks" / "broken.json").write_text("{")
    # The same run, had the machine been ten times as fast: this one is then slower for sure.
    content = json.loads(path.read_text())
    for bench in content["benchmarks"]:
        bench["stats"]["data"] = [seconds / 10 for seconds in bench["stats"]["data"]]
    path.write_text(json.dumps(content))
    second = run(project, *args, "--mp-summary=summary.md")
    assert second.ret == pytest.ExitCode.TESTS_FAILED
    summary = (project.path / "summary.md").read_text()
    assert summary.startswith("## mpbench: FAILED\n\n**The gate failed: 2 SLOWER for sure; all verdicts: ")
    assert r"| SLOWER | test\_inference\[tiny\_models:feature\_map-float32\] | +" in summary
    assert "### Inference: median ms per step\n\nOn a CPU, batch 2, 16x16 px" in summary
    second.assert_outcomes(passed=2, deselected=2)
    second.stdout.fnmatch_lines(
        ["* s] left out: *broken.json: *", "GATE FAILED: 2 SLOWER", "  SLOWER: bench/test_inference.py::*"]
    )
    outside = project.run(sys.executable, "-m", "mpbench", "gate", str(sorted(path.parent.iterdir())[-1]))
    assert outside.ret == 1
    outside.stdout.fnmatch_lines(["GATE FAILED: 2 SLOWER"])


def test_wrong_rules_of_the_gate_are_told_before_anything_is_built(project):
    (project.path / "pyproject.toml").write_text("[tool.mpbench.gate]\nslowr = 3")
    result = run(project, "--mp-gate")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *pyproject.toml: [[]tool.mpbench.gate]: unknown key 'slowr' (did you mean slower?): valid are *"]
    )
    assert ": building" not in result.stdout.str()
