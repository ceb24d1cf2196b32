"""mpbench.data.archives: the published archives unpack, and no hostile or damaged one leaves anything behind."""

import io
import os
import random
import shutil
import stat
import struct
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from mpbench import terminal
from mpbench.data import archives
from mpbench.data.archives import extracted
from mpbench.errors import UsageProblem

IMAGE = b"not decoded here " * 20
KAGGLE = {"train/cat.0.jpg": IMAGE, "train/dog.0.jpg": IMAGE + b"dog"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(terminal, "PROGRESS_S", 0.0)
    return []


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    """Bytes of a zip from names or ZipInfos and contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content, None if isinstance(name, zipfile.ZipInfo) else compression)
    return file.getvalue()


def unpacked(home, content, progress=lambda text: None):
    path = home / "data" / "a.zip"
    path.write_bytes(content)
    return extracted(path, progress)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(home, content, *words):
    """The one line that an archive is refused with, after which there is nothing that was not there before."""
    with pytest.raises(UsageProblem) as caught:
        unpacked(home, content)
    message = str(caught.value)
    assert message.startswith("--mp-data: a.zip: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    assert files(home) == ["data/a.zip"]
    assert not list(home.rglob(".mpbench-partial-*"))
    return message


def named(name, mode=None, content=IMAGE):
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    if mode is not None:
        info.create_system, info.external_attr = 3, mode << 16
    return [("train/cat.0.jpg", IMAGE), (info, content)]


def patched(content, name, offset, value):
    """A zip with a field of one member's entry in the central directory replaced."""
    at = content.rindex(name.encode()) - 46
    assert content[at : at + 4] == b"PK\1\2"
    return content[: at + offset] + value + content[at + offset + len(value) :]


FLAGS, METHOD, CRC, SIZE = 8, 10, 16, 24


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_kaggles_inner_and_outer_archive(home, compression):
    inner = zipped({"train/": b"", ".DS_Store": b"y", **KAGGLE}, compression)
    folder = unpacked(home, inner)
    assert files(folder) == [".DS_Store", "train/cat.0.jpg", "train/dog.0.jpg"]
    assert (folder / "train" / "dog.0.jpg").read_bytes() == IMAGE + b"dog"
    test = zipped({"test1/1.jpg": IMAGE})
    outer = {"sampleSubmission.csv": b"id,label\n", "test1.zip": test, "train.zip": inner, ".DS_Store": b"x"}
    outer_folder = unpacked(home, zipped(outer, compression))
    assert outer_folder != folder
    assert files(outer_folder) == sorted(["sampleSubmission.csv", "test1.zip", *files(folder)])
    assert (outer_folder / "test1.zip").read_bytes() == b""


def test_microsofts_archive(home):
    members = {
        "PetImages/Cat/0.jpg": IMAGE,
        "PetImages/Cat/Thumbs.db": b"x",
        "PetImages/Dog/0.jpg": IMAGE,
        "PetImages/Dog/666.jpg": b"",
        "readme[1].txt": b"x",
        "MSR-LA - 3467.docx": b"x",
        "__MACOSX/PetImages/Cat/._0.jpg": b"x",
        "PetImages/.hidden.jpg": b"x",
    }
    folder = unpacked(home, zipped(members))
    assert files(folder) == sorted(members)
    assert [name for name in files(folder) if (folder / name).read_bytes()] == [
        "PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg",
    ]  # fmt: skip


def test_separators_of_windows(home):
    members = [*named("train\\dog.0.jpg"), ("./train//dog.1.jpg", IMAGE)]
    folder = unpacked(home, zipped(members))
    assert files(folder) == ["train/cat.0.jpg", "train/dog.0.jpg", "train/dog.1.jpg"]


def test_the_second_time_nothing_is_unpacked(home, monkeypatch):
    folder = unpacked(home, zipped(KAGGLE))
    monkeypatch.setattr(archives, "_unpack", None)
    assert unpacked(home, zipped(KAGGLE)) == folder


def test_what_somebody_has_deleted_from_the_cache_is_unpacked_again(home):
    folder = unpacked(home, zipped(KAGGLE))
    (folder / "train" / "cat.0.jpg").unlink()
    assert unpacked(home, zipped(KAGGLE)) == folder
    assert (folder / "train" / "cat.0.jpg").read_bytes() == IMAGE


def test_progress_is_shown_now_and_then(home, monkeypatch, lines):
    unpacked(home, zipped(KAGGLE), lines.append)
    assert lines == ["reading a.zip", "unpacking a.zip: 1 of 2 images", "unpacking a.zip: 2 of 2 images"]
    lines.clear()
    monkeypatch.setattr(terminal, "PROGRESS_S", 1000.0)
    unpacked(home, zipped({**KAGGLE, "more.jpg": IMAGE}), lines.append)
    assert lines == []


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_an_interrupted_unpacking_leaves_nothing(home, lines, moment):
    def progress(text):
        lines.append(text)
        if len(lines) == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacked(home, zipped(KAGGLE), progress)
    assert files(home) == ["data/a.zip"]


def test_an_interrupted_inner_archive_leaves_nothing(home, monkeypatch):
    read = zipfile.ZipExtFile.read

    def interrupted(stream, size=-1):
        if stream.name.endswith("dog.0.jpg"):
            raise KeyboardInterrupt
        return read(stream, size)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpacked(home, zipped({"train.zip": zipped(KAGGLE)}))
    assert files(home) == ["data/a.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/dog.0.jpg", "//host/share/dog.0.jpg", "\\dog.0.jpg", "../dog.0.jpg", "train/../../dog.0.jpg",
        "..\\..\\dog.0.jpg", "train/..", "..", "../readme.txt", "../", "/", "a/../b/",
    ],
)  # fmt: skip
def test_names_that_leave_the_folder(home, name):
    assert repr(name) in refused(home, zipped(named(name)), "relative names")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR, stat.S_IFDIR | 0o755])
def test_links_and_special_files(home, mode):
    refused(
        home, zipped(named("train/dog.0.jpg", mode, b"/etc/passwd")), "'train/dog.0.jpg' is a link or a special file"
    )


def test_ordinary_modes_are_fine(home):
    members = [*named("train/dog.0.jpg", stat.S_IFREG | 0o644), *named("sub/", stat.S_IFDIR | 0o755, b"")[1:]]
    assert len(files(unpacked(home, zipped(members)))) == 2


def test_encrypted_members(home):
    content = patched(zipped(KAGGLE), "train/dog.0.jpg", FLAGS, b"\1\0")
    refused(home, content, "train/dog.0.jpg", "encrypted", "password")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["train/cat.0.jpg", "train//cat.0.jpg", "train\\cat.0.jpg"])
def test_a_name_twice(home, name):
    refused(home, zipped(named(name)), "twice")


def spelt(*more):
    """Names that are one in some file systems, each with contents of its own."""
    return zipped({**KAGGLE, **{name: name.encode() for name in more}})


@pytest.mark.skipif(sys.platform != "linux", reason="a file system may fold case elsewhere")
def test_names_that_differ_in_case_alone_are_two_files(home):
    folder = unpacked(home, spelt("TRAIN/Cat.0.JPG", "train/CAT.0.jpg", "train/e\u0301.jpg", "train/\u00e9.jpg"))
    assert (folder / "train" / "CAT.0.jpg").read_bytes() == b"train/CAT.0.jpg"
    assert len(files(folder)) == 6


@pytest.mark.parametrize("name", ["train/cat.0.jpg/dog.0.jpg", "train/cat.0.jpg/a/b.txt"])
def test_a_file_that_is_a_folder_too(home, name):
    refused(home, zipped(named(name)), "cannot be unpacked", "Error")


def test_not_a_zip(home):
    for content in (b"", b"x" * 1000, b"PK\3\4", zipped(KAGGLE)[:-30]):
        refused(home, content, "not a zip", "a zip or a folder")
    with pytest.raises(UsageProblem, match="not a file"):
        extracted(home / "missing.zip", print)
    with pytest.raises(UsageProblem, match="not a file"):
        extracted(home, print)


def test_damage(home):
    content = zipped(KAGGLE, zipfile.ZIP_STORED)
    at = content.index(IMAGE)
    refused(home, content[:at] + b"X" + content[at + 1 :], "cat.0.jpg", "CRC")
    refused(home, patched(content, "train/dog.0.jpg", CRC, b"\0\0\0\0"), "dog.0.jpg", "CRC")
    refused(home, content[:20] + content[40:], "readable zip")
    refused(home, patched(content, "train/dog.0.jpg", METHOD, struct.pack("<H", 99)), "method 99")
    refused(home, patched(content, "train/dog.0.jpg", METHOD, struct.pack("<H", 8)), "dog.0.jpg", "use a whole zip")
    inner = zipped({"train.zip": content[:at] + b"X" + content[at + 1 :]})
    refused(home, inner, "cat.0.jpg", "use a whole zip")
    refused(home, zipped({"train.zip": content[:100]}), "damaged")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_limit(home, method):
    refused(home, zipped(KAGGLE, method), f"method {method}")


def test_random_damage_is_refused_or_harmless(home):
    rng = random.Random(1)
    whole, messages = zipped(KAGGLE), []
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)) :]
        try:
            unpacked(home, bytes(content))
        except UsageProblem as problem:
            messages.append(str(problem))
        assert not list(home.rglob(".mpbench-partial-*"))
        assert files(home / "data") == ["a.zip"]
    assert len(messages) > 50
    assert all(message.isprintable() for message in messages)


@pytest.mark.parametrize("size", [10, len(IMAGE) - 1])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_no_more_is_unpacked_than_a_member_says(home, size, compression):
    content = zipped({"train/cat.0.jpg": IMAGE}, compression)
    content = patched(content, "train/cat.0.jpg", SIZE, struct.pack("<I", size))
    refused(home, content, "cannot be unpacked", "CRC")
    content = patched(content, "train/cat.0.jpg", CRC, struct.pack("<I", zipfile.crc32(IMAGE[:size])))
    assert (unpacked(home, content) / "train" / "cat.0.jpg").read_bytes() == IMAGE[:size]


def test_bombs(home, monkeypatch):
    huge = zipped({**KAGGLE, "train/cat.1.jpg": bytes(archives.MAX_IMAGE_BYTES + 1)})
    refused(home, huge, "cat.1.jpg", str(archives.MAX_IMAGE_BYTES))
    unpacked(home, zipped({**KAGGLE, "unused.bin": bytes(archives.MAX_IMAGE_BYTES + 1)}))
    shutil.rmtree(home / "cache")
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 3 * len(IMAGE))
    refused(home, zipped({f"train/cat.{i}.jpg": IMAGE for i in range(4)}), "bytes of images")
    refused(home, zipped({"train.zip": zipped({"a.jpg": random.Random(0).randbytes(4 * len(IMAGE))})}), "train.zip")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    refused(home, zipped({f"{i}.txt": b"" for i in range(6)}), "6 files")


def test_zips_in_zips(home):
    inner = zipped({"train.zip": zipped(KAGGLE)})
    refused(home, zipped({"train.zip": inner}), "no images in its train.zip")
    refused(home, zipped({"train.zip": zipped({"a.txt": b""})}), "no images in its train.zip")
    refused(home, zipped({"test1.zip": zipped({"test1/1.jpg": IMAGE})}), "no images")
    refused(home, zipped({"a/train.zip": inner, "b/train.zip": inner}), "several train.zip")
    refused(home, zipped({"a.txt": b""}), "no images")
    refused(home, zipped({}), "no images")
    hostile = zipped({"train.zip": zipped(named("../dog.0.jpg"))})
    refused(home, hostile, "'../dog.0.jpg'")


def test_no_room(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage(0, 0, 2 * len(IMAGE)))
    refused(home, zipped(KAGGLE), "free", "XDG_CACHE_HOME")


def test_a_disk_that_fills_up_meanwhile(home, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **options: Full() if mode == "xb" else opened(path, mode, **options)
    )
    refused(home, zipped(KAGGLE), "No space left", "cache folder with space")


@pytest.mark.skipif(sys.platform != "linux", reason="a name's length is limited elsewhere")
def test_a_name_that_is_too_long_for_the_disk(home):
    refused(home, zipped({**KAGGLE, "x" * 5000 + ".jpg": IMAGE}), "cannot be unpacked", "too long")


def test_the_archives_own_odd_name(home):
    path = home / "data" / "a\nb.zip"
    path.write_bytes(b"")
    with pytest.raises(UsageProblem) as caught:
        extracted(path, print)
    assert str(caught.value).startswith(r"--mp-data: a\nb.zip: ")
    assert os.listdir(home) == ["data"]  # noqa: PTH208
