"""mpbench.data.images: each image is tried once, and what cannot be decoded is left out."""

import hashlib
import threading
import time

import pytest
from image_files import GOOD, data_set

from mpbench import terminal
from mpbench.data import images
from mpbench.data.data_set import DataSet
from mpbench.data.images import checked_images
from mpbench.errors import UsageProblem


def quiet(text):
    pass


def test_what_cannot_be_decoded_is_left_out_and_listed(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 12, [*[GOOD] * 12, b"", b"x"]])
    lines = []
    found = checked_images(data, 8, lines.append)
    listed = [
        "set: 2 images cannot be decoded and are left out:",
        "  1.012.jpg: empty file",
        "  1.013.jpg: not an image (BMP, GIF, JPEG, PNG, TIFF, WEBP), or its beginning is damaged",
        "set: 23 images are copies of others: answers to them are not independent",
    ]
    assert lines == listed
    assert (found.all, found.skipped) == (data.images[:24], 2)
    assert found.labels.tolist() == [0] * 12 + [1] * 12
    assert found.digests == {image.name: hashlib.sha256(GOOD).hexdigest() for image in data.images[:24]}
    monkeypatch.setattr(terminal, "PROGRESS_S", 0.0)
    lines.clear()
    checked_images(data, 8, lines.append)
    assert lines == [*(f"checking images: {done} of 26" for done in range(1, 27)), *listed]


def test_every_file_is_read_once(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 10, [GOOD] * 10])
    read, reads = images.read, []
    monkeypatch.setattr(images, "read", lambda path: reads.append(path.name) or read(path))
    checked_images(data, 8, quiet)
    assert sorted(reads) == [image.name for image in data.images]


def test_more_undecodable_images_than_a_tenth(tmp_path):
    checked_images(data_set(tmp_path, [[GOOD] * 18, [*[GOOD] * 18, *[b"x"] * 4]]), 8, quiet)
    with pytest.raises(UsageProblem) as caught:
        checked_images(data_set(tmp_path, [[GOOD] * 18, [*[GOOD] * 17, *[b"x"] * 4]]), 8, quiet)
    message = str(caught.value)
    assert message.startswith("--mp-data: set: 4 of 39 images cannot be decoded: 1.017.jpg (not an image")
    assert "1.019.jpg" in message
    assert "1.020.jpg" not in message
    assert message.endswith("10% of such at most")
    assert "\n" not in message


def test_fewer_images_of_a_class_than_ten(tmp_path):
    with pytest.raises(UsageProblem, match="class class1 has 9 images that can be decoded: valid are 10 or more"):
        checked_images(data_set(tmp_path, [[GOOD] * 20, [*[GOOD] * 9, b""]]), 8, quiet)
    with pytest.raises(UsageProblem, match="class class0 has 0 images"):
        checked_images(DataSet("set", ("class0", "class1"), ()), 8, quiet)


def test_a_set_that_takes_too_long(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 10, [GOOD] * 10])
    monkeypatch.setattr(images, "CHECK_SECONDS", 0.0)
    checked_images(data, 8, quiet)
    monkeypatch.setattr(images, "CHECK_SECONDS_PER_IMAGE", 0.0)
    with pytest.raises(
        UsageProblem, match=r"set: decoding 1 of 20 images took 0 s \(0\.000\.jpg 0\.0 s\): valid are 0 s"
    ):
        checked_images(data, 8, quiet)
    assert not own_threads()


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mpbench-images")]


def test_an_interrupted_check_stops_at_once(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 300])
    monkeypatch.setattr(terminal, "PROGRESS_S", 0.0)
    read, reads = images.read, []
    monkeypatch.setattr(images, "read", lambda path: reads.append(path) or time.sleep(0.001) or read(path))

    def progress(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked_images(data, 8, progress)
    assert not own_threads()
    assert len(reads) < 300
