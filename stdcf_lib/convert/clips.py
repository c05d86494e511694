"""Clips to recover with, by name."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stdcf_lib.checks import wholes
from stdcf_lib.convert.named import called, preparation
from stdcf_lib.convert.recovery import Clips
from stdcf_lib.data.video import decode_numbers, frame_count

VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".webm"}
STRIDE = 2
"""Frames of a video from one to the next: torchvision's networks learned at 15 a second, and most videos have 25 or 30."""


class Videos:
    """The middle of each video below a folder, as a network of torchvision takes it: (C, T, H, W).

    Raises:
        ValueError: a folder without videos.
    """

    def __init__(self, folder: Path, network: str, frames: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS)
        if not self.paths:
            raise ValueError(f"{folder} has no videos ({', '.join(sorted(VIDEOS))})")
        self.prepare, self.frames = preparation(network), frames

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self.paths[index]
        first = max(0, (frame_count(path) - STRIDE * self.frames) // 2)
        numbers = range(first, first + STRIDE * self.frames, STRIDE)
        return self.prepare(torch.from_numpy(decode_numbers(path, numbers, hold=True)).movedim(-1, 1))


def clips(name: str, network: str, size: tuple[int, ...]) -> Clips:
    """Clips by name: a folder of videos, for a network of torchvision; or `package.module:function`, which returns them.

    Args:
        name: of the clips.
        network: the name of the network they are for.
        size: of the network's input.

    Raises:
        ValueError: they are none, or do not fit the network.
        OSError: a video that cannot be read.
    """
    if Path(name).is_dir():
        found: Any = Videos(Path(name), network, wholes("size", size)[2])
    else:
        found = called(name)
    try:
        shape, count = tuple(found[0].shape), len(found)
    except (TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(f"{name} gave {type(found).__name__}; give clips, a tensor (n, C, T, H, W) or a Dataset") from error
    if shape[0] != size[1] or len(shape) != len(size) - 1:
        raise ValueError(f"{name} has clips of shape {shape}; the network takes {tuple(size[1:])}")
    if count < 2:
        raise ValueError(f"{name} has {count} clip; give two or more, as one is held out")
    return found
