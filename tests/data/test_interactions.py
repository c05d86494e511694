"""UT-Interaction: which clips there are, what a network is shown of them, and what it is not."""

import numpy as np
import pytest
import torch

from stdcf_lib.data.interactions import INTERACTIONS, Interactions, canvas, shown, window


def test_clips_are_read_in_the_order_of_their_numbers(tmp_path, write_video):
    for name in ("10_2_0.avi", "9_1_3.avi"):
        write_video(tmp_path / name, 5, width=64, height=32)
    (tmp_path / "notes.txt").write_text("not a clip")
    data = Interactions(tmp_path, height=16, width=24)
    assert data.name == ["9_1_3.avi", "10_2_0.avi"] and len(data) == 2
    assert data.sequence.tolist() == [1, 2] and data.interaction.tolist() == [3, 0]
    assert data.aspect.tolist() == [2.0, 2.0]
    assert [tuple(clip.shape) for clip in data.clips] == [(5, 16, 24)] * 2 and data.clips[0].dtype == torch.uint8
    assert Interactions(tmp_path).clips[0].shape == (5, 64, 96)


def test_folders_without_clips_and_unknown_interactions_are_refused(tmp_path, write_video):
    with pytest.raises(FileNotFoundError, match=r"no clip such as 0_1_4\.avi"):
        Interactions(tmp_path)
    write_video(tmp_path / "0_1_6.avi", 2, width=32, height=32)
    with pytest.raises(ValueError, match=r"0_1_6\.avi is named for interaction 6; there are 0 to 5"):
        Interactions(tmp_path)


def test_frames_keep_their_aspect_on_the_canvas():
    wide = np.zeros((1, 4, 16), np.uint8)
    wide[..., 8:] = 200
    assert canvas(wide, 4, 8)[0, 0].tolist() == [0] * 4 + [200] * 4  # the middle is cut out
    narrow = np.arange(4, dtype=np.uint8)[None, None].repeat(4, 1)
    assert canvas(narrow, 4, 8)[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 3, 3]  # the edge goes on
    assert canvas(np.full((1, 8, 8), 7, np.uint8), 4, 4).unique().tolist() == [7]


def test_a_window_has_a_fixed_stride_and_stays_in_the_clip():
    assert window(9, 3, 2).tolist() == [2, 4, 6]
    assert window(9, 3, 2, shift=1).tolist() == [3, 5, 7]
    assert window(9, 3, 2, shift=99).tolist() == [4, 6, 8] and window(9, 3, 2, shift=-99).tolist() == [0, 2, 4]
    assert window(5, 3, 2, shift=1).tolist() == [0, 2, 4]  # there is room for one alone
    assert window(3, 4, 2).tolist() == [0, 0, 2, 2]  # shorter than the window: its first and last frame go on


def test_what_stands_still_is_not_shown():
    still = torch.randint(0, 255, (1, 6, 6), dtype=torch.uint8).expand(8, -1, -1)
    moving = still.clone()
    moving[::2, 2, 2] = 255 - moving[::2, 2, 2]
    x = shown([still, moving], [np.arange(8)] * 2)
    assert x.shape == (2, 1, 8, 6, 6)
    assert x[0].abs().max() == 0
    assert x[1, 0, :, 2, 2].abs().min() > 1 and x[1].abs().sum() == x[1, 0, :, 2, 2].abs().sum()
    assert x[1].std(correction=0) == pytest.approx(1)


def test_a_single_frame_shows_the_scene():
    clip = torch.randint(0, 255, (4, 6, 6), dtype=torch.uint8)
    frame = clip[2].float()
    expected = (frame - frame.mean()) / frame.std(correction=0)
    torch.testing.assert_close(shown([clip], [np.array([2])])[0, 0, 0], expected)


def test_the_real_clips_are_sixty_ten_of_each(user_data, tmp_path):
    names = [path.name for path in user_data("ut_interaction").glob("*.avi")]
    sequence, interaction = (torch.tensor([int(name[:-4].split("_")[part]) for name in names]) for part in (1, 2))
    assert len(names) == 60 and interaction.bincount().tolist() == [10] * len(INTERACTIONS)
    assert sequence.unique().tolist() == list(range(1, 11))
    for name in names:
        if "_7_" in name:  # one recording is enough to decode
            (tmp_path / name).symlink_to(user_data("ut_interaction") / name)
    data = Interactions(tmp_path)
    assert len(data) == len(list(tmp_path.iterdir())) > 0 and data.sequence.unique().tolist() == [7]
    assert {tuple(clip.shape[1:]) for clip in data.clips} == {(64, 96)}
    assert all(len(clip) > 30 and clip.float().std() > 10 for clip in data.clips)
