"""What the user asked for, checked: every option that a run depends on, and the profiles behind the defaults."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from mpbench.config.model_names import canonical_name, min_image_size_px
from mpbench.config.modes import Mode, modes
from mpbench.config.precisions import (
    CONTROL,
    DEFAULT_BASELINE,
    DEFAULT_PRECISIONS,
    PRECISIONS,
    default_baseline,
    default_precisions,
)
from mpbench.config.profiles import (
    DEFAULT_PROFILE,
    DEFAULT_RECIPE,
    DEFAULT_WORKERS,
    LARGEST_BATCH,
    PROFILES,
    RECIPES,
    Profile,
    Recipe,
)
from mpbench.config.sweep import Point, parse_sweep
from mpbench.errors import UsageProblem
from mpbench.system.device import DEVICES
from mpbench.system.nvidia import computes_in_tf32

JIT_CHOICES = {"auto": None, "on": True, "off": False, "both": None}
PROFILED_STEPS = 3
"""Of a few milliseconds each: a profile says the same of more of them, and takes longer to read."""

ON_OFF = ("on", "off")

CACHES = ("none", "memory", "disk")
"""Where the input pipeline can keep decoded images."""

PREPROCESSINGS = ("model", "thesis")


@dataclass(frozen=True)
class AccuracySettings:
    """The options of the accuracy experiment.

    Attributes:
        data: `generated`, `download` or a path.
        weights: `imagenet`, `random`, a path, or None for the recipe's.
        thesis_preprocessing: 1/255 for every model in place of its own scaling.
        alpha: level of McNemar's test and of the test of equivalence.
        margin: of equivalence, a fraction (0.01 is one percentage point).
        require_equivalence: whether equivalence within the margin is asserted too.
    """

    data: str
    weights: str | None
    thesis_preprocessing: bool
    alpha: float
    margin: float
    require_equivalence: bool


@dataclass(frozen=True)
class Settings:
    """The options of one run; None means the profile's value, and for the profile itself the device's default."""

    models: tuple[str, ...]
    precisions: tuple[str, ...]
    baseline: str
    control: bool
    device: str
    require_gpu: bool
    profile: str | None
    batch_size: int | None
    image_size_px: int | None
    jit: bool | None
    jit_both: bool
    replicas: int
    tolerance: float | None
    max_seconds: float | None
    accuracy: AccuracySettings
    sweep: tuple[Point, ...]
    workers: int
    cache: str
    profile_steps: int
    why: bool
    energy: bool
    cache_compiled: bool
    given_precisions: bool = True
    """Whether the user has named them; otherwise they follow from the device."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Ids of the arms of each group: the precisions, and the control."""
        return (*self.precisions, CONTROL) if self.control else self.precisions

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How each arm is run; the others refer to the first."""
        return modes(self.jit, self.jit_both, self.replicas)

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
            image_size_px=self.image_size_px or base.image_size_px,
            weights=self.accuracy.weights or base.weights,
        )

    def resolved_profile(self, device_kind: str, point: Point | None = None) -> Profile:
        """The profile for a device with the user's overrides in it, at one point of the sweep where there is one.

        Its batch is LARGEST_BATCH where the point asks for that.
        """
        base = PROFILES[self.profile or DEFAULT_PROFILE[device_kind]]
        profile = Profile(
            base.name,
            self.batch_size or base.batch_size,
            self.image_size_px or base.image_size_px,
            self.max_seconds or base.max_seconds,
            self.tolerance or base.tolerance,
        )
        if point is None:
            return profile
        if point.axis == "image" and point.value is not None:
            return replace(profile, image_size_px=point.value)
        return replace(profile, batch_size=LARGEST_BATCH if point.value is None else point.value)


def check_settings(
    *,
    models: str,
    precisions: str | None,
    baseline: str | None,
    control: bool,
    device: str,
    require_gpu: bool,
    profile: str | None,
    batch_size: str | None,
    image_size: str | None,
    jit: str,
    tolerance: str | None,
    max_time: str | None,
    data: str,
    weights: str | None,
    preprocessing: str,
    alpha: str,
    margin: str,
    require_equivalence: bool,
    sweep: str | None,
    workers: str,
    cache: str,
    replicas: str,
    profile_steps: str,
    why: bool,
    energy: str,
    cache_compiled: str,
    has_tf32: Callable[[], bool] = computes_in_tf32,
) -> Settings:
    """Settings from the options as typed.

    Args:
        has_tf32: whether the GPU computes float32 in TF32 unless told not to; asked only where it matters.

    Raises:
        UsageProblem: the first value that is not valid.
    """
    model_names = tuple(canonical_name(name) for name in _names("--mp-models", models))
    _one_of("--mp-device", device, DEVICES)
    _one_of("--mp-jit", jit, JIT_CHOICES)
    count = _positive_int("--mp-replicas", replicas, "replicas") or 1
    tf32 = device != "cpu" and (precisions is None or "tf32" in precisions) and has_tf32()
    if precisions is None:
        precision_names = default_precisions(tf32, xla=jit in ("auto", "on") and count == 1)
    else:
        precision_names = tuple(
            _one_of("--mp-precisions", name, PRECISIONS) for name in _names("--mp-precisions", precisions)
        )
    if baseline is not None and baseline in PRECISIONS and baseline not in precision_names:
        raise UsageProblem(f"--mp-baseline: {baseline} is not measured: valid are {', '.join(precision_names)}")
    settings = Settings(
        models=model_names,
        precisions=precision_names,
        baseline=_one_of("--mp-baseline", baseline or default_baseline(precision_names, tf32), PRECISIONS),
        control=control,
        device=device,
        require_gpu=require_gpu,
        profile=None if profile is None else _one_of("--mp-profile", profile, PROFILES),
        batch_size=_positive_int("--mp-batch-size", batch_size, "images"),
        image_size_px=_positive_int("--mp-image-size", image_size, "pixels"),
        jit=JIT_CHOICES[jit],
        jit_both=jit == "both",
        replicas=count,
        tolerance=None if tolerance is None else _positive_float("--mp-tolerance", tolerance, "per cent") / 100,
        max_seconds=None if max_time is None else _positive_float("--mp-max-time", max_time, "seconds"),
        accuracy=AccuracySettings(
            data=_not_empty("--mp-data", data, "generated, download, or the path of a zip or a folder"),
            weights=None
            if weights is None
            else _not_empty("--mp-weights", weights, "imagenet, random, a file or a folder"),
            thesis_preprocessing=_one_of("--mp-preprocessing", preprocessing, PREPROCESSINGS) == "thesis",
            alpha=_between("--mp-alpha", alpha, 1, "between 0 and 1"),
            margin=_between("--mp-margin", margin, 100, "of percentage points between 0 and 100") / 100,
            require_equivalence=require_equivalence,
        ),
        sweep=parse_sweep(sweep),
        workers=_positive_int("--mp-workers", workers, "threads") or DEFAULT_WORKERS,
        cache=_one_of("--mp-cache", cache, CACHES),
        profile_steps=_whole_number("--mp-profile-steps", profile_steps, "steps", least=0),
        why=why,
        energy=_one_of("--mp-energy", energy, ON_OFF) == "on",
        cache_compiled=_one_of("--mp-cache-compiled", cache_compiled, ON_OFF) == "on",
        given_precisions=precisions is not None,
    )
    if settings.replicas > 1 and jit in ("on", "both"):
        raise UsageProblem(
            f"--mp-jit: {jit} given together with --mp-replicas={replicas}: XLA cannot compile a step that replicas "
            "share: valid is off or auto"
        )
    if settings.replicas > 1 and any(point.value is None for point in settings.sweep):
        raise UsageProblem(f"--mp-sweep: batch=max given together with --mp-replicas={replicas}: valid are numbers")
    for option, value, axis in (("--mp-batch-size", batch_size, "batch"), ("--mp-image-size", image_size, "image")):
        if value is not None and any(point.axis == axis for point in settings.sweep):
            raise UsageProblem(f"{option}: given together with --mp-sweep={sweep}: valid is one of them")
    check_each_once("--mp-models", model_names)
    check_each_once("--mp-precisions", precision_names)
    if control and settings.baseline not in precision_names:
        raise UsageProblem(
            f"--mp-control: the baseline {settings.baseline} is not among --mp-precisions={','.join(precision_names)}: "
            "a control needs it"
        )
    if require_gpu and device == "cpu":
        raise UsageProblem("--mp-require-gpu: given together with --mp-device=cpu: valid is one of them")
    return settings


def check_each_once(option: str, names: Sequence[str]) -> None:
    """Raise UsageProblem if a name is given twice."""
    if len(set(names)) < len(names):
        raise UsageProblem(f"{option}: {','.join(names)} names one twice: valid is each once")


def check_image_size(models: Sequence[str], image_size_px: int, option: str = "--mp-image-size") -> None:
    """Raise UsageProblem naming the first model that does not take images of that size."""
    for name in models:
        if image_size_px < min_image_size_px(name):
            raise UsageProblem(
                f"{option}: {image_size_px} is too small for {name}: valid is {min_image_size_px(name)} or more"
            )


def _names(option: str, text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise UsageProblem(f"{option}: {text!r} has an empty name: valid is a comma-separated list")
    return names


def _one_of(option: str, value: str, valid: Collection[str]) -> str:
    if value not in valid:
        raise UsageProblem(f"{option}: unknown {value!r}: valid are {', '.join(valid)}")
    return value


def _positive_int(option: str, text: str | None, unit: str) -> int | None:
    return None if text is None else _whole_number(option, text, unit, least=1)


def _whole_number(option: str, text: str, unit: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise UsageProblem(f"{option}: {text!r} is not valid: valid is a whole number of {unit}, {least} or more")
    return value


def _not_empty(option: str, text: str, valid: str) -> str:
    if not text.strip():
        raise UsageProblem(f"{option}: {text!r} is not valid: valid are {valid}")
    return text


def _between(option: str, text: str, limit: float, valid: str) -> float:
    """A number above 0 and below `limit`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < limit:
        raise UsageProblem(f"{option}: {text!r} is not valid: valid is a number {valid}")
    return value


def _positive_float(option: str, text: str, unit: str) -> float:
    return _between(option, text, float("inf"), f"of {unit} above 0")
