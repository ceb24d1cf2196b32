"""One model: does mixed precision pay, why, and is it safe? As in this project's bench/, in one file."""

import pytest


@pytest.mark.mpbench(phase="training")
def test_training(model, precision, measure, benchmark):
    measure(benchmark, model, precision)


@pytest.mark.mpbench(phase="inference")
def test_inference(model, precision, measure, benchmark):
    measure(benchmark, model, precision)


@pytest.mark.mpbench(phase="numerics")
def test_numerics(model, phase, precision, numerics, benchmark):
    numerics(benchmark)
