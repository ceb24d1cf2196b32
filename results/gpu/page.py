"""README.md of a device's results, made from its files: first the speedups beside the thesis's, then each part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mpbench.records.arms import Arms
from mpbench.records.runs import SavedRun, UnreadableRun, read_run
from mpbench.report import thesis
from mpbench.stats.intervals import Interval

BASELINE, MIXED = "float32", "mixed_float16"
DIGITS = 2
"""Of the thesis's speedups, as it prints them."""


def written(folder: Path, parts: Iterable[tuple[str, str, str]]) -> str:
    """The page.

    Args:
        folder: with the parts' files.
        parts: name, title and command of each.
    """
    lines = _opening(folder / "matrix.json")
    if (elapsed := folder / "elapsed.txt").exists():
        lines += ["", f"Measured in: {', '.join(elapsed.read_text().splitlines())}."]
    lines += ["", "What it ran on: [environment.txt](environment.txt). Raw rounds: the JSON files."]
    for name, title, command in parts:
        lines += ["", f"## {title}", "", f"    {command}"]
        text = folder / f"{name}.txt"
        if text.exists():
            lines += ["", f"[{name}.json]({name}.json), [{name}.txt]({name}.txt):", "", "```text"]
            lines += [*text.read_text().rstrip().splitlines(), "```"]
        else:
            lines += ["", "Not measured yet."]
    return "\n".join(lines) + "\n"


def _opening(file: Path) -> list[str]:
    try:
        run = read_run(file)
    except UnreadableRun:
        return ["# Results", "", "The matrix of models and precisions has not been measured yet."]
    one = next(iter(run.speed.values())).record
    device = run.facts.get("gpu") if one.device == "gpu" else "CPU"
    lines = [f"# {device}", "", *_speedups(run)]
    if one.device == "cpu":
        lines += ["", "A CPU's figures say nothing about GPUs: they show that the script works."]
    return lines


def _speedups(run: SavedRun) -> list[str]:
    """A row per model, phase and way: float32 against mixed_float16, and what the thesis had."""
    one, arms = next(iter(run.speed.values())).record, Arms(run.speed.values())
    lines = [
        f"Batch {one.batch_size}, {one.image_size}x{one.image_size} px, {BASELINE} with TF32 off; median ms/step and "
        f"paired speedup with its 95 % interval. Thesis: {thesis.DEVICE}.",
        "",
        f"| phase | model | XLA | {BASELINE}, ms | {MIXED}, ms | speedup [95 %] | thesis | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    arms = Arms(run.speed.values())
    for case in run.speed.values():
        r = case.record
        was = thesis.MS_PER_STEP.get((r.model, r.phase))
        base = arms.baseline_of(case)
        if r.precision != MIXED or r.interval is None or r.control or base is None or was is None:
            continue
        figures = [f"{1000 * base.median_seconds:.2f}", f"{1000 * case.median_seconds:.2f}"]
        speedup = f"{r.interval.estimate:.3f} [{r.interval.low:.3f}, {r.interval.high:.3f}]"
        marks = "".join(f" {word}" for word, true in (("NOISY", r.noisy), ("THROTTLED", r.throttled)) if true)
        then = was[0] / was[1]
        cells = [r.phase, r.model, "on" if r.jit else "off", *figures, speedup + marks, f"{then:.{DIGITS}f}"]
        lines.append(f"| {' | '.join([*cells, reached(r.interval, then)])} |")
    return lines


def reached(speedup: Interval, then: float) -> str:
    """Whether a speedup is at least the thesis's, as far as its interval tells."""
    if speedup.low >= then:
        return "yes"
    return "no" if speedup.high < then else "as far as the interval tells"
