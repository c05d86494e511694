"""TR-MNIST: clips of MNIST digits that translate, bounce and rotate (paper, appendix B).

Positions and box sizes are in pixels and ordered (row, column); times are in frames; angles are in degrees,
counter-clockwise as seen on the screen. The frame is the square of its pixels: pixel i covers [i, i + 1).
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset

from stdcf_lib.checks import number, whole
from stdcf_lib.data.mnist import mnist

CLIPS = {"train": 10_000, "test": 5_000}


class Motion(NamedTuple):
    """How the clips of a TRMNIST came about; n clips of d digits and T frames."""

    digit: Tensor
    """(n, d) int64: which digit of `mnist(split, folder)`."""
    label: Tensor
    """(n, d) int64: its class."""
    box: Tensor
    """(n, d, 4) int64: its `ink_box`."""
    position: Tensor
    """(n, d, T, 2) float64: where the corner of its ink box is in each frame; `position[:, :, 0]` is the start."""
    velocity: Tensor
    """(n, d, 2) float64, pixels a frame: at the start."""


class TRMNIST(Dataset):
    """Clips of rotating digits that bounce in a small frame. `.clips` is uint8 (n, 1, frames, size, size).

    Indexing gives a clip as the networks take it: float32 (1, frames, size, size) in [0, 1]. `.motion` is the `Motion`
    behind the clips.

    [paper] 20,000 digits make 10,000 clips of 8 frames of 28 × 28 pixels; two digits a clip, which may overlap; start
    and speed are random; digits bounce at the border and turn by 45° a frame.
    [ours] The 28 × 28 patch fills the frame, so what bounces is the box of the *upright* digit's ink: a mirror
    reflection at real-valued positions. A turned digit may thus overhang the frame, by at most `overhang(box)`, and
    what overhangs is cut off. The start is uniform over all places inside; speed is U(1, 4), its direction uniform;
    rotation is about the centre of the ink box and starts upright; sampling is bilinear; digits combine by maximum.

    Args:
        split: "train" or "test": which digits; the two also move differently.
        clips: how many; None for the paper's 10,000 training and 5,000 test clips.
        seed: same seed, same clips, bit for bit, whatever the thread count or chunk; and clip i does not depend on how
            many clips are asked for. Frames, size, speed and rotation leave the draws as they are.
        frames, size: length in frames and side of the frame in pixels.
        digits: how many in a clip. Every digit of the split is used once before any is used again.
        speed: (lowest, highest) in pixels a frame.
        rotation: degrees a frame: frame k shows the digits turned by k times this.
        folder: MNIST's idx files to take the digits from, see `mnist`.
        chunk: clips rendered at a time; changes memory and speed only.

    Raises:
        ValueError: for an argument that makes no clips, e.g. a size smaller than a digit's ink, and as `mnist` does.
        FileNotFoundError: as `mnist` does.

    Example:
        >>> clips = TRMNIST("test", clips=4)
        >>> clips.clips.shape, clips[0].shape
        (torch.Size([4, 1, 8, 28, 28]), torch.Size([1, 8, 28, 28]))
    """

    def __init__(
        self,
        split: str,
        clips: int | None = None,
        seed: int = 0,
        frames: int = 8,
        size: int = 28,
        digits: int = 2,
        speed: tuple[float, float] = (1.0, 4.0),
        rotation: float = 45.0,
        folder: str | Path | None = None,
        chunk: int = 128,
    ) -> None:
        images, labels = mnist(split, folder)
        clips = whole("clips", CLIPS[split] if clips is None else clips)
        seed = whole("seed", seed, 0)
        frames, size, digits, chunk = (
            whole(name, value) for name, value in (("frames", frames), ("size", size), ("digits", digits), ("chunk", chunk))
        )
        low, high = speed_range(speed)
        rotation = number("rotation", rotation)

        # Two streams of their own, so that neither draw shifts the other when `clips` changes; the split is in the
        # seed, or test clip i would move just as training clip i.
        order, motion = np.random.default_rng([seed, list(CLIPS).index(split)]).spawn(2)
        rounds = math.ceil(clips * digits / len(images))
        drawn = np.concatenate([order.permutation(len(images)) for _ in range(rounds)])
        digit = torch.from_numpy(drawn[: clips * digits]).view(clips, digits)
        chance = torch.from_numpy(motion.random((clips, digits, 4)))

        box = ink_box(images[digit.flatten()]).unflatten(0, digit.shape)
        span = size - box[..., 2:]
        if span.min() < 0:
            raise ValueError(f"size {size} is smaller than a digit's ink, which needs {size - int(span.min())} pixels")
        velocity = (low + (high - low) * chance[..., 2:3]) * direction(chance[..., 3])
        time = torch.arange(frames, dtype=torch.float64)
        start = chance[..., None, :2] * span[..., None, :]
        position = bounce(start, velocity[..., None, :], span[..., None, :], time[:, None])
        self.motion = Motion(digit, labels[digit], box, position, velocity)

        self.clips = torch.empty(clips, 1, frames, size, size, dtype=torch.uint8)
        for i in range(0, clips, chunk):
            part = slice(i, i + chunk)
            rendered = render(
                images[digit[part]].flatten(0, 1),
                box[part].flatten(0, 1),
                position[part].flatten(0, 1),
                rotation * time,
                size,
            )
            self.clips[part, 0] = rendered.unflatten(0, (-1, digits)).amax(1)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        return self.clips[index].float() / 255


def ink_box(images: Tensor) -> Tensor:
    """The smallest box that holds the ink, all that is not 0, of images (n, H, W): (n, 4) int64.

    A box is its top row, left column, height and width.

    Raises:
        ValueError: for an image without ink.
        TypeError: for images that are not uint8 (n, H, W).
    """
    _check_images(images)
    edges = []
    for axis in (2, 1):
        inked = (images > 0).any(axis)
        if not inked.any(1).all():
            raise ValueError(f"image {int((~inked.any(1)).nonzero()[0])} of images has no ink, so no ink box")
        first = inked.int().argmax(1)
        last = inked.shape[1] - 1 - inked.flip(1).int().argmax(1)
        edges.append((first, last - first + 1))
    (top, height), (left, width) = edges
    return torch.stack([top, left, height, width], 1)


def overhang(box: Tensor) -> Tensor:
    """By how many pixels, at most, ink that rotates in boxes (..., 4) leaves the frame: (...) float64.

    The centre stays at least half the shorter side away from the border, the ink within half the diagonal of the
    centre. Bilinear sampling may add a faint fringe one pixel wide. [ours]
    """
    height, width = box[..., 2].double(), box[..., 3].double()
    return (torch.hypot(height, width) - torch.minimum(height, width)) / 2


def direction(chance: Tensor) -> Tensor:
    """Unit vectors (row, column), (…, 2), of directions that are uniform if chance (…) is uniform in [0, 1)."""
    turn = 2 * math.pi * chance
    return torch.stack([turn.sin(), turn.cos()], -1)


def speed_range(speed: tuple[float, float]) -> tuple[float, float]:
    """A pair (lowest, highest) of speeds in pixels a frame as floats.

    Raises:
        ValueError: unless 0 ≤ lowest ≤ highest, both finite.
    """
    try:
        low, high = speed
    except (TypeError, ValueError):
        raise ValueError(f"speed={speed!r}: give a pair (lowest, highest) in pixels a frame") from None
    low = number("lowest of speed", low, 0)
    return low, number("highest of speed", high, low)


def bounce(start: Tensor, velocity: Tensor, span: Tensor, time: Tensor) -> Tensor:
    """Position at `time` of a point that starts in [0, span] and is mirrored at both ends. All four broadcast.

    In closed form: without mirrors the point moves straight, here on an axis of period 2·span; the mirrors turn the second
    half of each period back, and its path is a triangle wave. Between bounces it moves at |velocity|. Where span is 0 it
    stays at 0. [ours]

    Raises:
        ValueError: for a span below 0.

    Example:
        >>> bounce(torch.tensor(3.0), torch.tensor(2.0), torch.tensor(4.0), torch.arange(4))
        tensor([3., 3., 1., 1.])
    """
    if (span < 0).any():
        raise ValueError(f"span must be at least 0, got {float(span.min())}: what moves is larger than its room")
    period = 2 * span
    straight = torch.remainder(start + velocity * time, period)
    # The remainder by 0 is nan, and a digit without room to move stands still.
    return torch.where(period > 0, torch.minimum(straight, period - straight), 0)


def render(images: Tensor, box: Tensor, position: Tensor, angle: Tensor, size: int) -> Tensor:
    """Each digit on a dark frame of its own, once per time step.

    Upright and at its own place, `box[:, None, :2]`, a digit comes out as it went in, bit for bit.

    Args:
        images: (n, H, W) uint8.
        box: (n, 4), their `ink_box`; the digit turns about its centre.
        position: (n, T, 2), where the corner of the upright box shall be; real-valued. Bilinear.
        angle: (T,) degrees.
        size: side of the frame in pixels.

    Returns:
        uint8 (n, T, size, size).

    Raises:
        TypeError: for images that are not uint8 (n, H, W).
    """
    _check_images(images)
    (n, height, width), frames = images.shape, len(angle)
    # float64, so that a gray level never hangs on the order of operations of some machine.
    extent = torch.tensor([width, height], dtype=torch.float64, device=images.device)
    to_centre = (box[:, None, 2:].double() - 1) / 2
    turn = torch.deg2rad(angle.double())
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]

    # The result has x before y, as grid_sample reads it.
    def turn_back(row: Tensor, column: Tensor) -> Tensor:
        return torch.stack([column * cos - row * sin, row * cos + column * sin], -1)

    # Source pixel of frame pixel p: R⁻¹(p - position - to_centre) + corner + to_centre. The part that is the same
    # for all digits is apart, which leaves one addition per sample.
    pixel = torch.arange(size, dtype=torch.float64, device=images.device)
    centre = position.double() + to_centre
    shared = turn_back(pixel[:, None], pixel)
    middle = (box[:, None, :2] + to_centre).flip(-1)[:, :, None, None]
    own = middle - turn_back(centre[..., :1, None], centre[..., 1:, None])
    # grid_sample counts from -1 to 1 across the image.
    grid = 2 * shared / extent + ((2 * own + 1) / extent - 1)
    sampled = grid_sample(images[:, None].double(), grid.flatten(1, 2), padding_mode="zeros", align_corners=False)
    return sampled.round_().to(torch.uint8).view(n, frames, size, size)


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 3:
        raise TypeError(f"images must be uint8 (n, H, W), got {images.dtype} {tuple(images.shape)}; see mnist")
