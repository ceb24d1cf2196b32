"""Which device the cases run on, and what is set there: TF32, deterministic operations. Imports TensorFlow late."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mpbench.engine.keras_settings import check_process_settings
from mpbench.errors import CaseFailure, NotBesideOthers, UsageProblem
from mpbench.system.cluster import Cluster
from mpbench.system.device import Device
from mpbench.system.nvidia import AMPERE


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
    cluster = cluster or Cluster()
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UsageProblem(f"KERAS_BACKEND: {backend!r}: valid is tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # NVML's order and nvidia-smi's; CUDA's own puts the fastest card first, and the facts would name another one.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with held_back_stderr() as printed:
        import keras  # noqa: F401
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    check_process_settings("keras.json, or what ran before")
    if choice == "cpu":
        with suppress(RuntimeError):  # somebody's conftest has started TensorFlow already: steps are placed anyway
            tf.config.set_visible_devices([], "GPU")
    elif gpus:
        if replicas > len(gpus):
            raise UsageProblem(f"--mp-replicas: {replicas} on this machine: valid is {len(gpus)} or less, its GPUs")
        with suppress(RuntimeError):
            if replicas > 1 or cluster.workers > 1:
                tf.config.set_visible_devices(gpus[:replicas], "GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
        return Device("gpu", "/GPU:0")
    elif require_gpu or choice == "gpu":
        option = "--mp-require-gpu" if require_gpu else "--mp-device=gpu"
        sys.stderr.write("".join(printed))
        raise UsageProblem(f"{option}: TensorFlow {tf.__version__} sees no GPU (nvidia-smi and mpbench[cuda] tell why)")
    if replicas > 1:
        _divide_cpu(replicas, cluster)
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
    printed: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield printed
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            printed.append(held.read())


def processor() -> str:
    """The host's: its model and instruction sets. Others round otherwise, or cannot run what was compiled for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:  # no Linux
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))


def device_name(device: Device) -> str:
    """What TensorFlow calls the device that the cases run on, such as `NVIDIA H200`; `CPU` for a CPU."""
    return "CPU" if device.kind == "cpu" else str(_gpu_details().get("device_name", "GPU"))


def _gpu_details() -> dict[str, Any]:
    import tensorflow as tf

    return dict(tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]))


def set_tf32(enabled: bool) -> None:
    """Let float32 products on the GPU round their inputs to TF32, or not. No effect on a CPU."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(enabled)


def tf32_available(device: Device) -> bool:
    """Whether float32 products can run in TF32 there: on Ampere and newer, unless switched off for the process."""
    if device.kind == "cpu" or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    return tuple(_gpu_details().get("compute_capability", (0, 0))) >= AMPERE


_tf32_without_xla: set[bool] = set()


def check_tf32_is_apart(tf32: bool, policy: str, device: Device, jit: bool) -> None:
    """Refuse to run float32 with and without TF32 in one process where the first would decide for both.

    TensorFlow picks a convolution's algorithm once per shape and dtype and keeps it for the process; whether TF32 is
    allowed is not part of that key (tensorflow/core/util/autotune_maps/conv_parameters.cc). XLA keeps them apart.

    Raises:
        NotBesideOthers: the other state has run in this process, on a GPU without XLA.
    """
    if policy != "float32" or device.kind != "gpu" or jit:
        return
    _tf32_without_xla.add(tf32)
    if len(_tf32_without_xla) > 1:
        raise NotBesideOthers(
            "float32 and tf32 cannot be told apart in one process without XLA (TensorFlow keeps the first one's "
            "convolution algorithms for both): use --mp-jit on, or one run for each"
        )


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
