import copy
from typing import Any

import pytest
import torch
from torch import nn

from stdcf_lib.measure import cost
from stdcf_lib.models import KTHNet

KINDS = ("full", "rank1", "stdcf")
FC = 64 * 6 + 6
# Table B by hand: taps and biases, layer by layer.
PARAMETERS = {
    "full": (16 * 45 + 16) + (16 * 32 * 45 + 32) + (32 * 64 * 27 + 64) + FC,
    "rank1": (16 * 9 + 16 * 16 * 5 + 16) + (16 * 32 * 9 + 32 * 32 * 5 + 32) + (32 * 64 * 9 + 64 * 64 * 3 + 64) + FC,
    "stdcf": (16 * 15 + 16) + (16 * 32 * 15 + 32) + (32 * 64 * 10 + 64) + 3 * (5 * 9) + (3 * 5 + 3 * 5 + 2 * 3) + FC,
}
VOXELS = 16 * 60 * 80, 16 * 30 * 40, 8 * 15 * 20
MACS = {
    "full": VOXELS[0] * 16 * 45 + VOXELS[1] * 16 * 32 * 45 + VOXELS[2] * 32 * 64 * 27 + 64 * 6,
    "rank1": VOXELS[0] * 16 * (9 + 16 * 5) + VOXELS[1] * 32 * (16 * 9 + 32 * 5) + VOXELS[2] * 64 * (32 * 9 + 64 * 3) + 64 * 6,
    "stdcf": VOXELS[0] * 16 * 45 + VOXELS[1] * 16 * 32 * 45 + VOXELS[2] * 32 * 64 * 27 + 64 * 6,
}


@pytest.fixture(params=KINDS)
def net(request):
    torch.manual_seed(0)
    net = KTHNet(request.param).double()
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(p, std=0.1)
    return net


@pytest.fixture
def clips():
    return torch.rand(2, 1, 16, 18, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_counts_of_table_b(kind):
    counted = cost(KTHNet(kind), (1, 1, 16, 60, 80))
    assert (counted.parameters, counted.macs) == (PARAMETERS[kind], MACS[kind])


def test_three_layers_cost_their_atoms_and_coefficients():
    by_hand = sum(
        voxels * (c_in * n * kt + c_in * n * 5 * 9 + c_in * n * 5 * c_out)
        for voxels, c_in, c_out, n, kt in zip(VOXELS, (1, 16, 32), (16, 32, 64), (3, 3, 2), (5, 5, 3), strict=True)
    )
    assert cost(KTHNet("stdcf", evaluation="atoms"), (1, 1, 16, 60, 80)).macs == by_hand + 64 * 6


def test_shapes(net, clips):
    assert net.features(clips).shape == (2, 64)
    assert net(clips).shape == (2, 6)
    torch.testing.assert_close(net(clips), net.fc(net.features(clips)))


def test_it_computes_table_b(net, clips):
    def conv(layer, x, taps):
        filters = layer.weight if net.kind == "full" else layer.filters()
        bias = layer.temporal.bias if net.kind == "rank1" else layer.bias
        assert filters.shape[2:] == (taps, 3, 3)
        return nn.functional.conv3d(x, filters, bias, padding=(taps // 2, 1, 1)).clamp(min=0)

    x = nn.functional.max_pool3d(conv(net.conv1, clips, 5), (1, 2, 2))
    x = nn.functional.max_pool3d(conv(net.conv2, x, 5), 2)
    x = nn.functional.max_pool3d(conv(net.conv3, x, 3), 2)
    torch.testing.assert_close(net.features(clips), x.flatten(2).mean(2))


@pytest.mark.parametrize("times", [2, 3])
def test_the_exact_way_alone_gives_repeated_frames_the_same_features(net, clips, times):
    with torch.no_grad():
        before = net.features(clips)

    def change():
        with torch.no_grad():
            return ((net.features(clips.repeat_interleave(times, dim=2)) - before).norm() / before.norm()).item()

    assert change() > 0.03
    with net.dilate(times):
        assert change() > 0.03
    with net.dilate(times, exact=True):
        assert change() < 1e-12


def test_dilating_is_in_time_alone_and_can_be_undone(net, clips):
    before, state = net(clips), copy.deepcopy(net.state_dict())
    dilated = net.dilate(2)
    layers = [layer.temporal if net.kind == "rank1" else layer for layer in (net.conv1, net.conv2, net.conv3)]
    assert [layer.dilation for layer in layers] == [(2, 1, 1)] * 3 and net.timing == (2, 2, 2, 2)
    assert not torch.allclose(net(clips), before)
    with net.dilate(3, exact=True) as inside:
        assert inside is net and net.timing == (3, 3, 1, 6)
    assert net.timing == (2, 2, 2, 2)
    dilated.undo()
    assert net.timing == (1, 1, 1, 2) and torch.equal(net(clips), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_stretching_widens_the_filters_in_time_alone_and_can_be_undone(net, clips):
    before, first, parameters = net(clips), net.conv1(clips), dict(net.named_parameters())
    with net.stretch(1):
        torch.testing.assert_close(net(clips), before)
    with net.stretch(3) as inside:
        assert inside is net
        lengths = [taps.shape[2 if taps.dim() == 5 else 1] for taps in net.temporal_filters]
        assert lengths == [15, 15, 9]
        torch.testing.assert_close(net.conv1(clips.repeat_interleave(3, dim=2))[:, :, 1::3], first)
        assert not torch.allclose(net(clips), before)
    assert dict(net.named_parameters()).keys() == parameters.keys()
    assert all(p is parameters[name] for name, p in net.named_parameters())
    assert torch.equal(net(clips), before)
    with pytest.raises(ValueError, match="factor=0"):
        net.stretch(0)


def test_options_reach_the_layers():
    assert KTHNet("stdcf", temporal_atoms=(2, 2, 1), spatial_atoms=4).conv1.alpha.shape == (16, 1, 4, 2)
    assert KTHNet("rank1", between=nn.BatchNorm3d).conv2.between.num_features == 32
    assert KTHNet("full", num_classes=3).fc.out_features == 3


def test_bad_arguments_are_named():
    bad: Any
    for bad, told in (
        ({"kind": "rank-1"}, "kind='rank-1'"),
        ({"kind": "full", "spatial_atoms": 5}, "spatial_atoms is not an option"),
        ({"temporal_atoms": (3, 3, 4)}, "temporal_atoms=4"),
        ({"num_classes": 0}, "num_classes=0"),
    ):
        with pytest.raises(ValueError, match=told):
            KTHNet(**bad)
    net = KTHNet("full")
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"temporal={bad}"):
            net.dilate(bad)
    for shape in ((1, 1, 3, 16, 16), (1, 3, 8, 16, 16), (1, 1, 8, 16, 7), (1, 8, 16, 16)):
        with pytest.raises(ValueError, match="clips of shape"):
            net(torch.zeros(shape))
    net.dilate(2, exact=True)
    with pytest.raises(ValueError, match="at least 8 frames"):
        net(torch.zeros(1, 1, 7, 16, 16))


def test_timing_is_set_layer_by_layer_and_undone():
    net = KTHNet("stdcf")
    with net.retime(1, 2, 3, pool2=4):
        assert net.timing == (1, 2, 3, 4)
        assert net.features(torch.rand(1, 1, 16, 16, 16)).shape == (1, 64)
    assert net.timing == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=r"timing=\(1, 0, 1, 2\): give 4 integers of at least 1"):
        net.retime(1, 0, 1)
