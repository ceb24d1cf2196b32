"""The run as Markdown for a pull request or a CI job's page: the gate's outcome first, then the tables.

Pure functions from records and verdicts to text. What comes from names stands in code blocks, where it is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpbench import tables
from mpbench.accuracy_tables import accuracy_summary
from mpbench.gate_tables import gate_lines, outcome
from mpbench.record import AccuracyRecord, Measured
from mpbench.verdict import Verdict


def markdown(cases: Sequence[Measured], compared: Sequence[AccuracyRecord], verdicts: Sequence[Verdict] | None) -> str:
    """The whole summary.

    Args:
        cases: speed cases of one run.
        compared: its accuracy comparisons.
        verdicts: the gate's; None where it was not asked.
    """
    parts = ["## mpbench" if verdicts is None else f"## mpbench: {outcome(verdicts)}"]
    if verdicts:
        parts.append(_block(gate_lines(verdicts)[1:]))
    if cases:
        parts += ["### Speed", _block(tables.summary(cases))]
    if compared:
        parts += ["### Accuracy", _block(accuracy_summary(compared))]
    if not cases and not compared:
        parts.append("Nothing was measured.")
    return "\n\n".join(parts) + "\n"


def _block(lines: Sequence[str]) -> str:
    text = "\n".join(lines).strip("\n")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
