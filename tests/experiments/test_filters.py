import json

import pytest
import torch

from stdcf_lib.capacity import nearest_rank1
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.experiments import filters
from stdcf_lib.experiments.filters import at_c_out, family_at, in_all, measure, measured, race


@pytest.fixture(scope="module")
def layer():
    w = torch.randn(6, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return w, measure(w)


def test_a_layer_is_measured_as_the_library_does_it(layer):
    w, found = layer
    assert found["shape"] == [6, 4, 3, 3, 3] and found["norm"] == pytest.approx(float(w.square().sum()))
    assert found["joint"][4][2] == pytest.approx(joint_decomposition(w, 5, 3).energy, abs=1e-5)
    alpha = w.flatten(3).transpose(2, 3).double()
    for middle in (1, 6, 17):
        assert found["family"][middle - 1] == pytest.approx(1 - nearest_rank1(alpha, middle).error ** 2, abs=1e-5)
    assert found["along"][0] == pytest.approx([found["joint"][8][n] for n in range(3)], abs=1e-5)
    assert at_c_out(found) == found["family"][5]


def test_separable_is_the_best_of_every_pair(layer):
    w, found = layer
    kept = sum(
        joint_decomposition(w[o : o + 1, c : c + 1], 1, 1).energy * w[o, c].square().sum() for o in range(6) for c in range(4)
    )
    assert found["separable"] == pytest.approx(float(kept) / found["norm"], abs=1e-4)


def test_filters_of_a_family_are_kept_whole_by_it():
    m, n = torch.randn(2, 4, 9, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    w = torch.einsum("zcu,ozt->octu", m, n).view(6, 4, 3, 3, 3)
    assert measure(w)["family"][1] == pytest.approx(1)
    joint = torch.einsum("ocmn,mu,nt->octu", torch.randn(6, 4, 2, 2), torch.randn(2, 9), torch.randn(2, 3)).view(6, 4, 3, 3, 3)
    assert measure(joint)["joint"][1][1] == pytest.approx(1, abs=1e-5)


def test_the_race_is_at_equal_parameters(layer):
    _, found = layer
    each = 4 * 9 + 6 * 3
    assert filters.family_parameters(found["shape"]) == each
    assert family_at(found, 3 * each) == found["family"][2] and family_at(found, 0) == 0
    assert found["family"][2] < family_at(found, 3.5 * each) < found["family"][3]
    parameters = 6 * 4 * 15 + 45 + 9
    assert race(found) == (found["joint"][4][2], family_at(found, parameters))


def test_all_layers_together_weigh_by_their_filters():
    layers = [{"norm": 1.0, "x": 0.0}, {"norm": 3.0, "x": 1.0}]
    assert in_all(layers, lambda layer: layer["x"]) == 0.75


@pytest.mark.parametrize("name", filters.NETWORKS)
def test_kept_measurements_name_source_and_licence_and_hold_no_weights(name):
    kept = json.loads((filters.runs_folder() / "filters" / f"{name}.json").read_text())
    network = filters.NETWORKS[name]
    assert kept["about"] == {"title": network.title, "source": network.source, "licence": network.licence}
    for layer in kept["layers"].values():
        assert sum(map(len, [layer["family"], *layer["joint"], *layer["along"]])) < 300
        assert layer["joint"][-1][-1] == pytest.approx(1, abs=1e-4)


def test_others_filters_give_what_is_kept(user_data):
    user_data("trained")
    filters_of = filters.trained_filters("molecule")
    assert list(filters_of) == list(measured("molecule"))
    name, w = next(iter(filters_of.items()))
    found = measure(w)
    assert found["separable"] == pytest.approx(measured("molecule")[name]["separable"], abs=1e-4)
    assert found["family"] == pytest.approx(measured("molecule")[name]["family"], abs=1e-4)


def test_our_own_filters_give_what_is_kept_and_missing_data_take_no_time(monkeypatch, tmp_path):
    ours = filters.trained_filters("digits")
    assert len(ours) == len(measured("digits")) == 25
    assert ours["deconv1, seed 0"].shape[:2] == (4, 8)  # output channels first
    monkeypatch.setenv("STDCF_DATA", str(tmp_path))
    monkeypatch.setattr(filters, "runs_folder", lambda: tmp_path)
    assert filters.minutes_missing("face") == 0 < filters.minutes_missing("digits")
