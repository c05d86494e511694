"""From capsules to gray levels: bodies of tapered capsules with soft edges, painted back to front.

Lengths are in pixels and points ordered (row, column); pixel i covers [i, i + 1). All arrays are float32 and every pixel is
computed from its own frame alone, element by element, so that a frame never depends on its chunk or on threads.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray


class Capsules(NamedTuple):
    """n capsules in each of F frames: all points within a radius, which tapers, of the segment from start to end."""

    start: ndarray
    """(F, n, 2)"""
    end: ndarray
    """(F, n, 2)"""
    radius: ndarray
    """(F, n, 2): at the start and at the end."""

    def of(self, index: ndarray) -> "Capsules":
        """The capsules index (F, m) of each frame."""
        return Capsules(*(np.take_along_axis(part, index[..., None], 1) for part in self))


def paint(canvas: ndarray, capsules: Capsules, gray: ndarray, depth: ndarray, light: ndarray, softness: ndarray) -> None:
    """Paint shaded capsules over canvas (F, H, W), in place; the far ones first.

    Args:
        canvas: float32.
        capsules: n of them in each frame.
        gray: (n,) gray level of each capsule in full light.
        depth: (F, n), larger is farther.
        light: (2,) where the light comes from, (up, right); its length is how strongly it shades, 0 for not at all.
        softness: (F, n), width of each one's edge in pixels.
    """
    order = np.argsort(-depth, axis=1, kind="stable")
    ordered = capsules.of(order)
    grays, soft = gray[order].astype(np.float32), np.take_along_axis(softness, order, 1)
    for k in range(order.shape[1]):
        cover, across, where = _cover(canvas.shape, ordered, k, soft)
        # across is 0 on the axis and 1 at the edge of the round limb, with the direction in which its surface looks.
        shade = 1 - light[0] * across[0] + light[1] * across[1]
        under = canvas[where]
        canvas[where] = under + cover * (grays[:, k, None, None] * shade - under)


def silhouette(shape: tuple[int, int, int], capsules: Capsules, softness: ndarray) -> ndarray:
    """How much capsules cover each pixel of shape (F, H, W), between 0 and 1: the union of all."""
    canvas = np.zeros(shape, np.float32)
    for k in range(capsules.start.shape[1]):
        cover, _, where = _cover(shape, capsules, k, softness)
        canvas[where] = np.maximum(canvas[where], cover)
    return canvas


def _cover(shape: tuple[int, int, int], capsules: Capsules, k: int, softness: ndarray):
    """Coverage of the k-th capsules of all frames, each in a patch of canvas that holds it; and where the patches are."""
    start, end, radius = (part[:, k].astype(np.float32) for part in capsules)
    soft = softness[:, k, None].astype(np.float32)
    room = radius.max(1, keepdims=True) + soft
    low, high = np.minimum(start, end) - room, np.maximum(start, end) + room
    size = np.minimum(np.ceil((high - low).max(0)).astype(int) + 1, shape[1:])
    # A capsule outside of the frame has its patch at the border, where it covers nothing.
    corner = np.clip(np.floor(low), 0, np.array(shape[1:]) - size).astype(int)
    row = corner[:, :1] + np.arange(size[0])
    column = corner[:, 1:] + np.arange(size[1])
    where = (np.arange(shape[0])[:, None, None], row[:, :, None], column[:, None, :])

    axis = end - start
    length = np.maximum((axis**2).sum(1), 1e-6)
    dy = ((row + np.float32(0.5)).astype(np.float32) - start[:, :1])[:, :, None]
    dx = ((column + np.float32(0.5)).astype(np.float32) - start[:, 1:])[:, None, :]
    ay, ax = (axis / length[:, None])[:, :, None, None].transpose(1, 0, 2, 3)
    along = np.clip(dy * ay + dx * ax, 0, 1)
    dy = dy - along * axis[:, :1, None]
    dx = dx - along * axis[:, 1:, None]
    wide = radius[:, :1, None] + along * (radius[:, 1:] - radius[:, :1])[:, :, None]
    distance = np.sqrt(dy**2 + dx**2)
    cover = np.clip((wide - distance) / soft[..., None] + 0.5, 0, 1)
    return cover, (dy / wide, dx / wide), where
