"""Images that are their own numbers, so that a batch says which of them it holds."""

import numpy as np


class Numbers:
    """Images that are their own numbers; keeps those that were asked for."""

    size_px = 2
    cache = "none"

    def __init__(self, count, at_once=1, wait=lambda: None):
        self.labels = np.arange(count) * 10
        self.at_once = at_once
        self.wait = wait
        self.fetched = []

    def fetch(self, indices, out):
        self.wait()
        self.fetched.extend(indices)
        out[:] = np.asarray(indices)[:, None, None, None]


def numbers(batch):
    assert batch.pixels.dtype == np.uint8
    found = batch.pixels[: batch.valid, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(
        batch.pixels[: batch.valid], np.broadcast_to(found[:, None, None, None], (len(found), 2, 2, 3))
    )
    assert not batch.pixels[batch.valid :].any()
    np.testing.assert_array_equal(batch.labels, found * 10)
    return found.tolist()
