"""Families of spatial and temporal atoms: the fixed shapes that 3D filters are combined from.

A filter is W(u, t) = Σ_mn α^{mn} ψ_m(u) φ_n(t) (Eq. 1 of the paper). The paper leaves open how ψ and φ start; the families
here are [ours]: Fourier–Bessel in space, as in decomposed convolutional filters (Qiu et al., ICML 2018), and the cosine
basis in time. All atoms have unit norm, so that coefficients alone set the size of a filter.
"""

import math
from functools import cache

import torch
from scipy.special import jn_zeros, jv
from torch import Tensor

from stdcf_lib.checks import choice, number, whole, wholes

FAMILIES = ("fourier-bessel", "dct", "random")
MOST_TAPS = 2**12
"""Of an atom. [ours] A family holds as many atoms as an atom has taps, so that their number counts twice."""


def spatial_atoms(
    size: tuple[int, int], count: int | None = None, family: str = "fourier-bessel", generator: torch.Generator | None = None
) -> Tensor:
    """The first `count` spatial atoms ψ of a family, coarse to fine.

    - `"fourier-bessel"`: J_k(r R_kq) cos kθ and J_k(r R_kq) sin kθ on the disc of radius size/2,
      ordered by their frequency R_kq; not orthogonal on the grid. Offers 6 atoms on 3×3 and 14 on 5×5.
    - `"dct"`: products of cosines, ordered by frequency; orthonormal; offers height · width atoms.
    - `"random"`: Gaussian, orthonormalised; offers height · width atoms.

    Args:
        size: (height, width) in pixels.
        count: M, how many atoms; by default 5, or all that a small kernel has room for.
        family: one of the above.
        generator: source of the `"random"` family; torch's global one by default.

    Returns:
        ψ, shape (M, height, width), float64, each atom of unit norm.

    Raises:
        ValueError: an unknown family, a size below 1, or more atoms than the family offers on this grid.
    """
    height, width = wholes("size", size, 2, meaning="(height, width)")
    if height * width > MOST_TAPS:
        raise ValueError(f"size={size!r}: there are atoms of up to {MOST_TAPS:,} pixels")
    if _known(family) == "fourier-bessel":
        every = _fourier_bessel(height, width)
    elif family == "dct":
        vertical, horizontal = _cosines(height), _cosines(width)
        order = sorted(((i, j) for i in range(height) for j in range(width)), key=lambda ij: (math.hypot(*ij), ij))
        every = torch.stack([torch.outer(vertical[i], horizontal[j]) for i, j in order])
    else:
        every = _orthonormal(height * width, generator).view(-1, height, width)
    return _first("spatial_atoms", count, 5, every, family, f"a {height}×{width} kernel")


def temporal_atoms(
    size: int, count: int | None = None, family: str = "dct", generator: torch.Generator | None = None
) -> Tensor:
    """The first `count` temporal atoms φ of a family, slow to fast.

    `"dct"` is the orthonormal cosine basis (DCT-II), also taken for `"fourier-bessel"`, which lives in space only;
    `"random"` is Gaussian, orthonormalised.

    Args:
        size: length in frames.
        count: N, how many atoms, at most `size`; by default 3, or all that a short kernel has room for.
        family: `"dct"`, `"fourier-bessel"` or `"random"`.
        generator: source of the `"random"` family; torch's global one by default.

    Returns:
        φ, shape (N, size), float64, orthonormal rows.

    Raises:
        ValueError: an unknown family, a size below 1, or more atoms than frames.
    """
    size = whole("size", size, 1, MOST_TAPS)
    every = _orthonormal(size, generator) if _known(family) == "random" else _cosines(size)
    return _first("temporal_atoms", count, 3, every, family, f"{size} frame{'s' * (size > 1)}")


def stretch(atoms: Tensor, factor: float | tuple[float, ...]) -> Tensor:
    """The same atoms for a finer grid: `factor` times as many frames or pixels over the same part of the scene. [ours]

    An atom of k taps is read as a function over its k frames or pixels, constant over each; that function is stretched,
    divided by `factor` along each axis, and averaged over the new ones. Its sum stays the same, and so does its answer to the
    scene: exactly where frames or pixels are repeated an odd number of times, nearly where the scene is smooth. Norms fall,
    as they must: more taps see the same scene.

    Where dilation leaves gaps between taps, stretching fills them, and `factor` may be any number: for a clip slowed down
    1.5 times, `layer.swap(phi=stretch(layer.phi, 1.5))`.

    Args:
        atoms: ψ (M, kh, kw) or φ (N, kt). Every axis but the first is stretched.
        factor: above 0, below 1 for a coarser grid, and to no more than `MOST_TAPS` taps. One for all of those axes, or one for
            each.

    Returns:
        The atoms with, along each axis, the fewest taps that cover factor · k and are odd where k is odd, even where k is
        even, so that their centre stays where it was. Gradients pass.

    Raises:
        TypeError: atoms that are not a tensor of floats.
        ValueError: atoms without taps, or a factor that is not a finite number above 0.

    Example:
        >>> stretch(torch.tensor([[1.0, 0.0, -1.0]]), 2)
        tensor([[ 0.2500,  0.5000,  0.2500,  0.0000, -0.2500, -0.5000, -0.2500]])
    """
    if not isinstance(atoms, Tensor) or not atoms.is_floating_point():
        given = atoms.dtype if isinstance(atoms, Tensor) else type(atoms).__name__
        raise TypeError(f"atoms are {given}; give a tensor of floats, (M, kh, kw) or (N, kt)")
    if atoms.dim() < 2 or not atoms.numel():
        raise ValueError(f"atoms of shape {tuple(atoms.shape)}: give (M, kh, kw) or (N, kt)")
    factors = factor if isinstance(factor, tuple) else (factor,) * (atoms.dim() - 1)
    if len(factors) != atoms.dim() - 1:
        raise ValueError(f"factor={factor!r}: give one number, or {atoms.dim() - 1} for atoms of shape {tuple(atoms.shape)}")
    for axis, of_axis in enumerate(factors, 1):
        if (of_axis := number("factor", of_axis, most=MOST_TAPS / atoms.shape[axis], above=0)) == 1:
            continue
        shares = _shares(atoms.shape[axis], of_axis).to(atoms)
        atoms = torch.movedim(torch.movedim(atoms, axis, -1) @ shares, -1, axis)
    return atoms


def _shares(size: int, factor: float) -> Tensor:
    """(size, new size): the share of each tap, made `factor` times as wide, that falls on each new one; rows sum to 1."""
    half = math.ceil(factor * size / 2 - size % 2 / 2 - 1e-9)  # new taps beside the middle one, if there is one
    new_size = max(2 * half + size % 2, 2 - size % 2)
    left = (_grid(size)[:, None] - size / 2) * factor
    new_left = _grid(new_size) - new_size / 2
    overlap = torch.minimum(left + factor, new_left + 1) - torch.maximum(left, new_left)
    return overlap.clamp(min=0) / factor


def _known(family: str) -> str:
    return choice("atoms", family, FAMILIES)


def _first(name: str, count: int | None, usual: int, every: Tensor, family: str, place: str) -> Tensor:
    count = min(usual, len(every)) if count is None else whole(name, count)
    if count > len(every):
        most = math.prod(every.shape[1:])
        remedy = f"atoms='dct' offers {most} there" if most > len(every) else "a larger kernel has room for more"
        raise ValueError(f"{name}={count} is more than the {len(every)} that {family!r} offers on {place}; {remedy}")
    return every[:count].clone()


def _grid(size: int) -> Tensor:
    # Named, as a user may have set another default device, on which this must not depend.
    return torch.arange(size, dtype=torch.float64, device="cpu")


def _cosines(size: int) -> Tensor:
    position = _grid(size)
    frequency = position[:, None]
    rows = torch.cos(math.pi / size * (position + 0.5) * frequency)
    return rows / rows.norm(dim=1, keepdim=True)


def _orthonormal(size: int, generator: torch.Generator | None) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator, device="cpu"))
    return (q * r.diagonal().sign()).T.contiguous()  # the sign makes the draw uniform over rotations


@cache  # the zeros take long to find, and a network asks for the same grid at every layer
def _fourier_bessel(height: int, width: int) -> Tensor:
    y = _grid(height) - (height - 1) / 2
    x = _grid(width) - (width - 1) / 2
    y, x = torch.meshgrid(2 * y / height, 2 * x / width, indexing="ij")  # a kernel of size 2L+1 has radius R = L+½
    r, theta = torch.hypot(x, y), torch.atan2(y, x)
    # A function is kept while the *next* zero of its Bessel function stays below the grid's resolution (Zhao & Singer,
    # 2013), with the slack that decomposed convolutional filters use: twice as much for kernels smaller than 5×5.
    radius = min(height, width) / 2
    limit = math.pi * radius * (2.0 if radius < 2.5 else 1.5)
    zeros = [(z, k, jn_zeros(k, q + 1)[q]) for k in range(16) for q in range(1, 16) for z in [jn_zeros(k, q)[q - 1]]]
    kept = sorted((z, k) for z, k, following in zeros if following <= limit) or [(jn_zeros(0, 1)[0], 0)]
    functions = []
    for zero, k in kept:
        radial = torch.from_numpy(jv(k, (r * zero).numpy())) * (r < 1)
        functions += [radial] if k == 0 else [radial * torch.cos(k * theta), radial * torch.sin(k * theta)]
    # Independent on the disc does not mean independent on a coarse grid (sin 2θ vanishes on 2×2): keep what adds a direction.
    atoms, directions = [], _grid(0).new_zeros(0, height * width)
    for function in functions:
        flat = function.flatten()
        rest = flat - directions.T @ (directions @ flat)
        if rest.norm() > 1e-6 * max(flat.norm(), 1e-6):
            atoms.append(function / flat.norm())
            directions = torch.cat([directions, rest[None] / rest.norm()])
    return torch.stack(atoms)
