"""The plugin as users meet it before anything is measured: what is collected, what is refused, and in which words."""

import shutil
import sys

import pytest
from child_runs import BARE
from paths import ROOT

from mpbench.config.options import OPTIONS

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
            "ERROR: --mp-batch-size: '0': must be a whole number of images, 1 or more",
        ),
        (["--mp-models=inception_v3"], "ERROR: --mp-image-size: 16 is too small for inception_v3: must be 75 or more"),
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
    ("mark", "words"),
    [
        ("phase='sideways'", "valid is phase='training' or *"),
        ("'training'", "valid is phase='training' or *"),
        ("phase='training', batch=3", "valid is phase='training' or *"),
        ("phase='training', models=[]", "must be a list of names"),
        ("phase='training', models=['vgg16', 'VGG16']", "name each once"),
        ("", "valid is phase='training' or *"),
    ],
)
def test_a_wrong_mark_is_a_usage_error(project, mark, words):
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
    result.stderr.fnmatch_lines([f"ERROR: test_mine.py::test_mine: mark mpbench: *: {words}"])
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


def test_help_lists_every_option_with_its_default(project):
    shown = " ".join(project.runpytest_inprocess("--help").stdout.str().split())
    for option in OPTIONS:
        assert f"{option.typed}{'=' if option.metavar else ','}" in shown
        assert option.default_in_words in shown
    assert "stop when the 95 % interval of each speedup is within +-PERCENT (paper: 1; quick: 5)" in shown


def test_what_is_typed_goes_before_pyproject_toml(project):
    (project.path / "pyproject.toml").write_text(
        '[tool.mpbench]\nmodels = ["vgg19"]\nbatch-size = 4\ncontrol = true\nrequire-gpu = true\ndevice = "cpu"'
    )
    select = ("bench/test_training.py", "--collect-only", "-q")
    result = project.runpytest_inprocess(*select, "--no-mp-require-gpu")
    assert result.outlines[:3] == [
        f"bench/test_training.py::test_training[vgg19-{arm}]" for arm in ("float32", "mixed_float16", "control")
    ]
    result = project.runpytest_inprocess(
        *select, "--no-mp-require-gpu", "--no-mp-control", "--mp-models=vgg16", "--mp-sweep=batch=2"
    )
    assert result.outlines[:2] == [
        f"bench/test_training.py::test_training[vgg16-{arm}-batch=2]" for arm in ("float32", "mixed_float16")
    ]
    result = project.runpytest_inprocess(*select)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --mp-require-gpu: given together with --mp-device=cpu: use one of them"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "batch_size = 3",
            "[[]tool.mpbench]: unknown key 'batch_size' (did you mean batch-size?): valid are models, *",
        ),
        ("batch-size = 0", "[[]tool.mpbench] batch-size: '0': must be a whole number of images, 1 or more"),
        ("slower = 3", "[[]tool.mpbench]: 'slower' is a rule of the gate: put it in [[]tool.mpbench.gate]"),
        ("[tool.mpbench.gates]", "unknown table [[]tool.mpbench.gates]: valid is [[]tool.mpbench.gate]"),
    ],
)
def test_a_mistake_in_pyproject_toml_is_one_line(project, content, message):
    (project.path / "pyproject.toml").write_text(f"[tool.mpbench]\n{content}")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *pyproject.toml: {message}"])
