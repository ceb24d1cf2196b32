"""Models whose statistics have never seen data: as they are, inference would shrink to nothing in any precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mpbench.engine.tracing import replaced


def settle_statistics(model: keras.Model, inputs: Any) -> int:
    """Let the BatchNormalization layers that have never seen data bring what they are given to the size of 1.

    A new layer's statistics are 0 and 1, so that inference normalises nothing and each further layer's outputs are
    smaller: what underflows then says nothing of a trained model. Only the size is set, one number a layer: a variance
    for each channel, of a few random images that all look alike, would amplify rounding as no trained model does.
    Layers that have seen data keep theirs.

    Args:
        model: built, in float32.
        inputs: that it takes.

    Returns:
        How many layers were changed.
    """
    fresh = {id(layer) for layer in model._flatten_layers() if _is_fresh(layer)}
    changed = 0
    own = keras.layers.BatchNormalization.call

    def call(layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal changed
        if id(layer) in fresh:
            fresh.discard(id(layer))
            size = tf.reduce_mean(tf.square(tf.cast(x, tf.float32)))
            layer.moving_variance.assign(tf.fill(layer.moving_variance.shape, size))
            changed += 1
        return own(layer, x, *args, **kwargs)

    if fresh:
        with replaced(keras.layers.BatchNormalization, "call", call):
            model(inputs, training=False)
    return changed


def _is_fresh(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.BatchNormalization) or not layer.built:
        return False
    return bool(np.all(np.asarray(layer.moving_mean) == 0) and np.all(np.asarray(layer.moving_variance) == 1))
