"""The same architectures in PyTorch: torchvision's VGG16 and InceptionV3, timm's pre-activation ResNet152V2, with
mpbench's head, optimizer and loss.

As PyTorch's own guides have it for speed: channels_last, autocast with GradScaler for float16, cuDNN's benchmark mode,
the fused Adam, gradients set to None; with torch.compile or without.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode
from worker import ArmSpec, PeerArm

from mpbench.config.precisions import KERAS_ADAM_EPSILON, PRECISIONS
from mpbench.config.profiles import LEARNING_RATE, SEED
from mpbench.engine.models import CLASSES, HEAD_UNITS
from mpbench.errors import CaseFailure

EAGER, COMPILED = "eager", "compiled"
MAX_SETTLING_STEPS = 48


def build(spec: ArmSpec) -> PeerArm:
    if spec.device == "gpu" and not torch.cuda.is_available():
        raise CaseFailure(f"torch {torch.__version__} sees no GPU: install a build of it for CUDA")
    torch.backends.cudnn.benchmark = True
    return _Torch(spec)


class _Torch:
    def __init__(self, spec: ArmSpec) -> None:
        torch.manual_seed(SEED)
        self._precision = PRECISIONS[spec.precision]
        self._device = "cuda" if spec.device == "gpu" else "cpu"
        self._training = spec.phase == "training"
        base, features = _base(spec.model)
        head = torch.nn.Sequential(
            torch.nn.Linear(features, HEAD_UNITS), torch.nn.ReLU(), torch.nn.Linear(HEAD_UNITS, CLASSES)
        )
        model = torch.nn.Sequential(base, head).to(self._device, memory_format=torch.channels_last)
        self._weights = list(model.parameters())
        model.train(self._training)
        batch = torch.rand(spec.batch_size, 3, spec.image_size_px, spec.image_size_px, device=self._device) * 2 - 1
        self._batch = batch.contiguous(memory_format=torch.channels_last)
        self._labels = torch.randint(CLASSES, (spec.batch_size,), device=self._device)
        self._optimizer = torch.optim.Adam(self._weights, LEARNING_RATE, eps=KERAS_ADAM_EPSILON, fused=True)
        scaled = self._training and self._precision.policy == "mixed_float16"
        self._scaler = torch.amp.GradScaler(self._device) if scaled else None
        self._sums_before = self._sums()
        self._out: Any = None
        self.steps = 0
        self.flops: float | None = None
        self._model: Any = model
        whole = self._train if self._training else self._predict
        self._once = {"": whole, "forward": self._forward, "gradients": self._gradients, "update": self._update}[
            spec.part
        ]
        if spec.way == EAGER and spec.precision == "float32" and not spec.part:
            with FlopCounterMode(display=False) as counter:
                self.run(1)
            self.flops = float(counter.get_total_flops())
        if spec.way == COMPILED:
            self._model = torch.compile(model)
        if spec.part == "update":
            self._gradients()
        self.run(1)
        for _ in range(MAX_SETTLING_STEPS):
            if self.skipped_steps() < self.steps:
                break
            self.run(1)

    def run(self, steps: int) -> None:
        # Read when a product is launched, compiled or not.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._precision.tf32
        once = self._once
        for _ in range(steps):
            once()
        if self._device == "cuda":
            torch.cuda.synchronize()
        self.steps += steps

    def skipped_steps(self) -> int:
        if self._scaler is None:
            return 0
        # Adam counts the updates that it made; asked outside the timed region, since reading it waits for the GPU.
        state = self._optimizer.state[self._weights[0]]
        return self.steps - (int(state["step"].item()) if state else 0)

    def check(self) -> None:
        if not torch.isfinite(self._out.float()).all():
            raise CaseFailure(f"the {'loss' if self._training else 'output'} is not finite after {self.steps} steps")
        if not np.isfinite(sums := self._sums()).all():
            raise CaseFailure(f"weights are not finite after {self.steps} steps")
        if self._once == self._train and (sums == self._sums_before).all():
            raise CaseFailure(f"training moved no weight in {self.steps} steps")

    def _train(self) -> None:
        self._gradients()
        self._update()

    def _gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._forward()
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def _update(self) -> None:
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()

    def _forward(self) -> torch.Tensor:
        with self._autocast():
            logits = self._model(self._batch)
        loss = torch.nn.functional.cross_entropy(logits.float(), self._labels)
        self._out = loss.detach()
        return loss

    def _predict(self) -> None:
        with torch.no_grad(), self._autocast():
            self._out = torch.softmax(self._model(self._batch).float(), -1)

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self._precision.policy.startswith("mixed_"):
            return nullcontext()
        return torch.autocast(self._device, getattr(torch, self._precision.compute_dtype))

    def _sums(self) -> np.ndarray[Any, Any]:
        return np.array([float(weight.detach().double().sum()) for weight in self._weights])


def _base(name: str) -> tuple[torch.nn.Module, int]:
    """A base from images to pooled features, and their number. Weights are random."""
    if name == "vgg16":
        pool = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return torch.nn.Sequential(torchvision.models.vgg16(weights=None).features, *pool), 512
    if name == "inception_v3":
        base = torchvision.models.inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=True)
        base.fc = base.dropout = torch.nn.Identity()  # keras.applications drop nothing
        return base, 2048
    # torchvision's resnet152 normalises after each convolution, ResNet152V2 before it, as this one does.
    return timm.create_model("resnetv2_152", pretrained=False, num_classes=0), 2048
