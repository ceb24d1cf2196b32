"""Diagnostics of the input: a step that takes its batches from the pipeline, the same step on a batch that
stays on the device, and the pipeline alone.

An end-to-end round begins in the state of a pipeline that runs all the time (`_settle`) and ends with pausing it, so
that it takes nothing from what is timed next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from mpbench.data.decoding import UndecodableImage
from mpbench.data.loader import Batch, Loader
from mpbench.engine import device as devices
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import EndToEndRecord, InputRecord
from mpbench.why.measuring.diagnostic import Diagnostic

SETTLING_BATCHES = 4
"""Per batch that the pipeline works ahead: at most so many are taken before a round, settled or not."""


def end_to_end_steps(
    spec: StepSpec, loader: Loader, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Diagnostic]:
    """A step on a batch that stays on the device (`device`) and the same on the pipeline's batches (`pipeline`).

    They share one compiled step and one model, so that they differ in nothing else. An end-to-end step takes a batch,
    brings it to the device as uint8, and makes it there what the model takes (`Step.images`); the labels stay the same.

    Args:
        spec: what to build.
        loader: endless, of the spec's batch and image size; paused here and after each end-to-end round.
        progress: as `Step` takes it.

    Raises:
        ValueError: the loader's batches do not fit the step.
        Exception: as `Step` raises.
    """
    _check_fits(spec, loader)
    loader.pause()
    step = Step(spec, progress, takes_batches=True)
    feeder = _Feeder(step, loader)
    feeder.run(1)  # traces the scaling
    loader.pause()
    record = functools.partial(
        EndToEndRecord,
        model=spec.model,
        precision=spec.precision.name,
        phase=spec.phase,
        batch_size=spec.batch_size,
        image_size=spec.image_size_px,
        jit=step.jit,
        tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
        workers=loader.workers,
        cache=loader.source.cache,
        data=loader.label,
    )
    release = _released_by_the_last(step, 2)
    return {
        "device": Diagnostic(
            step.run, functools.partial(record, input="device"), step.skipped_steps, check=step.check, release=release
        ),
        "pipeline": Diagnostic(
            feeder.run,
            functools.partial(record, input="pipeline"),
            step.skipped_steps,
            before=lambda: _settle(loader, lambda: feeder.run(1), full_is_settled=True),
            after=loader.pause,
            check=step.check,
            release=release,
        ),
    }


def input_pipeline(loader: Loader) -> Diagnostic:
    """The pipeline alone, taken from as fast as it delivers: one step is one batch.

    Args:
        loader: endless; paused here and after each round.

    Raises:
        CaseFailure: an image is not what it was when it was checked.
    """

    def run(batches: int) -> None:
        loader.resume()
        for _ in range(batches):
            _next(loader)

    run(1)
    loader.pause()
    record = functools.partial(
        InputRecord,
        model="",
        precision="",
        phase="",
        batch_size=loader.batch_size,
        image_size=loader.source.size_px,
        jit=False,
        tf32=False,
        workers=loader.workers,
        cache=loader.source.cache,
        data=loader.label,
        images=len(loader.source.labels),
    )
    return Diagnostic(
        run, record, before=lambda: _settle(loader, lambda: run(1), full_is_settled=False), after=loader.pause
    )


class _Feeder:
    """Runs a step on a loader's batches."""

    def __init__(self, step: Step, loader: Loader) -> None:
        self._step = step
        self._loader = loader
        shape = (loader.batch_size, *step.spec.image_shape)
        with tf.device(step.spec.device.placement):
            self._scaled = tf.function(
                step.images.of_pixels, autograph=False, jit_compile=step.jit
            ).get_concrete_function(tf.TensorSpec(shape, tf.uint8))

    def run(self, steps: int) -> None:
        self._loader.resume()
        self._step.run_on(self._batches(steps))

    def _batches(self, count: int) -> Iterator[tf.Tensor]:
        for _ in range(count):
            batch = _next(self._loader)
            with tf.device(self._step.spec.device.placement):
                scaled = self._scaled(tf.convert_to_tensor(batch.pixels))
            yield scaled


def _settle(loader: Loader, take: Callable[[], Any], full_is_settled: bool) -> None:
    """Take batches until the pipeline is where it would be, had it never been paused.

    A pause keeps what lies ready, so the only thing that it gives away is the images that were in the making: they are
    finished meanwhile. They are in batches already begun, so those are taken first. Then the pipeline is settled when
    its consumer has to wait (it is the slower of the two), or when it is as far ahead as it may be (it is the faster
    one; it was so before the pause, too).

    Args:
        take: takes one batch, in whatever way the round will.
        full_is_settled: False where the consumer does nothing but take: a full buffer is then the pause's gift.
    """
    loader.resume()
    for taken in range(SETTLING_BATCHES * loader.ahead):
        ready = loader.ready
        take()
        if (full_is_settled and ready == loader.ahead) or (taken >= loader.ahead and not ready):
            return


def _next(loader: Loader) -> Batch:
    try:
        return next(loader)
    except UndecodableImage as error:  # it could be decoded when the session began
        raise CaseFailure(f"input pipeline: {error}") from error
    except StopIteration:  # must not end the generator that a step runs on, which would be a shorter round
        raise CaseFailure("input pipeline: it has been closed, or an earlier case ended it") from None


def _check_fits(spec: StepSpec, loader: Loader) -> None:
    given = (loader.batch_size, loader.source.size_px, loader.endless)
    wanted = (spec.batch_size, spec.image_size_px, True)
    if given != wanted:
        raise ValueError(f"loader: (batch, image size, endless) is {given}: valid is {wanted}")


def _released_by_the_last(step: Step, users: int) -> Callable[[], None]:
    left = users

    def release() -> None:
        nonlocal left
        left -= 1
        if not left:
            step.release()

    return release
