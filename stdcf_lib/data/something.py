"""Something-Something V1, gestures with things (Goyal et al., 2017), from the user's own copy."""

import csv
from pathlib import Path

import torch
from torch import Tensor

from stdcf_lib.data.footage import Footage, path_label_list, present
from stdcf_lib.data.video import decode_jpegs, jpeg_count


class SomethingV1(Footage):
    """One frame from each of `frames` equal segments of a video, whatever its length; see `Footage` for what indexing gives.

    In training the frame is any of its segment, in testing the middle one, or with two or more clips those evenly over
    the segment [ours]. Clips are never mirrored: left and right are part of the labels.

    `.missing` names the folders that the list has and the disk has not.

    annotation: the official CSV of rows `id;label` without a header, or a text file of rows `path label`.
    folder: holds a folder of `00001.jpg`, `00002.jpg`, … for each id.
    training: whether to draw at random, or give the views of a test.
    frames, size: of a clip.
    views: (clips, crops) of a test sample; 1 × 1 is usual, and 2 × 3.
    labels: the official file of the classes, whose order numbers them; needed for a CSV.
    max_faulty: see `Footage`.

    Raises ValueError for an argument out of range, a list that cannot be read, an unknown label, or if no video is there.
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
    ) -> None:
        listed = something_csv(annotation, folder, labels) if Path(annotation).suffix == ".csv" else None
        samples, self.missing = present(listed or path_label_list(Path(annotation), Path(folder)), "Something-Something")
        low, high = round(256 / 224 * size), round(320 / 224 * size)  # of a size of 224, 256 and 320
        super().__init__(samples, frames, size, training, (low, high), False, views, max_faulty)

    def _decoded(self, path: Path, short_side: int, every: int, view: int | None) -> Tensor:
        count = jpeg_count(path)
        if view is None:
            within = torch.rand(self.frames, dtype=torch.float64)
        else:
            within = torch.full((self.frames,), (view + 0.5) / self.views[0], dtype=torch.float64)
        numbers = ((torch.arange(self.frames) + within) / self.frames * count).long().clamp_max(count - 1)
        return torch.from_numpy(decode_jpegs(path, numbers[::every].tolist(), short_side)).movedim(-1, 1)


def something_csv(file: str | Path, folder: str | Path, labels: str | Path | None) -> list[tuple[Path, int]]:
    """The samples of an official CSV, whether or not their folders are there; see `SomethingV1`.

    Raises ValueError for a row that is not `id;label`, or a label that the file of labels has not, naming the line.
    """
    if labels is None:
        raise ValueError("labels=None: give something-something-v1-labels.csv, whose order numbers the classes")
    names = [name for name in Path(labels).read_text(encoding="utf-8-sig").splitlines() if name.strip()]
    number_of = {name.strip(): number for number, name in enumerate(names)}
    samples = []
    with open(file, encoding="utf-8-sig", newline="") as opened:
        for line, row in enumerate(csv.reader(opened, delimiter=";"), 1):
            if not row:
                continue
            if len(row) != 2:
                raise ValueError(f"line {line} of {file} is {';'.join(row)!r}; a row is id;label (the test list has no labels)")
            video, label = row
            if label not in number_of:
                raise ValueError(f"line {line} of {file} has the label {label!r}, which {labels} has not")
            samples.append((Path(folder, video), number_of[label]))
    return samples
