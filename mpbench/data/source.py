"""What a data set of labelled images is, and which folders are its classes."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpbench.data.archives import (
    CONTENTS_NAME,
    UNREAD_SUFFIXES,
    VALID_DATA,
    is_image_name,
    kind_of,
    shown,
)
from mpbench.errors import UsageProblem

KAGGLE_CLASSES = ("cat", "dog")
KAGGLE_NAME = re.compile(r"(cat|dog)\.[0-9]+\.[^.]+", re.IGNORECASE)
MAX_FOLDERS = 100_000
"""More of them is somebody's whole disk."""

PART_WORDS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval", "holdout"}
"""Where all folders have such a word in their names, or one that has folders in it, they divide a data set."""

UNLABELLED = re.compile(
    r"(val|valid|validation|test|testing|eval|holdout|unsup|unlabell?ed)[-_ ]?(\d+|set|data|images?)?", re.IGNORECASE
)
"""Beside classes a folder of this name is none, as Kaggle's `test1`: no class of `train`, which may be a vehicle."""

NAMED = 5
"""Folders and kinds of files named in a line, and twice as many classes: there may be thousands."""


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
        ignored: what lies there and is not used, a phrase each.
    """

    label: str
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    ignored: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Its classes, how many images each has, and what was not used, in one line."""
        counts = Counter(image.label for image in self.images)
        each = [f"{shown(name)} {counts[label]}" for label, name in enumerate(self.classes)]
        text = f"{shown(self.label)}: {len(self.classes)} classes: {some(each, 2 * NAMED)}"
        return f"{text}; not used: {'; '.join(self.ignored)}" if self.ignored else text


def scan(
    folder: Path, label: str, *, given: str | None = None, others: Mapping[str, Mapping[str, int]] | None = None
) -> DataSet:
    """The data set in a folder or below it.

    Where one folder holds both `cat.<n>.jpg` and `dog.<n>.jpg`, these files alone are it, as Kaggle publishes them.
    Else each sub-folder with images is a class, with all that is below it, as Keras reads them. A folder around them,
    and folders that divide a data set into labelled and unlabelled images, are seen through.

    Args:
        label: what tables will call it.
        given: what the user typed, for messages; the label if None.
        others: of an archive, the files that were not unpacked: by folder and kind, how many.

    Raises:
        UsageProblem: there is no such folder, or more than one, or it cannot be read.
    """
    given = label if given is None else given
    found = _Found(folder, f"--mp-data: {shown(given)}", shown(given.rstrip("/")))
    found.walk()
    for name, kinds in (others or {}).items():
        found.add(folder / name, [], kinds)
    if not any(found.images.values()):
        raise found.refused(f"holds no images{found.unread()}: {VALID_DATA}")
    kaggle = [directory for directory in found.images if len(found.kaggle_classes(directory)) > 1]
    if len(kaggle) > 1:
        raise found.several(kaggle)
    return found.kaggle(kaggle[0], label) if kaggle else found.classes(label)


@dataclass
class _Found:
    """The images below a folder, by the directories that hold them, and what they can be taken for.

    Attributes:
        given: begins every refusal.
        typed: the folder as the user named it.
        images: their names by directory; none where there are only such as are not read.
        below: of each directory, those in it that hold images or have some below them, as keys.
        kinds: how many files are no images that are read, by their suffix.
        folders: all that were seen.
        again: how many links lead to a folder that was seen already.
    """

    root: Path
    given: str
    typed: str
    images: dict[Path, list[str]] = field(default_factory=dict)
    below: dict[Path, dict[Path, None]] = field(default_factory=lambda: defaultdict(dict))
    kinds: Counter[str] = field(default_factory=Counter)
    folders: list[Path] = field(default_factory=list)
    again: int = 0

    def walk(self) -> None:
        """Take in each directory once, what a link leads to after what lies there itself.

        Raises:
            UsageProblem: one cannot be read, or there are too many.
        """
        seen: set[tuple[int, int]] = set()
        pending, linked = deque([self.root]), deque[Path]()
        while pending or linked:
            directory = (pending or linked).popleft()
            try:
                status = directory.stat()
                if (status.st_dev, status.st_ino) in seen:
                    self.again += 1
                    continue
                seen.add((status.st_dev, status.st_ino))
                names, kinds = [], Counter[str]()
                with os.scandir(directory) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name):
                        # A name with a suffix as any image's tells whether a folder is hidden.
                        if _is(entry.is_dir):
                            if is_image_name(f"{entry.name}/a.jpg"):
                                (linked if entry.is_symlink() else pending).append(directory / entry.name)
                            else:
                                kinds[kind_of(f"{entry.name}/")] += 1
                        elif is_image_name(entry.name) and _is(entry.is_file):
                            names.append(entry.name)
                        elif entry.name != CONTENTS_NAME:
                            kinds[kind_of(entry.name)] += 1
            except OSError as error:
                where = shown(str(directory))
                raise self.refused(
                    f"{where} cannot be read ({error.strerror}): valid is a folder that can be"
                ) from error
            if len(seen) > MAX_FOLDERS:
                raise self.refused(f"holds more than {MAX_FOLDERS} folders: {VALID_DATA}")
            self.folders.append(directory)
            self.add(directory, names, kinds)

    def add(self, directory: Path, names: Sequence[str], kinds: Mapping[str, int]) -> None:
        """Take in what lies in a directory; a class of which no image can be read must not vanish."""
        self.kinds.update(kinds)
        if not names and not UNREAD_SUFFIXES & set(kinds):
            return
        self.images.setdefault(directory, []).extend(names)
        while directory != self.root and directory not in self.below[directory.parent]:
            self.below[directory.parent][directory] = None
            directory = directory.parent

    def kaggle_classes(self, directory: Path) -> set[str]:
        matches = map(KAGGLE_NAME.fullmatch, self.images[directory])
        return {match[1].lower() for match in matches if match}

    def kaggle(self, root: Path, label: str) -> DataSet:
        """Raises UsageProblem where another folder beside it may be labelled too."""
        strangers = [
            directory
            for directory, names in self.images.items()
            if names
            and not (directory.is_relative_to(root) or root.is_relative_to(directory))
            and not any(map(UNLABELLED.fullmatch, directory.relative_to(self.root).parts))
        ]
        if strangers:
            raise self.one_beside(root, strangers)
        images = [
            LabelledImage(_text(name), root / name, KAGGLE_CLASSES.index(name[:3].lower()))
            for name in self.images[root]
            if KAGGLE_NAME.fullmatch(name)
        ]
        unnamed = len(self.images[root]) - len(images)
        ignored = [f"{unnamed} images that are not named cat.<n> or dog.<n>"] if unnamed else []
        return DataSet(label, KAGGLE_CLASSES, _by_name(images), (*ignored, *self.ignored({root})))

    def classes(self, label: str) -> DataSet:
        """Raises UsageProblem where the folders are no classes, or may be those of several data sets."""
        root, found = self.class_folders()
        if len(found) < 2:
            raise self.refused(f"{self.why_no_classes(root, found)}: {VALID_DATA}")
        folders = {_text(folder.name): folder for folder in found}
        classes = tuple(sorted(folders))
        labels = {folders[name]: index for index, name in enumerate(classes)}
        images, used = [], set()
        for directory, files in self.images.items():
            folder = next((above for above in (directory, *directory.parents) if above.parent == root), root)
            if folder in labels:
                used.add(directory)
                images += [
                    LabelledImage(
                        _text((directory / file).relative_to(root).as_posix()), directory / file, labels[folder]
                    )
                    for file in files
                ]
        return DataSet(label, classes, _by_name(images), self.ignored(used))

    def class_folders(self) -> tuple[Path, list[Path]]:
        """The folder whose sub-folders are the classes, and these; one or none where there are no classes."""
        root = self.root
        while True:
            folders = [f for f in self.below[root] if self.is_divided(f) or not UNLABELLED.fullmatch(f.name)]
            parts = [folder for folder in folders if PART_WORDS & set(re.findall("[a-z]+", folder.name.lower()))]
            nested = [folder for folder in parts if self.is_divided(folder)]
            if len(folders) == 1 and self.below[folders[0]]:
                root = folders[0]
                continue
            if len(nested) == 1 and len(parts) == len(folders):
                root = nested[0]
                continue
            if len(nested) > 1:
                raise self.several(nested)
            if nested:
                raise self.one_beside(nested[0], [folder for folder in folders if folder not in nested])
            if len(self.below[root]) > 1 and len(parts) == len(folders):
                names = some(sorted(shown(folder.name) for folder in self.below[root]))
                raise self.refused(f"{names}: by their names parts of a data set, not classes: {VALID_DATA}")
            inner = {folder: {child.name.casefold() for child in self.below[folder]} for folder in folders}
            counts = Counter(name for names in inner.values() for name in names)
            shared = {name for name, count in counts.items() if count > 1}
            alike = [folder for folder in folders if len(inner[folder] & shared) > 1]
            if len(alike) > 1:
                raise self.several(
                    alike, ", or class folders with sub-folders of the same names, which cannot be told apart"
                )
            return root, folders

    def is_divided(self, folder: Path) -> bool:
        while len(self.below[folder]) == 1:
            (folder,) = self.below[folder]
        return len(self.below[folder]) > 1

    def ignored(self, used: Collection[Path]) -> tuple[str, ...]:
        """What is not used, where the images in some directories are."""
        around = {parent for directory in used for parent in directory.parents}
        counts = Counter[str]()
        for directory, names in self.images.items():
            if directory in used or not names:
                continue
            if directory in around:
                counts["no class's folder"] += len(names)
                continue
            while directory.parent not in around and directory.parent not in used:
                directory = directory.parent
            counts[shown(self.relative(directory))] += len(names)
        phrases = [some([f"{count} images in {where}" for where, count in counts.items()])] if counts else []
        bare = [
            folder for folder in self.folders if folder.parent in around and folder not in self.below[folder.parent]
        ]
        if bare := [folder for folder in bare if folder != self.root and folder not in used]:
            phrases.append(f"no images in {some([shown(self.relative(folder)) for folder in bare])}")
        if self.kinds:
            kinds = [f"{shown(kind)} {count}" for kind, count in self.kinds.most_common()]
            phrases.append(f"other files: {some(kinds)}")
        if self.again:
            phrases.append(f"links to folders that are read already: {self.again}")
        return tuple(phrases)

    def unread(self) -> str:
        kinds = sorted(UNREAD_SUFFIXES & set(self.kinds))
        return f" that can be read ({some(kinds)} cannot)" if kinds else ""

    def why_no_classes(self, root: Path, folders: Sequence[Path]) -> str:
        only = folders[0] if folders else root
        name = "".join(self.kaggle_classes(only)) if only in self.images else ""
        aside = [shown(folder.name) for folder in self.below[root] if folder not in folders]
        besides = f" besides {some(aside)}, which by the name is none" if aside else ""
        return f"holds images of one class only ({shown(name or only.resolve().name)}){besides}"

    def several(self, folders: Sequence[Path], or_what: str = "") -> UsageProblem:
        names = some(sorted(map(self.typed_of, folders)))
        return self.refused(f"holds several data sets{or_what}: valid is one of them: {names}")

    def one_beside(self, one: Path, others: Sequence[Path]) -> UsageProblem:
        beside = some(sorted(shown(self.relative(folder)) for folder in others))
        return self.refused(
            f"holds a data set in {shown(self.relative(one))} and images in {beside}: valid is {self.typed_of(one)}, "
            "or a folder of classes alone"
        )

    def refused(self, why: str) -> UsageProblem:
        return UsageProblem(f"{self.given}: {why}")

    def typed_of(self, folder: Path) -> str:
        return f"{self.typed}/{shown(self.relative(folder))}".removesuffix("/.")

    def relative(self, directory: Path) -> str:
        return directory.relative_to(self.root).as_posix()


def some(texts: Sequence[str], most: int = NAMED) -> str:
    """A list in words, cut where it is long."""
    left = len(texts) - most
    return ", ".join(texts if left < 2 else [*texts[:most], f"and {left} more"])


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
