"""Inference steps: the forward pass of one mini-batch, as in Keras's predict.

Run with `pytest bench/test_inference.py`; which models and precisions: --mp-models, --mp-precisions. To measure your
own model, copy this file and give the mark `models=["package.module:factory"]`.
"""

import pytest


@pytest.mark.mpbench(phase="inference")
def test_inference(model, precision, measure, benchmark):
    measure(benchmark, model, precision)
