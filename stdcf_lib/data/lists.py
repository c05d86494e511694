"""Lists of videos and their classes, which users write: each fault is named with its file and line."""

import csv
import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from stdcf_lib.checks import whole

NUMBER = re.compile(r"\d{1,9}", re.ASCII)
"""A number in a list."""

log = logging.getLogger(__name__)


class TooManyFaultyFiles(RuntimeError):
    """More files than allowed could not be read; the message lists them."""


def path_label_list(file: str | Path, folder: str | Path, num_classes: int | None = None) -> list[tuple[Path, int]]:
    """The samples of a list with a row `path label` for each; paths may hold spaces.

    Args:
        file: the list.
        folder: what the paths are relative to.
        num_classes: how many classes there are; None for any number.

    Returns:
        The path and the number of the class of each, whether or not its file is there.

    Raises:
        ValueError: for a row without the number of a class at its end, and bytes that are no UTF-8; it names the line.
        OSError: for a list that cannot be opened.
    """
    most = None if num_classes is None else whole("num_classes", num_classes)
    samples = []
    for line, row in enumerate(read_text(file).splitlines(), 1):
        if not row.strip():
            continue
        path, _, label = row.strip().rpartition(" ")
        if not path or not NUMBER.fullmatch(label):
            raise ValueError(f"line {line} of {file} is {row!r}; a row is a path, a space and the number of a class")
        if most is not None and int(label) >= most:
            raise ValueError(f"line {line} of {file} has the class {label}; {most} classes are numbered from 0 to {most - 1}")
        samples.append((Path(folder, path), int(label)))
    return samples


def csv_rows(file: str | Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV that are not blank, each with the line in which it ends.

    Raises:
        ValueError: for what is no CSV, and bytes that are no UTF-8; it names the line.
        OSError: for a file that cannot be opened.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {file} is no row of a CSV: {error}") from None


def read_text(file: str | Path) -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: for other bytes; it names the line.
        OSError: for a file that cannot be opened.
    """
    raw = Path(file).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} of {file} is not in UTF-8: {error.reason}; save it as UTF-8") from None


def class_names(file: str | Path) -> list[str]:
    """The names of classes, one a line, in the order of their numbers.

    Raises:
        ValueError: for none, an empty line between others, and bytes that are no UTF-8.
        OSError: for a file that cannot be opened.
    """
    names = [name.strip() for name in read_text(file).rstrip().splitlines()]
    if not all(names) or not names:
        raise ValueError(f"line {names.index('') + 1 if names else 1} of {file} is empty; a line is the name of a class")
    return names


class Folders:
    """Whether files are there, asked by the hundred thousand: each folder is listed once, at the first question about it."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: object) -> bool:
        folder, name = os.path.split(str(path))
        if folder not in self._names:
            try:
                with os.scandir(folder or ".") as entries:
                    self._names[folder] = {e.name for e in entries if not e.is_symlink() or os.path.exists(e.path)}
            except (OSError, ValueError):  # no such folder, or a name that no file system can have
                self._names[folder] = set()
        return name in self._names[folder]


def present(samples: Sequence[tuple[Path, int]], what: str) -> tuple[list[tuple[Path, int]], list[str]]:
    """Samples whose file or folder is there, and the paths of the others, of which a warning says how many."""
    folders = Folders()
    there = [path in folders for path, _ in samples]
    missing = [str(path) for (path, _), found in zip(samples, there, strict=True) if not found]
    if missing:
        log.warning("%s: %d of %d are missing, such as %s; .missing names them", what, len(missing), len(samples), missing[0])
    return [sample for sample, found in zip(samples, there, strict=True) if found], missing
