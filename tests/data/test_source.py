"""mpbench.data.source: every published form of a data set is found, and its division depends on names alone."""

import functools
import hashlib
import http.server
import os
import re
import socket
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.data import location, source
from mpbench.data.division import MIN_IMAGES_PER_CLASS, sample, split
from mpbench.data.location import find
from mpbench.data.source import LabelledImage, scan
from mpbench.errors import UsageProblem

KAGGLE = ["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"]
CLASSES = ["Cat/0.jpg", "Cat/1.jpg", "Dog/0.jpg"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


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


def scan_refused(folder, *words):
    refused(lambda: scan(folder, "given"), *words, starts="--mp-data: given: ")


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


def test_class_folders_are_read_with_all_that_is_below_them(home):
    folder = tree(home / "x", *CLASSES, "Dog/small/0.jpg", "Dog/large/very/0.jpg", "Bird/by-day/0.jpg")
    data = scan(folder, "x")
    assert names(data) == sorted([*CLASSES, "Dog/small/0.jpg", "Dog/large/very/0.jpg", "Bird/by-day/0.jpg"])
    assert data.summary == "x: 3 classes: Bird 1, Cat 2, Dog 3"
    cats = tree(home / "y", *[f"cats/by-{when}/{i}.jpg" for when in ("day", "night") for i in range(3)], "dogs/0.jpg")
    assert scan(cats, "y").summary == "y: 2 classes: cats 6, dogs 1"
    # Fewer than two folders of the same names tell nothing.
    tree(cats, "dogs/by-day/1.jpg")
    assert scan(cats, "y").summary == "y: 2 classes: cats 6, dogs 2"


@given(st.data())
def test_no_image_is_lost_without_a_word(tmp_path_factory, data):
    folders = st.sampled_from(["cat", "dog", "train", "test1", "val", "a", "day", "docs"])
    files = st.sampled_from(["0.jpg", "1.jfif", "cat.1.jpg", "dog.1.jpg", "a.heic", "a.txt", ".a.jpg"])
    paths = st.lists(folders, max_size=3).map("/".join)
    tree_names = {f"{data.draw(paths)}/{data.draw(files)}".lstrip("/") for _ in range(data.draw(st.integers(1, 12)))}
    folder = tree(tmp_path_factory.mktemp("tree"), *tree_names)
    try:
        found = scan(folder, "x")
    except UsageProblem:
        return
    assert len(found.classes) > 1
    ignored = sum(int(count) for phrase in found.ignored for count in re.findall(r"(\d+) images", phrase))
    ignored += sum(map(int, re.findall(r" (\d+)", next((p for p in found.ignored if p.startswith("other")), ""))))
    assert len(found.images) + ignored == len(tree_names)


def test_what_is_not_used_is_said(home):
    folder = tree(
        home / "x", *CLASSES, "test1/1.jpg", "test1/2.jpg", "loose.jpg", "notes", "Cat/a.txt", "Dog/.DS_Store"
    )
    (folder / "Bird").mkdir()
    (folder / "again").symlink_to(folder / "Cat")
    assert scan(folder, "x").summary == (
        "x: 2 classes: Cat 2, Dog 1; not used: 1 images in no class's folder, 2 images in test1; no images in Bird; "
        "other files: without a suffix 1, .txt 1, hidden 1; links to folders that are read already: 1"
    )
    kaggle = tree(home / "y", *[f"train/{name}" for name in KAGGLE], "train/IMG_1.jpg", "test1/1.jpg", "sample.csv")
    assert scan(kaggle, "y").ignored == (
        "1 images that are not named cat.<n> or dog.<n>", "1 images in test1", "other files: .csv 1",
    )  # fmt: skip
    many = tree(home / "z", *[f"{i:03}/0.jpg" for i in range(200)])
    assert scan(many, "z").summary.endswith("007 1, 008 1, 009 1, and 190 more")


def test_what_is_not_used_of_an_archive_is_said(home):
    zipped(home / "a.zip", *[f"pets/{name}" for name in CLASSES], "test1/1.jpg", "pets/Cat/a.txt", "pets/Dog/._0.jpg")
    said = ("1 images in test1", "other files: .txt 1, hidden 1")
    assert find(str(home / "a.zip"), quiet).ignored == said
    assert find(str(home / "a.zip"), quiet).ignored == said  # from the cache
    assert find(str(home / "a.zip" / "pets"), quiet).ignored == ("other files: .txt 1",)
    with zipfile.ZipFile(home / "all.zip", "w") as archive:
        archive.writestr("train.zip", zipped(home / "train.zip", *[f"train/{name}" for name in KAGGLE]).read_bytes())
        archive.writestr("test1.zip", b"x")
        archive.writestr("sample.csv", b"x")
    assert find(str(home / "all.zip"), quiet).ignored == ("other files: .zip 1, .csv 1",)


def test_a_class_of_which_no_image_can_be_read_does_not_vanish(home):
    members = ["Cat/day/0.jpg", "Cat/night/0.jpg", "Dog/0.heic"]
    tree(home / "x", *members)
    zipped(home / "x.zip", *members)
    for place in ("x", "x.zip"):
        data = find(str(home / place), quiet)
        assert data.summary == f"{place}: 2 classes: Cat 2, Dog 0; not used: other files: .heic 1"
    scan_refused(tree(home / "y", "Cat/0.heic", "Dog/0.AVIF"), "no images that can be read (.avif, .heic cannot)")


def test_a_folder_within_a_zip(home):
    both = [f"{part}/{name}" for part in ("train", "val") for name in CLASSES]
    zipped(home / "a.zip", *both)
    refused(lambda: find(str(home / "a.zip"), quiet), f"one of them: {home}/a.zip/train, {home}/a.zip/val")
    data = find(str(home / "a.zip" / "val"), quiet)
    assert (data.label, names(data)) == ("a.zip/val", CLASSES)
    refused(
        lambda: find(str(home / "a.zip" / "test"), quiet), "a.zip/test: no folder", "valid is one that has: train, val"
    )
    refused(lambda: find(str(home / "a.zip" / "val" / "Cat" / "0.jpg"), quiet), "no folder")
    refused(lambda: find(f"{home}/a.zip/../../x", quiet), "Not a directory")
    (home / "a.txt").write_text("x")
    refused(lambda: find(str(home / "a.txt" / "val"), quiet), "a.txt: is not a zip")


def test_folders_that_are_no_classes_by_their_names(home):
    train = tree(home / "a", *[f"train/{name}" for name in CLASSES], "test1/1.jpg")
    assert scan(train, "a").summary == "a: 2 classes: Cat 2, Dog 1; not used: 1 images in test1"
    vehicles = tree(home / "b", "bus/0.jpg", "train/0.jpg", "test set/0.jpg")
    assert scan(vehicles, "b").summary == "b: 2 classes: bus 1, train 1; not used: 1 images in test set"
    scan_refused(tree(home / "c", "train/0.jpg", "test/0.jpg"), "test, train: by their names parts of a data set")
    scan_refused(tree(home / "d", "control/0.jpg", "test/0.jpg"), "one class only (control) besides test, which by")
    parts = [f"seg_{part}/seg_{part}/{name}" for part in ("train", "test") for name in CLASSES]
    scan_refused(tree(home / "e", *parts, "seg_pred/0.jpg"), "several data sets", "given/seg_test, given/seg_train")


def test_case_does_not_matter(home):
    folder = tree(home / "x", "Cat.0.JPG", "cat.0.jpg", "DOG.7.Png", "dog.0.TIFF", "dOg.0.gif")
    data = scan(folder, "x")
    assert names(data) == sorted(path.name for path in folder.iterdir())
    assert [image.label for image in data.images] == [int(image.name[0] in "dD") for image in data.images]
    folder = tree(home / "y", "Cat/0.jpg", "cat/0.JPG", "CAT/0.jpg")
    assert scan(folder, "y").classes == ("CAT", "Cat", "cat")


def test_more_than_two_classes_in_the_home_folder_and_relative(home, monkeypatch):
    tree(home / "flowers", "b/1.webp", "a/1.bmp", "c/1.jpeg")
    assert find("~/flowers", quiet).classes == ("a", "b", "c")
    monkeypatch.chdir(home / "flowers")
    data = find(".", quiet)
    assert (data.label, data.classes) == ("flowers", ("a", "b", "c"))


def test_several_data_sets(home):
    both = tree(home / "x", *[f"train/{name}" for name in CLASSES], *[f"validation/{name}" for name in CLASSES])
    scan_refused(both, "several", "given/train, given/validation")
    kaggle = [f"b/{name}" for name in KAGGLE]
    scan_refused(tree(home / "y", *[f"a/{name}" for name in KAGGLE], *kaggle), "several", "given/a, given/b")
    beside = tree(home / "z", "one/0.jpg", "two/0.jpg", *[f"train/{name}" for name in CLASSES])
    scan_refused(beside, "a data set in train and images in one, two", "valid is given/train")
    scan_refused(tree(home / "u", *kaggle, "wild/0.jpg"), "a data set in b and images in wild", "valid is given/b")
    alike = tree(home / "v", *[f"{kind}/{when}/0.jpg" for kind in ("cats", "dogs") for when in ("day", "night")])
    scan_refused(
        alike, "several data sets, or class folders with sub-folders of the same names", "given/cats, given/dogs"
    )


def test_no_images_and_one_class(home):
    scan_refused(tree(home / "a", "readme.txt", ".hidden.jpg"), "holds no images")
    scan_refused(tree(home / "b", "Cat/0.jpg"), "one class only (Cat)")
    (home / "b" / "Dog").mkdir()
    scan_refused(home / "b", "one class only (Cat)")
    scan_refused(tree(home / "c", "train/cat.0.jpg", "train/cat.1.jpg"), "one class only (cat)")
    scan_refused(tree(home / "d", "1.jpg"), "one class only (d)")
    refused(
        lambda: find(str(home / "b"), quiet), "one class", starts=f"--mp-data: {home / 'b'}: "
    )  # what was given, not the label


def test_what_is_no_data_set(home):
    refused(lambda: find(str(home / "missing"), quiet), "missing: No such file", "a zip or a folder", "download")
    refused(lambda: find("~nobody-of-this-name/x", quiet), "~nobody-of-this-name/x")
    refused(lambda: find("a\0b", quiet), r"'a\x00b'")
    refused(lambda: find("x" * 5000, quiet), "too long")
    with tarfile.open(home / "a.tar", "w") as archive:
        archive.add(tree(home / "x", *CLASSES))
    refused(lambda: find(str(home / "a.tar"), quiet), "a.tar: is not a zip", "a zip or a folder")
    os.mkfifo(home / "pipe")
    refused(lambda: find(str(home / "pipe"), quiet), "no file")


def test_an_unreadable_folder(home, monkeypatch):
    folder = tree(home / "x", *CLASSES)
    listed = os.scandir

    def denied(path):
        if Path(path).name == "Dog":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", denied)
    scan_refused(folder, "Dog cannot be read (Permission denied)")


def test_links(home):
    folder = tree(home / "x", "train/Cat/0.jpg")
    tree(home / "elsewhere", "0.jpg")
    (folder / "train" / "Dog").symlink_to(home / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "train" / "Cat" / "loop").symlink_to(folder / "train")
    (folder / "train" / "Cat" / "self.jpg").symlink_to(folder / "train" / "Cat" / "self.jpg")
    (folder / "train" / "Cat" / "nowhere.jpg").symlink_to(home / "nowhere.jpg")
    (folder / "again").symlink_to(folder / "train" / "Cat")
    assert names(scan(folder, "x")) == ["Cat/0.jpg", "Dog/0.jpg"]


def test_too_many_folders(home, monkeypatch):
    monkeypatch.setattr(source, "MAX_FOLDERS", 3)
    scan_refused(tree(home / "x", "a/0.jpg", "b/0.jpg", "c/0.jpg"), "more than 3 folders")


def test_names_that_are_not_utf8_become_text(home):
    folder = tree(home / "x", *CLASSES)
    (folder / "Dog" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    data = scan(folder, "x")
    assert r"Dog/\xff.jpg" in names(data)
    assert all(image.name.encode() and image.path.is_file() for image in data.images)
    assert sum(map(len, split([*data.images], 0))) == 4


@st.composite
def labelled(draw, least=2):
    counts = draw(st.lists(st.integers(least, 40), min_size=1, max_size=4))
    return [
        LabelledImage(f"{label}/{i}.jpg", Path("x"), label) for label, count in enumerate(counts) for i in range(count)
    ]


def per_class(images, label):
    return sum(image.label == label for image in images)


@given(labelled(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_split_is_a_stratified_partition_by_names_alone(images, seed, rng):
    training, validation = split(images, seed)
    assert sorted([*training, *validation], key=lambda image: image.name) == sorted(
        images, key=lambda image: image.name
    )
    for label in {image.label for image in images}:
        count = per_class(images, label)
        assert per_class(validation, label) == max(1, round(0.2 * count))
        assert per_class(training, label) >= 1
    for part in (training, validation):
        assert [image.name for image in part] == sorted(image.name for image in part)
    shuffled = list(images)
    rng.shuffle(shuffled)
    assert split(shuffled, seed) == (training, validation)


@given(labelled(least=1), st.integers(0, 200), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_sample_keeps_proportions(images, count, seed, rng):
    chosen = sample(images, count, seed)
    assert len(chosen) == min(count, len(images))
    assert set(chosen) <= set(images)
    assert len(set(chosen)) == len(chosen)
    labels = {image.label for image in images}
    for label in labels:
        shares = [min(count, len(images)) * per_class(images, other) / len(images) for other in labels]
        share = min(count, len(images)) * per_class(images, label) / len(images)
        if min(shares) >= MIN_IMAGES_PER_CLASS:
            assert abs(per_class(chosen, label) - share) < 1
        if count >= MIN_IMAGES_PER_CLASS * len(labels):
            assert per_class(chosen, label) >= min(MIN_IMAGES_PER_CLASS, per_class(images, label))
    shuffled = list(images)
    rng.shuffle(shuffled)
    assert sample(shuffled, count, seed) == chosen


@pytest.mark.parametrize(("sizes", "count"), [((23, 22, 10), 32), ((10, 22, 22, 21), 40), ((11, 16, 18), 30)])
def test_a_rare_class_takes_from_several_where_the_largest_has_too_little(sizes, count):
    images = [LabelledImage(f"{label}/{i}.jpg", Path("x"), label) for label, n in enumerate(sizes) for i in range(n)]
    chosen = sample(images, count, 0)
    assert len(chosen) == count
    assert min(per_class(chosen, label) for label in range(len(sizes))) == MIN_IMAGES_PER_CLASS


def test_seeds_differ_and_stay_what_they_are():
    images = [LabelledImage(f"cat.{i}.jpg", Path("x"), 0) for i in range(100)]
    assert split(images, 0) != split(images, 1)
    assert sample(images, 20, 0) != sample(images, 20, 1)
    # Recorded: another version must divide a data set in the same way.
    assert [image.name for image in sample(images, 3, 0)] == ["cat.27.jpg", "cat.37.jpg", "cat.59.jpg"]
    assert [image.name for image in split(images, 0)[1]][:3] == ["cat.17.jpg", "cat.28.jpg", "cat.30.jpg"]


def test_a_class_of_one_cannot_be_split():
    with pytest.raises(ValueError, match="one image"):
        split([LabelledImage("a", Path("x"), 0)], 0)


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
    said = []
    data = find("download", said.append)
    assert (data.label, data.classes, names(data)) == ("pets.zip", ("Cat", "Dog"), CLASSES)
    assert said == [f"fetching {location.DOWNLOAD_URL}"]
    assert find("download", said.append) == data
    assert Served.requests == 1
    assert len(said) == 1
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

    monkeypatch.setattr(location, "fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find("download", quiet)
    assert downloads(home) == []


def test_progress_of_a_download(served, home, monkeypatch):
    monkeypatch.setattr("mpbench.data.archives.PROGRESS_S", 0.0)
    (served / "pets.zip").write_bytes(bytes(3 << 20))
    said = []
    refused(lambda: find("download", said.append), "SHA-256")
    assert said[0] == f"fetching {location.DOWNLOAD_URL}"
    assert said[-1] == "fetching pets.zip: 3 MiB"
