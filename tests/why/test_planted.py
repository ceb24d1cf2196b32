"""Traces of an H200 of models with a planted cause, each of three steps: the verdict names it, and the figures hold."""

import pytest
from traces import unpacked

from mpbench.records.profile import COPIES, NORMALISATION, OTHER_PRODUCTS, TENSOR_CORES, UNATTRIBUTED
from mpbench.why.reading.attributed import profile_record
from mpbench.why.reading.attribution import KnownLayer
from mpbench.why.reading.breakdown import Breakdown, By
from mpbench.why.reading.trace import read_trace
from mpbench.why.reading.verdict import ProfiledArm, verdict

STEPS = 3


def layers(root, *of):
    return [KnownLayer((root, name), name, kind, dtype, channels) for name, kind, dtype, channels in of]


CHANNELS_30 = layers(
    "functional_9",
    *((f"conv30_{number}", "Conv2D", "float16", (30 if number else 3, 30)) for number in range(6)),
    ("global_average_pooling2d_3", "GlobalAveragePooling2D", "float16", None),
    ("dense_16", "Dense", "float16", (30, 8)),
)
FLOAT32_LAYER = layers(
    "functional_8",
    *(("half_1", "Conv2D", "float16", (3, 128)), ("half_2", "Conv2D", "float16", (128, 128))),
    ("kept_in_float32", "Conv2D", "float32", (128, 128)),
)


@pytest.fixture
def planted(tmp_path):
    def breakdown(name, step_seconds, known=()):
        record = profile_record(read_trace(unpacked(f"h200-{name}", tmp_path)), STEPS, "a test", known)
        of = Breakdown(record, step_seconds)
        for by in (By.CLASS, By.PASS):
            assert sum(of.rows(by).values()) == pytest.approx(step_seconds, abs=1e-9)
        assert of.rows(By.PASS).get(UNATTRIBUTED, 0.0) <= 0.03 * of.busy_seconds
        return of

    return breakdown


def test_channels_that_are_no_multiple_of_8(planted):
    of = planted("channels_30", 0.0277, CHANNELS_30)
    assert of.busy_seconds == pytest.approx(0.02335, rel=0.001)
    sentences = verdict(ProfiledArm("mixed_float16", of))
    named = next(sentence for sentence in sentences if "no multiple of 8" in sentence)
    assert "30 -> 30" in named
    assert "sm80_xmma" in named
    assert of.class_seconds(COPIES) > of.class_seconds(TENSOR_CORES)  # cuDNN pads them
    assert sentences.index(named) == 2  # after what the step is bound by, and its tensor cores


def test_a_layer_kept_in_float32(planted):
    of = planted("float32_layer", 0.0397, FLOAT32_LAYER)
    sentences = verdict(ProfiledArm("mixed_float16", of))
    assert sentences[2].startswith("kept_in_float32 is kept in float32: 22.2 of 36.8 ms")
    assert "other convolutions and matrix products" in sentences[1]
    (row,) = (row for row in of.record.rows if row.name == "kept_in_float32")
    assert "ffma" in row.kernel or "f32f32" in row.kernel
    assert of.class_seconds(OTHER_PRODUCTS) > of.class_seconds(TENSOR_CORES)


def test_half_of_it_batch_normalisation_under_xla(planted):
    of = planted("half_normalisation-xla", 0.00496)
    assert of.busy_seconds == pytest.approx(0.004687, rel=0.001)
    sentences = verdict(ProfiledArm("mixed_float16", of))
    named = next(sentence for sentence in sentences if "ormalisation takes" in sentence)
    assert "float32" in named
    assert "single operations" not in named  # XLA has fused them
    assert of.class_seconds(NORMALISATION) == pytest.approx(0.5 * of.busy_seconds, rel=0.15)
    normalising = [row for row in of.record.rows if row.name.startswith("norm_")]
    assert len(normalising) == 6
    assert all(row.fused_ns > 0 for row in normalising)
    assert of.class_seconds(TENSOR_CORES) == pytest.approx(0.001765, rel=0.02)
