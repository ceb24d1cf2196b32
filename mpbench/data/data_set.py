"""What a data set of labelled images is, which files are images, and which folders are classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mpbench.errors import UsageProblem, harmless

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
UNREAD_SUFFIXES = frozenset(
    (".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)
"""Images too: a class that has only such must not vanish without a word."""

APPLES_FOLDER = "__MACOSX"
"""Where macOS puts resource forks, named as the files that they belong to."""

VALID_DATA = (
    "use a zip or a folder of images, in a sub-folder for each of two or more classes or named cat.<n>.jpg and "
    "dog.<n>.jpg"
)

KAGGLE_CLASSES = ("cat", "dog")
KAGGLE_NAME = re.compile(r"(cat|dog)\.[0-9]+\.[^.]+", re.IGNORECASE)
MAX_FOLDERS = 100_000
"""More of them is somebody's whole disk."""

PART_WORDS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval", "holdout"}
"""Where all folders have such a word in their names, or one that has folders in it, they divide a data set."""

UNLABELLED = re.compile(
    r"(val|valid|validation|test|testing|eval|holdout|unsup|unlabell?ed)[-_ ]?(\d+|set|data|images?)?", re.IGNORECASE
)
"""A folder of this name beside classes is no class, as Kaggle's `test1`. `train` may be one, of vehicles."""

NAMED = 5
"""Folders and kinds of files named in a line, and twice as many classes: there may be thousands."""

MAX_SUFFIX_CHARACTERS = 12


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
        each = [f"{harmless(name)} {counts[label]}" for label, name in enumerate(self.classes)]
        text = f"{harmless(self.label)}: {len(self.classes)} classes: {some(each, 2 * NAMED)}"
        return f"{text}; not used: {'; '.join(self.ignored)}" if self.ignored else text


def by_name(images: Iterable[LabelledImage]) -> tuple[LabelledImage, ...]:
    """In the order of a data set."""
    return tuple(sorted(images, key=lambda image: image.name))


def is_image_name(name: PurePath) -> bool:
    """Whether a relative name is an image's: it has an image's suffix, and nothing in it is hidden."""
    return name.suffix.lower() in IMAGE_SUFFIXES and not any(map(_is_hidden, name.parts))


def some(texts: Sequence[str], most: int = NAMED) -> str:
    """A list in words, cut where it is long."""
    left = len(texts) - most
    return ", ".join(texts if left < 2 else [*texts[:most], f"and {left} more"])


def scan(folder: Path, label: str, given: str | None = None) -> DataSet:
    """The data set in a folder or below it.

    Where one folder holds both `cat.<n>.jpg` and `dog.<n>.jpg`, these files alone are it, as Kaggle publishes them.
    Else each sub-folder with images is a class, with all that is below it, as Keras reads them. A folder around them,
    and folders that divide a data set into labelled and unlabelled images, are seen through.

    Args:
        label: what tables will call it.
        given: what the user typed, for messages; the label if None.

    Raises:
        UsageProblem: there is no such folder, or more than one, or it cannot be read.
    """
    tree = _Tree(folder, harmless(label if given is None else given))
    tree.walk()
    if not any(tree.images.values()):
        unread = sorted(UNREAD_SUFFIXES & set(tree.kinds))
        why = f" that can be read ({some(unread)} cannot)" if unread else ""
        raise tree.refused(f"holds no images{why}: {VALID_DATA}")
    kaggle = [directory for directory in tree.images if len(tree.kaggle_classes(directory)) > 1]
    if len(kaggle) > 1:
        raise tree.several(kaggle)
    return tree.kaggle(kaggle[0], label) if kaggle else tree.classes(label)


@dataclass
class _Tree:
    """The images below a folder, by the directories that hold them, and what they can be taken for.

    Attributes:
        given: the folder as the user named it.
        images: by directory; none where there are only such as cannot be read.
        below: of each directory, those in it that hold images or have some below them, as keys.
        kinds: how many files are not images that can be read, by their suffix.
        folders: all that were seen.
    """

    root: Path
    given: str
    images: dict[Path, list[Path]] = field(default_factory=dict)
    below: dict[Path, dict[Path, None]] = field(default_factory=lambda: defaultdict(dict))
    kinds: Counter[str] = field(default_factory=Counter)
    folders: list[Path] = field(default_factory=list)

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
                    continue
                seen.add((status.st_dev, status.st_ino))
                images, kinds = [], Counter[str]()
                for path in sorted(directory.iterdir()):
                    if _is_hidden(path.name):
                        kinds["hidden"] += 1
                    elif path.is_dir():
                        (linked if path.is_symlink() else pending).append(path)
                    elif path.suffix.lower() not in IMAGE_SUFFIXES:
                        kinds[path.suffix.lower()[:MAX_SUFFIX_CHARACTERS] or "without a suffix"] += 1
                    elif path.is_file():
                        images.append(path)
                    else:
                        kinds["links to nothing"] += 1
            except OSError as error:
                where = harmless(str(directory))
                raise self.refused(f"{where} cannot be read ({error.strerror}): use a folder that can be") from error
            if len(seen) > MAX_FOLDERS:
                raise self.refused(f"holds more than {MAX_FOLDERS} folders: {VALID_DATA}")
            self.folders.append(directory)
            self.kinds.update(kinds)
            if images or UNREAD_SUFFIXES & set(kinds):
                self.images[directory] = images
                while directory != self.root and directory not in self.below[directory.parent]:
                    self.below[directory.parent][directory] = None
                    directory = directory.parent

    def kaggle_classes(self, directory: Path) -> set[str]:
        matches = (KAGGLE_NAME.fullmatch(image.name) for image in self.images[directory])
        return {match[1].lower() for match in matches if match}

    def kaggle(self, root: Path, label: str) -> DataSet:
        """Raises UsageProblem where another folder beside it may be labelled too."""
        strangers = [
            directory
            for directory, images in self.images.items()
            if images
            and not (directory.is_relative_to(root) or root.is_relative_to(directory))
            and not any(map(UNLABELLED.fullmatch, directory.relative_to(self.root).parts))
        ]
        if strangers:
            raise self.one_beside(root, strangers)
        images = [
            LabelledImage(_text(image.name), image, KAGGLE_CLASSES.index(image.name[:3].lower()))
            for image in self.images[root]
            if KAGGLE_NAME.fullmatch(image.name)
        ]
        unnamed = len(self.images[root]) - len(images)
        ignored = [f"{unnamed} images that are not named cat.<n> or dog.<n>"] if unnamed else []
        return DataSet(label, KAGGLE_CLASSES, by_name(images), (*ignored, *self.ignored({root})))

    def classes(self, label: str) -> DataSet:
        """Raises UsageProblem where the folders are no classes, or may be those of several data sets."""
        root, folders = self.class_folders()
        if len(folders) < 2:
            raise self.refused(f"{self.why_no_classes(root, folders)}: {VALID_DATA}")
        labels = {folder: index for index, folder in enumerate(sorted(folders, key=lambda folder: _text(folder.name)))}
        images, used = [], set()
        for directory, files in self.images.items():
            folder = next((above for above in (directory, *directory.parents) if above in labels), None)
            if folder is not None:
                used.add(directory)
                names = [_text(file.relative_to(root).as_posix()) for file in files]
                images += [LabelledImage(name, file, labels[folder]) for name, file in zip(names, files, strict=True)]
        return DataSet(label, tuple(_text(folder.name) for folder in labels), by_name(images), self.ignored(used))

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
                names = some(sorted(harmless(folder.name) for folder in self.below[root]))
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
        """Whether it, or the one folder in it, has several with images."""
        while len(self.below[folder]) == 1:
            (folder,) = self.below[folder]
        return len(self.below[folder]) > 1

    def ignored(self, used: set[Path]) -> tuple[str, ...]:
        """What is not used, where the images in some directories are."""
        around = {parent for directory in used for parent in directory.parents}
        counts = Counter[str]()
        for directory, images in self.images.items():
            if directory in used or not images:
                continue
            if directory in around:
                counts["no class's folder"] += len(images)
                continue
            while directory.parent not in around and directory.parent not in used:
                directory = directory.parent
            counts[self.relative(directory)] += len(images)
        phrases = [some([f"{count} images in {where}" for where, count in counts.items()])] if counts else []
        bare = [
            self.relative(folder)
            for folder in self.folders[1:]  # the first is the root
            if folder.parent in around and folder not in self.below[folder.parent] and folder not in used
        ]
        if bare:
            phrases.append(f"no images in {some(bare)}")
        if self.kinds:
            phrases.append(f"other files: {some([f'{harmless(kind)} {n}' for kind, n in self.kinds.most_common()])}")
        return tuple(phrases)

    def why_no_classes(self, root: Path, folders: Sequence[Path]) -> str:
        only = folders[0] if folders else root
        name = "".join(self.kaggle_classes(only)) if only in self.images else ""
        aside = [harmless(folder.name) for folder in self.below[root] if folder not in folders]
        besides = f" besides {some(aside)}, by the name not a class" if aside else ""
        return f"holds images of one class only ({harmless(name or only.resolve().name)}){besides}"

    def several(self, folders: Sequence[Path], or_what: str = "") -> UsageProblem:
        names = some(sorted(map(self.typed, folders)))
        return self.refused(f"holds several data sets{or_what}: use one of them: {names}")

    def one_beside(self, one: Path, others: Sequence[Path]) -> UsageProblem:
        beside = some(sorted(map(self.relative, others)))
        return self.refused(
            f"holds a data set in {self.relative(one)} and images in {beside}: use {self.typed(one)}, or a folder "
            "of classes alone"
        )

    def refused(self, why: str) -> UsageProblem:
        return UsageProblem(f"--mp-data: {self.given}: {why}")

    def typed(self, folder: Path) -> str:
        """What to type for a folder in it."""
        return f"{self.given.rstrip('/')}/{self.relative(folder)}".removesuffix("/.")

    def relative(self, directory: Path) -> str:
        return harmless(directory.relative_to(self.root).as_posix())


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == APPLES_FOLDER


def _text(name: str) -> str:
    """A file's name as text that can be written anywhere, also where its bytes are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
