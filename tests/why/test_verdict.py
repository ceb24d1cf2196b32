import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.records.profile import (
    BACKWARD,
    COPIES,
    ELEMENTWISE,
    FORWARD,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    REDUCTIONS,
    TENSOR_CORES,
    UPDATE,
    LayerRow,
    Operations,
    ProfileRecord,
)
from mpbench.why.reading.breakdown import Breakdown
from mpbench.why.reading.verdict import MAX_SENTENCES, ProfiledArm, is_host_bound, ms, verdict

MS = 1_000_000


def record(rows, operations=None, on_device=True, steps=1, tensor_cores=True):
    busy = sum(row.total_ns for row in rows)
    operations = operations or [Operations("Mul", ELEMENTWISE, busy, 1)]
    return ProfileRecord(
        "a test", on_device, "a GPU", steps, 1, busy + 10, tensor_cores, tuple(rows), tuple(operations)
    )


def row(name="layer", kind=TENSOR_CORES, milliseconds=10.0, part=FORWARD, **fields):
    fields = {"kernels": 100, "type": "Dense", **fields}
    return LayerRow(name, ns={(part, kind): int(milliseconds * MS)}, **fields)


def told(rows, step_ms, operations=None, baseline=None, name="mixed_float16", on_device=True, **fields):
    breakdown = Breakdown(record(rows, operations, on_device), step_ms / 1000)
    base = ProfiledArm("float32", baseline) if baseline else None
    return verdict(ProfiledArm(name, breakdown, **fields), base)


@pytest.mark.parametrize(
    ("step_ms", "begins"),
    [
        (25, "HOST-BOUND: the GPU waits for the host in 15.0 of 25.0 ms (60 %): 100 kernels a step, one every 250 us."),
        (20, "HOST-BOUND: the GPU waits for the host in 10.0 of 20.0 ms (50 %)"),
        (19.9, "Partly host-bound: the GPU waits for the host in 9.90 of 19.9 ms (50 %)"),
        (12.6, "Partly host-bound: "),
        (12, "Device-bound: the GPU works in 10.0 of 12.0 ms (83 %)."),
        (9.5, "Device-bound: the GPU works in all of the 9.50 ms (under the profiler 10.0)."),
    ],
)
def test_what_a_gpus_step_is_bound_by(step_ms, begins):
    assert told([row()], step_ms)[0].startswith(begins)


def test_host_bound_is_said_of_gpus_alone():
    idle = Breakdown(record([row()]), 0.1)
    assert is_host_bound(idle)
    assert not is_host_bound(Breakdown(record([row()], on_device=False), 0.1))
    assert not is_host_bound(Breakdown(record([row()]), 0.011))


def test_many_small_operations_on_a_cpu_are_launch_bound():
    small = [Operations("Mul", ELEMENTWISE, 10 * MS, 5000)]  # of 2 us each
    rows = [row(kind=ELEMENTWISE, kernels=5000)]
    assert told(rows, 15, small, on_device=False)[0].startswith("Launch-bound: 100 % of the 15.0 ms")
    large = [Operations("Conv2D", OTHER_PRODUCTS, 10 * MS, 5)]
    assert (
        told(rows, 15, large, on_device=False)[0]
        == "Operations run in 10.0 of 15.0 ms (67 %), 5,000 operations a step."
    )
    # What lies between few operations is not their launch.
    assert told([row(kind=ELEMENTWISE, kernels=5)], 25, small, on_device=False)[0].startswith("Operations run in 10.0")


def test_tensor_cores():
    rows = [row(milliseconds=3), row("other", OTHER_PRODUCTS, 7)]
    text = (
        "30 % of the busy time runs on tensor cores (3.00 of 10.0 ms; other convolutions and matrix products 7.00 ms)."
    )
    assert text in told(rows, 10)
    assert not any("tensor cores (" in sentence for sentence in told(rows, 10, on_device=False))


def test_normalisation_is_explained_as_far_as_figures_do():
    fields = {"type": "BatchNormalization", "kernels": 40, "cast_ns": 2 * MS}
    sentences = told([row(), row("bn", NORMALISATION, 10, **fields)], 20)
    why = "it is computed in float32 (2.00 ms of it are casts) and from single operations (40 kernels a layer)"
    assert f"Batch normalisation takes 10.0 of 20.0 ms: {why}." in sentences
    fields |= {"kernels": 3, "cast_ns": 0}
    assert "Batch normalisation takes 10.0 of 20.0 ms." in told([row(), row("bn", NORMALISATION, 10, **fields)], 20)
    fields |= {"kernels": 40, "fused_ns": 5 * MS}
    assert "Batch normalisation takes 10.0 of 20.0 ms." in told([row(), row("bn", NORMALISATION, 10, **fields)], 20)


def test_the_update_and_casts():
    rows = [row(milliseconds=6), row("(optimizer)", OPTIMIZER, 4, UPDATE, type=""), row("c", COPIES, 3)]
    operations = [Operations("Cast", COPIES, 3 * MS, 9), Operations("", ELEMENTWISE, 10 * MS, 1)]
    sentences = told(rows, 13, operations)
    assert "The optimizer's update takes 4.00 of 13.0 ms in 100 kernels: its variables stay float32." in sentences
    assert "Copies, casts and layout: Cast takes 3.00 of 13.0 ms." in sentences
    assert "The optimizer's update takes 4.00 of 13.0 ms in 100 kernels." in told(rows, 13, operations, name="float32")


def test_what_takes_little_is_no_reason():
    rows = [row(milliseconds=95), row("(optimizer)", OPTIMIZER, 5, UPDATE, type="")]
    assert not any("optimizer" in sentence for sentence in told(rows, 100))


def test_types_of_operations_that_make_up_a_class():
    rows = [row(milliseconds=10), row("r", REDUCTIONS, 14, BACKWARD)]
    operations = [
        Operations("BiasAddGrad", REDUCTIONS, int(7.2 * MS), 5),
        Operations("MaxPoolGrad", REDUCTIONS, int(5.7 * MS), 5),
        Operations("MaxPool", REDUCTIONS, int(1.1 * MS), 5),
        Operations("Conv2D", TENSOR_CORES, 10 * MS, 5),
    ]
    assert "Reductions and pooling: BiasAddGrad and MaxPoolGrad take 12.9 of 24.0 ms." in told(rows, 24, operations)


def test_channels_and_float32_matter_in_half_precision_on_a_gpu():
    rows = [row("a", channels=(30, 30), kernel="ampere_h1688gemm"), row("b", channels=(64, 64), dtype="float32")]
    sentences = told(rows, 20)
    assert (
        "One layer has channels that are no multiple of 8, 10.0 of 20.0 ms (a 30 -> 30, and ran ampere_h1688gemm)."
        in sentences
    )
    assert "b is kept in float32: 10.0 of 20.0 ms." in sentences
    for other in (told(rows, 20, name="float32"), told(rows, 20, on_device=False)):
        assert not any("no multiple" in sentence for sentence in other)
    assert not any("kept in float32" in sentence for sentence in told(rows, 20, name="float32"))


@pytest.mark.parametrize(("channels", "odd"), [((3, 64), False), ((64, 8), False), ((30, 64), True), ((64, 30), True)])
def test_images_have_three_channels_by_nature(channels, odd):
    sentences = told([row(channels=channels)], 10)
    assert any("no multiple of 8" in sentence for sentence in sentences) == odd


def test_what_did_not_get_faster_than_the_baseline():
    before = Breakdown(record([row(milliseconds=40), row("n", NORMALISATION, 10)]), 0.06)
    sentences = told([row(milliseconds=10), row("n", NORMALISATION, 10)], 30, baseline=before)
    rows = "normalisation 10.0 -> 10.0 ms, the wait for the host 10.0 -> 10.0 ms"
    assert f"Not faster than in float32: {rows}." in sentences
    idle = Breakdown(record([row(milliseconds=40)]), 0.06)
    assert "Not faster than in float32: the wait for the host 20.0 -> 25.0 ms." in told([row()], 35, baseline=idle)
    assert not any("Not faster" in sentence for sentence in told([row()], 30))


def test_only_what_was_measured_is_advised():
    assert not any(sentence.startswith("Try") for sentence in told([row()], 100))
    assert told([row()], 100, compiled_seconds=0.05)[-1] == (
        "Try XLA: measured beside it, the step takes 50.0 ms (2.00 times as fast)."
    )
    assert not any("XLA" in sentence for sentence in told([row()], 100, compiled_seconds=0.099))
    sweep = {"batch_size": 64, "other_batches": {32: 300.0, 128: 1000.0}}
    assert told([row()], 100, **sweep)[-1] == "Try a larger batch: at 128 the sweep has 1,000 images/s, here 640."
    sweep["other_batches"] = {32: 900.0, 128: 640.0}
    assert not any("batch" in sentence for sentence in told([row()], 100, **sweep))


kinds = st.sampled_from([TENSOR_CORES, OTHER_PRODUCTS, NORMALISATION, REDUCTIONS, ELEMENTWISE, COPIES, OPTIMIZER])


@given(
    st.lists(st.tuples(kinds, st.integers(1, 10**8)), min_size=1, max_size=12),
    st.floats(1e-6, 1),
    st.booleans(),
    st.booleans(),
)
def test_at_most_six_lines_that_can_be_printed(parts, step, on_device, with_more):
    rows = [row(f"l{number}", kind, ns / MS) for number, (kind, ns) in enumerate(parts)]
    operations = [Operations(f"T{number}", kind, ns, 3) for number, (kind, ns) in enumerate(parts)]
    breakdown = Breakdown(record(rows, operations, on_device), step)
    more = {"compiled_seconds": step / 3, "batch_size": 8, "other_batches": {16: 1e9}} if with_more else {}
    sentences = verdict(ProfiledArm("mixed_float16", breakdown, **more), ProfiledArm("float32", breakdown))
    assert 1 <= len(sentences) <= MAX_SENTENCES
    assert all(sentence.endswith(".") and "\n" not in sentence and "nan" not in sentence for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0998, "99.8"), (0.009996, "10.0"), (0.0012345, "1.23"), (0.0000012, "0.001"), (1.5, "1500.0")],
)
def test_milliseconds(seconds, text):
    assert ms(seconds) == text
