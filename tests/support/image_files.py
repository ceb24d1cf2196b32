"""Image files for tests, as bytes and on disk."""

import io

import numpy as np
from PIL import Image

from mpbench.data.data_set import DataSet, LabelledImage

RED = (250, 20, 30)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode="RGB", size=(20, 14)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def data_set(folder, contents):
    """A data set from lists of contents, one for each class."""
    members = []
    for label, files in enumerate(contents):
        for i, content in enumerate(files):
            path = folder / f"{label}.{i:03}.jpg"
            path.write_bytes(content)
            members.append(LabelledImage(path.name, path, label))
    return DataSet("set", tuple(f"class{i}" for i in range(len(contents))), tuple(members))


GOOD = encoded(Image.new("RGB", (6, 5), RED), "PNG")
