"""Numerics cases through the real plugin: parametrised, saved, shown; a verdict fails nothing by itself."""

import json
import shutil

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.records.numerics import NUMERICS
from mpbench.records.runs import read_run

pytestmark = pytest.mark.tensorflow

ARGS = ("--mp-device=cpu", "--mp-image-size=16", "--mp-batch-size=4", "--mp-lock=off", "--benchmark-json=run.json")


@pytest.fixture
def project(pytester, monkeypatch):
    shutil.copy(ROOT / "conftest.py", pytester.path)
    (pytester.path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "test_numerics.py", pytester.path / "bench")
    shutil.copy(SUPPORT / "tiny_models.py", pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def test_each_phase_and_half_precision_is_looked_at_saved_and_shown(project):
    precisions = "--mp-precisions=float32,tf32,mixed_float16,mixed_bfloat16"
    result = project.runpytest_subprocess(
        "bench", *ARGS, "--mp-models=tiny_models:classifier", precisions, "--mp-report=page.html", "--mp-summary=s.md"
    )
    assert result.ret == 0, result.stdout.str()
    run = read_run(project.path / "run.json")
    found = {(case.record.phase, case.record.precision): case for case in run.of(NUMERICS).values()}
    assert set(found) == {(p, d) for p in ("training", "inference") for d in ("mixed_float16", "mixed_bfloat16")}
    assert {case.record.verdict for case in found.values()} == {"SAFE"}
    assert all(len(case.rounds) == 1 for case in found.values())
    result.stdout.fnmatch_lines(["Is it safe? *", "*Numerics: SAFE in 4 steps*"])
    assert "Is it safe?" in (project.path / "page.html").read_text()
    # No speed case: nothing that the gate, the history or a table of speedups would take for one.
    assert (run.speed, run.accuracy, run.diagnostics) == ({}, {}, {})


def test_a_model_that_overflows_is_named_and_fails_nothing_by_itself(project):
    (project.path / "loud.py").write_text(
        "import keras\n\ndef net(shape):\n"
        "    image = keras.Input(shape)\n"
        "    x = keras.layers.Flatten()(image)\n"
        "    x = keras.layers.Rescaling(1e5, name='loud')(x)\n"
        "    x = keras.layers.Dense(8, name='after')(x)\n"
        "    return keras.Model(image, keras.layers.Dense(2, dtype='float32')(x))\n"
    )
    result = project.runpytest_subprocess("bench", *ARGS, "--mp-models=loud:net", "-k", "inference")
    assert result.ret == 0, result.stdout.str()
    (benchmark,) = json.loads((project.path / "run.json").read_text())["benchmarks"]
    record = NUMERICS.read(benchmark["extra_info"])
    assert (record.verdict, record.layer, record.where) == ("BREAKS", "loud", "forward")
    assert any(remedy.helps for remedy in record.remedies)
