"""The explorables as Python objects: the state, the tie to a layer, what a notebook stores, and what is made of it."""

import json
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

from stdcf_lib import STDCFConv3d, explorables
from stdcf_lib.data.probes import moving_bar
from stdcf_lib.explorables.base import MIME, WIDGET

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
    assert set(once) - {WIDGET} == set(kept)
    assert "0x" not in once["text/plain"]
    assert once[MIME]["name"] == name
    numbers = json.dumps(once[MIME]["state"])
    assert json.loads(numbers) == once[MIME]["state"] and len(numbers) < 10_000
    assert "-0.0," not in numbers


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


def test_rank_of_a_layer_is_tied_to_it(layer):
    view = explorables.Rank(layer)
    view.alpha = np.zeros(layer.alpha.shape).tolist()
    assert not layer.alpha.any()


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


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda layer: explorables.Filter(plain), TypeError, "layer is Conv3d; give an STDCFConv3d"),
        (lambda layer: explorables.Filter(layer, output=2), ValueError, "output=2"),
        (lambda layer: explorables.Filter(layer, speed=9), ValueError, "speed=9"),
        (lambda layer: explorables.Filter(layer, direction=7), ValueError, "direction=7"),
        (lambda layer: explorables.Filter(layer, probe="dot"), ValueError, "probe='dot': choose 'grating' or 'bar'"),
        (lambda layer: explorables.Filter(STDCFConv3d(1, 1, 11)), ValueError, "11 frames: there is room to show up to 7"),
        (lambda layer: explorables.Voxel(layer, torch.rand(8, 9, 9)), ValueError, r"clip is \(8, 9, 9\); give a tensor"),
        (lambda layer: explorables.Voxel(layer, moving_bar(2, 12)), ValueError, "smaller than the filter"),
        (lambda layer: explorables.Voxel(layer, moving_bar(8, 12), y=10), ValueError, "y=10: give an integer from 0 to 9"),
        (lambda layer: explorables.Rank({}), ValueError, "alpha is dict; give an array of numbers"),
        (lambda layer: explorables.Rank(np.zeros((9, 9, 5, 3))), ValueError, "27 by 45: there is room"),
        (lambda layer: explorables.Rank(np.zeros((2, 2, 3, 2)), middle=5), ValueError, "middle=5: give an integer from 1 to 4"),
    ],
)
def test_bad_input_is_named(layer, wrong, error, words):
    with pytest.raises(error, match=words):
        wrong(layer)
