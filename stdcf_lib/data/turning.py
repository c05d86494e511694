"""Clips of one digit that turns on the spot: which digit needs fine space to tell, which way and how fast needs fine time."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from stdcf_lib.checks import whole
from stdcf_lib.data.mnist import mnist
from stdcf_lib.data.tr_mnist import bounce, direction, ink_box, render, speed_range

CLIPS = {"train": 6_000, "test": 2_000}
ROTATIONS = (-90, -45, 45, 90)
"""Degrees a frame, counter-clockwise as seen on the screen; a motion is a place in this tuple."""


class TurningDigits(Dataset):
    """Clips of one small digit that turns and drifts. `.clips` is uint8 (n, 1, frames, size, size). [ours]

    `.digit` int64 (n,) from 0 to 9 and `.motion` int64 (n,), a place in `ROTATIONS`, say what a clip shows; `.label`
    is digit · 4 + motion, one of 40 classes, which `parts` takes apart again. Indexing gives a clip and its label as
    networks take them: float32 (1, frames, size, size) in [0, 1], and an int.

    Every fourth frame shows ±90° standing still and both of ±45° by turns upright and upside down: which way a digit
    turns is lost. At half the resolution a digit has a few pixels left. So neither view of a clip holds its label.

    Args:
        split: "train" or "test": which digits; the two also move differently.
        clips: how many; None for 6,000 training and 2,000 test clips.
        seed: same seed, same clips, bit for bit; and clip i does not depend on how many clips are asked for.
        frames, size: length in frames and side of the frame in pixels.
        digit_size: height and width in pixels of the square into which digits are shrunk, 20 as MNIST has them; at least 4.
        speed: (lowest, highest) in pixels a frame. Direction and place are uniform, and the digit bounces as in `TRMNIST`.
            The first frame shows it upright.
        folder: MNIST's idx files to take the digits from, see `mnist`.

    Raises:
        ValueError: for an argument that makes no clips, e.g. a size smaller than a digit's ink, and as `mnist` does.
        FileNotFoundError: as `mnist` does.
    """

    def __init__(
        self,
        split: str,
        clips: int | None = None,
        seed: int = 0,
        frames: int = 16,
        size: int = 28,
        digit_size: int = 11,
        speed: tuple[float, float] = (0.0, 0.5),
        folder: str | Path | None = None,
    ) -> None:
        images, labels = mnist(split, folder)
        clips = whole("clips", CLIPS[split] if clips is None else clips)
        seed = whole("seed", seed, 0)
        frames, size, digit_size = whole("frames", frames), whole("size", size), whole("digit_size", digit_size, 4)
        low, high = speed_range(speed)

        order, motion = np.random.default_rng([seed, list(CLIPS).index(split)]).spawn(2)
        rounds = -(-clips // len(images))
        drawn = torch.from_numpy(np.concatenate([order.permutation(len(images)) for _ in range(rounds)])[:clips])
        chance = torch.from_numpy(motion.random((clips, 5)))
        self.digit = labels[drawn]
        self.motion = (chance[:, 4] * len(ROTATIONS)).long()
        self.label = self.digit * len(ROTATIONS) + self.motion

        images = shrink(images[drawn], digit_size)
        box = ink_box(images)
        span = (size - box[:, 2:]).double()
        if span.min() < 0:
            raise ValueError(f"size {size} is smaller than a digit's ink, which needs {size - int(span.min())} pixels")
        velocity = (low + (high - low) * chance[:, 2:3]) * direction(chance[:, 3])
        time = torch.arange(frames, dtype=torch.float64)
        position = bounce((chance[:, :2] * span)[:, None], velocity[:, None], span[:, None], time[:, None])

        self.clips = torch.empty(clips, 1, frames, size, size, dtype=torch.uint8)
        for m, rotation in enumerate(ROTATIONS):  # `render` turns all digits of a call alike
            for part in (self.motion == m).nonzero()[:, 0].split(32):
                self.clips[part, 0] = render(images[part], box[part], position[part], rotation * time, size)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.clips[index].float() / 255, int(self.label[index])


def parts(label: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of `TurningDigits` → the digit and the motion that they stand for."""
    return label // len(ROTATIONS), label % len(ROTATIONS)


def shrink(images: Tensor, digit_size: int) -> Tensor:
    """MNIST's images, uint8 (n, 28, 28), whose digits fill a square of 20 pixels → the same at `digit_size`, uint8."""
    side = round(28 * digit_size / 20)
    smaller = F.interpolate(images[:, None].double(), (side, side), mode="bilinear", antialias=True)[:, 0]
    return smaller.round_().to(torch.uint8)
