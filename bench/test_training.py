"""Training steps: forward, loss, loss scaling, backward and optimizer update of one mini-batch, as in Keras's fit.

Run with `pytest bench/test_training.py`; which models and precisions: --mp-models, --mp-precisions. To measure your
own model, copy this file and give the mark `models=["package.module:factory"]`.
"""

import pytest


@pytest.mark.mpbench(phase="training")
def test_training(model, precision, measure, benchmark):
    measure(benchmark, model, precision)
