"""What the modules compute in the page is what the library computes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv3d

from stdcf_lib import STDCFConv3d, capacity
from stdcf_lib.data.probes import drifting_grating, moving_bar
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.explorables.base import module
from stdcf_lib.plots import joint_convolution as plots

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
LOAD = """async source => {
    const address = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
    window.arithmetic = (await import(address)).arithmetic;
    const plain = value => ArrayBuffer.isView(value) ? Array.from(value) : Array.isArray(value) ? value.map(plain)
        : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)])) : value;
    window.compute = (name, ...given) => plain(window.arithmetic[name](...given));
}"""


@pytest.fixture(scope="module")
def load(browser):
    with browser.new_page() as page:

        def loaded(name):
            page.evaluate(LOAD, module(name))
            return lambda function, *given: page.evaluate("([f, given]) => compute(f, ...given)", [function, list(given)])

        yield loaded


def drawn(seed: int) -> dict[str, torch.Tensor]:
    """Atoms and coefficients of a drawn size."""
    rng = np.random.default_rng(seed)
    M, N, kt, kh, kw = rng.integers(1, 5, 2).tolist() + rng.integers(2, 6, 3).tolist()
    shapes = {"psi": (M, kh, kw), "phi": (N, kt), "alpha": (M, N)}
    return {name: torch.tensor(rng.normal(size=shape)) for name, shape in shapes.items()}


def rebuilt(parts):
    return torch.einsum("mn,mhw,nt->thw", parts["alpha"], parts["psi"], parts["phi"])


def lists(parts):
    return {name: values.tolist() for name, values in parts.items()}


@pytest.mark.parametrize("seed", range(4))
def test_voxel(load, seed):
    compute, parts, rng = load("voxel"), drawn(seed), np.random.default_rng(seed)
    layer = STDCFConv3d(1, 1, 1, dtype=torch.float64, bias=False, spatial_atoms=1, temporal_atoms=1)
    layer.psi, layer.phi, layer.alpha = (
        torch.nn.Parameter(parts[name] if name != "alpha" else parts[name][None, None]) for name in ("psi", "phi", "alpha")
    )
    clip = torch.tensor(rng.random((1, 1, 8, 9, 10)))
    wanted = layer(clip)[0, 0].detach()
    t, y, x = (int(rng.integers(size)) for size in wanted.shape)
    state = {"clip": clip[0, 0].tolist(), **lists(parts), "t": t, "y": y, "x": x}
    got = compute("voxel", state)
    arrays = plots.voxel(clip, parts["psi"], parts["phi"], parts["alpha"], t, y, x).arrays
    for ours, theirs in {"patch": "patch", "filter": "filter", "products": "products", "answers": "answers"}.items():
        np.testing.assert_allclose(got[ours], arrays[theirs].ravel(), **CLOSE)
    np.testing.assert_allclose(got["terms"], arrays["terms"].ravel(), **CLOSE)
    np.testing.assert_allclose([got["sum"], got["other"]], [wanted[t, y, x]] * 2, **CLOSE)
    np.testing.assert_allclose(compute("output", state)["out"], wanted.flatten(), **CLOSE)


@pytest.mark.parametrize("seed", range(4))
def test_filter_and_the_nearest_separable_one(load, seed):
    compute, parts = load("filter"), drawn(seed)
    w = rebuilt(parts)
    got = compute("assemble", lists(parts))
    np.testing.assert_allclose(got["values"], w.flatten(), **CLOSE)
    fit = joint_decomposition(w[None, None], 1, 1)
    nearest = compute("separable", got)
    separable = torch.einsum("mn,mhw,nt->thw", fit.alpha[0, 0], fit.psi, fit.phi)
    np.testing.assert_allclose(nearest["filter"]["values"], separable.flatten(), **CLOSE)
    assert nearest["energy"] == pytest.approx(fit.energy, abs=1e-5)


@pytest.mark.parametrize(("wavelength", "speed", "dilation"), [(8, 1, 1), (5.5, 0.4, 2), (12, 2.5, 3)])
def test_tuning(load, wavelength, speed, dilation):
    compute, parts = load("filter"), drawn(7)
    w = compute("assemble", lists(parts))
    wave = compute("waves", {"wavelength": wavelength, "speed": speed, "dilation": dilation}, w)
    filters = rebuilt(parts)[None, None]
    wanted = [plots.response_amplitude(filters, speed, angle, wavelength, dilation)[0] for angle in range(0, 360, 5)]
    np.testing.assert_allclose(compute("tuning", w, wave), wanted, **CLOSE)


def test_amplitudes_are_said_to_be_a_gratings_where_a_bar_is_shown(load):
    compute = load("filter")
    assert compute("said", "grating", 4.96, 0) == "4.96 ahead, 0.00 backwards"
    assert compute("said", "bar", 4.96, 0) == "a grating: 4.96, back 0.00"


@pytest.mark.parametrize("direction", [0, 35, 270])
def test_probes_and_answers(load, direction):
    compute, parts = load("filter"), drawn(3)
    w, filters = compute("assemble", lists(parts)), rebuilt(parts)[None, None]
    motion = {"speed": 0.7, "direction": direction}
    clips = {"grating": drifting_grating(13, 20, wavelength=7.0, **motion), "bar": moving_bar(13, 20, **motion)}
    for kind, clip in clips.items():
        got = compute("probe", {"kind": kind, "wavelength": 7.0, **motion}, 13)
        np.testing.assert_allclose(got, clip.flatten(), **CLOSE)
        for dilation in (1, 2):
            wanted = conv3d(clip.double(), filters, dilation=(dilation, 1, 1))[0, 0, 1]
            np.testing.assert_allclose(compute("answer", w, got, 1, dilation)["out"], wanted.flatten(), **CLOSE)


@pytest.mark.parametrize("shape", [(4, 3), (2, 5), (1, 1), (3, 3)])
def test_rank_of_a_table(load, shape):
    compute, rng = load("filter"), np.random.default_rng(0)
    for most in range(1, min(shape) + 1):
        alpha = rng.normal(size=(shape[0], most)) @ rng.normal(size=(most, shape[1]))
        got = compute("rank", alpha.tolist())
        assert got["rank"] == most
        left, values, right = np.linalg.svd(alpha)
        np.testing.assert_allclose(got["nearest"], values[0] * np.outer(left[:, 0], right[0]), rtol=0, atol=6e-5)  # rounded
    assert compute("rank", np.zeros(shape).tolist())["rank"] == 0


@pytest.mark.parametrize("shape", [(3, 3, 5, 3), (2, 1, 2, 4), (1, 3, 4, 2)])
def test_outer_products_are_the_nearest_rank1_layer(load, shape):
    compute, alpha = load("rank"), np.random.default_rng(1).normal(size=shape)
    flat = compute("unfold", alpha.tolist())
    np.testing.assert_allclose(flat["values"], capacity.matricize(alpha).ravel(), **CLOSE)
    got = compute("factors", flat)
    strengths = np.linalg.svd(capacity.matricize(alpha), compute_uv=False)
    np.testing.assert_allclose(got["strengths"], strengths, **CLOSE)
    for middle in range(1, len(strengths) + 1):
        m, n = np.array(got["m"][:middle]), np.array(got["n"][:middle])
        nearest = capacity.matricize(np.asarray(capacity.nearest_rank1(alpha, middle).alpha))
        np.testing.assert_allclose(m.T @ n, nearest, **CLOSE)
        moved = compute("gauged", m.tolist(), n.tolist(), 0.7)
        assert np.abs(np.array(moved["m"]) - m).max() > 0.01  # the gauge moves the factors,
        np.testing.assert_allclose(np.array(moved["m"]).T @ np.array(moved["n"]), nearest, **CLOSE)  # and not their product
    np.testing.assert_allclose(compute("outer", got["m"][0], got["n"][0]), np.outer(got["m"][0], got["n"][0]).ravel(), **CLOSE)
