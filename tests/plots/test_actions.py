"""The contact sheet shows the frames it says, and its rendered strips stand beside the real ones."""

import numpy as np
import pytest

from stdcf_lib.data.actions import duration, render
from stdcf_lib.data.kth_protocol import ACTIONS
from stdcf_lib.plots.actions import FRAMES, SPACING, contact_sheet


def test_sheet_without_real_clips():
    drawing = contact_sheet(subject=3, scenario=4)
    assert repr(drawing) == f"<Drawing: rendered ({len(ACTIONS)}, {FRAMES}, 120, 160)>"
    strips = drawing.arrays["rendered"]
    frames = render("boxing", 3, 4, 1, 1 + SPACING * (FRAMES - 1))
    np.testing.assert_array_equal(strips[ACTIONS.index("boxing")], frames[::SPACING])
    assert duration("running", 3, 4, 1) < duration("jogging", 3, 4, 1) < duration("walking", 3, 4, 1)
    drawn = [axes.images[0].get_array() for axes in drawing.figure.axes]
    np.testing.assert_array_equal(drawn, [np.concatenate(list(strip), axis=1) for strip in strips])
    assert [axes.get_ylabel() for axes in drawing.figure.axes] == list(ACTIONS)


def test_sheet_shows_gaits_with_a_person_in_every_frame():
    strips = contact_sheet(labels=False).arrays["rendered"]
    for action in ("walking", "jogging", "running"):
        strip = strips[ACTIONS.index(action)]
        apart = (np.abs(strip - np.median(strip, axis=0)) > 25).mean((1, 2))
        assert apart.min() > apart.max() / 3


def test_sheet_can_hide_the_names():
    assert not any(axes.get_ylabel() for axes in contact_sheet(labels=False).figure.axes)


def test_sheet_beside_real_clips(user_data):
    arrays = contact_sheet(user_data("kth")).arrays
    assert arrays["real_KTH"].shape == arrays["rendered"].shape
    assert (arrays["real_KTH"].std((1, 2, 3)) > 5).all()


def test_sheet_leaves_black_what_a_folder_lacks(tmp_path):
    (tmp_path / "00sequences.txt").write_text("person01_boxing_d1 frames 1-95\n")
    assert not contact_sheet(tmp_path).arrays["real_KTH"].any()
    with pytest.raises(FileNotFoundError):
        contact_sheet(tmp_path / "elsewhere")
