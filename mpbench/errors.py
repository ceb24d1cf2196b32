"""The ways in which a run says no: the user asked for something invalid, or one case failed; errors in one line."""

from __future__ import annotations


class UsageProblem(ValueError):
    """An option that cannot be met: one line that names it, what was given and what is valid."""


class CaseFailure(Exception):
    """One case failed: one line that says why. The other cases go on."""


class NotBesideOthers(CaseFailure):
    """One case cannot be measured in the same process as those before it; by itself it can."""


def described(error: BaseException) -> str:
    """An exception in one line: its type and the beginning of its text; Keras's go on for many lines."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def printable(text: str) -> str:
    """Text from outside, in one line: it must not steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def harmless(text: str) -> str:
    """Text from a file: what cannot be printed stands as its escape, such as `\\x1b`, so that two texts stay two; it
    neither steers a terminal nor breaks XML."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: Exception) -> str:
    """Why something could not be written, without its path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
