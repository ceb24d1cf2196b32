"""What reaches a terminal: each line harmless and of bounded length, whatever file its text came from, and written in a
manner that changes no exit status.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO

from mpbench.errors import UsageProblem, printable, reason

MAX_LINE_CHARACTERS = 2000
CUT = "... (cut)"

PROGRESS_S = 5.0
Progress = Callable[[str], None]
"""Shows one line at once."""


def terminal_line(text: str) -> str:
    """Text in one line that steers no terminal and is no longer than MAX_LINE_CHARACTERS."""
    line = printable(text)
    return line if len(line) <= MAX_LINE_CHARACTERS else line[: MAX_LINE_CHARACTERS - len(CUT)] + CUT


def show(lines: Iterable[str]) -> None:
    """Print lines on standard output; raises as `_write`."""
    _write(sys.stdout, "".join(f"{terminal_line(line)}\n" for line in lines))


def show_data(text: str) -> None:
    """Print what a program reads, such as JSON, as it is; raises as `_write`."""
    _write(sys.stdout, f"{text}\n")


def warn(line: str) -> None:
    """Print one line on standard error, where that is possible."""
    with suppress(UsageProblem):  # there is no third place to say it in
        _write(sys.stderr, f"{terminal_line(line)}\n")


def throttled(progress: Progress) -> Progress:
    """The same, called once in PROGRESS_S seconds at most: what is done sooner shows nothing."""
    last = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_S:
            last = time.monotonic()
            progress(text)

    return say


def _write(stream: TextIO | None, text: str) -> None:
    """Write at once; a reader who has seen enough and gone is no error, and what follows is dropped.

    Raises:
        UsageProblem: it cannot be written to, as on a full disk.
    """
    if stream is None:  # closed by whoever started this process
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # What is left in its buffer goes nowhere, or Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageProblem(f"{stream.name}: {reason(error)}: use a place that can be written to") from None
