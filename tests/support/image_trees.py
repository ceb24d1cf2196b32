"""Trees of files that only look like images, in folders and zips, and how a data set is refused."""

import zipfile

import pytest

from mpbench.errors import UsageProblem

KAGGLE = ["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"]
CLASSES = ["Cat/0.jpg", "Cat/1.jpg", "Dog/0.jpg"]


def quiet(text):
    pass


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def names(data):
    return [image.name for image in data.images]


def refused(call, *words, starts="--mp-data: "):
    with pytest.raises(UsageProblem) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(starts)
    assert "\n" not in message
    for word in words:
        assert word in message
