"""A process of its own for `test_distribution.py`: logical devices come before TensorFlow is started.

Prints, as JSON, what became of steps that two replicas share and of steps of the joined batch by one.
"""

import json

import numpy as np
import tensorflow as tf

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import batch as batches
from mpbench.engine import device as devices
from mpbench.engine import distribution as replicas
from mpbench.engine import step as steps
from mpbench.engine.batch import Targets
from mpbench.engine.own_data import Batch
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.system.cluster import Cluster

IMAGES = 8


def step(precision, phase, count):
    batch = IMAGES // count
    return Step(StepSpec("tiny_models:classifier", PRECISIONS[precision], phase, batch, 16, False, CPU, count))


def weights(one, replica):
    """All weights on one replica, as a flat vector."""
    values = [getattr(weight.value, "values", [weight.value] * 2)[replica] for weight in one.model.weights]
    return np.concatenate([np.ravel(value.numpy()) for value in values])


def halves(tensor, count):
    """In place of `replicas.spread`: a part of the joined batch for each replica."""
    if count == 1:
        return tensor
    parts = tf.split(tensor, count)
    return replicas._strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )


CPU = devices.activate("cpu", require_gpu=False, replicas=2)
replicas.start(CPU, 2, Cluster())
messages = {"same_batch": [np.asarray(one).tolist() for one in replicas.spread(tf.constant([1.0, 2.0]), 2).values]}
joined, targets = batches.synthetic_batch(IMAGES, (16, 16, 3)), tf.range(IMAGES) % 5
batches.synthetic_batch = lambda *args: joined
steps.target_forms = lambda *args: [Targets("class numbers", lambda images: targets)]
replicas.spread = halves
for precision in ("float32", "mixed_float16"):
    shared, alone = step(precision, "training", 2), step(precision, "training", 1)
    for one in (shared, alone):
        one.run(3)
        one.check()
    messages[precision] = {
        "steps": [shared.steps, alone.steps],
        "skipped": [shared.skipped_steps(), alone.skipped_steps()],
        "between_replicas": float(np.abs(weights(shared, 0) - weights(shared, 1)).max()),
        "to_joined": float(np.abs(weights(shared, 0) - weights(alone, 0)).max()),
        "moved": float(np.abs(weights(alone, 0) - weights(step(precision, "inference", 1), 0)).max()),
        "losses": [float(loss) for loss in tf.nest.flatten(shared._last)],
    }
shared = step("mixed_float16", "training", 2)
before, skipped_before, scale_before = weights(shared, 0), shared.skipped_steps(), shared.loss_scale()
sound = shared.batch.x
planted = [sound.values[0], tf.fill(sound.values[1].shape, float("nan"))]
# Its step is traced again, with what the second replica alone cannot take.
shared.batch = Batch(
    replicas._strategy.experimental_distribute_values_from_function(
        lambda context: planted[context.replica_id_in_sync_group]
    )
)
shared._trace()
shared.run(2)
messages["overflow"] = {
    "skipped": shared.skipped_steps() - skipped_before,
    "scale": shared.loss_scale() / scale_before,
    "moved": float(np.abs(weights(shared, 0) - before).max()),
    "between_replicas": float(np.abs(weights(shared, 0) - weights(shared, 1)).max()),
}
answers = step("float32", "inference", 2)
messages["inference"] = {
    "shapes": [list(one.shape) for one in tf.nest.flatten(answers._last)],
    "to_joined": float(
        np.abs(np.concatenate(tf.nest.flatten(answers._last)) - step("float32", "inference", 1)._last.numpy()).max()
    ),
}
try:
    Step(StepSpec("tiny_models:compiled_with_metrics", PRECISIONS["float32"], "training", 4, 16, False, CPU, 2))
except CaseFailure as failure:
    messages["metrics"] = str(failure)
print(json.dumps(messages))
