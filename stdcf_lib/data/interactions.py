"""UT-Interaction (Ryoo and Aggarwal, ICCV 2009), set 1: two people shake hands, hug, kick, point, punch or push."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stdcf_lib.checks import whole
from stdcf_lib.data.video import decode_gray

INTERACTIONS = ("hand shaking", "hugging", "kicking", "pointing", "punching", "pushing")
"""By the number that the file names have."""

_NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.avi")


class Interactions:
    """The segmented clips of UT-Interaction, small and gray. `.clips[i]` is uint8 (frames, height, width).

    `.interaction` int64 (n,), a place in `INTERACTIONS`, and `.sequence` int64 (n,), the recording that a clip was cut from;
    the protocol leaves out one recording at a time. `.aspect` float (n,) is the width of the clip's box over its height, and
    with the clip's length gives away much of the label: a network must be shown neither. [ours] So frames are scaled to one
    height at their own aspect, and cut or continued by their edge to one width.

    Args:
        folder: with the files `{number}_{sequence}_{interaction}.avi` of `segmented_set1`.
        height, width: of the frames, in pixels.

    Raises:
        FileNotFoundError: no such file in the folder.
        ValueError: a file that is named for an interaction which is none.
        VideoError: a video that cannot be decoded; it names the file.
    """

    def __init__(self, folder: str | Path, height: int = 64, width: int = 96) -> None:
        height, width = whole("height", height), whole("width", width)
        found = sorted(
            (tuple(map(int, m.groups())), path) for path in Path(folder).glob("*.avi") if (m := _NAME.fullmatch(path.name))
        )
        if not found:
            raise FileNotFoundError(
                f"no clip such as 0_1_4.avi in {str(folder)!r}; give the folder of UT-Interaction's segmented_set1"
            )
        wrong = [path.name for (_, _, label), path in found if label >= len(INTERACTIONS)]
        if wrong:
            raise ValueError(
                f"{wrong[0]} is named for interaction {wrong[0].split('_')[2][:-4]}; there are 0 to {len(INTERACTIONS) - 1}"
            )
        films = [decode_gray(path) for _, path in found]
        self.name = [path.name for _, path in found]
        self.sequence = torch.tensor([sequence for (_, sequence, _), _ in found])
        self.interaction = torch.tensor([label for (_, _, label), _ in found])
        self.aspect = torch.tensor([film.shape[2] / film.shape[1] for film in films])
        self.clips = [canvas(film, height, width) for film in films]

    def __len__(self) -> int:
        return len(self.clips)


def canvas(film: np.ndarray, height: int, width: int) -> Tensor:
    """A film, uint8 (T, H, W), at another height and its own aspect, its centre on a canvas of some width."""
    at_height = round(height * film.shape[2] / film.shape[1])
    x = F.interpolate(torch.from_numpy(film)[:, None].float(), (height, at_height), mode="area")[:, 0]
    if at_height >= width:
        left = (at_height - width) // 2
        x = x[..., left : left + width]
    else:
        left = (width - at_height) // 2
        x = F.pad(x, (left, width - at_height - left), mode="replicate")
    return x.round().to(torch.uint8)


def window(frames: int, count: int, stride: int, shift: float = 0.0) -> np.ndarray:
    """Which frames of a clip a window shows, around the clip's middle at a fixed stride, so that its tempo is the scene's.

    Args:
        frames: of the clip.
        count: of the window.
        stride: in frames.
        shift: of the window's middle from the clip's, in frames; a window that would leave the clip is moved back into it.

    Returns:
        `count` numbers from 0 to frames - 1; a clip shorter than the window goes on showing its first and last frame.
    """
    reach = (whole("count", count) - 1) * whole("stride", stride)
    room = whole("frames", frames) - 1 - reach
    start = room / 2 + shift
    if room >= 0:
        start = min(max(start, 0.0), room)
    return np.clip(np.rint(start + np.arange(count) * stride), 0, frames - 1).astype(int)


def shown(clips: Sequence[Tensor], indices: Sequence[np.ndarray]) -> Tensor:
    """The windows of some clips: float32 (B, 1, T, H, W) without the mean over time of each pixel, which is the scene that
    stands still, and of deviation 1. A window of one frame shows that scene: only its mean over all pixels is taken away."""
    x = torch.stack([clip[torch.from_numpy(index)] for clip, index in zip(clips, indices, strict=True)])[:, None].float()
    x = x - x.mean(2 if x.shape[2] > 1 else (1, 2, 3, 4), keepdim=True)
    return x / x.std((1, 2, 3, 4), correction=0, keepdim=True).clamp_min(1.0)
