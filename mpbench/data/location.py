"""Where the images of `--mp-data` lie: in a folder, a zip, a folder within one, or in Microsoft's archive."""

from __future__ import annotations

import stat
from pathlib import Path, PurePath

from mpbench.data.archives import VALID_DATA, Progress, extracted, left_out, shown, throttled
from mpbench.data.source import DataSet, scan, some
from mpbench.errors import UsageProblem, described
from mpbench.system import cache
from mpbench.system.downloads import fetch

DOWNLOAD = "download"
DOWNLOAD_URL = (
    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip"
)
DOWNLOAD_SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"
DOWNLOAD_TIMEOUT_S = 60.0
"""Of one answer of the server, not of the whole download."""


def find(source: str, progress: Progress) -> DataSet:
    """The data set that `--mp-data` means.

    Args:
        source: the path of a zip, of a folder within one (`pets.zip/PetImages`) or of a folder, or `download` for
            Microsoft's copy of Kaggle's cats and dogs.
        progress: called with how far it is every few seconds.

    Raises:
        UsageProblem: there is none, or it cannot be fetched, unpacked or made sense of.
    """
    if source == DOWNLOAD:
        archive = _downloaded(progress)
        folder = extracted(archive, progress)
        return scan(folder, archive.name, others=left_out(folder, PurePath()))
    try:
        path = cache.expanded(source)
        archive, inside = _archive_and_folder(path)
        mode = archive.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageProblem(f"--mp-data: {shown(source)}: {reason}: {VALID_DATA}, or {DOWNLOAD}, or generated") from None
    if stat.S_ISDIR(mode):
        return scan(path, path.resolve().name or str(path), given=source)
    unpacked = extracted(archive, progress)
    folder = unpacked / inside
    if not folder.is_dir():
        there = sorted(shown(entry.name) for entry in unpacked.iterdir() if entry.is_dir())
        raise UsageProblem(
            f"--mp-data: {shown(source)}: no folder of that name has images in {shown(archive.name)}: "
            f"valid is one that has: {some(there) or 'it has none'}"
        )
    return scan(folder, (archive.name / inside).as_posix(), given=source, others=left_out(unpacked, inside))


def _downloaded(progress: Progress) -> Path:
    """Microsoft's archive, from the cache or fetched into it.

    Raises:
        UsageProblem: it cannot be fetched, or what came is something else.
    """
    target = cache.folder("downloads") / DOWNLOAD_URL.rpartition("/")[2]
    try:
        if cache.sha256_of(target) == DOWNLOAD_SHA256:
            return target
    except OSError:
        pass
    progress(f"fetching {DOWNLOAD_URL}")
    say, given, instead = throttled(progress), f"--mp-data: {DOWNLOAD}", "download it elsewhere and give its path"
    with cache.publish(target) as partial:
        try:
            fetch(
                DOWNLOAD_URL,
                partial,
                DOWNLOAD_TIMEOUT_S,
                lambda so_far: say(f"fetching {target.name}: {so_far >> 20} MiB"),
            )
        except OSError as error:
            raise UsageProblem(f"{given}: {DOWNLOAD_URL} cannot be fetched ({described(error)}): {instead}") from error
        if cache.sha256_of(partial) != DOWNLOAD_SHA256:
            raise UsageProblem(
                f"{given}: what {DOWNLOAD_URL} gave is not used, its SHA-256 is not {DOWNLOAD_SHA256}: {instead}"
            )
    return target


def _archive_and_folder(path: Path) -> tuple[Path, PurePath]:
    """What is there of a path that may go on within a zip, and the rest.

    Raises:
        OSError: nothing is.
    """
    try:
        path.stat()
    except OSError:
        archive = next((parent for parent in path.parents if parent.is_file()), None)
        if archive is None or ".." in path.relative_to(archive).parts:
            raise
        return archive, path.relative_to(archive)
    return path, PurePath()
