"""Each distinct layer of each model by itself, forward in inference, forward and backward in training; and what the
device can do at most, measured on the spot.

Run with `pytest bench/test_layers.py`, and let `python -m mpbench explain` say what follows; `pytest bench/` leaves it
out. The layers are those of the models, which are known only once a run has begun: until then one case stands for all
of a model's. To measure your own model, copy this file and give the mark `models=["package.module:factory"]`.
"""

import pytest


@pytest.mark.mpbench_cause("peaks")
def test_peak(what, precision, probe, benchmark):
    probe(benchmark)


@pytest.mark.mpbench_cause("layers")
def test_layer(model, layer, phase, precision, probe, benchmark):
    probe(benchmark)
