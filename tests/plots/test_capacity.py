from typing import Any

import numpy as np
import pytest
import torch

from stdcf_lib import capacity
from stdcf_lib.experiments import reconstruction
from stdcf_lib.plots import capacity as plots


def drawn_lines(axes) -> dict[str, Any]:
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_alpha_matrix_draws_factors_and_product():
    figure, arrays = plots.alpha_matrix(C=3, K_u=4, K_t=2, middle=2)
    np.testing.assert_allclose(arrays["alpha"], arrays["m"] @ arrays["n"])
    assert arrays["alpha"].shape == arrays["free"].shape == (12, 6)
    assert np.linalg.matrix_rank(arrays["alpha"]) == 2 and np.linalg.matrix_rank(arrays["free"]) == 6
    for image, name in zip(figure.axes[0].images, ["m", "n", "alpha", "free"], strict=True):
        np.testing.assert_array_equal(image.get_array(), arrays[name])


def test_alpha_matrix_lines_part_the_blocks():
    m, n, alpha, free = (i.get_extent() for i in plots.alpha_matrix(C=3, K_u=4, K_t=2, middle=2).figure.axes[0].images)
    # A row of m stands beside its row of α, a column of n above its column, at the same scale.
    assert m[2:] == alpha[2:] == free[2:] == [12, 0] and n[:2] == alpha[:2]
    lines: list[Any] = list(plots.alpha_matrix(C=3, K_u=4, K_t=2, middle=2).figure.axes[0].collections)
    across, down, *_ = lines
    assert [segment[0, 1] for segment in across.get_segments()] == [4, 8]
    assert [segment[0, 0] - alpha[0] for segment in down.get_segments()] == [2, 4]


def test_alpha_matrix_singular_values_and_title_tell_the_rank():
    figure, arrays = plots.alpha_matrix(C=3, K_u=4, K_t=2, middle=2)
    lines = drawn_lines(figure.axes[1])
    for label, name in (("free $\\alpha$: joint", "free"), ("$\\alpha = m\\,n$: rank-1", "alpha")):
        np.testing.assert_allclose(lines[label], np.linalg.svd(arrays[name], compute_uv=False))
    assert (arrays["alpha_singular"] > 1e-9).sum() == 2
    title = figure.axes[0].get_title()
    assert "blocks of $\\alpha = m\\,n$ have rank 2" in title
    assert "rank 2 of 6" in title and "dimension 32 of 72" in title


def test_another_middle_channel_leaves_the_rest_of_the_picture():
    few, more = (plots.alpha_matrix(middle=middle).arrays for middle in (2, 3))
    np.testing.assert_array_equal(few["free"], more["free"])
    np.testing.assert_array_equal(few["m"], more["m"][:, :2])
    np.testing.assert_allclose(few["n"] * np.sqrt(2), more["n"][:2] * np.sqrt(3))


def test_counts_are_those_of_the_library():
    figure, arrays = plots.counts(C=2, K_u=3, K_t=2)
    assert arrays["free by K_t"].tolist() == [12 * k for k in range(1, 8)]
    assert arrays["parameters by C"].tolist() == [5 * c**2 for c in range(1, 9)]
    assert arrays["dimension by C''"].tolist() == [9, 16, 21, 24, 24, 24]
    for axes, name in zip(figure.axes, ["C", "K_t", "C''"], strict=True):
        lines = drawn_lines(axes)
        for label, curve in (("rank-1 layer: parameters", "parameters"), ("rank-1 layer: dimension", "dimension")):
            np.testing.assert_array_equal(lines[label], arrays[f"{curve} by {name}"])


def test_neither_family_contains_the_other_unless_it_has_everything():
    arrays = plots.families(C=4).arrays
    assert arrays["dimensions"].tolist() == [27, 15, 11, 7]
    assert arrays["joint to rank-1"].min() > 0.1 and arrays["rank-1 to joint"].min() > 0.1
    everything = plots.families(C=4, spatial_atoms=9, temporal_atoms=3).arrays
    assert everything["rank-1 to joint"].max() < 1e-3
    assert plots.families(C=4, temporal_atoms=1).arrays["joint to rank-1"].max() < 1e-6  # nothing is joint about one rhythm


def test_nearest_rank1_draws_the_errors():
    trained = list(torch.randn(2, 2, 3, 4, 2, generator=torch.Generator().manual_seed(0)))
    figure, arrays = plots.nearest_rank1({"a": trained, "b": [np.ones((1, 2, 3, 2))]}, middle={"a": 2})
    for errors, alpha in zip(arrays["a"], trained, strict=True):
        assert errors.tolist() == [capacity.nearest_rank1(alpha, middle).error for middle in (1, 2, 3, 4)]
    np.testing.assert_allclose(arrays["b"], [[0, 0]], atol=1e-12)
    assert arrays["a, random"].shape == (20, 4) and (np.diff(arrays["a, random"]) < 0).all()
    lines = drawn_lines(figure.axes[0])
    np.testing.assert_array_equal(lines["trained"], arrays["a"][0])
    np.testing.assert_array_equal(figure.axes[0].get_lines()[-1].get_ydata(), arrays["a"][1])
    mark = "$C''$ in Table A"
    assert mark in lines and mark not in drawn_lines(figure.axes[1])


def test_nearest_rank1_is_seeded():
    alphas = {"a": [np.ones((2, 2, 3, 2))]}
    first, again, other = (plots.nearest_rank1(alphas, seed=seed).arrays["a, random"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_trained_alphas_have_output_channels_first(monkeypatch):
    networks = [reconstruction.FAMILIES["stdcf"].build(seed) for seed in (0, 1)]
    monkeypatch.setattr(reconstruction, "trained", lambda name, seed: {"stdcf": networks}[name][seed])
    alphas = plots.trained_alphas(seeds=(0, 1))
    channels = {"conv1": (4, 1), "conv2": (8, 4), "deconv1": (4, 8), "deconv2": (4, 4), "conv3": (1, 4)}
    assert {name: {tuple(alpha.shape) for alpha in given} for name, given in alphas.items()} == {
        name: {(*pair, 5, 3)} for name, pair in channels.items()
    }
    assert torch.equal(alphas["conv2"][1], networks[1].conv2.alpha)
    assert torch.equal(alphas["deconv2"][0], networks[0].deconv2.alpha.transpose(0, 1))


def test_trained_figure_marks_the_middle_channels_of_table_a(monkeypatch):
    monkeypatch.setattr(reconstruction, "trained", lambda name, seed: reconstruction.FAMILIES[name].build(seed))
    figure, arrays = plots.nearest_rank1_trained()
    assert arrays["conv2"].shape == (len(reconstruction.SEEDS), 20)
    assert [np.asarray(axes.get_lines()[0].get_xdata())[0] for axes in figure.axes] == [4, 8, 4, 4, 4]


@pytest.mark.parametrize("nothing", [{}, {"a": []}])
def test_nearest_rank1_needs_an_alpha(nothing):
    with pytest.raises(ValueError, match="alphas has nothing to draw"):
        plots.nearest_rank1(nothing)


def test_outer_products_and_what_they_leave_out_are_the_whole():
    alpha = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    figure, arrays = plots.outer_products(alpha, 2)
    np.testing.assert_allclose(arrays["terms"].sum(0) + arrays["left_out"], capacity.matricize(alpha), atol=1e-12)
    assert [np.linalg.matrix_rank(term) for term in arrays["terms"]] == [1, 1]
    kept = 1 - capacity.nearest_rank1(alpha, 2).error ** 2
    assert f"{kept:.0%} of $\\Vert\\alpha\\Vert^2$" in figure.axes[0].get_title()
