"""A profiler's file as protobuf: its class, planes with their names resolved, and the programs of XLA in it.

What belongs here: what depends on protobuf and on where TensorFlow keeps its classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mpbench.why.reading.hlo import Instruction, instructions

_PATH = "tensorflow.tsl.profiler.protobuf.xplane_pb2"


def message_class() -> Any:
    """The class of a whole trace. Only its module is loaded: importing TensorFlow takes seconds."""
    for folder in sys.path:
        file = Path(folder, *_PATH.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location("mpbench_xplane_pb2", file) if file.is_file() else None
        if spec and spec.loader:
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
                return module.XSpace
            except (ImportError, AttributeError, TypeError):
                break  # it has come to import others of TensorFlow's
    return importlib.import_module(_PATH).XSpace


class Plane:
    """A plane with its names resolved."""

    def __init__(self, plane: Any) -> None:
        self.plane = plane
        self.name: str = plane.name
        self.stat_names = {number: stat.name for number, stat in plane.stat_metadata.items()}
        self.event_names = {number: event.name for number, event in plane.event_metadata.items()}

    def lines(self) -> Iterator[Any]:
        return iter(self.plane.lines)

    def value(self, stat: Any) -> Any:
        """A stat's value; a reference stands for a name of the plane."""
        kind = stat.WhichOneof("value")
        if kind is None:
            return None
        value = getattr(stat, kind)
        return self.stat_names.get(value, "") if kind == "ref_value" else value

    def stats(self, stats: Iterable[Any]) -> dict[str, Any]:
        return {self.stat_names.get(stat.metadata_id, ""): self.value(stat) for stat in stats}

    def facts(self) -> dict[str, Any]:
        """The device's properties."""
        facts = self.stats(self.plane.stats)
        return {key: int(v) if isinstance(v, str) and v.isdecimal() else v for key, v in facts.items()}


class Modules:
    """XLA's programs in a trace, read when they are needed: it holds all that the process has compiled."""

    def __init__(self, planes: Iterable[Plane]) -> None:
        self._protos: dict[str, bytes] = {}
        self._read: dict[str, dict[str, Instruction]] = {}
        for plane in planes:
            for event in plane.plane.event_metadata.values() if plane.name == "/host:metadata" else ():
                for stat in event.stats:
                    if isinstance(proto := plane.value(stat), bytes):
                        self._protos[event.name] = proto
                        self._protos.setdefault(event.name.rpartition("(")[0], proto)

    def instruction(self, module: str, name: str) -> Instruction | None:
        if module not in self._read:
            proto = self._protos.get(module) or self._protos.get(module.rpartition("(")[0], b"")
            try:
                self._read[module] = instructions(proto)
            except Exception:  # protobuf's own; the kernels are then unattributed, which the table shows
                self._read[module] = {}
        return self._read[module].get(name)
