"""How fast a machine could be at best: the roofline of the forms of a layer (Williams, Waterman and Patterson, 2009).

Each step of a computation multiplies so often, and moves so many bytes between the memory and the processor. It takes at least
as long as the slower of the two would alone; a form takes at least as long as its steps. What it takes longer than that is lost
to caches, to the order of the data and to starting up, and shows how far a form is from what this machine allows.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from stdcf_lib import forms
from stdcf_lib.checks import choice, whole
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.effort import by_profile
from stdcf_lib.rank1 import Rank1Conv3d

FORMS = ("Conv3d", "STDCF, filters", "STDCF, three layers", "STDCF, in tiles", "rank-1")
FRAMES = 8
ONE_BY_ONE = forms.Way((1, 1, 1), (1, 1, 1), (1, 1, 1))


class Rates(NamedTuple):
    """What a machine does a second: multiply-accumulates where it is quickest, and bytes read or written in memory."""

    macs: float
    moved: float


class Step(NamedTuple):
    """A part of a computation: its multiply-accumulates, and the bytes that it reads from memory and writes there."""

    name: str
    macs: int
    moved: int

    def seconds(self, rates: Rates) -> float:
        """The least that it takes: the arithmetic and the transport go on side by side."""
        return max(self.macs / rates.macs, self.moved / rates.moved)

    def waits(self, rates: Rates) -> bool:
        """Whether it is the memory that decides."""
        return self.moved / rates.moved > self.macs / rates.macs


@cache
def rates() -> Rates:
    """Measured on this machine, in float32, with the threads that PyTorch has: the best of several rounds, once a process."""
    large, copy = torch.zeros(1 << 24), torch.zeros(1 << 24)
    moving = min(_timed(lambda: copy.copy_(large), 10))
    return Rates(max(_fastest(512, 1, 32), _fastest(128, 3, 28)), 2 * 4 * large.numel() / moving)


@torch.no_grad()
def _fastest(channels: int, kernel: int, size: int) -> float:
    """Multiply-accumulates a second of a convolution, which with a kernel of 1 is a matrix product."""
    x = torch.rand(1, channels, 8, size, size).to(memory_format=torch.channels_last_3d)
    weight = torch.rand(channels, channels, kernel, kernel, kernel).to(memory_format=torch.channels_last_3d)
    seconds = min(_timed(lambda: F.conv3d(x, weight, padding=kernel // 2), by_profile(smoke=2, laptop=8, paper=8)))
    return x.numel() * channels * kernel**3 / seconds


def steps(form: str, channels: int, size: int, spatial_atoms: int = 5, temporal_atoms: int = 3, clips: int = 1) -> list[Step]:
    """What a form does for a 3×3×3 layer that keeps the size of its clips, `channels` to `channels`, in float32.

    "three layers" is Eq. 2 as written, whose maps pass through the memory; "in tiles" is `stdcf_lib.forms.by_atoms`, whose
    largest maps never leave the cache.

    Args:
        form: one of `FORMS`.
        channels: in and out.
        size: H = W of the clips, which have 8 frames.
        spatial_atoms, temporal_atoms: M and N.
        clips: how many.

    Raises:
        ValueError: another form, or a number below 1.
    """
    choice("form", form, FORMS)
    c, m, n = whole("channels", channels), whole("spatial_atoms", spatial_atoms), whole("temporal_atoms", temporal_atoms)
    voxels = whole("clips", clips) * FRAMES * whole("size", size) ** 2
    value = 4 * c * voxels  # bytes of a map of all channels
    convolution = Step("W", 27 * c * c * voxels, 2 * value + 4 * 27 * c * c)
    if form == "Conv3d":
        return [convolution]
    if form == "STDCF, filters":
        return [Step("α ψ φ", 27 * m * n * c * c, 4 * (27 + m * n) * c * c), convolution]
    if form == "STDCF, three layers":
        return [
            Step("φ", 3 * n * c * voxels, (1 + n) * value),
            Step("ψ", 9 * m * n * c * voxels, (n + m * n) * value),
            Step("α", m * n * c * c * voxels, (m * n + 1) * value),
        ]
    if form == "STDCF, in tiles":
        alpha, phi = torch.empty(c, c, m, n, device="meta"), torch.empty(n, 3, device="meta")
        frames = forms.winograd_frames(voxels, alpha, phi, FRAMES, ONE_BY_ONE, torch.float32)
        if frames:  # Winograd's F(frames, 3): a product for each frame of a window of frames + 2, whatever N
            window = frames + 2
            mixing = frames * window + 2  # the frames of a window, and one of each neighbour
            return [
                Step("ψ", (9 * m * window + mixing) * c * voxels // frames, value),
                Step("α", window * m * c * c * voxels // frames, window * value // frames),
                Step("φ", window * c * voxels, (window + frames) * value // frames),
            ]
        maps = min(n, 3)  # from N = 3 on, φ is folded into α
        return [
            Step("ψ", 9 * m * c * voxels, value),
            Step("α", maps * m * c * c * voxels, maps * value),
            Step("φ", 3 * maps * c * voxels, (maps + 1) * value),
        ]
    return [Step("space", 9 * c * c * voxels, 2 * value), Step("time", 3 * c * c * voxels, 2 * value)]


@torch.no_grad()
def measured(form: str, channels: int, size: int, spatial_atoms: int = 5, temporal_atoms: int = 3, clips: int = 1) -> float:
    """Seconds that a forward pass of the layer that `steps` counts takes here, in the quicker of the two layouts in memory: the
    median of three (in the smoke profile, of one), rebuilding the filters included."""
    x = torch.rand(clips, channels, FRAMES, size, size)
    way: Callable[[torch.Tensor], torch.Tensor]
    if choice("form", form, FORMS) == "Conv3d":
        way = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
    elif form == "rank-1":
        way = Rank1Conv3d(channels, channels, 3, padding=1, bias=False)
    else:
        way = layer = STDCFConv3d(
            channels, channels, 3, padding=1, bias=False, spatial_atoms=spatial_atoms, temporal_atoms=temporal_atoms
        )
        layer.evaluation = "filters" if form == "STDCF, filters" else "atoms"
        if form == "STDCF, three layers":
            parameters = {"alpha": layer.alpha, "psi": layer.psi, "phi": layer.phi, "bias": None}
            way = partial(forms.by_layers, **parameters, way=ONE_BY_ONE)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        if isinstance(way, nn.Module):
            way.to(memory_format=layout)
        clip = x.contiguous(memory_format=layout)
        found.append(statistics.median(_timed(lambda clip=clip: way(clip), by_profile(smoke=1, laptop=3, paper=3))))
    return min(found)


def bound(parts: Sequence[Step], rates: Rates) -> float:
    """The least number of seconds that the steps take one after the other."""
    return sum(part.seconds(rates) for part in parts)


def _timed(way: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return times[1:]
