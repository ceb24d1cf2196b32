"""mpbench.why.reading.input_verdict: whose fault it is, in words and numbers that agree."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.why.reading.input_verdict import COMPUTE_BOUND, INPUT_BOUND, EndToEnd, comparison, explanation

TIMES = st.floats(1e-6, 1e3)
STARVED = EndToEnd(64 / 1300, 64 / 735, 64 / 730, 64)


def test_the_sentence_of_a_speedup_lost_to_the_input():
    base = EndToEnd(1.8 * 64 / 1300, 64 / 735, 1.1 * 64 / 730, 64)
    assert comparison("mixed_float16", STARVED, base) == (
        "mixed_float16 makes the step 1.8x faster, you see 1.1x: the pipeline delivers 735 images/s and the step could "
        "eat 1,300"
    )


def test_the_sentence_of_a_step_that_the_input_hardly_touches():
    base = EndToEnd(0.4, 0.01, 0.42, 64)
    assert comparison("mixed_float16", EndToEnd(0.5, 0.01, 0.52, 64), base) == (
        "mixed_float16 makes the step 1.2x slower, you see 0.8x: the pipeline delivers 6,400 images/s and the step "
        "could eat 128; the input adds 20 ms to a step (4 %)"
    )


def test_one_precision_in_a_sentence():
    assert explanation("float32", STARVED).startswith(
        "float32 is input-bound: the pipeline delivers 735 images/s and the step could eat 1,300; "
        "the input adds 38.4 ms"
    )
    assert "delivers 1.25 images/s and the step could eat 2.50" in explanation("float32", EndToEnd(4, 8, 9, 10))


@given(device=TIMES, pipeline=TIMES, share=st.floats(0, 1))
def test_the_larger_part_is_named_whether_they_share_the_cores_or_not(device, pipeline, share):
    """An end-to-end step takes between the longer of the two times (own cores) and their sum (the same cores)."""
    end_to_end = max(device, pipeline) + share * min(device, pipeline)
    one = EndToEnd(device, pipeline, end_to_end, 8)
    assert one.verdict == (INPUT_BOUND if pipeline > device else COMPUTE_BOUND)
    assert one.verdict == (INPUT_BOUND if one.delivered < one.eaten else COMPUTE_BOUND) or math.isclose(
        device, pipeline
    )
    assert one.added_seconds >= 0
    assert math.isclose(one.device_seconds + one.added_seconds, end_to_end)


@given(
    one=st.builds(EndToEnd, TIMES, TIMES, TIMES, st.integers(1, 512)),
    base=st.builds(EndToEnd, TIMES, TIMES, TIMES, st.just(8)),
)
def test_every_sentence_is_one_line(one, base):
    for text in (comparison("bfloat16", one, base), explanation("bfloat16", one)):
        assert text.isprintable()
        assert "e+" not in text.split("adds")[0]


@pytest.mark.parametrize("field", ["device_seconds", "input_seconds", "end_to_end_seconds", "batch_size"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_what_is_no_time_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(STARVED, **{field: value})
