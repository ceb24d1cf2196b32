"""All that is to be measured on a GPU, in order of worth, into results/<device>/: one command.

Each part writes its files when it is complete. The same command again goes on with what is missing; pytest's parts go
on within themselves (`--mp-resume`). Delete a part's files to have it measured again. README.md and environment.txt are
made anew each time. Nothing in the files names the machine, its users or its folders (`environment.py`).

    python results/gpu/run.py [--budget MINUTES] [--only PARTS]      # on a machine with a GPU
    python results/gpu/run.py --device cpu --quick -o FOLDER         # the same path in minutes, to try it
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environment import ROOT, anonymous, anonymous_json, described
from page import written

from mpbench.config.model_names import DEFAULT_MODELS
from mpbench.system import machine

SPEED = ("bench/test_training.py", "bench/test_inference.py")
BAD_USAGE = 4
WORK = ".unfinished"
"""Folder of what is not complete yet, within the results."""

GRACE_SECONDS = 12
"""For a part to end by itself after the budget is over. What is killed then loses the group in progress at most."""

PARTIAL = ".partial.json"
"""Of what a part that was cut off has measured, until it is complete."""


@dataclass(frozen=True)
class Part:
    """One thing to measure.

    Attributes:
        name: of its files, NAME.json and NAME.txt.
        title: what it is, in the page.
        command: what is run after `python`; `{json}` stands for its file.
        then: run after it, `{json}` being the finished file; what it prints is NAME.txt. Without it, a session's
            sections mpbench and why are.
        ok: exit statuses after which it is complete: 1 is a session in which some cases failed and say why.
    """

    name: str
    title: str
    command: tuple[str, ...]
    then: tuple[str, ...] = ()
    ok: tuple[int, ...] = (0,)


def parts(device: str, quick: bool, models: Sequence[str]) -> list[Part]:
    """All parts in order of worth."""
    everything = (f"--mp-models={','.join(models)}",)
    common = [f"--mp-device={device}"]
    common += ["--mp-require-gpu"] if device == "gpu" else []
    common += ["--mp-profile=quick", "--mp-max-time=2"] if quick else ["--mp-profile=paper"]

    def session(name: str, title: str, files: Sequence[str], *options: str, then: tuple[str, ...] = ()) -> Part:
        return Part(name, title, ("-m", "pytest", *files, *common, *options), then, (0, 1))

    # A CPU's memory holds batches that take minutes a step.
    sweep = "--mp-sweep=batch=1,2" if quick and device == "cpu" else "--mp-sweep=batch=max"
    found = [
        session(model, f"{model}: float32 as the device has it, and mixed precision", SPEED, f"--mp-models={model}")
        for model in models
    ]
    found += [
        session(f"{model}-no-xla", f"{model} without XLA", SPEED, f"--mp-models={model}", "--mp-jit=off")
        for model in models
    ]
    found += [
        session(f"{model}-largest", f"{model}: each precision's largest batch", SPEED, f"--mp-models={model}", sweep)
        for model in models
    ]
    found += [
        session(
            "float32-no-xla",
            "Strict float32 without XLA, in a process of its own: NOT interleaved with tf32, whose times stand above "
            "(TensorFlow would use the first one's convolution algorithms for both)",
            SPEED,
            *everything,
            "--mp-precisions=float32",
            "--mp-jit=off",
        ),
        session(
            "bfloat16",
            "bfloat16 beside float16, with the noise floor",
            SPEED,
            *everything,
            "--mp-precisions=tf32,mixed_float16,mixed_bfloat16"
            if device == "gpu"
            else "--mp-precisions=float32,mixed_float16,mixed_bfloat16",
            "--mp-control",
        ),
        session(
            "why",
            "Where the steps go, the device's peaks, the input pipeline",
            ("bench/",),
            *everything,
            "--mp-why",
            then=("-m", "mpbench", "explain", "{json}"),
        ),
    ]
    for model in models:
        limits = ("--max-seconds", "3", "--precisions", "float32,mixed_bfloat16") if quick else ()
        script = ("results/peers/peers.py", "--device", device, "--models", model, *limits, "-o", "{json}")
        title = f"{model} beside PyTorch and Keras on JAX"
        found.append(Part(f"peers-{model}", title, script, ("results/peers/table.py", "{json}")))
    short = ("--seconds", "5") if quick else ()
    size = () if quick else ("--batch-size", "64", "--image-size", "224")
    if device == "gpu":
        script = ("results/telemetry/cost.py", *short, "-o", "{json}")
        found.append(Part("telemetry", "What reading the GPU costs", script))
    script = ("results/overhead/overhead.py", "--device", device, *short, *size, "-o", "{json}")
    found.append(Part("overhead", "What mpbench adds to a step", script))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="gpu", choices=("gpu", "cpu"))
    parser.add_argument("--quick", action="store_true", help="one model, small, a few seconds a group: to try it out")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="stop after this long; run again to go on")
    parser.add_argument("--only", metavar="PARTS", help="comma-separated names of parts, as the list at the start has")
    parser.add_argument("-o", "--output", type=Path, help="folder (results/<device>)")
    args = parser.parse_args()

    facts = machine.machine_facts()
    if args.device == "gpu" and facts["gpu"] is None:
        parser.error("--device gpu: NVML finds no GPU: valid is cpu, or a machine where nvidia-smi lists one")
    name = facts["gpu"] if args.device == "gpu" else "cpu"
    folder = (args.output or ROOT / "results" / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")).resolve()
    wanted = parts(args.device, args.quick, DEFAULT_MODELS[:1] if args.quick else DEFAULT_MODELS)
    print("parts:", ", ".join(part.name for part in wanted), flush=True)
    if args.only:
        chosen = args.only.split(",")
        if unknown := set(chosen) - {part.name for part in wanted}:
            parser.error(f"--only: {', '.join(sorted(unknown))}: valid are {', '.join(p.name for p in wanted)}")
        selected = [part for part in wanted if part.name in chosen]
    else:
        selected = wanted
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    (folder / "environment.txt").write_text(described())
    end = time.monotonic() + 60 * args.budget if args.budget else None
    for part in selected:
        print(f"== {part.name}: {_measured(part, folder, end)}", flush=True)
        (folder / "README.md").write_text(written(folder, [(p.name, p.title, _shown(p)) for p in wanted]))
    left = [part.name for part in wanted if not (folder / f"{part.name}.json").exists()]
    if not left:
        shutil.rmtree(folder / WORK)
    print(f"{folder}: {'all there' if not left else 'missing: ' + ', '.join(left)}", flush=True)


def _measured(part: Part, folder: Path, end: float | None) -> str:
    """Run one part unless its file is there; what became of it, in a line."""
    done = folder / f"{part.name}.json"
    if done.exists():
        return "is there"
    if end is not None and time.monotonic() > end:
        return "left out: the budget is over"
    script = part.command[0]
    if script.endswith(".py") and not (ROOT / script).exists():
        return f"left out: there is no {script}"
    draft, started = folder / WORK / done.name, time.monotonic()
    command = [word.replace("{json}", str(draft)) for word in part.command]
    if "pytest" in command:
        command += [f"--benchmark-json={draft}", f"--benchmark-storage={folder / WORK / part.name}", "--mp-resume"]
    log, storage = folder / WORK / f"{part.name}.log", folder / WORK / part.name
    status, output = _run(command, end, log)
    if status == BAD_USAGE and "was measured otherwise" in output:  # on another machine: what is there is kept apart
        _keep_partial(part, folder, storage)
        storage.rename(storage.with_name(f"{storage.name}-{int(time.time())}"))
        status, output = _run(command, end, log)
    seconds = time.monotonic() - started
    if status not in part.ok:
        _keep_partial(part, folder, storage)
        return f"not complete: exit status {status} after {seconds:.0f} s, see {folder / WORK / part.name}.log"
    if not draft.exists():
        return f"wrote no {draft.name}: see {folder / WORK / part.name}.log"
    shown = _sections(output) if "pytest" in command else output
    if part.then:
        status, shown = _run([word.replace("{json}", str(draft)) for word in part.then], None, None)
        if status:
            return f"measured, but {' '.join(part.then)} ended with exit status {status}: {shown.splitlines()[-1:]}"
    (folder / f"{part.name}.txt").write_text(anonymous(f"{shown.strip()}\n"))
    done.write_text(json.dumps(anonymous_json(json.loads(draft.read_text()))) + "\n")
    draft.unlink()
    (folder / f"{part.name}{PARTIAL}").unlink(missing_ok=True)
    with (folder / "elapsed.txt").open("a") as file:
        file.write(f"{part.name}: {seconds:.0f} s\n")
    return f"{seconds:.0f} s"


def _keep_partial(part: Part, folder: Path, storage: Path) -> None:
    """Make a saved run of what a part's journal holds, beside the complete ones; the journal stays, to go on with."""
    if not storage.is_dir():
        return
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(storage, copy, dirs_exist_ok=True)
        _run(["-m", "mpbench", "recover", "--storage", copy], None, None)
        if saved := sorted(path for path in Path(copy).rglob("*.json") if path.name[:4].isdigit()):
            content = anonymous_json(json.loads(saved[-1].read_text()))
            (folder / f"{part.name}{PARTIAL}").write_text(json.dumps(content) + "\n")


def _run(command: Sequence[str], end: float | None, log: Path | None) -> tuple[int, str]:
    """Run Python in the root; its exit status and what it printed, which is shown, and logged, as it comes.

    Past `end` it is interrupted as by Ctrl-C; exit status -2 or what it makes of that.
    """
    lines: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Started in a shell's background this process ignores SIGINT, which the child would inherit and never end by.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    timers = []
    if end is not None:
        left = max(end - time.monotonic(), 0)
        timers = [threading.Timer(left, process.send_signal, [signal.SIGINT])]
        timers.append(threading.Timer(left + GRACE_SECONDS, process.kill))
        for timer in timers:
            timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if log:
                print(line, end="", flush=True)
        status = process.wait()
    except KeyboardInterrupt:
        process.wait(GRACE_SECONDS)
        raise
    finally:
        for timer in timers:
            timer.cancel()
        if log:
            log.write_text("".join(lines))
    return status, "".join(lines)


def _sections(output: str) -> str:
    """The tables of a session's output: what stands under the headings mpbench and why."""
    kept, inside = [], False
    for line in output.splitlines():
        if heading := re.fullmatch(r"={3,} (.+?) ={3,}", line):
            inside = heading[1] in ("mpbench", "why")
        elif inside:
            kept.append(line)
    return "\n".join(kept)


def _shown(part: Part) -> str:
    """How a part is measured by hand, for the page."""
    return "python " + " ".join(part.command).replace("{json}", f"{part.name}.json")


if __name__ == "__main__":
    main()
