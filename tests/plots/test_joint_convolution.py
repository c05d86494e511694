import cmath
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d

from stdcf_lib import Rank1Conv3d, STDCFConv3d, explore
from stdcf_lib import atoms as families
from stdcf_lib.convert import ConvertedLayer
from stdcf_lib.data.probes import drifting_grating, moving_bar
from stdcf_lib.plots import joint_convolution as plots


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rebuilt(psi, phi, alpha):
    """W by its definition, term by term."""
    w = torch.zeros(phi.shape[1], *psi.shape[1:], dtype=psi.dtype)
    for m, n in np.ndindex(*alpha.shape):
        for t in range(phi.shape[1]):
            w[t] += alpha[m, n] * psi[m] * phi[n, t]
    return w


def bars(axes) -> list[Any]:
    return list(axes.patches)


def images(axes):
    return [np.asarray(image.get_array()) for image in axes.images]


@pytest.fixture
def parts():
    """ψ, φ and α of a filter whose five sizes all differ."""
    return normal(4, 3, 5, seed=1), normal(2, 6, seed=2), normal(4, 2, seed=3)


@pytest.fixture
def rightward():
    """ψ, φ and α of a filter that answers motion to the right, and none to the left."""
    psi, phi = families.spatial_atoms((5, 5), 3), families.temporal_atoms(5, 3)
    pairs = torch.einsum("phw,pt->pthw", psi[[0, 1]], phi[[2, 1]])
    even, odd = (fourier_amplitude(w, 1.0, 0, 8.0, 1) for w in pairs)
    alpha = torch.zeros(3, 3, dtype=torch.float64)
    alpha[0, 2], alpha[1, 1] = 1, even / odd
    return psi, phi, alpha


def fourier_amplitude(w, speed, direction, wavelength, dilation):
    """|Σ W e^{i(k·x − ω t)}|, y pointing up: what a filter answers to a wave, without any clip or convolution."""
    k, angle = 2 * math.pi / wavelength, math.radians(direction)
    total = 0
    for (t, y, x), value in np.ndenumerate(np.asarray(w)):
        along = x * math.cos(angle) - y * math.sin(angle)
        total += value * cmath.exp(1j * k * (along - speed * dilation * t))
    return abs(total)


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize(("speed", "direction", "wavelength"), [(1.0, 0, 8.0), (0.7, 180, 5.0), (1.3, 65, 6.5), (0.0, 90, 8.0)])
def test_response_amplitude_is_the_fourier_transform(speed, direction, wavelength, dilation):
    filters = normal(3, 1, 4, 3, 5)
    found = plots.response_amplitude(filters, speed, direction, wavelength, dilation)
    wanted = [fourier_amplitude(w[0], speed, direction, wavelength, dilation) for w in filters]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 3, 5, 5)])
def test_response_amplitude_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"filters of shape .* one channel; give \(C_out, 1, kt, kh, kw\)"):
        plots.response_amplitude(torch.zeros(shape))


def test_each_filter_of_the_bank_prefers_its_own_direction():
    bank = plots.direction_bank()
    torch.testing.assert_close(bank.weight.flatten(1).norm(dim=1), torch.ones(8, dtype=torch.float64))
    answers = np.stack([plots.response_amplitude(bank.weight, direction=45 * i) for i in range(8)])
    assert answers.argmax(axis=0).tolist() == list(range(8))


def test_atoms_are_drawn_as_they_are(parts):
    psi, phi, _ = parts
    figure, arrays = plots.atoms(psi, phi)
    space, *time = figure.axes
    np.testing.assert_array_equal(images(space), psi)
    assert [[bar.get_height() for bar in bars(axes)] for axes in time] == phi.tolist()
    np.testing.assert_array_equal(arrays["psi"], psi)
    np.testing.assert_array_equal(arrays["phi"], phi)


def test_products_are_a_multiplication_table(parts):
    psi, phi, _ = parts
    figure, arrays = plots.products(psi, phi)
    for m, n, t in np.ndindex(4, 2, 6):
        np.testing.assert_allclose(arrays["products"][m, n, t], psi[m] * phi[n, t])
    corner = [image for image in figure.axes[0].images if np.asarray(image.get_array()).shape == (3, 5)]
    assert len(corner) == 4 + 4 * 2 * 6


@pytest.mark.parametrize("terms", [1, 5, 8])
def test_assembly_adds_the_largest_terms_first(parts, terms):
    psi, phi, alpha = parts
    figure, arrays = plots.assembly(psi, phi, alpha, terms)
    order = sorted(np.ndindex(4, 2), key=lambda mn: -abs(alpha[mn]))
    w, total = rebuilt(psi, phi, alpha), torch.zeros(6, 3, 5, dtype=torch.float64)
    errors = [1.0]
    for k, (m, n) in enumerate(order, 1):
        term = alpha[m, n] * torch.stack([psi[m] * value for value in phi[n]])
        total = total + term
        errors.append(float((total - w).norm() / w.norm()))
        if k == terms:
            np.testing.assert_allclose(arrays["term"], term)
            np.testing.assert_allclose(arrays["sum"], total)
    np.testing.assert_allclose(arrays["filter"], w)
    np.testing.assert_allclose(arrays["errors"], errors, atol=1e-12)
    drawn = next(axes for axes in figure.axes if axes.get_xlabel() == "terms").get_lines()
    np.testing.assert_array_equal(drawn[0].get_ydata(), arrays["errors"])
    assert np.asarray(drawn[1].get_xydata()).tolist() == [[terms, arrays["errors"][terms]]]


@pytest.mark.parametrize("terms", [0, 9])
def test_assembly_refuses_terms_that_are_not_there(parts: tuple[Tensor, Tensor, Tensor], terms):
    with pytest.raises(ValueError, match=rf"terms={terms}: M × N = 8 .* give 1 to 8"):
        plots.assembly(*parts, terms)


def test_maps_between_the_three_layers(parts):
    psi, phi, _ = parts
    alpha, clip, t = normal(3, 1, 4, 2), normal(1, 1, 9, 7, 8, seed=4), 2
    arrays = plots.three_layers(clip, psi, phi, alpha, t).arrays
    np.testing.assert_array_equal(arrays["frames"], clip[0, 0, 2:8])
    for n in range(2):
        after_phi: Any = sum(phi[n, k] * clip[0, 0, t + k] for k in range(6))
        np.testing.assert_allclose(arrays["after_phi"][n], after_phi)
        for m, y, x in np.ndindex(4, 5, 4):
            wanted = float((psi[m] * after_phi[y : y + 3, x : x + 5]).sum())
            assert arrays["after_psi"][n, m, y, x] == pytest.approx(wanted)
    for w, drawn in zip(alpha[:, 0], arrays["output"], strict=True):
        np.testing.assert_allclose(drawn, conv3d(clip, rebuilt(psi, phi, w)[None, None])[0, 0, t])


@pytest.mark.parametrize(("t", "y", "x"), [(0, 0, 0), (1, 2, 3), (3, 4, 3)])
def test_both_lists_of_products_sum_to_the_voxel(parts, t, y, x):
    psi, phi, alpha = parts
    clip = normal(1, 1, 9, 7, 8, seed=4)
    figure, arrays = plots.voxel(clip, psi, phi, alpha, t, y, x)
    w = rebuilt(psi, phi, alpha)
    output = conv3d(clip, w[None, None])[0, 0]
    voxel = float(output[t, y, x])
    assert arrays["products"].sum() == pytest.approx(voxel)
    assert arrays["terms"].sum() == pytest.approx(voxel)
    np.testing.assert_allclose(arrays["output"], output)
    patch = clip[0, 0, t : t + 6, y : y + 3, x : x + 5]
    np.testing.assert_allclose(arrays["products"], patch * w)
    for m, n in np.ndindex(4, 2):
        small = torch.stack([psi[m] * value for value in phi[n]])
        assert arrays["terms"][m, n] == pytest.approx(float(alpha[m, n] * (small * patch).sum()))
    sums = [axes.get_title() for axes in figure.axes if "sum" in axes.get_title()]
    assert sums == [f"= {count} products,\nsum {voxel:+.3f}" for count in (90, 8)]


@pytest.mark.parametrize("place", [{"t": 4}, {"y": 5}, {"x": 4}, {"x": -1}])
def test_a_voxel_outside_the_output_is_refused(parts, place):
    with pytest.raises(ValueError, match=r"outside the output of shape \(4, 5, 4\)"):
        plots.voxel(normal(1, 1, 9, 7, 8), *parts, **place)


def test_the_nearest_separable_filter_is_the_best_one(parts):
    arrays = plots.direction_selectivity(*parts).arrays
    w = rebuilt(*parts)
    np.testing.assert_allclose(arrays["filter"], w)
    left, values, right = np.linalg.svd(w.flatten(1).numpy(), full_matrices=False)
    best = values[0] * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(arrays["separable"].reshape(6, -1), best, atol=1e-10)


def test_the_joint_filter_tells_directions_and_the_separable_one_does_not(rightward):
    figure, arrays = plots.direction_selectivity(*rightward)
    joint, separable = arrays["amplitudes"].T
    assert arrays["directions"].tolist() == list(range(0, 360, 5))
    for i in (0, 7, 36, 50):
        for w, found in ((rebuilt(*rightward), joint[i]), (arrays["separable"], separable[i])):
            assert found == pytest.approx(fourier_amplitude(w, 1.0, 5 * i, 8.0, 1), abs=1e-4)
    assert joint[0] > 4 and joint[36] < 1e-3  # 0° and 180°
    np.testing.assert_allclose(separable, np.roll(separable, 36), atol=1e-4)
    assert separable.min() > 1
    title = figure.get_suptitle()
    assert f"Toward {arrays['directions'][joint.argmax()]}°: {joint.max():.2f}" in title and "away: 0.00" in title


def test_the_tables_beside_both_filters_are_their_coefficients(rightward):
    psi, phi, alpha = rightward
    figure, arrays = plots.direction_selectivity(psi, phi, alpha)
    tables = {axes.get_title(): images(axes)[0] for axes in figure.axes if "rank" in axes.get_title()}
    assert [title[-1] for title in tables] == ["2", "1"]
    own, nearest = (torch.tensor(table) for table in tables.values())
    np.testing.assert_array_equal(own, alpha)
    np.testing.assert_allclose(rebuilt(psi, phi, nearest), arrays["separable"], atol=1e-10)


def test_film_strips_share_one_scale():
    strips = {"quiet": normal(3, 4, 4), "loud": 7 * normal(2, 5, 6, seed=1)}
    figure, arrays = plots.film_strips(strips)
    (axes,) = figure.axes
    for image, frame in zip(axes.images, [*strips["quiet"], *strips["loud"]], strict=True):
        np.testing.assert_array_equal(image.get_array(), frame)
        assert image.get_clim() == (-float(strips["loud"].abs().max()), float(strips["loud"].abs().max()))
    assert [text.get_text() for text in axes.texts] == list(arrays) == ["quiet", "loud"]
    gray = plots.film_strips({"bar": moving_bar(4)[0, 0]}, gray=True).figure.axes[0].images
    assert {image.get_clim() for image in gray} == {(0, 1)}


def test_compass_of_all_atoms_is_the_banks_own():
    bank, clip = plots.direction_bank(), moving_bar(9, 16, length=7, direction=45).double()
    arrays = plots.compass(clip, bank, 49, 5).arrays
    padded = nn.functional.pad(clip - clip.mean(), (3, 3, 3, 3, 2, 2), mode="replicate")
    answers = conv3d(padded, bank.weight)[0]
    np.testing.assert_allclose(arrays["energy"], [float((a**2).mean()) for a in answers.detach()])
    np.testing.assert_allclose(arrays["answer"], answers[0].detach(), atol=1e-10)
    assert arrays["energy"].argmax() == 1


@pytest.mark.parametrize(("spatial", "temporal"), [(1, 3), (6, 1)])
def test_one_atom_of_a_kind_leaves_the_compass_symmetric(spatial, temporal):
    energy = plots.compass(moving_bar(9, 16, length=7), plots.direction_bank(), spatial, temporal).arrays["energy"]
    np.testing.assert_allclose(energy, np.roll(energy, 4), rtol=1e-5)


def test_compass_says_what_is_kept_and_draws_the_bars():
    bank = plots.direction_bank()
    figure, arrays = plots.compass(moving_bar(9, 16, length=7), bank, 5, 2)
    layer = STDCFConv3d.from_conv3d(bank, 5, 2)
    lost = float(((layer.filters() - bank.weight) ** 2).detach().sum() / (bank.weight**2).detach().sum())
    assert figure.get_suptitle() == f"$M=5$, $N=2$ keep {1 - lost:.1%} of the filters' energy"
    assert [bar.get_height() for bar in bars(figure.axes[1])] == pytest.approx(arrays["energy"].tolist())
    angles = [bar.get_x() + bar.get_width() / 2 for bar in bars(figure.axes[1])]
    np.testing.assert_allclose(angles, np.radians(45 * np.arange(8)))


def test_a_dilated_filter_stands_over_the_frames_that_it_meets():
    clip = moving_bar(13, 16, length=7).double()
    figure, arrays = plots.compass(clip, plots.direction_bank(), 5, 2, temporal_dilation=3)
    lefts = [image.get_extent()[0] for image in figure.axes[0].images]
    above, frames = lefts[:5], lefts[5:18]
    np.testing.assert_allclose(above, frames[::3])
    w = torch.tensor(arrays["filter"])
    answer = conv3d(clip - clip.mean(), w[None, None], dilation=(3, 1, 1))
    np.testing.assert_allclose(arrays["answer"][6, 3:-3, 3:-3], answer[0, 0, 0], atol=1e-10)


def test_the_compass_draws_an_answer_on_the_scale_of_the_strongest_of_all():
    bank = plots.direction_bank()
    limits = []
    for direction in (0, 180):
        clip = moving_bar(9, 16, length=7, direction=direction).double()
        figure, arrays = plots.compass(clip, bank, 49, 5)
        strongest = bank(clip - clip.mean()).abs().max().item()
        limits.append(figure.axes[0].images[-1].get_clim()[1])
        assert limits[-1] == pytest.approx(strongest)
        assert (np.abs(arrays["answer"]).max() > 0.9 * strongest) == (direction == 0)


@pytest.mark.parametrize("dilation", [1, 2])
def test_no_frame_covers_the_key_of_the_compass(dilation):
    figure, _ = plots.compass(moving_bar(9, 16, length=7), plots.direction_bank(), 5, 2, dilation)
    strips = figure.axes[0]
    figure.canvas.draw()
    key = next(axes for axes in strips.child_axes).get_tightbbox()
    assert key is not None and not any(image.get_window_extent().overlaps(key) for image in strips.images)


def test_compass_needs_a_middle_frame():
    with pytest.raises(ValueError, match="clip of 8 frames has none in the middle; give an odd number"):
        plots.compass(moving_bar(8), plots.direction_bank(), 5, 2)


def test_tempo_curves_coincide_against_dilation_times_speed(rightward):
    figure, arrays = plots.tempo(rebuilt(*rightward))
    once, twice, thrice = arrays["amplitudes"]
    np.testing.assert_allclose(arrays["speeds"], np.linspace(0, 3, 61))
    np.testing.assert_allclose(twice[:31], once[::2], atol=1e-4)
    np.testing.assert_allclose(thrice[:21], once[::3], atol=1e-4)
    assert once[20] == pytest.approx(fourier_amplitude(rebuilt(*rightward), 1.0, 0, 8.0, 1), abs=1e-4)
    against_speed, against_product = figure.axes
    for d, left, right in zip((1, 2, 3), against_speed.get_lines(), against_product.get_lines(), strict=True):
        np.testing.assert_allclose(np.asarray(right.get_xdata()), d * np.asarray(left.get_xdata()))


def test_energy_kept_with_all_atoms_of_one_kind_is_a_truncated_svd():
    bank = normal(3, 2, 4, 2, 3)
    energies = plots.energy_kept({"random": bank}).arrays["random"]
    assert energies.shape == (6, 4) and energies[-1, -1] == pytest.approx(1)
    in_space = np.linalg.svd(bank.reshape(-1, 6), compute_uv=False) ** 2
    in_time = np.linalg.svd(bank.movedim(2, -1).reshape(-1, 4), compute_uv=False) ** 2
    np.testing.assert_allclose(energies[:, -1], in_space.cumsum() / in_space.sum())
    np.testing.assert_allclose(energies[-1], in_time.cumsum() / in_time.sum())
    assert (np.diff(energies, axis=0) > 0).all() and (np.diff(energies, axis=1) > 0).all()


def test_energy_kept_writes_each_cell_in_its_place():
    figure, arrays = plots.energy_kept({"random": normal(3, 2, 3, 2, 2)})
    for text in figure.axes[0].texts:
        at: Any = text.get_position()
        assert text.get_text() == f"{arrays['random'][at[1], at[0]]:.0%}"


def test_conversion_draws_the_report():
    report = [ConvertedLayer("a", 5, 3, 0.8, 1000, 600, None, None), ConvertedLayer("b", 2, 1, 0.3, 50, 20, None, None)]
    figure, arrays = plots.conversion(report)
    before, after = (np.asarray(line.get_xydata()) for line in figure.axes[0].get_lines())
    assert before.tolist() == [[1000, 0], [50, 1]] and after.tolist() == [[600, 0], [20, 1]]
    assert [bar.get_width() for bar in bars(figure.axes[1])] == arrays["energy"].tolist() == [0.8, 0.3]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert figure.axes[0].get_title() == "Parameters of the converted layers: 1,050 before, 620 after"


def test_costs_are_counted_right():
    options = {"kernel_size": 3, "padding": 1, "bias": False}
    models = {
        "full": nn.Conv3d(4, 6, **options),
        "joint": STDCFConv3d(4, 6, **options, evaluation="atoms"),
        "rank-1": Rank1Conv3d(4, 6, **options),
    }
    figure, arrays = plots.costs(models, (2, 4, 5, 7, 8))
    voxels = 2 * 5 * 7 * 8
    assert arrays["parameters"].tolist() == [4 * 6 * 27, 4 * 6 * 15 + 5 * 9 + 3 * 3, 4 * 6 * 9 + 6 * 6 * 3]
    macs = [4 * 6 * 27, 4 * 3 * 3 + 4 * 3 * 5 * 9 + 4 * 15 * 6, 4 * 6 * 9 + 6 * 6 * 3]
    assert arrays["macs"].tolist() == [voxels * m for m in macs]
    for axes, values in zip(figure.axes, arrays.values(), strict=True):
        assert [bar.get_width() for bar in bars(axes)] == values.tolist()
        assert [text.get_text() for text in axes.texts] == [f" {value / values[0]:.2f}" for value in values]


def test_the_panels_begin_with_the_notebooks_layer():
    torch.manual_seed(0)
    layer = STDCFConv3d(1, 4, kernel_size=3)
    panel = explore.filter_assembly()
    for channel in range(4):
        drawn = panel.draw(terms=15, channel=channel).arrays["filter"]
        np.testing.assert_allclose(drawn, layer.filters()[channel, 0].detach(), atol=1e-6)


@pytest.mark.parametrize("direction", [0, 90, 135])
def test_three_coefficients_aim_anywhere(direction):
    psi, phi = families.spatial_atoms((5, 5), 3), families.temporal_atoms(5, 3)
    alpha, angle = torch.zeros(3, 3, dtype=psi.dtype), np.radians(direction)
    alpha[0, 2], alpha[1, 1], alpha[2, 1] = 1, 0.535 * np.cos(angle), -0.535 * np.sin(angle)
    arrays = plots.direction_selectivity(psi, phi, alpha).arrays
    assert arrays["directions"][arrays["amplitudes"][:, 0].argmax()] == direction
    assert arrays["amplitudes"][(direction // 5 + 36) % 72, 0] < 0.05


def test_the_probes_of_the_panel_move_as_they_say():
    panel = explore.probe()
    names = panel.controls["probe"].options
    wanted = {"bar to the right": 0, "bar to the left": 4, "grating to the right": 0, "grating up": 2}
    for name, channel in wanted.items():
        arrays = panel.draw(**panel.values | {"probe": name}).arrays
        assert arrays["energy"].argmax() == channel
    still = panel.draw(**panel.values | {"probe": "grating up", "speed": 0.0}).arrays
    np.testing.assert_array_equal(still["clip"][0], still["clip"][-1])
    np.testing.assert_allclose(still["clip"], drifting_grating(9, speed=0.0, direction=90)[0, 0])
    assert len(names) == len(wanted) + 1 and names[-1].startswith("TR-MNIST")


def test_sides_are_alike_for_separable_filters_until_a_relu():
    generator = torch.Generator().manual_seed(0)
    pictures, rhythms = (torch.randn(5, *shape, generator=generator, dtype=torch.float64) for shape in ((5, 5), (5,)))
    separable = torch.einsum("ihw, it -> ithw", pictures, rhythms)[:, None]
    joint = plots.direction_bank().weight[0, 0, :, 1:-1, 1:-1]  # looks right
    arrays = plots.sides(separable, joint).arrays
    for name in ("amplitude, grating", "energy, bar"):
        np.testing.assert_allclose(arrays[name][:-1], 1, rtol=1e-3)
    assert np.ptp(arrays["energy, bar, after ReLU"][:-1]) > 0.1
    assert all(values[-1] > 2 for values in arrays.values())
