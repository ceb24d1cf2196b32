"""Where mpbench's training step and PyTorch's differ: forward pass, gradients and update of each, interleaved.

As peers.py, of which it takes the processes; the whole steps are measured beside their parts. Casts that autocast or
Keras makes are in the parts that make them.

    python results/peers/parts.py [-o FILE.json] [--models NAMES] [--max-seconds N] ...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from peers import DEFAULTS, measure_group
from table import busy_blocks, rows_of
from worker import PARTS, ArmSpec

from mpbench.config.model_names import DEFAULT_MODELS
from mpbench.engine.stopping import Plan
from mpbench.system import machine
from mpbench.text_table import render

WAYS = {"mpbench": ("no XLA", "XLA"), "torch": ("eager",)}
TOLERANCE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(DEFAULT_MODELS))
    parser.add_argument("--precisions", default="float32,mixed_bfloat16")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="time limit for the blocks of each model")
    parser.add_argument("--device", default="cpu", choices=("gpu", "cpu"))
    parser.add_argument("-o", "--output", type=Path, help="write the rounds as JSON")
    args = parser.parse_args()

    profile, _ = DEFAULTS[args.device]
    size = (profile.batch_size, profile.image_size_px, args.device)
    groups = []
    for model in args.models.split(","):
        specs = [
            ArmSpec(framework, way, model, "training", precision, *size, part)
            for framework, ways in WAYS.items()
            for way in ways[: 2 if args.device == "gpu" else 1]
            for precision in args.precisions.split(",")
            for part in ("", *PARTS)
        ]
        groups.append(measure_group(specs, Plan(args.max_seconds, TOLERANCE), lambda text: print(text, flush=True)))
    result = {
        "machine": machine.machine_facts(),
        "batch_size": profile.batch_size,
        "image_size_px": profile.image_size_px,
        "groups": groups,
    }
    if args.output:
        args.output.write_text(json.dumps(result) + "\n")
    for group in groups:
        print("\n" + "\n".join([group["model"], *render(_table(group))]))


def _table(group: dict[str, Any]) -> list[dict[str, str]]:
    """A row per framework, way and precision with the milliseconds of the step and of each part."""
    rows, _ = rows_of(group, busy_blocks(group["arms"]))
    table: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        key = row.configuration, row.precision
        cells = table.setdefault(key, {"": row.configuration, "precision": row.precision})
        cells[f"{row.part or 'step'}, ms"] = row.error or f"{1000 * row.seconds:.1f}"
    return list(table.values())


if __name__ == "__main__":
    main()
