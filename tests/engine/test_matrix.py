"""The three real architectures at small size, in one real run of bench/: every case of the default matrix."""

import json
import os
import subprocess
import sys

import pytest
from paths import ROOT

from mpbench.config.model_names import DEFAULT_MODELS
from mpbench.records.kinds import kind_of
from mpbench.records.numerics import NUMERICS
from mpbench.records.speed import SPEED

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """The finished process and its JSON; its noise is not judged, so it may stop at once."""
    folder = tmp_path_factory.mktemp("matrix")
    command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "--mp-device=cpu", "--mp-profile=quick"]
    command += ["--mp-max-time=1", "--benchmark-json=run.json", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads((folder / "run.json").read_text())


def speed_records(matrix):
    infos = [bench["extra_info"] for bench in matrix[1]["benchmarks"]]
    return [SPEED.read(info) for info in infos if kind_of(info) is SPEED]


def test_every_case_of_the_matrix_is_measured_and_saved(matrix):
    records = speed_records(matrix)
    assert {(r.model, r.precision, r.phase) for r in records} == {
        (model, precision, phase)
        for model in DEFAULT_MODELS
        for precision in ("float32", "mixed_float16")
        for phase in ("training", "inference")
    }
    assert all(r.rounds >= 5 for r in records)
    assert all((r.speedup is not None) == (r.precision == "mixed_float16") for r in records)


def test_parameters_are_those_of_the_thesis_models_with_its_head(matrix):
    head = {"vgg16": 512, "inception_v3": 2048, "resnet152_v2": 2048}
    base = {"vgg16": 14_714_688, "inception_v3": 21_802_784, "resnet152_v2": 58_331_648}
    for record in speed_records(matrix):
        assert record.parameters == base[record.model] + head[record.model] * 1024 + 1024 + 1024 * 2 + 2


def test_loss_scaling_settled_before_the_first_measured_round(matrix):
    for record in speed_records(matrix):
        if (record.precision, record.phase) == ("mixed_float16", "training"):
            assert 0 < record.loss_scale <= 2**15
            assert record.loss_scale == 2.0 ** (15 - record.warmup_skipped_steps - record.skipped_steps)
        else:
            assert record.loss_scale is None


def test_numerics_of_every_model_are_looked_at_and_none_breaks(matrix):
    infos = [bench["extra_info"] for bench in matrix[1]["benchmarks"]]
    records = [NUMERICS.read(info) for info in infos if kind_of(info) is NUMERICS]
    assert {(r.model, r.phase) for r in records} == {(m, p) for m in DEFAULT_MODELS for p in ("training", "inference")}
    assert {r.precision for r in records} == {"mixed_float16"}
    assert {r.verdict for r in records} <= {"SAFE", "WATCH"}
    assert all(0 < r.settled_scale_log2 <= 15 for r in records if r.phase == "training")


def test_the_tables_name_every_model_beside_the_thesis_figures(matrix):
    output = matrix[0].stdout
    for figures in ("303 -> 196", "195 -> 133", "492 -> 271", "138 -> 100", "97 -> 87", "180 -> 108"):
        assert figures in output
    assert output.count("Do all benefit equally from mixed_float16?") == 2
