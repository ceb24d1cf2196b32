"""Images per second of mpbench's input pipeline beside others', on the same files, at the same size, in one run.

Reading, decoding, resizing and batching JPEG files; each way takes a whole epoch a round, from asking for its first
batch to having its last, all interleaved, in blocks in random order:
- thesis: Keras's ImageDataGenerator.flow_from_directory in threads, as fit(workers=...) runs it;
- image_dataset: keras.utils.image_dataset_from_directory;
- tf_data: read_file, decode_jpeg, resize, batch, prefetch; OpenCV: a thread pool around imdecode and resize;
- torch: DataLoader with worker processes; decoding with Pillow, resizing with Pillow or with torch;
- ours: uint8, as float32 scaled to [-1, 1), and of decoded images kept in memory and on disk.

    python results/pipeline/pipeline.py [-o FILE] [--seconds N] [--data FOLDER --label TEXT]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mpbench.data import kept
from mpbench.data.data_set import LabelledImage
from mpbench.data.decoding import decode, read
from mpbench.data.images import find_images
from mpbench.data.loader import Files, Loader
from mpbench.engine import device as devices
from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan, Series
from mpbench.records.rounds import paired
from mpbench.stats.intervals import speedup_interval
from mpbench.system import machine

Epoch = Callable[[], Iterable[int]]
"""Sizes of the batches of one epoch, each as soon as the batch is there."""

PACKAGES = ("pillow", "simplejpeg", "cykooz-resizer", "opencv-python-headless", "torch")
WITH_PROCESSES = ("torch_pillow", "torch_resize")
"""Their CPU time is that of other processes, and is not counted."""

KEPT_EPOCHS = 5
"""Batches of kept images take microseconds; an epoch of them alone would be over in a few milliseconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="a data set as --mp-data takes it (default: 1,000 generated pictures)"
    )
    parser.add_argument("--label", default="1,000 generated pictures", help="what the result calls the images")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=240.0, help="time limit for the blocks")
    parser.add_argument("--only", nargs="*", help="ways to measure (default: all that are installed)")
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()
    devices.activate("cpu", require_gpu=False)
    data = find_images(str(args.data) if args.data else "generated", None if args.data else 1000, print)
    images = list(data.images)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # a cache of its own, gone afterwards
        tree = Path(folder, "tree")
        for image in images:
            place = tree / data.classes[image.label] / image.path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(image.path.resolve())
        ways = _ways(images, tree, args)
        if args.only:
            ways = {name: way for name, way in ways.items() if name in args.only}
        agreement = _agreement(images, args.image_size)
        cpu_seconds = dict.fromkeys(ways, 0.0)
        taken = dict.fromkeys(ways, 0)
        arms = [Arm(name, _round(name, way, len(images), cpu_seconds, taken)) for name, way in ways.items()]
        for arm in arms:
            arm.run(1)
        series = measure(arms, Plan(max_seconds=args.seconds, tolerance=0.005), baseline="thesis", progress=print)
    result = _result(series, images, args, agreement)
    result["cpu_ms_per_image"] = {
        name: round(1000 * cpu_seconds[name] / taken[name], 4) for name in ways if name not in WITH_PROCESSES
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rounds_images_per_second"}, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result) + "\n")


def _round(
    name: str, epoch: Epoch, expected: int, cpu_seconds: dict[str, float], taken: dict[str, int]
) -> Callable[[int], None]:
    """So many epochs, each checked to have held every image, with the CPU time of this process in them."""

    def run(epochs: int) -> None:
        before = time.process_time()
        for _ in range(epochs):
            count = sum(epoch())
            if count % expected or not count:
                raise RuntimeError(f"{name}: an epoch of {count} images in place of {expected}")
            taken[name] += count
        cpu_seconds[name] += time.process_time() - before

    return run


def _result(series: dict[str, Series], images: list[LabelledImage], args: Any, agreement: Any) -> dict[str, Any]:
    per_round = {name: len(images) * (KEPT_EPOCHS if name.startswith("kept") else 1) for name in series}
    for name, one in series.items():
        if one.error is not None:
            raise one.error
        # As seconds per image from here on: the ways of kept images go through the set several times a round.
        one.rounds = [seconds / per_round[name] for seconds in one.rounds]
    rates = {name: 1 / float(np.median(one.rounds)) for name, one in series.items()}

    def ratio(ours: str, theirs: str) -> list[float]:
        mine, others = paired(series[ours], series[theirs])
        interval = speedup_interval(others, mine)
        return [round(value, 4) for value in (interval.estimate, interval.low, interval.high)]

    peers = [name for name in series if not name.startswith(("ours", "kept"))]
    return {
        "images": args.label,
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "workers": args.workers,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **machine.machine_facts(),
            **{name: _version(name) for name in PACKAGES},
        },
        "blocks": min(len(one.rounds) for one in series.values()),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "set_size": len(images),
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_as_fast": {
            ours: {theirs: ratio(ours, theirs) for theirs in peers}
            for ours in series
            if ours.startswith(("ours", "kept"))
        },
        "levels_from_pillow": agreement,
        "rounds_images_per_second": {name: [round(1 / s, 1) for s in one.rounds] for name, one in series.items()},
    }


def _agreement(images: list[LabelledImage], size_px: int) -> dict[str, float]:
    """How far our pixels are from Pillow's, in levels of 256."""
    from PIL import Image

    counts = np.zeros(256, np.int64)
    for image in images:
        with Image.open(image.path) as opened:
            theirs = np.asarray(opened.convert("RGB").resize((size_px, size_px), Image.Resampling.BILINEAR))
        counts += np.bincount(np.abs(decode(read(image.path), size_px).astype(int) - theirs).ravel(), minlength=256)
    levels = np.arange(256)
    below = np.cumsum(counts) / counts.sum()
    return {
        "mean": round(float((counts * levels).sum() / counts.sum()), 4),
        "percentile_99": int(levels[below >= 0.99][0]),
        "largest": int(levels[counts > 0][-1]),
    }


def _ways(images: list[LabelledImage], tree: Path, args: Any) -> dict[str, Epoch]:
    ways = _keras_ways(tree, args)
    if importlib.util.find_spec("cv2"):
        ways["opencv"] = _opencv(images, args)
    if importlib.util.find_spec("torch"):
        ways |= _torch_ways(images, args)
    files = Files(images, args.image_size)

    def ours(source: Any, scaled: bool = False, epochs: int = 1) -> Epoch:
        space = np.empty((args.batch_size, args.image_size, args.image_size, 3), np.float32) if scaled else None

        def epoch() -> Iterable[int]:
            for _ in range(epochs):
                with Loader(source, args.batch_size, workers=args.workers, seed=0, endless=False) as loader:
                    for batch in loader:
                        if space is not None:
                            np.multiply(batch.pixels, np.float32(1 / 128), out=space)
                            np.subtract(space, np.float32(1), out=space)
                        yield batch.valid

        return epoch

    ways["ours"] = ours(files)
    ways["ours_float32"] = ours(files, scaled=True)
    for kind in ("memory", "disk"):
        source = kept.source(images, args.image_size, kind, {}, print, args.workers)
        ways[f"kept_{kind}"] = ours(source, epochs=KEPT_EPOCHS)
        ways[f"kept_{kind}_float32"] = ours(source, scaled=True, epochs=KEPT_EPOCHS)
    return ways


def _keras_ways(tree: Path, args: Any) -> dict[str, Epoch]:
    import keras
    import tensorflow as tf
    from keras.src.legacy.preprocessing.image import ImageDataGenerator
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer

    size = (args.image_size, args.image_size)

    def thesis() -> Iterable[int]:
        flow = ImageDataGenerator(rescale=1 / 255).flow_from_directory(
            str(tree), target_size=size, batch_size=args.batch_size, class_mode="binary"
        )
        enqueuer = OrderedEnqueuer(flow, workers=args.workers, max_queue_size=10)
        enqueuer.start()
        batches = enqueuer.get()
        for _ in range(len(flow)):
            yield len(next(batches)[0])
        enqueuer.stop()

    dataset = keras.utils.image_dataset_from_directory(
        str(tree), image_size=size, batch_size=args.batch_size, label_mode="int", verbose=False
    ).prefetch(tf.data.AUTOTUNE)

    def image_dataset() -> Iterable[int]:
        return (len(pixels) for pixels, _ in dataset)

    def loaded(path: Any) -> Any:
        pixels = tf.image.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(tf.image.resize(pixels, size), tf.uint8)

    paths = [str(path) for path in sorted(tree.glob("*/*"))]
    plain = tf.data.Dataset.from_tensor_slices(paths).map(loaded, num_parallel_calls=args.workers)
    plain = plain.batch(args.batch_size).prefetch(tf.data.AUTOTUNE)

    def tf_data() -> Iterable[int]:
        return (len(pixels) for pixels in plain)

    return {"thesis": thesis, "image_dataset": image_dataset, "tf_data": tf_data}


def _opencv(images: list[LabelledImage], args: Any) -> Epoch:
    from concurrent.futures import ThreadPoolExecutor

    import cv2

    cv2.setNumThreads(1)

    def load(path: Path) -> Any:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        return cv2.resize(pixels, (args.image_size, args.image_size), interpolation=cv2.INTER_LINEAR)

    def epoch() -> Iterable[int]:
        paths = [image.path for image in images]
        with ThreadPoolExecutor(args.workers) as pool:
            loaded = pool.map(load, paths)
            for start in range(0, len(paths), args.batch_size):
                count = min(args.batch_size, len(paths) - start)
                yield len(np.stack([next(loaded) for _ in range(count)]))

    return epoch


class _TorchImages:
    """As torch's own datasets of image files are written."""

    def __init__(self, paths: list[str], transform: Callable[[Any], Any]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def _torch_ways(images: list[LabelledImage], args: Any) -> dict[str, Epoch]:
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    size = (args.image_size, args.image_size)

    def by_pillow(image: Any) -> Any:
        return torch.from_numpy(np.array(image.resize(size, Image.Resampling.BILINEAR)))

    def by_torch(image: Any) -> Any:
        # What torchvision's v2.Resize does with an image as a tensor: uint8, its channels last in memory.
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)[0]

    def way(transform: Callable[[Any], Any]) -> Epoch:
        loader = torch.utils.data.DataLoader(
            _TorchImages([str(image.path) for image in images], transform),
            batch_size=args.batch_size,
            num_workers=args.workers,
            persistent_workers=True,
        )
        return lambda: (len(batch) for batch in loader)

    return {name: way(transform) for name, transform in (("torch_pillow", by_pillow), ("torch_resize", by_torch))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
