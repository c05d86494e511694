"""The forms of a convolution: all the same numbers, whichever way they take, and the right one chosen."""

import copy
import math
import pickle
import threading
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from stdcf_lib import STDCFConv3d, STDCFConvTranspose3d, forms
from stdcf_lib.forms import Way
from stdcf_lib.rank1 import FullConv3d, Rank1Conv3d

# Called with lists of tensors, whose lengths a type checker does not know.
by_atoms: Any = forms.by_atoms
by_atoms_transposed: Any = forms.by_atoms_transposed
quick: Any = forms.quick
quicker: Any = forms.quicker
LAST = torch.channels_last_3d
ONE = (1, 1, 1)
# Name: way, M, N, kernel, frames
CASES = {
    "few temporal atoms": (Way(ONE, ONE, ONE), 5, 2, (3, 3, 3), 6),
    "Winograd": (Way(ONE, ONE, ONE), 5, 3, (3, 3, 3), 6),
    "Winograd, more atoms than frames": (Way(ONE, ONE, ONE), 4, 4, (3, 3, 3), 6),
    "Winograd, four frames at a time": (Way(ONE, ONE, ONE), 5, 2, (3, 3, 3), 8),
    "Winograd, a single window": (Way((1, 2, 1), ONE, ONE), 5, 3, (3, 3, 3), 4),
    "odd frames": (Way(ONE, ONE, ONE), 5, 3, (3, 3, 3), 5),
    "Winograd, dilated": (Way(ONE, (3, 1, 1), (3, 1, 1)), 5, 3, (3, 3, 3), 12),
    "dilated": (Way(ONE, (2, 2, 2), (2, 2, 2)), 5, 2, (3, 3, 3), 8),
    "dilated, not into whole sequences": (Way(ONE, (2, 1, 1), (2, 1, 1)), 5, 2, (3, 3, 3), 7),
    "strided in space": (Way((1, 2, 2), ONE, ONE), 5, 3, (3, 3, 3), 6),
    "strided in time": (Way((2, 1, 1), ONE, ONE), 5, 2, (3, 3, 3), 6),
    "strided everywhere": (Way((2, 2, 3), ONE, ONE), 4, 3, (3, 3, 3), 7),
    "strided and dilated": (Way((1, 2, 3), (1, 2, 2), (1, 2, 2)), 5, 2, (3, 3, 3), 6),
    "strides beyond the kernel": (Way((1, 3, 2), (1, 0, 0), ONE), 3, 2, (3, 2, 1), 6),
    "no padding": (Way(ONE, (0, 0, 0), ONE), 3, 2, (3, 3, 3), 6),
    "long kernel": (Way((1, 2, 2), (2, 3, 3), ONE), 6, 3, (5, 7, 7), 6),
    "uneven": (Way((1, 2, 1), (1, 0, 1), (1, 1, 2)), 5, 3, (3, 3, 3), 6),
    "a single frame": (Way(ONE, (0, 1, 1), ONE), 5, 1, (1, 3, 3), 4),
    "one atom of each": (Way(ONE, ONE, ONE), 1, 1, (3, 3, 3), 4),
}


def drawn(case, dtype=torch.float64, transposed=False, frames=None) -> Any:
    """x, α, ψ, φ, bias that train, for a case of `CASES`."""
    way, m, n, (kt, kh, kw), count = CASES[case]
    generator = torch.Generator().manual_seed(0)
    channels = 4 if transposed else 3
    shapes = [(2, channels, frames or count, 9, 8), (4, 3, m, n), (m, kh, kw), (n, kt), (3 if transposed else 4,)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes], way


def with_gradients(y: Any, inputs: Any) -> Any:
    gradient = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    learned = [one for one in inputs if one.requires_grad]
    return y, *(torch.autograd.grad(y, learned, gradient) if learned else ())


@pytest.fixture(params=[True, False], ids=["in place", "public"])
def way_of_adding(request, monkeypatch):
    """oneDNN's operator that adds in place is private, and may not be there; and F(4, 3) is for larger layers than these."""
    monkeypatch.setattr(forms, "_ONEDNN", request.param and forms._ONEDNN)
    for bound in ("MUCH", "MANY_CHANNELS", "MANY_VOXELS"):
        monkeypatch.setattr(forms, bound, 0)


@pytest.fixture(params=["maps", "kept", "filters"])
def teacher(request, monkeypatch):
    """What parameters learn from, where they can; with as few channels as these it would always be the filters."""
    costs = {"maps": (0, 1, 2), "kept": (1, 0, 2), "filters": (1, 1, 0)}[request.param]
    real = forms._learning

    def learning(*layer: Any) -> list[float]:
        return [found if found == math.inf else cost for cost, found in zip(costs, real(*layer), strict=True)]

    monkeypatch.setattr(forms, "_learning", learning)
    return request.param


@pytest.mark.parametrize(
    ("tile", "teacher"),
    [(1, "maps"), (4000, "maps"), (1 << 30, "maps"), (4000, "kept"), (4000, "filters")],
    ids=["a frame", "some frames", "all clips", "from maps that were kept", "from filters"],
    indirect=["teacher"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_atoms_are_the_convolution_with_the_filters(monkeypatch, way_of_adding, teacher, case, dtype, tolerance, tile):
    monkeypatch.setattr(forms, "TILE", tile)
    (x, *parameters, bias), way = drawn(case, dtype)
    assert quick(x, *parameters, way)
    for frozen in (None, 0, 1, 2):  # each of α, ψ, φ
        for number, parameter in enumerate(parameters):
            parameter.requires_grad_(number != frozen)
        inputs = [x, *parameters, bias]
        found = with_gradients(by_atoms(x, *parameters, bias, way), inputs)
        expected = with_gradients(F.conv3d(x, forms.filters(*parameters), bias, *way), inputs)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1, other.detach().abs().max().item()))


@pytest.mark.parametrize("clips", [1, 2, 3])
@pytest.mark.parametrize("teacher", ["filters"], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_filters_learn_from_frames_where_clips_are_too_few_for_the_threads(monkeypatch, teacher, case, clips):
    """And from one clip of few channels in any case, as a whole would take several times as long."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    (x, *parameters, bias), way = drawn(case)
    x = torch.cat([x, x.flip(1)])[:clips].detach().requires_grad_()
    seen, original = [], forms._gradient
    monkeypatch.setattr(forms, "_gradient", lambda *a: [seen.append(a[0].dim()), original(*a)][1])
    inputs = [x, *parameters, bias]
    found = with_gradients(by_atoms(x, *parameters, bias, way), inputs)
    assert set(seen) == ({4} if clips < 3 else {5})
    expected = with_gradients(F.conv3d(x, forms.filters(*parameters), bias, *way), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(
    ("frames", "count", "voxels", "channels", "expected"),
    [
        (8, 2, 12_208, (64, 64), 4),
        (8, 3, 12_208, (64, 64), 4),
        (8, 2, 12_207, (64, 64), 0),
        (8, 3, 12_207, (64, 64), 0),
        (8, 3, 12_208, (64, 63), 0),
        (8, 3, 13_000, (64, 63), 2),
        (8, 2, 13_000, (63, 64), 0),
        (8, 2, 1024, (400, 256), 4),
        (8, 3, 1023, (256, 400), 2),
        (8, 2, 1023, (256, 400), 0),
        (6, 3, 25_000, (64, 64), 2),
        (6, 2, 25_000, (64, 64), 0),
        (7, 3, 25_000, (64, 64), 0),
        (8, 1, 25_000, (64, 64), 0),
    ],
)
def test_winograd_takes_as_many_frames_as_pay(frames, count, voxels, channels, expected):
    alpha, phi = torch.zeros(*channels, 5, count), torch.zeros(count, 3)
    assert forms.winograd_frames(voxels, alpha, phi, frames, Way(ONE, ONE, ONE), torch.float32) == expected
    assert forms.winograd_frames(voxels, alpha, phi, frames, Way(ONE, ONE, ONE), torch.bfloat16) == 0
    for way in (Way((2, 1, 1), ONE, ONE), Way(ONE, (0, 1, 1), ONE), Way(ONE, ONE, (2, 1, 1))):
        assert forms.winograd_frames(voxels, alpha, phi, frames, way, torch.float32) == 0
    twice = Way(ONE, (2, 1, 1), (2, 1, 1))
    assert forms.winograd_frames(voxels, alpha, phi, 2 * frames, twice, torch.float32) == expected


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_is_a_convolution_along_time(m):
    """y = Aᵀ [(G w) ⊙ (Bᵀ x)], for all x and w as it is linear in both."""
    data, filters, out = (torch.tensor(table, dtype=torch.float64) for table in forms._WINOGRAD[m])
    found = torch.einsum("pi,iw,ix->pwx", out, filters, data)
    for frame, tap in product(range(m), range(3)):
        assert torch.allclose(found[frame, tap], torch.eye(m + 2, dtype=torch.float64)[frame + tap], atol=1e-15)


def test_winograd_costs_less_than_a_digit():
    torch.manual_seed(0)
    one = STDCFConv3d(64, 64, 3, padding=1).eval().requires_grad_(False)
    x = torch.randn(1, 64, 8, 12, 12)
    exact = F.conv3d(x.double(), copy.deepcopy(one).double().filters(), padding=1)
    errors = []
    for one.evaluation in ("atoms", "filters"):
        errors.append(float((one(x) - exact).norm() / exact.norm()))
    assert errors[0] < 3e-6 and errors[0] < 10 * errors[1], errors


@pytest.mark.parametrize("case", ["few temporal atoms", "Winograd"])
def test_a_single_output_has_its_bias(case):
    (x, alpha, psi, phi, bias), way = drawn(case)
    alpha, bias = alpha.detach()[:1], bias.detach()[:1]
    found, expected = by_atoms(x, alpha, psi, phi, bias, way), F.conv3d(x, forms.filters(alpha, psi, phi), bias, *way)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("case", [name for name, (way, *_) in CASES.items() if name != "long kernel"])
def test_the_transpose_is_what_the_convolution_does_backwards(way_of_adding, teacher, case):
    (x, *parameters, bias), way = drawn(case, transposed=True)
    for extra in {(0, 0, 0), tuple(s - 1 for s in way.stride)}:
        inputs = [x, *parameters, bias]
        expected = F.conv_transpose3d(x, forms.filters(*parameters), bias, way.stride, way.padding, extra, 1, way.dilation)
        found = by_atoms_transposed(*inputs, way, extra)
        for one, other in zip(with_gradients(found, inputs), with_gradients(expected, inputs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "size", "count", "learns", "stride", "expected"),
    [
        (64, 16, 2, "αψφ", 1, "filters"),
        (128, 16, 2, "αψφ", 1, "filters"),
        (256, 16, 2, "αψφ", 1, "maps"),
        (64, 16, 2, "α", 1, "filters"),
        (192, 16, 2, "α", 1, "maps"),
        (48, 16, 3, "ψ", 1, "filters"),
        (64, 16, 2, "α", (2, 1, 1), "filters"),
        (256, 16, 3, "αφ", (1, 2, 2), "maps"),
        (256, 5, 2, "αψφ", 1, "maps"),
    ],
)
def test_parameters_learn_from_what_takes_less(monkeypatch, channels, size, count, learns, stride, expected):
    """The gradient of the filters belongs to all channels, that of the maps to groups of one or to a product."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for bound in ("MUCH", "MANY_CHANNELS", "MANY_VOXELS"):
        monkeypatch.setattr(forms, bound, 0)
    one = STDCFConv3d(channels, channels, 3, stride, 1, bias=False, temporal_atoms=count, evaluation="atoms")
    for name, parameter in (("α", one.alpha), ("ψ", one.psi), ("φ", one.phi)):
        parameter.requires_grad_(name in learns)
    seen, original = set(), forms._gradient
    spied = lambda *a: [seen.add("maps" if a[-1:] == (channels,) else "filters"), original(*a)][1]  # noqa: E731
    monkeypatch.setattr(forms, "_gradient", spied)
    outer = forms._outer
    monkeypatch.setattr(forms, "_outer", lambda *a: [seen.add("maps"), outer(*a)][1])
    y = one(torch.randn(1, channels, 4, size, size))
    torch.autograd.grad(y.sum(), [p for p in one.parameters() if p.requires_grad])
    assert seen == {expected}


@pytest.mark.parametrize("learns", ["φ", "αφ", "ψφ", "αψφ", "αψ"])
@pytest.mark.parametrize("case", ["dilated", "strided in time", "strided in space", "odd frames"])
def test_phi_learns_from_the_maps_of_its_atoms_where_they_were_kept(monkeypatch, teacher, case, learns):
    """Where it has fewer atoms than frames; then no product is made for a third frame, and none at all for φ alone."""
    rows, outer = [], forms._outer
    monkeypatch.setattr(forms, "_outer", lambda *a: [rows.append(len(a[0])), outer(*a)][1])
    (x, *parameters, _), way = drawn(case)
    for name, parameter in zip("αψφ", parameters, strict=True):
        parameter.requires_grad_(name in learns)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: [kept.append(tensor.shape), tensor][1], lambda tensor: tensor):
        y = by_atoms(x, *parameters, None, way)
        with torch.no_grad():
            by_atoms(x, *parameters, None, way)
    maps = (len(x), x.shape[2], math.prod(y.shape[3:]), *parameters[2].shape[:1], len(parameters[0]))
    expected = teacher == "kept" and "φ" in learns and CASES[case][2] < 3
    assert kept == [tensor.shape for tensor in (x, *parameters)] + [maps] * expected
    inputs = [x, *parameters]
    reference = with_gradients(F.conv3d(x, forms.filters(*parameters), None, *way), inputs)
    for one, other in zip(with_gradients(y, inputs), reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)
    if expected:
        assert set(rows) == ({maps[3] * maps[4]} if "α" in learns else set())


@pytest.mark.parametrize(
    ("channels", "count", "learns", "winograd", "least"),
    [
        (512, 2, "αψφ", 0, "kept"),
        (512, 2, "φ", 0, "kept"),
        (512, 2, "αψ", 0, "maps"),
        (512, 3, "αψφ", 0, "maps"),
        (512, 2, "αψφ", 4, "maps"),
        (24, 2, "αψφ", 0, "filters"),
    ],
)
def test_maps_are_kept_where_that_saves_more_than_it_costs(monkeypatch, channels, count, learns, winograd, least):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    alpha, psi, phi = torch.empty(channels, channels, 5, count), torch.empty(5, 3, 3), torch.empty(count, 3)
    learn = [one in learns for one in "αψφ"]
    costs = forms._learning(alpha, psi, phi, Way(ONE, ONE, ONE), winograd, 784, learn)
    assert min(zip(costs, ("maps", "kept", "filters"), strict=True))[1] == least


class Operators(TorchDispatchMode):
    """The names of what torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func))
        return func(*args, **kwargs or {})


@pytest.mark.skipif(not forms._ONEDNN, reason="this torch has not oneDNN's operators")
@pytest.mark.parametrize(("dtype", "private"), [(torch.float32, True), (torch.float64, False)])
def test_products_are_onednns_where_it_has_them(monkeypatch, dtype, private):
    monkeypatch.setattr(forms, "_learning", lambda *_: (0.0, math.inf, 1.0))
    (x, *parameters, bias), way = drawn("dilated", dtype)
    with Operators() as torchs:
        by_atoms(x, *parameters, bias, way).sum().backward()
    products = {"mkldnn._linear_pointwise.default", "mkldnn._convolution_pointwise_.binary"}
    assert products & torchs.seen == (products if private else set())
    assert ("aten.addmm_.default" in torchs.seen) is not private


def test_a_phase_has_the_taps_that_fall_on_its_pixels():
    """Of 8 pixels, by 3 taps that reach one to each side: all at once, or by a stride of 2 with 1 tap and with 2."""
    assert forms._lines(8, 8, 3, 1, 1, 1) == [forms._Line(slice(0, None, 1), [2, 1, 0], 1, 1, 8, slice(0, 8))]
    even, odd = forms._lines(8, 4, 3, 2, 1, 1)
    assert even == forms._Line(slice(0, None, 2), [1], 1, 0, 4, slice(0, 4))
    assert odd == forms._Line(slice(1, None, 2), [2, 0], 1, 1, 5, slice(1, 5))
    assert [line.taps for line in forms._lines(7, 3, 1, 3, 0, 1)] == [[0], [], []]  # a stride that skips what no tap meets
    every_third = forms._lines(8, 4, 3, 2, 3, 3)  # taps that are 6 apart are 3 pixels of the maps
    assert [line.dilation for line in every_third] == [3, 3]


def test_without_a_stride_the_gradient_of_x_is_written_where_it_belongs(monkeypatch):
    names, buffer = set(), forms._buffer
    monkeypatch.setattr(forms, "_buffer", lambda name, *a: [names.add(name), buffer(name, *a)][1])
    for case, expected in (("Winograd", False), ("Winograd, a single window", True)):
        monkeypatch.setattr(forms, "MUCH", 0)
        (x, *parameters, bias), way = drawn(case)
        y = by_atoms(x, *parameters, bias, way)
        names.clear()
        torch.autograd.grad(y.sum(), x)
        assert ("G" in names) is expected


def test_tiles_are_counted_by_rows_and_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    voxels = 2 * 8 * 3136
    assert forms._tile_count(640, voxels, 0) == 4 * 640 * voxels / (2 * forms.TILE)
    assert forms._tile_count(640, voxels, 4) == 6 * 4 * 640 * voxels / 4 / (2 * forms.TILE)
    assert forms._tile_count(640, 100, 0) == 1 and forms._tile_count(640, 100, 2) == 4  # at least one for each row


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tiles_share_a_cache_that_grows_with_the_threads(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    frame = forms.TILE // 8  # bytes
    tiles = list(forms._tiles(1, 48, torch.zeros(()), frame // 4))
    assert tiles == [(0, 1, [(first, first + 8 * threads) for first in range(0, 48, 8 * threads)])]
    assert next(forms._tiles(5, 4, torch.zeros(()), frame // 4)) == (0, min(5, 2 * threads), [(0, 4)])


def test_filters_of_a_single_channel_do_not_have_it_last():
    x = torch.rand(2, 4, 5, 6, 1).movedim(-1, 1)
    assert x.stride(1) == 1 and STDCFConv3d(1, 4, 3)._filters_for(x).stride(1) == 27


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", [*product((1, 2), repeat=3)], ids=str)
@pytest.mark.parametrize("teacher", ["maps", "kept", "filters"], indirect=True)
def test_sizes_of_one_may_lie_in_any_order(teacher, kernel, transposed):
    """A tensor with an axis of one element has many strides that mean the same, and torch answers with any."""
    for outs, ins, clips, spare in product((1, 2), (1, 2), (1, 2), (0, 1)):
        shapes = [(clips, outs if transposed else ins, *(k + spare for k in kernel)), (outs, ins, 2, 1), (2, *kernel[1:])]
        generator, way = torch.Generator().manual_seed(0), Way(ONE, (0, 0, 0), ONE)
        inputs = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in [*shapes, (1, kernel[0])]]
        x, *parameters = [one.requires_grad_() for one in inputs]
        if transposed:
            y, expected = by_atoms_transposed(x, *parameters, None, way, (0, 0, 0)), F.conv_transpose3d
        else:
            y, expected = by_atoms(x, *parameters, None, way), F.conv3d
        found = with_gradients(y, inputs), with_gradients(expected(x, forms.filters(*parameters)), inputs)
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=[1, 2])
def threads(request):
    """Torch leaves a small convolution to oneDNN if it has several."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def in_both_forms_and_double(layer: Any, x: Any) -> None:
    """In single precision as in double, whichever the form, and whatever was in memory before."""
    exact = copy.deepcopy(layer).double()
    exact.evaluation = "filters"
    inputs = x.double().contiguous().requires_grad_(), *exact.parameters()
    expected = with_gradients(exact(inputs[0]), inputs)
    for form in ("filters", "atoms"):
        layer.evaluation = form
        for _ in range(3):
            for size in range(1, 4000, 7):  # what is allocated next finds this
                torch.full((size,), math.nan)
            inputs = x.clone(memory_format=torch.preserve_format).requires_grad_(), *layer.parameters()
            for one, other in zip(with_gradients(layer(inputs[0]), inputs), expected, strict=True):
                tolerance = 1e-4 * max(1.0, other.detach().abs().max().item())
                torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=tolerance, msg=form)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("one", "shape"),
    [
        (STDCFConv3d(1, 65, 3, (1, 1, 2), (2, 1, 0), spatial_atoms=1, temporal_atoms=1), (1, 1, 3, 14, 3)),
        (STDCFConv3d(1, 8, (5, 3, 3), (1, 1, 3), (1, 2, 1), (2, 2, 1), spatial_atoms=1), (5, 1, 9, 14, 3)),
        (STDCFConv3d(1, 96, (3, 5, 3), (1, 1, 3), (4, 4, 1), (4, 2, 1)), (2, 1, 12, 9, 3)),
        (STDCFConv3d(1, 1, (2, 3, 3), (2, 1, 3), (0, 1, 1)), (5, 1, 4, 3, 3)),
        (
            STDCFConvTranspose3d(40, 1, (2, 3, 2), (3, 2, 1), (1, 1, 0), (1, 0, 0), dilation=(2, 1, 1), atoms="dct"),
            (5, 40, 16, 23, 7),
        ),
        (STDCFConv3d(1, 40, (2, 3, 2), (3, 2, 1), (1, 1, 0), (2, 1, 1), atoms="dct"), (5, 1, 46, 45, 8)),
        (STDCFConv3d(1, 8, (1, 2, 5), (3, 2, 1), atoms="dct"), (5, 1, 23, 18, 45)),
        (STDCFConv3d(1, 4, (1, 1, 3), (3, 1, 1), (0, 0, 1), atoms="dct"), (3, 1, 41, 23, 25)),
    ],
    ids=str,
)
def test_a_single_channel_may_be_first_or_last(threads, way_of_adding, one, shape, last):
    """Torch gets some of these wrong by their own size where it takes the channel for the last."""
    clips, channels, *size = shape
    in_both_forms_and_double(one, torch.randn(clips, *size, channels).movedim(-1, 1) if last else torch.randn(shape))


@pytest.mark.parametrize("evaluation", ["filters", "atoms"])
@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"padding": "same"}, {"stride": 2, "padding": 1}, {"stride": (1, 1, 3)}], ids=str
)
@pytest.mark.parametrize("last", [False, True])
def test_grey_clips_with_channels_last_are_answered_in_kind(last, options, evaluation):
    """As `nn.Conv3d` does; otherwise a whole network would go on without, at half the speed."""
    x = torch.rand(2, 1, 6, 8, 10)
    x = x.to(memory_format=LAST) if last else x
    for layer in (torch.nn.Conv3d(1, 4, 3, **options), STDCFConv3d(1, 4, 3, **options, evaluation=evaluation)):
        y = layer(x)
        assert y.is_contiguous(memory_format=LAST if last else torch.contiguous_format), layer
        assert (y.stride(1) == 1) is last


@pytest.mark.parametrize(
    ("channels", "kernel", "options", "size"),
    [
        ((24, 65), (5, 2, 2), {"stride": (3, 1, 3), "padding": (4, 1, 0)}, (5, 7, 2)),
        ((2, 16), (5, 3, 2), {"stride": (3, 3, 1), "padding": (4, 0, 0)}, (6, 7, 2)),
        ((16, 16), (5, 2, 1), {"stride": (3, 2, 2), "padding": (4, 1, 0)}, (2, 1, 2)),
        ((1, 1), (5, 2, 1), {"stride": (2, 1, 1), "padding": (3, 0, 0)}, (4, 3, 4)),
        ((1, 1), (4, 1, 3), {"stride": (2, 1, 1), "padding": (3, 0, 3)}, (2, 1, 1)),
        ((16, 16), (3, 3, 3), {"padding": 1}, (1, 1, 1)),
        ((3, 8), (5, 5, 5), {"padding": "same"}, (2, 4, 1)),
        ((3, 8), (4, 4, 2), {"padding": "same"}, (2, 3, 1)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_kernels_beyond_what_they_see_learn_what_they_should(threads, channels, kernel, options, size):
    """There torch's own gradients are arbitrary, and some of them written where other things are."""
    torch.manual_seed(0)
    ins, outs = channels
    one = STDCFConv3d(ins, outs, kernel, **options, spatial_atoms=1, temporal_atoms=kernel[0])
    in_both_forms_and_double(one, torch.randn(3, ins, *size).contiguous(memory_format=LAST))


@pytest.mark.parametrize(
    ("channels", "kernel", "options", "size"),
    [
        ((16, 1), (5, 5, 3), {"stride": (1, 2, 1), "padding": (2, 2, 0)}, (3, 1, 3)),
        ((8, 1), (2, 3, 2), {"stride": (2, 3, 2), "padding": (0, 1, 0), "output_padding": (1, 1, 1)}, (2, 1, 2)),
        ((1, 3), (5, 3, 3), {"padding": (2, 0, 1)}, (1, 8, 1)),
    ],
    ids=str,
)
def test_transposed_kernels_beyond_what_they_make_learn_in_bfloat16(threads, channels, kernel, options, size):
    """There, too, torch's own gradients are arbitrary."""
    torch.manual_seed(0)
    ins, outs = channels
    one = STDCFConvTranspose3d(ins, outs, kernel, **options, atoms="dct", evaluation="filters").bfloat16()
    exact = copy.deepcopy(one).double()
    x = torch.randn(3, ins, *size).bfloat16()
    inputs = x.double().requires_grad_(), *exact.parameters()
    expected = with_gradients(exact(inputs[0]), inputs)
    for _ in range(3):
        for number in range(1, 4000, 7):  # what is allocated next finds this
            torch.full((number,), math.nan)
        inputs = x.clone().requires_grad_(), *one.parameters()
        for found, right in zip(with_gradients(one(inputs[0]), inputs), expected, strict=True):
            assert (found.double() - right).abs().max() <= 0.04 * right.abs().max()


def test_what_torch_can_be_trusted_with_is_not_padded():
    x = torch.zeros(2, 3, 8, 9, 10)
    for kernel, stride, padding, dilation in [
        ((3, 3, 3), ONE, ONE, ONE),
        ((3, 3, 3), (2, 2, 2), ONE, ONE),
        ((5, 3, 3), ONE, (2, 0, 1), ONE),
        ((3, 3, 3), ONE, (3, 4, 4), (3, 4, 4)),
        ((3, 3, 3), ONE, "same", (2, 1, 1)),
        ((9, 10, 11), ONE, (0, 0, 0), ONE),
        ((9, 10, 11), ONE, "valid", ONE),
    ]:
        same, left = forms._padded(x, kernel, stride, padding, dilation)
        assert same is x and left == padding
    for kernel, stride, padding, dilation, shape in [
        ((9, 3, 3), ONE, (4, 1, 1), ONE, (16, 11, 12)),  # longer than x
        ((3, 3, 3), ONE, (2, 1, 1), ONE, (12, 11, 12)),  # more than half beyond
        ((3, 3, 3), (9, 1, 1), ONE, ONE, (10, 11, 12)),  # a first frame that meets padding alone
        ((3, 3, 3), ONE, "same", (4, 1, 1), (16, 11, 12)),
        ((1, 10, 1), ONE, "same", ONE, (8, 18, 10)),
    ]:
        larger, left = forms._padded(x + 1, kernel, stride, padding, dilation)
        assert larger.shape == (2, 3, *shape) and larger.sum() == x.numel() and left == [0, 0, 0]


@pytest.mark.parametrize("order", [torch.contiguous_format, LAST], ids=str)
@pytest.mark.parametrize(
    ("one", "shape"),
    [
        (STDCFConv3d(8, 6, 3, padding=1, groups=2), (2, 8, 4, 5, 6)),
        (STDCFConv3d(4, 6, 3, padding=3), (2, 4, 4, 5, 6)),
        (STDCFConvTranspose3d(8, 6, 3, padding=1, groups=2), (2, 8, 4, 5, 6)),
        (STDCFConvTranspose3d(40, 2, (1, 1, 3), (1, 1, 2), (0, 0, 1), (0, 1, 0), dilation=(2, 2, 1)), (5, 40, 2, 5, 14)),
    ],
    ids=str,
)
def test_layers_take_either_order_of_memory(threads, one, shape, order):
    in_both_forms_and_double(one, torch.randn(shape).contiguous(memory_format=order))


@given(data=st.data())
def test_drawn_shapes_agree(data):
    """Whatever is drawn takes the quick way or the layers, and gives the filters' numbers; whatever learns, from whatever."""

    def whole(least: int, most: int) -> int:
        return data.draw(st.integers(least, most))

    kernel, stride, dilation = ((whole(1, most), whole(1, most), whole(1, most)) for most in (4, 3, 2))
    if data.draw(st.booleans()):  # for Winograd's sake
        kernel, stride = (3, *kernel[1:]), (1, *stride[1:])
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    transposed = data.draw(st.booleans())
    padding = tuple(whole(0, r // 2 if transposed else r + 1) for r in reach)  # some of it must be left; one more than is quick
    size = [max(1, r + 1 - 2 * p) + whole(0, 7) for r, p in zip(reach, padding, strict=True)]
    m, n, outs, ins, clips = (whole(1, most) for most in (5, 4, 3, 3, 3))
    way = Way(stride, padding, dilation)
    extra = tuple(whole(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    shapes: Any = [(clips, outs if transposed else ins, *size), (outs, ins, m, n), (m, *kernel[1:]), (n, kernel[0])]
    generator = torch.Generator().manual_seed(whole(0, 99))
    x, *parameters = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    bias = torch.randn(ins if transposed else outs, dtype=torch.float64, generator=generator)
    inputs = [x, *parameters, *([bias] if data.draw(st.booleans()) else [])]
    for one in inputs:
        one.requires_grad_(data.draw(st.booleans()))
    dtype, tolerance = data.draw(st.sampled_from([(torch.float64, 1e-10), (torch.float32, 1e-4)]))
    order = data.draw(st.sampled_from([torch.contiguous_format, LAST]))
    own = [one.detach().to(dtype).requires_grad_(one.requires_grad) for one in inputs]
    own[0] = own[0].detach().contiguous(memory_format=order).requires_grad_(x.requires_grad)

    costs, tile = data.draw(st.permutations([0, 1, 2])), data.draw(st.sampled_from([1, 1000, forms.TILE]))
    real, in_place, threads = forms._learning, data.draw(st.booleans()), whole(1, 3)

    def learning(*layer: Any) -> list[float]:
        return [found if found == math.inf else cost for cost, found in zip(costs, real(*layer), strict=True)]

    def by_torch(x: Any, alpha: Any, psi: Any, phi: Any, bias: Any = None) -> Any:
        weight = forms.filters(alpha, psi, phi)
        if transposed:
            return F.conv_transpose3d(x, weight, bias, stride, padding, extra, 1, dilation)
        return F.conv3d(x, weight, bias, *way)

    def by_us(x: Any, alpha: Any, psi: Any, phi: Any, bias: Any = None) -> Any:
        if transposed:
            return by_atoms_transposed(x, alpha, psi, phi, bias, way, extra)
        return by_atoms(x, alpha, psi, phi, bias, way)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TILE": tile, "_learning": learning, "_ONEDNN": in_place and forms._ONEDNN}.items():
            patch.setattr(forms, name, value)
        if data.draw(st.booleans()):
            for bound in ("MUCH", "MANY_CHANNELS", "MANY_VOXELS"):
                patch.setattr(forms, bound, 0)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = with_gradients(by_us(*own), own)
    for one, other in zip(found, with_gradients(by_torch(*inputs), inputs), strict=True):
        size = max(1.0, other.detach().abs().max().item())
        torch.testing.assert_close(one.double(), other, rtol=10 * tolerance, atol=tolerance * size)


# Which way is taken


def took(monkeypatch, layer, x) -> str:
    """What `evaluation="atoms"` did: `"quick"` or `"layers"`."""
    seen = []
    for name, way in (
        ("_forward", "quick"),
        ("_backward", "quick"),
        ("by_layers", "layers"),
        ("by_layers_transposed", "layers"),
    ):
        original = getattr(forms, name)
        monkeypatch.setattr(forms, name, lambda *a, original=original, way=way: [seen.append(way), original(*a)][1])
    layer(x)
    return seen[0]


def layer(**options: Any) -> STDCFConv3d:
    torch.manual_seed(0)
    return STDCFConv3d(4, 4, **{"kernel_size": 3, "padding": 1, "evaluation": "atoms"} | options)


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "usual": ({}, "quick"),
    "same": ({"padding": "same"}, "quick"),
    "valid": ({"padding": "valid"}, "quick"),
    "reflecting": ({"padding_mode": "reflect"}, "quick"),
    "float64": ({"dtype": torch.float64}, "quick"),
    "bfloat16": ({"dtype": torch.bfloat16}, "quick"),
    "same, on one side more": ({"kernel_size": (3, 4, 3), "padding": "same"}, "layers"),
    "groups": ({"groups": 2}, "layers"),
    "wide padding": ({"padding": 3}, "layers"),
    "float16": ({"dtype": torch.float16}, "layers"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # with even kernels it may copy, says torch
@pytest.mark.parametrize("name", WAYS)
def test_each_case_takes_its_way(monkeypatch, name):
    options, way = WAYS[name]
    x = torch.randn(2, 4, 5, 6, 7, dtype=options.get("dtype"))
    assert took(monkeypatch, layer(**options), x) == way


def test_a_transpose_takes_the_quick_way_below_its_stride(monkeypatch):
    x = torch.randn(1, 4, 3, 4, 5)
    options: dict[str, Any] = {"kernel_size": 3, "padding": 1, "evaluation": "atoms"}
    assert took(monkeypatch, STDCFConvTranspose3d(4, 4, stride=2, output_padding=1, **options), x) == "quick"
    assert took(monkeypatch, STDCFConvTranspose3d(4, 4, dilation=2, output_padding=1, **options), x) == "layers"


def test_whatever_looks_inside_is_shown_public_operations(monkeypatch):
    one, x = layer(), torch.randn(1, 4, 4, 5, 6)
    state = dict(one.named_parameters())

    def answer(state, x):
        return torch.func.functional_call(one, state, (x,)).square().sum()

    with monkeypatch.context() as patch:
        patch.setattr(forms, "_forward", None)
        torch.func.grad(answer)(state, x)
        torch.func.vmap(lambda clip: one(clip))(x[None])
        torch.func.jvp(lambda x: one(x), (x,), (x,))
        copy.deepcopy(one).to("meta")(x.to("meta"))
    assert took(monkeypatch, one, x) == "quick"


def test_gradients_can_be_differentiated(way_of_adding):
    (x, *parameters, bias), way = drawn("few temporal atoms")
    x = x.detach()[:1, :, :3, :4, :4].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda *inputs: by_atoms(*inputs, way), (x, *parameters, bias))
    (x, *parameters, bias), way = drawn("Winograd", transposed=True)
    x = x.detach()[:1, :, :2, :3, :3].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda *inputs: by_atoms_transposed(*inputs, way, (0, 0, 0)), (x, *parameters, bias))


# Living with the rest of torch


def test_channels_are_last_in_memory_where_torch_would_have_them():
    x = torch.randn(2, 4, 6, 5, 7)
    for clips in (x, x.to(memory_format=LAST), x.transpose(3, 4)):
        assert layer()(clips).stride() == nn.Conv3d(4, 4, 3, padding=1)(clips).stride()
    for one in layer(), STDCFConvTranspose3d(4, 4, 3, padding=1, evaluation="atoms"):
        assert one(x).is_contiguous() and one(x.to(memory_format=LAST)).is_contiguous(memory_format=LAST)


def test_bfloat16_needs_no_instructions_of_its_own(monkeypatch):
    """As on a processor for which oneDNN refuses to add in bfloat16, be it only one with AVX2."""
    one, x = layer(dtype=torch.bfloat16), torch.randn(2, 4, 6, 5, 7).bfloat16()
    expected = one(x)

    def refuses(*_: Any) -> None:
        raise RuntimeError("bf16 path needs the cpu support avx512bw, avx512vl and avx512dq")

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn._convolution_pointwise_, "binary", refuses)
    torch.testing.assert_close(one(x), expected, rtol=0.05, atol=0.05)


def test_threads_do_not_share_buffers():
    one = layer()
    clips = [torch.randn(2, 4, 6, 24, 24, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    expected = [with_gradients(one(x), list(one.parameters())) for x in clips]
    found: list[Any] = [None] * len(clips)

    def work(i):
        for _ in range(10):
            found[i] = with_gradients(one(clips[i]), list(one.parameters()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(clips))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one_answer, other in zip(found, expected, strict=True):
        for a, b in zip(one_answer, other, strict=True):
            torch.testing.assert_close(a, b)


def test_it_can_be_checkpointed_and_called_where_nothing_learns():
    one, x = layer(), torch.randn(2, 4, 6, 5, 7, requires_grad=True)
    y = with_gradients(one(x), [x, *one.parameters()])
    again: Any = checkpoint(one, x, use_reentrant=False)
    for a, b in zip(y, with_gradients(again, [x, *one.parameters()]), strict=True):
        assert torch.equal(a, b)
    with torch.inference_mode():
        assert torch.equal(one(x), y[0])
    with torch.no_grad():
        assert torch.equal(one(x), y[0])
    assert torch.equal(one(x), y[0])


def test_gradients_pass_through_the_hooks_of_a_process_group(tmp_path):
    """`DistributedDataParallel` gathers each gradient as it arrives; a frozen one must not be waited for."""
    torch.manual_seed(0)
    first, second = (STDCFConv3d(*c, 3, padding=1, temporal_atoms=n, evaluation="atoms") for c, n in (((2, 4), 3), ((4, 3), 2)))
    second.freeze("temporal")
    alone = nn.Sequential(first, second).double()
    x = torch.randn(2, 2, 4, 6, 6, dtype=torch.float64)
    expected = torch.autograd.grad(alone(x).square().sum(), [p for p in alone.parameters() if p.requires_grad])
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        for bucket in (25, 1e-4):  # MB: all gradients together, each by itself
            shared = nn.parallel.DistributedDataParallel(copy.deepcopy(alone), bucket_cap_mb=bucket)
            for _ in range(2):
                shared.zero_grad()
                shared(x).square().sum().backward()
                found = [p.grad for p in shared.parameters() if p.requires_grad]
                assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(expected, found, strict=True) if b is not None)
                assert None not in found
    finally:
        distributed.destroy_process_group()


def test_autocast_is_followed():
    one, x = layer(), torch.randn(2, 4, 6, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        y = one(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), one(x), rtol=0.05, atol=0.05)
    y.sum().backward()
    assert {p.grad.dtype for p in one.parameters() if p.grad is not None} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        y = one(x.requires_grad_())
    (first,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), one.alpha)[0].isfinite().all()


def test_autocast_learns_what_full_precision_does(teacher):
    one, x = layer(temporal_atoms=2, bias=False), torch.randn(2, 4, 6, 5, 7)
    expected = with_gradients(one(x), list(one.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        y = one(x)
    for found, exact in zip(with_gradients(y.float(), list(one.parameters())), expected, strict=True):
        assert (found - exact).norm() < 0.02 * exact.norm()


# What "auto" chooses


def test_auto_takes_the_atoms_where_there_is_much_to_do_and_nowhere_else(monkeypatch):
    def chosen(
        channels=128, size=28, count=2, learns=False, clips=2, dtype=torch.float32, device="cpu", kind: Any = STDCFConv3d,
        **options: Any,
    ):  # fmt: skip
        one = kind(
            channels, channels, **{"kernel_size": 3, "padding": 1} | options, temporal_atoms=count, device="meta", dtype=dtype
        )
        x = torch.empty(clips, channels, 8, size, size, dtype=dtype)
        parameters = [torch.empty(p.shape, dtype=dtype, requires_grad=learns) for p in (one.alpha, one.psi, one.phi)]
        if device == "meta":
            x, parameters = x.to("meta"), [p.to("meta") for p in parameters]
        way = Way(one.stride, one.padding, one.dilation, one.groups)
        return quicker(x.requires_grad_(learns), *parameters, way, one.transposed)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert chosen() and chosen(learns=True) and chosen(count=3) and chosen(padding="same") and chosen(64, 56)
    assert chosen(dilation=(2, 1, 1), padding=(2, 1, 1)) and chosen(kind=STDCFConvTranspose3d)
    assert chosen(256, 14, count=3, learns=True) and chosen(64, 28, count=3, learns=True)
    assert not chosen(64, 20, count=3, learns=True) and not chosen(32, 28, learns=True) and not chosen(64, 14, count=3)
    assert chosen(40, 28) and not chosen(40, 28, learns=True)
    assert [forms._in_blocks(n) for n in (16, 17, 40, 48)] == [1, 32 / 17, 1.2, 1]
    five: Any = {"kernel_size": (5, 3, 3), "padding": (2, 1, 1)}
    assert chosen(32, 56, **five) and chosen(63, 56, **five) and not chosen(15, 112, **five) and chosen(48, 56)
    assert not chosen(16, 56) and not chosen(64, 7) and not chosen(stride=(2, 1, 1)) and not chosen(groups=2)
    one_frame: Any = {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "count": 1}
    assert not chosen(**one_frame) and not chosen(64, 28, spatial_atoms=9, atoms="dct")
    assert not chosen(dtype=torch.float64) and not chosen(device="meta")
    # PyTorch leaves a single clip of so few channels, frames and rows to a convolution of its own, slower than oneDNN's.
    assert not chosen(32, 80, learns=True) and chosen(32, 80, clips=1, learns=True) and not chosen(32, 81, clips=1, learns=True)
    five_by_five: Any = {"kernel_size": (1, 5, 5), "padding": (0, 2, 2), "spatial_atoms": 9, "atoms": "dct", "count": 1}
    assert not chosen(32, 40, clips=1, learns=True, **five_by_five)
    with torch.autocast("cpu", torch.bfloat16):
        assert not chosen()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # which has the memory to itself
    assert chosen(24, 56) and chosen(40, 28, learns=True) and chosen(**one_frame) and not chosen(**one_frame, learns=True)
    assert not chosen(64, 20, count=3, learns=True) and not chosen(15, 112) and not chosen(64, 7)
    maps = int(4 * 1.5 * 128 * 8 * 28**2)  # bytes for each clip, of which there are two
    monkeypatch.setattr(forms, "MOST", maps)
    assert chosen()
    monkeypatch.setattr(forms, "MOST", maps - 1)
    assert not chosen()


def test_auto_changes_rounding_alone(monkeypatch):
    torch.manual_seed(0)
    one = STDCFConv3d(128, 128, 3, padding=1, temporal_atoms=2)
    x = torch.randn(1, 128, 8, 32, 32)
    assert forms.quicker(x, one.alpha, one.psi, one.phi, Way(ONE, ONE, ONE))
    assert took(monkeypatch, one.eval(), x) == "quick"
    found = with_gradients(one(x), list(one.parameters()))
    one.evaluation = "filters"
    for a, b in zip(found, with_gradients(one(x), list(one.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.detach().abs().max().item())


# Filters that are kept


def count(monkeypatch, name):
    built = []
    original = getattr(forms, name)
    monkeypatch.setattr(forms, name, lambda *a, **options: built.append(1) or original(*a, **options))
    return built


@pytest.mark.parametrize(("evaluation", "made_by"), [("filters", "filters"), ("atoms", "_kernels")])
def test_what_is_made_of_the_parameters_is_kept_while_nothing_can_change(monkeypatch, evaluation, made_by):
    built = count(monkeypatch, made_by)
    one, x = layer(evaluation=evaluation), torch.randn(1, 4, 3, 5, 5)
    with torch.no_grad():
        one(x)
        one(x)
        assert len(built) == 2  # it trains
        one.eval()
        first = one(x)
        assert torch.equal(one(x), first) and len(built) == 3
    one(x.clone().requires_grad_()).sum().backward()
    backward = int(evaluation == "atoms")  # x's gradient needs α in another order
    assert len(built) == 4 + backward and one.alpha.grad is not None  # gradients are asked for
    one.requires_grad_(False)
    one(x)
    with torch.inference_mode():
        one(x)
    assert len(built) == 4 + backward


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_kernels_that_are_kept_are_those_of_the_clips_at_hand(dtype, atol):
    one = layer().to(dtype).eval().requires_grad_(False)
    for frames, size in ((4, 6), (3, 6), (4, 9), (4, 6), (4, 6)):  # by Winograd, not so, at another size, and twice the same
        x = torch.randn(2, 4, frames, size, size, dtype=dtype)
        torch.testing.assert_close(one(x), F.conv3d(x, one.filters(), one.bias, padding=1), rtol=0, atol=atol)


@pytest.mark.parametrize(("clips", "count"), [(1, 1), (2, 6)])
def test_kernels_that_are_kept_are_those_that_would_be_made(clips, count):
    """One for all frames, or with enough to do those of a window of Winograd's."""
    torch.manual_seed(0)
    one, x = STDCFConv3d(64, 64, 3, padding=1, bias=False, temporal_atoms=2), torch.randn(clips, 64, 8, 28, 28)
    way, (alpha, psi, phi) = Way(ONE, ONE, ONE), [p.detach() for p in (one.alpha, one.psi, one.phi)]
    kernels = forms.kernels_by_atoms(x, alpha, psi, phi, way)
    assert kernels is not None and len(kernels) == count
    assert torch.equal(by_atoms(x, alpha, psi, phi, None, way, kernels), by_atoms(x, alpha, psi, phi, None, way))


def test_kernels_that_are_kept_are_those_of_the_type_at_hand():
    one, x = layer().eval().requires_grad_(False), torch.randn(2, 4, 4, 6, 6)
    before = one(x)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = one(x)
    assert lowered.dtype == torch.bfloat16
    torch.testing.assert_close(lowered.float(), before, rtol=0.05, atol=0.05)
    assert torch.equal(one(x), before)


@pytest.mark.parametrize("kind", [STDCFConv3d, STDCFConvTranspose3d])
def test_filters_lie_in_memory_as_the_clips_do(kind):
    torch.manual_seed(0)
    one, x = kind(4, 6, (2, 3, 3), spatial_atoms=4, temporal_atoms=2, evaluation="filters").double(), torch.randn(2, 4, 3, 5, 5)
    x, last = x.double(), x.double().to(memory_format=torch.channels_last_3d)
    assert one._filters_for(x).is_contiguous()
    assert one._filters_for(last).is_contiguous(memory_format=torch.channels_last_3d)
    expected = with_gradients(one(x), list(one.parameters()))
    for a, b in zip(with_gradients(one(last), list(one.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    with torch.no_grad():
        for clips in (x, last, x):
            kept = one.eval()._filters_for(clips)
            assert one._filters_for(clips) is kept
            torch.testing.assert_close(kept, one.filters(), rtol=0, atol=1e-12)


def test_shapes_alone_have_no_filters_to_keep():
    one = layer(evaluation="filters").to("meta").eval()
    with torch.no_grad():
        for _ in range(2):
            assert one(torch.empty(1, 4, 3, 5, 5, device="meta")).shape == (1, 4, 3, 5, 5)
    assert one._kept is None


def changes(one):
    """What may happen to a layer between two calls."""
    state = {name: 2 * p.detach() for name, p in one.named_parameters()}
    other = torch.optim.SGD([one.alpha], 0.1)
    yield "step", lambda: [one.alpha.grad.fill_(1.0), other.step()]
    yield "in place", lambda: one.psi.detach().mul_(3)
    yield "data", lambda: one.alpha.data.mul_(1.5)
    yield "one value", lambda: one.alpha.data.view(-1)[1].mul_(1.5)
    yield "load", lambda: one.load_state_dict(state)
    yield "assign", lambda: one.load_state_dict({name: 3 * p for name, p in state.items()}, assign=True)
    yield "swap", lambda: one.swap(phi=torch.randn(3, 3))
    yield "double and back", lambda: one.double().float()
    yield "reset", lambda: one.reset_parameters()


@pytest.mark.parametrize("evaluation", ["filters", "atoms"])
def test_what_is_kept_follows_every_change(evaluation):
    one, x = layer(evaluation=evaluation), torch.randn(1, 4, 3, 5, 5)
    one(x).sum().backward()
    one.eval()
    with torch.no_grad():
        for name, change in changes(one):
            one(x)
            change()
            expected = F.conv3d(x, one.filters(), one.bias, padding=1)
            torch.testing.assert_close(one(x), expected, rtol=0, atol=1e-6 * float(expected.abs().max()), msg=name)


@pytest.mark.parametrize("evaluation", ["filters", "atoms"])
def test_what_is_kept_is_not_copied_or_saved(evaluation):
    one, x = layer(evaluation=evaluation).eval(), torch.randn(1, 4, 3, 5, 5)
    with torch.no_grad():
        before = one(x)
        for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert twin._kept is None and torch.equal(twin(x), before)
    assert set(one.state_dict()) == {"psi", "phi", "alpha", "bias"}


PIXEL = (3, 1, 1)


@pytest.mark.parametrize("clips", [1, 2, 15])
@pytest.mark.parametrize("kind", [FullConv3d, Rank1Conv3d, STDCFConv3d])
@pytest.mark.parametrize("threads", [1], indirect=True)
def test_kernels_of_one_pixel_are_onednns_with_one_thread_too(threads, kind, clips):
    torch.manual_seed(0)
    one = kind(20, 24, PIXEL, padding=(1, 0, 0), bias=False)
    x = torch.randn(clips, 20, 32, 36, 5).to(memory_format=LAST).requires_grad_()
    y = one(x)
    assert y.is_contiguous(memory_format=LAST)  # torch's own convolution would not leave channels last
    weight = one.weight if kind is FullConv3d else one.filters()
    inputs = [x, *one.parameters()]
    expected = with_gradients(F.conv3d(x.double(), weight.double(), padding=(1, 0, 0)), inputs)
    for a, b in zip(with_gradients(y, inputs), expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=1e-4 * float(b.detach().abs().max()))


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_a_way_is_said_otherwise_only_where_torch_would_be_slow(threads, monkeypatch):
    way, x, other = Way(ONE, (1, 0, 0), ONE), torch.zeros(2, 8, 4, 6, 6).to(memory_format=LAST), (1, 1, 2)
    assert forms.for_onednn(x, PIXEL, way) == way._replace(dilation=other)
    assert forms.for_onednn(x, PIXEL, way._replace(padding="same")).dilation == other
    assert forms.for_onednn(torch.zeros(1, 8, 4, 1000, 2).to(memory_format=LAST), PIXEL, way).dilation == other
    many = torch.zeros(16, 8, 4, 6, 6).to(memory_format=LAST)
    for clips in (x.contiguous(), x[0], x[:1], x.double(), x.bfloat16(), many, x.to("meta")):
        assert forms.for_onednn(clips, PIXEL, way) is way
    assert forms.for_onednn(x, (3, 1, 2), way) is way
    for changed in (way._replace(stride=(1, 2, 2)), way._replace(dilation=(2, 1, 1)), way._replace(padding=(1, 1, 0))):
        assert forms.for_onednn(x, PIXEL, changed) is changed
    with torch.autocast("cpu", torch.bfloat16):
        assert forms.for_onednn(x, PIXEL, way) is way
    with torch.backends.mkldnn.flags(enabled=False):
        assert forms.for_onednn(x, PIXEL, way) is way
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert forms.for_onednn(x, PIXEL, way) is way


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("threads", [1], indirect=True)
def test_kernels_of_one_pixel_pad_as_they_are_told(threads, padding_mode):
    one = FullConv3d(8, 8, PIXEL, padding=(1, 0, 0), padding_mode=padding_mode)
    twin = nn.Conv3d(8, 8, PIXEL, padding=(1, 0, 0), padding_mode=padding_mode)
    twin.load_state_dict(one.state_dict())
    x = torch.randn(2, 8, 4, 6, 6).to(memory_format=LAST)
    torch.testing.assert_close(one(x), twin(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.func.vmap(one)(x[None])[0], twin(x), rtol=1e-5, atol=1e-5)
    traced: Any = torch.jit.trace(one, x)
    assert "2]" not in str(traced.code) and torch.equal(torch.compile(one, backend="eager", fullgraph=True)(x), twin(x))
