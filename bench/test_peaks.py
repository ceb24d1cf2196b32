"""What the device can do at most, measured on the spot: the roofs that each layer's time in a step is held against.

Run with `pytest bench/ --mp-why` or `pytest bench/test_peaks.py`, and let `python -m mpbench explain` say what follows;
`pytest bench/` alone leaves it out.
"""

import pytest


@pytest.mark.mpbench_diagnostic("peaks")
def test_peak(what, precision, diagnose, benchmark):
    diagnose(benchmark)
