from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import conv3d

from stdcf_lib import capacity

C, K_u, K_t, MIDDLE = sympy.symbols("C K_u K_t C''", positive=True, integer=True)
SHAPES = st.tuples(*[st.integers(1, 4)] * 4)


def random_alpha(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def random_factors(c_out=3, c_in=2, k_u=4, k_t=3, middle=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(middle, c_in, k_u)), rng.normal(size=(c_out, middle, k_t))


# Counts


def test_counts_with_symbols():
    assert capacity.free_parameters(C, K_u, K_t) == C**2 * K_u * K_t
    assert sympy.expand(capacity.rank1_parameters(C, K_u, K_t) - (K_u + K_t) * C**2) == 0
    assert sympy.expand(capacity.rank1_parameters(C, K_u, K_t, MIDDLE) - MIDDLE * C * (K_u + K_t)) == 0
    assert sympy.expand(capacity.rank1_dimension(C, K_u, K_t) - C**2 * (K_u + K_t - 1)) == 0


def test_dimension_with_symbols_agrees_with_ints():
    with_symbols: Any = capacity.rank1_dimension(C, K_u, K_t, MIDDLE)
    for values in product([1, 2, 3], [1, 2, 4], [1, 3], [1, 2, 5, 20]):
        numbers = dict(zip([C, K_u, K_t, MIDDLE], values, strict=True))
        assert with_symbols.subs(numbers) == capacity.rank1_dimension(*values)


def test_plain_symbols_need_no_assumptions():
    c, k_u, k_t = sympy.symbols("C K_u K_t")
    assert sympy.expand(capacity.rank1_dimension(c, k_u, k_t) - c**2 * (k_u + k_t - 1)) == 0


def test_counts_with_ints_are_ints():
    counts = capacity.free_parameters(2, 3, 2), capacity.rank1_parameters(2, 3, 2), capacity.rank1_dimension(2, 3, 2)
    assert counts == (24, 20, 16)
    assert all(type(count) is int for count in counts)
    assert type(capacity.rank1_dimension(2, 3, 2, 3)) is int


@pytest.mark.parametrize("sizes", [(1, 3, 2), (2, 2, 2), (2, 3, 2), (2, 4, 1), (2, 1, 3), (3, 3, 2)])
@pytest.mark.parametrize("middle", [1, 2, 3, 5, 8])
def test_dimension_is_the_exact_jacobian_rank(sizes: tuple[int, int, int], middle):
    assert capacity.rank1_dimension(*sizes, middle) == capacity.jacobian_rank(*sizes, middle)


def test_default_middle_is_C():
    assert capacity.rank1_parameters(3, 3, 2) == capacity.rank1_parameters(3, 3, 2, 3)
    assert capacity.rank1_dimension(3, 3, 2) == capacity.rank1_dimension(3, 3, 2, 3)
    assert capacity.jacobian_rank(3, 3, 2) == capacity.jacobian_rank(3, 3, 2, 3) == 36


def test_jacobian_rank_agrees_with_autograd():
    m, n = (torch.from_numpy(factor) for factor in random_factors(c_out=2, c_in=2, k_u=3, k_t=2, middle=2))
    by_m, by_n = torch.autograd.functional.jacobian(capacity.compose, (m, n))
    jacobian = torch.cat([by_m.reshape(24, -1), by_n.reshape(24, -1)], dim=1)
    assert torch.linalg.matrix_rank(jacobian) == capacity.jacobian_rank(2, 3, 2)


def test_more_middle_channels_never_lose_and_end_at_everything():
    dimensions = [capacity.rank1_dimension(3, 5, 2, middle) for middle in range(1, 40)]
    assert dimensions == sorted(dimensions)
    # Everything from C·min(K_u, K_t) on, and not before.
    assert [d == capacity.free_parameters(3, 5, 2) for d in dimensions] == [middle >= 6 for middle in range(1, 40)]


@pytest.mark.parametrize("count", [capacity.free_parameters, capacity.rank1_dimension, capacity.jacobian_rank])
@pytest.mark.parametrize("bad", [0, -1, sympy.Integer(0), sympy.Rational(1, 2)])
def test_counts_below_one_are_refused(count, bad):
    with pytest.raises(ValueError, match=r"K_u=.*: give an"):
        count(2, bad, 3)


@pytest.mark.parametrize("count", [capacity.rank1_parameters, capacity.rank1_dimension, capacity.jacobian_rank])
@pytest.mark.parametrize("bad", [2.0, "2", True])
def test_counts_of_another_type_are_refused(count, bad):
    with pytest.raises(ValueError, match=f"middle={bad!r}: give an integer"):
        count(2, 3, 3, bad)


def test_jacobian_rank_refuses_symbols():
    with pytest.raises(ValueError, match="C=C: give an integer of at least 1"):
        capacity.jacobian_rank(C, 2, 2)


# Arrays


def test_unfold_puts_channel_pairs_into_blocks():
    alpha = random_alpha(3, 2, 4, 5)
    matrix = capacity.matricize(alpha)
    assert matrix.shape == (2 * 4, 3 * 5)
    for c_out, c_in in product(range(3), range(2)):
        block = matrix[4 * c_in : 4 * (c_in + 1), 5 * c_out : 5 * (c_out + 1)]
        np.testing.assert_array_equal(block, alpha[c_out, c_in])


@given(SHAPES)
def test_fold_undoes_unfold(shape):
    alpha = random_alpha(*shape)
    np.testing.assert_array_equal(capacity.tensorize(capacity.matricize(alpha), *shape[:2]), alpha)
    same = torch.from_numpy(alpha)
    assert torch.equal(capacity.tensorize(capacity.matricize(same), *shape[:2]), same)


def test_compose_is_the_sum_of_the_paper():
    m, n = random_factors()
    alpha = capacity.compose(m, n)
    assert alpha.shape == (3, 2, 4, 3)
    for c_out, c_in, i, j in np.ndindex(alpha.shape):
        expected = sum(m[middle, c_in, i] * n[c_out, middle, j] for middle in range(2))
        assert alpha[c_out, c_in, i, j] == pytest.approx(expected)
    torch.testing.assert_close(capacity.compose(*map(torch.from_numpy, (m, n))), torch.from_numpy(alpha))


def test_compose_takes_sympy_symbols():
    m, n = sympy.symarray("m", (2, 2, 3)), sympy.symarray("n", (2, 2, 2))
    assert capacity.compose(m, n)[0, 1, 2, 1] == m[0, 1, 2] * n[0, 0, 1] + m[1, 1, 2] * n[0, 1, 1]


def test_compose_is_what_two_convolutions_do():
    m, n = (torch.from_numpy(factor) for factor in random_factors())
    generator = torch.Generator().manual_seed(0)
    psi = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    phi = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    clip = torch.randn(1, 2, 5, 6, 6, generator=generator, dtype=torch.float64)

    space = torch.einsum("kci,ihw->kchw", m, psi)[:, :, None]
    time = torch.einsum("okj,jt->okt", n, phi)[..., None, None]
    joint = torch.einsum("ocij,ihw,jt->octhw", capacity.compose(m, n), psi, phi)
    torch.testing.assert_close(conv3d(conv3d(clip, space), time), conv3d(clip, joint))


def test_rank_of_the_whole_is_bounded_and_of_a_block_is_not_one():
    alpha = capacity.compose(*random_factors(c_out=4, c_in=4, k_u=5, k_t=3, middle=2))
    assert np.linalg.matrix_rank(capacity.matricize(alpha)) == 2
    assert (np.linalg.matrix_rank(alpha) == 2).all()


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@given(shape=SHAPES, middle=st.integers(1, 20))
def test_nearest_rank1_factors_and_error_are_true(convert, shape, middle):
    alpha = convert(random_alpha(*shape))
    nearest: Any = capacity.nearest_rank1(alpha, middle)
    most = min(shape[1] * shape[2], shape[0] * shape[3])
    assert type(nearest.alpha) is type(nearest.m) is type(nearest.n) is type(alpha)
    assert nearest.m.shape == (min(middle, most), shape[1], shape[2])
    assert nearest.n.shape == (shape[0], min(middle, most), shape[3])
    np.testing.assert_allclose(capacity.compose(nearest.m, nearest.n), nearest.alpha)
    residual = np.linalg.norm(nearest.alpha - alpha) / np.linalg.norm(alpha)
    assert nearest.error == pytest.approx(residual, abs=1e-12)
    assert (nearest.error == 0) == (middle >= most)


def test_nearest_rank1_is_not_beaten_by_alternating_least_squares():
    alpha = random_alpha(4, 3, 5, 3)
    matrix = capacity.matricize(alpha)
    nearest = capacity.nearest_rank1(alpha, 4)
    found = []
    for seed in range(3):
        m = random_alpha(15, 4, seed=seed)
        n = np.linalg.lstsq(m, matrix)[0]
        for _ in range(300):
            m = np.linalg.lstsq(n.T, matrix.T)[0].T
            n = np.linalg.lstsq(m, matrix)[0]
        found.append(np.linalg.norm(m @ n - matrix) / np.linalg.norm(matrix))
    assert min(found) >= nearest.error - 1e-12
    assert min(found) == pytest.approx(nearest.error, rel=1e-3)


def test_nearest_rank1_finds_a_member_again():
    alpha = capacity.compose(*random_factors(middle=2))
    assert capacity.nearest_rank1(alpha, 2).error < 1e-12
    assert capacity.nearest_rank1(alpha, 1).error > 0.1


def test_nearest_rank1_keeps_dtype_and_drops_the_gradient():
    alpha = torch.nn.Parameter(torch.from_numpy(random_alpha(2, 2, 3, 2)).float())
    nearest: Any = capacity.nearest_rank1(alpha, 1)
    assert all(array.dtype == torch.float32 and not array.requires_grad for array in nearest[:3])
    assert type(nearest.error) is float


def test_nearest_rank1_of_zero_is_zero():
    nearest = capacity.nearest_rank1(np.zeros((2, 2, 3, 2)), 1)
    assert nearest.error == 0 and not nearest.alpha.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: capacity.matricize(cast(Any, [[1.0]])), TypeError, "alpha is a list; give a numpy array or torch tensor"),
        (lambda: capacity.matricize(np.zeros((2, 2, 3))), ValueError, r"alpha has shape \(2, 2, 3\); give \(C_out"),
        (lambda: capacity.matricize(np.zeros((2, 0, 3, 1))), ValueError, "none of them 0"),
        (lambda: capacity.tensorize(np.zeros((6, 4)), 3, 2), ValueError, "6 × 4, which C_in=2 and C_out=3 must divide"),
        (lambda: capacity.tensorize(np.zeros((6, 4)), 0, 2), ValueError, "C_out=0: give an integer of at least 1"),
        (lambda: capacity.compose(np.ones((2, 3, 4)), np.ones((3, 3, 2))), ValueError, "m has 2 middle .* n has 3"),
        (lambda: capacity.compose(np.ones((2, 3)), np.ones((3, 3, 2))), ValueError, r"m has shape \(2, 3\)"),
        (lambda: capacity.nearest_rank1(np.ones((2, 2, 3, 2)), 0), ValueError, "middle=0: give an integer"),
        (lambda: capacity.nearest_rank1(np.ones((2, 2, 3, 2)), cast(Any, 1.5)), ValueError, "middle=1.5: give an integer"),
        (lambda: capacity.nearest_rank1(np.ones((2, 2, 3, 2), int), 1), TypeError, "alpha holds int64; convert"),
        (lambda: capacity.nearest_rank1(torch.ones(2, 2, 3, 2).bfloat16(), 1), TypeError, "alpha holds torch.bfloat16"),
        (lambda: capacity.nearest_rank1(np.full((2, 2, 3, 2), np.nan), 1), ValueError, "NaN or infinite"),
    ],
)
def test_bad_arrays_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
