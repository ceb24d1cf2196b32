"""The options, as `pytest --help` lists them: each once, with its default and unit. `settings.py` checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpbench.config.model_names import DEFAULT_MODELS
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import DEFAULT_WORKERS
from mpbench.config.settings import CACHES, PROFILED_STEPS

if TYPE_CHECKING:
    import pytest

DATA_HELP = "cats and dogs: generated (drawn here), download (Microsoft's archive), or a zip, a folder or one in a zip"


def add_options(parser: pytest.Parser) -> None:
    add = parser.getgroup("mpbench", "mpbench: float32 against mixed precision").addoption
    models = ",".join(DEFAULT_MODELS)
    add(
        "--mp-models",
        metavar="NAMES",
        default=models,
        help=f"models, comma-separated: keras.applications by name, or your package.module:factory ({models})",
    )
    add(
        "--mp-precisions",
        metavar="NAMES",
        help=f"of {', '.join(PRECISIONS)} (float32,mixed_float16; tf32 too on a GPU that has it)",
    )
    add(
        "--mp-baseline",
        metavar="NAME",
        help="the precision that speedups refer to (tf32 where the GPU computes float32 so, else float32)",
    )
    add(
        "--mp-control",
        action="store_true",
        help="measure the baseline a second time in each group: its ratio to itself is the noise floor",
    )
    add("--mp-device", metavar="DEVICE", default="auto", help="auto, gpu or cpu (auto: a GPU if there is one)")
    add("--mp-require-gpu", action="store_true", help="a missing GPU is an error (exit status 4), not a CPU run")
    add(
        "--mp-profile",
        metavar="NAME",
        help="paper: batch 64, 224 px; quick: batch 2, 80 px (paper on a GPU, quick on a CPU)",
    )
    add("--mp-batch-size", metavar="IMAGES", help="images per step (the profile's)")
    add("--mp-image-size", metavar="PIXELS", help="height and width of an image (the profile's)")
    add(
        "--mp-jit",
        metavar="WHEN",
        default="auto",
        help="compile steps with XLA: on, off, both (side by side), or auto as Keras has it: on a GPU only (auto)",
    )
    add(
        "--mp-replicas",
        metavar="N",
        default="1",
        help="share each step among N GPUs, each with a whole batch, and measure one alone beside them (1)",
    )
    add(
        "--mp-sweep",
        metavar="AXIS=VALUES",
        help="measure each case at several sizes: batch=8,16,... or image=96,128,...; batch=max: the largest that fits",
    )
    add(
        "--mp-tolerance",
        metavar="PERCENT",
        help="stop when the 95 %% interval of each speedup is within +-PERCENT (1 in profile paper, 5 in quick)",
    )
    add(
        "--mp-max-time",
        metavar="SECONDS",
        help="stop measuring a group after this long and call it NOISY (60 in profile paper, 20 in quick)",
    )
    add(
        "--mp-workers",
        metavar="THREADS",
        default=str(DEFAULT_WORKERS),
        help=f"threads of the input pipeline ({DEFAULT_WORKERS})",
    )
    add(
        "--mp-cache",
        metavar="WHERE",
        default=CACHES[0],
        help=f"where the input pipeline keeps decoded images: {', '.join(CACHES)} ({CACHES[0]})",
    )
    add("--mp-data", metavar="SOURCE", default="generated", help=f"{DATA_HELP} (generated)")
    add(
        "--mp-weights",
        metavar="SOURCE",
        help="of the frozen base: imagenet, random, a file or a folder of files (paper: imagenet, quick: random)",
    )
    add(
        "--mp-preprocessing",
        metavar="WHOSE",
        default="model",
        help="how images are scaled: model, its architecture's own, or thesis, 1/255 for all (model)",
    )
    add("--mp-alpha", metavar="P", default="0.05", help="McNemar's p must exceed P (0.05)")
    add(
        "--mp-margin",
        metavar="POINTS",
        default="1",
        help="accuracies within +-POINTS percentage points count as equivalent (1)",
    )
    add("--mp-require-equivalence", action="store_true", help="accuracies not shown to be equivalent are a failure")
    add(
        "--mp-profile-steps",
        metavar="N",
        default=str(PROFILED_STEPS),
        help=f"on a GPU, of how many steps a profile is taken after a case's rounds; 0 for none ({PROFILED_STEPS})",
    )
    add(
        "--mp-energy",
        metavar="WHEN",
        default="on",
        help="on or off: joules per image where the GPU counts them, 3.5 s for each arm (on)",
    )
    add(
        "--mp-cache-compiled",
        metavar="WHEN",
        default="on",
        help="on or off: keep what XLA has compiled in the user's cache folder for the next run (on)",
    )
    add(
        "--mp-why",
        action="store_true",
        help="find causes too: profiles on a CPU, the device's peaks, the input pipeline alone",
    )
    add("--mp-gate", action="store_true", help="compare with the last saved runs and fail where one is slower for sure")
    add("--mp-gate-missing", metavar="WHAT", help="report or fail: what the gate does about a vanished case (report)")
    add(
        "--mp-gate-confirm",
        metavar="N",
        help="measure what would be red again in N fresh processes; red is where they agree (2 on a GPU, 0 on a CPU)",
    )
    add(
        "--mp-lock",
        metavar="WHAT",
        default="wait",
        help="wait, fail or off: what to do while another session measures on the same GPU, or machine (wait)",
    )
    add("--mp-report", metavar="FILE.html", help="write a page to look at: the answer, the figures, all raw numbers")
    add("--mp-summary", metavar="FILE", help="write the tables, and the gate's verdict before them, as Markdown")
    add(
        "--mp-resume",
        action="store_true",
        help="go on with the last interrupted run in --benchmark-storage: measure only what it lacks",
    )
