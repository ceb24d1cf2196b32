"""The process in which one framework's arms live: it builds them and runs rounds when it is told to, one at a time.

Knows no framework: each has a module of its own, imported here, after its environment variables have been set.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mpbench.errors import described

ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    "mpbench": {"KERAS_BACKEND": "tensorflow"},
    "torch": {},
    # Without it JAX takes three quarters of the GPU's memory at once, and the others' arms find none.
    "jax": {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}
"""Environment variables that a framework reads while it is imported."""


@dataclass(frozen=True)
class ArmSpec:
    """One row to be measured.

    Attributes:
        framework: `mpbench`, `torch` or `jax`; its module is `of_<framework>.py`.
        way: how it runs the step, such as `XLA`; PEAK for a matrix product in place of a step.
        model, phase, precision: as mpbench names them.
        batch_size, image_size_px: images, pixels.
        device: `gpu` or `cpu`.
        part: of a training step, one of PARTS; empty for the whole.
    """

    framework: str
    way: str
    model: str
    phase: str
    precision: str
    batch_size: int
    image_size_px: int
    device: str
    part: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, [self.framework, self.way, self.precision, self.part]))


PEAK = "matrix product"

PARTS = ("forward", "gradients", "update")
"""The forward pass with the loss; that and the backward pass; the optimizer's update of gradients that lie there."""


class PeerArm(Protocol):
    """What a framework's module builds: a step that has run at least once."""

    flops: float | None
    """Of one step; None where this arm does not count them."""

    def run(self, steps: int) -> None:
        """Run steps back to back and wait until the device has finished them."""

    def skipped_steps(self) -> int:
        """Updates that loss scaling has dropped so far."""

    def check(self) -> None:
        """Raise where the loss, the outputs or the weights are not finite, or training moved no weight."""


class Host:
    """The arms of one process."""

    def __init__(self, framework: str) -> None:
        self._module = importlib.import_module(f"of_{framework}")
        self._arms: dict[str, PeerArm] = {}
        self._idle_since = (time.perf_counter(), time.process_time())
        self._idle_seconds = self._idle_cpu_seconds = 0.0

    def build(self, spec: ArmSpec) -> dict[str, Any]:
        """Build an arm; returns the seconds that it took, compiling included, and the FLOPs of its step."""
        started = time.perf_counter()
        arm: PeerArm = self._module.build(spec)
        self._arms[spec.name] = arm
        return {"build_seconds": round(time.perf_counter() - started, 1), "flops": arm.flops}

    def run(self, name: str, steps: int) -> float:
        """Seconds of so many steps, by this process's own clock."""
        arm = self._arms[name]
        now, cpu_now = time.perf_counter(), time.process_time()
        self._idle_seconds += now - self._idle_since[0]
        self._idle_cpu_seconds += cpu_now - self._idle_since[1]
        gc.disable()
        try:
            start = time.perf_counter()
            arm.run(steps)
            seconds = time.perf_counter() - start
        finally:
            gc.enable()
        self._idle_since = (time.perf_counter(), time.process_time())
        return seconds

    def skipped_steps(self, name: str) -> int:
        return self._arms[name].skipped_steps()

    def check(self, name: str) -> None:
        self._arms[name].check()

    def begin(self) -> None:
        """Forget what was used while nothing was to be run; arms are measured from here on."""
        self._idle_since = (time.perf_counter(), time.process_time())
        self._idle_seconds = self._idle_cpu_seconds = 0.0

    def cpu_seconds(self) -> float:
        return time.process_time()

    def idle_cpu_share(self) -> float:
        """CPU time that this process used between its rounds, while others were measured, of one core's time."""
        return round(self._idle_cpu_seconds / max(self._idle_seconds, 1e-9), 4)


def serve(connection: Connection, framework: str) -> None:
    """Answer calls of Host's methods until the other end is closed; each answer is (True, result) or (False, why)."""
    os.environ.update(ENVIRONMENT[framework])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    host: Host | None = None
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            host = host or Host(framework)
            connection.send((True, getattr(host, method)(*arguments)))
        except KeyboardInterrupt:
            return
        except Exception as error:  # of whatever framework: its arm's own, the others go on
            connection.send((False, described(error)))
