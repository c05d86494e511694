import math
import re
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from stdcf_lib import STDCFConv3d
from stdcf_lib.atoms import spatial_atoms, stretch, temporal_atoms

GRIDS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (3, 5), (5, 2), (1, 3)]


def offered(make, size, family):
    """All atoms that a family has for a size: the error names the limit."""
    with pytest.raises(ValueError) as told:
        make(size, 1000, family)
    limit = re.search(r"the (\d+) that", str(told.value))
    assert limit
    return make(size, int(limit[1]), family)


def gram(atoms):
    return atoms.flatten(1) @ atoms.flatten(1).T


def bessel(k, x):
    """J_k by Bessel's own integral, so that the library is not checked against the function it calls."""
    return quad(lambda t: math.cos(k * t - x * math.sin(t)), 0, math.pi)[0] / math.pi


# The zeros of J_0, J_1, J_2 in the order of their frequency, from tables.
ZEROS = [(0, 2.404825557695773), (1, 3.831705970207512), (2, 5.135622301840683), (0, 5.520078110286311)]


@pytest.mark.parametrize("half", [1, 2])
def test_fourier_bessel_atoms_are_their_formula(half):
    expected = []
    for k, zero in ZEROS:
        for angular in (math.cos, math.sin)[: 1 if k == 0 else 2]:
            atom = torch.zeros(2 * half + 1, 2 * half + 1, dtype=torch.float64)
            for y in range(-half, half + 1):
                for x in range(-half, half + 1):
                    r, theta = math.hypot(x, y) / (half + 0.5), math.atan2(y, x)
                    if r < 1:
                        scale = abs(bessel(k + 1, zero))
                        atom[y + half, x + half] = bessel(k, r * zero) / scale * (angular(k * theta) if k else 1)
            expected.append(atom / atom.norm())
    atoms = spatial_atoms((2 * half + 1, 2 * half + 1), 6)
    torch.testing.assert_close(atoms, torch.stack(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "count"), [((3, 3), 6), ((5, 5), 14), ((1, 1), 1)])
def test_fourier_bessel_offers_what_the_grid_resolves(size, count):
    assert len(offered(spatial_atoms, size, "fourier-bessel")) == count


@pytest.mark.parametrize("size", GRIDS)
def test_fourier_bessel_atoms_have_unit_norm_and_are_independent(size):
    atoms = offered(spatial_atoms, size, "fourier-bessel")
    torch.testing.assert_close(atoms.flatten(1).norm(dim=1), torch.ones(len(atoms), dtype=torch.float64))
    assert torch.linalg.matrix_rank(atoms.flatten(1)) == len(atoms)


@pytest.mark.parametrize("family", ["dct", "random"])
@pytest.mark.parametrize("size", GRIDS)
def test_dct_and_random_atoms_are_an_orthonormal_basis(size, family):
    atoms = spatial_atoms(size, math.prod(size), family)
    torch.testing.assert_close(gram(atoms), torch.eye(math.prod(size), dtype=torch.float64))
    assert atoms.shape == (math.prod(size), *size) and atoms.dtype == torch.float64
    torch.testing.assert_close(spatial_atoms(size, 1, "dct")[0], torch.full(size, math.prod(size) ** -0.5).double())


@pytest.mark.parametrize("family", ["dct", "fourier-bessel", "random"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_temporal_atoms_are_an_orthonormal_basis(size, family):
    atoms = temporal_atoms(size, size, family)
    torch.testing.assert_close(gram(atoms), torch.eye(size, dtype=torch.float64))


def test_temporal_atoms_are_cosines_from_slow_to_fast():
    for n, atom in enumerate(temporal_atoms(5, 5)):
        cosine = torch.tensor([math.cos(math.pi * (t + 0.5) * n / 5) for t in range(5)], dtype=torch.float64)
        torch.testing.assert_close(atom, cosine / cosine.norm())
    assert torch.equal(temporal_atoms(5, 3, "fourier-bessel"), temporal_atoms(5, 3))
    changes = [(atom.diff().sign()[1:] != atom.diff().sign()[:-1]).sum() for atom in temporal_atoms(8, 8)[1:]]
    assert changes == sorted(changes)


@pytest.mark.parametrize("family", ["fourier-bessel", "dct"])
def test_fewer_atoms_are_the_first_of_more(family):
    assert torch.equal(spatial_atoms((3, 3), 2, family), spatial_atoms((3, 3), 6, family)[:2])
    changed = spatial_atoms((3, 3), 6, family).zero_()
    assert not torch.equal(spatial_atoms((3, 3), 6, family), changed)  # atoms handed out are the caller's own


@pytest.mark.parametrize("make", [lambda g: spatial_atoms((3, 3), 5, "random", g), lambda g: temporal_atoms(5, 3, "random", g)])
def test_random_atoms_come_from_their_generator(make):
    def seeded(seed):
        return make(torch.Generator().manual_seed(seed))

    assert torch.equal(seeded(0), seeded(0)) and not torch.allclose(seeded(0), seeded(1))
    state = torch.get_rng_state()
    seeded(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert torch.equal(make(None), seeded(0))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: spatial_atoms((3, 3), 7),
            "spatial_atoms=7 is more than the 6 that 'fourier-bessel' .* 3×3 .* atoms='dct' offers 9",
        ),
        (lambda: spatial_atoms((3, 3), 10, "dct"), "spatial_atoms=10 is more than the 9 that 'dct' .* a larger kernel"),
        (lambda: temporal_atoms(3, 4), "temporal_atoms=4 is more than the 3 .* 3 frames; a larger kernel"),
        (lambda: temporal_atoms(1, 2), "on 1 frame;"),
        (lambda: spatial_atoms((3, 3), 0), "spatial_atoms=0: give an integer of at least 1"),
        (lambda: temporal_atoms(3, True), "temporal_atoms=True"),
        (lambda: temporal_atoms(3, cast(Any, 1.5)), "temporal_atoms=1.5"),
        (lambda: spatial_atoms((3, 0), 1), r"size=\(3, 0\): give 2 integers of at least 1 \(height, width\)"),
        (lambda: temporal_atoms(cast(Any, 2.0), 1), "size=2.0"),
        (lambda: spatial_atoms((3, 3), 1, "gabor"), "atoms='gabor': choose 'fourier-bessel', 'dct' or 'random'"),
        (lambda: temporal_atoms(3, 1, "gabor"), "atoms='gabor'"),
        (lambda: spatial_atoms((2**20, 3), 1, "dct"), r"size=\(1048576, 3\): there are atoms of up to 4,096 pixels"),
        (lambda: temporal_atoms(2**31, 1), "size=2147483648: give an integer from 1 to 4096"),
        (lambda: stretch(torch.ones(2, 3), 0), "factor=0"),
        (lambda: stretch(torch.ones(2, 3), 1e9), r"factor=1000000000.0: give a finite number of at most 1365\.33"),
        (lambda: stretch(torch.ones(2, 3), float("nan")), "factor=nan"),
        (lambda: stretch(torch.ones(2, 3), (2, 2)), r"factor=\(2, 2\)"),
        (lambda: stretch(torch.ones(3), 2), r"atoms of shape \(3,\)"),
        (lambda: stretch(torch.ones(2, 0), 2), r"atoms of shape \(2, 0\)"),
    ],
)
def test_bad_arguments_are_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_stretching_wants_floats():
    bad: Any
    for bad, told in ((torch.ones(2, 3, dtype=torch.int64), "torch.int64"), ([[1.0]], "list")):
        with pytest.raises(TypeError, match=f"atoms are {told}"):
            stretch(bad, 2)


@given(size=st.integers(1, 7), factor=st.floats(0.2, 5))
def test_stretching_keeps_sums_and_symmetry_and_covers_the_scene(size, factor):
    atoms = torch.randn(3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    new = stretch(atoms, factor)
    torch.testing.assert_close(new.sum(1), atoms.sum(1))
    length = new.shape[1]
    assert length % 2 == size % 2 and length >= factor * size - 1e-6 and (length < factor * size + 2 or length <= 2)
    torch.testing.assert_close(stretch(atoms.flip(1), factor), new.flip(1))


def test_a_factor_of_one_changes_nothing_and_axes_are_independent():
    psi, phi = spatial_atoms((3, 5), 5, "dct"), temporal_atoms(4, 3)
    torch.testing.assert_close(stretch(psi, 1), psi, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(stretch(phi, 1.0), phi, rtol=1e-15, atol=1e-15)
    product = torch.einsum("mh,mw->mhw", temporal_atoms(3, 3), temporal_atoms(5, 3))
    expected = torch.einsum("mh,mw->mhw", stretch(temporal_atoms(3, 3), 2.5), stretch(temporal_atoms(5, 3), 2.5))
    torch.testing.assert_close(stretch(product, 2.5), expected)


def test_a_whole_factor_fills_the_gaps_of_a_dilation():
    phi = temporal_atoms(5, 3)
    dilated = torch.zeros(3, 9, dtype=torch.float64)
    dilated[:, ::2] = phi
    blur = torch.tensor([[[0.25, 0.5, 0.25]]], dtype=torch.float64)
    torch.testing.assert_close(stretch(phi, 2), torch.conv1d(dilated[:, None], blur, padding=2)[:, 0])


def test_frames_shown_three_times_are_answered_as_before():
    layer = STDCFConv3d(1, 4, (5, 3, 3), padding=(2, 1, 1), dtype=torch.float64)
    clip = torch.rand(1, 1, 8, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = layer(clip)
    with layer.swap(phi=stretch(layer.phi, 3)):
        assert layer.kernel_size == (15, 3, 3)
        torch.testing.assert_close(layer(clip.repeat_interleave(3, dim=2))[:, :, 1::3], before)


@pytest.mark.parametrize("factor", [1.5, 2, 3.7])
def test_a_smooth_scene_is_answered_nearly_as_before_however_fine_the_grid(factor):
    def answers(atoms, step):
        # At time 0, to cosines and sines of up to a third of the highest frequency that the first grid can hold.
        t = (torch.arange(atoms.shape[1], dtype=torch.float64) - (atoms.shape[1] - 1) / 2) * step
        scene = torch.stack([wave(math.pi * f * t) for f in (0.05, 0.15, 0.33) for wave in (torch.cos, torch.sin)])
        return atoms @ scene.T

    phi = temporal_atoms(5, 3)
    before, after = answers(phi, 1), answers(stretch(phi, factor), 1 / factor)
    assert (after - before).norm() < 0.1 * before.norm()
    unchanged = answers(phi, 1 / factor)
    assert (unchanged - before).norm() > 3 * (after - before).norm()


def test_gradients_pass_a_stretch_and_options_stay():
    atoms = torch.randn(2, 3, 3, requires_grad=True)
    new = stretch(atoms, 2)
    assert new.dtype == torch.float32 and new.shape == (2, 7, 7)
    new.sum().backward()
    torch.testing.assert_close(atoms.grad, torch.ones(2, 3, 3))


def test_counts_left_open_are_the_papers_or_what_the_kernel_has_room_for():
    assert [len(spatial_atoms(size)) for size in ((3, 3), (5, 5), (1, 1), (2, 2), (1, 3))] == [5, 5, 1, 1, 1]
    assert [len(temporal_atoms(size)) for size in (1, 2, 3, 5)] == [1, 2, 3, 3]
    assert [len(spatial_atoms(size, family="dct")) for size in ((2, 2), (1, 3), (3, 3))] == [4, 3, 5]


def test_each_axis_may_be_stretched_by_its_own_factor():
    atoms = torch.rand(2, 3, 5, dtype=torch.float64)
    both = stretch(atoms, (5 / 3, 9 / 5))
    assert both.shape == (2, 5, 9)
    one_by_one = stretch(stretch(atoms, (1, 9 / 5)), (5 / 3, 1))
    torch.testing.assert_close(both, one_by_one)
    assert torch.equal(stretch(atoms, (1, 1)), atoms) and torch.equal(stretch(atoms, 2), stretch(atoms, (2, 2)))
    with pytest.raises(ValueError, match=r"factor=\(2,\): give one number, or 2 for atoms of shape \(2, 3, 5\)"):
        stretch(atoms, (2,))
