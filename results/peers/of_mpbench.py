"""mpbench's own steps, and the peak that all are compared with: a large matrix product."""

from __future__ import annotations

from mpbench.why.measuring.layer_call import call_costs
from mpbench.why.measuring.layers import distinct_layers
from mpbench.why.measuring.parts import PartedStep
from mpbench.why.measuring.probe import Probe
from worker import PEAK, ArmSpec, PeerArm

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import device as devices
from mpbench.engine.models import build_model
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.why.measuring.peaks import peak_probe

XLA, NO_XLA = "XLA", "no XLA"


def build(spec: ArmSpec) -> PeerArm:
    device = devices.activate(spec.device, require_gpu=spec.device == "gpu")
    precision = PRECISIONS[spec.precision]
    if spec.way == PEAK:
        return _Peak(peak_probe("matmul", precision, device), spec)
    step = StepSpec(spec.model, precision, spec.phase, spec.batch_size, spec.image_size_px, spec.way == XLA, device)
    if spec.part:
        return _Part(step, spec.part)
    return _Mpbench(step, counted=spec.precision == "float32" and spec.way == NO_XLA)


class _Mpbench(Step):
    def __init__(self, spec: StepSpec, counted: bool) -> None:
        super().__init__(spec)
        self.flops: float | None = _flops(spec) if counted else None


class _Peak:
    def __init__(self, probe: Probe, spec: ArmSpec) -> None:
        self.run, self.check = probe.run, probe.check
        unmeasured = {"rounds": 0, "steps_per_round": 1, "unpaired_blocks": "", "noisy": True, "profile": ""}
        record = probe.record(
            **unmeasured, device=spec.device, device_name="", batch_size=spec.batch_size, image_size=spec.image_size_px
        )
        self.flops: float | None = record.flops  # type: ignore[attr-defined]

    def skipped_steps(self) -> int:
        return 0


class _Part:
    flops: float | None = None

    def __init__(self, spec: StepSpec, part: str) -> None:
        self._step = PartedStep(spec)
        if part == "update":
            self._step.before_update()  # a learning rate of 0: gradients made up must not move the weights for long
        self.run, _ = self._step.part(part)
        self.check = self._step.check_weights

    def skipped_steps(self) -> int:
        return 0


def _flops(spec: StepSpec) -> float:
    """Of all layers' calls in one step; without the loss and the optimizer's update."""
    model = build_model(spec.model, spec.image_size_px, spec.precision)
    layers = distinct_layers(model, spec.image_shape, spec.batch_size)
    return sum(layer.count * call_costs(layer.call, spec.phase).flops for layer in layers)
