"""A trace of TensorFlow's profiler: which kernels and operations ran, and for how long.

What belongs here: reading `*.xplane.pb` with the protobuf class that TensorFlow ships, and dividing the time among what
ran at once. Times are whole picoseconds, as in the file, so that sums are exact.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mpbench.errors import printable
from mpbench.why.reading.hlo import Instruction
from mpbench.why.reading.planes import Modules, Plane, message_class

FIRST_TENSOR_CORES = (7, 0)
"""The first compute capability with tensor cores."""

_CONTAINERS = re.compile(r"(?:Stateless|Stateful)?(?:If|Case|While|PartitionedCall)|SymbolicGradient|For|__\w*")
"""Operations that only run others, which are in the trace themselves."""

_HOST_OPERATION = re.compile(r"[^:\s][^:]*:(?P<type>_?[A-Za-z]\w*)")
"""As TensorFlow's executor names an operation's run: `path:Type`; a function's own begins with `__`."""

_NO_WORK = frozenset(("_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "NoOp", "Const"))

Key = TypeVar("Key", bound=Hashable)


class UnreadableTrace(ValueError):
    """A trace that cannot be read; one line that says why."""


@dataclass(frozen=True)
class KernelWork:
    """All runs of one kernel for one operation.

    Attributes:
        kernel: name of the kernel or copy; on a CPU of the operation's type, or of XLA's instruction.
        op: `path:Type` of the TensorFlow operation, the type empty where only XLA says which; empty where nothing does.
        instruction: of XLA, that it was launched for; None without XLA.
        ps: in all; where several ran at once each has an equal part of the time.
        count: how often it ran.
    """

    kernel: str
    op: str
    instruction: Instruction | None
    ps: int
    count: int


@dataclass(frozen=True)
class Trace:
    """What a file holds.

    Attributes:
        on_device: whether the times are of a GPU's kernels, else of the host's operations.
        work: of all GPUs.
        devices: GPUs that did any; 1 for a CPU.
        span_ps: from the first start to the last end; of several GPUs the longest.
        device_name: empty where it does not say.
        tensor_cores: whether the GPU has any; None where nothing says.
        compiled: whether XLA compiled any of it.
    """

    on_device: bool
    work: tuple[KernelWork, ...]
    devices: int
    span_ps: int
    device_name: str = ""
    tensor_cores: bool | None = None
    compiled: bool = False


def read_trace(path: Path, expect_gpu: bool = False) -> Trace:
    """Read one file.

    Args:
        expect_gpu: raise where it has no kernel of a GPU, instead of reading the host's operations.

    Raises:
        UnreadableTrace: there is no such file, it is not a trace, nothing ran in it, or events were lost.
    """
    name = printable(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableTrace(f"{name}: {error.strerror or 'cannot be read'}") from None
    if not content:
        raise UnreadableTrace(f"{name}: empty")
    try:
        space = message_class().FromString(content)
    except ImportError:
        raise UnreadableTrace(f"{name}: to read a trace takes TensorFlow, which is not installed") from None
    except Exception:  # protobuf's own, whose class depends on its version
        raise UnreadableTrace(f"{name}: no trace of TensorFlow's profiler (*.xplane.pb), or cut off") from None
    try:
        return _of_space(space, expect_gpu)
    except UnreadableTrace as problem:
        raise UnreadableTrace(f"{name}: {problem}") from None


def _of_space(space: Any, expect_gpu: bool) -> Trace:
    planes = [Plane(plane) for plane in space.planes]
    faults = [one.strip() for one in (*space.errors, *space.warnings) if one.strip()]
    if lost := [one for one in faults if "dropped" in one]:
        raise UnreadableTrace(f"the profiler lost events: {printable(lost[0])[:300]}")
    modules = Modules(planes)
    gpus = [plane for plane in planes if plane.name.startswith("/device:GPU:")]
    streams = [kernels for plane in gpus if (kernels := list(_kernels(plane)))]
    if streams:
        work: Counter[_Key] = Counter()
        counts: Counter[_Key] = Counter()
        for kernels in streams:
            counts.update(key for key, _, _ in kernels)
            work.update(shared_ps([(start, end, key) for key, start, end in kernels]))
        facts = gpus[0].facts()
        capability = facts.get("compute_cap_major"), facts.get("compute_cap_minor")
        known = isinstance(capability[0], int) and isinstance(capability[1], int)
        return Trace(
            on_device=True,
            work=_works(work, counts, modules),
            devices=len(streams),
            span_ps=max(_span(kernels) for kernels in streams),
            device_name=printable(str(facts.get("gpu_device_name", "")))[:100],
            tensor_cores=capability >= FIRST_TENSOR_CORES if known else None,
            compiled=any(key[2] for key in work),
        )
    reason = f" ({printable(faults[0])[:300]})" if faults else ""
    if gpus or expect_gpu:
        raise UnreadableTrace(
            f"no kernel of a GPU{reason}: CUPTI, which traces them, is missing, or the driver forbids it to users"
        )
    threads = [
        operations
        for plane in planes
        if plane.name.startswith("/host:CPU")
        for line in plane.lines()
        if (operations := list(_operations(plane, line, modules)))
    ]
    if not threads:
        others = sorted({plane.name for plane in planes if plane.name.startswith("/device:")})
        of_others = f", only {printable(', '.join(others))[:100]}" if others else ""
        raise UnreadableTrace(f"neither kernels of a GPU nor operations of TensorFlow on a CPU{of_others}{reason}")
    pieces = [piece for operations in threads for piece in _own_pieces(operations)]
    counts = Counter(key for operations in threads for key, _, _ in operations)
    return Trace(
        on_device=False,
        work=_works(shared_ps(pieces), counts, modules),
        devices=1,
        span_ps=_span([one for operations in threads for one in operations]),
        compiled=any(key[2] for key in counts),
    )


_Key = tuple[str, str, "tuple[str, str] | None"]
"""Kernel, operation, and XLA's module and instruction."""

_Event = tuple[_Key, int, int]
"""Key, start and end in picoseconds."""


def _compiled(stats: dict[str, Any]) -> tuple[str, str] | None:
    """Module and instruction of XLA that an event ran for."""
    name = stats.get("hlo_op")
    if not isinstance(name, str) or not name:
        return None
    module = str(stats.get("hlo_module", ""))
    return (f"{module}({stats['program_id']})" if "program_id" in stats else module), name


def _kernels(plane: Plane) -> Iterator[_Event]:
    """What ran on a GPU. Other lines than streams repeat their events in groups.

    A memset without an operation is what a library does before its kernel: it belongs to that of the next one on its
    stream. Of other kernels without one, such as those inside a CUDA graph, nothing says what they are for.
    """
    wanted = {number: name for number, name in plane.stat_names.items() if name in _KERNEL_STATS}
    for line in plane.lines():
        if not line.name.startswith("Stream"):
            continue
        nameless: list[tuple[str, int, int]] = []
        for event, start, end in sorted(_events(line), key=lambda one: one[1]):
            stats = {wanted[s.metadata_id]: plane.value(s) for s in event.stats if s.metadata_id in wanted}
            op, compiled = _operation(stats), _compiled(stats)
            name = plane.event_names.get(event.metadata_id, "")
            if not op and compiled is None and name.lower().startswith("memset"):
                nameless.append((name, start, end))
                continue
            if op or compiled:
                for other, began, ended in nameless:
                    yield (other, op, compiled), began, ended
                nameless.clear()
            yield (name, op, compiled), start, end
        for other, began, ended in nameless:
            yield (other, "", None), began, ended


_KERNEL_STATS = frozenset(("tf_op", "name", "hlo_op", "hlo_module", "program_id"))


def _operation(stats: dict[str, Any]) -> str:
    """`path:Type` that a kernel ran for; of XLA's the path alone, where it tells that itself."""
    op, name = stats.get("tf_op"), stats.get("name")
    if isinstance(op, str) and not op.startswith("__inference"):  # that is the whole function
        return op
    return f"{name}:" if isinstance(name, str) and "hlo_op" in stats else ""


def _operations(plane: Plane, line: Any, modules: Modules) -> Iterator[_Event]:
    """What a thread of the host ran."""
    for event, start, end in _events(line):
        name = plane.event_names.get(event.metadata_id, "")
        match = _HOST_OPERATION.fullmatch(name)
        if match:
            kind = match["type"]
            if kind not in _NO_WORK and not _CONTAINERS.fullmatch(kind):
                yield (kind, name, None), start, end
        elif event.stats and (compiled := _compiled(plane.stats(event.stats))):
            instruction = modules.instruction(*compiled)
            if not (instruction and instruction.container):
                yield (re.sub(r"[.]?[0-9]+$", "", name), "", compiled), start, end


def _events(line: Any) -> Iterator[tuple[Any, int, int]]:
    """A line's events that took time, each with its start and end."""
    begin = 1000 * line.timestamp_ns
    for event in line.events:
        if event.duration_ps > 0 and event.WhichOneof("data") != "num_occurrences":
            yield event, begin + event.offset_ps, begin + event.offset_ps + event.duration_ps


def _works(ps: dict[_Key, int], counts: dict[_Key, int], modules: Modules) -> tuple[KernelWork, ...]:
    return tuple(
        KernelWork(key[0], key[1], modules.instruction(*key[2]) if key[2] else None, ps.get(key, 0), count)
        for key, count in counts.items()
    )


def _span(events: Iterable[_Event]) -> int:
    times = [(start, end) for _, start, end in events]
    return max(end for _, end in times) - min(start for start, _ in times)


def shared_ps(pieces: Iterable[tuple[int, int, Key]]) -> Counter[Key]:
    """The time in which anything ran, divided among what did.

    Args:
        pieces: start, end and name of each.

    Returns:
        Picoseconds of each name. Where several run at once each has an equal part, so that the sum is exactly the time
        in which at least one ran.
    """
    edges: list[tuple[int, int, Key]] = []
    for start, end, name in pieces:
        edges += [(start, 1, name), (end, -1, name)]
    edges.sort(key=lambda edge: edge[:2])
    parts: Counter[Key] = Counter()
    running: Counter[Key] = Counter()
    number, before = 0, 0
    for at, change, name in edges:
        if number and at > before:
            share, left = divmod(at - before, number)
            for other, times in running.items():
                parts[other] += share * times
            parts[next(iter(running))] += left
        before = at
        number += change
        running[name] += change
        if not running[name]:
            del running[name]
    return parts


def _own_pieces(events: Sequence[_Event]) -> list[tuple[int, int, _Key]]:
    """Start, end and name of each stretch of one thread in which an event is the innermost."""
    pieces: list[tuple[int, int, _Key]] = []
    around: list[tuple[int, _Key]] = []
    at = 0

    def go_on(to: int) -> None:
        nonlocal at
        while around and around[-1][0] <= to:
            end, name = around.pop()
            pieces.append((at, end, name))
            at = max(at, end)
        if around:
            pieces.append((at, to, around[-1][1]))
        at = to

    for key, start, end in sorted(events, key=lambda event: (event[1], -event[2])):
        go_on(start)
        around.append((end, key))
    if around:
        go_on(max(end for end, _ in around))
    return [piece for piece in pieces if piece[1] > piece[0]]
