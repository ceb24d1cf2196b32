"""A profile of a few steps, taken with TensorFlow's profiler and read with xprof's reader.

Reads the events themselves: xprof's tables hold 500 operations and 1,000 kernels at most, fewer than a deep model's
step has, and do not know tensor cores of GPUs newer than Turing by their kernels' names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpbench.engine.device import held_back_stderr
from mpbench.errors import CaseFailure, described, printable
from mpbench.records.diagnostics import ProfileRecord
from mpbench.why.reading.kernels import Span, kernel_seconds, largest, operation_seconds, tensor_core_share

if TYPE_CHECKING:
    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step
    from mpbench.why.measuring.probe import Probe

PROFILED_STEPS = 3
MAX_ATTEMPTS = 3
"""At a profile without a step that loss scaling skipped."""

MAX_TYPES = 20
"""Of operations in a record; the others are summed up."""

FIRST_TENSOR_CORES = (7, 0)
"""Compute capability."""


@dataclass
class Events:
    """What a profile holds.

    Attributes:
        streams: for each stream of a GPU its kernels and copies.
        threads: for each thread of the host its events.
    """

    streams: list[list[Span]] = field(default_factory=list)
    threads: list[list[Span]] = field(default_factory=list)


def unavailable() -> str | None:
    """Why no profile can be taken here; None where one can. Imports nothing of it."""
    if util.find_spec("xprof") is None:
        return "no profiler: pip install mpbench[profile]"
    return None


def profile_probe(spec: StepSpec, progress: Callable[[str], None]) -> Probe:
    """A step whose profile is taken when it is checked, after its rounds: what profiling leaves behind slows none.

    Raises:
        CaseFailure: xprof is missing; else as Step does. The probe's `check` also raises it where the profile is empty
            or has a step that loss scaling skipped.
    """
    if reason := unavailable():
        raise CaseFailure(reason)
    from mpbench.engine import device as devices
    from mpbench.engine.step import Step
    from mpbench.why.measuring.probe import Probe

    step = Step(spec, progress)
    taken: list[dict[str, Any]] = []

    def check() -> None:
        step.check()
        progress("profiling")
        taken.append(figures(take(step), PROFILED_STEPS, spec.device.kind == "gpu", _has_tensor_cores(spec)))

    def record(**common: Any) -> ProfileRecord:
        return ProfileRecord(
            **{
                **common,
                "precision": spec.precision.name,
                "jit": step.jit,
                "tf32": spec.precision.tf32 and devices.tf32_available(spec.device),
                "source": f"xprof {metadata.version('xprof')}",
                **taken[-1],
            }
        )

    return Probe(step.run, record, skipped_steps=step.skipped_steps, check=check, release=step.release)


def take(step: Step) -> Events:
    """Profile PROFILED_STEPS steps, none of them skipped by loss scaling.

    Raises:
        CaseFailure: loss scaling skipped one in each attempt, or what was written cannot be read.
    """
    for _ in range(MAX_ATTEMPTS):
        before = step.skipped_steps()
        with tempfile.TemporaryDirectory(prefix="mpbench-profile-") as folder, held_back_stderr():
            with _profiler(folder):
                step.run(PROFILED_STEPS)
            if step.skipped_steps() == before:
                return read_events(Path(folder))
    raise CaseFailure(f"loss scaling skipped a step in each of {MAX_ATTEMPTS} profiles of {PROFILED_STEPS} steps")


def read_events(folder: Path) -> Events:
    """The events of the one profile below a folder.

    Raises:
        CaseFailure: there is none, or xprof cannot read it.
    """
    found = sorted(folder.rglob("*.xplane.pb"))
    if not found:
        raise CaseFailure("TensorFlow's profiler has written no profile")
    try:
        from xprof.profile_data import ProfileData

        events = Events()
        for plane in ProfileData.from_file(os.fspath(found[0])).planes:
            if plane.name.startswith("/device:GPU:"):
                # Other lines repeat the streams' events in groups.
                streams = [line for line in plane.lines if line.name.startswith("Stream")]
                events.streams += [[_kernel(event) for event in line.events] for line in streams]
            elif plane.name.startswith("/host:CPU"):
                events.threads += [[_of_host(event) for event in line.events] for line in plane.lines]
        return events
    except Exception as error:  # a library of another's, whose errors are its own
        raise CaseFailure(f"xprof cannot read the profile: {printable(described(error))}") from None


def figures(events: Events, steps: int, on_device: bool, tensor_cores: bool) -> dict[str, Any]:
    """The fields of ProfileRecord that come from a profile.

    Args:
        steps: that it was taken of.
        on_device: whether they ran on a GPU.
        tensor_cores: whether that has any.

    Raises:
        CaseFailure: no kernel in it, or no operation.
    """
    if on_device:
        seconds = kernel_seconds(events.streams, steps)
        if not seconds:
            raise CaseFailure("the profile holds no kernel: CUPTI, which traces them, is missing or may not (its log)")
    else:
        seconds = largest(operation_seconds(events.threads, steps), MAX_TYPES)
        if not seconds:
            raise CaseFailure("the profile holds no operation")
    return {
        "on_device": on_device,
        "classes": "; ".join(f"{name}={value:.9g}" for name, value in seconds.items()),
        "tensor_core_share": tensor_core_share(events.streams) if on_device and tensor_cores else None,
    }


@contextmanager
def _profiler(folder: str) -> Iterator[None]:
    import tensorflow as tf

    # Level 1 on the host leaves single operations out; Python's own calls say nothing about a compiled step.
    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
    )
    tf.profiler.experimental.start(folder, options=options)
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


def _has_tensor_cores(spec: StepSpec) -> bool:
    if spec.device.kind != "gpu":
        return False
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return tuple(details.get("compute_capability", (0, 0))) >= FIRST_TENSOR_CORES


def _kernel(event: Any) -> Span:
    return Span(event.name, event.start_ns, event.duration_ns, op=dict(event.stats).get("tf_op", ""))


def _of_host(event: Any) -> Span:
    # Operations of TensorFlow are known by their names, and events are many.
    compiled = ":" not in event.name and any(name == "hlo_op" for name, _ in event.stats)
    return Span(event.name, event.start_ns, event.duration_ns, compiled=compiled)
