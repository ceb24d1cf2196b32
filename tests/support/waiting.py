"""Waiting for what happens elsewhere: until a condition holds, and never for ever."""

import time

PATIENCE_S = 120
"""More than anything here takes on a busy machine."""


def until(condition, seconds=PATIENCE_S):
    """Return as soon as the condition holds; fails where it does not within those seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s this is still not so"
        time.sleep(0.002)
