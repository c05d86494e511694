# pyright: basic, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportCallIssue=false
# ruff: noqa: RUF005 (Triton's Python is a small one)
"""The order of `forms.by_atoms` on a GPU, in Triton: an experiment, timed by `steps.layers` and kept out of the layers. [ours]

With kernels of 3×3×3, stride 1 and zeros around, for clips with channels last (B, T, H, W, C), in bfloat16::

    x ─── ψ ──▶ z ─── α ──▶ g ─── φ ──▶ y
    one kernel  M·C maps    N·O maps    one kernel
                    one matrix product

`staged` takes these three steps one after the other; `fused` makes the maps of a block of voxels in registers, where they are
multiplied, so that z is never written, and makes them again for each block of outputs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS = 16, 64  # of a block of the two small kernels: the best of seven tried on an H100, for ψ with 64 channels
BLOCK = (128, 128, 32)  # voxels, outputs and channels of a block of the fused kernel: the better of two, and hardly tuned


@triton.jit
def _maps(x, psi, v, c, voxels, height, width, channels, M: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """M blocks (ROWS, CHANNELS): voxels v and channels c, seen through the 3×3 atoms ψ."""
    row, column = (v // width) % height, v % width
    maps = ()
    for _ in tl.static_range(M):
        maps = maps + (tl.zeros((ROWS, CHANNELS), tl.float32),)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            inside = (v < voxels) & (row + i >= 1) & (row + i <= height) & (column + j >= 1) & (column + j <= width)
            place = (v + (i - 1) * width + (j - 1))[:, None].to(tl.int64) * channels + c[None]
            seen = tl.load(x + place, inside[:, None] & (c < channels)[None], 0.0).to(tl.float32)
            after = ()
            for m in tl.static_range(M):
                after = after + (maps[m] + tl.load(psi + m * 9 + i * 3 + j) * seen,)
            maps = after
    return maps


@triton.jit
def _space(x, psi, z, voxels, height, width, channels, M: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """z (voxels, M, C) of x (voxels, C), where voxels are clips · frames · height · width."""
    v = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    maps = _maps(x, psi, v, c, voxels, height, width, channels, M, ROWS, CHANNELS)
    for m in tl.static_range(M):
        place = (v.to(tl.int64) * M + m)[:, None] * channels + c[None]
        tl.store(z + place, maps[m].to(z.dtype.element_ty), (v < voxels)[:, None] & (c < channels)[None])


@triton.jit
def _time(g, phi, y, voxels, frames, pixels, outs, N: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """y (voxels, O) of g (voxels, N, O): sums over n and three frames."""
    v = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    frame = (v // pixels) % frames
    found = tl.zeros((ROWS, CHANNELS), tl.float32)
    for t in tl.static_range(3):
        inside = (v < voxels) & (frame + t >= 1) & (frame + t <= frames)
        for n in tl.static_range(N):
            place = ((v + (t - 1) * pixels).to(tl.int64) * N + n)[:, None] * outs + o[None]
            found += tl.load(phi + n * 3 + t) * tl.load(g + place, inside[:, None] & (o < outs)[None], 0.0).to(tl.float32)
    place = v.to(tl.int64)[:, None] * outs + o[None]
    tl.store(y + place, found.to(y.dtype.element_ty), (v < voxels)[:, None] & (o < outs)[None])


@triton.jit
def _maps_times(
    x, psi, a, g, voxels, height, width, channels, outs,
    M: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """g (voxels, outs) = z a, for a (M, C, outs)."""
    across, program = tl.cdiv(outs, COLUMNS), tl.program_id(0)
    v = (program // across) * ROWS + tl.arange(0, ROWS)
    o = (program % across) * COLUMNS + tl.arange(0, COLUMNS)
    found = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, channels, CHANNELS):
        c = first + tl.arange(0, CHANNELS)
        maps = _maps(x, psi, v, c, voxels, height, width, channels, M, ROWS, CHANNELS)
        for m in tl.static_range(M):
            weights = tl.load(a + (m * channels + c)[:, None] * outs + o[None], (c < channels)[:, None] & (o < outs)[None], 0.0)
            found = tl.dot(maps[m].to(a.dtype.element_ty), weights, found)
    place = v.to(tl.int64)[:, None] * outs + o[None]
    tl.store(g + place, found.to(g.dtype.element_ty), (v < voxels)[:, None] & (o < outs)[None])


def staged(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor) -> Tensor:
    """y (B, T, H, W, O) of x (B, T, H, W, C), `coefficients` α (M, C, N·O), ψ (M, 3, 3) and φ (N, 3)."""
    *_, height, width, channels = x.shape
    voxels = x[..., 0].numel()
    z = x.new_empty(voxels, len(psi) * channels)
    sizes: Any = voxels, height, width, channels, len(psi)
    _space[_blocks(voxels, channels)](x, psi, z, *sizes, ROWS, CHANNELS)
    return _summed(z @ alpha.flatten(0, 1), phi, x)


def fused(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor) -> Tensor:
    """As `staged`."""
    *_, height, width, channels = x.shape
    (rows, columns, _), voxels, outs = BLOCK, x[..., 0].numel(), alpha.shape[2]
    g = x.new_empty(voxels, outs)
    sizes: Any = voxels, height, width, channels, outs, len(psi)
    blocks = triton.cdiv(voxels, rows) * triton.cdiv(outs, columns)
    _maps_times[(blocks,)](x, psi, alpha, g, *sizes, *BLOCK, num_warps=8, num_stages=2)
    return _summed(g, phi, x)


def _summed(g: Tensor, phi: Tensor, x: Tensor) -> Tensor:
    _, frames, height, width, _ = x.shape
    outs = g.shape[1] // len(phi)
    y = g.new_empty(*x.shape[:-1], outs)
    sizes: Any = len(g), frames, height * width, outs, len(phi)
    _time[_blocks(len(g), outs)](g, phi, y, *sizes, ROWS, CHANNELS)
    return y


def _blocks(rows: int, columns: int) -> tuple[int, int]:
    return triton.cdiv(rows, ROWS), triton.cdiv(columns, CHANNELS)


def coefficients(alpha: Tensor, dtype: torch.dtype) -> Tensor:
    """α (O, C, M, N) as these kernels multiply with it, (M, C, N·O)."""
    return alpha.permute(2, 1, 3, 0).flatten(2).to(dtype).contiguous()
