"""A profile of a few steps: on a GPU the time of each class of kernels and the share of tensor cores, on a CPU the time
of each kind of operation.

Run with `pytest bench/test_profile.py` (needs `pip install mpbench[profile]`), and let `python -m mpbench explain` say
what follows; `pytest bench/` leaves it out.
"""

import pytest


@pytest.mark.mpbench_cause("profile")
def test_profile(model, phase, precision, probe, benchmark):
    probe(benchmark)
