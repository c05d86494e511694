"""Clips from files of video, at a fixed stride."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stdcf_lib.checks import whole
from stdcf_lib.data.footage import Footage
from stdcf_lib.data.video import decode_numbers, frame_count


class VideoClips(Footage):
    """Clips of `frames` frames, every `stride`-th of a video, from anywhere in it; see `Footage` for what indexing gives.

    Test clips are spread evenly over the video. A video that ends before the clip does holds its last frame. [ours]

    Args:
        listed: (path, label) of each video.
        training: whether to draw at random, or give the views of a test.
        frames, stride, size: of a clip; [ours] 8 × 8 at 224².
        views: (clips, crops) of a test sample; 10 × 3 is usual.
        flip: whether half of all training clips are mirrored. Not where left and right are part of the labels.
        max_faulty: see `Footage`.

    Raises:
        ValueError: for an argument out of range, or if no video is there.
    """

    def __init__(
        self,
        listed: Sequence[tuple[Path, int]],
        training: bool,
        frames: int = 8,
        stride: int = 8,
        size: int = 224,
        views: tuple[int, int] = (10, 3),
        flip: bool = True,
        max_faulty: float = 0.02,
    ) -> None:
        self.stride = whole("stride", stride)
        super().__init__(listed, training, frames, size, views, flip, max_faulty)

    def _count(self, path: Path) -> int:
        return frame_count(path)

    def _numbers(self, count: int, view: int | None) -> list[int]:
        room = max(0, count - self.frames * self.stride)
        if view is None:
            start = int(torch.randint(room + 1, ()))
        else:
            start = room // 2 if self.views[0] == 1 else round(room * view / (self.views[0] - 1))
        return list(range(start, start + self.frames * self.stride, self.stride))

    def _read(self, path: Path, numbers: list[int], short_side: int) -> Tensor:
        return torch.from_numpy(decode_numbers(path, numbers, short_side, hold=True)).movedim(-1, 1)
