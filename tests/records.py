"""Records of cases that nobody measured, for tests of what reads them."""

from mpbench.record import CaseRecord, Measured


def record(model="vgg16", precision="float32", phase="training", **changes):
    return CaseRecord(
        **{
            "model": model,
            "precision": precision,
            "phase": phase,
            "variant": "",
            "control": False,
            "device": "gpu",
            "device_name": "NVIDIA V100",
            "profile": "paper",
            "batch_size": 64,
            "image_size": 224,
            "jit": True,
            "tf32": False,
            "parameters": 15_000_000,
            "images_per_second": 211.2,
            "first_step_seconds": 3.5,
            "loss_scale": None,
            "skipped_steps": 0,
            "warmup_skipped_steps": 0,
            "peak_memory_bytes": 5 * 2**30,
            "memory_kind": "device",
            "warmup_rounds": 6,
            "warmup_settled": True,
            "rounds": 12,
            "steps_per_round": 1,
            "unpaired_blocks": "",
            "noisy": False,
            "baseline": None,
            "speedup": None,
            "speedup_low": None,
            "speedup_high": None,
        }
        | changes
    )


def pair(model, base_ms, mixed_ms, half_width=0.01, phase="training", **changes):
    """A float32 case and its mixed_float16 case, their speedup exact to that relative half-width."""
    ratio = base_ms / mixed_ms
    interval = {"speedup": ratio, "speedup_low": ratio * (1 - half_width), "speedup_high": ratio * (1 + half_width)}
    mixed = record(model, "mixed_float16", phase, baseline="float32", loss_scale=2.0**15, **interval, **changes)
    return [
        Measured(record(model, phase=phase, device=mixed.device), [base_ms / 1000] * 12),
        Measured(mixed, [mixed_ms / 1000] * 12),
    ]
