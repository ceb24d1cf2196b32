"""mpbench.data.location: every published form of a data set is found, in a folder, a zip or at its address."""

import functools
import hashlib
import http.server
import os
import socket
import tarfile
import threading
import urllib.request
import zipfile
from pathlib import Path

import pytest
from image_trees import CLASSES, KAGGLE, names, quiet, refused, tree, zipped

from mpbench.data import location
from mpbench.data.location import find


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_is_not_used_of_an_archive_is_named(home):
    zipped(home / "a.zip", *[f"pets/{name}" for name in CLASSES], "test1/1.jpg", "pets/Cat/a.txt", "pets/Dog/._0.jpg")
    ignored = ("1 images in test1", "other files: .txt 1, hidden 1")
    assert find(str(home / "a.zip"), quiet).ignored == ignored
    assert find(str(home / "a.zip"), quiet).ignored == ignored  # from the cache
    assert find(str(home / "a.zip" / "pets"), quiet).ignored == ("other files: .txt 1, hidden 1",)
    with zipfile.ZipFile(home / "all.zip", "w") as archive:
        archive.writestr("train.zip", zipped(home / "train.zip", *[f"train/{name}" for name in KAGGLE]).read_bytes())
        archive.writestr("test1.zip", b"x")
        archive.writestr("sample.csv", b"x")
    assert find(str(home / "all.zip"), quiet).ignored == ("other files: .csv 1, .zip 1",)


def test_a_folder_within_a_zip(home):
    both = [f"{part}/{name}" for part in ("train", "val") for name in CLASSES]
    zipped(home / "a.zip", *both)
    refused(lambda: find(str(home / "a.zip"), quiet), f"use one of them: {home}/a.zip/train, {home}/a.zip/val")
    data = find(str(home / "a.zip" / "val"), quiet)
    assert (data.label, names(data)) == ("a.zip/val", CLASSES)
    refused(
        lambda: find(str(home / "a.zip" / "test"), quiet), "a.zip/test: no folder", "use one that it has: train, val"
    )
    refused(lambda: find(str(home / "a.zip" / "val" / "Cat" / "0.jpg"), quiet), "no folder")
    refused(lambda: find(f"{home}/a.zip/../../x", quiet), "Not a directory")
    (home / "a.txt").write_text("x")
    refused(lambda: find(str(home / "a.txt" / "val"), quiet), "a.txt: is not a zip")


def test_what_is_no_data_set(home):
    refused(lambda: find(str(home / "missing"), quiet), "missing: No such file", "a zip or a folder", "download")
    refused(lambda: find("~nobody-of-this-name/x", quiet), "~nobody-of-this-name/x")
    refused(lambda: find("a\0b", quiet), r"a\x00b")
    refused(lambda: find("x" * 5000, quiet), "too long")
    with tarfile.open(home / "a.tar", "w") as archive:
        archive.add(tree(home / "x", *CLASSES))
    refused(lambda: find(str(home / "a.tar"), quiet), "a.tar: is not a zip", "a zip or a folder")
    os.mkfifo(home / "pipe")
    refused(lambda: find(str(home / "pipe"), quiet), "not a file")


def test_kaggles_folder_and_its_parent_and_its_archives(home):
    folder = tree(home / "x", *[f"dogs-vs-cats/train/{name}" for name in KAGGLE], "dogs-vs-cats/test1/1.jpg")
    tree(folder / "dogs-vs-cats", "test1/2.jpg", "train/1.jpg", "train/cat.1.txt", "train/cat.x.jpg", "sample.csv")
    zipped(home / "train.zip", *[f"train/{name}" for name in KAGGLE])
    with zipfile.ZipFile(home / "all.zip", "w") as archive:
        archive.write(home / "train.zip", "train.zip")
        archive.writestr("test1.zip", b"x")
    for place in ("x", "x/dogs-vs-cats", "x/dogs-vs-cats/train", "train.zip", "all.zip"):
        data = find(str(home / place), quiet)
        assert data.label == Path(place).name
        assert data.classes == ("cat", "dog")
        assert names(data) == KAGGLE
        assert [image.label for image in data.images] == [0, 0, 1]
        assert all(image.path.name == image.name and image.path.is_file() for image in data.images)


def test_class_folders_and_their_parent_and_their_archive(home):
    tree(home / "x", *[f"PetImages/{name}" for name in CLASSES], "readme.txt", "PetImages/Cat/Thumbs.db")
    tree(home / "x" / "PetImages", "__MACOSX/a.jpg", ".git/a.jpg", "Cat/._0.jpg", "loose.jpg")
    (home / "x" / "PetImages" / "Empty").mkdir()
    zipped(home / "pets.zip", *[f"PetImages/{name}" for name in CLASSES], "readme.txt")
    for place in ("x", "x/PetImages", "pets.zip"):
        data = find(str(home / place), quiet)
        assert data.classes == ("Cat", "Dog")
        assert names(data) == CLASSES
        assert [image.label for image in data.images] == [0, 0, 1]
        assert all(image.path.is_file() for image in data.images)


def test_more_than_two_classes_in_the_home_folder_and_relative(home, monkeypatch):
    tree(home / "flowers", "b/1.webp", "a/1.bmp", "c/1.jpeg")
    assert find("~/flowers", quiet).classes == ("a", "b", "c")
    monkeypatch.chdir(home / "flowers")
    data = find(".", quiet)
    assert (data.label, data.classes) == ("flowers", ("a", "b", "c"))


def test_a_class_of_which_no_image_can_be_read_does_not_vanish(home):
    members = ["Cat/day/0.jpg", "Cat/night/0.jpg", "Dog/0.heic"]
    tree(home / "x", *members)
    zipped(home / "x.zip", *members)
    for place in ("x", "x.zip"):
        data = find(str(home / place), quiet)
        assert data.summary == f"{place}: 2 classes: Cat 2, Dog 0; not used: other files: .heic 1"
    tree(home / "y", "Cat/0.heic", "Dog/0.AVIF")
    refused(lambda: find(str(home / "y"), quiet), "no images that can be read (.avif, .heic cannot)")


class Served(http.server.SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def served(home, monkeypatch):
    """A folder at which `download` is pointed, in it the right archive."""
    folder = home / "served"
    folder.mkdir()
    archive = zipped(folder / "pets.zip", *[f"PetImages/{name}" for name in CLASSES])
    Served.requests = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Served, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(location, "DOWNLOAD_URL", f"http://127.0.0.1:{server.server_port}/pets.zip")
    monkeypatch.setattr(location, "DOWNLOAD_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def downloads(home):
    return sorted(path.name for path in (home / "cache" / "mpbench" / "downloads").iterdir())


def test_download_once(served, home, capsys):
    lines = []
    data = find("download", lines.append)
    assert (data.label, data.classes, names(data)) == ("pets.zip", ("Cat", "Dog"), CLASSES)
    assert lines == [f"fetching {location.DOWNLOAD_URL}"]
    assert find("download", lines.append) == data
    assert Served.requests == 1
    assert len(lines) == 1
    assert downloads(home) == ["pets.zip"]
    assert capsys.readouterr().out == ""
    assert socket.getdefaulttimeout() is None


def test_a_damaged_download_in_the_cache_is_fetched_again(served, home):
    find("download", quiet)
    (home / "cache" / "mpbench" / "downloads" / "pets.zip").write_bytes(b"half")
    assert names(find("download", quiet)) == CLASSES
    assert Served.requests == 2


def test_download_of_something_else(served, home):
    (served / "pets.zip").write_bytes(b"something else")
    refused(lambda: find("download", quiet), "SHA-256", "not used", starts="--mp-data: download: ")
    assert downloads(home) == []


def test_download_that_is_not_there(served, home):
    (served / "pets.zip").unlink()
    refused(lambda: find("download", quiet), "cannot be fetched (HTTPError: HTTP Error 404", "give its path")
    assert downloads(home) == []


def test_download_that_breaks_off(served, home, monkeypatch):
    monkeypatch.setattr(Served, "copyfile", lambda self, file, out: out.write(file.read()[:100]))
    refused(lambda: find("download", quiet), "cannot be fetched (ContentTooShortError", "give its path")
    assert downloads(home) == []


def test_a_server_that_says_nothing(served, home, monkeypatch):
    monkeypatch.setattr(location, "DOWNLOAD_TIMEOUT_S", 0.2)
    go_on = threading.Event()
    monkeypatch.setattr(Served, "copyfile", lambda self, file, out: go_on.wait(10))
    refused(lambda: find("download", quiet), "cannot be fetched (TimeoutError", "give its path")
    go_on.set()
    assert downloads(home) == []
    assert socket.getdefaulttimeout() is None


def test_download_without_a_network(home, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(location, "DOWNLOAD_URL", f"http://127.0.0.1:{port}/pets.zip")
    refused(
        lambda: find("download", quiet), "cannot be fetched (URLError", "download it elsewhere and give its path",
        starts="--mp-data: download: ",
    )  # fmt: skip
    assert downloads(home) == []


def test_an_interrupted_download_leaves_nothing(served, home, monkeypatch):
    def interrupted(url, target, *rest):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(urllib.request, "urlretrieve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find("download", quiet)
    assert downloads(home) == []


def test_progress_of_a_download(served, home, monkeypatch):
    monkeypatch.setattr("mpbench.terminal.PROGRESS_S", 0.0)
    (served / "pets.zip").write_bytes(bytes(3 << 20))
    lines = []
    refused(lambda: find("download", lines.append), "SHA-256")
    assert lines[0] == f"fetching {location.DOWNLOAD_URL}"
    assert lines[-1] == "fetching pets.zip: 3 MiB"
