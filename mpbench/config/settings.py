"""What the user asked for, checked: the options of one run as values, and what follows from several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpbench.config.model_names import min_image_size_px
from mpbench.config.modes import XLA, Mode, modes
from mpbench.config.options import OPTIONS
from mpbench.config.precisions import (
    CONTROL,
    DEFAULT_BASELINE,
    DEFAULT_PRECISIONS,
    TF32,
    default_baseline,
    default_precisions,
)
from mpbench.config.profiles import (
    DEFAULT_PROFILE,
    DEFAULT_RECIPE,
    LARGEST_BATCH,
    PROFILES,
    RECIPES,
    Profile,
    Recipe,
)
from mpbench.config.sweep import Point
from mpbench.errors import UsageProblem
from mpbench.system.nvidia import computes_in_tf32


@dataclass(frozen=True)
class Settings:
    """The options of one run, each under its own name (`options.OPTIONS` says what it does).

    Where None is possible it means not given: the profile's value then holds, for the profile itself the device's
    default. Units where they are not the option's: `tolerance` and `margin` are fractions (0.01 is 1 %, or one
    percentage point), `max_time` is in seconds, `image_size` in pixels.
    """

    models: tuple[str, ...]
    precisions: tuple[str, ...]
    baseline: str
    control: bool
    device: str
    require_gpu: bool
    profile: str | None
    batch_size: int | None
    image_size: int | None
    sweep: tuple[Point, ...]
    jit: str
    replicas: int
    tolerance: float | None
    max_time: float | None
    energy: bool
    cache_compiled: bool
    profile_steps: int
    why: bool
    data: str
    workers: int
    cache: str
    weights: str | None
    preprocessing: str
    alpha: float
    margin: float
    require_equivalence: bool
    gate: bool
    gate_confirm: int | None
    gate_missing: str | None
    report: str | None
    summary: str | None
    resume: bool
    lock: str
    given_precisions: bool
    """Whether the user has named them; otherwise they follow from the device."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Ids of the arms of each group: the precisions, and the control."""
        return (*self.precisions, CONTROL) if self.control else self.precisions

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How each arm is run; the others refer to the first."""
        return modes(self.jit, self.replicas)

    @property
    def xla(self) -> bool | None:
        """XLA on, off, or (None) as Keras has it, where each mode does not say it."""
        return XLA[self.jit]

    @property
    def compared(self) -> tuple[str, ...]:
        """The precisions whose answers are compared with the baseline's.

        Raises:
            UsageProblem: the baseline or any other one is missing.
        """
        precisions, baseline = self.precisions if self.given_precisions else DEFAULT_PRECISIONS, self.accuracy_baseline
        others = tuple(name for name in precisions if name != baseline)
        if baseline not in precisions or not others:
            raise UsageProblem(
                f"--mp-precisions: {','.join(precisions)}: valid for accuracy are the baseline {baseline} "
                "and at least one other"
            )
        return others

    @property
    def accuracy_baseline(self) -> str:
        """What the answers are compared with: strict float32, as the thesis had it, unless the user says otherwise."""
        chosen = self.given_precisions or self.baseline in DEFAULT_PRECISIONS
        return self.baseline if chosen else DEFAULT_BASELINE

    def arm_precision(self, arm: str) -> str:
        return self.baseline if arm == CONTROL else arm

    @property
    def recipe_name(self) -> str:
        """The profile whose recipe the accuracy experiment follows."""
        return self.profile or DEFAULT_RECIPE

    @property
    def recipe(self) -> Recipe:
        """The accuracy experiment's recipe with the user's overrides in it."""
        base = RECIPES[self.recipe_name]
        return replace(
            base,
            batch_size=self.batch_size or base.batch_size,
            image_size_px=self.image_size or base.image_size_px,
            weights=self.weights or base.weights,
        )

    def resolved_profile(self, device_kind: str, point: Point | None = None) -> Profile:
        """The profile for a device with the user's overrides in it, at one point of the sweep where there is one.

        Its batch is LARGEST_BATCH where the point asks for that.
        """
        base = PROFILES[self.profile or DEFAULT_PROFILE[device_kind]]
        profile = Profile(
            base.name,
            self.batch_size or base.batch_size,
            self.image_size or base.image_size_px,
            self.max_time or base.max_seconds,
            self.tolerance or base.tolerance,
        )
        if point is None:
            return profile
        if point.axis == "image" and point.value is not None:
            return replace(profile, image_size_px=point.value)
        return replace(profile, batch_size=LARGEST_BATCH if point.value is None else point.value)


def read_settings(typed: Mapping[str, Any], has_tf32: Callable[[], bool] = computes_in_tf32) -> Settings:
    """Settings from the options as typed.

    Args:
        typed: text, or True and False for flags, by `Option.dest`; the default where an option is None or missing.
        has_tf32: whether the GPU computes float32 in TF32 unless told not to; asked only where it matters.

    Raises:
        UsageProblem: the first value that is not valid, or not together with another.
    """
    values = {option.setting: option.value(typed.get(option.dest)) for option in OPTIONS}
    given, baseline = values["precisions"], values["baseline"]
    tf32 = values["device"] != "cpu" and (given is None or TF32 in given) and has_tf32()
    xla = values["jit"] in ("auto", "on") and values["replicas"] == 1
    precisions = values["precisions"] = default_precisions(tf32, xla) if given is None else given
    if baseline is not None and baseline not in precisions:
        raise UsageProblem(f"--mp-baseline: {baseline} is not measured: valid are {', '.join(precisions)}")
    values["baseline"] = baseline or default_baseline(precisions, tf32)
    values["sweep"] = values["sweep"] or ()
    settings = Settings(**values, given_precisions=given is not None)
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    """Raise UsageProblem for the first options that exclude each other, or of which one needs another."""
    if settings.replicas > 1:
        beside = f"given together with --mp-replicas={settings.replicas}"
        if settings.jit in ("on", "both"):
            raise UsageProblem(
                f"--mp-jit: {settings.jit} {beside}: XLA cannot compile a step that replicas share: use off or auto"
            )
        if any(point.value is None for point in settings.sweep):
            raise UsageProblem(f"--mp-sweep: batch=max {beside}: use numbers")
    if settings.control and settings.baseline not in settings.precisions:
        raise UsageProblem(
            f"--mp-control: the baseline {settings.baseline} is not among --mp-precisions="
            f"{','.join(settings.precisions)}: a control needs it"
        )
    if settings.require_gpu and settings.device == "cpu":
        raise UsageProblem("--mp-require-gpu: given together with --mp-device=cpu: use one of them")
    swept = {point.axis for point in settings.sweep}
    for option in OPTIONS:
        value = getattr(settings, option.setting)
        if option.axis in swept and value is not None:
            points = ",".join(str(point).partition("=")[2] for point in settings.sweep)
            raise UsageProblem(
                f"{option.typed}: given together with --mp-sweep={option.axis}={points}: use one of them"
            )
        if option.only_with and value is not None and not getattr(settings, option.only_with):
            raise UsageProblem(f"{option.typed}: {value}: use it together with --mp-{option.only_with}")


def check_image_size(models: Sequence[str], image_size_px: int, option: str = "--mp-image-size") -> None:
    """Raise UsageProblem naming the first model that does not take images of that size."""
    for name in models:
        if image_size_px < min_image_size_px(name):
            raise UsageProblem(
                f"{option}: {image_size_px} is too small for {name}: must be {min_image_size_px(name)} or more"
            )
