"""What is to be measured: a step, and the steps that are measured together. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from mpbench.config.precisions import Precision
from mpbench.config.profiles import LARGEST_BATCH, Profile
from mpbench.engine.compile_cache import CompileCache
from mpbench.system.cluster import Cluster
from mpbench.system.device import Device


@dataclass(frozen=True)
class StepSpec:
    """What a step is made of.

    Attributes:
        model: canonical name or factory.
        precision: how it computes.
        phase: training or inference.
        batch_size: images; LARGEST_BATCH for as many as `largest_batch.fit` will find to fit. Where a factory gives its
            own batch, the spec of the built step has that one's samples.
        image_size_px: height and width.
        jit: XLA on, off, or (None) as Keras's `jit_compile="auto"` would have it: on for a GPU where the model can.
        device: where it runs.
        replicas: how many share its work, each with a batch of its own.
    """

    model: str
    precision: Precision
    phase: str
    batch_size: int
    image_size_px: int
    jit: bool | None
    device: Device
    replicas: int = 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image_size_px, self.image_size_px, 3

    @property
    def label(self) -> str:
        """Letters, digits and underscores that tell it from other steps."""
        sizes = f"{self.batch_size}_{self.image_size_px}_{self.jit}_{self.replicas}"
        return re.sub(r"\W", "_", f"{self.model}_{self.phase}_{self.precision.name}_{sizes}", flags=re.ASCII)

    @property
    def size(self) -> str:
        """For people."""
        batch = "the largest batch" if self.batch_size == LARGEST_BATCH else f"batch {self.batch_size}"
        return f"{batch}, {self.image_size_px} px, {self.phase}"


@dataclass(frozen=True)
class Member:
    """One arm of a group.

    Attributes:
        spec: its step.
        mode: label of the mode to run its precision; empty where there is one.
        control: a second arm like the baseline.
        baseline: name of the arm that its speedup refers to, in the same mode; None where there is none.
        reference: name of the arm of its precision that was run in the first mode; None where it is that one.
    """

    spec: StepSpec
    mode: str = ""
    control: bool = False
    baseline: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class GroupPlan:
    """What to measure together.

    Attributes:
        label: for progress, such as `vgg16 training`.
        variant: what tells the group from another of the same model and phase; usually empty.
        members: the arms by name, in the order in which they are built.
        profile: sizes, time limit and tolerance, as resolved.
        energy: whether joules are measured after the rounds.
        point: of the sweep, as its label; usually empty.
        cluster: the machines that share it.
        compiled: what XLA has compiled in earlier runs and this one; None where it is not kept.
        overlapped: whether one arm is traced while another is compiled: both then take a little longer by themselves.
        spent: seconds that a session's groups took, by what for; added to.
    """

    label: str
    variant: str
    members: Mapping[str, Member]
    profile: Profile
    energy: bool = True
    point: str = ""
    cluster: Cluster = field(default_factory=Cluster)
    compiled: CompileCache | None = None
    overlapped: bool = False
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def device(self) -> Device:
        """Where all of it runs."""
        return next(iter(self.members.values())).spec.device
