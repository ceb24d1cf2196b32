"""The input pipeline alone, and the steps of the main matrix with batches from it: is a speedup lost to the input?

Run with `pytest bench/test_input_pipeline.py` (--mp-why measures the pipeline alone), and let `python -m mpbench
explain` say what follows; `pytest bench/` alone leaves it out. Which images, how many threads, whether decoded images
are kept: --mp-data, --mp-workers, --mp-cache.
"""

import pytest


@pytest.mark.mpbench_diagnostic("input")
def test_pipeline(diagnose, benchmark):
    diagnose(benchmark)


@pytest.mark.mpbench_diagnostic("end_to_end")
def test_end_to_end_step(model, phase, precision, input, diagnose, benchmark):
    diagnose(benchmark)
