"""The best joint decomposition of filters that already exist."""

from typing import NamedTuple

import torch
from torch import Tensor

from stdcf_lib.checks import whole


class JointDecomposition(NamedTuple):
    """W ≈ Σ_mn α^{mn} ψ_m ⊗ φ_n with orthonormal atoms; `energy` is the share of ‖W‖² kept, in [0, 1]."""

    psi: Tensor
    phi: Tensor
    alpha: Tensor
    energy: float


def joint_decomposition(filters: Tensor, spatial_atoms: int, temporal_atoms: int) -> JointDecomposition:
    """Fit Eq. 1 to given filters in the least-squares sense.

    With orthonormal atoms the best coefficients are projections, so the fit is a search for two subspaces: a Tucker
    decomposition of the (filters × frames × pixels) array along its last two axes. It starts from the truncated higher-order
    SVD and alternates the two least-squares problems (HOOI; De Lathauwer et al., 2000) until the energy stops growing.
    The energy never falls from step to step; like every alternating method it finds a local optimum.

    Args:
        filters: (C_out, C_in/groups, kt, kh, kw), real floating point.
        spatial_atoms: M, 1 to kh·kw.
        temporal_atoms: N, 1 to kt.

    Returns:
        ψ (M, kh, kw), φ (N, kt), α (C_out, C_in/groups, M, N) in the dtype and on the device of `filters`, and the energy kept.
        Exact when M = kh·kw and N = kt.

    Raises:
        TypeError: filters that are not a tensor.
        ValueError: filters that are not a 5-D, finite, real array, or counts out of range.
    """
    _check(filters)
    c_out, c_in, kt, kh, kw = filters.shape
    spatial_atoms, temporal_atoms = whole("spatial_atoms", spatial_atoms), whole("temporal_atoms", temporal_atoms)
    for name, count, most in (("spatial_atoms", spatial_atoms, kh * kw), ("temporal_atoms", temporal_atoms, kt)):
        if count > most:
            raise ValueError(f"{name}={count}: kernels of {kt}×{kh}×{kw} have room for 1 to {most}")

    every = _in_rows(filters)
    # The fit sees inner products of taps alone, and R of W = QR has the same ones in as few rows as a filter has taps.
    w = torch.linalg.qr(every, mode="r").R.view(-1, kt, kh * kw)
    total = w.square().sum()
    phi = _leading(torch.einsum("ctu,csu->ts", w, w), temporal_atoms)
    energy, psi = 0.0, w.new_empty(0)
    for _ in range(1000):
        in_phi = torch.einsum("nt,ctu->cnu", phi, w)
        psi = _leading(torch.einsum("cnu,cnv->uv", in_phi, in_phi), spatial_atoms)
        in_psi = torch.einsum("mu,ctu->ctm", psi, w)
        phi = _leading(torch.einsum("ctm,csm->ts", in_psi, in_psi), temporal_atoms)
        previous, energy = energy, torch.einsum("nt,ctm->cmn", phi, in_psi).square().sum()
        if energy - previous <= 1e-14 * total:
            break
    alpha = torch.einsum("mu,nt,ctu->cmn", psi, phi, every.view(-1, kt, kh * kw))
    return JointDecomposition(
        psi.view(-1, kh, kw).to(filters),
        phi.to(filters),
        alpha.reshape(c_out, c_in, spatial_atoms, temporal_atoms).to(filters),
        min(float(energy / total), 1.0) if total else 1.0,
    )


def energies(filters: Tensor) -> Tensor:
    """The share of ‖W‖² that M spatial and N temporal atoms keep, for every M and N at once.

    These are the shares of the truncated higher-order SVD, from which `joint_decomposition` sets out: it keeps as much, or a
    little more.

    Args:
        filters: as for `joint_decomposition`, with the same errors.

    Returns:
        (kh·kw, kt), float64 on the CPU: row M - 1, column N - 1. All 1 where every filter is zero.
    """
    _check(filters)
    kt, kh, kw = filters.shape[2:]
    every = _in_rows(filters)
    taps = (every.T @ every).view(kt, kh * kw, kt, kh * kw)  # their inner products
    total = every.square().sum()
    if not total:
        return taps.new_ones(kh * kw, kt)
    phi = _leading(torch.einsum("tusu->ts", taps), kt)
    columns = []
    for n in range(1, kt + 1):
        in_phi = torch.einsum("nt,tusv,ns->uv", phi[:n], taps, phi[:n])
        columns.append(torch.linalg.eigvalsh(in_phi).flip(0).clamp(min=0).cumsum(0) / total)
    return torch.stack(columns, 1).clamp(max=1)


def _check(filters: Tensor) -> None:
    if not isinstance(filters, Tensor):
        raise TypeError(f"filters is {type(filters).__name__}; give a torch.Tensor")
    if filters.dim() != 5 or not filters.is_floating_point():
        raise ValueError(
            f"filters of shape {tuple(filters.shape)}, {filters.dtype}: give floats (C_out, C_in/groups, kt, kh, kw)"
        )
    if not filters.isfinite().all():
        raise ValueError("filters contain NaN or infinite values, which no decomposition can fit")


def _in_rows(filters: Tensor) -> Tensor:
    """(C_out · C_in/groups, taps), on the CPU in float64, which not every device has, so that the answer does not depend on
    where the filters live."""
    return filters.detach().to("cpu", torch.float64).flatten(2).flatten(0, 1)


def _leading(gram: Tensor, count: int) -> Tensor:
    """The eigenvectors of the largest eigenvalues, as rows; signed so that the answer is the same on every run."""
    rows = torch.linalg.eigh(gram).eigenvectors.T.flip(0)[:count]
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return rows * largest.sign()
