"""What the machine is, and which of its devices runs the cases.

`machine_facts` works without TensorFlow: pytest-benchmark asks for it before a case has run, and comparing two runs
must not find them different because one of the answers came before an import.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mpbench.system.cluster import Cluster
from mpbench.errors import CaseFailure, UsageProblem

DEVICES = ("auto", "gpu", "cpu")
JITTERING_CPU_FIELDS = ("hz_actual", "hz_actual_friendly", "hz_advertised", "hz_advertised_friendly")
"""py-cpuinfo reads them from the current clock on some machines: they differ from run to run."""

AMPERE = (8, 0)
"""First compute capability with TF32."""


@dataclass(frozen=True)
class Device:
    """The device that the cases run on.

    Attributes:
        kind: `gpu` or `cpu`.
        placement: the name that tf.device takes.
    """

    kind: str
    placement: str


def activate(choice: str, require_gpu: bool, replicas: int = 1, cluster: Cluster | None = None) -> Device:
    """Import TensorFlow and pick the device; GPUs that are not to be used are hidden from it.

    Args:
        choice: one of DEVICES.
        require_gpu: whether a missing GPU is an error.
        replicas: how many of its kind are needed here; a CPU is divided into as many logical ones.
        cluster: the machines that share the run.

    Raises:
        UsageProblem: a GPU was asked for and TensorFlow sees none, or fewer than replicas.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UsageProblem(f"KERAS_BACKEND: {backend!r}: valid is tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # NVML's order and nvidia-smi's; CUDA's own puts the fastest card first, and the facts would name another one.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with held_back_stderr() as said:
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if keras.config.image_data_format() != "channels_last":
        raise UsageProblem("keras.json: image_data_format is channels_first: valid is channels_last")
    if choice == "cpu":
        with suppress(RuntimeError):  # somebody's conftest has started TensorFlow already: steps are placed anyway
            tf.config.set_visible_devices([], "GPU")
    elif gpus:
        if replicas > len(gpus):
            raise UsageProblem(f"--mp-replicas: {replicas} on this machine: valid is {len(gpus)} or less, its GPUs")
        with suppress(RuntimeError):
            if replicas > 1 or (cluster is not None and cluster.workers > 1):
                tf.config.set_visible_devices(gpus[:replicas], "GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
        return Device("gpu", "/GPU:0")
    elif require_gpu or choice == "gpu":
        option = "--mp-require-gpu" if require_gpu else "--mp-device=gpu"
        sys.stderr.write("".join(said))
        raise UsageProblem(f"{option}: TensorFlow {tf.__version__} sees no GPU (nvidia-smi and mpbench[cuda] tell why)")
    if replicas > 1:
        _divide_cpu(replicas, cluster or Cluster())
    return Device("cpu", "/CPU:0")


def _divide_cpu(parts: int, cluster: Cluster) -> None:
    """Make logical devices of the CPU, all of which share its cores."""
    import tensorflow as tf

    if cluster.workers > 1:
        raise UsageProblem(
            f"--mp-replicas: {parts * cluster.workers} on the CPUs of {cluster.workers} workers: valid is "
            f"{cluster.workers}, TensorFlow uses one of each"
        )
    try:
        logical = [tf.config.LogicalDeviceConfiguration()] * parts
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    except RuntimeError:
        raise UsageProblem(
            f"--mp-replicas: {parts}: TensorFlow was started before (by a conftest?): valid is 1"
        ) from None


@contextmanager
def held_back_stderr() -> Iterator[list[str]]:
    """Keep what the libraries print while they load (a dozen lines, even at log level 3) for whoever needs it."""
    said: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            said.append(held.read())


_tf32_without_xla: set[bool] = set()


def set_tf32(enabled: bool) -> None:
    """Let float32 products on the GPU round their inputs to TF32, or not. No effect on a CPU."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(enabled)


_deterministic_gpu = False


def make_deterministic(device: Device) -> None:
    """Let the device's operations give the same bits every time, for the rest of the process.

    On a GPU that costs speed (no autotuning, slower algorithms). A CPU's operations do so anyway.
    """
    global _deterministic_gpu
    if device.kind == "gpu":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        _deterministic_gpu = True


def check_not_deterministic() -> None:
    """Raise CaseFailure where `make_deterministic` has slowed the GPU down: what is measured now says nothing."""
    if _deterministic_gpu:
        raise CaseFailure(
            "an accuracy case has switched the GPU to deterministic operations, which are slower: "
            "measure speed before it or in a run of its own"
        )


def check_tf32_is_apart(tf32: bool, policy: str, device: Device, jit: bool) -> None:
    """Refuse to run float32 with and without TF32 in one process where the first would decide for both.

    TensorFlow picks a convolution's algorithm once per shape and dtype and keeps it for the process; whether TF32 is
    allowed is not part of that key (tensorflow/core/util/autotune_maps/conv_parameters.cc). XLA keeps them apart.

    Raises:
        CaseFailure: the other state has run in this process, on a GPU without XLA.
    """
    if policy != "float32" or device.kind != "gpu" or jit:
        return
    _tf32_without_xla.add(tf32)
    if len(_tf32_without_xla) > 1:
        raise CaseFailure(
            "float32 and tf32 cannot be told apart in one process without XLA (TensorFlow keeps the first one's "
            "convolution algorithms for both): use --mp-jit on, or one run for each"
        )


def device_name(device: Device) -> str:
    """What TensorFlow calls the device that the cases run on, such as `NVIDIA H200`; `CPU` for a CPU."""
    if device.kind == "cpu":
        return "CPU"
    return str(_gpu_details().get("device_name", "GPU"))


def tf32_available(device: Device) -> bool:
    """Whether float32 products can run in TF32 there: on Ampere and newer, unless switched off for the process."""
    if device.kind == "cpu" or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    return tuple(_gpu_details().get("compute_capability", (0, 0))) >= AMPERE


def _gpu_details() -> dict[str, Any]:
    import tensorflow as tf

    return dict(tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]))


def reset_peak_memory(device: Device) -> int:
    """Start a new peak; returns the bytes in use now."""
    if device.kind == "gpu":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
        return int(tf.config.experimental.get_memory_info("GPU:0")["current"])
    with suppress(OSError):
        # Linux: 5 resets the high-water mark of the resident set (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")
    return 0


def peak_memory_bytes(device: Device) -> int:
    """Peak since `reset_peak_memory`: TensorFlow's allocator on a GPU, the whole process's resident set on a CPU.

    Where the system cannot reset the resident set's peak it is the peak since the process began.
    """
    if device.kind == "gpu":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    try:
        return _kib("/proc/self/status", "VmHWM:")
    except (OSError, ValueError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def room_bytes() -> int | None:
    """Resident memory that this process could reach before the system, or its container, runs out; None if unknown."""
    free = free_memory_bytes()
    try:
        return None if free is None else _kib("/proc/self/status", "VmRSS:") + free
    except (OSError, ValueError, StopIteration):
        return None


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, within the limit of a container; None where nothing says (no Linux)."""
    try:
        free = _kib("/proc/meminfo", "MemAvailable:")
    except (OSError, ValueError, StopIteration):
        return None
    with suppress(OSError, ValueError):  # cgroup version 2; no limit reads "max"
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(free, 0)


def _kib(file: str, name: str) -> int:
    """A line's number of KiB in one of Linux's status files, in bytes."""
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def others_cpu_seconds() -> float | None:
    """CPU time since the system began that went to other processes or, on a virtual machine, to other machines.

    Linux only; None elsewhere. In a container it is that of the whole host.
    """
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    except (OSError, ValueError):
        return None
    everybody = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    return everybody - (times.user + times.system + times.children_user + times.children_system)


def machine_facts() -> dict[str, Any]:
    """What must be the same for two runs to be comparable; nothing in it changes from run to run.

    Returns:
        Versions of TensorFlow, Keras, numpy and, where they are Python packages, of CUDA's runtime and cuDNN; for the
        first visible GPU its name, compute capability, memory in bytes, whether it knows TF32, its driver and the CUDA
        version that the driver goes up to. None where there is none, or nothing that can say.
    """
    return {
        "tensorflow": _version("tensorflow"),
        "keras": _version("keras"),
        "numpy": _version("numpy"),
        "cuda": _version_by_prefix("nvidia-cuda-runtime-cu"),
        "cudnn": _version_by_prefix("nvidia-cudnn-cu"),
        **_gpu_facts(),
    }


def gpu_uuids(count: int = 1) -> list[str]:
    """UUIDs of the first visible GPUs, or of their parts (MIG): of as many as there are and as can be asked."""
    with nvml() as (pynvml, _):
        if pynvml is not None:
            with suppress(pynvml.NVMLError):
                return [text(pynvml.nvmlDeviceGetUUID(gpu)) for gpu in visible_gpus(pynvml, count)]
    return []


@contextmanager
def nvml() -> Iterator[tuple[Any, Any]]:
    """The NVML module and its handle of the first visible GPU; None for what there is not."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no GPU: all the same here
        yield None, None
        return
    try:
        yield pynvml, next(iter(visible_gpus(pynvml)), None)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu_facts() -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(
        ("gpu", "gpu_count", "gpu_memory_bytes", "compute_capability", "tf32_available", "driver", "cuda_driver")
    )
    with nvml() as (pynvml, gpu):
        if pynvml is None:
            return facts
        with suppress(pynvml.NVMLError):
            facts["gpu_count"] = pynvml.nvmlDeviceGetCount()
            if gpu is None:
                return facts
            capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(gpu))
            cuda = pynvml.nvmlSystemGetCudaDriverVersion()
            facts.update(
                gpu=text(pynvml.nvmlDeviceGetName(gpu)),
                gpu_memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total),
                compute_capability=".".join(map(str, capability)),
                tf32_available=capability >= AMPERE,
                driver=text(pynvml.nvmlSystemGetDriverVersion()),
                cuda_driver=f"{cuda // 1000}.{cuda % 1000 // 10}",
            )
    return facts


def visible_gpus(pynvml: Any, count: int = 1) -> list[Any]:
    """NVML's handles of the first of the GPUs that the cases see, or of as many as there are.

    NVML counts all GPUs of the machine, TensorFlow only those that CUDA_VISIBLE_DEVICES leaves it, up to the first name
    there that is none.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    handles: list[Any] = []
    for name in map(str, range(count)) if names is None else names.split(",")[:count]:
        try:
            handle = _gpu_named(pynvml, name.strip())
        except pynvml.NVMLError:
            break
        if handle is None:
            break
        handles.append(handle)
    return handles


def _gpu_named(pynvml: Any, name: str) -> Any:
    """The handle of one entry of CUDA_VISIBLE_DEVICES, None where it names no GPU; may raise NVMLError."""
    if name.startswith(("GPU-", "MIG-")):
        with suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
        # CUDA also takes the beginning of a UUID.
        gpus = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount()))
        return next((gpu for gpu in gpus if text(pynvml.nvmlDeviceGetUUID(gpu)).startswith(name)), None)
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else None


def text(value: str | bytes) -> str:
    """NVML's older bindings give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _version_by_prefix(prefix: str) -> str | None:
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name.startswith(prefix):
            return distribution.version
    return None
