"""Traces for tests: real ones, reduced, and made ones with planted values."""

import lzma
from pathlib import Path

from mpbench.why.reading.planes import Plane, message_class

DATA = Path(__file__).parents[1] / "why" / "data"


def unpacked(name, folder):
    """The file of a reduced trace."""
    path = folder / f"{name}.xplane.pb"
    path.write_bytes(lzma.decompress((DATA / f"{name}.xplane.pb.xz").read_bytes()))
    return path


LEVELS = {2: "host_tracer_level", 3: "device_tracer_level", 4: "python_tracer_level"}
"""Numbers of the fields in profiler_options.proto."""


def levels(path):
    """That the profiler was run with, as the trace says itself; read by hand, as its class is elsewhere in each
    version."""
    space = message_class().FromString(path.read_bytes())
    found = {}
    for plane in map(Plane, space.planes):
        serialised = plane.stats(plane.plane.stats).get("profile_options", b"")
        pairs = zip(serialised[::2], serialised[1::2], strict=False)
        for key, value in pairs:
            if key & 7:  # one-byte fields come first
                break
            if key >> 3 in LEVELS:
                found[LEVELS[key >> 3]] = value
    return found


class Made:
    """A trace in the making."""

    def __init__(self):
        self.space = message_class()()

    def plane(self, name, **stats):
        plane = self.space.planes.add(name=name)
        for key, value in stats.items():
            self._stat(plane, plane.stats.add(), key, value)
        return plane

    def line(self, plane, name, events, at_ns=0):
        """Events are (name, start in ns, length in ns, stats)."""
        line = plane.lines.add(name=name, timestamp_ns=at_ns)
        for event_name, start, length, stats in events:
            number = len(plane.event_metadata) + 1
            plane.event_metadata[number].id = number
            plane.event_metadata[number].name = event_name
            event = line.events.add(metadata_id=number, offset_ps=1000 * start, duration_ps=1000 * length)
            for key, value in stats.items():
                self._stat(plane, event.stats.add(), key, value)
        return line

    def gpu(self, events, number=0, stream=1, **facts):
        """A GPU with one stream; events are (kernel, operation, start in ns, length in ns)."""
        plane = self.plane(f"/device:GPU:{number}", **facts)
        self.line(
            plane, f"Stream #{stream}(Compute)", [(k, s, d, {"tf_op": op} if op else {}) for k, op, s, d in events]
        )
        return plane

    def cpu(self, threads):
        """Threads of operations (`path:Type`, start in ns, length in ns)."""
        plane = self.plane("/host:CPU")
        for number, operations in enumerate(threads):
            self.line(plane, f"tf_Compute/{number}", [(op, s, d, {}) for op, s, d in operations])
        return plane

    def file(self, folder):
        path = folder / "made.xplane.pb"
        path.write_bytes(self.space.SerializeToString())
        return path

    @staticmethod
    def _stat(plane, stat, key, value):
        """Text is interned, as the profiler of a GPU does it."""

        def interned(text):
            for number, metadata in plane.stat_metadata.items():
                if metadata.name == text:
                    return number
            number = len(plane.stat_metadata) + 1
            plane.stat_metadata[number].id = number
            plane.stat_metadata[number].name = text
            return number

        stat.metadata_id = interned(key)
        if isinstance(value, str):
            stat.ref_value = interned(value)
        elif isinstance(value, bytes):
            stat.bytes_value = value
        else:
            stat.int64_value = value
