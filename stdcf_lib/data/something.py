"""Something-Something V1, gestures with things (Goyal et al., 2017), from the user's own copy."""

from pathlib import Path

import torch
from torch import Tensor

from stdcf_lib.checks import whole
from stdcf_lib.data.footage import Footage
from stdcf_lib.data.lists import csv_rows, path_label_list, read_text
from stdcf_lib.data.video import decode_jpegs, jpeg_count


class SomethingV1(Footage):
    """One frame from each of `frames` equal segments of a video, whatever its length; see `Footage` for what indexing gives.

    In training the frame is any of its segment, in testing the middle one, or with two or more clips those evenly over
    the segment [ours]. Clips are never mirrored: left and right are part of the labels.

    Args:
        annotation: the official CSV of rows `id;label` without a header, or a text file of rows `path label`.
        folder: holds a folder of `00001.jpg`, `00002.jpg`, … for each id.
        training: whether to draw at random, or give the views of a test.
        frames, size: of a clip.
        views: (clips, crops) of a test sample; 1 × 1 is usual, and 2 × 3.
        labels: the official file of the classes, whose order numbers them; needed for a CSV.
        max_faulty: see `Footage`.
        num_classes: how many classes there are, to refuse a list that has more; None for any number.

    Raises:
        ValueError: for an argument out of range, a list that cannot be read, an unknown label, or if no video is there.
        OSError: for a list that cannot be opened.
    """

    def __init__(
        self,
        annotation: str | Path,
        folder: str | Path,
        training: bool,
        frames: int = 8,
        size: int = 224,
        views: tuple[int, int] = (1, 1),
        labels: str | Path | None = None,
        max_faulty: float = 0.02,
        num_classes: int | None = None,
    ) -> None:
        if Path(annotation).suffix == ".csv":
            listed = something_csv(annotation, folder, labels, num_classes)
        else:
            listed = path_label_list(annotation, folder, num_classes)
        super().__init__(listed, training, frames, size, views, False, max_faulty)

    def _count(self, path: Path) -> int:
        return jpeg_count(path)

    def _numbers(self, count: int, view: int | None) -> list[int]:
        if view is None:
            within = torch.rand(self.frames, dtype=torch.float64)
        else:
            within = torch.full((self.frames,), (view + 0.5) / self.views[0], dtype=torch.float64)
        return ((torch.arange(self.frames) + within) / self.frames * count).long().clamp_max(count - 1).tolist()

    def _read(self, path: Path, numbers: list[int], short_side: int) -> Tensor:
        return torch.from_numpy(decode_jpegs(path, numbers, short_side)).movedim(-1, 1)


def something_csv(
    file: str | Path, folder: str | Path, labels: str | Path | None, num_classes: int | None = None
) -> list[tuple[Path, int]]:
    """The samples of an official CSV, whether or not their folders are there.

    Args:
        file: the CSV.
        folder, labels, num_classes: as for `SomethingV1`.

    Returns:
        The path and the number of the class of each.

    Raises:
        ValueError: for a row that is not `id;label`, or a label that the file of labels has not, naming the line; for no
            file of labels, or one with more labels than classes.
        OSError: for a file that cannot be opened.
    """
    if labels is None:
        raise ValueError("labels=None: give something-something-v1-labels.csv, whose order numbers the classes")
    names = [name.strip() for name in read_text(labels).splitlines() if name.strip()]
    number_of = {name: number for number, name in enumerate(names)}
    if num_classes is not None and len(names) > whole("num_classes", num_classes):
        raise ValueError(f"num_classes={num_classes}: {len(names)} labels are in {labels}")
    samples = []
    for line, row in csv_rows(file, ";"):
        if len(row) != 2 or not row[0]:
            raise ValueError(f"line {line} of {file} is {';'.join(row)!r}; a row is id;label (the test list has no labels)")
        video, label = row
        if label not in number_of:
            raise ValueError(f"line {line} of {file} has the label {label!r}, which {labels} has not")
        samples.append((Path(folder, video), number_of[label]))
    return samples
