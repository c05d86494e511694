"""Kinetics, clips of human actions of about ten seconds (Kay et al., 2017), from the user's own copy."""

import csv
from pathlib import Path

import torch
from torch import Tensor

from stdcf_lib.data.footage import Footage, path_label_list, present
from stdcf_lib.data.video import decode, frame_count


class Kinetics(Footage):
    """Clips of `frames` frames, every `stride`-th of a video, from anywhere in it; see `Footage` for what indexing gives.

    Training as is usual: the short side scaled to 256 to 320 pixels, a square of `size` cut out, half of the clips mirrored.
    Testing: 10 clips evenly over the video, three squares each, at a short side of 256. A video that ends before the clip does
    holds its last frame. [ours]

    `.missing` names the videos that the list has and the folder has not.

    annotation: the official CSV `label,youtube_id,time_start,time_end,split` (further columns are passed over), or a text
        file of rows `path label`. A CSV's videos are `{label}/{id}_{start:06d}_{end:06d}.mp4`, with the label's spaces as they
        are or as `_`.
    folder: where the videos are.
    training: whether to draw at random, or give the views of a test.
    frames, stride, size: of a clip; [ours] 8 × 8 at 224².
    views: (clips, crops) of a test sample.
    classes: the names in the order of their numbers, for a CSV; by default all of its labels, sorted. Give them where a CSV
        does not hold every class.
    max_faulty: see `Footage`.

    Raises ValueError for an argument out of range, a list that cannot be read, an unknown label, or if no video is there.
    """

    def __init__(
        self,
        annotation: str | Path,
        folder: str | Path,
        training: bool,
        frames: int = 8,
        stride: int = 8,
        size: int = 224,
        views: tuple[int, int] = (10, 3),
        classes: list[str] | None = None,
        max_faulty: float = 0.02,
    ) -> None:
        if type(stride) is not int or stride < 1:
            raise ValueError(f"stride must be an integer of at least 1, got {stride!r}")
        listed = kinetics_csv(annotation, folder, classes) if Path(annotation).suffix == ".csv" else None
        samples, self.missing = present(listed or path_label_list(Path(annotation), Path(folder)), "Kinetics")
        self.stride = stride
        low, high = round(256 / 224 * size), round(320 / 224 * size)  # of a size of 224, 256 and 320
        super().__init__(samples, frames, size, training, (low, high), True, views, max_faulty)

    def _decoded(self, path: Path, short_side: int, every: int, view: int | None) -> Tensor:
        room = max(0, frame_count(path) - self.frames * self.stride)
        if view is None:
            start = int(torch.randint(room + 1, ()))
        else:
            start = room // 2 if self.views[0] == 1 else round(room * view / (self.views[0] - 1))
        frames = decode(path, start, self.frames // every, self.stride * every, short_side, hold=True)
        return torch.from_numpy(frames).movedim(-1, 1)


def kinetics_csv(file: str | Path, folder: str | Path, classes: list[str] | None = None) -> list[tuple[Path, int]]:
    """The samples of an official CSV, whether or not their files are there; see `Kinetics`.

    Raises ValueError for missing columns, an unknown label, or times that are no whole numbers, naming the line.
    """
    with open(file, encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        lacking = {"label", "youtube_id", "time_start", "time_end"} - set(reader.fieldnames or [])
        if lacking:
            raise ValueError(f"{file} has no column {', '.join(sorted(lacking))}; give the official CSV of Kinetics")
        rows = list(reader)
    names = sorted({row["label"] for row in rows}) if classes is None else list(classes)
    number_of = {name: number for number, name in enumerate(names)}
    samples = []
    for line, row in enumerate(rows, 2):
        try:
            name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
            label = number_of[row["label"]]
        except (TypeError, ValueError):
            raise ValueError(f"line {line} of {file} has no whole seconds in time_start and time_end: {dict(row)}") from None
        except KeyError:
            raise ValueError(f"line {line} of {file} has the label {row['label']!r}, which is not among the classes") from None
        spaced, joined = (Path(folder, directory, name) for directory in (row["label"], row["label"].replace(" ", "_")))
        samples.append((joined if joined.exists() else spaced, label))
    return samples
