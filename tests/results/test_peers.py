"""results/peers/table.py: what the comparison with other frameworks says of measured groups."""

import runpy
from types import SimpleNamespace

import pytest
from paths import ROOT


@pytest.fixture(scope="module")
def table():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "results" / "peers" / "table.py")))


def arm(framework, way, precision, rounds_ms, *, shares=None, blocks=None, **fields):
    return {
        "framework": framework,
        "way": way,
        "precision": precision,
        "rounds_ms": rounds_ms,
        "blocks": list(range(len(rounds_ms))) if blocks is None else blocks,
        "others_cpu_share": [0.0] * len(rounds_ms) if shares is None else shares,
        **fields,
    }


def group(*arms):
    return {"model": "vgg16", "phase": "training", "arms": list(arms), "idle_cpu_share": {"mpbench": 0.01}}


OURS = arm("mpbench", "no XLA", "float32", [100.0] * 6, flops=2e9)
TORCH = arm("torch", "eager", "float32", [80.0] * 6, flops=2e9)
JAX = arm("jax", "XLA", "float32", [200.0] * 6)
PEAK = arm("mpbench", "matrix product", "float32", [10.0] * 6, flops=1e9)


def test_the_fastest_peer_stands_against_our_best(table):
    half = arm("mpbench", "XLA", "mixed_float16", [40.0] * 6)
    rows, _ = table.rows_of(group(OURS, half, TORCH, JAX))
    best, peer, interval = table.against_peers(rows, "float32")
    assert (best.configuration, peer.configuration) == ("mpbench, no XLA", "torch, eager")
    assert interval.estimate == pytest.approx(0.8)
    best, peer, interval = table.against_peers(rows, None)
    assert (best.way, peer.way) == ("XLA", "eager")
    assert interval.estimate == pytest.approx(2.0)


def test_without_a_peer_there_is_no_ratio(table):
    rows, _ = table.rows_of(group(OURS, {**TORCH, "error": "out of memory"}))
    assert table.against_peers(rows, "float32") is None


def test_share_of_the_measured_peak(table):
    rows, peaks = table.rows_of(group(OURS, PEAK, JAX))
    ours, jax = rows
    # 2 GFLOP in 100 ms against 1 GFLOP in 10 ms; JAX runs the same Keras model.
    assert table.share_of_peak(ours, peaks) == pytest.approx(0.2)
    assert table.share_of_peak(jax, peaks) == pytest.approx(0.1)


def test_ratios_are_of_blocks_that_both_have(table):
    # Where a step was skipped there is no round: the slow blocks 0 and 1 are in one of the two only.
    ours = arm("mpbench", "no XLA", "float32", [900.0, 900.0, *[100.0] * 6])
    torch = arm("torch", "eager", "float32", [50.0] * 6, blocks=[2, 3, 4, 5, 6, 7], shares=[0.0] * 8)
    rows, _ = table.rows_of(group(ours, torch))
    assert table.ratio(*rows).estimate == pytest.approx(2.0)


def test_a_block_in_which_others_computed_is_left_out_for_all(table):
    shares = [0.0, 0.3, 0.0, 0.0, 0.0, 0.0]
    ours = arm("mpbench", "no XLA", "float32", [100, 100, 100, 100, 100, 100], shares=shares)
    torch = arm("torch", "eager", "float32", [80, 800, 80, 80, 80, 80])
    measured = group(ours, torch)
    busy = table.busy_blocks(measured["arms"])
    assert busy == {1}
    rows, _ = table.rows_of(measured, busy)
    assert [row.blocks for row in rows] == [[0, 2, 3, 4, 5]] * 2
    run = {"device": "cpu", "device_name": "CPU", "batch_size": 2, "image_size_px": 80, "packages": {}, "absent": {}}
    assert "5 blocks, 1 left out" in table.rendered([{**run, "groups": [measured]}])


def test_on_a_machine_that_was_always_busy_nothing_is_compared(table):
    busy = group(*({**one, "others_cpu_share": [0.5] * 6} for one in (OURS, TORCH)))
    run = {"device": "cpu", "device_name": "CPU", "batch_size": 2, "image_size_px": 80, "packages": {}, "absent": {}}
    text = table.rendered([{**run, "groups": [busy]}])
    assert "6 blocks (other programs used more than 5 % of the CPU in 6 of 6)" in text
    assert "BUSY" in text
    assert "fastest peer" not in text
    assert "fastest peer / mpbench: 0.800" in table.rendered([{**run, "device": "gpu", "groups": [busy]}])


def test_what_failed_is_named_and_has_no_figures(table):
    run = {"device": "gpu", "device_name": "a GPU", "batch_size": 2, "image_size_px": 80, "packages": {}, "absent": {}}
    failed = {"framework": "torch", "way": "compiled", "precision": "float32", "error": "no C++ compiler"}
    text = table.rendered([{**run, "groups": [group(OURS, TORCH, failed)]}])
    assert "torch, compiled, float32: no C++ compiler" in text
    assert text.count("torch, compiled") == 1
