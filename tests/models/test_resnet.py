import weakref
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from stdcf_lib import Rank1Conv3d, STDCFConv3d
from stdcf_lib.measure import cost
from stdcf_lib.models import VideoResNet, stdcf_r50
from stdcf_lib.models.resnet import start_from_image
from stdcf_lib.rank1 import FullConv3d

CLIPS = (1, 3, 8, 224, 224)


def on_meta(*args, **kwargs) -> Any:
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


@pytest.mark.parametrize(("kind", "layer"), [("full", FullConv3d), ("rank1", Rank1Conv3d), ("stdcf", STDCFConv3d)])
def test_the_middle_convolutions_alone_are_of_the_kind_and_every_convolution_has_its_norm(kind, layer):
    torch.manual_seed(0)
    network: Any = VideoResNet(kind, 10, blocks=(1, 2), width=4, stem=(3, 5, 5))
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
    network: Any = VideoResNet("stdcf", 10, blocks=(2,), width=4)
    block = network.stages.res2[1].eval()
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
    small: Any = VideoResNet("stdcf", blocks=(1,), spatial_atoms=4, temporal_atoms=2)
    assert small.stages.res2[0].residual[3].alpha.shape[2:] == (4, 2)
    large: Any = stdcf_r50(spatial_atoms=3, temporal_atoms=1)
    assert large.stages.res5[2].residual[3].alpha.shape == (512, 512, 3, 1)
    rank1: Any = VideoResNet("rank1", blocks=(1,), between=None)
    assert rank1.stages.res2[0].residual[3].between is None


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


# Checkpointing


def tiny(kind="stdcf", **options) -> Any:
    torch.manual_seed(0)
    model: Any = VideoResNet(kind, 5, blocks=(1, 2), width=4, stem=(3, 3, 3), **options)
    for block in (block for stage in model.stages for block in stage):  # or the middle convolutions would have no gradient
        nn.init.ones_(block.residual[-1].weight)
    return model.train()


@pytest.mark.parametrize("kind", ["full", "rank1", "stdcf"])
def test_checkpointing_changes_neither_result_nor_gradients_nor_statistics(kind):
    clips = torch.rand(3, 3, 4, 16, 16)
    outcomes = []

    def step(model):
        model.zero_grad()
        logits = model(clips)
        logits.square().sum().backward()
        return logits

    for checkpointing in (False, True):
        model = tiny(kind, checkpointing=checkpointing)
        step(model)
        outcomes.append((step(model), [p.grad for p in model.parameters()], list(model.state_dict().values())))
    (logits, gradients, state), (again, same_gradients, same_state) = outcomes
    torch.testing.assert_close(logits, again)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, same_gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state, same_state, strict=True))


def test_checkpointing_keeps_little_for_backward():
    """What autograd keeps is held by the graph of the logits, and goes with it."""
    kept = {}
    for checkpointing in (False, True):
        model = tiny(checkpointing=checkpointing)
        inner = []
        for block in model.stages[1]:
            block.residual[4].register_forward_hook(lambda _, inputs, output, inner=inner: inner.append(weakref.ref(output)))
        logits = model(torch.rand(2, 3, 4, 16, 16))
        kept[checkpointing] = sum(output() is not None for output in inner)
        logits.sum().backward()
    assert kept == {False: 2, True: 0}


def test_dropout_acts_in_training_alone():
    model, clips = tiny(dropout=0.5), torch.rand(2, 3, 2, 16, 16)
    torch.manual_seed(1)
    assert not torch.equal(model(clips), model(clips))
    assert torch.equal(model.eval()(clips), model(clips))
    with pytest.raises(ValueError, match="dropout=1: give a finite number of at least 0 and below 1"):
        VideoResNet(dropout=1)


def test_a_block_begins_as_its_shortcut():
    network: Any = VideoResNet("stdcf", 5, blocks=(2,), width=4)
    block = network.stages[0][1]
    x = torch.rand(1, 16, 2, 6, 6)
    torch.testing.assert_close(block(x), x)
    norms = [layer.weight.unique().tolist() for layer in block.residual if isinstance(layer, nn.BatchNorm3d)]
    assert norms == [[1.0], [1.0], [0.0]]  # by its last norm alone


# The start from an image network


@pytest.fixture(scope="module")
def image_network():
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None)
    for module in network.modules():  # as if trained: statistics and scales of its own
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.1, 0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.2, 0.6)
    return network.eval()


@pytest.mark.parametrize("kind", ["full", "rank1"])
def test_a_still_clip_is_answered_as_its_image_far_from_the_ends(image_network, kind):
    model = stdcf_r50(5, kind).eval()
    energy = start_from_image(model, image_network.state_dict())
    assert len(energy) == 17 and set(energy.values()) == {1.0}
    image = torch.rand(1, 3, 32, 32)
    frames = 2 * (2 + 16) + 1  # the stem reaches 2 frames, each of 16 blocks 1
    with torch.no_grad():
        maps = model.stages(model.pool(model.stem(image[:, :, None].expand(-1, -1, frames, -1, -1))))
        expected = torch.nn.Sequential(*list(image_network.children())[:-2])(image)
    # Between its factors rank-1 has a BN that divides by √(1 + 1e-5).
    torch.testing.assert_close(maps[:, :, frames // 2], expected, rtol=2e-3, atol=2e-3 * float(expected.max()))


def test_atoms_take_the_nearest_they_can(image_network):
    model = stdcf_r50(5)
    energy = start_from_image(model, image_network.state_dict())
    assert len(energy) == 16 + 1 and all(0.4 < share <= 1 + 1e-6 for share in energy.values())
    layer: Any = model.get_submodule("stages.res3.1.residual.3")
    inflated = image_network.layer2[1].conv2.weight.detach()[:, :, None].expand(-1, -1, 3, -1, -1) / 3
    residual = (layer.filters() - inflated).detach().flatten(2)
    products = torch.einsum("nt,mhw->mnthw", layer.phi.detach(), layer.psi.detach()).flatten(2).flatten(0, 1)
    assert (residual @ products.T).abs().max() < 1e-5 < residual.abs().max()  # what is lost is out of the atoms' reach
    share = 1 - float(residual.square().sum() / inflated.square().sum())
    assert energy["stages.res3.1.residual.3"] == pytest.approx(share, abs=1e-4)
    nine = VideoResNet("stdcf", 5, spatial_atoms=9, atoms="dct")
    assert min(start_from_image(nine, image_network.state_dict()).values()) == pytest.approx(1, abs=1e-5)


def test_a_kernel_of_one_frame_has_no_energy_to_lose(image_network):
    model = VideoResNet("full", 5, blocks=(1,), stem=(1, 7, 7))
    assert start_from_image(model, image_network.state_dict()).keys() == {"stages.res2.0.residual.3"}


def test_a_start_that_does_not_fit_is_refused(image_network):
    weights = image_network.state_dict()
    with pytest.raises(ValueError, match=r"conv1.weight is \(64, 3, 7, 7\), and this network needs \(8, 3, 7, 7\)"):
        start_from_image(VideoResNet(width=8), weights)
    with pytest.raises(ValueError, match=r"weights have no layer1\.0\.conv1\.weight; give the state_dict of an image ResNet"):
        start_from_image(stdcf_r50(), {name: value for name, value in weights.items() if not name.startswith("layer1.0.conv1")})


# Ways to run it


def test_it_runs_in_bfloat16_channels_last():
    model, clips = tiny().eval(), torch.rand(2, 3, 4, 16, 16)
    expected = model(clips)
    model, clips = model.to(memory_format=torch.channels_last_3d), clips.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(model(clips), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(clips)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)


def test_it_compiles():
    model, clips = tiny().eval(), torch.rand(1, 3, 2, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="aot_eager")(clips), model(clips), rtol=1e-4, atol=1e-5)
