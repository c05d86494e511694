import pytest
import torch

from stdcf_lib.models import SmallVideoNet


@pytest.mark.parametrize("kind", ["full", "rank1", "stdcf"])
@pytest.mark.parametrize(("frames", "size"), [(16, 28), (4, 28), (16, 14), (1, 9)])
def test_one_network_takes_every_stage(kind, frames, size):
    net = SmallVideoNet(kind).eval()
    clips = torch.rand(2, 1, frames, size, size)
    assert net.features(clips).shape == (2, 64) and net(clips).shape == (2, 40)


def test_its_layers_have_the_widths_of_its_drawing():
    taps = 27 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 64)
    assert sum(p.numel() for p in SmallVideoNet("full").parameters()) == taps + 2 * (16 + 32 + 64 + 64) + 40 * 64 + 40


def test_time_never_shrinks_and_space_does_three_times():
    net = SmallVideoNet("stdcf")
    assert net.layers(torch.rand(1, 1, 5, 28, 28)).shape == (1, 64, 5, 4, 4)


@pytest.mark.parametrize("kind", ["full", "rank1", "stdcf"])
def test_dilated_it_answers_repeated_frames_as_the_original(kind):
    torch.manual_seed(0)
    net, clips = SmallVideoNet(kind).eval(), torch.rand(2, 1, 6, 28, 28)
    before, slow = net(clips), clips.repeat_interleave(3, 2)
    with net.dilate(3):
        assert net.timing == (3, 3, 3, 3)
        torch.testing.assert_close(net(slow), before)
        net.dilate(2)  # from the network as built
        assert not torch.allclose(net(slow), before, atol=1e-3)
    assert net.timing == (1, 1, 1, 1)
    assert torch.equal(net(clips), before)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_classes=0: give an integer of at least 1"):
        SmallVideoNet(num_classes=0)
    with pytest.raises(ValueError, match="kind"):
        SmallVideoNet("half")
    with pytest.raises(ValueError, match="temporal=0: give an integer of at least 1"):
        SmallVideoNet().dilate(0)
    with pytest.raises(ValueError, match=r"clips of shape \(1, 3, 4, 8, 8\): give \(B, 1, T, H, W\)"):
        SmallVideoNet()(torch.rand(1, 3, 4, 8, 8))
