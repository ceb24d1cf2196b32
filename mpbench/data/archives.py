"""Zip archives of images: unpacked into the cache once, and refused where they are hostile or damaged."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from mpbench.data.data_set import IMAGE_SUFFIXES, VALID_DATA, is_image_name
from mpbench.errors import UsageProblem, described, harmless
from mpbench.system import cache
from mpbench.terminal import Progress, throttled

MAX_MEMBERS = 1_000_000
MAX_IMAGE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 16 << 30
"""Kaggle's and Microsoft's archives hold less than 1 GiB."""

TRAINING_ARCHIVE = "train.zip"
"""The labelled part of Kaggle's outer archive."""

FILES_NAME, CONTENTS_NAME = "files", "contents.json"
"""In an archive's folder: its files, and how many they are."""

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, zipfile unpacks a whole chunk at once, however much that is."""


def extracted(archive: Path, progress: Progress) -> Path:
    """The folder in the cache that holds an archive's files, unpacked if they are not there yet.

    Images are unpacked; of other files there are only the names, so that what is not used can be told.

    Args:
        archive: a zip, or a zip that holds `train.zip`.
        progress: called with how far it is every few seconds.

    Returns:
        A folder whose layout is that of the archive.

    Raises:
        UsageProblem: the archive is not a zip, is damaged, hostile or without images, or there is no room for it.
    """
    say = throttled(progress)
    try:
        if not archive.is_file():
            raise _Refused(f"is not a file: {VALID_DATA}")
        with archive.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise _Refused(f"is not a zip, or its end is missing: {VALID_DATA}")
            say(f"reading {archive.name}")
            file.seek(0)
            target = cache.folder("archives") / cache.sha256_of_stream(file)
            if target.is_dir() and not _is_whole(target):
                shutil.rmtree(target)
            if not target.is_dir():
                with cache.publish(target) as partial:
                    (partial / FILES_NAME).mkdir(parents=True)
                    _unpack(file, partial / FILES_NAME, lambda text: say(f"unpacking {archive.name}: {text}"))
                    contents = {"files": _count(partial / FILES_NAME), "suffixes": IMAGE_SUFFIXES}
                    (partial / CONTENTS_NAME).write_text(json.dumps(contents), encoding="utf-8")
    except _Refused as refused:
        raise UsageProblem(f"--mp-data: {harmless(archive.name)}: {refused}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that this file system cannot hold
        raise UsageProblem(
            f"--mp-data: {harmless(archive.name)}: cannot be unpacked ({described(error)}): use a readable "
            "zip and a cache folder with space (XDG_CACHE_HOME moves it)"
        ) from error
    return target / FILES_NAME


class _Refused(Exception):
    """Why an archive is not unpacked, in words that follow its name."""


def _is_whole(folder: Path) -> bool:
    """Whether all is there that was unpacked by these rules: some systems delete single old files from caches."""
    try:
        contents = json.loads((folder / CONTENTS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(contents == {"files": _count(folder / FILES_NAME), "suffixes": list(IMAGE_SUFFIXES)})


def _count(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _unpack(file: IO[bytes], destination: Path, say: Progress, is_inner: bool = False) -> None:
    with _opened(file) as archive:
        members = _checked_members(archive)
        images = {name: info for name, info in members.items() if is_image_name(name)}
        if not images:
            info = members.pop(_training_archive(members, is_inner))
            _check_sizes([info], MAX_TOTAL_BYTES, destination)
            say(TRAINING_ARCHIVE)
            # To a file of its own: a deflated archive cannot be read in the order in which its members lie.
            with tempfile.TemporaryFile(dir=destination) as unpacked:
                _copy(archive, info, unpacked)
                _unpack(unpacked, destination, say, is_inner=True)
        _check_sizes(images.values(), MAX_IMAGE_BYTES, destination)
        done = 0
        for name, info in members.items():
            path = destination / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name not in images:
                path.touch()
                continue
            with path.open("xb") as out:
                _copy(archive, info, out)
            done += 1
            say(f"{done} of {len(images)} images")


def _opened(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # zipfile documents one of the many that it raises for damaged archives
        raise _Refused(f"is damaged ({described(error)}): use a whole zip") from error


def _checked_members(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files in an archive by their names; one hostile member condemns it, whether or not it would be unpacked."""
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _Refused(f"holds {len(infos)} files: valid are {MAX_MEMBERS} or fewer")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise _Refused(f"{info.filename!r} leads out of the folder: use relative names without '..'")
        if not name.parts or info.filename.endswith(("/", "\\")):
            continue  # a folder
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _Refused(f"{info.filename!r} is a link or a special file: use files and folders")
        if name in members:
            raise _Refused(f"{info.filename!r} is in it twice: use each name once")
        members[name] = info
    return members


def _training_archive(members: Iterable[PurePosixPath], is_inner: bool) -> PurePosixPath:
    found = [name for name in members if name.name.lower() == TRAINING_ARCHIVE]
    if is_inner or not found:
        where = f" in its {TRAINING_ARCHIVE}" if is_inner else ""
        raise _Refused(f"holds no images{where}: {VALID_DATA}")
    if len(found) > 1:
        raise _Refused(f"holds several {TRAINING_ARCHIVE}: {VALID_DATA}")
    return found[0]


def _check_sizes(members: Collection[zipfile.ZipInfo], max_bytes: int, destination: Path) -> None:
    """Refuse what is too large by what the archive says; zipfile unpacks no more than that."""
    for info in members:
        if info.file_size > max_bytes:
            raise _Refused(f"{info.filename!r} has {info.file_size} bytes: valid are {max_bytes} or fewer")
        if info.compress_type not in COMPRESSIONS:
            raise _Refused(
                f"{info.filename!r} is compressed by method {info.compress_type}: valid are 0 (stored) and 8 (deflated)"
            )
    total, free = sum(info.file_size for info in members), shutil.disk_usage(destination).free
    if total > MAX_TOTAL_BYTES:
        raise _Refused(f"holds {total} bytes of images: valid are {MAX_TOTAL_BYTES} or fewer")
    if total > free:
        raise _Refused(
            f"needs {total >> 20} MiB in {harmless(str(destination.parent))}, where {free >> 20} MiB are free: make "
            "room there, or set XDG_CACHE_HOME to another folder"
        )


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, out: IO[bytes]) -> None:
    try:
        with archive.open(info) as stream:
            shutil.copyfileobj(stream, out, cache.CHUNK_BYTES)
    except OSError:
        raise
    except Exception as error:  # zlib.error, EOFError, RuntimeError (encrypted), ...
        raise _Refused(
            f"{info.filename!r} cannot be unpacked ({described(error)}): use a whole zip, not encrypted"
        ) from error
