"""How many numbers a joint layer and a rank-1 layer can really choose (Section A of the paper).

Indices follow the paper: λ output, λ' input and λ'' middle channels, i spatial and j temporal atoms, counted by C, C,
C'', K_u and K_t. The counts take sympy symbols or ints; the arrays may be numpy (of sympy symbols, too) or torch.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import sympy
import torch
from sympy.polys.matrices import DomainMatrix

from stdcf_lib.checks import whole

Count = int | sympy.Expr
Array = TypeVar("Array", np.ndarray, torch.Tensor)


def free_parameters(C: Count, K_u: Count, K_t: Count) -> Count:
    """Count the coefficients α when all are free: C² K_u K_t, which is their dimension as well (Eq. 1).

    Args:
        C, K_u, K_t: channels, spatial and temporal atoms; integers of at least 1, or sympy expressions.

    Raises:
        ValueError: anything else, here as in the counts below.
    """
    _check_counts(C=C, K_u=K_u, K_t=K_t)
    return C * C * K_u * K_t


def rank1_parameters(C: Count, K_u: Count, K_t: Count, middle: Count | None = None) -> Count:
    """Count the weights m and n of a rank-1 layer: C'' C (K_u + K_t), with C'' = `middle`, by default C (Eq. 3)."""
    middle = C if middle is None else middle
    _check_counts(C=C, K_u=K_u, K_t=K_t, middle=middle)
    return middle * C * (K_u + K_t)


def rank1_dimension(C: Count, K_u: Count, K_t: Count, middle: Count | None = None) -> Count:
    """Count the directions in which the α of a rank-1 layer can move [ours]: C² (K_u + K_t − 1) for C'' = C.

    Unfolded to C·K_u rows and C·K_t columns, these α are the matrices of rank at most C''. With r the largest rank that
    occurs, r = min(C'', C·K_u, C·K_t), their dimension is r (C·K_u + C·K_t − r). The minimum belongs on the rank: once
    r is C·K_u or C·K_t this is all of C² K_u K_t, while C'' in place of r would go wrong there, in the end below zero.
    """
    middle = C if middle is None else middle
    _check_counts(C=C, K_u=K_u, K_t=K_t, middle=middle)
    rows, columns = C * K_u, C * K_t
    # K_u and K_t are at least 1, which plain symbols do not tell sympy.
    rank = C if middle == C else sympy.Min(middle, rows, columns)
    dimension: Any = sympy.factor(rank * (rows + columns - rank))
    return int(dimension) if dimension.is_Integer else dimension


def jacobian_rank(C: int, K_u: int, K_t: int, middle: int | None = None, seed: int = 0) -> int:
    """Rank of the Jacobian of (m, n) → α at a random point with integer coordinates, in exact arithmetic [ours].

    The rank at a generic point is the dimension of the family; an unlucky point could only give less. For small
    cases: seconds where α has 200 entries.

    Raises:
        ValueError: a count that is not an integer of at least 1; a Jacobian needs numbers.
    """
    C, K_u, K_t = whole("C", C), whole("K_u", K_u), whole("K_t", K_t)
    middle = C if middle is None else whole("middle", middle)
    rng = np.random.default_rng(seed)
    rows, columns = C * K_u, C * K_t
    m, n = rng.integers(-9, 10, (rows, middle)), rng.integers(-9, 10, (middle, columns))
    # With A = m n, dA = dm n + m dn: the derivatives by m on the left, by n on the right.
    by_m, by_n = np.kron(np.eye(rows, dtype=int), n.T), np.kron(m, np.eye(columns, dtype=int))
    return DomainMatrix.from_list(np.hstack([by_m, by_n]).tolist(), sympy.ZZ).rank()


def matricize(alpha: Array) -> Array:
    """Lay α (C_out, C_in, K_u, K_t) out as the matrix (C_in·K_u, C_out·K_t) whose rank a rank-1 layer bounds.

    Row (λ', i), column (λ, j): each channel pair is one K_u × K_t block, input channels downwards, output across.

    Raises:
        TypeError: `alpha` is neither a numpy array nor a torch tensor.
        ValueError: other than four axes, or an empty one.
    """
    c_out, c_in, k_u, k_t = _shape(alpha, "alpha", "(C_out, C_in, K_u, K_t)")
    return alpha.swapaxes(0, 1).swapaxes(1, 2).reshape(c_in * k_u, c_out * k_t)


def tensorize(matrix: Array, C_out: int, C_in: int) -> Array:
    """Undo `matricize`: a matrix (C_in·K_u, C_out·K_t) becomes α (C_out, C_in, K_u, K_t).

    Raises:
        TypeError: `matrix` is neither a numpy array nor a torch tensor.
        ValueError: another number of axes, or channels that do not divide it.
    """
    rows, columns = _shape(matrix, "matrix", "(C_in·K_u, C_out·K_t)")
    C_out, C_in = whole("C_out", C_out), whole("C_in", C_in)
    if rows % C_in or columns % C_out:
        raise ValueError(f"matrix is {rows} × {columns}, which C_in={C_in} and C_out={C_out} must divide")
    return matrix.reshape(C_in, rows // C_in, C_out, columns // C_out).swapaxes(1, 2).swapaxes(0, 1)


def compose(m: Array, n: Array) -> Array:
    """Multiply the two factors of a rank-1 layer out: α = Σ_λ'' m n (the equation after Eq. 3).

    Args:
        m: (C'', C_in, K_u), space first.
        n: (C_out, C'', K_t).

    Returns:
        α (C_out, C_in, K_u, K_t).

    Raises:
        TypeError: a factor that is neither a numpy array nor a torch tensor.
        ValueError: other axes, or another number of middle channels.
    """
    middle, c_in, k_u = _shape(m, "m", "(C'', C_in, K_u)")
    c_out, n_middle, k_t = _shape(n, "n", "(C_out, C'', K_t)")
    if middle != n_middle:
        raise ValueError(f"m has {middle} middle channels and n has {n_middle}; give m.shape[0] equal to n.shape[1]")
    tall = m.reshape(middle, c_in * k_u).swapaxes(0, 1)
    wide = n.swapaxes(0, 1).reshape(middle, c_out * k_t)
    return tensorize(tall @ wide, c_out, c_in)


class NearestRank1(NamedTuple):
    """The `alpha` of a rank-1 layer, its factors as `compose` takes them, and how far it is: `error` = ‖α̂ − α‖/‖α‖."""

    alpha: np.ndarray | torch.Tensor
    m: np.ndarray | torch.Tensor
    n: np.ndarray | torch.Tensor
    error: float


def nearest_rank1(alpha: Array, middle: int) -> NearestRank1:
    """Find the rank-1 layer with C'' = `middle` whose coefficients come closest to α in the least-squares sense [ours].

    By Eckart and Young (1936) it is the truncated singular value decomposition of `matricize(alpha)`.

    Args:
        alpha: (C_out, C_in, K_u, K_t), numpy or torch, float32 or float64.
        middle: C'', at least 1. The factors get no more middle channels than the unfolded matrix has rank to give,
            min(C_in·K_u, C_out·K_t); from there on the error is zero.

    Returns:
        Arrays of the kind, dtype and device of `alpha`, without gradient. The error is 0 for α = 0.

    Raises:
        TypeError: not an array of floats.
        ValueError: not four axes, NaN or infinite values, or a `middle` that is not an integer of at least 1.
    """
    c_out, c_in, k_u, k_t = _shape(alpha, "alpha", "(C_out, C_in, K_u, K_t)")
    if str(alpha.dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise TypeError(f"alpha holds {alpha.dtype}; convert it to float32 or float64")
    middle = whole("middle", middle)
    library = np
    if isinstance(alpha, torch.Tensor):
        library, alpha = torch, alpha.detach()
    if not library.isfinite(alpha).all():
        raise ValueError("alpha has NaN or infinite values; it has no nearest member")

    left, strengths, right = library.linalg.svd(matricize(alpha), full_matrices=False)
    # The square root on either side gives both factors the same size.
    root = library.sqrt(strengths[:middle])
    m = (left[:, :middle] * root).swapaxes(0, 1).reshape(-1, c_in, k_u)
    n = (root[:, None] * right[:middle]).reshape(-1, c_out, k_t).swapaxes(0, 1)
    total = float(library.linalg.norm(strengths))
    error = float(library.linalg.norm(strengths[middle:])) / total if total else 0.0
    return NearestRank1(compose(m, n), m, n, error)


def _check_counts(**counts: Count) -> None:
    for name, value in counts.items():
        if not isinstance(value, sympy.Expr):
            whole(name, value)
        # What sympy does not know is fine: a plain symbol may be any number.
        elif False in (value.is_integer, value.is_positive):
            raise ValueError(f"{name}={value}: give an expression that may be an integer of at least 1")


def _shape(array: Array, name: str, axes: str) -> tuple[int, ...]:
    if not isinstance(array, np.ndarray | torch.Tensor):
        raise TypeError(f"{name} is a {type(array).__name__}; give a numpy array or torch tensor {axes}")
    if array.ndim != axes.count(",") + 1 or 0 in array.shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}; give {axes}, none of them 0")
    return tuple(array.shape)
