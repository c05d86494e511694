"""Clips for training, cut from files that may fail: what all sets of real video have in common."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stdcf_lib.checks import choice, number, whole, wholes
from stdcf_lib.data.lists import TooManyFaultyFiles, present
from stdcf_lib.data.video import VideoError

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""Of the colours, in [0, 1]; subtracted and divided by, as is usual for Kinetics."""

FORGIVEN = 5
"""Faulty files that stop no run, however few files there are. [ours]"""
SPARES = 20  # other samples that are tried in place of a faulty one

log = logging.getLogger(__name__)


class Footage(Dataset):
    """Labelled clips from video files. Indexing gives (clip, label): float32 (3, T, S, S), normalised by `MEAN` and `STD`, or
    of a set made by `as_bytes` the same before it is normalised, in a quarter of the memory.

    Training as is usual: a place in the video, a short side of 256 to 320 pixels (for S = 224, else in proportion) to which
    it is scaled, a square to cut out and, if `flip`, whether to mirror are drawn from torch's generator. In testing there is
    a fixed grid of views at a short side of 256, and a sample is (V, 3, T, S, S), or as in training if V is 1.

    A file that is corrupt, empty, without a picture or gone is never a crash and never a black clip: it is logged once, by
    name, and replaced by another sample, drawn for this one by torch's generator. `.faulty` names those met so far, by all
    loader workers of this process. `.missing` names the files that were not there from the first.

    Subclasses say how many frames a video has, which of them a clip shows, and how they are read.

    Args:
        listed: (path, label) of each video.
        training: whether to draw at random, or give the views of a test.
        frames, size: T and S.
        views: (clips in time, crops in space) of a test sample; crops are 1, the centre, or 3 along the longer side.
        flip: whether half of all training clips are mirrored.
        max_faulty: the share of files that may fail, from 0 to 1. `FORGIVEN` files may fail however few there are; one more
            than both stops the run with `TooManyFaultyFiles`, which lists them.

    Raises:
        ValueError: for an argument out of range, or if no video is there.
    """

    def __init__(
        self,
        listed: Sequence[tuple[Path, int]],
        training: bool,
        frames: int,
        size: int,
        views: tuple[int, int],
        flip: bool,
        max_faulty: float,
    ) -> None:
        self.frames, self.size, self.training, self.flip = whole("frames", frames), whole("size", size), training, flip
        clips, crops = wholes("views", views, 2, meaning="(clips, crops)")
        self.views = clips, choice("crops of views", crops, (1, 3))
        self.max_faulty = number("max_faulty", max_faulty, 0, 1)
        self.samples, self.missing = present(listed, type(self).__name__)
        if not self.samples:
            raise ValueError("there are no samples: no file of the list is in the folder")
        self.short_sides = round(256 / 224 * self.size), round(320 / 224 * self.size)
        self._shown, self._bytes = (self.frames, self.size), False
        # Shared memory, so that loader workers, which are other processes, write into one and the same.
        self._faulty = torch.zeros(len(self.samples), dtype=torch.uint8).share_memory_()

    def reduced(self, frames: int, size: int) -> "Footage":
        """The same samples as a stage of ITSL shows them: every k-th frame of each clip, or the same cut at fewer pixels.

        What is drawn at random stays the same for the same state of torch's generator.

        Args:
            frames: a divisor of the frames of a clip.
            size: at most that of a clip.

        Raises:
            ValueError: for other frames, or another size.
        """
        frames, size = whole("frames", frames), whole("size", size)
        if self.frames % frames or size > self.size:
            raise ValueError(
                f"clips of {self.frames} frames of {self.size}² cannot be shown as {frames} of {size}²: "
                "give a divisor of the frames, and no larger a size"
            )
        return self._with(_shown=(frames, size))

    def viewed(self, views: tuple[int, int]) -> "Footage":
        """The same samples in other views; see the argument."""
        clips, crops = wholes("views", views, 2, meaning="(clips, crops)")
        return self._with(views=(clips, choice("crops of views", crops, (1, 3))))

    def as_bytes(self) -> "Footage":
        """The same samples as uint8, a quarter of the bytes, for `normalised` to be applied to on the device."""
        return self._with(_bytes=True)

    def _with(self, **changes: Any) -> "Footage":
        other = object.__new__(type(self))
        other.__dict__ = self.__dict__ | changes
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        if not self._faulty.is_shared():  # it comes from another machine, or from a process that trains
            self._faulty.share_memory_()

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
                    return self.clip(path), label
            except (VideoError, OSError) as error:
                self._report(attempt, error)
        raise TooManyFaultyFiles(f"{SPARES} samples in a row could not be read; {self._listed()}")

    def clip(self, path: Path) -> Tensor:
        """One video as a sample shows it, in the list or not; a faulty one is raised, and not replaced.

        Raises:
            VideoError, OSError: it cannot be read; the message names it.
        """
        clip = self._cut_out(path).movedim(-4, -3).contiguous()
        return clip if self._bytes else normalised(clip)

    def _report(self, index: int, error: Exception) -> None:
        self._faulty[index] = 1
        log.warning("replaced by another sample: %s (%s)", self.samples[index][0], error)
        count = int(self._faulty.sum())
        if count > max(FORGIVEN, self.max_faulty * len(self)):
            raise TooManyFaultyFiles(
                f"{count} of {len(self)} files could not be read, more than {FORGIVEN} and than max_faulty={self.max_faulty:g} "
                f"of them; {self._listed()}"
            ) from error

    def _listed(self) -> str:
        return "they are:\n" + "\n".join(self.faulty)

    def _cut_out(self, path: Path) -> Tensor:
        """uint8 (T, 3, S, S), or (V, T, 3, S, S). Only the frames that are shown are scaled, at once to the size at which they
        are shown, and a video is read once for all of its views."""
        (frames, size), count = self._shown, self._count(path)
        every, scale = self.frames // frames, size / self.size
        if not self.training:
            views = [self._numbers(count, view)[::every] for view in range(self.views[0])]
            numbers = sorted(set().union(*views))
            read, place = self._read(path, numbers, round(scale * self.short_sides[0])), {n: i for i, n in enumerate(numbers)}
            cuts = [cut for view in views for cut in _crops(read[[place[n] for n in view]], size, self.views[1])]
            return torch.stack(cuts) if len(cuts) > 1 else cuts[0]
        short_side = int(torch.randint(self.short_sides[0], self.short_sides[1] + 1, ()))
        down, across, mirror = torch.rand(3).tolist()
        clip = self._read(path, self._numbers(count, None)[::every], round(scale * short_side))
        height, width = clip.shape[-2:]
        cut = _cut(clip, round(down * (height - size)), round(across * (width - size)), size)
        return cut.flip(-1) if self.flip and mirror < 0.5 else cut

    def _count(self, path: Path) -> int:
        """How many frames a video has."""
        raise NotImplementedError

    def _numbers(self, count: int, view: int | None) -> list[int]:
        """Which T of the frames of a video a clip shows, in order: test view number `view`, or a random clip."""
        raise NotImplementedError

    def _read(self, path: Path, numbers: list[int], short_side: int) -> Tensor:
        """uint8 (frames, 3, H, W): those frames of a video."""
        raise NotImplementedError


def normalised(clips: Tensor) -> Tensor:
    """uint8 (…, 3, T, S, S) → float32 of the same shape, by `MEAN` and `STD`, on whichever device they are."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return (clips.float() / 255 - mean) / std


def _crops(clip: Tensor, size: int, count: int) -> list[Tensor]:
    """Squares along the longer side: the middle, or the beginning, the middle and the end."""
    height, width = clip.shape[-2:]
    places = (0.5,) if count == 1 else (0.0, 0.5, 1.0)
    longer = width >= height
    return [
        _cut(clip, round((0.5 if longer else at) * (height - size)), round((at if longer else 0.5) * (width - size)), size)
        for at in places
    ]


def _cut(clip: Tensor, top: int, left: int, size: int) -> Tensor:
    """A square; slices, as torchvision's `crop` would double the time that each process takes to begin."""
    return clip[..., top : top + size, left : left + size]
