"""The drawn pictures: the same bytes everywhere, not trivially told apart."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from scipy import optimize, special

from mpbench.data import generated
from mpbench.data.generated import CLASSES, data_set, picture

SEED = 42


@pytest.fixture(scope="module")
def pictures():
    return [(CLASSES.index(kind), picture(kind, i, SEED)) for i in range(300) for kind in CLASSES]


def test_the_same_bytes_on_every_machine():
    # Found on Pillow 10.1, 11.1 and 13.0, Python 3.10 to 3.13.
    bytes_of = [picture(kind, i, SEED) for kind in CLASSES for i in range(30)]
    assert hashlib.sha256(b"".join(bytes_of)).hexdigest().startswith("e6fc170653597811")


def test_they_are_jpeg_files_of_varying_size(pictures):
    opened = [Image.open(io.BytesIO(content)) for _, content in pictures[:100]]
    assert {image.format for image in opened} == {"JPEG"}
    assert {image.mode for image in opened} == {"RGB"}
    widths, heights = zip(*(image.size for image in opened), strict=True)
    assert 430 <= min(widths) < max(widths) <= 500
    assert 320 <= min(heights) < max(heights) <= 380
    assert len({content for _, content in pictures}) == len(pictures)


def test_another_seed_draws_others():
    assert picture("cat", 0, SEED) != picture("cat", 0, SEED + 1)


def test_a_linear_model_on_raw_pixels_does_not_tell_them_apart(pictures):
    labels = np.array([label for label, _ in pictures])
    small = [Image.open(io.BytesIO(content)).resize((16, 16)) for _, content in pictures]
    raw = np.stack([np.asarray(image, dtype=float).ravel() for image in small])
    cut = int(0.8 * len(labels))
    raw = (raw - raw[:cut].mean(axis=0)) / raw[:cut].std(axis=0)
    signs = 2 * labels[:cut] - 1

    def loss(weights, penalty):
        margins = signs * (raw[:cut] @ weights)
        gradient = -(raw[:cut] * (signs * special.expit(-margins))[:, None]).mean(axis=0)
        return np.logaddexp(0, -margins).mean() + penalty * weights @ weights / 2, gradient + penalty * weights

    for penalty in (0.01, 0.1, 1.0):
        fitted = optimize.minimize(loss, np.zeros(raw.shape[1]), args=(penalty,), jac=True, method="L-BFGS-B").x
        accuracy = ((raw[cut:] @ fitted > 0) == labels[cut:]).mean()
        assert accuracy < 0.75


def test_a_set_is_drawn_once_and_mended(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = []

    def counted(*args):
        drawn.append(args)
        return picture(*args)

    monkeypatch.setattr(generated, "picture", counted)
    data = data_set(6, SEED, lambda _: None)
    assert data.classes == ("cat", "dog")
    assert [(image.name, image.label) for image in data.images] == [
        *((f"cat.{i}.jpg", 0) for i in range(3)),
        *((f"dog.{i}.jpg", 1) for i in range(3)),
    ]
    assert data.images[4].path.read_bytes() == picture("dog", 1, SEED)
    assert data_set(6, SEED, lambda _: None) == data
    assert len(drawn) == 6
    data.images[2].path.unlink()
    assert data_set(6, SEED, lambda _: None).images[2].path.read_bytes() == picture("cat", 2, SEED)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def interrupted(kind, index, seed):
        if index == 1:
            raise KeyboardInterrupt
        return picture(kind, index, seed)

    monkeypatch.setattr(generated, "picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data_set(6, SEED, lambda _: None)
    assert list((tmp_path / "mpbench" / "generated").iterdir()) == []
