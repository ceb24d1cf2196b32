"""The figures of the thesis that are printed beside ours (Steendam 2020, Tables 4 and 5).

NVIDIA V100, TensorFlow 2.2, batch 64, 224x224 px; a step there includes reading and decoding JPEG files.
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

TABLE = {"training": "Table 4, training", "inference": "Table 5, inference"}
