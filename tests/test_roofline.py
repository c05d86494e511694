"""What a machine allows at best: counts that agree with `measure.cost`, and times that are the slower of two."""

import pytest
import torch
from torch import nn

from stdcf_lib import Rank1Conv3d, STDCFConv3d, forms, roofline
from stdcf_lib.measure import cost
from stdcf_lib.roofline import FORMS, Rates, Step, bound, measured, rates, steps


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(("atoms", "count"), [(5, 3), (4, 2), (1, 1)])
def test_multiplications_are_those_that_cost_counts(channels, atoms, count):
    options = {"kernel_size": 3, "padding": 1, "bias": False}
    joint = STDCFConv3d(channels, channels, **options, spatial_atoms=atoms, temporal_atoms=count, evaluation="atoms")
    layers = {
        "Conv3d": nn.Conv3d(channels, channels, **options),
        "STDCF, three layers": joint,
        "rank-1": Rank1Conv3d(channels, channels, **options),
    }
    for form, layer in layers.items():
        found = sum(step.macs for step in steps(form, channels, 10, atoms, count, clips=2))
        assert found == cost(layer, (2, channels, roofline.FRAMES, 10, 10)).macs, form
    assert steps("STDCF, filters", channels, 10) == steps("STDCF, filters", channels, 10, 5, 3, clips=1)
    rebuild, convolution = steps("STDCF, filters", channels, 10, atoms, count, clips=2)
    assert [convolution] == steps("Conv3d", channels, 10, clips=2) and rebuild.macs == 27 * atoms * count * channels**2


def test_bytes_are_those_of_the_maps_and_filters_that_pass_through_the_memory():
    map, filters = 4 * 2 * 10 * 10 * roofline.FRAMES * 3, 4 * 27 * 3 * 3
    moved = {form: [step.moved for step in steps(form, 3, 10, 5, 3, clips=2)] for form in FORMS}
    assert moved == {
        "Conv3d": [2 * map + filters],
        "STDCF, filters": [4 * (27 + 15) * 9, 2 * map + filters],
        "STDCF, three layers": [4 * map, 18 * map, 16 * map],
        "STDCF, in tiles": [map, 3 * map, 4 * map],
        "rank-1": [2 * map, 2 * map],
    }


def test_in_tiles_a_matrix_product_is_most_of_it_and_the_third_atom_is_free_in_it():
    two, three = (steps("STDCF, in tiles", 256, 14, 5, count, clips=2) for count in (2, 3))
    assert two[1].macs == three[1].macs > 0.9 * sum(step.macs for step in two)
    a_value = 256 * 2 * roofline.FRAMES * 14**2
    assert [step.macs * 4 for step in (two[0], two[2])] == [(9 * 5 * 6 + 6 * 4 + 2) * a_value, 4 * 6 * a_value]
    one = steps("STDCF, in tiles", 256, 14, 5, 1, clips=2)
    assert [step.macs for step in (one[0], one[2])] == [9 * 5 * a_value, 3 * a_value]
    assert 3 * one[1].macs == 2 * two[1].macs


@pytest.mark.parametrize(
    ("channels", "size", "count", "products"),
    [(256, 14, 2, 1.5), (256, 14, 3, 1.5), (512, 7, 3, 2), (512, 7, 2, 2), (64, 16, 2, 2), (64, 16, 3, 3), (64, 16, 1, 1)],
)
def test_products_of_tiles_are_those_that_the_layer_takes(channels, size, count, products, monkeypatch):
    """F(4, 3) where there is much to do; F(2, 3) with few voxels; or the direct sum."""
    _, product, _ = steps("STDCF, in tiles", channels, size, 5, count)
    voxels = roofline.FRAMES * size**2
    assert product.macs == products * 5 * channels**2 * voxels
    taken, add = [], forms._add

    def seen(y, x, kernel, *arguments):
        if kernel.shape[2:3] == (5,) and kernel.dim() == 4:  # those of α span the maps of the M atoms
            taken.append(y[..., 0].numel() * y.shape[-1])
        return add(y, x, kernel, *arguments)

    monkeypatch.setattr(forms, "_add", seen)
    layer = STDCFConv3d(channels, channels, 3, padding=1, bias=False, temporal_atoms=count, evaluation="atoms")
    with torch.no_grad():
        layer(torch.rand(1, channels, roofline.FRAMES, size, size))
    assert sum(taken) == products * voxels * channels


def test_a_step_takes_as_long_as_the_slower_of_two():
    machine = Rates(macs=100.0, moved=10.0)
    hungry, busy = Step("a", 100, 50), Step("b", 300, 20)
    assert hungry.seconds(machine) == 5.0 and hungry.waits(machine)
    assert busy.seconds(machine) == 3.0 and not busy.waits(machine)
    assert bound([hungry, busy], machine) == 8.0


def test_this_machine_has_rates_and_every_form_runs_on_it():
    assert min(rates()) > 0 and rates() is rates()
    assert all(measured(form, 4, 8) > 0 for form in FORMS)


def test_each_form_is_measured_by_itself(monkeypatch):
    """The three layers are Eq. 2 as written, not what "atoms" makes of them."""
    seen = []
    monkeypatch.setattr(roofline.forms, "by_layers", lambda x, **_: seen.append("layers") or x)
    monkeypatch.setattr(roofline.forms, "by_atoms", lambda x, *_: seen.append("tiles") or x)
    monkeypatch.setattr(roofline.forms, "filters", lambda *_, **__: seen.append("filters") or torch.zeros(4, 4, 3, 3, 3))
    for form in FORMS:
        measured(form, 4, 8)
        assert set(seen) == {
            "STDCF, three layers": {"layers"}, "STDCF, in tiles": {"tiles"}, "STDCF, filters": {"filters"},
        }.get(form, set()), form  # fmt: skip
        seen.clear()


def test_what_is_timed_is_a_layer_that_keeps_the_size_of_its_clips(monkeypatch):
    shapes = []
    monkeypatch.setattr(roofline, "_timed", lambda way, _: shapes.append(tuple(way().shape)) or [2.0])
    assert [measured(form, 4, 9, clips=2) for form in FORMS] == [2.0] * len(FORMS)
    assert set(shapes) == {(2, 4, roofline.FRAMES, 9, 9)} and len(shapes) == 2 * len(FORMS)
    shapes.clear()
    assert roofline._fastest(4, 3, 10) == 4 * 4 * 27 * 8 * 10 * 10 / 2
    assert shapes == [(1, 4, 8, 10, 10)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv", 4, 8), "form='conv': choose 'Conv3d', 'STDCF, filters'"),
        (("Conv3d", 0, 8), "channels=0: give an integer of at least 1"),
        (("rank-1", 4, 8.5), "size=8.5"),
    ],
)
def test_bad_numbers_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        steps(*arguments)
