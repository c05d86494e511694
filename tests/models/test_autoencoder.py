from typing import Any

import pytest
import torch
from torch import nn

from stdcf_lib.models import ReconstructionAutoencoder

KINDS = ("full", "rank1", "stdcf")


def weights(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith("bias"))


@pytest.mark.parametrize(("kind", "count"), [("full", 2376), ("rank1", 1248), ("stdcf", 1590)])
def test_it_has_the_weights_of_table_a(kind, count):
    assert weights(ReconstructionAutoencoder(kind)) == count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 1, 8, 28, 28), (1, 1, 4, 12, 16)])
def test_it_returns_a_clip_of_the_same_shape(kind, shape):
    assert ReconstructionAutoencoder(kind)(torch.rand(shape)).shape == shape


def test_widths_and_strides_are_those_of_table_a():
    model = ReconstructionAutoencoder("stdcf")
    layers = [(x.in_channels, x.out_channels, x.kernel_size, x.stride) for x in model.children()]
    k, s1, s2 = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    assert layers == [(1, 4, k, s2), (4, 8, k, s2), (8, 4, k, s2), (4, 4, k, s2), (4, 1, k, s1)]
    rank1: list[Any] = list(ReconstructionAutoencoder("rank1").children())
    middle = [layer.spatial.out_channels for layer in rank1]
    assert middle == [4, 8, 4, 4, 4]
    others: list[Any] = list(ReconstructionAutoencoder("rank1", middle=(1, 2, 3, 5, 6)).children())
    assert [layer.spatial.out_channels for layer in others] == [1, 2, 3, 5, 6]


def test_all_families_start_with_filters_of_the_same_variance():
    names = ("conv1", "conv2", "deconv1", "deconv2", "conv3")
    squares = {(kind, name): [] for kind in KINDS for name in names}
    for kind in KINDS:
        for seed in range(200):
            torch.manual_seed(seed)
            model = ReconstructionAutoencoder(kind)
            for name in names:
                layer = getattr(model, name)
                filters = layer.weight if kind == "full" else layer.filters()
                squares[kind, name].append(filters.detach().square().mean())
    for (kind, name), found in squares.items():
        channels = {"conv1": 1, "deconv1": 8}.get(name, 4)
        assert torch.stack(found).mean().item() == pytest.approx(2 / (27 * channels), rel=0.1), (name, kind)


def test_something_can_stand_between_the_factors_of_rank1():
    layers: list[Any] = list(ReconstructionAutoencoder("rank1", between=nn.BatchNorm3d).children())
    assert [layer.between.num_features for layer in layers] == [4, 8, 4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kind": "rank-1"}, "kind='rank-1'"),
        ({"kind": "full", "spatial_atoms": 5}, "spatial_atoms is not an option of kind='full'"),
        ({"kind": "stdcf", "spatial_atoms": 7}, "spatial_atoms=7"),
        ({"kind": "rank1", "middle": (4, 8, 4, 4, 0)}, "middle_channels=0"),
    ],
)
def test_it_refuses_what_it_cannot_build(arguments, told):
    with pytest.raises(ValueError, match=told):
        ReconstructionAutoencoder(**arguments)


@pytest.mark.parametrize("shape", [(1, 1, 8, 28, 27), (1, 2, 8, 28, 28), (1, 8, 28, 28)])
def test_it_refuses_clips_it_cannot_halve_twice(shape):
    with pytest.raises(ValueError, match="clips of shape"):
        ReconstructionAutoencoder("full")(torch.rand(shape))
