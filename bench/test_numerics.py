"""Numerics: is a precision safe for a model? One step is watched layer by layer beside the same step in float32.

Run with `pytest bench/test_numerics.py`. A verdict is SAFE, WATCH or BREAKS, with the layer and the pass to
blame, and what helps where that was tried; it fails nothing by itself.
"""

import pytest


@pytest.mark.mpbench(phase="numerics")
def test_numerics(model, phase, precision, numerics, benchmark):
    numerics(benchmark)
