"""scipy.special, loaded when a function of it is needed: the plugin is in every pytest run, and that takes 0.15 s."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from scipy import special

    return getattr(special, name)
