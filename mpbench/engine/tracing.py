"""How graphs are made, and what would keep a step's memory after it is over.

A group's weights, optimizer state and batches must be off the device before the next one is built: what is left costs
the next one its memory, and its peak and largest batch are then not its own.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def tracing() -> Iterator[None]:
    """While a function is traced: no garbage is collected, and its custom gradients are forgotten afterwards.

    The nodes of a graph all stay: to look at tens of thousands of them again and again only costs time.

    `tf.custom_gradient` in a graph registers a closure for the whole process (_graph_mode_decorator in
    tensorflow/python/ops/custom_gradient.py). It holds the graph, and with it the weights and the optimizer's state
    that the graph has captured. Keras's optimizers call one in each training step, through
    `ReplicaContext.all_reduce`. TensorFlow takes none back, and has no public name for the registry. Gradients within
    the function have been built by then. Through a function that a user has made once for all, and that was traced in
    here first, none can be built later: TensorFlow then says that none is defined.
    """
    from tensorflow.python.framework import ops

    registry = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    before = set(registry)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        for name in set(registry) - before:
            if name.startswith("CustomGradient-"):
                del registry[name]


def without_locals(error: BaseException) -> None:
    """Empty the frames of an error that will be kept: their local variables hold models and batches.

    Its traceback still says where it came from. Frames that still run keep theirs.
    """
    for one in (error, error.__cause__, error.__context__):
        if one is not None:
            traceback.clear_frames(one.__traceback__)
