import inspect

import pytest
import torch
from torch import nn

from stdcf_lib import Rank1Conv3d, Rank1ConvTranspose3d, STDCFConv3d, STDCFConvTranspose3d

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 4, 3), "stride": (2, 1, 2), "padding": (1, 2, 1), "dilation": (1, 1, 2), "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": (2, 1, 1), "padding_mode": "reflect", "groups": 2},
    {"kernel_size": (4, 4, 3), "padding": "same", "padding_mode": "circular"},
    {"kernel_size": 3, "stride": 2, "padding": (1, 2, 1), "padding_mode": "replicate", "bias": False},
    {"kernel_size": 3, "padding": "valid"},
]
TRANSPOSES = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": (3, 4, 3), "stride": (2, 1, 2), "padding": (1, 0, 1), "output_padding": (1, 0, 0), "groups": 2},
    {"kernel_size": 3, "stride": 2, "dilation": (2, 1, 2), "bias": False},
]
CASES = [(STDCFConv3d, Rank1Conv3d, nn.Conv3d, options) for options in CONVOLUTIONS]
CASES += [(STDCFConvTranspose3d, Rank1ConvTranspose3d, nn.ConvTranspose3d, options) for options in TRANSPOSES]


def with_gradients(y, *inputs):
    return y, *torch.autograd.grad(y.sin().sum(), inputs)


def as_torch(twin, filters, bias, options):
    conv = twin(4, 6, **options, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(filters)
        if bias is not None:
            conv.bias.copy_(bias)
    return conv


@pytest.fixture
def x():
    return torch.randn(2, 4, 7, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize(("layer", "_", "twin", "options"), CASES)
def test_both_forms_are_torch_s_convolution_with_the_rebuilt_filters(layer, _, twin, options, x):
    results = []
    for evaluation in ("filters", "atoms"):
        torch.manual_seed(1)
        conv = layer(4, 6, **options, dtype=torch.float64, atoms="dct", evaluation=evaluation)
        if conv.bias is not None:
            nn.init.normal_(conv.bias)
        results.append(with_gradients(conv(x), x, *conv.parameters()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    expected = as_torch(twin, conv.filters(), conv.bias, options)(x)
    torch.testing.assert_close(results[0][0], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(conv(x[0]), expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("_", "layer", "twin", "options"), CASES)
def test_rank1_is_torch_s_convolution_with_the_composed_filters(_, layer, twin, options, x):
    conv = layer(4, 6, **options, dtype=torch.float64)
    expected = as_torch(twin, conv.filters(), conv.temporal.bias, options)(x)
    torch.testing.assert_close(conv(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("layer", "rank1", "twin", "_"), [CASES[0], CASES[-1]])
def test_positional_arguments_are_torch_s(layer, rank1, twin, _):
    order = list(inspect.signature(twin).parameters)
    for ours in (layer, rank1):
        assert list(inspect.signature(ours).parameters)[: len(order)] == order


@pytest.mark.parametrize(("layer", "_", "twin", "options"), CASES)
def test_from_conv3d_is_exact_with_all_atoms(layer, _, twin, options, x):
    conv = twin(4, 6, **options, dtype=torch.float64)
    kt, *k = conv.kernel_size
    torch.testing.assert_close(layer.from_conv3d(conv, k[0] * k[1], kt)(x), conv(x), rtol=1e-10, atol=1e-10)


def test_dilating_keeps_the_length_and_can_be_undone(x):
    conv = STDCFConv3d(4, 6, 3, padding=1, dtype=torch.float64)
    before = conv(x)
    with conv.dilate(temporal=2):
        expected = nn.functional.conv3d(x, conv.filters(), conv.bias, padding=(2, 1, 1), dilation=(2, 1, 1))
        torch.testing.assert_close(conv(x), expected)
        assert conv(x).shape == before.shape
    assert torch.equal(conv(x), before)


def test_swapping_changes_the_atoms_alone_and_undoing_brings_the_parameter_back(x):
    conv = STDCFConv3d(4, 6, 3, padding=1, dtype=torch.float64)
    old, alpha = conv.phi, conv.alpha
    change = conv.swap(phi=torch.randn(3, 5))
    assert conv.kernel_size == (5, 3, 3) and conv.padding == (2, 1, 1) and conv.alpha is alpha
    assert conv(x).shape[2:] == x.shape[2:]
    change.undo()
    assert conv.phi is old and conv.kernel_size == (3, 3, 3) and conv.padding == (1, 1, 1)
    with pytest.raises(ValueError, match=r"phi of shape \(2, 5\)"):
        conv.swap(phi=torch.randn(2, 5))


@pytest.mark.parametrize(("what", "frozen"), [("spatial", {"psi"}), ("temporal", {"phi"}), (None, set())])
def test_frozen_atoms_keep_their_bytes_and_all_else_trains(what, frozen, x):
    conv = STDCFConv3d(4, 6, 3, dtype=torch.float64)
    conv.freeze(what)
    before = {name: p.detach().clone() for name, p in conv.named_parameters()}
    optimizer = torch.optim.Adam([p for p in conv.parameters() if p.requires_grad])
    conv(x).square().mean().backward()
    optimizer.step()
    assert {name for name, p in conv.named_parameters() if torch.equal(p, before[name])} == frozen


def test_channels_last_and_autocast_work():
    conv = STDCFConv3d(4, 6, 3, padding=1).to(memory_format=torch.channels_last_3d)
    clip = torch.randn(2, 4, 5, 6, 7).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(clip)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(clip), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"kernel_size": 3, "stride": (1, 2)}, "stride="),
        ({"kernel_size": 3, "groups": 4}, "out_channels=6 does not divide into groups=4"),
        ({"kernel_size": 3, "spatial_atoms": 7}, "spatial_atoms=7"),
        ({"kernel_size": 3, "temporal_atoms": 4}, "temporal_atoms=4"),
        ({"kernel_size": 3, "atoms": "haar"}, "atoms='haar'"),
        ({"kernel_size": 3, "evaluation": "fast"}, "evaluation='fast'"),
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "padding='same'"),
        ({"kernel_size": 3, "padding_mode": "mirror"}, "padding_mode='mirror'"),
        ({"kernel_size": 3, "dtype": torch.int32}, "dtype=torch.int32"),
    ],
)
def test_bad_arguments_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        STDCFConv3d(4, 6, **options)


def test_bad_inputs_are_named():
    conv = STDCFConv3d(4, 6, 3)
    with pytest.raises(ValueError, match=r"input of shape \(2, 3, 5, 5, 5\)"):
        conv(torch.zeros(2, 3, 5, 5, 5))
    with pytest.raises(TypeError, match=r"torch\.uint8"):
        conv(torch.zeros(2, 4, 5, 5, 5, dtype=torch.uint8))
