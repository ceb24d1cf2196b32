"""What every download needs; the downloads themselves are Keras's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """A limit for each answer of a server: Keras sets none, and a silent server would be waited for for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
