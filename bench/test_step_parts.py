"""Parts of a training step: forward pass, gradients, optimizer update, casts, beside the whole of it.

Run with `pytest bench/test_step_parts.py`, and let `python -m mpbench explain` say what follows; `pytest bench/` leaves
it out. To measure your own model, copy this file and give the mark `models=["package.module:factory"]`.
"""

import pytest


@pytest.mark.mpbench_cause("parts")
def test_step_parts(model, precision, part, probe, benchmark):
    probe(benchmark)
