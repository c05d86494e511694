"""Clips of noise, for trying a run out where there are no videos."""

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Noise(Dataset):
    def __init__(self, clips: int, frames: int, size: int, num_classes: int):
        self.clips, self.shape, self.num_classes = clips, (3, frames, size, size), num_classes

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(self.shape, generator=generator), index % self.num_classes

    def reduced(self, frames: int, size: int) -> "Noise":
        return Noise(self.clips, frames, size, self.num_classes)
