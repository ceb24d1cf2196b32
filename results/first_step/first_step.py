"""Seconds until the first training step is done, with the optimizer built before tracing and (as in fit) within it.

python results/first_step/first_step.py [MODEL ...]
"""

from __future__ import annotations

import sys
import time

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import device as devices


def main() -> None:
    device = devices.activate("auto", require_gpu=False)
    import tensorflow as tf

    from mpbench.engine.batch import synthetic_batch, target_forms
    from mpbench.engine.models import build_model, compile_model
    from mpbench.engine.plan import StepSpec

    def seconds(name: str, built_first: bool) -> float:
        spec = StepSpec(name, PRECISIONS["float32"], "training", 2, 80, None, device)
        with tf.device(device.placement):
            model = build_model(name, 80, spec.precision)
            compile_model(model, spec.precision, False, spec.image_shape)
            batch = synthetic_batch(2, spec.image_shape)
            targets = target_forms(model, spec.image_shape)[0].make(2)
            start = time.perf_counter()
            if built_first:
                model.optimizer.build(model.trainable_variables)
            tf.function(lambda: model.train_step((batch, targets)), autograph=False).get_concrete_function()()
            return time.perf_counter() - start

    for name in sys.argv[1:] or ["inception_v3", "resnet152_v2"]:
        for built_first in (False, True):
            how = "before tracing" if built_first else "while tracing"
            print(f"{name}, optimizer built {how}: first step after {seconds(name, built_first):.1f} s", flush=True)


if __name__ == "__main__":
    main()
