"""Diagnostics of the input: a step that takes its batches from the pipeline, the same step on a batch that
stays on the device, and the pipeline alone.

An end-to-end round begins in the state of a pipeline that runs all the time (`_settle`) and ends with pausing it, so
that it takes nothing from what is timed next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import tensorflow as tf

from mpbench.data.decoding import UndecodableImage
from mpbench.data.loader import Batch, Loader
from mpbench.engine import device as devices
from mpbench.engine.interleave import Progress
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import EndToEndRecord, InputRecord
from mpbench.system.device import Device
from mpbench.why.measuring.diagnostic import Diagnostic

SETTLING_BATCHES = 4
"""Per batch that the pipeline works ahead: at most so many are taken before a round, settled or not."""


@contextmanager
def end_to_end_steps(
    spec: StepSpec, loader: Loader, profile: str, progress: Progress
) -> Iterator[dict[str, Diagnostic]]:
    """A step on a batch that stays on the device (`device`) and the same on the pipeline's batches (`pipeline`).

    They share one compiled step and one model, so that they differ in nothing else. An end-to-end step takes a batch,
    brings it to the device as uint8, and makes it there what the model takes (`Step.images`); the labels stay the same.

    Args:
        spec: what to build.
        loader: endless, of the spec's batch and image size; paused here and after each end-to-end round.
        profile: of the session, by name.
        progress: as `Step` takes it.

    Raises:
        Exception: as `Step` raises.
    """
    loader.pause()
    step = Step(spec, progress, takes_batches=True)
    try:
        run = _end_to_end(step, loader)
        run(1)  # traces the scaling
        loader.pause()
        record = partial(
            EndToEndRecord,
            model=spec.model,
            precision=spec.precision.name,
            phase=spec.phase,
            device=spec.device.kind,
            device_name=devices.device_name(spec.device),
            profile=profile,
            batch_size=spec.batch_size,
            image_size=spec.image_size_px,
            jit=step.jit,
            tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
            workers=loader.workers,
            cache=loader.source.cache,
            data=loader.label,
        )
        on_device = Diagnostic(step.run, partial(record, input="device"), step.skipped_steps, check=step.check)
        from_pipeline = Diagnostic(
            run,
            partial(record, input="pipeline"),
            step.skipped_steps,
            before=lambda: _settle(loader, lambda: run(1), full_is_settled=True),
            after=loader.pause,
            check=step.check,
        )
        yield {"device": on_device, "pipeline": from_pipeline}
    finally:
        step.release()


def input_pipeline(loader: Loader, device: Device, profile: str) -> Diagnostic:
    """The pipeline alone, taken from as fast as it delivers: one step is one batch.

    Args:
        loader: endless; paused here and after each round.
        device, profile: of the session, for the record.

    Raises:
        CaseFailure: an image is not what it was when it was checked.
    """

    def run(batches: int) -> None:
        loader.resume()
        for _ in range(batches):
            _next(loader)

    run(1)
    loader.pause()
    record = partial(
        InputRecord,
        model="",
        precision="",
        phase="",
        device=device.kind,
        device_name=devices.device_name(device),
        profile=profile,
        batch_size=loader.batch_size,
        image_size=loader.source.size_px,
        jit=False,
        tf32=False,
        workers=loader.workers,
        cache=loader.source.cache,
        data=loader.label,
        images=len(loader.source.labels),
    )
    before = partial(_settle, loader, lambda: run(1), full_is_settled=False)
    return Diagnostic(run, record, before=before, after=loader.pause)


def _end_to_end(step: Step, loader: Loader) -> Callable[[int], None]:
    """Runs so many steps on a loader's batches."""
    placement, shape = step.spec.device.placement, (loader.batch_size, *step.spec.image_shape)
    with tf.device(placement):
        scaling = tf.function(step.images.of_pixels, autograph=False, jit_compile=step.jit)
        scaled = scaling.get_concrete_function(tf.TensorSpec(shape, tf.uint8))

    def batches(count: int) -> Iterator[tf.Tensor]:
        for _ in range(count):
            batch = _next(loader)
            with tf.device(placement):
                images = scaled(tf.convert_to_tensor(batch.pixels))
            yield images

    def run(steps: int) -> None:
        loader.resume()
        step.run_on(batches(steps))

    return run


def _settle(loader: Loader, take: Callable[[], None], full_is_settled: bool) -> None:
    """Take batches until the pipeline is where it would be, had it never been paused.

    A pause keeps what lies ready, so the only thing that it gives away is the images that were in the making: they are
    finished meanwhile. They are in batches already begun, so those are taken first. Then the pipeline is settled when
    its consumer has to wait (it is the slower of the two), or when it is as far ahead as it may be (it is the faster
    one; it was so before the pause, too).

    Args:
        take: takes one batch, as the round will.
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
