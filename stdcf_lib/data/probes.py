"""Clips of one known motion, to see what a space-time filter answers.

Directions are in degrees, counter-clockwise on the screen: 0 moves right, 90 up. Speeds are in pixels per frame.
"""

import math

import torch
from torch import Tensor

from stdcf_lib.checks import number, whole


def moving_bar(
    frames: int = 16, size: int = 28, *, speed: float = 1.0, direction: float = 0.0, width: float = 3.0, length: float = 15.0
) -> Tensor:
    """A white bar on black that moves across its length and crosses the frame's centre halfway through the clip.

    Args:
        frames: T.
        size: H = W, in pixels.
        speed: in pixels per frame.
        direction: in degrees, 0 right, 90 up.
        width, length: of the bar, in pixels, at least 1; edges are anti-aliased.

    Returns:
        (1, 1, T, H, W), float32 in [0, 1].

    Raises:
        ValueError: frames or size that are not positive integers, a bar thinner than a pixel, numbers that are not finite.
    """
    frames, size, speed, direction = _checked(frames, size, speed, direction)
    # A bar is drawn by how much of each pixel it covers, which a thinner one would not show.
    width, length = number("width", width, 1), number("length", length, 1)
    along, across, t = _coordinates(frames, size, direction)
    coverage = [(side / 2 + 0.5 - d.abs()).clamp(0, 1) for side, d in ((width, along - speed * t), (length, across))]
    return (coverage[0] * coverage[1]).float()[None, None]


def drifting_grating(
    frames: int = 16,
    size: int = 28,
    *,
    speed: float = 1.0,
    direction: float = 0.0,
    wavelength: float = 8.0,
    phase: float = 0.0,
) -> Tensor:
    """A sine wave that drifts, ½ + ½ cos(2π (s − speed · t) / wavelength + phase), s being the position along `direction`.

    s and t count from the centre of the frame and of the clip. At a fixed pixel the period is wavelength / speed frames.

    Args:
        frames, size, speed, direction: as for `moving_bar`.
        wavelength: in pixels.
        phase: in degrees.

    Returns:
        (1, 1, T, H, W), float32 in [0, 1].

    Raises:
        ValueError: frames or size that are not positive integers, a wavelength that is not positive, numbers that are
            not finite.
    """
    frames, size, speed, direction = _checked(frames, size, speed, direction)
    wavelength, phase = number("wavelength", wavelength, above=0), number("phase", phase)
    along, _, t = _coordinates(frames, size, direction)
    wave = torch.cos(2 * math.pi * (along - speed * t) / wavelength + math.radians(phase))
    return (0.5 + 0.5 * wave).float()[None, None]


def _coordinates(frames: int, size: int, direction: float) -> tuple[Tensor, Tensor, Tensor]:
    """Positions along and across the motion, (H, W) each, and times (T, 1, 1); all zero in the middle of the clip."""
    t, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (frames, size))
    y = -x[:, None]  # rows count downwards, angles upwards
    angle = math.radians(direction)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle), t[:, None, None]


def _checked(frames: int, size: int, speed: float, direction: float) -> tuple[int, int, float, float]:
    return whole("frames", frames), whole("size", size), number("speed", speed), number("direction", direction)
