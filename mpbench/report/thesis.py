"""The figures of the thesis that are printed beside ours (Steendam 2020, Tables 1 to 5).

NVIDIA V100, TensorFlow 2.2, batch 64, 224x224 px; a step there includes reading and decoding JPEG files. Table 2 does
not come from the runs of Table 3: its VGG figures lie 48 of 5,000 images apart, Table 3's 7.
"""

from __future__ import annotations

DEVICE = "V100, 2020"

MS_PER_STEP = {
    ("vgg16", "training"): (303, 196),
    ("inception_v3", "training"): (195, 133),
    ("resnet152_v2", "training"): (492, 271),
    ("vgg16", "inference"): (138, 100),
    ("inception_v3", "inference"): (97, 87),
    ("resnet152_v2", "inference"): (180, 108),
}
"""(model, phase) -> milliseconds per step in float32 and in mixed_float16."""

TABLE_OF_PHASE = {"training": "Table 4, training", "inference": "Table 5, inference"}

ACCURACY_PERCENT = {
    "vgg16": (91.70, 90.74),
    "inception_v3": (98.46, 98.38),
    "resnet152_v2": (99.10, 99.12),
}
"""Table 2: model -> validation accuracy in float32 and in mixed_float16."""

CONTINGENCY = {
    "vgg16": (4562, 26, 19, 393),
    "inception_v3": (4929, 12, 15, 44),
    "resnet152_v2": (4938, 10, 12, 40),
}
"""Table 3: model -> images that both, only float32, only mixed_float16 and neither got right."""

MCNEMAR_P = {"vgg16": 0.371, "inception_v3": 0.701, "resnet152_v2": 0.832}
"""Table 3: model -> two-sided exact p."""

MODELS = {"vgg16": (16, 138_000_000), "inception_v3": (159, 24_000_000), "resnet152_v2": (152, 60_000_000)}
"""Table 1: model -> layers and parameters, these with the ImageNet classifier on top."""
