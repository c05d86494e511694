"""Noise: the same clip whenever and wherever it is asked for."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stdcf_lib.data.noise import Noise


def test_shape_range_and_labels():
    data = Noise("train", frames=4, size=6, num_classes=3)
    clip, label = data[31]
    assert (clip.shape, clip.dtype, label) == ((3, 4, 6, 6), torch.float32, 1)
    assert 0 <= clip.min() < 0.1 and 0.9 < clip.max() < 1
    assert (len(data), len(Noise("test", 4, 6, 3))) == (32, 8)
    assert len([*data]) == 32
    with pytest.raises(IndexError):
        data[32]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_clip_depends_on_seed_split_and_index_alone(split):
    data = Noise(split, 4, 6, 3, seed=2)
    torch.manual_seed(0)
    clips = torch.stack([clip for clip, _ in data])
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(data[5][0], clips[5])
    assert torch.equal(Noise(split, 4, 6, 3)[5][0], Noise(split, 4, 6, 3, seed=0)[5][0])
    of_numpy: Any = np.int64(2)
    batches = [clips for clips, _ in DataLoader(Noise(split, 4, 6, 3, of_numpy), batch_size=4, num_workers=2)]
    assert torch.equal(torch.cat(batches), clips)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn from it


def test_a_stage_has_noise_of_its_own_size():
    clip, label = Noise("test", 8, 16, 3, seed=2).reduced(4, 6)[5]
    expected = Noise("test", 4, 6, 3, seed=2)[5]
    assert Noise("test", 2, 3, 4, 2**56)[7][0].shape == (3, 2, 3, 3)  # the last seed that there is
    assert torch.equal(clip, expected[0]) and label == expected[1]


def test_no_two_clips_are_alike():
    clips = [clip for seed in (0, 1) for split in ("train", "test") for clip, _ in Noise(split, 2, 3, 4, seed)]
    assert len(clips) == len({clip.numpy().tobytes() for clip in clips}) == 80
    assert abs(np.corrcoef(np.stack([clip.numpy().ravel() for clip in clips]))[np.triu_indices(80, 1)]).mean() < 0.15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split='dev': choose 'train' or 'test'"),
        ({"frames": 0}, "frames=0: give an integer"),
        ({"size": 1.5}, r"size=1\.5: give an integer"),
        ({"num_classes": 0}, "num_classes=0: give an integer"),
        ({"seed": -1}, "seed=-1: give an integer from 0 to"),
        ({"seed": 2**56 + 1}, "give an integer from 0 to"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Noise(**{"split": "test", "frames": 2, "size": 3, "num_classes": 2} | change)
