"""Clips for training, cut from files that may fail: what Kinetics and Something-Something have in common."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from stdcf_lib.data.video import VideoError

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""Of the colours, in [0, 1]: subtracted and divided by, as is usual for Kinetics."""

SPARES = 20  # other samples that are tried in place of a faulty one

log = logging.getLogger(__name__)


class TooManyFaultyFiles(RuntimeError):
    """More files than allowed could not be read; the message lists them."""


class Footage(Dataset):
    """Labelled clips from video files. Indexing gives (clip, label): float32 (3, T, S, S), normalised by `MEAN` and `STD`.

    In training a place in the video, a short side, a crop and (if `flip`) a mirroring are drawn from torch's generator. In
    testing there is a fixed grid of views, `views` = (clips in time, crops in space), and a sample is (V, 3, T, S, S), or as in
    training if V is 1.

    A file that is corrupt, empty, without a picture or gone is never a crash and never a black clip: it is logged once, by
    name, and replaced by another sample, drawn for this one by torch's generator. `.faulty` names those met so far, by all
    loader workers of this process.

    Subclasses say in `_decoded` which frames a clip has, and how they are read.

    samples: (path, label) of each video.
    frames, size: T and S.
    training: whether to draw at random.
    short_sides: (lowest, highest) of the shorter side in pixels to which a video is scaled before S × S is cut out; drawn in
        training, the lowest in testing.
    flip: whether half of all training clips are mirrored.
    views: (clips, crops) of a test sample; crops are 1, the centre, or 3 along the longer side.
    max_faulty: the share of files that may fail before `TooManyFaultyFiles` stops the run with a list.

    Raises ValueError for an argument out of range, or no samples.
    """

    def __init__(
        self,
        samples: Sequence[tuple[Path, int]],
        frames: int,
        size: int,
        training: bool,
        short_sides: tuple[int, int],
        flip: bool,
        views: tuple[int, int],
        max_faulty: float,
    ) -> None:
        for name, value in (("frames", frames), ("size", size), ("views", views[0])):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if views[1] not in (1, 3):
            raise ValueError(f"views must be (clips, crops) with 1 or 3 crops, got {views}")
        if not size <= short_sides[0] <= short_sides[1]:
            raise ValueError(f"short_sides must be (lowest, highest), none below size, {size}, got {short_sides}")
        if not 0 <= max_faulty <= 1:
            raise ValueError(f"max_faulty must be a share from 0 to 1, got {max_faulty!r}")
        if not samples:
            raise ValueError("there are no samples: no file of the list is in the folder")
        self.samples, self.frames, self.size, self.training = list(samples), frames, size, training
        self.short_sides, self.flip, self.views, self.max_faulty = short_sides, flip, views, max_faulty
        self._shown = (frames, size)
        # Shared memory, so that loader workers, which are other processes, write into one and the same.
        self._faulty = torch.zeros(len(self.samples), dtype=torch.uint8).share_memory_()

    def reduced(self, frames: int, size: int) -> "Footage":
        """The same samples as a stage of ITSL shows them: every k-th frame of each clip, or the same cut at fewer pixels.

        What is drawn at random stays the same for the same state of torch's generator.
        """
        if self.frames % frames or not 1 <= size <= self.size:
            raise ValueError(
                f"clips of {self.frames} frames of {self.size}² cannot be shown as {frames} of {size}²: "
                "give a divisor of the frames, and no larger a size"
            )
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "_shown": (frames, size)}
        return other

    @property
    def faulty(self) -> list[str]:
        """The files that could not be read, as far as they have been met."""
        return [str(self.samples[i][0]) for i in self._faulty.nonzero().flatten().tolist()]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        spares = torch.randint(len(self), (SPARES,)).tolist()
        for attempt in (index, *spares):
            if self._faulty[attempt]:
                continue
            path, label = self.samples[attempt]
            try:
                # Each attempt draws the same, so that a sample does not depend on whether a fault was known before.
                with torch.random.fork_rng(devices=[]):
                    return self._clip(path), label
            except (VideoError, OSError) as error:
                self._report(attempt, error)
        raise TooManyFaultyFiles(f"{SPARES} samples in a row could not be read; {self._listed()}")

    def _report(self, index: int, error: Exception) -> None:
        self._faulty[index] = 1
        log.warning("replaced by another sample: %s (%s)", self.samples[index][0], error)
        count = int(self._faulty.sum())
        if count > self.max_faulty * len(self):
            raise TooManyFaultyFiles(
                f"{count} of {len(self)} files could not be read, more than max_faulty={self.max_faulty:g}; {self._listed()}"
            ) from error

    def _listed(self) -> str:
        return "they are:\n" + "\n".join(self.faulty)

    def _clip(self, path: Path) -> Tensor:
        every, size = self.frames // self._shown[0], self._shown[1]
        if not self.training:
            shown = [self._decoded(path, self.short_sides[0], every, view) for view in range(self.views[0])]
            clips = torch.stack([_resized(cut, size) for clip in shown for cut in _crops(clip, self.size, self.views[1])])
            return _normalised(clips if len(clips) > 1 else clips[0])
        short_side = int(torch.randint(self.short_sides[0], self.short_sides[1] + 1, ()))
        down, across, mirror = torch.rand(3).tolist()
        clip = self._decoded(path, short_side, every, None)
        height, width = clip.shape[-2:]
        cut = tv.crop(clip, round(down * (height - self.size)), round(across * (width - self.size)), self.size, self.size)
        cut = _resized(cut, size)
        return _normalised(tv.horizontal_flip(cut) if self.flip and mirror < 0.5 else cut)

    def _decoded(self, path: Path, short_side: int, every: int, view: int | None) -> Tensor:
        """uint8 (T / every, 3, H, W): every so many of a clip's T frames; of test view number `view`, or a random clip."""
        raise NotImplementedError


def _crops(clip: Tensor, size: int, count: int) -> list[Tensor]:
    """Squares along the longer side: the middle, or the beginning, the middle and the end."""
    height, width = clip.shape[-2:]
    places = (0.5,) if count == 1 else (0.0, 0.5, 1.0)
    longer = width >= height
    return [
        tv.crop(
            clip,
            round((0.5 if longer else place) * (height - size)),
            round((place if longer else 0.5) * (width - size)),
            size,
            size,
        )
        for place in places
    ]


def _resized(clip: Tensor, size: int) -> Tensor:
    return clip if clip.shape[-1] == size else tv.resize(clip, [size, size], antialias=True)


def _normalised(clips: Tensor) -> Tensor:
    """uint8 (…, T, 3, S, S) → float32 (…, 3, T, S, S)."""
    return tv.normalize(clips.float() / 255, list(MEAN), list(STD)).movedim(-4, -3)


def path_label_list(file: Path, folder: Path) -> list[tuple[Path, int]]:
    """The samples of a list with a row `path label` for each, paths relative to a folder; paths may hold spaces.

    Raises ValueError, naming the line, for a row without an integer at its end.
    """
    samples = []
    for number, line in enumerate(Path(file).read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        if not path or not label.isdigit():
            raise ValueError(f"line {number} of {file} is {line!r}; a row is a path, a space and the number of a class")
        samples.append((Path(folder, path), int(label)))
    return samples


def present(samples: Sequence[tuple[Path, int]], what: str) -> tuple[list[tuple[Path, int]], list[str]]:
    """Samples whose file or folder is there, and the paths of the others, of which a warning says how many."""
    missing = [str(path) for path, _ in samples if not path.exists()]
    if missing:
        log.warning("%s: %d of %d are missing, such as %s; .missing names them", what, len(missing), len(samples), missing[0])
    gone = set(missing)
    return [sample for sample in samples if str(sample[0]) not in gone], missing
