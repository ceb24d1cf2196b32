"""mpbench.why.reading.input_verdict: whose fault it is, in words and numbers that agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.why.reading.input_verdict import InputTimes, InputVerdict, input_finding

TIMES = st.floats(1e-6, 1e3)
STARVED = InputTimes(64 / 1300, 64 / 735, 64 / 730, 64)


def test_the_sentence_of_a_speedup_lost_to_the_input():
    base = InputTimes(1.8 * 64 / 1300, 64 / 735, 1.1 * 64 / 730, 64)
    found = input_finding("mixed_float16", STARVED, base)
    assert found.verdict is InputVerdict.INPUT_BOUND
    assert found.sentence == (
        "mixed_float16 makes the step 1.8x faster, you see 1.1x: the pipeline delivers 735 images/s and the step could "
        "take 1,300"
    )


def test_the_sentence_of_a_step_that_the_input_hardly_touches():
    found = input_finding("mixed_float16", InputTimes(0.5, 0.01, 0.52, 64), InputTimes(0.4, 0.01, 0.42, 64))
    assert found.sentence == (
        "mixed_float16 makes the step 1.2x slower, you see 0.8x: the pipeline delivers 6,400 images/s and the step "
        "could take 128; the input adds 20 ms to a step (4 %)"
    )


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (
            STARVED,
            "float32 is input-bound: the pipeline delivers 735 images/s and the step could take 1,300; the input adds "
            "38.4 ms to a step (78 %)",
        ),
        (
            InputTimes(4, 8, None, 10),
            "float32 is input-bound: the pipeline delivers 1.25 images/s and the step could take 2.50",
        ),
        (
            InputTimes(0.1, None, 0.12, 10),
            "float32 is input-bound: an end-to-end step takes 120 ms, the step alone 100 ms",
        ),
        (
            InputTimes(0.1, None, 0.109, 10),
            "float32 is compute-bound: an end-to-end step takes 109 ms, the step alone 100 ms",
        ),
    ],
)
def test_one_precision_in_a_sentence(times, sentence):
    assert input_finding("float32", times).sentence == sentence


@given(device=TIMES, pipeline=TIMES, share=st.floats(0, 1))
def test_the_larger_part_is_named_whether_they_share_the_cores_or_not(device, pipeline, share):
    """An end-to-end step takes between the longer of the two times (own cores) and their sum (the same cores)."""
    end_to_end = max(device, pipeline) + share * min(device, pipeline)
    expected = InputVerdict.INPUT_BOUND if pipeline > device else InputVerdict.COMPUTE_BOUND
    assert InputTimes(device, pipeline, end_to_end, 8).verdict is expected


@given(
    one=st.builds(InputTimes, TIMES, TIMES, TIMES, st.integers(1, 512)),
    base=st.none() | st.builds(InputTimes, TIMES, TIMES, TIMES, st.just(8)),
)
def test_every_sentence_is_one_line(one, base):
    text = input_finding("bfloat16", one, base).sentence
    assert text.isprintable()
    assert "e+" not in text.split("adds")[0]
