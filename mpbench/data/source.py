"""What a data set of labelled images is, where it is found, and how it is divided."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpbench.data.archives import VALID_DATA, Progress, extracted, is_image_name, shown, throttled
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

KAGGLE_CLASSES = ("cat", "dog")
KAGGLE_NAME = re.compile(r"(cat|dog)\.[0-9]+\.[^.]+", re.IGNORECASE)
MAX_FOLDERS = 100_000
"""More of them is somebody's whole disk."""

VALIDATION_SHARE = 0.2

MIN_IMAGES_PER_CLASS = 10
"""With fewer there is next to nothing to train on, and two images or less to judge on."""


@dataclass(frozen=True)
class LabelledImage:
    """One image of a data set.

    Attributes:
        name: relative to the data set's own root, with `/`: the same wherever the data set lies.
        path: of its file.
        label: index of its class.
    """

    name: str
    path: Path
    label: int


@dataclass(frozen=True)
class DataSet:
    """Images of two or more classes.

    Attributes:
        label: what tables call it.
        classes: sorted.
        images: sorted by name, each name once.
    """

    label: str
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]


def find(source: str, progress: Progress) -> DataSet:
    """The data set that `--mp-data` means.

    Args:
        source: the path of a zip or of a folder, or `download` for Microsoft's copy of Kaggle's cats and dogs.
        progress: called with how far it is every few seconds.

    Raises:
        UsageProblem: there is none, or it cannot be fetched, unpacked or made sense of.
    """
    if source == DOWNLOAD:
        archive = _downloaded(progress)
        return scan(extracted(archive, progress), archive.name)
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~nobody; ValueError: a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageProblem(f"--mp-data: {shown(source)}: {reason}: {VALID_DATA}, or {DOWNLOAD}, or generated") from None
    if stat.S_ISDIR(mode):
        return scan(path, path.resolve().name or str(path), given=source)
    return scan(extracted(path, progress), path.name, given=source)


def scan(folder: Path, label: str, *, given: str | None = None) -> DataSet:
    """The data set in a folder or below it.

    Where one folder holds both `cat.<n>.jpg` and `dog.<n>.jpg`, these files alone are it, as Kaggle publishes them.
    Else it is the folder of which two or more sub-folders hold images: each of these is a class.

    Args:
        label: what tables will call it.
        given: what the user typed, for messages; the label if None.

    Raises:
        UsageProblem: there is no such folder, or more than one, or it cannot be read.
    """
    given = f"--mp-data: {shown(label if given is None else given)}"
    found = _Found(folder, {})
    for directory, names in _directories(folder, given):
        if names:
            found.images[directory] = sorted(names)
    if not found.images:
        raise UsageProblem(f"{given}: holds no images: {VALID_DATA}")
    kaggle = [directory for directory in found.images if len(found.kaggle_classes(directory)) > 1]
    roots = kaggle or found.class_roots()
    if not roots:
        raise UsageProblem(f"{given}: {found.why_no_classes()}: {VALID_DATA}")
    if len(roots) > 1:
        several = ", ".join(sorted(shown(found.relative(root)) for root in roots))
        raise UsageProblem(f"{given}: holds several data sets: valid is one of them: {several}")
    return found.kaggle(roots[0], label) if kaggle else found.classes(roots[0], label)


def split(images: Sequence[LabelledImage], seed: int) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """Training and validation images, 80 to 20 in each class, by their names and the seed alone.

    Args:
        images: in any order, 2 or more of each class.

    Returns:
        Both sorted by name; each has every class.

    Raises:
        ValueError: a class has one image only.
    """
    training, validation = [], []
    for label, members in _by_class(images).items():
        if len(members) < 2:
            raise ValueError(f"class {label} has one image: it takes two to have one on each side")
        count = max(1, round(len(members) * VALIDATION_SHARE))
        shuffled = _shuffled(members, f"split {seed}")
        validation += shuffled[:count]
        training += shuffled[count:]
    return _by_name(training), _by_name(validation)


def sample(images: Sequence[LabelledImage], count: int, seed: int) -> tuple[LabelledImage, ...]:
    """Some of the images, in the same proportions of classes, by their names and the seed alone.

    Of a rare class MIN_IMAGES_PER_CLASS are kept, if it has as many, at the expense of the most frequent ones.

    Args:
        images: in any order.
        count: how many at most; at least MIN_IMAGES_PER_CLASS for each class.

    Returns:
        Sorted by name.
    """
    if count >= len(images):
        return _by_name(images)
    classes = _by_class(images)
    quotas = {label: divmod(count * len(members), len(images)) for label, members in classes.items()}
    left = count - sum(whole for whole, _ in quotas.values())
    rounded_up = sorted(quotas, key=lambda label: (-quotas[label][1], label))[:left]
    sizes = {label: whole + (label in rounded_up) for label, (whole, _) in quotas.items()}
    for label in sorted(sizes):
        wanted = max(sizes[label], min(MIN_IMAGES_PER_CLASS, len(classes[label])))
        largest = max(sizes, key=lambda other: (sizes[other], -other))
        if largest != label and sizes[largest] - (wanted - sizes[label]) >= MIN_IMAGES_PER_CLASS:
            sizes[largest] -= wanted - sizes[label]
            sizes[label] = wanted
    for label in sorted(sizes):  # where the largest has too little to give alone
        while sizes[label] < min(MIN_IMAGES_PER_CLASS, len(classes[label])):
            largest = max(sizes, key=lambda other: (sizes[other], -other))
            if sizes[largest] <= MIN_IMAGES_PER_CLASS:
                break
            sizes[largest] -= 1
            sizes[label] += 1
    chosen: list[LabelledImage] = []
    for label, members in classes.items():
        chosen += _shuffled(members, f"sample {seed}")[: sizes[label]]
    return _by_name(chosen)


@dataclass(frozen=True)
class _Found:
    """The images below a folder, by the directories that hold them, and what they can be taken for."""

    root: Path
    images: dict[Path, list[str]]

    def kaggle_classes(self, directory: Path) -> set[str]:
        matches = map(KAGGLE_NAME.fullmatch, self.images[directory])
        return {match[1].lower() for match in matches if match}

    def kaggle(self, root: Path, label: str) -> DataSet:
        images = [
            LabelledImage(_text(name), root / name, KAGGLE_CLASSES.index(name[:3].lower()))
            for name in self.images[root]
            if KAGGLE_NAME.fullmatch(name)
        ]
        return DataSet(label, KAGGLE_CLASSES, _by_name(images))

    def class_roots(self) -> list[Path]:
        """The directories of which two or more sub-folders hold images; what is below such a sub-folder is not seen."""
        folders: dict[Path, int] = defaultdict(int)
        for directory in self.images:
            if directory != self.root:
                folders[directory.parent] += 1
        roots = {root for root, count in folders.items() if count > 1}
        in_class = {directory for directory in self.images if directory != self.root and directory.parent in roots}
        return sorted(root for root in roots if not in_class & {root, *root.parents})

    def classes(self, root: Path, label: str) -> DataSet:
        folders = {_text(directory.name): directory for directory in self.images if directory.parent == root}
        classes = tuple(sorted(folders))
        images = [
            LabelledImage(f"{name}/{_text(file)}", folders[name] / file, index)
            for index, name in enumerate(classes)
            for file in self.images[folders[name]]
        ]
        return DataSet(label, classes, _by_name(images))

    def why_no_classes(self) -> str:
        first = next(iter(self.images))
        if len(self.images) == 1:
            only = "".join(self.kaggle_classes(first)) or first.resolve().name
            return f"holds images of one class only ({shown(only)})"
        names = [shown(self.relative(directory)) for directory in self.images]
        return f"holds images in {names[0]} and {names[1]}, which are not sub-folders of one folder"

    def relative(self, directory: Path) -> str:
        return directory.relative_to(self.root).as_posix()


def _directories(folder: Path, given: str) -> Iterator[tuple[Path, list[str]]]:
    """Each directory once, with the names of the images in it; what a link leads to after what lies there itself.

    Raises:
        UsageProblem: one cannot be read, or there are too many.
    """
    seen: set[tuple[int, int]] = set()
    pending, linked = deque([folder]), deque[Path]()
    while pending or linked:
        directory = (pending or linked).popleft()
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = []
            with os.scandir(directory) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    # A name with a suffix as any image's tells whether a folder is hidden.
                    if _is(entry.is_dir) and is_image_name(f"{entry.name}/a.jpg"):
                        (linked if entry.is_symlink() else pending).append(directory / entry.name)
                    elif is_image_name(entry.name) and _is(entry.is_file):
                        names.append(entry.name)
        except OSError as error:
            where = shown(str(directory))
            raise UsageProblem(
                f"{given}: {where} cannot be read ({error.strerror}): valid is a folder that can be"
            ) from error
        if len(seen) > MAX_FOLDERS:
            raise UsageProblem(f"{given}: holds more than {MAX_FOLDERS} folders: {VALID_DATA}")
        yield directory, names


def _is(test: Callable[[], bool]) -> bool:
    """What a directory entry says that it is; a link that leads to itself is nothing."""
    try:
        return test()
    except OSError:
        return False


def _text(name: str) -> str:
    """A file's name as text that can be written anywhere, also where its bytes are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _by_name(images: Sequence[LabelledImage]) -> tuple[LabelledImage, ...]:
    return tuple(sorted(images, key=lambda image: image.name))


def _by_class(images: Sequence[LabelledImage]) -> dict[int, list[LabelledImage]]:
    classes: dict[int, list[LabelledImage]] = defaultdict(list)
    for image in images:
        classes[image.label].append(image)
    return classes


def _shuffled(images: Sequence[LabelledImage], salt: str) -> list[LabelledImage]:
    """In an order that depends on the names and the salt alone, on every machine and in every version."""
    return sorted(images, key=lambda image: (hashlib.sha256(f"{salt} {image.name}".encode()).digest(), image.name))


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
