import numpy as np
import pytest

from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.timing import Seconds
from stdcf_lib.experiments import filters, recovery, tempo
from stdcf_lib.plots import convert as plots


@pytest.mark.parametrize(("budget", "share"), [("keep", 0.8), ("parameters", 0.5), ("macs", 0.6)])
def test_layers_shows_what_to_stdcf_does(budget, share):
    figure, arrays = plots.layers(plots.OURS, budget, share)
    network = tempo.trained("full", 0)
    new, report = to_stdcf(network, input_size=(1, 1, 16, 60, 80), **{budget: share})
    before, after = (sum(p.numel() for p in net.parameters()) for net in (network, new))
    assert arrays["left"][0] == pytest.approx(after / before)
    rows = {line.name: line for line in report}
    said = [text.get_text() for text in figure.axes[1].texts]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for name, words, kept in zip(names, said, arrays["kept"], strict=True):
        row = rows.get(name)
        assert words == (f"M={row.spatial_atoms}, N={row.temporal_atoms}" if row else "as it is")
        assert kept == pytest.approx(row.energy if row else 1, abs=0.01)
    assert f"{len(report)} of 3 layers" in figure.axes[1].get_title()


def test_a_budget_out_of_reach_shows_the_cheapest():
    figure, arrays = plots.layers(plots.OURS, "parameters", 0.001)
    assert "out of reach" in figure.get_suptitle()
    assert "out of reach" not in plots.layers(plots.OURS, "parameters", 0.5).figure.get_suptitle()
    assert 0.001 < arrays["left"][0] < 0.1 and (arrays["after"] < arrays["before"]).all()


def test_each_or_all_counts_the_networks_in_its_title():
    figure, arrays = plots.each_or_all(share=0.7, seeds=(0, 1), clips=20)
    better = int((arrays["each"] < arrays["all"]).sum())
    assert f"better in {better} of 2" in figure.axes[0].get_title()
    assert (arrays["before"] < arrays["each"]).all() and (arrays["before"] < arrays["all"]).all()


def test_times_are_in_milliseconds():
    figure, arrays = plots.times({"": Seconds(0.1, 0.2, 0.3), "conv1": Seconds(0.01, 0.02, 0.03)})
    assert arrays["milliseconds"].tolist() == [[100, 200, 300], [10, 20, 30]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["whole network", "conv1"]


def test_race_draws_what_was_measured():
    arrays = plots.race(("molecule",)).arrays
    found = list(filters.measured("molecule").values())
    kept = arrays["molecule, joint"][4, 2]
    assert kept[1] == pytest.approx(filters.in_all(found, lambda one: one["joint"][4][2]))
    full = sum(np.prod(one["shape"]) for one in found)
    assert kept[0] == pytest.approx(sum(filters.joint_parameters(one["shape"], 5, 3) for one in found) / full)
    assert (np.diff(arrays["molecule, family"]) >= 0).all()


def test_along_axes_takes_cubes_alone():
    arrays = plots.along_axes(("face", "actions")).arrays
    found = [one for one in filters.measured("actions").values() if one["shape"][2] == 3]
    assert len(found) == len(tempo.SEEDS)  # conv3 of each
    assert arrays["kept"][1, 2] == pytest.approx(filters.in_all(found, lambda one: one["along"][2][1]))


@pytest.mark.parametrize("task", recovery.TASKS)
def test_recovered_draws_every_seed_and_the_interval_of_its_mean(task):
    figure, arrays = plots.recovered()
    ways = ("before", *recovery.WAYS)
    assert [name for name in arrays if name.startswith(task)] == [
        f"{task}, {way}{what}" for way in ways for what in ("", ", mean and interval")
    ]
    title = figure.axes[list(recovery.TASKS).index(task)].get_title()
    for way in ways:
        values = np.array(recovery.scores(task, way))
        assert arrays[f"{task}, {way}"].tolist() == values.tolist()
        mean, low, high = arrays[f"{task}, {way}, mean and interval"]
        scaled = np.log(values) if task == "digits" else values
        half = 4.302653 * scaled.std(ddof=1) / 3**0.5  # Student's t for three seeds
        ends = scaled.mean() + np.array([0, -half, half])
        assert [mean, low, high] == pytest.approx(np.exp(ends) if task == "digits" else ends)
    before, converted, distilled = (np.array(recovery.scores(task, way)) for way in ("before", "converted", "distilled"))
    assert f"{((converted - distilled) / (converted - before)).min():.0%}" in title
