"""mpbench.data.kept: the same pixels as decoding gives, decoded once, and only if they fit."""

import numpy as np
import pytest
from image_files import data_set, encoded, noise

from mpbench.data import kept
from mpbench.data.decoding import decode, read
from mpbench.data.loader import Loader
from mpbench.errors import UsageProblem


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    contents = [encoded(noise(size=(20 + i, 14)), "JPEG") for i in range(40)]
    return data_set(tmp_path / "images", [contents[:20], contents[20:]]).images


@pytest.fixture
def decodings(monkeypatch):
    """A count of the images decoded."""
    decode_into, done = kept.Files.fetch, []
    monkeypatch.setattr(kept.Files, "fetch", lambda *args: done.extend(args[1]) or decode_into(*args))
    return done


def source(images, kind, digests=None, size_px=8):
    return kept.source(images, size_px, kind, digests or {}, lambda text: None)


@pytest.mark.parametrize("kind", ["none", "memory", "disk"])
def test_the_same_pixels_wherever_they_are_kept(images, kind):
    expected = np.stack([decode(read(image.path), 8) for image in images])
    found = source(images, kind)
    assert (found.cache, found.size_px, found.labels.tolist()) == (kind, 8, [0] * 20 + [1] * 20)
    with Loader(found, 16, endless=False) as loader:
        batches = [(batch.pixels[: batch.valid].copy(), batch.labels) for batch in loader]
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), expected)
    assert np.concatenate([labels for _, labels in batches]).tolist() == [image.label for image in images]


def test_what_lies_on_the_disk_is_decoded_once(images, decodings, tmp_path):
    source(images, "disk")
    assert sorted(decodings) == list(range(40))
    source(images, "disk", {image.name: "" for image in images})
    assert len(decodings) == 40
    assert [path.suffix for path in (tmp_path / "cache" / "mpbench" / "decoded").iterdir()] == [".npy"]


def test_whatever_matters_is_in_the_key(images, decodings, monkeypatch):
    source(images, "disk")
    source(images, "disk", size_px=9)
    source(images[::-1], "disk")
    source(images, "disk", {images[0].name: "another file"})
    monkeypatch.setattr(kept, "decoder_version", lambda: "another decoder")
    source(images, "disk")
    assert len(decodings) == 5 * 40


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content])
def test_a_damaged_file_is_made_again(images, decodings, tmp_path, damage):
    source(images, "disk")
    (entry,) = (tmp_path / "cache" / "mpbench" / "decoded").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    source(images, "disk")
    assert len(decodings) == 80
    assert entry.read_bytes() == whole


def test_what_does_not_fit_is_refused_before_anything_is_decoded(images, decodings, monkeypatch):
    monkeypatch.setattr(kept, "_free_memory_bytes", lambda: 2 * 40 * 8 * 8 * 3 - 2)
    with pytest.raises(UsageProblem, match=r"--mp-cache memory: 40 images of 8 px take 0\.00 GiB, more than 50%"):
        source(images, "memory")
    monkeypatch.setattr(kept, "DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(UsageProblem, match=r"--mp-cache disk: 40 images .* 0\.00 GiB of disk can be had"):
        source(images, "disk")
    assert decodings == []


def test_a_disk_that_fills_up_is_one_line(images, monkeypatch, tmp_path):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(UsageProblem, match=r"No space left on device\): use memory") as caught:
        source(images, "disk")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "mpbench" / "decoded").iterdir()) == []


def test_free_memory_is_a_number_of_bytes():
    assert 1 << 20 < kept._free_memory_bytes() < 1 << 50
