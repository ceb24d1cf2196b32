"""mpbench.config.modes: which modes a run measures side by side."""

import pytest

from mpbench.config.modes import Mode, modes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("auto", 1), [Mode("", None)]),
        (("on", 1), [Mode("", True)]),
        (("both", 1), [Mode("jit=off", False), Mode("jit=on", True)]),
        (("auto", 4), [Mode("replicas=1", False), Mode("replicas=4", False, 4)]),
    ],
)
def test_the_first_mode_is_the_one_that_the_others_refer_to(given, expected):
    assert list(modes(*given)) == expected
