"""mpbench.config.modes: which ways a run measures side by side."""

import pytest

from mpbench.config.modes import Way, ways


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, False, 1), [Way("", None)]),
        ((True, False, 1), [Way("", True)]),
        ((None, True, 1), [Way("jit=off", False), Way("jit=on", True)]),
        ((None, False, 4), [Way("replicas=1", False), Way("replicas=4", False, 4)]),
    ],
)
def test_the_first_way_is_the_one_that_the_others_refer_to(given, expected):
    assert list(ways(*given)) == expected
