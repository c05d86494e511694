import numpy as np
import pytest
import torch

from stdcf_lib.experiments import reconstruction
from stdcf_lib.experiments.reconstruction import FAMILIES, SEEDS, STARTS, kept, trained
from stdcf_lib.plots import reconstruction as plots


def last_error(name, seed=0):
    return kept(name, seed).metrics[-1]["test_mse"]


def test_final_errors_are_the_runs():
    arrays = plots.final_errors().arrays
    assert set(arrays) == set(FAMILIES)
    for name in FAMILIES:
        assert arrays[name].tolist() == [last_error(name, seed) for seed in SEEDS]


def test_learning_curves_end_at_the_final_errors():
    arrays = plots.learning_curves().arrays
    assert arrays["epoch"].tolist() == list(range(5, 51, 5))
    assert arrays["stdcf"][2, -1] == last_error("stdcf", 2)


def test_error_by_weights_counts_weights_without_biases():
    arrays = plots.error_by_weights().arrays
    counts = {name: int(values[0]) for name, values in arrays.items()}
    # counted by hand from Table A
    assert (counts["stdcf"], counts["rank1"], counts["full"]) == (1590, 1248, 2376)
    assert arrays["full"][1:].tolist() == [last_error("full", seed) for seed in SEEDS]


def test_starts_are_compared_at_one_epoch():
    arrays = plots.starts().arrays
    assert set(arrays) == set(STARTS)
    assert arrays["full"][0] == next(row["test_mse"] for row in kept("full").metrics if row["epoch"] == 20)
    assert arrays["stdcf-gaussian"].min() > 5 * arrays["stdcf"].max()
    means = [values.mean() for name, values in arrays.items() if name != "stdcf-gaussian"]
    assert max(means) < 4 / 3 * min(means)  # as its title says


def test_care_names_the_start_that_each_was_given():
    titles = [axes.get_title() for axes in plots.care().figure.axes]
    assert [title.split(": ")[1] for title in titles] == ["Fourier–Bessel, 3e-3", "composed filter, 3e-3", "torch's own, 3e-3"]
    short = {
        family: {
            rate: {start: np.mean(reconstruction.care_scores(family, start, rate)) for start in starts}
            for rate in reconstruction.CARE_RATES
        }
        for family, starts in reconstruction.CARE_STARTS.items()
    }
    for family, (start, rate) in reconstruction.CHOSEN.items():  # and it is the best of that rate, in short runs
        assert start == min(short[family][rate], key=short[family][rate].__getitem__)


def test_dead_channels_are_those_that_never_fire():
    model, stored = trained("rank1-relu", 4), plots.test_set().clips[:500]
    dead, clips = 0, stored.float() / 255
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.deconv1, model.deconv2):
            clips = layer(clips).relu()
            dead += sum(bool((clips[:, c] == 0).all()) for c in range(clips.shape[1]))
    assert reconstruction.dead_channels("rank1-relu", 4) == reconstruction.count_dead(model, stored) == dead > 0


def test_reconstructions_are_of_the_easiest_median_and_hardest_clip():
    arrays = plots.reconstructions().arrays
    mean = np.mean([reconstruction.clip_errors(name) for name in ("rank1", "stdcf", "full")], axis=0)
    hardest = plots.test_set()[int(mean.argmax())]
    np.testing.assert_array_equal(arrays["hardest, input"], hardest[0])
    with torch.no_grad():
        output = trained("stdcf")(hardest[None])[0, 0]
    np.testing.assert_allclose(arrays["hardest, stdcf"], output, atol=1e-5)


def test_clip_by_clip_and_by_speed_average_to_the_kept_errors():
    by_clip, by_speed = plots.clip_by_clip(seeds=[0]).arrays, plots.error_by_speed(seeds=[0]).arrays
    for name in ("rank1", "stdcf"):
        assert by_clip[name].mean() == pytest.approx(last_error(name), rel=1e-4)
        assert by_speed[name].mean() == pytest.approx(last_error(name), rel=1e-4)  # ten groups of equal size
    assert (np.diff(by_speed["speed"]) > 0).all()


def test_all_clips_are_better_in_the_mean_of_five_seeds():
    drawing = plots.clip_by_clip()
    assert (drawing.arrays["stdcf"] < drawing.arrays["rank1"]).all()
    assert "on 5,000 of 5,000 test clips" in drawing.figure.axes[0].get_title()


def test_learned_atoms_are_those_of_the_run():
    arrays, model = plots.learned_atoms(seed=1).arrays, trained("stdcf", 1)
    np.testing.assert_array_equal(arrays["deconv2, phi"], model.deconv2.phi.detach())
    np.testing.assert_array_equal(arrays["start, psi"], FAMILIES["stdcf"].build(1).conv1.psi.detach())


def test_sweep_shows_the_chosen_network():
    drawing = plots.sweep(spatial_atoms=2, temporal_atoms=3, clip=4)
    assert drawing.arrays["mse"].shape == (3, 9)
    assert drawing.arrays["mse"][2, 1] == last_error("sweep-M2-N3")
    with torch.no_grad():
        output = trained("sweep-M2-N3")(plots.test_set()[4][None])[0, 0]
    np.testing.assert_allclose(drawing.arrays["output"], output, atol=1e-6)


def test_clip_errors_are_the_experiments():
    expected = reconstruction.errors(trained("full"), plots.test_set().clips[:250])
    np.testing.assert_allclose(reconstruction.clip_errors("full")[:250], expected, rtol=1e-4)
