"""The explorables as Python objects: the state, the tie to a layer, what a notebook stores, and what is made of it."""

import gc
import json
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

from stdcf_lib import STDCFConv3d, explorables
from stdcf_lib.data.probes import moving_bar
from stdcf_lib.explorables import base
from stdcf_lib.explorables.base import MIME, WIDGET
from stdcf_lib.plots.style import SIGNED

plain: Any = torch.nn.Conv3d(1, 1, 3)
NAMES = ["voxel", "filter", "rank"]


def bundle(view):
    data, *_ = view._repr_mimebundle_()
    return data


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_stores_the_same_bytes_each_time_and_no_script(make, name):
    once, again = (bundle(make[name]()) for _ in range(2))
    kept = ["text/plain", "image/png", MIME]
    assert [once[mime] for mime in kept] == [again[mime] for mime in kept]
    assert set(once) == {WIDGET, *kept}
    assert "0x" not in once["text/plain"]
    assert once[MIME]["name"] == name
    numbers = json.dumps(once[MIME]["state"])
    assert json.loads(numbers) == once[MIME]["state"] and len(numbers) < 10_000
    assert "-0.0," not in numbers


@pytest.mark.parametrize("name", NAMES)
def test_all_traits_are_in_the_state_and_in_the_page(make, name):
    view = make[name]()
    declared = {trait for trait in getattr(explorables, name.title()).class_own_traits() if not trait.startswith("_")}
    assert declared == view.state.keys() <= {*view.keys}


@pytest.mark.parametrize(
    ("name", "trait", "value"),
    [
        ("voxel", "x", 1),
        ("filter", "speed", 2.0),
        ("filter", "wavelength", 6.0),
        ("filter", "dilation", 2),
        ("rank", "middle", 1),
    ],
)
def test_another_state_gives_another_picture(make, name, trait, value):
    view = make[name]()
    before = bundle(view)["image/png"]
    view.set_trait(trait, value)
    assert bundle(view)["image/png"] != before


def test_dilation_times_speed_over_tempo_is_what_a_filter_sees(layer):
    alike: list[Any] = [{"speed": 1.5}, {"speed": 0.75, "dilation": 2}, {"speed": 3.0, "tempo": 2.0}]
    first, *others = (explorables.Filter(layer, **seen).drawing().arrays for seen in alike)
    assert all(np.array_equal(first[name], other[name]) for other in others for name in first)


def test_the_layer_and_the_view_follow_each_other(layer):
    view = explorables.Filter(layer, output=1)
    before = layer.alpha.detach().clone()
    alpha = [row.copy() for row in view.alpha]
    alpha[2][1] = 0.5
    view.alpha = alpha
    assert layer.alpha[1, 0, 2, 1] == 0.5
    changed = (layer.alpha != before).nonzero().tolist()
    assert changed == [[1, 0, 2, 1]]  # the others keep all their decimals
    with torch.no_grad():
        layer.psi[0, 0, 0] = -0.25
    view.refresh()
    assert view.psi[0][0][0] == -0.25
    with pytest.raises(ValueError, match="layer's is"):
        view.alpha = [[1.0]]


def test_the_view_follows_after_every_cell_as_long_as_there_is_one(layer, monkeypatch):
    after = {}
    monkeypatch.setattr(base, "get_ipython", lambda: SimpleNamespace(events=SimpleNamespace(register=after.__setitem__)))
    view = explorables.Filter(layer)
    with torch.no_grad():
        layer.psi[0, 0, 0] = -0.25
    after["post_run_cell"]()
    assert view.psi[0][0][0] == -0.25
    view.close()
    del view
    gc.collect()
    after["post_run_cell"]()


def test_four_digits_are_enough_for_a_page():
    assert base.rounded([[1.23456, -0.00001]]) == [[1.2346, 0.0]]


def test_the_largest_filter_that_there_is_room_for_is_shown():
    layer = STDCFConv3d(1, 1, (7, 9, 9), spatial_atoms=6, temporal_atoms=5)
    assert np.shape(explorables.Filter(layer).psi) == (6, 9, 9)
    assert np.shape(explorables.Rank(np.zeros((8, 3, 3, 3))).alpha) == (8, 3, 3, 3)  # 9 by 24


@pytest.mark.parametrize(
    ("view", "trait", "least", "most"),
    [
        ("filter", "speed", 0, 3),
        ("filter", "wavelength", 4, 16),
        ("filter", "direction", 0, 355),
        ("filter", "tempo", 1, 3),
        ("filter", "dilation", 1, 3),
        ("rank", "middle", 1, 5),
        ("rank", "gauge", -1.5, 1.5),
        ("voxel", "t", 0, 5),
        ("voxel", "y", 0, 9),
        ("voxel", "x", 0, 9),
    ],
)
def test_what_a_trait_may_be_has_bounds_and_they_are_included(layer, view, trait, least, most):
    make = {
        "filter": lambda **value: explorables.Filter(layer, **value),
        "rank": lambda **value: explorables.Rank(layer.alpha, **value),
        "voxel": lambda **value: explorables.Voxel(layer, moving_bar(8, 12), **value),
    }[view]
    assert [getattr(make(**{trait: value}), trait) for value in (least, most)] == [least, most]
    step = 1 if isinstance(most, int) else 0.1
    for value in (least - step, most + step):
        with pytest.raises(ValueError, match=f"{trait}={value}: give"):
            make(**{trait: value})


def test_a_voxel_of_a_layer_is_tied_to_it(layer):
    view = explorables.Voxel(layer, moving_bar(8, 12))
    view.alpha = np.zeros(layer.alpha.shape[2:]).tolist()
    assert not layer.alpha[0, 0].any() and layer.alpha[1, 0].any()


def test_rank_of_a_layer_is_tied_to_it(layer):
    view = explorables.Rank(layer)
    assert (view.middle, view.gauge) == (1, 0)
    view.alpha = np.zeros(layer.alpha.shape).tolist()
    assert not layer.alpha.any()


def test_the_page_has_the_colours_of_the_house():
    signed = base.COLOURS["signed"]
    assert [signed[place] for place in (0, 16, 32)] == [to_hex(SIGNED(place)) for place in (0.0, 0.5, 1.0)]


def test_a_page_is_the_same_in_whatever_order_its_state_comes():
    assert base.page("rank", {"a": 1, "b": 2}, "Rank") == base.page("rank", {"b": 2, "a": 1}, "Rank")


@pytest.mark.parametrize("text", ["x = '</SCRIPT>'", "x = '<!--'"])
def test_a_module_that_would_end_its_script_element_is_refused(tmp_path, monkeypatch, text):
    for name, content in {"common": "", "good": "x = 1", "bad": text}.items():
        (tmp_path / f"{name}.js").write_text(content)
    monkeypatch.setattr(base, "FOLDER", tmp_path)
    assert base.module("good").endswith("x = 1")
    with pytest.raises(ValueError, match=r"bad\.js would end the script element"):
        base.module("bad")


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_comes_to_life_in_nbconvert(make, name):
    data = bundle(make[name]())
    cell = new_code_cell("view", outputs=[new_output("execute_result", data=data, execution_count=1)])
    notebook = new_notebook(cells=[cell])
    still, _ = HTMLExporter().from_notebook_node(nbformat.from_dict(notebook))
    assert "<iframe" not in still and "image/png" in still  # without the preprocessor: the picture
    exporter = HTMLExporter(preprocessors=["stdcf_lib.explorables.bring_to_life"])
    html, _ = exporter.from_notebook_node(nbformat.from_dict(notebook))
    assert html.count("<iframe") == 1 and "srcdoc=" in html
    base.bring_to_life(notebook)
    assert set(cell.outputs[0].data) == {"text/plain", "image/png", "text/html"}  # a widget without its kernel shows nothing


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda layer: explorables.Filter(plain), TypeError, "layer is Conv3d; give an STDCFConv3d"),
        (lambda layer: explorables.Filter(layer, output=2), ValueError, "output=2"),
        (lambda layer: explorables.Filter(layer, input=1), ValueError, "input=1: give an integer from 0 to 0"),
        (lambda layer: explorables.Filter(layer, direction=7), ValueError, "direction=7"),
        (lambda layer: explorables.Filter(layer, probe="dot"), ValueError, "probe='dot': choose 'grating' or 'bar'"),
        *[
            (
                lambda layer, made=made: explorables.Filter(STDCFConv3d(1, 1, **made)),
                ValueError,
                f"{has}: there is room to show",
            )
            for made, has in [
                ({"kernel_size": (8, 3, 3)}, "8 frames"),
                ({"kernel_size": (3, 10, 3)}, "10 rows"),
                ({"kernel_size": (3, 3, 10)}, "10 columns"),
                ({"kernel_size": 3, "spatial_atoms": 7, "atoms": "dct"}, "7 spatial atoms"),
                ({"kernel_size": (7, 3, 3), "temporal_atoms": 6}, "6 temporal atoms"),
            ]
        ],
        (lambda layer: explorables.Voxel(layer, torch.rand(8, 9, 9)), ValueError, r"clip is \(8, 9, 9\); give a tensor"),
        (lambda layer: explorables.Voxel(layer, moving_bar(2, 12)), ValueError, "smaller than the filter"),
        (lambda layer: explorables.Voxel(layer, moving_bar(3, 3), t=1), ValueError, "t=1: give an integer from 0 to 0"),
        (lambda layer: explorables.Voxel(layer, moving_bar(8, 12), y=10), ValueError, "y=10: give an integer from 0 to 9"),
        (lambda layer: explorables.Rank({}), ValueError, "alpha is dict; give an array of numbers"),
        (lambda layer: explorables.Rank(np.zeros((9, 9, 5, 3))), ValueError, "27 by 45: there is room"),
        (lambda layer: explorables.Rank(np.zeros((13, 3, 3, 2))), ValueError, "9 by 26: there is room"),
        (lambda layer: explorables.Rank(np.zeros((5, 5, 2, 2))), ValueError, "10 by 10: there is room"),
        (lambda layer: explorables.Rank(np.zeros((2, 2, 3, 2)), middle=5), ValueError, "middle=5: give an integer from 1 to 4"),
    ],
)
def test_bad_input_is_named(layer, wrong, error, words):
    with pytest.raises(error, match=words):
        wrong(layer)
