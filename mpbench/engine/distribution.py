"""Replicas that share a step, data-parallel, by TensorFlow's distribution strategies, and what machines agree on.

A step is Keras's own under `Strategy.run`: gradients are averaged over all replicas, in the dtype of the weights,
before the update. Each replica has a whole batch, the same for all: what is in it takes no time. Loss scaling skips an
update on all replicas or on none: see `skip_together`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from mpbench.system.cluster import Cluster
from mpbench.system.device import Device

COLLECTIVE_TIMEOUT_SECONDS = 900.0
"""For the other workers to join in: one of them may compile a large model a good deal longer. Without it a worker that
has lost another would wait for ever."""

_strategy: Any = None
"""Of this process, once it has been started."""


def start(device: Device, replicas: int, cluster: Cluster) -> None:
    """Make the strategy of this process, before anything else has been computed in it.

    Args:
        device: of the first replica.
        replicas: of all workers together.
        cluster: with several workers this waits until all are there.
    """
    global _strategy
    if cluster.workers > 1:
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=COLLECTIVE_TIMEOUT_SECONDS)
        _strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    else:
        _strategy = tf.distribute.MirroredStrategy([f"/{device.kind.upper()}:{i}" for i in range(replicas)])
    if _strategy.num_replicas_in_sync != replicas:
        raise RuntimeError(f"{_strategy.num_replicas_in_sync} replicas where {replicas} were asked for")


def scope(device: Device, replicas: int) -> AbstractContextManager[Any]:
    """Where a model is built that so many replicas share."""
    return tf.device(device.placement) if replicas == 1 else _strategy.scope()  # type: ignore[no-any-return]


def spread(tensor: tf.Tensor, replicas: int) -> Any:
    """The same tensor on each replica's device."""
    if replicas == 1:
        return tensor
    local = _strategy.extended.worker_devices

    def copied(context: Any) -> tf.Tensor:
        with tf.device(local[context.replica_id_in_sync_group % len(local)]):
            return tf.identity(tensor)

    return _strategy.experimental_distribute_values_from_function(copied)


def run(step: Callable[[Any], Any], data: Any, replicas: int) -> Any:
    """A step of each replica on its own data; what the local ones return, as tuples."""
    if replicas == 1:
        return step(data)
    return tf.nest.map_structure(_strategy.experimental_local_results, _strategy.run(step, args=(data,)))


def skip_together(optimizer: keras.optimizers.LossScaleOptimizer) -> None:
    """Have loss scaling skip an update on all replicas where the gradients of any are not finite.

    Keras 3.15 asks the first replica of each machine alone, before the gradients are averaged: an overflow in another
    one would reach the weights of all, and machines of different opinions would wait for each other. The same batch
    does not exclude that: a GPU's sums need not be the same to the last bit. Costs the sum of one number per step.
    """
    own = optimizer.check_finite

    def check_finite(gradients: Any) -> tf.Tensor:
        bad = tf.cast(tf.logical_not(own(gradients)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, bad), 0.0)

    optimizer.check_finite = check_finite


def wait() -> None:
    """Return when this machine's devices have finished."""
    if isinstance(_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        # sync_devices would ask those of other machines too, and fail.
        for name in _strategy.extended.worker_devices:
            with tf.device(name):
                tf.raw_ops.SyncDevice()
    else:
        tf.test.experimental.sync_devices()


def agreement(cluster: Cluster) -> Callable[[float], float]:
    """A function that makes the largest of a figure that each worker has: the same on all, the slowest being the pace.

    All workers must call it at the same points.
    """
    if cluster.workers == 1:
        return lambda mine: mine

    def all_figures(mine: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # Each replica adds a vector that is 0 but for its own figure.
        own = tf.one_hot(context.replica_id_in_sync_group, _strategy.num_replicas_in_sync, dtype=tf.float64)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.math.multiply_no_nan(mine, own))

    share = tf.function(lambda mine: _strategy.run(all_figures, args=(mine,)), autograph=False)

    def largest(mine: float) -> float:
        everywhere = _strategy.experimental_local_results(share(tf.constant(mine, tf.float64)))
        return float(everywhere[0].numpy().max())

    return largest
