"""mpbench.data beside TensorFlow: images as Keras loads them, and no memory used again that a tensor holds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from image_files import encoded, noise
from numbered_images import Numbers, numbers

from mpbench.data import decoding
from mpbench.data.decoding import decode, read
from mpbench.data.loader import AHEAD_BATCHES, Loader

pytestmark = pytest.mark.tensorflow


def test_as_keras_loads_it(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise(size=(50, 31)), "JPEG"))
    loaded = np.asarray(keras.utils.load_img(path, target_size=(24, 24), interpolation="bilinear"))
    pixels = decode(read(path), 24)
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)
    assert pixels.flags.owndata
    assert pixels.flags.writeable
    np.testing.assert_allclose(pixels.astype(int), loaded.astype(int), atol=decoding.RESIZED_TOLERANCE_LEVELS)


def test_memory_is_used_again_but_never_while_somebody_holds_it():
    with Loader(Numbers(200), 4, workers=3) as loader:
        held = next(loader)
        part = next(loader).pixels[1:3, 0]
        tensor = tf.convert_to_tensor(next(loader).pixels)
        addresses = {next(loader).pixels.ctypes.data for _ in range(30)}
    assert numbers(held) == [0, 1, 2, 3]
    assert part[:, 0, 0].tolist() == [5, 6]
    assert tensor.numpy()[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert len(addresses) <= AHEAD_BATCHES + 4
    assert held.pixels.ctypes.data not in addresses
