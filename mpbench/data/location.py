"""Where the images of `--mp-data` lie: in a folder, a zip, a folder within one, or in Microsoft's archive."""

from __future__ import annotations

import urllib.request
from pathlib import Path, PurePath

from mpbench.data.archives import extracted
from mpbench.data.data_set import VALID_DATA, DataSet, scan, some
from mpbench.errors import UsageProblem, described, harmless, reason
from mpbench.system import cache
from mpbench.system.downloads import network_timeout
from mpbench.terminal import Progress, throttled

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
        return scan(extracted(archive, progress), archive.name)
    given = f"--mp-data: {harmless(source)}"
    path = cache.expanded(source)
    try:
        archive, inside = _archive_and_folder(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise UsageProblem(f"{given}: {reason(error)}: {VALID_DATA}, or {DOWNLOAD}, or generated") from None
    if archive.is_dir():
        return scan(path, path.resolve().name or str(path), source)
    unpacked = extracted(archive, progress)
    folder = unpacked / inside
    if not folder.is_dir():
        there = sorted(harmless(entry.name) for entry in unpacked.iterdir() if entry.is_dir())
        raise UsageProblem(
            f"{given}: no folder of that name in {harmless(archive.name)}: use one that it has: "
            f"{some(there) or 'there is none'}"
        )
    return scan(folder, (archive.name / inside).as_posix(), source)


def _downloaded(progress: Progress) -> Path:
    """Microsoft's archive, from the cache or fetched into it.

    Raises:
        UsageProblem: it cannot be fetched, or what came is something else.
    """
    target = cache.folder("downloads") / DOWNLOAD_URL.rpartition("/")[2]
    if target.is_file() and cache.sha256_of(target) == DOWNLOAD_SHA256:
        return target
    progress(f"fetching {DOWNLOAD_URL}")
    say, instead = throttled(progress), "download it elsewhere and give its path"

    def report(blocks: int, block_bytes: int, _: int) -> None:
        say(f"fetching {target.name}: {blocks * block_bytes >> 20} MiB")

    with cache.publish(target) as partial:
        try:
            with network_timeout(DOWNLOAD_TIMEOUT_S):
                urllib.request.urlretrieve(DOWNLOAD_URL, partial, report)
        except OSError as error:
            raise UsageProblem(
                f"--mp-data: {DOWNLOAD}: {DOWNLOAD_URL} cannot be fetched ({described(error)}): {instead}"
            ) from error
        if cache.sha256_of(partial) != DOWNLOAD_SHA256:
            raise UsageProblem(
                f"--mp-data: {DOWNLOAD}: what {DOWNLOAD_URL} gave is not used, its SHA-256 is not {DOWNLOAD_SHA256}: "
                f"{instead}"
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
