"""KTH, the six human actions of Schuldt, Laptev and Caputo (ICPR 2004), from the user's own copy.

Its 599 clips are gray, 160 × 120 pixels, 25 frames a second. A clip is named as in `00sequences.txt`, such as
`person01_boxing_d1`: subject 1 to 25, action, and scenario d1 to d4 (outdoors, outdoors with scale change, outdoors with
other clothes, indoors). The list cuts a clip into about four intervals in which the action is seen.
"""

import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from stdcf_lib.checks import choice, whole, wholes
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS
from stdcf_lib.data.video import VideoError, decode_gray

Interval = tuple[int, int]

FRAME = (120, 160)
CLIP = re.compile(rf"person(?P<subject>\d\d)_(?P<action>{'|'.join(ACTIONS)})_d(?P<scenario>[1-4])", re.ASCII)
# Frames have up to six digits: that is eleven hours.
INTERVALS = re.compile(r"\d{1,6}\s*-\s*\d{1,6}(?:[\s,]+\d{1,6}\s*-\s*\d{1,6})*", re.ASCII)
# One copy of the list lost a digit in person17_walking_d4; another has it.
MISPRINTS = {(445, 56): (445, 560)}

log = logging.getLogger(__name__)


class KTH(Dataset):
    """Windows of KTH's clips. Indexing gives one as the networks take it: float32 `(1, frames, *size)` in [0, 1].

    `.action` int64 (n,), the place in ACTIONS, `.subject` int64 (n,) and `.clip`, n names, say what each window is of.
    `.missing` names the clips that the list has and the folder has not, `.bad` maps the clips left out to the reason.
    Both are also logged as warnings, and counted where the data set is printed.

    Windows are placed by `windows`. The score of a clip is to be the mean over its windows. [ours]

    Args:
        folder: holds `00sequences.txt` and the clips, as `{action}/{clip}_uncomp.avi` or all side by side. A part of KTH
            will do.
        split: "train", "validation" or "test", the official ones by subject; None for all subjects.
        frames, stride: a window shows every stride-th frame, `frames` of them. [ours] 16 at stride 2; 32 at stride 1 are
            the same windows at half the tempo, for a window spans frames · stride frames of the clip either way.
        size: (height, width) of a frame after averaging over areas, at most (120, 160). [ours] half of it.
        cache: folder for decoded clips, about 9 MB each, 5.5 GB in all; None for `stdcf/kth` in the user's cache folder.
        on_bad: what to do with a clip that is damaged, truncated, or not KTH's: "raise" VideoError, or "skip" it. The
            official copy of person01_boxing_d4, in validation, is known to break off at frame 305 of 370.

    Raises:
        FileNotFoundError: for a missing list.
        ValueError: for an argument out of range, a list that cannot be read, or where no clip of the split is in the folder
            or none is sound.
        VideoError: for a bad clip, unless those are skipped.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None,
        frames: int = 16,
        stride: int = 2,
        size: tuple[int, int] = (60, 80),
        cache: str | Path | None = None,
        on_bad: str = "raise",
    ) -> None:
        self.split: str | None = choice("split", split, (*SPLITS, None))
        choice("on_bad", on_bad, ("raise", "skip"))
        self.frames, self.stride = whole("frames", frames), whole("stride", stride)
        height, width = wholes("size", size, 2, meaning="(height, width)")
        self.size = whole("height of size", height, 1, FRAME[0]), whole("width of size", width, 1, FRAME[1])
        self.missing: list[str] = []
        self.bad: dict[str, str] = {}
        self.clip: list[str] = []
        self._windows: list[tuple[Path, int]] = []
        cache = _user_cache() if cache is None else Path(cache)

        files: dict[str, Path] = {}
        listed = {clip: found for clip, found in sequences(Path(folder, "00sequences.txt")).items() if found}
        for clip in listed:
            if self.split is None or _subject(clip) in SPLITS[self.split]:
                path = _find(folder, clip)
                if path:
                    files[clip] = path
                else:
                    self.missing.append(clip)
        if not files:
            expected = f"{_action(self.missing[0])}/{self.missing[0]}_uncomp.avi" if self.missing else "a clip"
            raise ValueError(f"{folder} has no clip of split {split!r}, such as {expected}")
        if self.missing:
            all_clips = len(self.missing) + len(files)
            log.warning("split %r: %d of its %d clips are missing; .missing names them", split, len(self.missing), all_clips)

        for clip, path in tqdm(files.items(), desc="KTH", unit="clip", disable=None):
            try:
                decoded = _decoded(path, clip, cache)
                length, last = len(np.load(decoded, mmap_mode="r")), max(last for _, last in listed[clip])
                if length < last:
                    raise VideoError(f"{path} is truncated: it has {length} frames, and the list goes on to {last}")
            except VideoError as error:
                if on_bad == "raise":
                    raise
                self.bad[clip] = str(error)
                log.warning("skipped: %s", error)
                continue
            for interval in listed[clip]:
                for start in windows(interval, self.frames * self.stride, length):
                    self.clip.append(clip)
                    self._windows.append((decoded, start))
        if not self._windows:
            raise ValueError(f"{folder} has no sound clip of split {split!r}; bad: {', '.join(self.bad)}")
        self.action = torch.tensor([ACTIONS.index(_action(clip)) for clip in self.clip], dtype=torch.int64)
        self.subject = torch.tensor([_subject(clip) for clip in self.clip], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Tensor:
        decoded, start = self._windows[index]
        span = slice(start, start + self.frames * self.stride, self.stride)
        # Opened anew each time: a memory map that is kept would be copied whole to every loader process.
        window = torch.from_numpy(np.array(np.load(decoded, mmap_mode="r")[span]))
        return adaptive_avg_pool2d(window[None].float() / 255, self.size)

    def __repr__(self) -> str:
        split = "all subjects" if self.split is None else self.split
        lacks = f", {len(self.missing)} clips missing" if self.missing else ""
        bad = f", {len(self.bad)} bad clips left out" if self.bad else ""
        return f"<KTH {split}: {len(self)} windows of {len(set(self.clip))} clips{lacks}{bad}>"


def sequences(path: str | Path) -> dict[str, tuple[Interval, ...]]:
    """The intervals of each clip in KTH's list `00sequences.txt`: first and last frame, counted from 1, both included.

    Any text before, between and after the rows is passed over, so a copy with or without the header is read alike. A clip
    listed as missing (person13_handclapping_d3) has no interval. Intervals may overlap, and are kept in the list's order.

    Args:
        path: the list, in UTF-8; other bytes are taken for text to pass over.

    Returns:
        The intervals of each clip.

    Raises:
        ValueError: for a row that cannot be read, an interval that ends before it begins, and a clip listed twice; it
            names the line.
        FileNotFoundError: for a missing list.
    """
    found: dict[str, tuple[Interval, ...]] = {}
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        name, _, rest = line.strip().lstrip("\ufeff").partition("_")
        if not re.fullmatch(r"person\d+", name):
            continue
        clip, *rest = f"{name}_{rest}".split(maxsplit=1)
        row = rest[0].removeprefix("frames").strip() if rest else ""
        where = f"line {number} of {path}"
        if not CLIP.fullmatch(clip) or not 1 <= _subject(clip) <= 25:
            raise ValueError(f"{where} names {clip!r}; clips are named like person01_boxing_d1")
        if clip in found:
            raise ValueError(f"{where} lists {clip} again")
        if "missing" in row:
            found[clip] = ()
            continue
        if not INTERVALS.fullmatch(row):
            raise ValueError(f"{where} is {line.strip()!r}; a row is like 'person01_boxing_d1 frames 1-95, 96-185'")
        numbers = [int(number) for number in re.findall(r"\d+", row)]
        intervals = list(zip(numbers[::2], numbers[1::2], strict=True))
        found[clip] = tuple(MISPRINTS.get(interval, interval) for interval in intervals)
        for first, last in found[clip]:
            if not 1 <= first <= last:
                raise ValueError(f"{where} has the interval {first}-{last} of {clip}; an interval is first-last, from 1")
    if not found:
        raise ValueError(f"{path} has no row like 'person01_boxing_d1 frames 1-95, 96-185'; it is not KTH's list")
    return found


def windows(interval: Interval, span: int, length: int) -> list[int]:
    """First frames, counted from 0, of the windows of `span` frames in an interval of a clip of `length` frames.

    As many as fit without overlap, spread evenly from end to end of the interval; one alone is in its middle. Where not one
    fits, it reaches out of the interval to both sides alike, as far as the clip goes. [ours]

    Args:
        interval: first and last frame, counted from 1, both included.
        span, length: of a window and of the clip, in frames.

    Raises:
        ValueError: for a clip shorter than a window.

    Example:
        >>> windows((1, 100), span=32, length=100)
        [0, 34, 68]
    """
    if length < span:
        raise ValueError(f"a window of {span} frames does not fit in a clip of {length}; ask for fewer, or a smaller stride")
    first, last = interval[0] - 1, interval[1]
    count = (last - first) // span
    if count > 1:
        return [int(start) for start in np.linspace(first, last - span, count)]
    return [min(max(0, (first + last - span) // 2), length - span)]


def _subject(clip: str) -> int:
    return int(clip[6:8])


def _action(clip: str) -> str:
    return clip.split("_")[1]


def _find(folder: str | Path, clip: str) -> Path | None:
    name = f"{clip}_uncomp.avi"
    return next((path for path in (Path(folder, _action(clip), name), Path(folder, name)) if path.is_file()), None)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "stdcf", "kth")


def _decoded(path: Path, clip: str, cache: Path) -> Path:
    """The clip's frames, uint8 (T, 120, 160), as a .npy file in `cache`, decoded unless it is there."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache / f"{clip}-{path.stat().st_size}-{digest[:16]}.npy"
    if not target.exists():
        frames = decode_gray(path)
        if frames.shape[1:] != FRAME:
            raise VideoError(f"{path} has frames of {frames.shape[1:]} pixels, KTH's have {FRAME}: it is not KTH's")
        cache.mkdir(parents=True, exist_ok=True)
        # Renamed only when whole: a write that is cut off leaves no .npy.
        handle, aside = tempfile.mkstemp(prefix=f".{target.stem}.", dir=cache)
        try:
            with open(handle, "wb") as file:
                np.save(file, frames)
            os.chmod(aside, 0o644)
            os.replace(aside, target)
        except BaseException:
            os.unlink(aside)
            raise
    return target
