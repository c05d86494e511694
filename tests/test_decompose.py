import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stdcf_lib.decompose import energies, joint_decomposition


def filters(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rebuilt(fit):
    return torch.einsum("oimn,mhw,nt->oithw", fit.alpha, fit.psi, fit.phi)


def error(w, fit):
    return ((w - rebuilt(fit)).square().sum() / w.square().sum()).item()


def kept(w, psi, phi):
    """The share of energy that projecting on two orthonormal sets of atoms keeps."""
    return (torch.einsum("oithw,mhw,nt->oimn", w, psi, phi).square().sum() / w.square().sum()).item()


def leading(unfolded, count):
    return torch.linalg.svd(unfolded, full_matrices=True).U[:, :count].T


def hosvd(w, m, n):
    """Truncated higher-order SVD: each mode on its own."""
    kt, kh, kw = w.shape[2:]
    psi = leading(w.permute(3, 4, 0, 1, 2).reshape(kh * kw, -1), m).reshape(m, kh, kw)
    return psi, leading(w.permute(2, 0, 1, 3, 4).reshape(kt, -1), n)


@st.composite
def problems(draw):
    """Filters of few or many channels, with or without structure, and counts of atoms."""
    c_out, c_in, kt, kh, kw = (draw(st.integers(1, most)) for most in (5, 4, 4, 3, 4))
    w = filters(c_out, c_in, kt, kh, kw, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):  # smooth, as trained filters are
        w = w.cumsum(2).cumsum(3).cumsum(4)
    return w, draw(st.integers(1, kh * kw)), draw(st.integers(1, kt))


@given(problem=problems())
def test_atoms_are_orthonormal_coefficients_projections_and_the_energy_is_what_is_kept(problem):
    w, m, n = problem
    fit = joint_decomposition(w, m, n)
    torch.testing.assert_close(fit.psi.flatten(1) @ fit.psi.flatten(1).T, torch.eye(m, dtype=w.dtype))
    torch.testing.assert_close(fit.phi @ fit.phi.T, torch.eye(n, dtype=w.dtype))
    torch.testing.assert_close(fit.alpha, torch.einsum("oithw,mhw,nt->oimn", w, fit.psi, fit.phi))
    assert 0 <= fit.energy <= 1
    assert fit.energy == pytest.approx(1 - error(w, fit), abs=1e-10)


@given(problem=problems())
def test_it_keeps_at_least_what_the_higher_order_svd_keeps_and_cannot_be_bettered_one_side_at_a_time(problem):
    w, m, n = problem
    fit = joint_decomposition(w, m, n)
    assert fit.energy >= kept(w, *hosvd(w, m, n)) - 1e-10
    in_psi = torch.einsum("oithw,mhw->toim", w, fit.psi).flatten(1)
    in_phi = torch.einsum("oithw,nt->hwoin", w, fit.phi).flatten(2).flatten(0, 1)
    for better in (kept(w, fit.psi, leading(in_psi, n)), kept(w, leading(in_phi, m).view_as(fit.psi), fit.phi)):
        assert better <= fit.energy + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_atoms_and_alternating_helps(seed):
    w = filters(3, 2, 4, 3, 3, seed=seed)
    fit = joint_decomposition(w, 2, 2)
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(size):
        return torch.linalg.qr(torch.randn(size, 2, dtype=w.dtype, generator=generator)).Q.T

    assert all(kept(w, orthonormal(9).reshape(2, 3, 3), orthonormal(4)) < fit.energy for _ in range(200))
    assert fit.energy > kept(w, *hosvd(w, 2, 2)) + 1e-4


def test_more_atoms_keep_more_and_all_keep_everything():
    w = filters(4, 3, 3, 3, 3)
    energies = [[joint_decomposition(w, m, n).energy for n in (1, 2, 3)] for m in (1, 4, 9)]
    for line in energies + list(map(list, zip(*energies, strict=True))):
        assert line == sorted(line) and line[0] < line[-1]
    fit = joint_decomposition(w, 9, 3)
    assert fit.energy == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(rebuilt(fit), w, rtol=1e-12, atol=1e-12)


@given(problem=problems())
def test_filters_that_are_joint_combinations_are_found_exactly(problem):
    w, m, n = problem
    made = rebuilt(joint_decomposition(w, m, n))
    again = joint_decomposition(made, m, n)
    torch.testing.assert_close(rebuilt(again), made, rtol=1e-6, atol=1e-6)
    assert again.energy == pytest.approx(1, abs=1e-9)


def test_with_one_frame_it_is_the_truncated_svd():
    w = filters(5, 4, 1, 3, 3)
    values = torch.linalg.svdvals(w.reshape(20, 9)).square()
    for m in range(1, 10):
        assert joint_decomposition(w, m, 1).energy == pytest.approx((values[:m].sum() / values.sum()).item(), abs=1e-12)


def test_size_and_dtype_do_not_matter_and_the_answer_is_the_same_every_time():
    w = filters(4, 3, 3, 3, 3).float()
    fit = joint_decomposition(w, 4, 2)
    assert {part.dtype for part in fit[:3]} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(fit[:3], joint_decomposition(w.clone(), 4, 2)[:3], strict=True))
    for atoms in (fit.psi.flatten(1), fit.phi):  # of an atom and its negative, the one whose largest tap is positive
        assert (atoms.amax(1) == atoms.abs().amax(1)).all()
    large = joint_decomposition(1e6 * w, 4, 2)
    torch.testing.assert_close(large.psi, fit.psi, rtol=1e-4, atol=1e-4)
    assert large.energy == pytest.approx(fit.energy, abs=1e-6)
    assert joint_decomposition(w.bfloat16(), 4, 2).alpha.dtype == torch.bfloat16


def test_filters_of_zero_are_kept_and_learnable_ones_are_left_alone():
    fit = joint_decomposition(torch.zeros(2, 2, 3, 3, 3), 5, 2)
    assert fit.energy == 1 and not rebuilt(fit).any()
    w = filters(2, 2, 3, 3, 3).requires_grad_()
    before = w.detach().clone()
    assert not any(part.requires_grad for part in joint_decomposition(w, 5, 2)[:3])
    assert torch.equal(w, before)


@pytest.mark.parametrize(
    ("w", "counts", "told"),
    [
        (torch.zeros(2, 3, 3, 3), (1, 1), r"filters of shape \(2, 3, 3, 3\)"),
        (torch.zeros(2, 2, 3, 3, 3, dtype=torch.int64), (1, 1), "torch.int64"),
        (torch.zeros(2, 2, 3, 3, 3, dtype=torch.complex64), (1, 1), "torch.complex64"),
        (torch.full((2, 2, 3, 3, 3), torch.nan), (1, 1), "filters contain NaN or infinite values"),
        (torch.full((2, 2, 3, 3, 3), torch.inf), (1, 1), "filters contain NaN or infinite values"),
        (torch.zeros(2, 2, 2, 3, 4), (13, 1), "spatial_atoms=13: kernels of 2×3×4 have room for 1 to 12"),
        (torch.zeros(2, 2, 2, 3, 4), (0, 1), "spatial_atoms=0"),
        (torch.zeros(2, 2, 2, 3, 4), (1, 3), "temporal_atoms=3: kernels of 2×3×4 have room for 1 to 2"),
        (torch.zeros(2, 2, 2, 3, 4), (1, 1.0), "temporal_atoms=1.0"),
    ],
)
def test_bad_arguments_are_named(w, counts, told):
    with pytest.raises(ValueError, match=told):
        joint_decomposition(w, *counts)


def test_filters_are_a_tensor():
    bad: Any = [[1.0]]
    with pytest.raises(TypeError, match="filters is list"):
        joint_decomposition(bad, 1, 1)


def test_energies_are_those_of_the_fit_or_a_little_less():
    w = torch.randn(6, 4, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    found = energies(w)
    assert found.shape == (6, 4) and found.dtype == torch.float64
    for m, n in itertools.product(range(1, 7), range(1, 5)):
        fitted = joint_decomposition(w, m, n).energy
        assert fitted - 0.03 < found[m - 1, n - 1] <= fitted + 1e-9, (m, n)
    assert found[-1, -1] == pytest.approx(1) and (found.diff(dim=0) > 0).all() and (found.diff(dim=1) > 0).all()
    assert found[0, 0] > 1 / 24


def test_energies_of_silent_filters_are_whole():
    assert torch.equal(energies(torch.zeros(2, 3, 3, 2, 2)), torch.ones(4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="NaN"):
        energies(torch.full((2, 3, 3, 2, 2), torch.nan))
