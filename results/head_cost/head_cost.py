"""Eight epochs of a head on a frozen base's features against eight epochs of fit through the frozen base.

python results/head_cost/head_cost.py [--image-size PIXELS] [-o FILE] [MODEL ...]

Both ways end in the same head, bit for bit where no batch is a partial one (tests/test_head.py). The way through the
base gets its images decoded beforehand, in memory; the other way's time includes reading and decoding them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpbench.accuracy.weights import Weights
from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import RECIPES
from mpbench.data import generated
from mpbench.data.decoding import decode, read
from mpbench.engine import device as devices
from mpbench.system import machine

IMAGES = 800
RECIPE = RECIPES["quick"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["inception_v3", "vgg16"], metavar="MODEL")
    parser.add_argument("--image-size", type=int, default=RECIPE.image_size_px, metavar="PIXELS")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    device = devices.activate("auto", require_gpu=False)
    import keras
    import tensorflow as tf

    from mpbench.accuracy.base import ArmSpec, pooled_base, preprocessing
    from mpbench.accuracy.features import extract
    from mpbench.accuracy.head import build_head, compile_for, epoch_order, train_head
    from mpbench.engine.models import dtype_policy

    data = generated.data_set(IMAGES, 42, lambda _: None).images
    labels = np.array([image.label for image in data])
    size, batch = options.image_size, RECIPE.batch_size
    decoded = np.stack([decode(read(image.path), size) for image in data])

    def on_features(spec: ArmSpec):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        pooled = pooled_base(spec.model, size, spec.precision, spec.weights)
        features = extract(spec, pooled, data, lambda _: None)
        trained = train_head(spec, features, labels, lambda _: None)
        return time.perf_counter() - start, features, trained

    def through_the_base(spec: ArmSpec, features, epochs: int):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        pooled = pooled_base(spec.model, size, spec.precision, spec.weights)
        head = build_head(spec, features)
        with dtype_policy(spec.precision.policy), tf.device(device.placement):
            image = keras.Input((size, size, 3))
            whole = keras.Model(image, head(pooled(image, training=False)))
            compile_for(spec, whole)
            inputs = preprocessing(spec.model)(decoded.astype(np.float32))
            kept = None
            for epoch in range(1, RECIPE.epochs + 1):
                order = epoch_order(len(labels), epoch)
                whole.fit(inputs[order], labels[order], batch_size=batch, epochs=1, shuffle=False, verbose=0)
                kept = head.get_weights() if epoch == epochs else kept
        return time.perf_counter() - start, kept

    rows = []
    for model in options.models:
        for name in ("float32", "mixed_float16"):
            precision = PRECISIONS[name]
            recipe = replace(RECIPE, image_size_px=size)
            spec = ArmSpec(model, precision, Weights("random"), recipe, 2, False, False, device)
            seconds, features, trained = on_features(spec)
            plain_seconds, weights = through_the_base(spec, features, trained.epoch)
            ours = trained.model.get_weights()
            equal = all(np.array_equal(a, b) for a, b in zip(ours, weights, strict=True))
            row = {"model": model, "precision": name, "images": IMAGES, "image_size": size, "batch_size": batch}
            row |= {"epochs": RECIPE.epochs, "features_seconds": seconds, "fit_seconds": plain_seconds}
            row |= {"ratio": plain_seconds / seconds, "bit_equal": equal}
            rows.append(row)
            print(f"{model}, {name}: on features {seconds:.1f} s, through the base {plain_seconds:.1f} s, "
                  f"{row['ratio']:.2f} times, heads {'bit-equal' if equal else 'DIFFERENT'}", flush=True)  # fmt: skip
    if options.output:
        facts = {"machine": platform.machine(), "cores": os.cpu_count()}
        options.output.write_text(json.dumps({"facts": facts | machine.machine_facts(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
