"""The plugin as users meet it before anything is measured: what is collected, what is refused, and in which words."""

import shutil
import sys

import pytest
from child_runs import BARE
from paths import ROOT

SPEED = {"test_training.py", "test_inference.py"}


@pytest.fixture
def project(pytester, monkeypatch):
    """A copy of conftest.py and bench/ ."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(ROOT / "bench", pytester.path / "bench", ignore=lambda _, names: {*names} - SPEED)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def run(project, *args, models="feature_map"):
    names = ",".join(f"tiny_models:{name}" for name in models.split(","))
    return project.runpytest_inprocess(
        "bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=1", f"--mp-models={names}", *args
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--mp-models=vgg17"], "ERROR: --mp-models: unknown model 'vgg17' (did you mean vgg*): valid are*"),
        (
            ["--mp-batch-size=0"],
            "ERROR: --mp-batch-size: '0' is not valid: valid is a whole number of images, 1 or more",
        ),
        (["--mp-models=inception_v3"], "ERROR: --mp-image-size: 16 is too small for inception_v3: valid is 75 or more"),
        (["--benchmark-json=missing/run.json"], "ERROR: --benchmark-json: missing/run.json: valid is a file in*"),
        (["-p", "no:benchmark"], "ERROR: -p no:benchmark: mpbench reports through pytest-benchmark and needs it"),
        (["--benchmark-autosave", "--benchmark-storage=conftest.py"], "ERROR: --benchmark-storage: *conftest.py*"),
    ],
)
def test_bad_input_is_one_line_before_tensorflow_is_loaded(project, args, message):
    result = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "loading TensorFlow" not in result.stdout.str()


@pytest.mark.parametrize("args", [["--help"], ["--collect-only", "bench"], ["--mp-models=vgg17", "bench"]])
def test_collecting_and_refusing_import_no_tensorflow(project, args):
    code = f"import pytest, sys; pytest.main({args!r}); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    result = project.run(sys.executable, "-c", code)
    assert result.ret == 0


def test_the_ids_and_defaults_of_the_matrix(project):
    result = project.runpytest_inprocess("bench", "--collect-only", "-q")
    expected = [
        f"bench/test_{phase}.py::test_{phase}[{model}-{precision}]"
        for phase in ("inference", "training")
        for model in ("vgg16", "inception_v3", "resnet152_v2")
        for precision in ("float32", "mixed_float16")
    ]
    assert result.outlines[: len(expected)] == expected


@pytest.mark.parametrize(
    "mark",
    [
        "phase='sideways'",
        "'training'",
        "phase='training', batch=3",
        "phase='training', models=[]",
        "phase='training', models=['vgg16', 'VGG16']",
        "",
    ],
)
def test_a_wrong_mark_is_a_usage_error(project, mark):
    project.makepyfile(
        test_mine=f"""
        import pytest

        @pytest.mark.mpbench({mark})
        def test_mine(model, precision, measure, benchmark):
            measure(benchmark, model, precision)
        """
    )
    result = project.runpytest_inprocess("test_mine.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_mine.py::test_mine: mark mpbench: *valid is*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_session_without_speed_cases_loads_nothing(project):
    plain = project.makepyfile("def test_plain():\n    assert True")
    result = project.runpytest_inprocess(plain)
    result.assert_outcomes(passed=1)
    assert "loading TensorFlow" not in result.stdout.str()


def test_a_gate_that_cannot_judge_says_so_first(project):
    for args, message in (
        (["--mp-gate-missing=maybe"], "ERROR: --mp-gate-missing: unknown 'maybe': valid are report, fail"),
        (["--mp-summary=same", "--mp-report=same"], "ERROR: --mp-report: same: given to --mp-summary too: valid are *"),
        (["--mp-summary=missing/s.md"], "ERROR: --mp-summary: missing/s.md: valid is a file in a folder that exists *"),
    ):
        result = run(project, "--mp-gate", *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([message])
        assert "loading TensorFlow" not in result.stdout.str()
