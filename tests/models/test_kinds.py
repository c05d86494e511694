"""The families answer to the same names, so that a network is built of any of them without asking which."""

import pytest
import torch
from torch import nn

from stdcf_lib.models import KTHNet, ReconstructionAutoencoder, SmallVideoNet
from stdcf_lib.models.kinds import KINDS, convolutions, of_kind
from stdcf_lib.rank1 import Rank1Conv3d, initialise

GEOMETRY = {"kernel_size": (3, 3, 5), "stride": (1, 2, 2), "padding": (1, 1, 2), "dilation": (2, 1, 1), "groups": 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transposed", [False, True])
def test_every_layer_says_what_it_is(kind, transposed):
    layer = convolutions(kind)[transposed](4, 6, **GEOMETRY)
    assert (layer.in_channels, layer.out_channels) == (4, 6)
    for name, value in GEOMETRY.items():
        assert getattr(layer, name) == value, name
    taps = layer.temporal_filters
    assert isinstance(taps, nn.Parameter) and taps.shape[1 if taps.dim() == 2 else 2] == 3
    layer.dilation = (1, 1, 1)
    assert layer.dilation == (1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_look_along_time_is_what_it_answers_with(kind):
    torch.manual_seed(0)
    layer = convolutions(kind)[0](2, 3, 3, padding="same")
    x, before = torch.rand(1, 2, 8, 6, 6), layer.temporal_filters
    answer = layer(x)
    wide = torch.nn.functional.pad(before.detach(), [0, 0] * (before.dim() - 2 - (before.dim() == 5)) + [1, 1])
    wide = wide if before.dim() == 2 else torch.nn.functional.pad(before.detach(), [0, 0, 0, 0, 1, 1])
    layer.set_temporal_filters(nn.Parameter(wide))
    torch.testing.assert_close(layer(x), answer)
    layer.set_temporal_filters(before)
    assert layer.temporal_filters is before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transposed", [False, True])
def test_parameters_start_again_by_the_one_rule(kind, transposed):
    torch.manual_seed(0)
    layer = convolutions(kind)[transposed](32, 32, 3)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 7.0)
    layer.reset_parameters()
    weight = layer.weight if kind == "full" else layer.filters()
    assert weight.var().item() == pytest.approx(2 / (32 * 27), rel=0.1)
    biases = [parameter for name, parameter in layer.named_parameters() if name.endswith("bias")]
    assert biases and not any(bias.any() for bias in biases)


def test_what_stands_between_two_factors_is_made_up_for_in_both():
    torch.manual_seed(0)
    layer = Rank1Conv3d(32, 32, 3, between=nn.ReLU())
    for factor, taps in ((layer.spatial, 9), (layer.temporal, 3)):
        fan_in = factor.weight.shape[1] * taps
        assert factor.weight.var().item() == pytest.approx(2 / fan_in, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_image_filters_are_taken_as_far_as_a_family_can(kind):
    image = torch.randn(6, 4, 3, 3)
    layer = convolutions(kind)[0](4, 6, 3, padding=1, bias=False)
    kept = layer.take_image_filters(image)
    weight = layer.weight if kind == "full" else layer.filters()
    inflated = image[:, :, None].expand_as(weight) / 3
    share = 1 - ((weight - inflated).square().sum() / inflated.square().sum()).item()
    assert kept == pytest.approx(share, abs=1e-5) and kept > 0.3 and (kind == "stdcf" or kept == 1.0)


def test_options_are_a_familys_own():
    assert of_kind("rank1", middle_channels=3, atoms="dct") == {"middle_channels": 3}
    assert of_kind("full", middle_channels=3, atoms="dct") == {}
    conv, deconv = convolutions("rank1", between=nn.BatchNorm3d)
    assert conv(2, 5, 3).between.num_features == 5 and conv(2, 5, 3, middle_channels=4).between.num_features == 4
    assert deconv(2, 5, 3).between.num_features == 5
    with pytest.raises(ValueError, match="atoms is not an option of kind='full', which takes none"):
        convolutions("full", atoms="dct")
    with pytest.raises(ValueError, match="kind='half': choose 'full', 'rank1' or 'stdcf'"):
        convolutions("half")


@pytest.mark.parametrize("kind", KINDS)
def test_temporal_dilation_takes_the_padding_along(kind):
    layer = convolutions(kind)[0](4, 6, **GEOMETRY)
    x = torch.rand(1, 4, 9, 8, 8)
    before = layer(x).shape
    layer.set_temporal_dilation(4)
    assert (layer.dilation, layer.padding) == ((4, 1, 1), (2, 1, 2)) and layer(x).shape[3:] == before[3:]
    with pytest.raises(ValueError, match="fractional"):
        layer.set_temporal_dilation(3)
    assert (layer.dilation, layer.padding) == ((4, 1, 1), (2, 1, 2))


def test_what_follows_a_seed_is_as_after_torchs_own_start_and_ours():
    torch.manual_seed(0)
    convolutions("full")[0](2, 3, 3)
    found = torch.rand(3)
    torch.manual_seed(0)
    initialise(nn.Conv3d(2, 3, 3))
    assert torch.equal(torch.rand(3), found)


@pytest.mark.parametrize("kind", ["full", "stdcf"])
@pytest.mark.parametrize(
    ("network", "size"), [(KTHNet, (16, 16, 16)), (ReconstructionAutoencoder, (8, 28, 28)), (SmallVideoNet, (16, 28, 28))]
)
def test_grey_clips_with_channels_last_stay_so(network, size, kind):
    """Through a whole network: its pools and convolutions take up to twice as long without."""
    model = network(kind).to(memory_format=torch.channels_last_3d)
    seen = []
    for module in model.modules():
        if hasattr(module, "temporal_filters") and module is not model:
            module.register_forward_hook(lambda module, given, y: seen.append(y))
    model(torch.rand(2, 1, *size).to(memory_format=torch.channels_last_3d))
    assert len(seen) > 2
    assert all(y.is_contiguous(memory_format=torch.channels_last_3d) for y in seen)
