"""mpbench.data.data_set: which folders are classes, and no image is left out without a word."""

import os
import re
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_trees import CLASSES, KAGGLE, names, quiet, refused, tree

from mpbench.data import data_set
from mpbench.data.data_set import is_image_name, scan
from mpbench.data.division import split
from mpbench.data.location import find
from mpbench.errors import UsageProblem


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_image_names():
    names = ["a.jpg", "Cat/0.JPEG", "a/b/c.TiFf", "a.b.webp", "x y.png"]
    assert all(is_image_name(PurePath(name)) for name in names)
    others = ["", ".jpg", "a.txt", "Cat/Thumbs.db", "._a.jpg", ".git/a.jpg", "__MACOSX/a.jpg", "jpg"]
    assert not any(is_image_name(PurePath(name)) for name in others)


def scan_refused(folder, *words):
    refused(lambda: scan(folder, "given"), *words, starts="--mp-data: given: ")


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
        "other files: without a suffix 1, .txt 1, hidden 1"
    )
    kaggle = tree(home / "y", *[f"train/{name}" for name in KAGGLE], "train/IMG_1.jpg", "test1/1.jpg", "sample.csv")
    assert scan(kaggle, "y").ignored == (
        "1 images that are not named cat.<n> or dog.<n>", "1 images in test1", "other files: .csv 1",
    )  # fmt: skip
    many = tree(home / "z", *[f"{i:03}/0.jpg" for i in range(200)])
    assert scan(many, "z").summary.endswith("007 1, 008 1, 009 1, and 190 more")


def test_folders_that_are_no_classes_by_their_names(home):
    train = tree(home / "a", *[f"train/{name}" for name in CLASSES], "test1/1.jpg")
    assert scan(train, "a").summary == "a: 2 classes: Cat 2, Dog 1; not used: 1 images in test1"
    vehicles = tree(home / "b", "bus/0.jpg", "train/0.jpg", "test set/0.jpg")
    assert scan(vehicles, "b").summary == "b: 2 classes: bus 1, train 1; not used: 1 images in test set"
    scan_refused(tree(home / "c", "train/0.jpg", "test/0.jpg"), "test, train: by their names parts of a data set")
    scan_refused(tree(home / "d", "control/0.jpg", "test/0.jpg"), "(control) besides test, by the name not a class")
    parts = [f"seg_{part}/seg_{part}/{name}" for part in ("train", "test") for name in CLASSES]
    scan_refused(tree(home / "e", *parts, "seg_pred/0.jpg"), "several data sets", "given/seg_test, given/seg_train")


def test_case_does_not_matter(home):
    folder = tree(home / "x", "Cat.0.JPG", "cat.0.jpg", "DOG.7.Png", "dog.0.TIFF", "dOg.0.gif")
    data = scan(folder, "x")
    assert names(data) == sorted(path.name for path in folder.iterdir())
    assert [image.label for image in data.images] == [int(image.name[0] in "dD") for image in data.images]
    folder = tree(home / "y", "Cat/0.jpg", "cat/0.JPG", "CAT/0.jpg")
    assert scan(folder, "y").classes == ("CAT", "Cat", "cat")


def test_several_data_sets(home):
    both = tree(home / "x", *[f"train/{name}" for name in CLASSES], *[f"validation/{name}" for name in CLASSES])
    scan_refused(both, "several", "given/train, given/validation")
    kaggle = [f"b/{name}" for name in KAGGLE]
    scan_refused(tree(home / "y", *[f"a/{name}" for name in KAGGLE], *kaggle), "several", "given/a, given/b")
    beside = tree(home / "z", "one/0.jpg", "two/0.jpg", *[f"train/{name}" for name in CLASSES])
    scan_refused(beside, "a data set in train and images in one, two", "use given/train")
    scan_refused(tree(home / "u", *kaggle, "wild/0.jpg"), "a data set in b and images in wild", "use given/b")
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


def test_an_unreadable_folder(home, monkeypatch):
    folder = tree(home / "x", *CLASSES)
    listed = Path.iterdir

    def denied(path):
        if path.name == "Dog":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", denied)
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
    monkeypatch.setattr(data_set, "MAX_FOLDERS", 3)
    scan_refused(tree(home / "x", "a/0.jpg", "b/0.jpg", "c/0.jpg"), "more than 3 folders")


def test_names_that_are_not_utf8_become_text(home):
    folder = tree(home / "x", *CLASSES)
    (folder / "Dog" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    data = scan(folder, "x")
    assert r"Dog/\xff.jpg" in names(data)
    assert all(image.name.encode() and image.path.is_file() for image in data.images)
    assert sum(map(len, split([*data.images], 0))) == 4
