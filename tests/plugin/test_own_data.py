"""A factory that gives its own data, as users meet it: real runs of tiny models, and what is refused."""

import json
import shutil

import keras  # noqa: F401 (pytester unloads what a run imports, and TensorFlow loaded a second time aborts)
import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.engine import group  # noqa: F401
from mpbench.numerics import trial  # noqa: F401
from mpbench.records.numerics import NUMERICS
from mpbench.records.speed import SPEED
from mpbench.system import machine

pytestmark = pytest.mark.tensorflow

CASES = ("test_training.py", "test_numerics.py", "test_input_pipeline.py")


@pytest.fixture
def project(pytester, monkeypatch):
    shutil.copy(ROOT / "conftest.py", pytester.path)
    for name in ("users_models.py", "tiny_models.py"):
        shutil.copy(SUPPORT / name, pytester.path)
    (pytester.path / "bench").mkdir()
    for name in CASES:
        shutil.copy(ROOT / "bench" / name, pytester.path / "bench")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: None)  # what else the machine does decides no test
    return pytester


def run(project, *args, model="segmenter"):
    sizes = ("--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5")
    return project.runpytest_inprocess(*sizes, f"--mp-models=users_models:{model},tiny_models:classifier", *args)


def test_speed_and_numerics_take_the_first_batch_of_a_dataset(project):
    files = ("bench/test_training.py", "bench/test_numerics.py")
    result = run(project, *files, "-k", "training and segmenter", "--benchmark-json=run.json")
    result.assert_outcomes(passed=3, deselected=result.parseoutcomes()["deselected"])
    data = "x uint8 6x16x16x3, y uint8 6x16x16"
    said = [line for line in result.outlines if "its dataset" in line]
    assert len(said) == 1
    assert said[0].endswith(f"its steps take the first batch of its dataset, 6 samples, over and over: {data}")
    benches = json.loads((project.path / "run.json").read_text())["benchmarks"]
    infos = [bench["extra_info"] for bench in benches]
    speed = [SPEED.read(info) for info in infos if SPEED.schema_key in info]
    (numerics,) = (NUMERICS.read(info) for info in infos if NUMERICS.schema_key in info)
    assert [record.precision for record in speed] == ["float32", "mixed_float16"]
    assert {(record.data, record.batch_size) for record in [*speed, numerics]} == {(f"own dataset: {data}", 6)}
    assert speed[1].speedup is not None


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["bench/test_training.py", "--mp-batch-size=8"], "--mp-batch-size: 8 given together with users_models:segm*"),
        (["bench/test_training.py", "--mp-sweep=batch=2,max"], "--mp-sweep: batch=2 given together with users_mod*"),
        (["bench/test_numerics.py", "--mp-batch-size=8"], "--mp-batch-size: 8 given together with users_models:segm*"),
        (["bench/test_input_pipeline.py"], "--mp-models: 'users_models:segmenter' gives its own data: end-to-end st*"),
    ],
)
def test_what_goes_with_no_own_data_is_one_line_before_anything_slow(project, args, line):
    result = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {line}"])
    assert not any("building" in line for line in result.outlines)


def test_wrong_data_are_one_line(project):
    result = run(project, "bench/test_training.py", model="empty_dataset")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --mp-models: 'users_models:empty_dataset': the dataset of its factory is empty*"]
    )
