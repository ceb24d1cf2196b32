"""The arms of a group, built: one is traced while another is compiled, and each fails alone.

Tracing is Python and holds the interpreter's lock, optimising and compiling a graph does not; nothing is timed then.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

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
    steps: dict[str, Step] = {}
    failed: dict[str, Exception] = {}
    from_cache: set[str] = set()

    def say(name: str, text: str) -> None:
        progress(f"{plan.label}, {name}: {text}")

    def attempt(part: Callable[[str], None], names: Iterable[str]) -> None:
        """Do a part for each arm; one's failure must not cost the others their measurement."""
        for name in names:
            try:
                part(name)
            except Exception as error:
                spec = steps[name].spec if name in steps else plan.members[name].spec
                failed[name] = explained(error, spec.device, spec.size)
                if plan.cluster.workers > 1:  # now: the others may be waiting in it for this one
                    say(name, described(failed[name]))
            if agree(float(name in failed)) and name not in failed:
                failed[name] = CaseFailure(ENDED_ELSEWHERE)
            if name in failed:
                if step := steps.pop(name, None):
                    step.release()
                gc.collect()  # outside the handler: what was half built is in cycles, and in the next one's way

    def build_model(name: str) -> None:
        spec = plan.members[name].spec
        # Keras counts the names that it makes up: with the same ones XLA's cache knows the program again.
        keras.backend.clear_session(free_memory=False)
        step = Step(spec, lambda part: say(name, part), whole=False)
        weights = {id(weight) for weight in step.model.weights}
        if any(id(weight) in weights for other in steps.values() for weight in other.model.weights):
            raise CaseFailure(f"{spec.model}: its factory returned the same weights twice: build new ones each time")
        if step.batch.source and any(step.batch.digest != other.batch.digest for other in steps.values()):
            raise CaseFailure(
                f"{spec.model}: its factory gives another batch each time: all precisions need the same one "
                "(draw it from a fixed seed, do not shuffle)"
            )
        steps[name] = step

    def start(name: str) -> None:
        step, compiled = steps[name], plan.compiled
        say(name, "tracing and compiling")
        if traced:
            traced[name].result()
        else:
            step.trace()
        if compiled:
            compiled.new_files()
        step.start()
        if compiled and step.jit and not compiled.new_files():
            from_cache.add(name)

    attempt(build_model, plan.members)
    with ThreadPoolExecutor(1, thread_name_prefix="mpbench-tracing") as tracer:
        traced = {name: tracer.submit(step.trace) for name, step in steps.items()} if plan.overlapped else {}
        attempt(start, [*steps])
    # The peak of memory is taken when nothing is being traced.
    attempt(lambda name: steps[name].settle(lambda part: say(name, part)), [*steps])
    return steps, failed, from_cache
