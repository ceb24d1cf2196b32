"""The input pipeline alone, and the steps of the main matrix fed by it: is a speedup lost to the input?

Run with `pytest bench/test_input_pipeline.py` (--mp-why measures the pipeline alone), and let `python -m mpbench
explain` say what follows; `pytest bench/` alone leaves it out. Which images, how many threads, whether decoded images
are kept: --mp-data, --mp-workers, --mp-cache.
"""

import pytest


@pytest.mark.mpbench_cause("input")
def test_pipeline(probe, benchmark):
    probe(benchmark)


@pytest.mark.mpbench_cause("feed")
def test_fed_step(model, phase, precision, feed, probe, benchmark):
    probe(benchmark)
