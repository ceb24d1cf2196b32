"""Saved runs as pytest-benchmark 5.3 writes them, of measurements that nobody made."""

import itertools
import json
import statistics
from datetime import datetime

from case_records import record
from diagnostic_records import diagnostic_name

CALLS = itertools.count()

FACTS = {
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "numpy": "2.4.6",
    "cuda": "12.9.79",
    "cudnn": "9.10.2.21",
    "gpu": "NVIDIA V100",
    "gpu_count": 1,
    "gpu_memory_bytes": 17_071_734_784,
    "compute_capability": "7.0",
    "tf32_available": False,
    "driver": "580.65.06",
    "cuda_driver": "13.0",
}


def saved_run(folder, *, time, commit, records_and_rounds, machine=None, name=None, **changes):
    """Write one run and return its path.

    Args:
        folder: made where it is missing.
        time: ISO 8601 or datetime, with an offset.
        commit: id of a clean tree's commit.
        records_and_rounds: pairs of a SpeedRecord and its rounds in seconds, their number put into the record; or of an
            AccuracyRecord and seconds of passes, or of a DiagnosticRecord and its rounds.
        machine: changes of machine_info["mpbench"]; `node` and `cpu` go where pytest-benchmark has them.
        name: of the file.
        changes: of the file's top level.
    """
    time = datetime.fromisoformat(time) if isinstance(time, str) else time
    machine = dict(machine or {})
    run = {
        "machine_info": {
            "node": machine.pop("node", "bench-1"),
            "processor": "x86_64",
            "machine": "x86_64",
            "python_compiler": "GCC 13.3.0",
            "python_implementation": "CPython",
            "python_implementation_version": "3.12.3",
            "python_version": "3.12.3",
            "python_build": ["main", "Jan 17 2025 18:03:48"],
            "release": "6.8.0-51-generic",
            "system": "Linux",
            "cpu": {
                "python_version": "3.12.3.final.0 (64 bit)",
                "cpuinfo_version": [10, 1, 1],
                "cpuinfo_version_string": "10.1.1",
                "arch": "X86_64",
                "bits": 64,
                "count": 16,
                "arch_string_raw": "x86_64",
                "vendor_id_raw": "GenuineIntel",
                "brand_raw": machine.pop("cpu", "Intel(R) Xeon(R) Gold 6154 CPU @ 3.00GHz"),
                "flags": [f"flag{i}" for i in range(100)],
                "l3_cache_size": 25_952_256,
                "l2_cache_size": 1_048_576,
            },
            "mpbench": FACTS | machine,
        },
        "commit_info": {
            "id": commit,
            "time": time.isoformat(),
            "author_time": time.isoformat(),
            "dirty": False,
            "project": "mpbench",
            "branch": "main",
        },
        "benchmarks": [_benchmark(record, rounds) for record, rounds in records_and_rounds],
        "datetime": time.isoformat(),
        "version": "5.3.1",
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{len(list(folder.iterdir())) + 1:04}_{commit}_{time:%Y%m%d_%H%M%S}.json")
    path.write_text(json.dumps(run, indent=4))
    return path


def fullname(record):
    """The node id of the case in bench/, or of the comparison in tests/test_accuracy.py."""
    if hasattr(record, "type"):
        return diagnostic_name(record)
    if not hasattr(record, "phase"):
        name = f"{record.model}-{record.precision}"
        return f"tests/test_accuracy.py::test_mixed_precision_keeps_accuracy[{name}]"
    arm = "control" if record.control else record.precision
    return f"bench/test_{record.phase}.py::test_{record.phase}[{record.model}-{arm}]"


def cases(base_ms, mixed_ms, model="vgg16", phase="training", rounds=20, baseline="float32", **changes):
    """A float32 and a mixed_float16 case, the rounds of each all alike but for a known wobble of 0.1 %.

    No two calls give the same rounds, as no two measurements do.
    """
    tick = 1e-12 * next(CALLS)
    wobble = [1 + tick + 0.001 * (-1) ** i for i in range(rounds)]
    speedup = base_ms / mixed_ms
    interval = {"speedup": speedup, "speedup_low": 0.99 * speedup, "speedup_high": 1.01 * speedup}
    base = record(model, phase=phase, rounds=rounds, **changes)
    mixed = record(model, "mixed_float16", phase, rounds=rounds, baseline=baseline, **interval, **changes)
    return [(base, [base_ms / 1000 * w for w in wobble]), (mixed, [mixed_ms / 1000 * w for w in wobble])]


def _benchmark(record, rounds):
    name = fullname(record)
    model, _, arm = name[:-1].split("[")[1].rpartition("-")
    return {
        "group": f"{record.model} {getattr(record, 'phase', 'accuracy')}",
        "name": name.split("::")[1],
        "fullname": name,
        "params": {"model": model, "precision": arm},
        "param": f"{model}-{arm}",
        "extra_info": record.as_extra_info(),
        "options": {
            "disable_gc": False,
            "timer": "mpbench_replay",
            "min_rounds": 5,
            "max_time": 1.0,
            "min_time": 5e-06,
            "warmup": False,
        },
        "stats": _stats(rounds),
    }


def _stats(rounds):
    ordered = sorted(rounds)
    spread = statistics.stdev(rounds) if len(rounds) > 1 else 0
    first, _, third = statistics.quantiles(rounds, n=4) if len(rounds) > 1 else (ordered[0],) * 3
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": statistics.mean(rounds),
        "stddev": spread,
        "rounds": len(rounds),
        "median": statistics.median(rounds),
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": 0,
        "stddev_outliers": 0,
        "outliers": "0;0",
        "ld15iqr": ordered[0],
        "hd15iqr": ordered[-1],
        "ops": 1 / statistics.mean(rounds),
        "total": sum(rounds),
        "data": list(rounds),
        "iterations": 1,
    }
