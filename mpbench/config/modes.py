"""Modes to run one precision that a group measures side by side: with XLA and without, on one replica and on several.

Pure: labels, as they stand in case ids and records, and what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass

XLA = {"auto": None, "on": True, "off": False, "both": None}
"""What `--mp-jit` takes: XLA on, off, or (None) as Keras has it; with `both`, each mode says it."""


@dataclass(frozen=True)
class Mode:
    """One mode.

    Attributes:
        label: in case ids and records, such as `jit=on`; empty for the only one of a run.
        jit: XLA on, off, or (None) as Keras has it.
        replicas: how many share the work of a step.
    """

    label: str
    jit: bool | None
    replicas: int = 1


def modes(jit: str, replicas: int) -> tuple[Mode, ...]:
    """The modes of a run, the first being the one that the others refer to.

    Args:
        jit: as `--mp-jit` has it; `both` with one replica only.
        replicas: how many; a single one is measured beside several, to tell how they scale.
    """
    if jit == "both":
        return Mode("jit=off", False), Mode("jit=on", True)
    if replicas > 1:
        # Keras's own rule for "auto", for the single one beside them too: its steps must be the same.
        return Mode("replicas=1", False), Mode(f"replicas={replicas}", False, replicas)
    return (Mode("", XLA[jit]),)
