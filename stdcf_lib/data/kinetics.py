"""Kinetics, clips of human actions of about ten seconds (Kay et al., 2017), from the user's own copy."""

from collections.abc import Sequence
from pathlib import Path

from stdcf_lib.checks import whole
from stdcf_lib.data.lists import NUMBER, Folders, csv_rows, path_label_list
from stdcf_lib.data.video_clips import VideoClips


class Kinetics(VideoClips):
    """Clips of `frames` frames, every `stride`-th of a video, half of those to train on mirrored; see `VideoClips`.

    Args:
        annotation: the official CSV `label,youtube_id,time_start,time_end,split` (further columns are passed over), or a
            text file of rows `path label`. A CSV's videos are `{label}/{id}_{start:06d}_{end:06d}.mp4`, with the label's
            spaces as they are or as `_`.
        folder: where the videos are.
        training: whether to draw at random, or give the views of a test.
        frames, stride, size: of a clip; [ours] 8 × 8 at 224².
        views: (clips, crops) of a test sample; 10 × 3 is usual.
        classes: the names in the order of their numbers, for a CSV; by default all of its labels, sorted. Give them where a
            CSV does not hold every class.
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
        stride: int = 8,
        size: int = 224,
        views: tuple[int, int] = (10, 3),
        classes: Sequence[str] | None = None,
        max_faulty: float = 0.02,
        num_classes: int | None = None,
    ) -> None:
        if Path(annotation).suffix == ".csv":
            listed = kinetics_csv(annotation, folder, classes, num_classes)
        else:
            listed = path_label_list(annotation, folder, num_classes)
        super().__init__(listed, training, frames, stride, size, views, True, max_faulty)


def kinetics_csv(
    file: str | Path, folder: str | Path, classes: Sequence[str] | None = None, num_classes: int | None = None
) -> list[tuple[Path, int]]:
    """The samples of an official CSV, whether or not their files are there.

    Args:
        file: the CSV.
        folder, classes, num_classes: as for `Kinetics`.

    Returns:
        The path and the number of the class of each.

    Raises:
        ValueError: for missing columns; an unknown label, a row without all columns, or times that are no whole seconds,
            naming the line; more labels than classes.
        OSError: for a file that cannot be opened.
    """
    rows = csv_rows(file)
    _, header = next(rows, (1, []))
    lacking = {"label", "youtube_id", "time_start", "time_end"} - set(header)
    if lacking:
        raise ValueError(f"{file} has no column {', '.join(sorted(lacking))}; give the official CSV of Kinetics")
    found = []
    for line, values in rows:
        row = dict(zip(header, values, strict=False))
        times = [row.get(name, "").strip() for name in ("time_start", "time_end")]
        if not all(map(NUMBER.fullmatch, times)):
            raise ValueError(f"line {line} of {file} has no whole seconds in time_start and time_end: {values}")
        if not row.get("label") or not row.get("youtube_id"):
            raise ValueError(f"line {line} of {file} has no label or no youtube_id: {values}")
        found.append((line, row["label"], f"{row['youtube_id']}_{int(times[0]):06d}_{int(times[1]):06d}.mp4"))
    names = sorted({label for _, label, _ in found}) if classes is None else list(classes)
    number_of = {name: number for number, name in enumerate(names)}
    if num_classes is not None and len(names) > whole("num_classes", num_classes):
        raise ValueError(
            f"num_classes={num_classes}: {len(names)} labels are {'in ' + str(file) if classes is None else 'given'}"
        )
    samples, folders = [], Folders()
    for line, label, name in found:
        if label not in number_of:
            raise ValueError(f"line {line} of {file} has the label {label!r}, which is not among the classes")
        spaced, joined = (Path(folder, directory, name) for directory in (label, label.replace(" ", "_")))
        samples.append((joined if joined in folders else spaced, number_of[label]))
    return samples
