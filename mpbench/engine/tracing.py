"""How graphs are made, and what would keep a step's memory after it is over.

A group's weights, optimizer state and batches must be off the device before the next one is built: what is left costs
the next one its memory, and its peak and largest batch are then not its own.
"""

from __future__ import annotations

import gc
import itertools
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


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


_LABELS: Counter[str] = Counter()
"""How often functions were traced under a label: names are unique in a process."""


@contextmanager
def named_after(label: str) -> Iterator[None]:
    """While a function is traced: it and those inside are named after a label and counted from 1.

    TensorFlow names them by the number of things that the process has made so far, which depends on what ran before and
    for how long; XLA's cache of compiled programs is keyed by a hash over the whole program, names and all. The makers
    of names are TensorFlow's own; where a version has others, names stay as they are, and less is found in the cache.

    Args:
        label: letters, digits and underscores.
    """
    from tensorflow.python.eager.polymorphic_function import concrete_function
    from tensorflow.python.ops import control_flow_util_v2

    _LABELS[label] += 1
    prefix = label if _LABELS[label] == 1 else f"{label}_{_LABELS[label]}"
    count = itertools.count(1)

    def maker(kind: str) -> Callable[..., str]:
        return lambda *names: f"__{kind}_{prefix}_{next(count)}_{re.sub(r'[^0-9A-Za-z_]', '_', str(names[-1]))}"

    with ExitStack() as stack:
        for module, name, kind in (
            (concrete_function, "_inference_name", "inference"),
            (concrete_function, "_forward_name", "forward"),
            (concrete_function, "_backward_name", "backward"),
            (control_flow_util_v2, "unique_fn_name", "branch"),
            (control_flow_util_v2, "unique_grad_fn_name", "branch_gradient"),
        ):
            if hasattr(module, name):
                stack.enter_context(replaced(module, name, maker(kind)))
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute in the place of a class's or a module's own, for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def without_locals(error: BaseException) -> None:
    """Empty the frames of an error that will be kept: their local variables hold models and batches.

    Its traceback still says where it came from. Frames that still run keep theirs.
    """
    for one in (error, error.__cause__, error.__context__):
        if one is not None:
            traceback.clear_frames(one.__traceback__)
