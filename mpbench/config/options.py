"""The options, in one table: what each is called, takes, does, and is without being given.

`pytest --help`, the checks of single values, `[tool.mpbench]` of pyproject.toml, the fields of `settings.Settings` and
docs/options.md (`page.py`) come from it.
"""

from __future__ import annotations

from argparse import BooleanOptionalAction
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpbench.config.model_names import DEFAULT_MODELS, canonical_name
from mpbench.config.modes import XLA
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import DEFAULT_PROFILE, DEFAULT_RECIPE, DEFAULT_WORKERS, PROFILES, RECIPES, Profile, Recipe
from mpbench.config.sweep import parse_sweep
from mpbench.config.values import FLAG, Kind, names, number, on_or_off, one_of, text, whole_number
from mpbench.system.device import DEVICES
from mpbench.system.lock import MODES

if TYPE_CHECKING:
    import pytest

CACHES = ("none", "memory", "disk")
"""Where the input pipeline can keep decoded images."""

PROFILED_STEPS = 3
"""Of a few milliseconds each: a profile says the same of more of them, and takes longer to read."""

MISSING_CHOICES = ("report", "fail")
"""What the gate can do about a vanished case."""

MAX_CONFIRMING = 999
"""Processes that measure again: each takes as long as the first one."""

PRECISION = one_of(*PRECISIONS)


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: as typed after `--mp-`, and in `[tool.mpbench]`.
        help: what it does, in a line or two, without its default.
        kind: of its value.
        placeholder: stands for the value in help; empty for a flag, and where the kind's choices stand there.
        default: as it would be typed; None where that depends on something.
        unless_given: what holds without the option where `default` is None, in words.
        by_profile: its default in each profile, in words, for what a profile sets.
        more: further sentences for docs/options.md.
        axis: of `--mp-sweep`, where the option is the size at the one point that is measured without.
        only_with: name of a flag without which it is refused on the command line, and has no effect in pyproject.toml.
        chief_only: of several workers only the chief has it: what saves, compares and judges.
        free_on_resume: it picks cases, or what is done with them, and does not change how one is measured: a session
            that resumes another may have another value. That holds for all that is `chief_only` too.
        not_in_pyproject: what to write in pyproject.toml in its place; empty where it may stand there.
    """

    name: str
    help: str
    kind: Kind = FLAG
    placeholder: str = ""
    default: str | None = None
    unless_given: str = ""
    by_profile: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    axis: str = ""
    only_with: str = ""
    chief_only: bool = False
    free_on_resume: bool = False
    not_in_pyproject: str = ""

    @property
    def typed(self) -> str:
        """As on the command line."""
        return f"--mp-{self.name}"

    @property
    def setting(self) -> str:
        """Its field in Settings."""
        return self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """Its attribute in pytest's `config.option`."""
        return f"mp_{self.setting}"

    @property
    def metavar(self) -> str:
        """What stands for its value; empty for a flag."""
        return self.placeholder or "|".join(self.kind.choices)

    @property
    def is_flag(self) -> bool:
        return self.kind is FLAG

    @property
    def default_in_words(self) -> str:
        """What holds where it is not given; empty for a flag."""
        by_profile = "; ".join(f"{profile}: {value}" for profile, value in self.by_profile.items())
        return self.default or by_profile or self.unless_given

    def value(self, given: str | bool | None, where: str = "") -> Any:
        """The setting's value from what was typed, or from the default.

        Args:
            given: text, True or False for a flag; None where it was not given.
            where: what a refusal names; `typed` if empty.

        Returns:
            None for an option that was not given and has no default of its own.

        Raises:
            UsageProblem: not valid.
        """
        if self.is_flag:
            return bool(given)
        given = self.default if given is None else given
        return None if given is None else self.kind.parse(where or self.typed, str(given))


def _in_profiles(shown: Callable[[Profile, Recipe], str]) -> dict[str, str]:
    return {name: shown(PROFILES[name], RECIPES[name]) for name in PROFILES}


def _speed_and_accuracy(speed: object, accuracy: object) -> str:
    return f"{speed}" if speed == accuracy else f"{speed}, accuracy {accuracy}"


SECTIONS: Mapping[str, tuple[Option, ...]] = {
    "What is measured": (
        Option(
            "models",
            "models, comma-separated: keras.applications by name, or your package.module:factory",
            names("names of models", lambda where, name: canonical_name(name, where)),
            "NAMES",
            default=",".join(DEFAULT_MODELS),
            more="What a factory returns: [README](../README.md).",
            free_on_resume=True,
        ),
        Option(
            "precisions",
            f"precisions, comma-separated, of {', '.join(PRECISIONS)}",
            names("names of precisions", PRECISION.parse),
            "NAMES",
            unless_given="float32,mixed_float16; tf32 too on a GPU that has it",
            more="float32 is strict: TF32 is off.",
            free_on_resume=True,
        ),
        Option(
            "baseline",
            "the precision that speedups refer to",
            PRECISION,
            "NAME",
            unless_given="tf32 where the GPU computes float32 so by default, else float32",
        ),
        Option(
            "control",
            "measure the baseline a second time in each group: its ratio to itself is the noise floor",
            free_on_resume=True,
        ),
        Option("device", "where cases run; auto: on a GPU if there is one", one_of(*DEVICES), default=DEVICES[0]),
        Option(
            "require-gpu",
            "a missing GPU is an error (exit status 4), not a CPU run",
            more="For CI: never green on a CPU.",
            free_on_resume=True,
        ),
        Option(
            "profile",
            "defaults that belong together: paper, as the thesis has it, or quick, for a look",
            one_of(*PROFILES),
            unless_given=(
                f"{DEFAULT_PROFILE['gpu']} on a GPU, {DEFAULT_PROFILE['cpu']} on a CPU, {DEFAULT_RECIPE} for accuracy"
            ),
            more="What a profile sets: [below](#profiles).",
        ),
        Option(
            "batch-size",
            "images per step",
            whole_number("images"),
            "IMAGES",
            axis="batch",
            by_profile=_in_profiles(lambda speed, accuracy: _speed_and_accuracy(speed.batch_size, accuracy.batch_size)),
        ),
        Option(
            "image-size",
            "height and width of an image",
            whole_number("pixels"),
            "PIXELS",
            axis="image",
            by_profile=_in_profiles(
                lambda speed, accuracy: _speed_and_accuracy(speed.image_size_px, accuracy.image_size_px)
            ),
        ),
        Option(
            "sweep",
            "measure each case at several sizes: batch=8,16,... or image=96,128,...; batch=max: the largest that fits",
            Kind("AXIS=VALUES, such as batch=8,16", lambda where, given: parse_sweep(given, where)),
            "AXIS=VALUES",
            more="With batch=max each precision has its own largest batch.",
        ),
        Option(
            "jit",
            "compile steps with XLA; auto: as Keras has it, on a GPU only; both: side by side",
            one_of(*XLA),
            default="auto",
            more="With both, XLA's own speedup is shown too.",
        ),
        Option(
            "replicas",
            "share each step among N GPUs, each with a whole batch, and measure one alone beside them",
            whole_number("replicas"),
            "N",
            default="1",
            more="Shows scaling efficiency: [replicas.md](replicas.md).",
        ),
    ),
    "How long, and what besides": (
        Option(
            "tolerance",
            "stop when the 95 % interval of each speedup is within +-PERCENT",
            number("a percentage", divisor=100),
            "PERCENT",
            by_profile=_in_profiles(lambda speed, _: f"{100 * speed.tolerance:g}"),
        ),
        Option(
            "max-time",
            "stop measuring a group after this long and call it NOISY",
            number("a number of seconds"),
            "SECONDS",
            by_profile=_in_profiles(lambda speed, _: f"{speed.max_seconds:g}"),
            more="Warm-up may take half as long before it, and six rounds are measured whatever they take.",
        ),
        Option(
            "energy",
            "measure joules per image where the GPU counts them, 3.5 s for each arm",
            on_or_off(),
            default="on",
            free_on_resume=True,
        ),
        Option(
            "cache-compiled",
            "keep what XLA has compiled in the user's cache folder for the next run",
            on_or_off(),
            default="on",
            free_on_resume=True,
        ),
        Option(
            "profile-steps",
            "on a GPU, of how many steps a profile is taken after a case's rounds; 0 for none",
            whole_number("steps", least=0),
            "N",
            default=str(PROFILED_STEPS),
            free_on_resume=True,
        ),
        Option(
            "why",
            "find causes too: profiles on a CPU, the device's peaks, the input pipeline alone",
            more="See [why.md](why.md).",
            free_on_resume=True,
        ),
    ),
    "Images and the input pipeline": (
        Option(
            "data",
            "cats and dogs: generated (drawn here), download (Microsoft's archive), or a zip, a folder or one in a zip",
            text("generated, download, or the path of a zip or a folder"),
            "SOURCE",
            default="generated",
            more="For accuracy and the input pipeline; speed cases take random images.",
        ),
        Option(
            "workers",
            "threads of the input pipeline",
            whole_number("threads"),
            "THREADS",
            default=str(DEFAULT_WORKERS),
            more="The thesis had as many. See [pipeline.md](pipeline.md).",
        ),
        Option("cache", "where the input pipeline keeps decoded images", one_of(*CACHES), default=CACHES[0]),
    ),
    "Accuracy": (
        Option(
            "weights",
            "of the frozen base: imagenet, random, a file or a folder of files",
            text("imagenet, random, a file or a folder"),
            "SOURCE",
            by_profile=_in_profiles(lambda _, accuracy: accuracy.weights),
            more="Files in a folder are named after their models.",
        ),
        Option(
            "preprocessing",
            "how images are scaled: model, as its architecture's own, or thesis, by 1/255 for all",
            one_of("model", "thesis"),
            default="model",
        ),
        Option(
            "alpha",
            "McNemar's p must exceed P",
            number(below=1),
            "P",
            default="0.05",
            more="The level of the test of equivalence too: [accuracy.md](accuracy.md).",
        ),
        Option(
            "margin",
            "accuracies within +-POINTS percentage points count as equivalent",
            number("a number of percentage points", below=100, divisor=100),
            "POINTS",
            default="1",
        ),
        Option("require-equivalence", "accuracies not shown to be equivalent are a failure"),
    ),
    "The gate": (
        Option(
            "gate",
            "compare with the last saved runs and fail where one is slower for sure",
            more="Exit status 1 then: [gate.md](gate.md). In pyproject.toml `gate` is the table of its rules.",
            chief_only=True,
            not_in_pyproject="[tool.mpbench.gate], the table of its rules",
        ),
        Option(
            "gate-confirm",
            "measure what would be red again in N fresh processes; red is where they agree",
            whole_number("processes", least=0, most=MAX_CONFIRMING),
            "N",
            unless_given="2 on a GPU, 0 on a CPU",
            only_with="gate",
            chief_only=True,
        ),
        Option(
            "gate-missing",
            "what the gate does about a vanished case",
            one_of(*MISSING_CHOICES),
            unless_given=f"`missing` in [tool.mpbench.gate], else {MISSING_CHOICES[0]}",
            only_with="gate",
            chief_only=True,
            not_in_pyproject="`missing` in [tool.mpbench.gate]",
        ),
    ),
    "Files and sessions": (
        Option(
            "report",
            "write a page to look at: the answer, the figures, all raw numbers",
            text("a file"),
            "FILE.html",
            chief_only=True,
        ),
        Option(
            "summary",
            "write the tables, and the gate's verdict before them, as Markdown",
            text("a file"),
            "FILE",
            more="The outcome in a sentence, what is red or UNSURE, short tables; also after failures and Ctrl-C.",
            chief_only=True,
        ),
        Option(
            "resume",
            "go on with the last interrupted run in --benchmark-storage: measure only what it lacks",
            free_on_resume=True,
        ),
        Option(
            "lock",
            "what to do while another session measures on the same GPU, or machine",
            one_of(*MODES),
            default=MODES[0],
            free_on_resume=True,
        ),
    ),
}
"""All options, by what they are about."""

OPTIONS = tuple(option for section in SECTIONS.values() for option in section)

CHIEF_ONLY = tuple(option.dest for option in OPTIONS if option.chief_only)
"""Attributes in pytest's `config.option` that only the chief of several workers has."""


def add_options(parser: pytest.Parser) -> None:
    """Let pytest take the options; what is not typed is None until `fill_in`."""
    group = parser.getgroup("mpbench", "mpbench: float32 against mixed precision (docs/options.md)")
    for option in OPTIONS:
        default = f" ({option.default_in_words})" if option.default_in_words else ""
        how: dict[str, Any] = {"action": BooleanOptionalAction} if option.is_flag else {"metavar": option.metavar}
        group.addoption(option.typed, default=None, help=f"{option.help}{default}".replace("%", "%%"), **how)


def fill_in(typed: MutableMapping[str, Any], of_project: Mapping[str, str | bool]) -> None:
    """Give the options that were not typed what the project sets, else their defaults.

    What the project sets and cannot be had together with what was typed, a size and a sweep, is left out.

    Args:
        typed: pytest's `vars(config.option)`; changed in place.
        of_project: what pyproject.toml sets, as it would be typed, by `Option.dest`.
    """
    values = dict(of_project)
    for option in OPTIONS:
        if option.axis and typed.get(option.dest) is not None and _sweeps(values, option.axis):
            del values["mp_sweep"]
        if option.axis and _sweeps(typed, option.axis):
            values.pop(option.dest, None)
        if option.only_with and not typed.get(f"mp_{option.only_with}"):
            values.pop(option.dest, None)
    for option in OPTIONS:
        if typed.get(option.dest) is None:
            typed[option.dest] = values.get(option.dest, False if option.is_flag else option.default)


def _sweeps(values: Mapping[str, Any], axis: str) -> bool:
    return str(values.get("mp_sweep")).startswith(f"{axis}=")
