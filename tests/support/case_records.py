"""Records of cases that nobody measured, for tests of what reads them."""

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.measured import Measured
from mpbench.records.numerics import NumericsRecord, as_details
from mpbench.records.speed import SpeedRecord
from mpbench.stats import contingency as paired


def record(model="vgg16", precision="float32", phase="training", **changes):
    return SpeedRecord(
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


def accuracy_record(model="vgg16", table=(4562, 26, 19, 393), **changes):
    """A comparison with that contingency table, on two classes of equal size."""
    counts = paired.Contingency(*table)
    interval = paired.difference_interval(counts)
    margin, alpha = changes.get("margin", 0.01), changes.get("alpha", 0.05)
    return AccuracyRecord(
        **{
            "model": model,
            "precision": "mixed_float16",
            "baseline": "float32",
            "device": "gpu",
            "device_name": "NVIDIA V100",
            "profile": "paper",
            "batch_size": 64,
            "image_size": 224,
            "jit": False,
            "data": "dogs-vs-cats.zip",
            "data_digest": "0" * 64,
            "classes": 2,
            "training_images": 4 * counts.n,
            "validation_images": counts.n,
            "skipped_images": 0,
            "preprocessing": "model",
            "weights": "imagenet",
            "best_epoch": 8,
            "baseline_best_epoch": 7,
            "training_accuracy": 0.99,
            "baseline_training_accuracy": 0.99,
            "skipped_steps": 0,
            "baseline_skipped_steps": 0,
            "both_right": counts.both_right,
            "baseline_only": counts.first_only,
            "precision_only": counts.second_only,
            "both_wrong": counts.both_wrong,
            "accuracy": counts.second_accuracy,
            "baseline_accuracy": counts.first_accuracy,
            "mcnemar_exact_p": paired.mcnemar_exact(counts),
            "mcnemar_midp": paired.mcnemar_midp(counts),
            "mcnemar_chi2_p": paired.mcnemar_chi2(counts),
            "difference": interval.estimate,
            "difference_low": interval.low,
            "difference_high": interval.high,
            "margin": margin,
            "equivalence_p": paired.equivalence_p(counts, margin),
            "require_equivalence": False,
            "detectable_difference": paired.detectable_difference(counts.n, counts.discordant, alpha),
            "alpha": alpha,
            "majority_share": 0.5,
            "majority_p": paired.majority_p(counts.both_right + counts.second_only, counts.n, 0.5),
            "baseline_majority_p": paired.majority_p(counts.both_right + counts.first_only, counts.n, 0.5),
        }
        | changes
    )


def numerics_record(model="vgg16", precision="mixed_float16", phase="training", **changes):
    """A NumericsRecord of a safe step."""
    fields = {
        "device": "gpu",
        "device_name": "NVIDIA V100",
        "batch_size": 64,
        "image_size": 224,
        "tf32": False,
        "data": "synthetic",
        "verdict": "SAFE",
        "sentence": "nothing of a gradient is lost",
        "layer": "",
        "where": "",
        "headroom_log2": 12.9,
        "headroom_layer": "conv",
        "output_lost": 0.0,
        "output_lost_layer": "",
        "output_error": 0.001,
        "loss_error": 0.001,
        "initial_scale_log2": 15,
        "settled_scale_log2": 12,
        "window_low_log2": 0,
        "window_high_log2": 12,
        "first_to_overflow": "conv",
        "gradient_lost_unscaled": 0.0,
        "gradient_lost": 0.0,
        "gradient_lost_weight": "",
        "gradient_error": 0.01,
        "unmoved_share": 0.2,
        "no_backward": "",
        "unlike": "",
        "notes": "",
        "seconds": 3.0,
        "details": as_details([], [], []),
    }
    return NumericsRecord(model=model, precision=precision, phase=phase, **fields | changes)
