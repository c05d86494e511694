"""Noise in the form of clips, for trying a run out where there are no videos."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stdcf_lib.checks import choice, whole

CLIPS = {"train": 32, "test": 8}


class Noise(Dataset):
    """Clips of noise with labels that mean nothing. Indexing gives (clip, label): float32 (3, frames, size, size), and an int.

    Args:
        split: "train" or "test": 32 or 8 clips.
        frames, size: of a clip.
        num_classes: labels are 0, 1, …, num_classes - 1, 0, …
        seed: a clip depends on the seed, the split and its index, and on nothing else: not on torch's generator, the
            loader's workers, or what was drawn before.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> clip, label = Noise("test", frames=4, size=32, num_classes=4)[5]
        >>> clip.shape, label
        (torch.Size([3, 4, 32, 32]), 1)
    """

    def __init__(self, split: str, frames: int, size: int, num_classes: int, seed: int = 0) -> None:
        self.split = choice("split", split, CLIPS)
        self.shape = (3, whole("frames", frames), whole("size", size), whole("size", size))
        self.num_classes, self.seed = whole("num_classes", num_classes), whole("seed", seed, 0, 2**56)

    def __len__(self) -> int:
        return CLIPS[self.split]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index = range(len(self))[index]
        # Generators of neighbouring seeds are independent; the clips of one seed and of the next do not overlap.
        first = sum(CLIPS.values()) * self.seed + (CLIPS["train"] if self.split == "test" else 0)
        generator = torch.Generator().manual_seed(first + index)
        return torch.rand(self.shape, generator=generator), index % self.num_classes

    def reduced(self, frames: int, size: int) -> "Noise":
        """As a stage of ITSL shows it: noise of that length and size."""
        return Noise(self.split, frames, size, self.num_classes, self.seed)
