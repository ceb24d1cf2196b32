"""What tracing one arm while another is compiled saves: the same arms built in both ways, each in a fresh process.

python results/building/building.py [-o FILE] [--model NAME] [--pairs N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

PRECISIONS = ("float32", "mixed_float16")
PHASES = ("training", "inference")
WAYS = ("one after the other", "overlapped")


def build_once(model: str, jit: bool, overlapped: bool) -> float:
    """Seconds to build, trace and start the arms of both phases in this process, TensorFlow's import apart."""
    from mpbench.config.precisions import PRECISIONS as KNOWN
    from mpbench.config.profiles import PROFILES
    from mpbench.engine import device as devices
    from mpbench.engine.building import build
    from mpbench.engine.plan import GroupPlan, Member, StepSpec

    device = devices.activate("auto", False)
    profile = PROFILES["quick"]

    def plan(phase: str) -> GroupPlan:
        def member(precision: str) -> Member:
            sizes = profile.batch_size, profile.image_size_px
            return Member(StepSpec(model, KNOWN[precision], phase, *sizes, jit=jit, device=device))

        members = {precision: member(precision) for precision in PRECISIONS}
        return GroupPlan(f"{model} {phase}", "", members, profile, overlapped=overlapped)

    began, kept = time.perf_counter(), []
    for phase in PHASES:
        steps, failed, _ = build(plan(phase), lambda mine: mine, lambda line: None)
        if failed:
            raise SystemExit(f"{phase}: {failed}")
        kept.append(steps)
    return time.perf_counter() - began


def child(model: str, jit: bool, way: str) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--model", model, "--once", way, *(["--xla"] if jit else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    parser.add_argument("--once", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--xla", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(build_once(args.model, args.xla, args.once == WAYS[1]))
        return
    found: dict[str, dict[str, list[float]]] = {}
    for jit in (True, False):
        setting = "XLA" if jit else "no XLA"
        seconds = found[setting] = {way: [] for way in WAYS}
        for pair in range(args.pairs):
            for way in WAYS if pair % 2 else WAYS[::-1]:
                seconds[way].append(round(child(args.model, jit, way), 1))
        ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
        print(
            f"{args.model}, {setting}: {seconds}; {WAYS[0]} / {WAYS[1]}: median {statistics.median(ratios):.2f}, "
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            flush=True,
        )
    if args.output:
        args.output.write_text(json.dumps({"model": args.model, "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
