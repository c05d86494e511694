import copy
import itertools
import math
import re
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models.video import r3d_18

from stdcf_lib import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.budget import Option, best, options
from stdcf_lib.convert.layers import convertible, input_sizes
from stdcf_lib.decompose import energies, joint_decomposition
from stdcf_lib.measure import cost

CLIPS = (1, 3, 4, 32, 32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return r3d_18(weights=None).eval()


@pytest.fixture(scope="module")
def converted(network):
    return to_stdcf(network, 5, 2, CLIPS)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1), nn.ConvTranspose3d(2, 3, (2, 3, 1)))


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_every_spatiotemporal_convolution_of_r3d_18_is_converted_and_nothing_else(network, converted):
    convs = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv3d) and m.kernel_size != (1, 1, 1)}
    assert len(convs) == 17
    layers = {name: m for name, m in converted[0].named_modules() if isinstance(m, STDCFConv3d)}
    assert list(layers) == list(convs) == [line.name for line in converted[1]]
    others = [type(m) for name, m in network.named_modules() if name not in convs]
    assert [type(m) for name, m in converted[0].named_modules() if name not in layers] == others


def test_the_report_adds_up(network, converted):
    new, report = converted
    saved = sum(line.parameters_before - line.parameters_after for line in report)
    assert count(network) - count(new) == saved > 0
    rest = sum(m.in_channels * m.out_channels for m in network.modules() if type(m) is nn.Conv3d and max(m.kernel_size) == 1)
    assert rest and cost(network, CLIPS).macs == cost(new, CLIPS).macs
    shortcuts = 2 * 64 * 128 * 16 * 16 / 4 + 128 * 256 * 8 * 8 / 4 + 256 * 512 * 4 * 4 / 4
    head = 512 * 400
    assert sum(line.macs_before for line in report) + shortcuts + head == cost(network, CLIPS).macs
    for module in (by_atoms := copy.deepcopy(new)).modules():
        if isinstance(module, STDCFConv3d):
            module.evaluation = "atoms"
    assert sum(line.macs_after for line in report) + shortcuts + head == cost(by_atoms, CLIPS).macs
    line, conv = report[-1], network.layer4[1].conv2[0]
    assert line[1:3] == (5, 2)
    assert line.energy == pytest.approx(joint_decomposition(conv.weight, 5, 2).energy, abs=1e-6)
    assert line[4:6] == (512 * 512 * 27, 512 * 512 * 10 + 5 * 9 + 2 * 3)


def test_it_is_exact_with_all_atoms_and_leaves_the_original_alone(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.rand(CLIPS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x)
        new, report = to_stdcf(network, 49, 3)
        torch.testing.assert_close(new(x), expected, rtol=1e-5, atol=1e-5)
        for p in new.parameters():
            p.zero_()
        assert torch.equal(network(x), expected)
    assert [line[1:3] for line in report] == [(49, 3)] + [(9, 3)] * 16
    assert all(line.energy == pytest.approx(1, abs=1e-9) and line[6:] == (None, None) for line in report)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not new.training


def test_more_atoms_keep_more(network):
    energies = [[line.energy for line in to_stdcf(network.layer1, m, n)[1]] for m, n in ((1, 1), (3, 2), (5, 3))]
    assert all(0 < a < b < c < 1 for a, b, c in zip(*energies, strict=True))


def test_state_survives_a_round_trip():
    x = torch.rand(1, 2, 4, 5, 5)
    new, other = (to_stdcf(network, 4, 2)[0] for network in (small(), small().apply(_perturb)))
    assert not torch.equal(new(x), other(x))
    other.load_state_dict(new.state_dict())
    assert torch.equal(new(x), other(x))


def _perturb(module):
    for p in module.parameters(recurse=False):
        nn.init.normal_(p)


def test_a_transposed_convolution_is_converted_and_kernels_of_one_axis_are_not():
    new: Any
    new, report = to_stdcf(small(), 5, 3, (1, 2, 4, 5, 5))
    assert [type(m) for m in new] == [STDCFConv3d, nn.ReLU, nn.Conv3d, STDCFConvTranspose3d]
    assert [line[:3] for line in report] == [("0", 5, 3), ("3", 3, 2)]
    for kernel in ((1, 3, 3), (3, 1, 1)):
        with pytest.raises(ValueError, match="Conv3d has nothing to convert"):
            to_stdcf(nn.Conv3d(2, 2, kernel))


def test_by_default_there_are_five_atoms_in_space_and_three_in_time():
    assert to_stdcf(nn.Conv3d(1, 1, 5))[1][0][1:3] == (5, 3)


def test_a_network_may_be_one_convolution():
    conv = nn.Conv3d(2, 4, 3, dtype=torch.float64)
    layer, report = to_stdcf(conv, 9, 3)
    assert isinstance(layer, STDCFConv3d) and report[0].name == ""
    torch.testing.assert_close(layer.filters(), conv.weight)


def test_a_subclass_that_changes_nothing_is_converted():
    plain = type("Conv3DSimple", (nn.Conv3d,), {"note": staticmethod(lambda: "as in torchvision")})
    new: Any = to_stdcf(nn.Sequential(plain(2, 4, 3)))[0]
    assert isinstance(new[0], STDCFConv3d)


@pytest.mark.parametrize("name", ["forward", "_conv_forward"])
def test_a_subclass_that_does_more_is_left_alone_and_named(name):
    more = type("Scaled", (nn.Conv3d,), {name: lambda self, *x: 2 * getattr(nn.Conv3d, name)(self, *x)})
    new: Any
    with pytest.warns(UserWarning, match=r"do more than convolve: 1$"):
        new, report = to_stdcf(nn.Sequential(nn.Conv3d(2, 4, 3), more(4, 4, 3)))
    assert len(report) == 1 and type(new[1]) is more


@pytest.mark.parametrize(
    "more", [parametrizations.weight_norm, lambda conv: conv.register_forward_hook(lambda *_: None) and conv]
)
def test_weights_and_outputs_that_something_else_governs_are_left_alone(more):
    with pytest.warns(UserWarning, match=r"do more than convolve: 0$"):
        _, report = to_stdcf(nn.Sequential(more(nn.Conv3d(2, 4, 3)), nn.Conv3d(4, 4, 3)))
    assert [line.name for line in report] == ["1"]


def test_what_was_shared_stays_shared():
    conv, tied = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1)
    tied.weight = conv.weight
    network = nn.ModuleDict({"a": nn.Sequential(conv, conv), "b": nn.Sequential(conv, tied)})
    network.forward = lambda x: x
    new: Any
    new, report = to_stdcf(network)
    assert new["a"][0] is new["a"][1] is new["b"][0]
    assert [line.name for line in report] == ["a.0", "b.1"]
    assert new["b"][1].alpha is new["a"][0].alpha and new["b"][1].bias is not new["a"][0].bias


def test_a_layer_used_twice_costs_twice():
    conv = nn.Conv3d(2, 2, 3, padding=1)
    once, twice = (to_stdcf(network, input_size=(1, 2, 4, 5, 5))[1][0] for network in (conv, nn.Sequential(conv, conv)))
    assert once.macs_before and once.macs_after
    assert (twice.macs_before, twice.macs_after) == (2 * once.macs_before, 2 * once.macs_after)
    assert twice.parameters_after == once.parameters_after


def test_counting_leaves_no_hooks_behind():
    new: Any = to_stdcf(small(), input_size=(1, 2, 4, 5, 5))[0]
    assert not any(m._forward_pre_hooks for m in new.modules())
    assert {m.evaluation for m in new if hasattr(m, "evaluation")} == {"auto"}


def test_frozen_layers_stay_frozen():
    network = small()
    network[0].requires_grad_(False)
    new: Any = to_stdcf(network)[0]
    assert [p.requires_grad for p in new[0].parameters()] == [False] * 4
    assert all(p.requires_grad for p in new[3].parameters())


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="network is function"):
        to_stdcf(cast(Any, lambda x: x))
    bad: dict[str, Any]
    for bad in ({"spatial_atoms": 0}, {"temporal_atoms": 2.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))}: give an integer of at least 1"):
            to_stdcf(small(), **bad)
    with pytest.raises(ValueError, match="Linear has nothing to convert"):
        to_stdcf(nn.Linear(2, 2))


def product(report):
    return math.prod(line.energy for line in report)


def left_of(network, new):
    return count(new) / count(network)


def uneven() -> Any:
    """A small layer and a large one, whose filters share as much; and what a budget cannot touch."""
    torch.manual_seed(0)
    network: Any
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 24, 3, bias=False), nn.Conv3d(24, 3, 1))
    for layer in (network[0], network[2]):
        w = joint_decomposition(layer.weight, 4, 2)
        sketch = torch.einsum("cdmn,mhw,nt->cdthw", w.alpha, w.psi, w.phi)
        layer.weight.data = sketch + 0.1 * layer.weight.detach()
    return network


def test_keep_asks_it_of_every_layer_and_no_fewer_atoms_would_do():
    network = uneven()
    new: Any
    new, report = to_stdcf(network, keep=0.9)
    assert [line.name for line in report] == ["0", "2"] and type(new[3]) is nn.Conv3d
    for line in report:
        weight = network[int(line.name)].weight
        assert line.energy >= 0.9
        kept, pairs = energies(weight), weight.shape[0] * weight.shape[1]
        for m, n in itertools.product(range(1, 10), range(1, 4)):
            if kept[m - 1, n - 1] >= 0.9:
                bias = new[int(line.name)].bias is not None and weight.shape[0]
                assert pairs * m * n + 9 * m + 3 * n + bias >= line.parameters_after
    fewer = to_stdcf(network, keep=0.6)[1]
    assert sum(line.parameters_after for line in fewer) < sum(line.parameters_after for line in report)


def test_limits_hold_under_a_budget_and_a_layer_that_cannot_keep_enough_within_them_stays():
    network = uneven()
    network[0].weight.data = torch.randn_like(network[0].weight)
    new: Any
    new, report = to_stdcf(network, 5, 2, keep=0.9)
    assert [line.name for line in report] == ["2"] and type(new[0]) is nn.Conv3d
    assert report[0].spatial_atoms <= 5 and report[0].temporal_atoms <= 2


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7])
def test_a_budget_of_parameters_is_kept_and_keeps_more_than_one_count_for_all(share):
    network = uneven()
    new, report = to_stdcf(network, parameters=share)
    assert share - 0.1 < left_of(network, new) <= share
    for m, n in itertools.product(range(1, 10), range(1, 4)):
        alike, line = to_stdcf(network, m, n)
        if left_of(network, alike) <= share:
            assert product(line) <= product(report) + 1e-6
    by_hand = best_by_trying(network, share)
    assert 0.9 * by_hand < product(report) < by_hand + 0.02


def best_by_trying(network, share):
    """The largest product of shares among all choices of counts for the two layers."""
    ways = []
    for layer in (network[0], network[2]):
        kept, pairs = energies(layer.weight), layer.weight.shape[0] * layer.weight.shape[1]
        grid = itertools.product(range(1, 10), range(1, 4))
        ways.append([(pairs * m * n + 9 * m + 3 * n, float(kept[m - 1, n - 1])) for m, n in grid])
        ways[-1].append((layer.weight.numel(), 1.0))
    others = count(network) - sum(layer.weight.numel() for layer in (network[0], network[2]))
    return max(a[1] * b[1] for a in ways[0] for b in ways[1] if a[0] + b[0] + others <= share * count(network))


def test_the_small_layer_is_left_alone_where_the_large_one_pays():
    new: Any
    new, report = to_stdcf(uneven(), parameters=0.7)
    assert [line.name for line in report] == ["2"] and type(new[0]) is nn.Conv3d


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_budget_of_macs_is_kept_by_three_layers(share):
    network, size = uneven().eval(), (1, 2, 8, 12, 12)
    new, report = to_stdcf(network, input_size=size, macs=share)
    for module in new.modules():
        if isinstance(module, STDCFConv3d):
            module.evaluation = "atoms"
    assert share - 0.15 < cost(new, size).macs / cost(network, size).macs <= share
    assert all(line.macs_after < line.macs_before for line in report if line.macs_after and line.macs_before)
    assert not any(m._forward_pre_hooks for net in (network, new) for m in net.modules())


def test_macs_are_foreseen_for_every_count_of_every_kind_of_layer():
    network = nn.Sequential(
        nn.Conv3d(4, 6, (3, 3, 2), stride=(1, 2, 2), padding=1, groups=2), nn.ConvTranspose3d(6, 4, 3, stride=2, dilation=2)
    )
    convs, size = convertible(network), (1, 4, 5, 8, 8)
    sizes = input_sizes(network, convs, size)
    for ((name,), every), m, n in itertools.product(options(convs, sizes).items(), (1, 3, 6), (1, 3)):
        (option,) = (option for option in every if option.counts == (m, n))
        line = {line.name: line for line in to_stdcf(network, m, n, size)[1]}[name]
        assert (option.macs, option.energy) == (line.macs_after, pytest.approx(line.energy, abs=0.02))
        assert option.energy <= line.energy + 1e-6
        assert option.parameters == line.parameters_after - convs[name].bias.numel()


def test_layers_of_one_weight_have_one_choice():
    conv, tied = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1)
    tied.weight = conv.weight
    new: Any
    new = to_stdcf(nn.Sequential(conv, tied, nn.Conv3d(2, 2, 3)), parameters=0.6)[0]
    assert new[0].alpha is new[1].alpha
    assert left_of(nn.Sequential(conv, tied, nn.Conv3d(2, 2, 3)), new) <= 0.6


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"keep": 0.0}, "keep=0.0: give a finite number of at most 1 and above 0"),
        ({"keep": 95}, "keep=95: give a finite number"),
        ({"parameters": True}, "parameters=True: give"),
        ({"keep": 0.9, "macs": 0.5}, "keep and macs are given; a conversion has one budget"),
        ({"macs": 0.5}, "macs needs input_size"),
        ({"parameters": 0.01}, "parameters=0.01 is out of reach: with one atom of each kind in every layer 0.179 of the"),
        ({"keep": 1.0}, "keep=1 leaves every layer as it is"),
        ({"parameters": 1.0}, "parameters=1 leaves every layer as it is"),
    ],
)
def test_budgets_that_cannot_be_are_refused(budget, message):
    with pytest.raises(ValueError, match=message):
        to_stdcf(small(), **budget)


def test_of_two_options_at_one_price_the_better_is_taken():
    every = [Option(None, 1.0, 10, 0), Option((1, 1), 0.5, 4, 0), Option((2, 1), 0.6, 4, 0), Option((1, 2), 0.4, 4, 0)]
    assert best({("a",): every}, "parameters", 5)["a",].counts == (2, 1)


def test_a_budget_of_parameters_is_of_parameters_whatever_the_input():
    one, other = (to_stdcf(uneven(), parameters=0.4, input_size=size)[1] for size in (None, (1, 2, 8, 12, 12)))
    assert [line[:6] for line in one] == [line[:6] for line in other]


def test_what_is_said_to_be_within_reach_is():
    network = small()
    with pytest.raises(ValueError, match="out of reach") as refused:
        to_stdcf(network, parameters=0.01)
    least = float(re.findall(r"layer (\S+) of", str(refused.value))[0])
    report = to_stdcf(network, parameters=least)[1]
    assert [line[1:3] for line in report] == [(1, 1), (1, 1)]
