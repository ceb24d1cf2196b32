"""Taking the profile of a step: a few steps under TensorFlow's profiler, and what is known of the model's layers.

What belongs here: how the profiler is run. What its trace says is told in `why.reading`.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpbench.config.options import PROFILED_STEPS
from mpbench.engine.costs import update_bytes
from mpbench.engine.device import held_back_stderr
from mpbench.errors import described, printable
from mpbench.records.profile import ProfileRecord
from mpbench.system.device import Device
from mpbench.why.measuring.layer_costs import LayerCosts, layer_costs, names_in
from mpbench.why.reading.attributed import profile_record
from mpbench.why.reading.attribution import OPTIMIZER_PLACE, Attribution, KnownLayer
from mpbench.why.reading.trace import Trace, UnreadableTrace, read_trace

if TYPE_CHECKING:
    from mpbench.engine.group import Profiler
    from mpbench.engine.step import Step

MAX_ATTEMPTS = 3
"""Attempts at a profile in which loss scaling skips no step."""

HOST_LEVEL_ON_CPU = 3
"""At a lower level the host's tracer leaves out operations that TensorFlow finds inexpensive, of 3 us and less."""

HOST_LEVEL_ON_GPU = 2


@dataclass(frozen=True)
class Model:
    """What is known of the model whose step is profiled.

    Attributes:
        layers: see `known_layers`.
        optimizers: names of its optimizer and of what wraps it.
    """

    layers: Sequence[KnownLayer] = ()
    optimizers: Sequence[str] = ()


def profiler(device: Device, steps: int, on_cpu: bool) -> Profiler | None:
    """A function that profiles a measured step for its record; None if no profile is wanted.

    Args:
        device: that the steps run on.
        steps: to profile; 0 for none.
        on_cpu: whether one is wanted on a CPU too.
    """
    if not steps or (device.kind == "cpu" and not on_cpu):
        return None

    def profile(step: Step) -> dict[str, Any]:
        with held_back_stderr():
            model = known_model(step.model)
            taken = profile_step(step, model, device.kind == "gpu", steps)
            if isinstance(taken, str):
                return {"no_step_profile": taken}
            with suppress(Exception):  # costs are an extra, and a graph may hold whatever a user's layer puts into it
                taken = taken if step.spec.replicas > 1 else with_costs(taken, step, model)
            return {"step_profile": taken.as_text()}

    return profile


def with_costs(record: ProfileRecord, step: Step, model: Model) -> ProfileRecord:
    """The record with each layer's FLOPs and minimal bytes, and those of the optimizers' updates."""
    from mpbench.engine.models import optimizers_of

    attribution = Attribution(list(names_in(step.graph)), model.layers, model.optimizers)
    costs = layer_costs(step.graph, attribution)
    if step.spec.phase == "training":
        slots = sum(_bytes(optimizer.variables) for optimizer in optimizers_of(step.model))
        weights = _bytes(step.model.trainable_variables)
        # Under loss scaling it is a function of its own within the graph: its FLOPs are not counted.
        flops = costs[OPTIMIZER_PLACE].flops if OPTIMIZER_PLACE in costs else 0
        costs[OPTIMIZER_PLACE] = LayerCosts(flops, update_bytes(weights, weights, slots))
    rows = [
        replace(row, flops=costs[row.name].flops, bytes=costs[row.name].bytes) if row.name in costs else row
        for row in record.rows
    ]
    return replace(record, rows=tuple(rows))


def _bytes(variables: Iterable[Any]) -> int:
    import tensorflow as tf

    return sum(math.prod(variable.shape) * int(tf.as_dtype(variable.dtype).size) for variable in variables)


def profile_step(step: Step, model: Model, on_gpu: bool, steps: int = PROFILED_STEPS) -> ProfileRecord | str:
    """Profile a few steps, none of them skipped by loss scaling.

    Returns:
        The record, or in one line why there is none: no fault of a profile may cost a case its times.
    """
    try:
        for _ in range(MAX_ATTEMPTS):
            before = step.skipped_steps()
            trace = take_trace(lambda: step.run(steps), on_gpu)
            if step.skipped_steps() == before:
                source = f"TensorFlow {metadata.version('tensorflow')}"
                return profile_record(trace, steps, source, model.layers, model.optimizers)
        return f"loss scaling skipped a step in each of {MAX_ATTEMPTS} profiles of {steps} steps"
    except UnreadableTrace as problem:
        return printable(str(problem))
    except Exception as error:  # whatever the profiler raises, or the device under it
        return printable(f"no profile could be taken: {described(error)}")


def take_trace(run: Callable[[], None], on_gpu: bool) -> Trace:
    """The trace of what a function runs.

    Raises:
        UnreadableTrace: nothing was written, or it holds nothing that ran.
    """
    with tempfile.TemporaryDirectory(prefix="mpbench-profile-") as folder:
        with _profiler(folder, HOST_LEVEL_ON_GPU if on_gpu else HOST_LEVEL_ON_CPU):
            run()
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        if not files:
            raise UnreadableTrace("TensorFlow's profiler has written no profile")
        try:
            return read_trace(files[0], expect_gpu=on_gpu)
        except UnreadableTrace as problem:  # without the name of a file that is gone
            raise UnreadableTrace(str(problem).removeprefix(f"{files[0]}: ")) from None


@contextmanager
def _profiler(folder: str, host_level: int) -> Iterator[None]:
    import tensorflow as tf

    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=_Level(host_level),
        python_tracer_level=_Level(0),  # Python's calls say nothing about a compiled step
        device_tracer_level=_Level(1),
        delay_ms=_Level(0),
    )
    tf.profiler.experimental.start(folder, options=options)
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


class _Level:
    """A whole number that TensorFlow's binding cannot take for anything else.

    TensorFlow's binding takes a value as a bool, an int or a string, and takes the first that it can be made to: an int
    of Python's becomes a bool, which is then ignored ("host_tracer_level expects an i value", 2.21). What has an index
    and no truth value of its own can only become an int.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


def known_model(model: Any) -> Model:
    """What is known of a Keras model, compiled or not."""
    from mpbench.engine.models import optimizers_of

    names: list[str] = []
    for optimizer in optimizers_of(model):
        while optimizer is not None:
            names.append(str(optimizer.name))
            optimizer = getattr(optimizer, "inner_optimizer", None)
    return Model(known_layers(model), names)


def known_layers(model: Any) -> list[KnownLayer]:
    """All layers of a Keras model, also those inside others; a layer used in several places appears once for each.

    Names that Keras made up (`conv2d_94`) are counted anew in their labels, so that they agree between two models of
    one process.
    """
    labels: dict[int, str] = {}
    counted: Counter[str] = Counter()
    found: list[KnownLayer] = []

    def label(layer: Any) -> str:
        if id(layer) not in labels:
            name, made_up = str(layer.name), _snake_case(type(layer).__name__)
            if re.fullmatch(rf"{re.escape(made_up)}(?:_\d+)?", name):
                counted[made_up] += 1
                name = made_up if counted[made_up] == 1 else f"{made_up}_{counted[made_up] - 1}"
            labels[id(layer)] = name
        return labels[id(layer)]

    def visit(layer: Any, path: tuple[str, ...], label_path: tuple[str, ...], above: tuple[int, ...]) -> None:
        for inner in getattr(layer, "_layers", None) or getattr(layer, "layers", None) or ():
            if id(inner) in above or not hasattr(inner, "name"):
                continue
            inside, called = (*path, str(inner.name)), (*label_path, label(inner))
            found.append(
                KnownLayer(
                    path=inside,
                    label="/".join(called),
                    type=type(inner).__name__,
                    dtype=str(getattr(inner, "compute_dtype", "")),
                    channels=_channels(inner),
                )
            )
            visit(inner, inside, called, (*above, id(inner)))

    visit(model, (str(model.name),), (), (id(model),))
    return found


def _channels(layer: Any) -> tuple[int, int] | None:
    """Input and output channels of a convolution or a dense layer; None for other layers."""
    try:
        shape = [int(size) for size in layer.kernel.shape]
        if hasattr(layer, "filters") and len(shape) >= 3:
            out = int(layer.filters)
            inputs = shape[-2] if shape[-1] == out else shape[-1]  # a transposed convolution has them the other way
            return inputs, out
        return (shape[0], int(layer.units)) if hasattr(layer, "units") and len(shape) == 2 else None
    except Exception:  # not built, or a user's own that calls something else a kernel
        return None


def _snake_case(name: str) -> str:
    """The name that Keras gives to a layer of this class."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
