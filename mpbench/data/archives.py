"""Zip archives of images: unpacked into the cache once, and refused where they are hostile or damaged.

What both archives and folders must agree on is here too: which names are images'.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import stat
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

from mpbench.errors import UsageProblem, described
from mpbench.system import cache

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
UNREAD_SUFFIXES = frozenset(
    (".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)
"""Images too, and of a class that has only such it must be said that it has none."""

APPLES_FOLDER = "__MACOSX"
"""Where macOS puts resource forks, named as the files that they belong to."""

VALID_DATA = (
    "valid is a zip or a folder of images, in a sub-folder for each of two or more classes or named cat.<n>.jpg and "
    "dog.<n>.jpg"
)

MAX_MEMBERS = 1_000_000
MAX_IMAGE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 16 << 30
"""Kaggle's and Microsoft's archives hold less than 1 GiB."""

BLOCK_BYTES = 4096
"""What a file takes on disk is a multiple of it."""

TRAINING_ARCHIVE = "train.zip"
"""The labelled part of Kaggle's outer archive."""

INNER_NAME = ".train.zip"
CONTENTS_NAME = ".contents"
"""Both hidden: no member is unpacked under such a name."""

MAX_SUFFIX_CHARACTERS = 12

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, zipfile unpacks a whole chunk at once, however much that is."""

ENCRYPTED_FLAG = 0x1
DRIVE = re.compile(r"[A-Za-z]:")
PROGRESS_S = 5.0

Progress = Callable[[str], None]


def is_image_name(name: str) -> bool:
    """Whether a relative name, with `/`, is an image's: it has an image's suffix, and nothing in it is hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == APPLES_FOLDER for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def kind_of(name: str) -> str:
    """What a file is that is no image to be read: its suffix, or that it is hidden or only looks like a file."""
    path = PurePosixPath(name)
    if any(part.startswith(".") or part == APPLES_FOLDER for part in path.parts):
        return "hidden"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return "links to nothing"
    return path.suffix.lower()[:MAX_SUFFIX_CHARACTERS] or "without a suffix"


def throttled(progress: Progress) -> Progress:
    """The same, called once in PROGRESS_S seconds at most: what is done sooner says nothing."""
    said = time.monotonic()

    def say(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_S:
            said = time.monotonic()
            progress(text)

    return say


def shown(text: str) -> str:
    """A path for a message, in one line whatever is in it."""
    return text if text.isprintable() else repr(text)


def extracted(archive: Path, progress: Progress) -> Path:
    """The folder in the cache that holds an archive's images, unpacked if they are not there yet.

    Args:
        archive: a zip, or a zip that holds `train.zip`.
        progress: called with how far it is every few seconds.

    Returns:
        A folder whose layout is that of the archive.

    Raises:
        UsageProblem: the archive is not a zip, is damaged, hostile or without images, or there is no room for it.
    """
    given = f"--mp-data: {shown(archive.name)}"
    say = throttled(progress)
    try:
        if not archive.is_file():
            raise _Refused(f"is no file: {VALID_DATA}")
        with archive.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise _Refused(f"is not a zip, or its end is missing: {VALID_DATA}")
            file.seek(0)
            say(f"reading {archive.name}")
            target = cache.folder("archives") / cache.sha256_of_stream(file)
            if target.is_dir() and not _is_whole(target):
                shutil.rmtree(target)
            if not target.is_dir():  # asked again: another process may have put it there
                with cache.publish(target) as partial:
                    partial.mkdir()
                    _unpack(file, archive.name, partial, say)
    except _Refused as refused:
        raise UsageProblem(f"{given}: {refused}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that this file system cannot hold
        raise UsageProblem(
            f"{given}: cannot be unpacked ({described(error)}): valid is a readable zip and a cache folder with space"
        ) from error
    return target


def left_out(folder: Path, inside: PurePath) -> dict[str, dict[str, int]]:
    """What an archive held besides images, by folder and kind, each relative to a folder in it.

    Args:
        folder: from `extracted`.
        inside: of all that the archive holds, what is looked at.
    """
    found = {}
    for name, kinds in _contents(folder)["others"].items():
        if (path := PurePath(name)).is_relative_to(inside):
            found[path.relative_to(inside).as_posix()] = kinds
    return found


class _Refused(Exception):
    """Why an archive is not unpacked, in words that follow its name."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive; `name` is relative, without `..`, and has `/` only."""

    name: str
    info: zipfile.ZipInfo


def _contents(folder: Path) -> dict[str, Any]:
    """What was noted of an unpacked archive.

    Raises:
        OSError, ValueError: nothing was, or by a version that took other files for images.
    """
    contents = json.loads((folder / CONTENTS_NAME).read_text(encoding="utf-8"))
    if not isinstance(contents, dict) or contents.get("suffixes") != list(IMAGE_SUFFIXES):
        raise ValueError("of another version")
    return contents


def _is_whole(folder: Path) -> bool:
    """Whether all is there: some systems delete single old files from caches."""
    try:
        count = _contents(folder).get("images")
    except (OSError, ValueError):
        return False
    return bool(count == sum(name != CONTENTS_NAME for _, _, names in os.walk(folder) for name in names))


def _unpack(file: IO[bytes], name: str, destination: Path, say: Progress) -> None:
    folds = _folds_names(destination)
    with _opened(file) as outer:
        outside = members = _checked_members(outer, folds)
        images = _images(members)
        if images:
            _unpack_images(outer, images, name, destination, say)
            _note(members, destination)
            return
        inner = [member for member in members if PurePosixPath(member.name).name.lower() == TRAINING_ARCHIVE]
        if len(inner) != 1:
            raise _Refused(f"holds {'no images' if not inner else f'several {TRAINING_ARCHIVE}'}: {VALID_DATA}")
        _check_sizes(inner, MAX_TOTAL_BYTES, destination)
        say(f"unpacking {name}: {TRAINING_ARCHIVE}")
        # To a file of its own: a deflated archive cannot be read in the order in which its members lie.
        _copy(outer, inner[0], destination / INNER_NAME)
    with (destination / INNER_NAME).open("rb") as inner_file, _opened(inner_file) as archive:
        members = _checked_members(archive, folds)
        images = _images(members)
        if not images:
            deeper = any(member.name.lower().endswith(".zip") for member in members)
            what = "a zip in a zip in a zip" if deeper else f"no images in its {TRAINING_ARCHIVE}"
            raise _Refused(f"holds {what}: {VALID_DATA}")
        _unpack_images(archive, images, name, destination, say)
    (destination / INNER_NAME).unlink()
    _note([*members, *(member for member in outside if member not in inner)], destination)


def _unpack_images(
    archive: zipfile.ZipFile, images: Sequence[_Member], name: str, destination: Path, say: Progress
) -> None:
    _check_sizes(images, MAX_IMAGE_BYTES, destination)
    made = set()
    for done, image in enumerate(images):
        path = destination / image.name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        _copy(archive, image, path)
        say(f"unpacking {name}: {done + 1} of {len(images)} images")


def _note(members: Sequence[_Member], destination: Path) -> None:
    """How many images were unpacked, and of what else there was how much."""
    others: dict[str, Counter[str]] = {}
    for member in members:
        if not is_image_name(member.name):
            folder = "." if kind_of(member.name) == "hidden" else str(PurePosixPath(member.name).parent)
            others.setdefault(folder, Counter())[kind_of(member.name)] += 1
    contents = {"images": len(_images(members)), "suffixes": IMAGE_SUFFIXES, "others": others}
    (destination / CONTENTS_NAME).write_text(json.dumps(contents), encoding="utf-8")


def _opened(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # zipfile documents one of the many that it raises for damaged archives
        raise _Refused(f"is damaged ({described(error)}): valid is a whole zip") from error


def _checked_members(archive: zipfile.ZipFile, folds: bool) -> list[_Member]:
    """The files in an archive; one hostile name condemns it, whether or not that member would be unpacked.

    Args:
        folds: whether names that differ in case alone are one where the images go.
    """
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _Refused(f"holds {len(infos)} files: valid are {MAX_MEMBERS} or fewer")
    same = _folded if folds else str
    members, names = [], set()
    for info in infos:
        # Not `filename`, which ends at a NUL, and is replaced by some Python versions with what an extra field says.
        name = _safe_name(info.orig_filename)
        is_folder = info.orig_filename.endswith(("/", "\\"))
        mode = stat.S_IFMT(info.external_attr >> 16)
        if mode not in (0, stat.S_IFREG) and not (mode == stat.S_IFDIR and is_folder):
            what = "a symbolic link" if mode == stat.S_IFLNK else "a special file"
            raise _Refused(f"{info.orig_filename!r} is {what}: valid are files and folders")
        if is_folder:
            continue
        if info.flag_bits & ENCRYPTED_FLAG:
            raise _Refused(f"{info.orig_filename!r} is encrypted: valid is a zip without a password")
        if same(name) in names:
            where = " (case aside, which this file system cannot tell apart)" if folds else ""
            raise _Refused(f"{info.orig_filename!r} is in it twice{where}: valid is each name once")
        names.add(same(name))
        members.append(_Member(name, info))
    spelt: dict[str, str] = {}
    for member in members:
        for folder in map(str, PurePosixPath(member.name).parents):
            if spelt.setdefault(same(folder), folder) != folder:
                raise _Refused(
                    f"{folder!r} and {spelt[same(folder)]!r} are one folder in this file system: valid are names that "
                    "differ in more than case"
                )
        if any(same(str(parent)) in names for parent in PurePosixPath(member.name).parents):
            raise _Refused(f"{member.name!r} lies in a file, not in a folder: valid is each name once")
    return members


def _safe_name(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    leaves = name.startswith(("/", "\\")) or any(not part.strip(". ") or DRIVE.match(part) for part in parts)
    if leaves or "\0" in name or not (parts or name.endswith("/")):
        raise _Refused(f"{name!r} is no name within a folder: valid are relative names without '..'")
    return "/".join(parts)


def _folded(name: str) -> str:
    """Equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _folds_names(folder: Path) -> bool:
    """Whether two names that differ in case or in how an accent is written are one file there."""
    probe = folder / ".Caf\u00e9"
    probe.touch()
    try:
        return any((folder / name).exists() for name in (".cAF\u00e9", ".Cafe\u0301"))
    finally:
        probe.unlink()


def _images(members: Sequence[_Member]) -> list[_Member]:
    return [member for member in members if is_image_name(member.name)]


def _check_sizes(members: Sequence[_Member], max_bytes: int, destination: Path) -> None:
    """Refuse what is too large by what the archive says; `_copy` holds it to that."""
    for member in members:
        size, method = member.info.file_size, member.info.compress_type
        if size > max_bytes:
            raise _Refused(f"{member.name!r} has {size} bytes: valid are {max_bytes} or fewer")
        if method not in COMPRESSIONS:
            raise _Refused(f"{member.name!r} is compressed by method {method}: valid are 0 (stored) and 8 (deflated)")
    total = sum(member.info.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        raise _Refused(f"holds {total} bytes of images: valid are {MAX_TOTAL_BYTES} or fewer")
    on_disk = sum(-(-member.info.file_size // BLOCK_BYTES) * BLOCK_BYTES for member in members)
    free = shutil.disk_usage(destination).free
    if on_disk > free:
        raise _Refused(
            f"needs {on_disk >> 20} MiB in {shown(str(destination.parent))}, where {free >> 20} MiB are free: make "
            "room there, or set XDG_CACHE_HOME to another folder"
        )


def _copy(archive: zipfile.ZipFile, member: _Member, path: Path) -> None:
    with path.open("xb") as file:
        for chunk in _chunks(archive, member):
            file.write(chunk)


def _chunks(archive: zipfile.ZipFile, member: _Member) -> Iterator[bytes]:
    # zipfile stops at the size that a member says: with one byte more, a longer one betrays itself.
    info = copy.copy(member.info)
    info.file_size += 1
    size = 0
    try:
        with archive.open(info) as stream:
            while chunk := stream.read(cache.CHUNK_BYTES):
                size += len(chunk)
                yield chunk
    except Exception as error:  # zlib.error, EOFError, NotImplementedError, ...: what a damaged member raises
        raise _Refused(f"{member.name!r} is damaged ({described(error)}): valid is a whole zip") from error
    if size != member.info.file_size:
        raise _Refused(
            f"{member.name!r} is damaged (it says {member.info.file_size} bytes and has {size}): valid is a whole zip"
        )
