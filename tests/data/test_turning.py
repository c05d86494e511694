"""Turning digits: the labels are what the clips show, and no stage's view of a clip holds its label."""

import re

import numpy as np
import pytest
import torch

from stdcf_lib.data import mnist, turning
from stdcf_lib.data.turning import CLIPS, ROTATIONS, TurningDigits, parts, shrink
from stdcf_lib.itsl import schedule, view


@pytest.fixture(scope="module")
def clips():
    return TurningDigits("test", clips=400)


def test_shape_and_labels(clips):
    assert (clips.clips.shape, clips.clips.dtype) == ((400, 1, 16, 28, 28), torch.uint8) and len(clips) == 400
    clip, label = clips[7]
    assert clip.dtype == torch.float32 and 0 <= clip.min() and 0.5 < clip.max() <= 1
    assert label == clips.digit[7] * 4 + clips.motion[7]
    digit, motion = parts(clips.label)
    assert torch.equal(digit, clips.digit) and torch.equal(motion, clips.motion)
    assert set(clips.label.tolist()) == set(range(40))
    assert CLIPS == {"train": 6000, "test": 2000} and ROTATIONS == (-90, -45, 45, 90)


def test_clips_depend_on_seed_and_number_alone(clips):
    few = TurningDigits("test", clips=30)
    assert torch.equal(few.clips, clips.clips[:30]) and torch.equal(few.label, clips.label[:30])
    assert not torch.equal(TurningDigits("test", clips=30, seed=1).clips, few.clips)
    assert not torch.equal(TurningDigits("train", clips=30).clips, few.clips)


def test_clips_are_those_that_kept_runs_have_seen():
    few = TurningDigits("test", clips=6)
    assert few.label.tolist() == [8, 21, 14, 1, 17, 22]
    bright = [9.621, 7.506, 14.719, 13.566, 8.718, 9.161]
    assert few.clips.float().mean((1, 2, 3, 4)).tolist() == pytest.approx(bright, abs=0.01)


@pytest.mark.parametrize("motion", range(4))
def test_digits_turn_as_the_label_says(motion):
    """Still digits, a quarter turn later: turned to the left for positive rotations."""
    data = TurningDigits("test", clips=200, size=27, speed=(0, 0))
    rotation = ROTATIONS[motion]
    every = abs(90 // rotation)  # frames for a quarter turn
    right = wrong = 0.0
    for clip in data.clips[data.motion == motion][:, 0].float():
        centred = [_centred(frame) for frame in clip[: 2 * every]]
        for k in range(every):
            right += float((centred[k + every] - torch.rot90(centred[k], 1 if rotation > 0 else -1, (0, 1))).abs().mean())
            wrong += float((centred[k + every] - torch.rot90(centred[k], -1 if rotation > 0 else 1, (0, 1))).abs().mean())
    assert right < 0.5 * wrong  # zeros and ones look alike either way


def _centred(frame):
    """The frame rolled so that its ink's centre of mass is in the middle."""
    y, x = (float((frame.sum(1 - axis) * torch.arange(27)).sum() / frame.sum()) for axis in (0, 1))
    return torch.roll(frame, (13 - round(y), 13 - round(x)), (0, 1))


def test_every_fourth_frame_hides_the_sense_of_rotation():
    """Turned by ±90° a digit stands still there; by ±45° it turns by half a turn: forwards and backwards look alike."""
    data = TurningDigits("test", clips=60, speed=(0, 0))
    stage_s = schedule(1, 16, 28)[1]
    seen = view(torch.stack([data[i][0] for i in range(60)]), stage_s)[:, 0]
    quarter = seen[data.motion % 3 == 0]
    eighth = seen[data.motion % 3 != 0]
    assert len(quarter) > 10 and len(eighth) > 10
    assert (quarter - quarter[:, :1]).abs().max() < 1e-6
    assert (eighth[:, 2:] - eighth[:, :2]).abs().max() < 1e-6 and (eighth[:, 1] - eighth[:, 0]).abs().mean() > 0.01


def test_ink_stays_in_the_frame_and_is_small():
    data = TurningDigits("train", clips=200, speed=(2.0, 2.0))
    extent = (data.clips[:, 0] > 60).float()
    height = extent.amax(3).sum(2).amax(1)
    assert height.max() <= 17 and height.median() >= 8  # 11 pixels, more on the diagonal
    assert (data.clips.float().mean((1, 2, 3, 4)) > 2).all()  # none has left


def test_digits_are_as_fast_as_asked(monkeypatch):
    bounce, seen = turning.bounce, []
    monkeypatch.setattr(turning, "bounce", lambda *arguments: seen.append(arguments) or bounce(*arguments))
    TurningDigits("test", clips=50, speed=(1.0, 1.5))
    starts, speeds = seen[0][0], seen[0][1].norm(dim=-1)
    assert 0 <= starts.min() < 2 and starts.max() > 10
    assert 1 <= speeds.min() < 1.1 and 1.4 < speeds.max() <= 1.5


def test_the_first_frame_is_the_digit_upright():
    data = TurningDigits("test", clips=20, size=27, speed=(0, 0))
    upright = TurningDigits("test", clips=20, size=27, speed=(0, 0), frames=1)
    assert torch.equal(data.clips[:, :, 0], upright.clips[:, :, 0])


def test_shrunk_digits_keep_their_mean():
    images, _ = mnist("test")
    smaller = shrink(images[:50], 11)
    assert smaller.dtype == torch.uint8 and smaller.shape == (50, 15, 15)
    np.testing.assert_allclose(smaller.float().mean(), images[:50].float().mean(), rtol=0.03)
    board = (torch.arange(28)[:, None] + torch.arange(28)) % 2 * 255  # what is finer than the new pixels is averaged
    assert (shrink(board[None].to(torch.uint8), 11).float() - 127.5)[0, 1:-1, 1:-1].abs().max() < 40


def test_the_size_that_is_said_to_be_needed_will_do():
    with pytest.raises(ValueError, match="which needs") as refused:
        TurningDigits("test", clips=10, size=5)
    needed = int(re.findall(r"needs (\d+) pixels", str(refused.value))[0])
    assert TurningDigits("test", clips=10, size=needed).clips.shape[3:] == (needed, needed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 0}, "clips"),
        ({"frames": 0}, "frames"),
        ({"size": 5}, "size 5 is smaller than a digit's ink"),
        ({"digit_size": 3}, "digit_size=3: give .* 4"),
        ({"speed": (2, 1)}, "speed"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_that_make_no_clips_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TurningDigits("test", **({"clips": 10} | options))
