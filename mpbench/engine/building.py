"""The arms of a group, built: one is traced while another is compiled, and each fails alone.

Tracing is Python and holds the interpreter's lock, optimising and compiling a graph does not; nothing is timed then.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import keras

from mpbench.engine import device as devices
from mpbench.engine.interleave import ENDED_ELSEWHERE
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step, is_out_of_memory
from mpbench.engine.tracing import without_locals
from mpbench.errors import CaseFailure, described
from mpbench.system.device import Device

Progress = Callable[[str], None]
GIB = 2**30


def build(
    plan: GroupPlan, agree: Callable[[float], float], progress: Progress
) -> tuple[dict[str, Step], dict[str, Exception], set[str]]:
    """Build, trace and start all arms of a group.

    First all models are built, then each arm in turn runs for the first time while the next one is traced in a thread.
    Never two at once: on a GPU that is when algorithms are chosen by trying them. (Eight at once on an H200: what takes
    XLA 10 s alone took 184 s, and its autotuner complained that it could not time anything.)

    Returns:
        The arms that can be measured; what ended the others; names of those that XLA need not compile anew.
    """
    building = _Building(plan, agree, progress)
    building.models()
    if plan.overlapped:
        with ThreadPoolExecutor(1, thread_name_prefix="mpbench-tracing") as tracer:
            building.start({name: tracer.submit(step.trace) for name, step in building.steps.items()})
    else:
        building.start({})
    return building.steps, building.failed, building.from_cache


class _Building:
    """The arms of a group on their way.

    Attributes:
        steps, failed, from_cache: see `build`.
    """

    def __init__(self, plan: GroupPlan, agree: Callable[[float], float], progress: Progress) -> None:
        self.steps: dict[str, Step] = {}
        self.failed: dict[str, Exception] = {}
        self.from_cache: set[str] = set()
        self._plan = plan
        self._agree = agree
        self._progress = progress

    def models(self) -> None:
        """Build each arm's model and batch."""

        def model(name: str) -> None:
            spec = self._plan.members[name].spec
            # Keras counts the names that it makes up: with the same ones XLA's cache knows the program again.
            keras.backend.clear_session(free_memory=False)
            step = Step(spec, lambda part: self._say(name, part), whole=False)
            for other in self.steps.values():
                step.check_is_apart_from(other)
            self.steps[name] = step

        for name in self._plan.members:
            self._attempt(name, model)

    def start(self, traced: Mapping[str, Future[None]]) -> None:
        """Run each arm for the first time, once it has been traced.

        Args:
            traced: by arm, what traces it; it is traced here where there is nothing.
        """

        def first_run(name: str) -> None:
            step, compiled = self.steps[name], self._plan.compiled
            self._say(name, "tracing and compiling")
            if name in traced:
                traced[name].result()
            else:
                step.trace()
            if compiled:
                compiled.new_files()
            step.start()
            if compiled and step.jit and not compiled.new_files():
                self.from_cache.add(name)

        def settle(name: str) -> None:
            self.steps[name].settle(lambda part: self._say(name, part))

        for part in (first_run, settle):  # the peak of memory is taken when nothing is being traced
            for name in [*self.steps]:
                self._attempt(name, part)

    def _attempt(self, name: str, part: Callable[[str], None]) -> None:
        """One arm's failure must not cost the others their measurement."""
        spec = self._plan.members[name].spec
        try:
            part(name)
        except Exception as error:
            self.failed[name] = known = explained(error, spec.device, spec.size)
            if self._plan.cluster.workers > 1:  # now: the others may be waiting in it for this one
                self._say(name, described(known))
        if self._agree(float(name in self.failed)) and name not in self.failed:
            self.failed[name] = CaseFailure(ENDED_ELSEWHERE)
        if name in self.failed:
            if step := self.steps.pop(name, None):
                step.release()
            gc.collect()  # outside the handler: what was half built is in cycles, and in the next one's way

    def _say(self, name: str, text: str) -> None:
        self._progress(f"{self._plan.label}, {name}: {text}")


class OutOfMemory(CaseFailure):
    """The device, or the host, had no memory left for a step."""


def explained(error: Exception, device: Device, size: str) -> Exception:
    """An OutOfMemory in place of an error whose reason is known; without the locals that hold its tensors.

    Args:
        size: of what was attempted, for people, such as `batch 64, 224 px, training`.
    """
    without_locals(error)
    if not is_out_of_memory(error):
        return error
    wanted = re.search(r"shape ?\[[\d,]*\][^ ]*(?: and type \w+)?", str(error))
    peak = devices.peak_memory_bytes(device) / GIB
    what = "allocator" if device.kind == "gpu" else "process"
    return OutOfMemory(
        f"out of memory on the {device.kind} at {size}"
        f"{f', allocating a tensor of {wanted[0]}' if wanted else ''} (peak of the {what} so far {peak:.1f} GiB); "
        "the batch is never shrunk: set --mp-batch-size"
    )
