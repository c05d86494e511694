"""KTH: its list in every variant, its clips whole or refused by name, its windows where they should be."""

import os
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stdcf_lib.data import kth
from stdcf_lib.data.kth import KTH, sequences, windows
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS
from stdcf_lib.data.video import VideoError, decode_gray

HEADER = """\
This database contains sequences of six classes of actions performed by
25 subjects in four different conditions (see below).

Training:   person11, 12, 13, 14, 15, 16, 17, 18
Validation: person19, 20, 21, 23, 24, 25, 01, 04
Test:       person22, 02, 03, 05, 06, 07, 08, 09, 10
"""


def clips_of(subjects):
    return [f"person{s:02}_{action}_d{d}" for s in subjects for action in ACTIONS for d in range(1, 5)]


def test_actions_are_in_the_order_of_their_classes():
    assert ACTIONS == ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")


def test_split_is_the_official_one(user_data):
    assert sorted(sum(SPLITS.values(), ())) == list(range(1, 26))
    header = (user_data("kth") / "00sequences.txt").read_text().splitlines()
    for split, title in {"train": "Training", "validation": "Validation", "test": "Test"}.items():
        line = next(line for line in header if line.startswith(title))
        assert SPLITS[split] == tuple(int(number) for number in line.partition("person")[2].split(","))


# The list


interval = st.tuples(st.integers(1, 900), st.integers(0, 200)).map(lambda pair: (pair[0], sum(pair)))
listing = st.dictionaries(
    st.sampled_from(clips_of(range(1, 26))), st.lists(interval, max_size=5).map(tuple), min_size=1, max_size=12
)
spaces = st.sampled_from([" ", "\t", "\t\t", "    \t", "  "])


@st.composite
def list_and_text(draw):
    """A listing, and a text of it in some variant; intervals overlap and go back as they happen to."""
    found = draw(listing)
    rows = []
    for clip, intervals in found.items():
        rows += [""] * draw(st.integers(0, 2))
        comma = draw(st.sampled_from([", ", ",", ",  ", " , "]))
        if intervals:
            row = clip + draw(spaces) + "frames" + draw(spaces) + comma.join(f"{a}-{b}" for a, b in intervals)
        else:
            row = clip + draw(spaces) + "*missing*"
        rows.append(row + draw(st.sampled_from(["", " ", "\t"])))
    text = draw(st.sampled_from(["", "\n", HEADER, "\ufeff"])) + "\n".join(rows) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return found, text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@given(list_and_text())
def test_list_is_read_in_every_variant(tmp_path_factory, case):
    found, text = case
    path = tmp_path_factory.mktemp("list") / "00sequences.txt"
    path.write_bytes(text.encode())
    assert sequences(path) == found
    assert list(sequences(path)) == list(found)


def test_row_that_lost_a_digit_is_mended(tmp_path):
    (path := tmp_path / "list").write_text("person17_walking_d4\t\tframes\t1-112, 140-255, 300-420, 445-56\n")
    assert sequences(path) == {"person17_walking_d4": ((1, 112), (140, 255), (300, 420), (445, 560))}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("person01_boxing_d1 frames 1-95, 96-85", "line 2 of .* has the interval 96-85 of person01_boxing_d1"),
        ("person01_boxing_d1 frames 0-95", "the interval 0-95"),
        ("person01_boxing_d1 frames 1-95, 96", "line 2 of .* a row is like"),
        ("person01_boxing_d1 frames 1-95; 96-185", "a row is like"),
        ("person01_boxing_d1 frames", "a row is like"),
        ("person01_boxing_d1", "a row is like"),
        ("person01_boxing_d5 frames 1-95", "names 'person01_boxing_d5'; clips are named like"),
        ("person26_boxing_d1 frames 1-95", "names 'person26_boxing_d1'"),
        ("person00_boxing_d1 frames 1-95", "names 'person00_boxing_d1'"),
        ("person1_boxing_d1 frames 1-95", "names 'person1_boxing_d1'"),
        ("person01_hopping_d1 frames 1-95", "names 'person01_hopping_d1'"),
        ("person02_boxing_d1 frames 1-95", "line 2 of .* lists person02_boxing_d1 again"),
        (f"person01_boxing_d1 frames 1-{'9' * 5000}", "line 2 of .* a row is like"),
        ("person01_boxing_d1 frames 1-٩٥", "line 2 of .* a row is like"),
    ],
)
def test_faulty_row_is_named(tmp_path, row, message):
    (path := tmp_path / "list").write_text(f"person02_boxing_d1 frames 1-95\n{row}\n")
    with pytest.raises(ValueError, match=message):
        sequences(path)


@pytest.mark.parametrize("text", ["", HEADER, "<!DOCTYPE html>\n", "\x00\xff"])
def test_other_text_is_no_list(tmp_path, text):
    (path := tmp_path / "list").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="list has no row like"):
        sequences(path)


def test_official_list_is_read_whole(user_data):
    found = sequences(user_data("kth") / "00sequences.txt")
    assert set(found) == set(clips_of(range(1, 26)))
    assert [clip for clip, intervals in found.items() if not intervals] == ["person13_handclapping_d3"]
    assert sum(map(len, found.values())) == 2391
    assert found["person01_boxing_d1"] == ((1, 95), (96, 185), (186, 245), (246, 360))
    assert found["person17_walking_d4"][-1] == (445, 560)
    assert found["person16_handwaving_d4"][2:] == ((207, 311), (212, 456))


# Windows


@given(st.integers(1, 600), st.integers(1, 300), st.integers(1, 100), st.integers(0, 100))
def test_windows_fill_the_interval(first, frames, span, after):
    last, length = first + frames - 1, first + frames - 1 + after
    if length < span:
        with pytest.raises(ValueError, match=f"a window of {span} frames does not fit in a clip of {length}"):
            windows((first, last), span, length)
        return
    starts = windows((first, last), span, length)
    assert len(starts) == max(1, frames // span)
    assert all(0 <= start <= length - span for start in starts)
    assert all(b - a >= span for a, b in pairwise(starts))
    if frames >= span:
        assert starts[0] >= first - 1 and starts[-1] + span <= last
        before, behind = starts[0] - (first - 1), last - (starts[-1] + span)
        assert abs(before - behind) <= 1 and (len(starts) == 1 or before == behind == 0)
    elif 0 < starts[0] < length - span:
        assert abs((first - 1 - starts[0]) - (starts[0] + span - last)) <= 1


def test_windows_of_a_known_interval():
    assert windows((1, 95), 32, 360) == [0, 63]
    assert windows((96, 185), 32, 360) == [95, 153]
    assert windows((186, 240), 32, 360) == [196]
    assert windows((101, 124), 32, 360) == [96]
    assert windows((1, 24), 32, 360) == [0]
    assert windows((337, 360), 32, 360) == [328]


# The data set


@pytest.fixture
def folder(tmp_path, write_video):
    """A part of KTH: clips of 60 numbered frames of subjects 11 and 22, one flat and one in its action's folder."""
    write_video(tmp_path / "boxing/person11_boxing_d1_uncomp.avi", 60)
    write_video(tmp_path / "person11_running_d4_uncomp.avi", 60)
    write_video(tmp_path / "person22_walking_d2_uncomp.avi", 60)
    (tmp_path / "00sequences.txt").write_text(
        f"{HEADER}\n"
        "person11_boxing_d1\tframes\t1-24, 25-60\n"
        "person11_running_d4\tframes\t11-50\n"
        "person11_walking_d1\tframes\t1-60\n"
        "person13_handclapping_d3\t*missing*\n"
        "person22_walking_d2\tframes\t1-30\n"
    )
    return tmp_path


def stripes(window):
    """The numbers of a window's frames, modulo 32: of the ten stripes the last five, which are whole after downsampling."""
    bits = (window[0, :, 30, 4::8][:, 5:] > 0.5).long()
    return (bits * torch.tensor([16, 8, 4, 2, 1])).sum(1).tolist()


def test_windows_show_the_frames_of_their_interval(folder):
    data = KTH(folder, "train", frames=8, stride=2, cache=folder / "cache")
    assert data.clip == ["person11_boxing_d1"] * 3 + ["person11_running_d4"] * 2
    assert data.action.tolist() == [0, 0, 0, 4, 4] and data.subject.tolist() == [11] * 5
    assert (data.action.dtype, data.subject.dtype) == (torch.int64, torch.int64)
    starts = [4, 24, 44, 10, 34]
    for window, start in zip(iter(data), starts, strict=True):
        assert (window.shape, window.dtype) == ((1, 8, 60, 80), torch.float32)
        assert stripes(window) == [(start + 2 * t) % 32 for t in range(8)]
    assert torch.equal(data[-1], data[4])


def test_half_the_tempo_shows_the_same_time_in_twice_the_frames(folder):
    usual = KTH(folder, None, cache=folder / "cache")
    slowed = KTH(folder, None, frames=32, stride=1, cache=folder / "cache")
    assert usual.clip == slowed.clip and len(usual) == 4
    for a, b in zip(iter(usual), iter(slowed), strict=True):
        assert b.shape == (1, 32, 60, 80) and torch.equal(a, b[:, ::2])


def test_a_pixel_is_the_mean_of_the_four_it_covers(folder):
    frames = decode_gray(folder / "person22_walking_d2_uncomp.avi")
    data = KTH(folder, "test", cache=folder / "cache")
    expected = frames[0:32:2].reshape(16, 60, 2, 80, 2).mean((2, 4)) / 255
    np.testing.assert_allclose(data[0][0].numpy(), expected, atol=1e-6)
    assert 0 <= data[0].min() and data[0].max() <= 1 and data[0].max() > 0.9
    full = KTH(folder, "test", size=(120, 160), cache=folder / "cache")
    assert torch.equal(full[0][0] * 255, torch.from_numpy(frames[0:32:2]).float())


def test_part_of_kth_says_what_it_lacks(folder, caplog):
    data = KTH(folder, "train", cache=folder / "cache")
    assert data.missing == ["person11_walking_d1"]
    assert "split 'train': 1 of its 3 clips are missing" in caplog.text
    assert repr(data) == "<KTH train: 3 windows of 2 clips, 1 clips missing>"
    assert repr(KTH(folder, "test", cache=folder / "cache")) == "<KTH test: 1 windows of 1 clips>"
    with pytest.raises(ValueError, match=r"no clip of split 'validation'"):
        KTH(folder, "validation", cache=folder / "cache")
    (folder / "person22_walking_d2_uncomp.avi").unlink()
    with pytest.raises(ValueError, match=r"no clip of split 'test', such as walking/person22_walking_d2_uncomp\.avi"):
        KTH(folder, "test", cache=folder / "cache")
    (folder / "00sequences.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"00sequences\.txt"):
        KTH(folder, "train", cache=folder / "cache")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "val"}, "split='val': choose 'train', 'validation', 'test' or None"),
        ({"on_bad": "ignore"}, "on_bad='ignore': choose 'raise' or 'skip'"),
        ({"frames": 0}, "frames=0: give an integer of at least 1"),
        ({"stride": 1.5}, r"stride=1\.5: give an integer of at least 1"),
        ({"size": (121, 160)}, "height of size=121: give an integer from 1 to 120"),
        ({"size": (60, 161)}, "width of size=161: give an integer from 1 to 160"),
        ({"size": (60,)}, r"size=\(60,\): give 2 integers of at least 1 \(height, width\)"),
        ({"frames": 61, "stride": 1}, "a window of 61 frames does not fit in a clip of 60"),
    ],
)
def test_argument_out_of_range_is_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        KTH(folder, **{"split": "train", "cache": folder / "cache"} | arguments)


FAULTS = {
    "empty": lambda raw: b"",
    "foreign": lambda raw: b"<!DOCTYPE html>" * 100,
    "truncated": lambda raw: raw[: len(raw) // 2],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_clip_raises_or_is_skipped_and_named(folder, caplog, fault):
    path = folder / "person11_running_d4_uncomp.avi"
    path.write_bytes(FAULTS[fault](path.read_bytes()))
    with pytest.raises(VideoError, match="person11_running_d4"):
        KTH(folder, "train", cache=folder / "cache")
    data = KTH(folder, "train", cache=folder / "cache", on_bad="skip")
    assert set(data.clip) == {"person11_boxing_d1"} and len(data) == 2 == len(data.action) == len(data.subject)
    assert list(data.bad) == ["person11_running_d4"] and str(path) in data.bad["person11_running_d4"]
    assert f"skipped: {path}" in caplog.text
    assert repr(data) == "<KTH train: 2 windows of 1 clips, 1 clips missing, 1 bad clips left out>"
    assert not list((folder / "cache").glob("*running*"))


def test_clip_shorter_than_the_list_is_bad(folder, write_video):
    path = write_video(folder / "person11_running_d4_uncomp.avi", 49)
    with pytest.raises(VideoError, match=r"person11_running_d4.* is truncated: it has 49 frames, and the list goes on to 50"):
        KTH(folder, "train", cache=folder / "cache")
    write_video(path, 50)
    assert "person11_running_d4" in KTH(folder, "train", cache=folder / "cache").clip


def test_clip_of_another_size_is_bad(folder, write_video):
    write_video(folder / "person22_walking_d2_uncomp.avi", 60, height=240, width=320)
    with pytest.raises(VideoError, match=r"person22_walking_d2.* frames of \(240, 320\) pixels"):
        KTH(folder, "test", cache=folder / "cache")
    with pytest.raises(ValueError, match="no sound clip of split 'test'; bad: person22_walking_d2"):
        KTH(folder, "test", cache=folder / "cache", on_bad="skip")


# The cache


def test_cache_is_in_the_users_folder_unless_given(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    KTH(folder, "test")
    (made,) = (folder / "home/stdcf/kth").iterdir()
    assert made.name.startswith("person22_walking_d2-") and made.suffix == ".npy"


def test_clip_is_decoded_once(folder, monkeypatch):
    before = KTH(folder, "train", cache=folder / "cache")[0]

    def refuse(path):
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(kth, "decode_gray", refuse)
    assert torch.equal(KTH(folder, "train", cache=folder / "cache")[0], before)
    with pytest.raises(AssertionError, match="decoded again"):
        KTH(folder, "train", cache=folder / "another")


def test_changed_clip_is_decoded_anew(folder, write_video):
    path = folder / "person22_walking_d2_uncomp.avi"
    before = KTH(folder, "test", cache=folder / "cache")[0]
    assert stripes(before)[:3] == [0, 2, 4]
    write_video(path, 60, first=7)
    after = KTH(folder, "test", cache=folder / "cache")[0]
    assert stripes(after)[:3] == [7, 9, 11]

    # One byte inside differs, in a chunk that decoders pass over; size and time are the same.
    changed, time = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    changed[changed.index(b"JUNK") + 12] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(time, time))
    assert torch.equal(KTH(folder, "test", cache=folder / "cache")[0], after)
    assert len(list((folder / "cache").glob("*.npy"))) == 3


def test_failed_write_leaves_nothing(folder, monkeypatch):
    def full(file, frames):
        file.write(frames[:10].tobytes())
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(kth.np, "save", full)
        # A full disk is no bad clip, and is not skipped over.
        with pytest.raises(OSError, match="no space left"):
            KTH(folder, "test", cache=folder / "cache", on_bad="skip")
    assert list((folder / "cache").iterdir()) == []
    assert len(KTH(folder, "test", cache=folder / "cache")) == 1


def test_killed_write_is_not_taken_for_a_clip(folder):
    script = f"""
        import os, signal
        from stdcf_lib.data import kth

        def killed(file, frames):
            file.write(frames[:10].tobytes())
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        kth.np.save = killed
        kth.KTH({str(folder)!r}, "test", cache={str(folder / "cache")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((folder / "cache").iterdir()) and not list((folder / "cache").glob("*.npy"))
    frames = decode_gray(folder / "person22_walking_d2_uncomp.avi")
    expected = frames[0:32:2].reshape(16, 60, 2, 80, 2).mean((2, 4)) / 255
    np.testing.assert_allclose(KTH(folder, "test", cache=folder / "cache")[0][0].numpy(), expected, atol=1e-6)


def test_loader_processes_read_the_same(folder):
    data = KTH(folder, "train", cache=folder / "cache")
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(torch.cat(list(loader)), torch.stack([*data]))


# The real clips


def test_real_clips_end_with_the_last_frame_of_the_list(user_data, real_cache):
    folder = user_data("kth")
    data = KTH(folder, None, cache=real_cache)
    listed = sequences(folder / "00sequences.txt")
    assert data.bad == {} and len(set(data.clip)) + len(data.missing) == 599
    assert {path.name.removesuffix("_uncomp.avi") for path in folder.rglob("*.avi")} == set(data.clip)
    for clip in set(data.clip):
        (decoded,) = real_cache.glob(f"{clip}-*.npy")
        frames = np.load(decoded, mmap_mode="r")
        assert (frames.shape, frames.dtype) == ((listed[clip][-1][1], 120, 160), np.uint8), clip


def test_real_clips_fall_into_the_official_split(user_data, real_cache):
    subjects = {
        split: set(KTH(user_data("kth"), split, cache=real_cache).subject.tolist()) for split in ("train", "validation")
    }
    assert subjects["train"] and subjects["train"] <= {11, 12, 13, 14, 15, 16, 17, 18}
    assert subjects["validation"] and subjects["validation"] <= {19, 20, 21, 23, 24, 25, 1, 4}


def test_real_clips_move_and_are_not_blank(user_data, real_cache):
    data = KTH(user_data("kth"), None, cache=real_cache)
    for index in range(len(data)):
        window = data[index]
        assert window.std() > 0.02 and window.diff(dim=1).abs().amax() > 0.02, data.clip[index]


def test_real_clip_cut_short_is_refused(user_data, tmp_path):
    name = "person15_running_d1_uncomp.avi"
    raw = (user_data("kth") / name).read_bytes()
    (tmp_path / "00sequences.txt").write_bytes((user_data("kth") / "00sequences.txt").read_bytes())
    (tmp_path / name).write_bytes(raw[: int(0.8 * len(raw))])
    with pytest.raises(VideoError, match=r"person15_running_d1.*truncated"):
        KTH(tmp_path, "train", cache=tmp_path / "cache")
