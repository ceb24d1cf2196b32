"""A saved run with a profile of each planted cause, as an H200 has run them: `explain` names each one."""

import json
import lzma
import math

import pytest
from diagnostic_records import NS, end_to_end, pipeline, profile, profiled_pair, row, run_of
from traces import DATA

from mpbench.records.profile import ELEMENTWISE, UNATTRIBUTED, Operations, read_profile
from mpbench.records.runs import read_run
from mpbench.why.reading.breakdown import By
from mpbench.why.reading.matched import MatchedRuns, matched
from mpbench.why.reading.page import as_data, page_lines


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "run.json"
    path.write_bytes(lzma.decompress((DATA / "h200-planted.json.xz").read_bytes()))
    found = matched([read_run(path)])
    assert found.notes == []
    return {(step.setting.model.removeprefix("planted_models:"), step.setting.jit): step for step in found.steps}


@pytest.mark.parametrize(
    ("model", "jit", "bound", "cause"),
    [
        (
            "huge_dense",
            True,
            "Device-bound",
            "optimizer's update takes 0.259 of 0.621 ms in 7 kernels: its variables stay",
        ),
        (
            "elementwise_only",
            True,
            "Device-bound",
            "Elementwise operations, which do little but read and write memory: ",
        ),
        ("tiny_layers", False, "HOST-BOUND", "43.0 of 49.5 ms (87 %): 5,892 kernels a step"),
        ("channels_30", False, "Device-bound", "7 layers have channels that are no multiple of 8, 21.6 of 23.3 ms"),
        ("float32_layer", False, "Device-bound", "kept_in_float32 is kept in float32: 22.2 of 36.8 ms"),
        (
            "half_normalisation",
            True,
            "Device-bound",
            "Batch normalisation takes 2.53 of 4.69 ms: it is computed in float32",
        ),
        ("half_normalisation", False, "Device-bound", "Try XLA: measured beside it, the step takes 4.96 ms"),
        (
            "lstm",
            False,
            "HOST-BOUND",
            "recurrent (LSTM) takes 8.84 of 9.75 ms, most of it convolution and matmul on tensor",
        ),
        ("transformer", True, "Device-bound", "2 MultiHeadAttention layers take"),
        ("transformer", False, "Partly host-bound", "Try XLA: measured beside it, the step takes 6.14 ms"),
        ("unet", False, "Partly host-bound", "BiasAddGrad and MaxPoolGrad take 7.35 of 19.3 ms"),
        ("subclassed", False, "Device-bound", "Batch normalisation takes 9.81 of 16.5 ms"),
        ("vgg16", False, "Device-bound", "BiasAddGrad and MaxPoolGrad take 12.9 of 26.1 ms"),
        ("inception_v3", False, "HOST-BOUND", "Batch normalisation takes 25.1 of 44.2 ms: it is computed in float32"),
    ],
)
def test_the_planted_cause_is_named(steps, model, jit, bound, cause):
    sentences = steps[model, jit].verdict
    assert len(sentences) <= 6
    assert sentences[0].startswith(f"{bound}: ")
    assert any(cause in sentence for sentence in sentences), sentences


def test_every_table_adds_up_and_next_to_nothing_is_unattributed(steps):
    for step in steps.values():
        for arm in step.arms:
            of = arm.breakdown
            for by in By:
                assert math.fsum(of.rows(by).values()) == pytest.approx(of.step_seconds, abs=1e-6)
            assert of.rows(By.PASS).get(UNATTRIBUTED, 0.0) <= 0.03 * of.busy_seconds


def test_records_are_small_and_the_page_can_be_printed(steps):
    for step in steps.values():
        for case, _ in step.cases.values():
            assert len(json.dumps(case.record.step_profile)) <= 20_000
    found = MatchedRuns(list(steps.values()), [], [])
    lines = page_lines(found)
    assert all(line.isprintable() for line in lines)
    first = next(number for number, line in enumerate(lines) if line.startswith("ms a step"))
    titles = sum(line.endswith(")") and ", training (" in line for line in lines[: first - 1])
    assert titles == len(steps)
    json.dumps(as_data(found), allow_nan=False)


def test_a_slow_loader_is_named_first():
    steps = [end_to_end("device", 25, "mixed_float16"), end_to_end("pipeline", 101, "mixed_float16")]
    (step,) = matched([run_of(*steps, pipeline(100), cases=profiled_pair())]).steps
    assert step.verdict[0].startswith("INPUT-BOUND: mixed_float16 is input-bound: the pipeline delivers 640 images/s")


def test_a_thousand_tiny_layers_on_a_cpu_are_launch_bound():
    def tiny(half=False):
        return [row(f"tiny_{n}", 0.005, ELEMENTWISE, type="Dense", kernels=1) for n in range(1000)]

    pair = profiled_pair(base_ms=8, half_ms=8, rows=tiny, device="cpu")
    small = (Operations("Mul", ELEMENTWISE, 5 * NS, 1000),)
    cases = [
        (type(r)(**{**vars(r), "step_profile": profile(*tiny(), on_device=False, operations=small)}), t)
        for r, t in pair
    ]
    (step,) = matched([run_of(cases=cases)]).steps
    assert step.verdict[0].startswith(
        "Launch-bound: 100 % of the 8.00 ms go by between operations or in operations of at"
    )
    assert len(cases[0][0].step_profile) <= 20_000
    assert read_profile(cases[0][0].step_profile).busy_ns == 5 * NS
