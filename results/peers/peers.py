"""mpbench's steps beside PyTorch's and Keras on JAX's: the same architectures, batch and precisions in one run.

Each framework has a process of its own, new for each model and phase, so that its memory is free before the next; the
parent tells one process at a time to run a round, the rounds of all arms in blocks in random order (interleave.py).
A framework that is not installed is left out, with a line that says what to install (requirements.txt has all).

    python results/peers/peers.py [-o FILE.json] [--models NAMES] [--precisions NAMES] [--max-seconds N] ...
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from table import rendered
from worker import PEAK, ArmSpec, serve

from mpbench.config.model_names import DEFAULT_MODELS
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import PROFILES
from mpbench.config.settings import check_image_size
from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan, Series
from mpbench.system import machine
from mpbench.system.device import DEVICES

WAYS = {"mpbench": ("no XLA", "XLA"), "torch": ("eager", "compiled"), "jax": ("XLA",)}
NEEDED = {"mpbench": ("tensorflow",), "torch": ("torch", "torchvision", "timm"), "jax": ("jax", "jaxlib")}
PACKAGES = (
    *("tensorflow", "keras", "torch", "torchvision", "timm", "triton", "jax", "jaxlib", "numpy"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)
DEFAULTS = {
    "gpu": (PROFILES["paper"], ("float32", "tf32", "mixed_float16", "mixed_bfloat16")),
    "cpu": (PROFILES["quick"], ("float32", "mixed_bfloat16")),
}
VALID_PRECISIONS = tuple(name for name in PRECISIONS if name != "float16")
PHASES = ("training", "inference")
TOLERANCE = 0.01


class LostWorker(Exception):
    """A process ended by itself."""


class RemoteError(Exception):
    """What a process said of an arm that failed."""


class Worker:
    """A framework's process, as the parent sees it."""

    def __init__(self, framework: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, framework), daemon=True)
        self._process.start()
        theirs.close()
        self.lost = False

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            self._connection.send((method, arguments))
            worked, answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            self.lost = True
            raise LostWorker(f"its process ended (exit code {self._process.exitcode}): out of memory?") from None
        if not worked:
            raise RemoteError(answer)
        return answer

    def stop(self) -> None:
        self._connection.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class WorkersClock:
    """The time as the workers measured it: of a round, what its process says; of all else, this process's clock.

    So the way through the pipe, some 0.1 ms, is in no figure.
    """

    def __init__(self) -> None:
        self._left_out = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._left_out

    def run(self, round_seconds: Callable[[], float]) -> None:
        """Let a worker run a round; this clock then has gone on by the seconds that it returns."""
        start = time.perf_counter()
        seconds = round_seconds()
        self._left_out += time.perf_counter() - start - seconds


class Watched:
    """An arm in another process, and how busy the machine was with anything else while its rounds ran.

    Attributes:
        shares: for each round, warm-up included, of all cores' time what neither its process nor this one used; None
            where nothing says.
    """

    def __init__(self, name: str, worker: Worker, clock: WorkersClock) -> None:
        self.shares: list[float | None] = []
        self._name, self._worker, self._clock = name, worker, clock
        self._before: tuple[float, float] | None = None

    def arm(self) -> Arm:
        return Arm(self._name, self._run, self._skipped_steps, before=self._begin, after=self._end)

    def _run(self, steps: int) -> None:
        self._clock.run(lambda: float(self._worker.call("run", self._name, steps)))

    def _skipped_steps(self) -> int:
        return int(self._worker.call("skipped_steps", self._name))

    def _begin(self) -> None:
        others = machine.others_cpu_seconds()
        used = self._worker.call("cpu_seconds")
        self._before = None if others is None else (others - used, time.monotonic())

    def _end(self) -> None:
        used, others = self._worker.call("cpu_seconds"), machine.others_cpu_seconds()
        if self._before is None or others is None:
            self.shares.append(None)
            return
        all_cores = (time.monotonic() - self._before[1]) * (os.cpu_count() or 1)
        self.shares.append(round(max(others - used - self._before[0], 0.0) / all_cores, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(DEFAULT_MODELS), help="of the default's, comma-separated")
    parser.add_argument("--precisions", help=f"of {', '.join(VALID_PRECISIONS)}")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--max-seconds", type=float, help="time limit for the blocks of each model and phase")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("-o", "--output", type=Path, help="write the rounds as JSON, after each model and phase")
    args = parser.parse_args()

    facts = machine.machine_facts()
    device = args.device if args.device != "auto" else ("gpu" if facts["gpu"] else "cpu")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # NVML's: else the frameworks may pick different cards
    if device == "cpu":
        os.environ.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    profile, precisions = DEFAULTS[device]
    models = args.models.split(",")
    precisions = tuple(args.precisions.split(",")) if args.precisions else precisions
    for option, given, valid in (("--models", models, DEFAULT_MODELS), ("--precisions", precisions, VALID_PRECISIONS)):
        if unknown := set(given) - set(valid):
            parser.error(f"{option}: {', '.join(sorted(unknown))}: valid are {', '.join(valid)}")
    size = args.image_size or profile.image_size_px
    check_image_size(models, size, "--image-size")
    plan = Plan(args.max_seconds or profile.max_seconds, TOLERANCE)
    result: dict[str, Any] = {
        "device": device,
        "device_name": facts["gpu"] if device == "gpu" else "CPU",
        "machine": {**facts, **_processor()},
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "batch_size": args.batch_size or profile.batch_size,
        "image_size_px": size,
        "max_seconds": plan.max_seconds,
        "absent": _absent(),
        "groups": [],
    }
    for line in result["absent"].values():
        print(line, flush=True)
    for model in models:
        for phase in PHASES:
            specs = [
                ArmSpec(framework, way, model, phase, precision, result["batch_size"], size, device)
                for framework, ways in WAYS.items()
                if framework not in result["absent"]
                for way in (*ways, PEAK) if framework == "mpbench" or way != PEAK
                for precision in precisions
            ]  # fmt: skip
            result["groups"].append(measure_group(specs, plan, lambda text: print(text, flush=True)))
            if args.output:
                args.output.write_text(json.dumps(result) + "\n")
    print(rendered([result]))


def measure_group(specs: list[ArmSpec], plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    """Build the arms of one model and phase in new processes, measure them interleaved, check them."""
    workers: dict[str, Worker] = {}
    host: dict[str, Worker] = {}
    rows: dict[str, dict[str, Any]] = {}
    clock = WorkersClock()
    label = f"{specs[0].model} {specs[0].phase}"
    try:
        for spec in specs:
            started = time.perf_counter()
            rows[spec.name] = {field: getattr(spec, field) for field in ("framework", "way", "precision", "part")}
            process = _process_of(spec)
            if process not in workers or workers[process].lost:
                workers[process] = Worker(spec.framework)
            host[spec.name] = workers[process]
            try:
                rows[spec.name].update(host[spec.name].call("build", spec))
            except (RemoteError, LostWorker) as error:
                rows[spec.name]["error"] = str(error)
            said = rows[spec.name].get("error", "built")
            progress(f"{label}: {spec.name}: {said}, {time.perf_counter() - started:.0f} s")
        for name, worker in host.items():
            if worker.lost and "error" not in rows[name]:
                rows[name]["error"] = "its process ended while another of its arms was built"
        watched = {name: Watched(name, host[name], clock) for name in rows if "error" not in rows[name]}
        for worker in workers.values():
            if not worker.lost:
                worker.call("begin")
        arms = [one.arm() for one in watched.values()]
        series = measure(arms, plan, clock=clock, baseline=next(iter(watched), None), progress=progress)
        for name, one in series.items():
            rows[name].update(_rounds(one), others_cpu_share=watched[name].shares[one.warmup_rounds :])
            if "error" not in rows[name]:
                try:
                    host[name].call("check", name)
                except (RemoteError, LostWorker) as error:
                    rows[name]["error"] = str(error)
        idle = {name: worker.call("idle_cpu_share") for name, worker in workers.items() if not worker.lost}
    finally:
        for worker in host.values():
            worker.stop()
    return {
        "model": specs[0].model,
        "phase": specs[0].phase,
        "idle_cpu_share": idle,
        "arms": list(rows.values()),
    }


def _process_of(spec: ArmSpec) -> str:
    """TensorFlow without XLA cannot tell tf32 from float32 in one process (`device.check_tf32_is_apart`)."""
    apart = spec.framework == "mpbench" and spec.way == "no XLA" and spec.precision == "tf32"
    return "mpbench tf32" if apart else spec.framework


def _rounds(one: Series) -> dict[str, Any]:
    kept = {
        "rounds_ms": [round(1000 * seconds, 4) for seconds in one.rounds],
        "blocks": one.blocks,
        "steps_per_round": one.steps_per_round,
        "warmup_rounds": one.warmup_rounds,
        "settled": one.settled,
        "skipped_steps": one.skipped_steps,
    }
    return kept if one.error is None else {**kept, "error": str(one.error)}


def _absent() -> dict[str, str]:
    """Frameworks that cannot be measured, each with a line that says what to install."""
    lacking = {
        framework: [name for name in packages if importlib.util.find_spec(name) is None]
        for framework, packages in NEEDED.items()
    }
    return {
        framework: f"{framework} is left out: pip install {' '.join(names)} (see results/peers/requirements.txt)"
        for framework, names in lacking.items()
        if names
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = None
    return {"processor": name, "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
