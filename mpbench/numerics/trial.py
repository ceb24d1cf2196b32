"""A model tried in several precisions against one float32 step: findings, verdict, and what helps.

What belongs here: how the models and the batch come about. A case of the suite has a StepSpec; whoever has models of
their own, inputs and targets of any structure included, brings what builds them, or a pair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras

from mpbench.config.precisions import PRECISIONS, Precision
from mpbench.engine import device as devices
from mpbench.engine.batch import Images, built_with_data, target_forms
from mpbench.engine.memory import is_out_of_memory
from mpbench.engine.models import build_under, can_be_called, compile_model, dtype_policy
from mpbench.engine.own_data import Batch as Given
from mpbench.engine.plan import StepSpec
from mpbench.engine.tracing import replaced
from mpbench.errors import CaseFailure, described, place_in_own_code
from mpbench.numerics.compared import Compared
from mpbench.numerics.findings import Findings
from mpbench.numerics.reference import Reference
from mpbench.numerics.remedies import Make, Remedies, Remedy
from mpbench.numerics.saved import details_of, summary
from mpbench.numerics.stepping import Batch
from mpbench.numerics.untrained import settle_statistics
from mpbench.numerics.verdict import Judgement, judge
from mpbench.numerics.watching import LOW_DTYPES
from mpbench.records.numerics import NumericsRecord
from mpbench.system.device import Device

Progress = Callable[[str], None]

FLOAT32 = PRECISIONS["float32"]

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Outcome:
    """What one precision does to a model.

    Attributes:
        findings, judgement: of the step.
        remedies: that were tried; empty where it is SAFE, or none was asked for.
        seconds: for all of it, building and tracing included.
    """

    findings: Findings
    judgement: Judgement
    remedies: tuple[Remedy, ...]
    seconds: float


class Trial:
    """One model, one batch, one phase.

    Args:
        make: builds the model in a precision.
        batch: of the step.
        phase: `training` or `inference`.
        device: where it runs.
        no_backward: why only the forward pass is to be looked at; empty where all is.
        progress: called with the name of each slow part as it begins.
        data: what the batch is called.

    Raises:
        CaseFailure: float32 itself is not finite, or nothing of the step can be seen.
        Exception: whatever the model raises.
    """

    def __init__(
        self,
        make: Make,
        batch: Batch,
        phase: str,
        device: Device,
        no_backward: str = "",
        progress: Progress = lambda _: None,
        data: str = SYNTHETIC,
    ) -> None:
        self.data = data
        self._make, self._batch, self._phase, self._device = make, batch, phase, device
        self._no_backward, self._progress = no_backward, progress
        self._references: dict[bool, Reference] = {}
        self.reference(jit=False)

    def reference(self, jit: bool) -> Reference:
        """The step in float32, taken when it is first asked for; with and without XLA it is of one model."""
        if jit not in self._references:
            self._progress("float32")
            model = next((one.model for one in self._references.values()), None)
            if model is None:
                with all_in_float32():
                    model = self._built(FLOAT32)
            batch, phase, device = self._batch, self._phase, self._device
            self._references[jit] = Reference(model, batch, phase, device, jit, self._no_backward)
        return self._references[jit]

    @property
    def samples(self) -> int:
        """In its batch."""
        return int(keras.tree.flatten(self._batch.inputs)[0].shape[0])

    def _built(self, precision: Precision) -> keras.Model:
        """What was made; a subclassed model gets its weights by its first call."""
        model = self._make(precision)
        if not model.built and can_be_called(model):
            with dtype_policy(precision.policy):
                model(self._batch.on(self._device).inputs)
        return model

    def of(self, precision: Precision, remedies: bool = True) -> Outcome:
        """Take the step in a precision.

        Args:
            remedies: whether to try what may help where the verdict is not SAFE.

        Raises:
            CaseFailure: it has other weights or gradients than in float32.
            Exception: whatever the model raises.
        """
        began = time.monotonic()
        reference = self.reference(jit=precision.tf32 and self._device.kind == "gpu")
        self._progress(precision.name)
        compared = Compared(reference, self._built(precision), precision)
        tried = Remedies(compared, reference, self._built, self._progress).tried() if remedies else []
        return Outcome(compared.findings, judge(compared.findings), tuple(tried), time.monotonic() - began)


def compare(
    float32_model: keras.Model, model: keras.Model, precision: Precision, batch: Batch, phase: str, device: Device
) -> Outcome:
    """Compare two built models, of which the second is given the first one's weights.

    For training both are compiled. Remedies are not tried: they need models that are built otherwise.
    """
    began = time.monotonic()
    findings = Compared(Reference(float32_model, batch, phase, device), model, precision).findings
    return Outcome(findings, judge(findings), (), time.monotonic() - began)


def record_of(spec: StepSpec, outcome: Outcome, data: str = SYNTHETIC) -> NumericsRecord:
    """What is saved of an outcome.

    Args:
        spec: what the trial was made of.
        data: what its batch is called.
    """
    findings = outcome.findings
    tf32 = PRECISIONS[findings.precision].tf32 and devices.tf32_available(spec.device)
    return NumericsRecord(
        model=spec.model,
        precision=findings.precision,
        phase=spec.phase,
        device=spec.device.kind,
        device_name=devices.device_name(spec.device),
        batch_size=spec.batch_size,
        image_size=spec.image_size_px,
        tf32=tf32,
        data=data,
        seconds=outcome.seconds,
        details=details_of(findings, outcome.judgement, outcome.remedies),
        **summary(findings, outcome.judgement),
    )


def made_by(build: Callable[[], keras.Model]) -> Make:
    """What builds a user's model in a precision, with the initial weights that it has in float32.

    Args:
        build: builds it under Keras's global dtype policy; for training it compiles it.
    """

    def make(precision: Precision) -> keras.Model:
        keras.backend.clear_session(free_memory=False)
        return build_under(precision.policy, build)

    return make


def trial_of(spec: StepSpec, pixels: Any = None, targets: Any = None, progress: Progress = lambda _: None) -> Trial:
    """The trial of one of the suite's models: its batch and its loss are those that its speed is measured with.

    Args:
        spec: model, phase, batch size, image size and device; its precision does not matter.
        pixels: images of shape (batch_size, height, width, 3) from 0 to 255; None for synthetic ones.
        targets: that the model's loss takes, where pixels are given; None for random ones.
        progress: as in Trial.

    Raises:
        CaseFailure: nothing of the step can be seen, or float32 itself is not finite.
        Exception: whatever a user's step raises with any targets that it may take.
    """
    training, shape = spec.phase == "training", spec.image_shape
    with all_in_float32():
        model, batch, images = _built(spec, FLOAT32)
    no_backward = _no_backward(model, spec, batch) if training else ""
    if not can_be_called(model) and (no_backward or not training):
        raise CaseFailure(no_backward or "it has a training step, but no call(): there is no inference to look at")
    if pixels is not None:
        batch = Given(images.of_pixels(pixels), targets)
    if not training:
        settle_statistics(model, batch.x)
    takes_targets = training and not no_backward
    made = [batch.y]
    if takes_targets and targets is None:
        made = [form.make(batch.samples) for form in target_forms(model, shape, batch)]

    ready = [model]

    def make(precision: Precision) -> keras.Model:
        if precision is FLOAT32 and ready:
            return ready.pop()
        model, given, _ = _built(spec, precision)
        if takes_targets:
            compile_model(model, precision, False, shape, given)
        return model

    failed: list[Exception] = []
    for one in made:
        try:
            taken, data = Batch(batch.x, one, batch.sample_weight), batch.label or SYNTHETIC
            return Trial(make, taken, spec.phase, spec.device, no_backward, progress, data)
        except Exception as error:  # whatever a user's step raises at targets that it does not take
            failed.append(error)
    if ":" not in spec.model or isinstance(failed[0], CaseFailure) or is_out_of_memory(failed[0]):
        raise failed[0]
    what = f"{described(failed[0])}{place_in_own_code(failed[0])}"
    raise CaseFailure(f"its {spec.phase} step cannot be taken: {what}") from failed[0]


def _built(spec: StepSpec, precision: Precision) -> tuple[keras.Model, Given, Images]:
    keras.backend.clear_session(free_memory=False)  # Keras numbers names: the same layer has the same one
    return built_with_data(replace(spec, precision=precision))


def _no_backward(model: keras.Model, spec: StepSpec, batch: Given) -> str:
    """Why a model cannot be trained as it is; empty where it can."""
    if not model.trainable_weights:
        return "none of its weights is trainable: there is no backward pass"
    try:
        compile_model(model, FLOAT32, False, spec.image_shape, batch)
    except CaseFailure as error:
        return str(error)
    return ""


@contextmanager
def all_in_float32() -> Iterator[None]:
    """Layers that are built inside and ask for a lower dtype themselves get float32: they are held against it."""
    own = keras.layers.Layer.__init__

    def init(layer: Any, *args: Any, **kwargs: Any) -> None:
        dtype = kwargs.get("dtype")
        if dtype is not None and keras.dtype_policies.get(dtype).compute_dtype in LOW_DTYPES:
            kwargs["dtype"] = "float32"
        own(layer, *args, **kwargs)

    with replaced(keras.layers.Layer, "__init__", init):
        yield
