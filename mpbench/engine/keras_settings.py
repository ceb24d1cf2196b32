"""What is set for the whole process, by keras.json, the environment or a user's module, and would reach every arm.

An arm is what its name says: whatever changes the dtype of what it computes, or what Keras adds to it, is refused.
"""

from __future__ import annotations

import os

from mpbench.errors import UsageProblem

VALID = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
"""Keras's own defaults. The dtype policy is the precision's, set while a model is built."""

VARIABLES = (
    *("TF_ENABLE_AUTO_MIXED_PRECISION", "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE"),
    *("TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
)
"""With which TensorFlow, or oneDNN under it, computes float32 in fewer bits."""

HARMLESS = ("", "0", "false", "strict")


def check_process_settings(who: str) -> None:
    """Look at the settings of Keras and TensorFlow.

    Args:
        who: may have changed them, for the message.

    Raises:
        UsageProblem: one is not its default.
    """
    import keras
    import tensorflow as tf

    for name, valid in VALID.items():
        given = getattr(keras.config, name)()
        if given != valid:
            raise UsageProblem(f"{who}: {name} is {given}: valid is {valid}, --mp-precisions chooses how to compute")
    for name, on in tf.config.optimizer.get_experimental_options().items():
        if on and name.startswith("auto_mixed_precision"):
            raise UsageProblem(
                f"{who}: TensorFlow's option {name} is on: switch it off, float32 is computed in fewer bits with it"
            )
    for name in VARIABLES:
        value = os.environ.get(name, "")
        if value.lower() not in HARMLESS:
            raise UsageProblem(f"{name}: {value!r}: leave it out, float32 is computed in fewer bits with it")
