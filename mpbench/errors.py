"""The ways in which a run says no: the user asked for something invalid, or one case failed; errors in one line."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path


class UsageProblem(ValueError):
    """An option that cannot be met: one line that names it, what was given and what is valid."""


class CaseFailure(Exception):
    """One case failed: one line that says why. The other cases go on."""


class NotBesideOthers(CaseFailure):
    """One case cannot be measured in the same process as those before it; by itself it can."""


def described(error: BaseException) -> str:
    """An exception in one line: its type and the beginning of its reason; Keras's texts go on for many lines."""
    # The text of a KeyError is quoted, newlines and all: Keras wraps one in the same type.
    wrapped = isinstance(error, KeyError) and error.args and _KERAS_CALL.match(str(error.args[0]))
    text = str(error.args[0]) if wrapped else str(error)
    return f"{type(error).__name__}: {next(iter(_without_preamble(text).strip().splitlines()), '')}"


_KERAS_CALL = re.compile(
    r"Exception encountered when calling .*?\n\n\x1b\[1m(.*?)(?:\x1b\[0m|\Z)"
    r"|Could not automatically infer the output shape .*? Error encountered:\s*(.*)",
    re.DOTALL,
)
"""What Keras wraps an error in that comes of a layer's call: the reason stands within, in bold, or at the end."""

_GRAPH_ERROR = re.compile(
    r"Graph execution error:\n|Detected at node .*\n| *File \".*\n|<stack traces unavailable>\n|\s*\n"
    r"|{{function_node .*?}} "
)
"""What TensorFlow begins an error with that comes of running a graph, piece by piece."""


def _without_preamble(text: str) -> str:
    while found := _KERAS_CALL.match(text.strip()):
        text = found[1] or found[2]
    while found := _GRAPH_ERROR.match(text):
        text = text[found.end() :]
    return text


def place_in_own_code(error: BaseException) -> str:
    """Where a user's code raised it, such as ` (models.py, line 12)`; nothing where no frame is a user's."""
    others = (str(Path(__file__).parent), *sysconfig.get_paths().values(), "<")
    own = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(others)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


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
