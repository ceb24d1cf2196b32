"""The precisions: name, Keras dtype policy, TF32 state, and what a reader should know about each.

A plain table; imports nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

KERAS_ADAM_EPSILON = 1e-7
FLOAT16_ADAM_EPSILON = 1e-4


@dataclass(frozen=True)
class Precision:
    """One way to compute a model.

    Attributes:
        name: as in `--mp-precisions`, in case ids and in saved runs.
        policy: the Keras dtype policy under which the model is built.
        tf32: whether float32 matrix products and convolutions may round their inputs to TF32.
        note: one line for a reader.
        adam_epsilon: Adam's epsilon. Keras's default of 1e-7 vanishes beside float16 weights (their smallest
            normal number is 6e-5), and the first update divides by zero.
    """

    name: str
    policy: str
    tf32: bool
    note: str
    adam_epsilon: float = KERAS_ADAM_EPSILON

    @property
    def compute_dtype(self) -> str:
        return self.policy.removeprefix("mixed_")


PRECISIONS = {
    p.name: p
    for p in (
        Precision("float32", "float32", False, "strict: TF32 off"),
        Precision("tf32", "float32", True, "float32 storage, products in TF32 (Ampere and newer)"),
        Precision("mixed_float16", "mixed_float16", False, "float16 compute, float32 weights, loss scaling"),
        Precision("mixed_bfloat16", "mixed_bfloat16", False, "bfloat16 compute, float32 weights, no loss scaling"),
        Precision("float16", "float16", False, "pure half precision: float16 weights too", FLOAT16_ADAM_EPSILON),
    )
}
DEFAULT_PRECISIONS = ("float32", "mixed_float16")
DEFAULT_BASELINE = "float32"
TF32 = "tf32"


def default_precisions(tf32: bool, xla: bool) -> tuple[str, ...]:
    """What is measured where nobody says what.

    Args:
        tf32: whether the device computes float32 in TF32 unless told not to: that is then what a user of mixed
            precision leaves, and strict float32 stands beside it.
        xla: whether XLA compiles the steps; without it TensorFlow cannot tell float32 and tf32 apart in one process.
    """
    if not tf32:
        return DEFAULT_PRECISIONS
    return ("float32", TF32, "mixed_float16") if xla else (TF32, "mixed_float16")


def default_baseline(precisions: Collection[str], tf32: bool) -> str:
    """What speedups refer to where nobody says what: float32 as the device computes it by default."""
    return TF32 if tf32 and TF32 in precisions else DEFAULT_BASELINE


CONTROL = "control"
"""Case id of the second, identical baseline arm that `--mp-control` adds to each group."""


CPU_NOTE = (
    "CPU figures: they say nothing about GPUs. A CPU has no tensor cores, and most compute float16 by converting "
    "it to float32 and back."
)
