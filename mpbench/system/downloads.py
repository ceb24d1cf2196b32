"""Downloads: a time limit for whatever fetches a file from the network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """A limit for each answer of a server: Keras sets none, and would wait for a silent server for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
