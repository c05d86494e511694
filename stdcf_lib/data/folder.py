"""One's own videos: which are there, of which classes, and which of them are held out."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stdcf_lib.checks import number, whole
from stdcf_lib.data.lists import class_names, path_label_list, read_text

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Of the files in a folder of a class that are taken for videos, in small letters or large."""


class Listed(NamedTuple):
    """The names of the classes in the order of their numbers, and (path, number of the class) of every video."""

    classes: list[str]
    training: list[tuple[Path, int]]
    held_out: list[tuple[Path, int]]


def video_folder(
    folder: str | Path, val_list: str | Path | None = None, val_share: float | None = None, seed: int = 0
) -> Listed:
    """Videos in a folder for each class, or in lists.

    `folder` holds either folders `class/video.mp4`, whose names in alphabetical order are the classes, or `train.txt` and
    `val.txt` with a row `path label` for each video, and if they are to have names, `classes.txt` with a name a line.
    Hidden files, and those with none of `SUFFIXES`, are passed over.

    Args:
        folder: where the videos are.
        val_list: a file that names those held out of folders of classes, a path relative to `folder` in each row. Clips that
            were cut from one recording, or show one person, belong on one side: a share drawn by lot does not see to that.
        val_share: without a list, the share of each class that is held out, above 0 and below 1, and at least one video of
            a class that has two; 0.2 by default.
        seed: of what is drawn. What is drawn from a class depends on it and on the videos of that class alone.

    Raises:
        ValueError: for an argument out of range; fewer than two classes; a class without a video to train on, by its name;
            none held out; a list that cannot be read, or names a video that is not there, by its line.
        OSError: for a folder or list that is not there.
    """
    folder, seed = Path(folder), whole("seed", seed, 0)
    share = None if val_share is None else number("val_share", val_share, above=0, below=1)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; name the one that holds your videos")
    lists = folder / "train.txt", folder / "val.txt"
    there = [file for file in lists if file.exists()]
    if len(there) == 1:
        raise ValueError(f"{folder} has {there[0].name} alone; give both train.txt and val.txt, or neither")
    if there and not (val_list is None and share is None):
        raise ValueError(f"{lists[1]} says which videos are held out; leave out val_list and val_share")
    if there:
        found = _of_lists(folder, *lists)
    else:
        classes, videos = _of_tree(folder)
        held_out = _drawn(classes, videos, share or 0.2, seed) if val_list is None else _named(val_list, folder, videos)
        training, validation = ([row for row in videos if (row[0] in held_out) == held] for held in (False, True))
        found = Listed(classes, training, validation)
    if len(found.classes) < 2:
        raise ValueError(f"{folder} has too few classes ({', '.join(found.classes) or 'none'}); give at least two")
    if lacking := set(range(len(found.classes))) - {label for _, label in found.training}:
        raise ValueError(f"class {found.classes[min(lacking)]!r} has no video to train on; all that it has are held out")
    if not found.held_out:
        raise ValueError("no video is held out, and so nothing would be known of what is learned; hold out some")
    return found


def _of_tree(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    videos = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / name).iterdir()) if _is_video(path)]
    if not videos:
        raise ValueError(
            f"{folder} has no videos: give a folder for each class with videos in it ({', '.join(SUFFIXES)}), or train.txt "
            "and val.txt"
        )
    if lacking := set(range(len(classes))) - {label for _, label in videos}:
        raise ValueError(
            f"the folder {classes[min(lacking)]!r} in {folder} has no video ({', '.join(SUFFIXES)}); fill it or remove it"
        )
    return classes, videos


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _drawn(classes: Sequence[str], videos: Sequence[tuple[Path, int]], share: float, seed: int) -> set[Path]:
    held_out: set[Path] = set()
    for i, name in enumerate(classes):
        own = [path for path, label in videos if label == i]
        count = min(max(1, round(share * len(own))), len(own) - 1)
        held_out |= set(random.Random(f"{seed} {name}").sample(own, count))
    return held_out


def _named(file: str | Path, folder: Path, videos: Sequence[tuple[Path, int]]) -> set[Path]:
    known, held_out = {path for path, _ in videos}, set()
    for line, row in enumerate(read_text(file).splitlines(), 1):
        path = folder / row.strip()
        if row.strip() and path not in known:
            raise ValueError(
                f"line {line} of {file} names {row.strip()!r}, which is no video of a class in {folder}; a row is a path "
                "such as class/video.mp4"
            )
        held_out |= {path} & known
    return held_out


def _of_lists(folder: Path, train: Path, val: Path) -> Listed:
    named = folder / "classes.txt"
    names = class_names(named) if named.exists() else []
    training, held_out = (path_label_list(file, folder, len(names) or None) for file in (train, val))
    if both := {path for path, _ in training} & {path for path, _ in held_out}:
        raise ValueError(f"{min(both)} is in both {train} and {val}; a video that is held out is not trained on")
    labels = {label for _, label in training + held_out}
    classes = names or [str(i) for i in range(len(labels))]
    if lacking := set(range(len(classes))) - labels:
        raise ValueError(f"{train} has no video of class {classes[min(lacking)]!r}; classes are numbered 0, 1, … without a gap")
    return Listed(classes, training, held_out)
