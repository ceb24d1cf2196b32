"""The arms of a group, built: one is traced while another is compiled, and each fails alone.

Tracing is Python and holds the interpreter's lock, optimising and compiling a graph does not; nothing is timed then.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import keras

from mpbench.engine.interleave import ENDED_ELSEWHERE, Progress
from mpbench.engine.memory import explained
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure, described


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
            weights = {id(weight) for weight in step.model.weights}
            if any(id(weight) in weights for other in self.steps.values() for weight in other.model.weights):
                raise CaseFailure(
                    f"{spec.model}: its factory returned the same weights twice: build new ones each time"
                )
            self.steps[name] = step

        self._attempt(model, self._plan.members)

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

        self._attempt(first_run, [*self.steps])
        # The peak of memory is taken when nothing is being traced.
        self._attempt(lambda name: self.steps[name].settle(lambda part: self._say(name, part)), [*self.steps])

    def _attempt(self, part: Callable[[str], None], names: Iterable[str]) -> None:
        """Do a part for each arm; one's failure must not cost the others their measurement."""
        for name in names:
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
