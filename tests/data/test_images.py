"""mpbench.data.images: what a data set is worth, and its batches."""

import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import GOOD, data_set, encoded
from PIL import Image
from waiting import until

from mpbench.data import archives, decoding, images
from mpbench.data.decoding import UndecodableImage
from mpbench.data.images import batches, check
from mpbench.data.loader import AHEAD_BATCHES
from mpbench.data.source import DataSet
from mpbench.errors import UsageProblem


def quiet(text):
    pass


def test_check(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 12, [*[GOOD] * 12, b"", b"x"]])
    said = []
    checked = check(data, 8, said.append)
    assert said == []
    assert checked.images == data.images[:24]
    assert [name for name, _ in checked.skipped] == ["1.012.jpg", "1.013.jpg"]
    assert checked.skipped[0][1] == "empty file"
    assert checked.digests == {image.name: hashlib.sha256(GOOD).hexdigest() for image in data.images[:24]}
    monkeypatch.setattr(archives, "PROGRESS_S", 0.0)
    assert check(data, 8, said.append) == checked
    assert said[0] == "checking images: 1 of 26"
    assert said[-1] == "checking images: 26 of 26"


def test_check_reads_every_file_once(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 10, [GOOD] * 10])
    read, reads = os.open, []
    monkeypatch.setattr(os, "open", lambda path, flags: reads.append(Path(path).name) or read(path, flags))
    check(data, 8, quiet)
    assert sorted(reads) == [image.name for image in data.images]


def test_more_undecodable_images_than_a_tenth(tmp_path):
    check(data_set(tmp_path, [[GOOD] * 18, [*[GOOD] * 18, *[b"x"] * 4]]), 8, quiet)
    with pytest.raises(UsageProblem) as caught:
        check(data_set(tmp_path, [[GOOD] * 18, [*[GOOD] * 17, *[b"x"] * 4]]), 8, quiet)
    message = str(caught.value)
    assert message.startswith("--mp-data: set: 4 of 39 images cannot be decoded: 1.017.jpg (not an image")
    assert "1.019.jpg" in message
    assert "1.020.jpg" not in message
    assert message.endswith("10% of such at most")
    assert "\n" not in message


def test_fewer_images_of_a_class_than_ten(tmp_path):
    with pytest.raises(UsageProblem, match="class class1 has 9 images that can be decoded: valid are 10 or more"):
        check(data_set(tmp_path, [[GOOD] * 20, [*[GOOD] * 9, b""]]), 8, quiet)
    with pytest.raises(UsageProblem, match="class class0 has 0 images"):
        check(DataSet("set", ("class0", "class1"), ()), 8, quiet)


def test_a_set_that_takes_too_long(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 10, [GOOD] * 10])
    monkeypatch.setattr(images, "CHECK_SECONDS", 0.0)
    check(data, 8, quiet)
    monkeypatch.setattr(images, "CHECK_SECONDS_PER_IMAGE", 0.0)
    with pytest.raises(
        UsageProblem, match=r"set: decoding 1 of 20 images took 0 s \(0\.000\.jpg 0\.0 s\): valid are 0 s"
    ):
        check(data, 8, quiet)
    assert not own_threads()


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mpbench-images")]


def test_an_interrupted_check_stops_at_once(tmp_path, monkeypatch):
    data = data_set(tmp_path, [[GOOD] * 300])
    monkeypatch.setattr(archives, "PROGRESS_S", 0.0)
    read, reads = decoding.read, []
    monkeypatch.setattr(decoding, "read", lambda path: reads.append(path) or time.sleep(0.001) or read(path))

    def progress(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(data, 8, progress)
    assert not own_threads()
    assert len(reads) < 300


@pytest.mark.parametrize(("count", "valid"), [(0, []), (3, [3]), (4, [4]), (10, [4, 4, 2])])
def test_batches_come_in_order_and_are_filled_up(tmp_path, count, valid):
    contents = [encoded(Image.new("RGB", (4, 4), (i, 0, 0)), "PNG") for i in range(1, count + 1)]
    members = data_set(tmp_path, [contents]).images[::-1]
    given = list(batches(members, 8, 4))
    assert [real for _, real in given] == valid
    assert all(batch.shape == (4, 8, 8, 3) and batch.dtype == np.uint8 for batch, _ in given)
    reds = [batch[i, 0, 0, 0] for batch, _ in given for i in range(4)]
    assert reds == [*range(count, 0, -1), *[0] * (4 * len(valid) - count)]
    assert not own_threads()


def test_batches_look_a_few_batches_ahead(tmp_path, monkeypatch):
    members = data_set(tmp_path, [[GOOD] * 100]).images
    read, reads = decoding.read, []
    monkeypatch.setattr(decoding, "read", lambda path: reads.append(path) or read(path))
    stream = batches(members, 8, 4)
    assert not reads
    for taken in range(1, 4):
        next(stream)
        limit = 4 * taken + 4 * AHEAD_BATCHES
        until(lambda limit=limit: len(reads) >= limit)
        time.sleep(0.02)  # in which no more are read
        assert len(reads) == limit
    assert own_threads()
    stream.close()
    assert not own_threads()
    assert len(reads) < 100


def test_a_file_that_has_changed_since_it_was_checked(tmp_path):
    members = data_set(tmp_path, [[GOOD] * 10]).images
    members[5].path.write_bytes(b"x")
    stream = batches(members, 8, 4)
    next(stream)
    with pytest.raises(UndecodableImage, match=r"0\.005\.jpg: not an image"):
        next(stream)
    assert not own_threads()
