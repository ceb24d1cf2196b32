"""--mp-sweep and --mp-jit both as users meet them: real runs of tiny models, and wrong uses."""

import json
import shutil

import keras  # noqa: F401 (pytester unloads what a run imports, and TensorFlow loaded a second time aborts)
import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.engine import group  # noqa: F401
from mpbench.records.speed import SPEED
from mpbench.system import machine

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def project(pytester, monkeypatch):
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copy(SUPPORT / "tiny_models.py", pytester.path)
    (pytester.path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "test_inference.py", pytester.path / "bench")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: None)  # what else the machine does decides no test
    return pytester


def run(project, *args):
    """In this process, where TensorFlow is loaded already: loading it takes longer than these runs."""
    return project.runpytest_inprocess("bench", "--mp-device=cpu", "--mp-max-time=0.5", *args)


def test_each_point_is_a_group_of_its_own(project):
    args = ("--mp-models=tiny_models:classifier", "--mp-image-size=16", "--mp-sweep=batch=1,3")
    result = run(project, *args, "--benchmark-json=run.json")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "* s] 2 groups are built: measuring them in turns",
            "* s] tiny_models:classifier inference batch=1: visit 3: *",
            "*benchmark 'tiny_models:classifier inference batch=1': 2 tests*",
            "tiny_models:classifier batch=3  mixed_float16 *",
            "Sweep, inference: speedup over float32 [[]95 % interval[]]",
            "model * batch=1 * batch=3",
            "tiny_models:classifier  mixed_float16 *",
        ]
    )
    benches = json.loads((project.path / "run.json").read_text())["benchmarks"]
    records = {bench["param"]: SPEED.read(bench["extra_info"]) for bench in benches}
    assert {name: (record.point, record.batch_size) for name, record in records.items()} == {
        f"tiny_models:classifier-{precision}-batch={batch}": (f"batch={batch}", batch)
        for precision in ("float32", "mixed_float16")
        for batch in (1, 3)
    }
    assert all((r.speedup is None) == (r.precision == "float32") for r in records.values())


def test_a_precision_with_xla_and_without_is_measured_in_one_group(project):
    args = ("--mp-models=tiny_models:classifier", "--mp-image-size=16", "--mp-jit=both", "--mp-batch-size=4")
    result = run(project, *args, "--benchmark-json=run.json")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "* s] tiny_models:classifier inference, mixed_float16 jit=on: building",
            "* s] tiny_models:classifier inference: warming up",
            "*benchmark 'tiny_models:classifier inference': 4 tests*",
            "tiny_models:classifier jit=off  mixed_float16 *",
            "tiny_models:classifier jit=on   mixed_float16 *",
        ]
    )
    benches = json.loads((project.path / "run.json").read_text())["benchmarks"]
    records = {bench["param"].split("-", 1)[1]: SPEED.read(bench["extra_info"]) for bench in benches}
    assert {name: (r.jit, r.baseline, r.reference) for name, r in records.items()} == {
        "float32-jit=off": (False, None, ""),
        "mixed_float16-jit=off": (False, "float32", ""),
        "float32-jit=on": (True, None, "jit=off"),
        "mixed_float16-jit=on": (True, "float32", "jit=off"),
    }
    for record in records.values():
        assert (record.over_reference is None) == (not record.jit)
        assert record.layout == "channels_last"
        assert 0 < record.trace_seconds < record.first_step_seconds
        assert record.compile_seconds <= record.first_step_seconds - record.trace_seconds
    own = {name: r.reference_ratio for name, r in records.items() if r.jit}
    assert all(r.reference_low <= own[name] <= r.reference_high for name, r in records.items() if r.jit)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--mp-sweep=depth=3"], "--mp-sweep: 'depth=3': valid are batch=N,N,..., image=N,N,... and batch=max"),
        (["--mp-sweep=batch=2,4", "--mp-batch-size=8"], "--mp-batch-size: given together with --mp-sweep=batch=2,4: *"),
        (["--mp-sweep=image=96,48"], "--mp-sweep: 48 is too small for inception_v3: must be 75 or more"),
    ],
)
def test_wrong_uses_are_told_before_a_model_is_built(project, args, line):
    result = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (project.path / "all.txt").write_text(result.stdout.str() + result.stderr.str())
    result.stderr.fnmatch_lines([f"ERROR: {line}"])
    assert "building" not in result.stdout.str()
