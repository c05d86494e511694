import pytest
import torch
from torch import nn

from stdcf_lib import Rank1Conv3d, STDCFConv3d
from stdcf_lib.measure import cost
from stdcf_lib.models import VideoResNet, stdcf_r50

CLIPS = (1, 3, 8, 224, 224)


def on_meta(*args, **kwargs):
    with torch.device("meta"):
        return stdcf_r50(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "parameters", "gmacs"),
    [("full", 46_999_760, 66.069), ("stdcf", 31_910_960, 66.069), ("rank1", 28_145_232, 41.407)],
)
def test_it_has_the_independent_counts(kind, parameters, gmacs):
    counted = cost(on_meta(kind=kind), CLIPS)
    assert (counted.parameters, round(counted.macs / 1e9, 3)) == (parameters, gmacs)


def test_as_three_layers_it_has_the_independent_count():
    network = on_meta()
    for module in network.modules():
        if isinstance(module, STDCFConv3d):
            module.evaluation = "atoms"
    assert round(cost(network, CLIPS).macs / 1e9, 3) == 47.967


def test_what_is_kept_for_backward_and_smaller_clips_have_the_independent_counts():
    for frames, size, gmacs, gib in ((8, 224, 66.069, 0.640), (8, 112, 17.375, 0.163), (2, 224, 16.518, 0.160)):
        counted = cost(on_meta(kind="full"), (1, 3, frames, size, size))
        assert round(counted.macs / 1e9, 3) == gmacs
        assert counted.stored_bytes / 2**30 == pytest.approx(gib, abs=1.1e-3)


def test_the_head_follows_the_number_of_classes():
    assert cost(on_meta(174), CLIPS).parameters == 31_447_886


def test_stages_have_the_sizes_of_table_c():
    network, sizes = on_meta(), []
    for module in (network.stem, network.pool, *network.stages):
        module.register_forward_hook(lambda _, __, y: sizes.append((y.shape[1], *y.shape[2:])))
    assert network(torch.empty(CLIPS, device="meta")).shape == (1, 400)
    assert sizes == [
        (64, 8, 112, 112),
        (64, 8, 56, 56),
        (256, 8, 56, 56),
        (512, 8, 28, 28),
        (1024, 8, 14, 14),
        (2048, 8, 7, 7),
    ]
    assert [len(stage) for stage in network.stages] == [3, 4, 6, 3]


@pytest.mark.parametrize(("kind", "layer"), [("full", nn.Conv3d), ("rank1", Rank1Conv3d), ("stdcf", STDCFConv3d)])
def test_the_middle_convolutions_alone_are_of_the_kind_and_every_convolution_has_its_norm(kind, layer):
    torch.manual_seed(0)
    network = VideoResNet(kind, 10, blocks=(1, 2), width=4, stem=(3, 5, 5))
    assert network(torch.rand(2, 3, 4, 20, 20)).shape == (2, 10)
    assert network.stem[0].kernel_size == (3, 5, 5)
    middles = [block.residual[3] for stage in network.stages for block in stage]
    assert [type(m) for m in middles] == [layer] * 3
    convs = [m for m in network.modules() if isinstance(m, nn.Conv3d | STDCFConv3d)]
    norms = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == len(convs) == 1 + 3 * 3 + 2 + (3 if kind == "rank1" else 0)
    assert all(m.bias is None for m in convs)
    middle = middles[1].spatial if kind == "rank1" else middles[1]
    assert middle.stride == (1, 2, 2)


def test_a_block_adds_its_shortcut():
    torch.manual_seed(0)
    block = VideoResNet("stdcf", 10, blocks=(2,), width=4).stages.res2[1].eval()
    x = torch.randn(1, 16, 3, 5, 5)
    torch.testing.assert_close(block(x), (block.residual(x) + x).relu())
    nn.init.zeros_(block.residual[-1].weight)
    torch.testing.assert_close(block(x), x.relu())


def test_the_answer_is_the_head_on_the_average_over_space_and_time():
    torch.manual_seed(0)
    network, x = VideoResNet("full", 5, blocks=(1, 1), width=2).eval(), torch.rand(1, 3, 4, 16, 16)
    maps = network.stages(network.pool(network.stem(x)))
    assert maps.shape == (1, 16, 4, 2, 2)
    torch.testing.assert_close(network(x), network.fc(maps.flatten(2).mean(2)))


def test_options_reach_the_layers():
    assert VideoResNet("stdcf", blocks=(1,), spatial_atoms=4, temporal_atoms=2).stages.res2[0].residual[3].alpha.shape[2:] == (
        4,
        2,
    )
    assert stdcf_r50(spatial_atoms=3, temporal_atoms=1).stages.res5[2].residual[3].alpha.shape == (512, 512, 3, 1)
    assert VideoResNet("rank1", blocks=(1,), between=None).stages.res2[0].residual[3].between is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"kind": "r2plus1d"}, "kind='r2plus1d'"),
        ({"kind": "full", "spatial_atoms": 5}, "spatial_atoms is not an option"),
        ({"spatial_atoms": 7}, "spatial_atoms=7"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"blocks": ()}, r"blocks=\(\)"),
        ({"blocks": (3, 0)}, r"blocks=\(3, 0\)"),
        ({"width": 2.5}, "width=2.5"),
        ({"stem": (4, 7, 7)}, r"stem=\(4, 7, 7\)"),
        ({"stem": (7, 7)}, r"stem=\(7, 7\)"),
    ],
)
def test_bad_arguments_are_named(bad, told):
    with pytest.raises(ValueError, match=told):
        VideoResNet(**bad)


def test_bad_clips_are_named():
    with pytest.raises(ValueError, match=r"clips of shape \(1, 1, 8, 32, 32\)"):
        VideoResNet(blocks=(1,))(torch.zeros(1, 1, 8, 32, 32))
