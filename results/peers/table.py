"""The table of a run of peers.py, made from its JSON: `python results/peers/table.py FILE.json [FILE.json ...]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpbench.records.rounds import paired
from mpbench.stats.intervals import MIN_PAIRS, Interval, speedup_interval
from mpbench.text_table import render

PEAK = "matrix product"
OURS = "mpbench"
BASELINE = "float32"

QUIET = 0.05
"""Of all cores' time: a block in which other programs used more is left out on a CPU, for all arms alike. Threads that
meet at barriers (torch's) lose far more from them than those that take work from a queue (TensorFlow's, XLA's)."""


@dataclass(frozen=True)
class Row:
    """One arm as measured.

    Attributes:
        framework, way, precision: what it is.
        rounds: seconds per step.
        blocks: see `measure.Series`.
        flops: of one step; None where nobody counted.
        error: why it is no result; empty where it is one.
        part: of a step; empty for the whole.
    """

    framework: str
    way: str
    precision: str
    rounds: Sequence[float]
    blocks: Sequence[int]
    flops: float | None
    error: str
    part: str = ""

    @property
    def configuration(self) -> str:
        return f"{self.framework}, {self.way}"

    @property
    def seconds(self) -> float:
        return float(np.median(self.rounds))


def busy_blocks(arms: Sequence[Mapping[str, Any]]) -> set[int]:
    """Numbers of the blocks in which other programs used more than QUIET of the CPU, over all arms' rounds."""
    shares = [arm["others_cpu_share"] for arm in arms if not arm.get("error") and arm.get("others_cpu_share")]
    number = min(map(len, shares), default=0)
    known = [[one[block] for one in shares if one[block] is not None] for block in range(number)]
    return {block for block, of_block in enumerate(known) if of_block and float(np.mean(of_block)) > QUIET}


def rows_of(group: Mapping[str, Any], busy: Collection[int] = ()) -> tuple[list[Row], dict[str, Row]]:
    """The arms of a group without some blocks, with the FLOPs of its framework's model, and the peaks by precision."""
    counted = {arm["framework"]: arm["flops"] for arm in group["arms"] if arm.get("flops") and arm["way"] != PEAK}
    counted["jax"] = counted.get(OURS)  # the same Keras model
    rows = []
    for arm in group["arms"]:
        measured = zip(arm.get("blocks", []), arm.get("rounds_ms", []), strict=True)
        kept = [(block, ms) for block, ms in measured if block not in busy]
        rows.append(
            Row(
                arm["framework"],
                arm["way"],
                arm["precision"],
                [ms / 1000 for _, ms in kept],
                [block for block, _ in kept],
                arm.get("flops") if arm["way"] == PEAK else counted.get(arm["framework"]),
                arm.get("error", "") or ("" if kept else "no round without a skipped step"),
                arm.get("part", ""),
            )
        )
    peaks = {row.precision: row for row in rows if row.way == PEAK and not row.error}
    return [row for row in rows if row.way != PEAK], peaks


def ratio(slower: Row, faster: Row) -> Interval | None:
    """Time of one arm over that of another, from the blocks that both have; None where these are too few."""
    over, under = paired(slower, faster)
    return speedup_interval(over, under) if len(over) >= MIN_PAIRS else None


def share_of_peak(row: Row, peaks: Mapping[str, Row]) -> float | None:
    """FLOP/s of an arm over those of the matrix product in its precision."""
    peak = peaks.get(row.precision)
    if peak is None or not row.flops or not peak.flops:
        return None
    return (row.flops / row.seconds) / (peak.flops / peak.seconds)


def against_peers(rows: Sequence[Row], precision: str | None) -> tuple[Row, Row, Interval | None] | None:
    """mpbench's best configuration, the fastest peer, and the peer's time over mpbench's; None without a peer.

    Args:
        rows: of one group.
        precision: of both; None for the best of all precisions on either side.
    """
    measured = [row for row in rows if not row.error and precision in (None, row.precision)]
    ours = [row for row in measured if row.framework == OURS]
    peers = [row for row in measured if row.framework != OURS]
    if not ours or not peers:
        return None
    best, peer = (min(some, key=lambda row: row.seconds) for some in (ours, peers))
    return best, peer, ratio(peer, best)


def rendered(runs: Sequence[Mapping[str, Any]]) -> str:
    """The tables of some runs of one machine."""
    lines = []
    for run in runs:
        packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
        lines.append(f"{run['device_name']}, batch {run['batch_size']}, {run['image_size_px']} px; {packages}")
        lines += run["absent"].values()
        for group in run["groups"]:
            lines += ["", *_group(group, run["batch_size"], run["device"] == "cpu")]
    return "\n".join(line.rstrip() for line in lines)


def _group(group: Mapping[str, Any], batch_size: int, on_cpu: bool) -> list[str]:
    busy = busy_blocks(group["arms"])
    blocks = {block for arm in group["arms"] for block in arm.get("blocks", [])}
    too_busy = on_cpu and len(blocks - busy) < MIN_PAIRS
    left_out = busy if on_cpu and not too_busy else set()
    rows, peaks = rows_of(group, left_out)
    title = f"{group['model']}, {group['phase']}: {len(blocks - left_out)} blocks"
    if busy and on_cpu:
        title += f", {len(left_out)} left out" if left_out else ""
        title += f" (other programs used more than {100 * QUIET:.0f} % of the CPU in {len(busy)} of {len(blocks)})"
    table = []
    failed = []
    for row in rows:
        if row.error:
            failed.append(f"{row.configuration}, {row.precision}: {row.error}")
            continue
        base = next((r for r in rows if r.configuration == row.configuration and r.precision == BASELINE), None)
        against = ratio(base, row) if base is not None and base is not row and not base.error else None
        share = share_of_peak(row, peaks)
        table.append(
            {
                "": row.configuration,
                "precision": row.precision,
                "ms/step": f"{1000 * row.seconds:.2f}",
                "images/s": f"{batch_size / row.seconds:.1f}",
                "float32 / this [95 %]": _text(against),
                "% of peak FLOP/s": "" if share is None else f"{100 * share:.0f}",
            }
        )
    lines = [title, *render(table), *failed]
    if too_busy:
        # Which framework looks better then depends on how it takes being disturbed.
        lines.append("BUSY: no comparison with the peers: the machine was not quiet for long enough")
    for precision in [] if too_busy else [*dict.fromkeys(row.precision for row in rows), None]:
        compared = against_peers(rows, precision)
        if compared is None:
            continue
        best, peer, interval = compared
        names = [f"{row.configuration}{'' if precision else f', {row.precision}'}" for row in (peer, best)]
        lines.append(
            f"{precision or 'all precisions'}: fastest peer / mpbench: {_text(interval)} ({names[0]} / {names[1]})"
        )
    flops = {row.framework: row.flops for row in rows if row.flops}
    lines.append("FLOPs of a step: " + ", ".join(f"{name} {value / 1e9:.1f} G" for name, value in flops.items()))
    rates = [f"{name} {peak.flops / peak.seconds / 1e12:.2f} TFLOP/s" for name, peak in peaks.items() if peak.flops]
    lines.append(f"Peak: {', '.join(rates)}")
    idle = max(group["idle_cpu_share"].values(), default=0.0)
    lines.append(f"CPU used by a framework while another was measured: up to {100 * idle:.1f} % of a core")
    return lines


def _text(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    print(rendered([json.loads(Path(name).read_text()) for name in sys.argv[1:]]))
