"""Downloads: a file from the network, and a time limit for whatever else fetches one."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def fetch(url: str, target: Path, timeout_seconds: float, progress: Callable[[int], None]) -> None:
    """Write what a URL gives to a file.

    Args:
        timeout_seconds: of one answer of the server, not of the whole download.
        progress: takes the bytes that have come so far, for each block of them.

    Raises:
        OSError: it cannot be fetched, or breaks off.
    """
    with network_timeout(timeout_seconds):
        urllib.request.urlretrieve(url, target, lambda blocks, block_bytes, _: progress(blocks * block_bytes))


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """A limit for each answer of a server: Keras sets none, and a silent server would be waited for for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
