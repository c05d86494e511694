"""Videos made small: the same frames at the same times, nothing half done, and mistakes refused before anything is written."""

import os
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
import pytest
import torch

from stdcf_lib.data import shrink as module
from stdcf_lib.data.kinetics import Kinetics
from stdcf_lib.data.shrink import HALF_WRITTEN, KEY_FRAMES_EVERY, main, shrink
from stdcf_lib.data.video import VideoError, decode, decode_gray, frame_count

pytestmark = pytest.mark.skipif(module.ENCODER not in av.codecs_available, reason="PyAV has no encoder for H.264 here")


def run(*words):
    """What the command prints when it ends early; None if it is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["shrink", *map(str, words)])
        try:
            return main()
        except SystemExit as end:
            return end.code


def stream(path):
    with av.open(str(path)) as container:
        found = container.streams.video[0]
        return found.codec_context.name, found.width, found.height, found.average_rate, found.codec_context.pix_fmt


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def tree(tmp_path, write_video):
    """Two videos in two folders, with lists."""
    write_video(tmp_path / "from" / "train" / "air drumming" / "a.b.avi", 40)
    write_video(tmp_path / "from" / "val" / "c.MKV", 12, first=100, b_frames=2)
    (tmp_path / "from" / "train.txt").write_bytes(b"air drumming/a.b.avi 0\r\ngone.Mp4 1\r\nfolder.avi/of frames 3\r\n")
    (tmp_path / "from" / "classes.txt").write_text("air drumming\nnot a .avi\n")
    (tmp_path / "from" / "val.csv").write_text("label,youtube_id\nyoga.avi,5\n")
    (tmp_path / "from" / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / "from" / "val" / "._c.mkv").write_bytes(b"what a Mac leaves")
    return tmp_path


# The command


def test_a_tree_is_copied_small_with_its_lists(tree, numbers):
    assert run(tree / "from", tree / "to", "--short-side", 60, "--jobs", 2) is None
    small = ["classes.txt", "train.txt", "train/air drumming/a.b.mp4", "val.csv", "val/c.mp4"]
    assert below(tree / "to") == small
    video = tree / "to" / small[2]
    assert stream(video) == ("h264", 80, 60, 25, "yuv420p")
    assert numbers(decode_gray(video)) == list(range(40)) and frame_count(video) == 40
    assert numbers(decode_gray(tree / "to" / "val" / "c.mp4")) == list(range(100, 112))
    assert (tree / "to" / "train.txt").read_bytes() == b"air drumming/a.b.mp4 0\r\ngone.mp4 1\r\nfolder.avi/of frames 3\r\n"
    for name in ("classes.txt", "val.csv"):
        assert (tree / "to" / name).read_bytes() == (tree / "from" / name).read_bytes()
    clips = Kinetics(tree / "to" / "train.txt", tree / "to" / "train", training=True, frames=2, stride=1, size=32)
    torch.manual_seed(0)  # of the window, the crop
    assert len(clips) == 1 and clips[0][0].std() > 0.1


def test_what_is_finished_is_left_alone_and_lists_are_fresh(tree, write_video):
    assert run(tree / "from", tree / "to", "--short-side", 60) is None
    first = tree / "to" / "train" / "air drumming" / "a.b.mp4"
    os.utime(first, (1, 1))
    (tree / "to" / "val" / "c.mp4").unlink()
    (tree / "to" / "val" / f".x{HALF_WRITTEN}").write_bytes(b"half")
    write_video(tree / "from" / "val" / "d.mp4", 3)
    (tree / "from" / "train.txt").write_text("d.mp4 0\n")
    assert run(tree / "from", tree / "to", "--short-side", 60) is None
    assert first.stat().st_mtime == 1
    assert below(tree / "to" / "val") == ["c.mp4", "d.mp4"]
    assert (tree / "to" / "train.txt").read_text() == "d.mp4 0\n"


def test_faulty_videos_are_named_at_the_end_and_stop_nothing(tree):
    whole = tree / "from" / "train" / "air drumming" / "a.b.avi"
    (tree / "from" / "empty.mp4").write_bytes(b"")
    (tree / "from" / "cut.avi").write_bytes(whole.read_bytes()[:-9000])
    (tree / "from" / "gone.mp4").symlink_to(tree / "nowhere.mp4")
    said = str(run(tree / "from", tree / "to", "--short-side", 60))
    first, *faults = said.splitlines()
    assert "3 of 5 videos cannot be read" in first
    assert [name in line for name, line in zip(("cut.avi", "empty.mp4", "gone.mp4"), faults, strict=True)] == [True] * 3
    assert "damaged" in faults[0]
    assert [name for name in below(tree / "to") if name.endswith("mp4")] == ["train/air drumming/a.b.mp4", "val/c.mp4"]
    assert not list((tree / "to").rglob(f"*{HALF_WRITTEN}"))


def test_folders_that_are_links_are_entered(tree):
    (tree / "linked").mkdir()
    (tree / "linked" / "train").symlink_to(tree / "from" / "train")
    assert run(tree / "linked", tree / "to", "--short-side", 60) is None
    assert below(tree / "to") == ["train/air drumming/a.b.mp4"]


def mistakes(tree):
    (tree / "bare").mkdir()
    (tree / "file").write_text("")
    (tree / "from" / "absolute").mkdir()
    return {
        "--short-side=0: give an integer of at least 2": ("from", "to", "--short-side", 0),
        "--short-side=255: give an even integer": ("from", "to", "--short-side", 255),
        "argument --short-side: invalid int value: 'small'": ("from", "to", "--short-side", "small"),
        "--jobs=0: give an integer of at least 1": ("from", "to", "--jobs", 0),
        "absent' is no folder; name a folder of videos": ("absent", "to"),
        "train.txt' is no folder; name a folder of videos": ("from/train.txt", "to"),
        "bare' has no videos in it: no file that ends in .avi, .m4v,": ("bare", "to"),
        "file' is a file; name a folder": ("from", "file"),
        "name two separate folders": ("from", "from/small"),
        "and FROM=": ("from", "."),
        "are within each other": ("from", "from"),
        "the following arguments are required: TO": ("from",),
        "Not a directory": ("from", "file/to"),
    }


def test_every_mistake_is_a_line_and_nothing_is_written(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    asked = mistakes(tree)
    before = sorted(tree.rglob("*"))
    for message, words in asked.items():
        assert run(*words) == 2, message
        last = capsys.readouterr().err.splitlines()[-1]
        assert message in last and last.startswith("stdcf_lib.data.shrink: error: ")
    assert sorted(tree.rglob("*")) == before


def test_two_videos_of_one_name_are_refused(tree, write_video, capsys):
    write_video(tree / "from" / "val" / "c.mp4", 3)
    assert run(tree / "from", tree / "to") == 2
    assert "c.MKV and " in (said := capsys.readouterr().err) and "would both become" in said
    assert not (tree / "to").exists()


def test_a_list_of_absolute_paths_is_refused(tree, capsys):
    (tree / "from" / "val.txt").write_text(f"c.mkv 0\n{tree}/from/val/c.MKV 0\n")
    assert run(tree / "from", tree / "to") == 2
    assert "line 2 of " in (said := capsys.readouterr().err) and "has the absolute path" in said
    assert not (tree / "to").exists()


def test_a_folder_of_another_size_is_not_mixed_with(tree, capsys):
    assert run(tree / "from", tree / "to", "--short-side", 60) is None
    (tree / "to" / "val" / "c.mp4").unlink()
    assert run(tree / "from", tree / "to", "--short-side", 40) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "is there with 80 × 60 pixels, and --short-side=40 makes 54 × 40; name another folder TO" in said
    assert not (tree / "to" / "val" / "c.mp4").exists()


def test_a_pyav_without_the_encoder_is_told(tree, monkeypatch, capsys):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert run(tree / "from", tree / "to") == 2
    assert "this PyAV has no encoder libx264 for H.264" in capsys.readouterr().err
    assert not (tree / "to").exists()


def test_a_full_disk_stops_it_with_a_line(tree):
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        said = str(run(tree / "from", tree / "to", "--short-side", 60))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "File too large" in said and "the same command goes on from there" in said and "\n" not in said
    assert not [name for name in below(tree / "to") if name.endswith((".mp4", HALF_WRITTEN))]
    assert run(tree / "from", tree / "to", "--short-side", 60) is None


def test_it_is_a_command_and_ctrl_c_leaves_nothing_half_written(tree, write_video):
    long = write_video(tree / "from" / "0.mp4", 60, height=240, width=320)
    for number in range(1, 400):  # enough for a machine so busy that this process sleeps for seconds
        (tree / "from" / f"{number}.mp4").hardlink_to(long)
    command = [sys.executable, "-m", "stdcf_lib.data.shrink", tree / "from", tree / "to", "--jobs", "1"]
    # Where tests run in the background of a shell, Ctrl-C is ignored, and a child inherits that.
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeded)
    while process.poll() is None and not list((tree / "to").rglob("*.mp4")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.strip() == "stdcf_lib.data.shrink: stopped; the same command goes on from here"
    made = list((tree / "to").rglob("*.mp4"))
    assert 0 < len(made) < 402 and not list((tree / "to").rglob(f"*{HALF_WRITTEN}"))
    for path in made:
        assert len(decode_gray(path)) == frame_count(path)


# One video


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((160, 120), 60, (80, 60)),
        ((120, 160), 60, (60, 80)),
        ((160, 120), 50, (66, 50)),
        ((160, 120), 120, (160, 120)),
        ((160, 120), 256, (160, 120)),
        ((162, 122), 256, (162, 122)),
    ],
)
def test_sizes_are_even_and_never_larger(tmp_path, write_video, size, short_side, expected):
    width, height = size
    path = write_video(tmp_path / "clip.avi", 2, width=width, height=height)
    shrink(path, tmp_path / "small.mp4", short_side)
    assert stream(tmp_path / "small.mp4")[1:3] == expected


def test_odd_sizes_lose_a_line(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mkv", 2, width=161, height=121, codec="ffv1")
    shrink(path, tmp_path / "small.mp4")
    assert stream(tmp_path / "small.mp4")[1:3] == (160, 120)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_times_stay(tmp_path, write_video, numbers, suffix):
    times = [0, 1, 2, 3, 8, 9, 10, 15, 16, 17]
    path = write_video(tmp_path / f"clip{suffix}", len(times), [time + 5 for time in times], b_frames=2)
    shrink(path, tmp_path / "small.mp4", 60)
    with av.open(str(tmp_path / "small.mp4")) as container:
        frames = list(container.decode(video=0))
        first = frames[0].time
        shown = [(number, round(25 * (frame.time - first))) for number, frame in enumerate(frames)]
    assert shown == list(enumerate(times))
    assert numbers(decode_gray(tmp_path / "small.mp4")) == list(range(10))


def test_a_video_becomes_the_same_file_always(tmp_path):
    """A texture that moves, as of pictures without one a faulty encoder makes the same bytes, too."""
    texture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        made = container.add_stream("mpeg4", rate=25)
        made.width, made.height, made.pix_fmt, made.bit_rate = 320, 240, "yuv420p", 4_000_000
        for t in range(60):
            x, y = int(70 + 60 * np.sin(t / 7)), int(30 + 30 * np.cos(t / 5))
            seen = np.ascontiguousarray(texture[y : y + 240, x : x + 320])
            container.mux(made.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")))
        container.mux(made.encode())
    files = set()
    for _ in range(10):
        shrink(tmp_path / "clip.mp4", tmp_path / "small.mp4", 128)
        files.add((tmp_path / "small.mp4").read_bytes())
    assert len(files) == 1


def test_of_frames_shown_at_once_the_first_stays(tmp_path, write_video, numbers):
    with av.open(str(write_video(tmp_path / "clip.mp4", 6))) as clip, av.open(str(tmp_path / "film.mkv"), "w") as film:
        made = film.add_stream("mpeg4", rate=25)
        made.width, made.height, made.pix_fmt = clip.streams.video[0].width, clip.streams.video[0].height, "yuv420p"
        packets = (packet for frame in [*clip.decode(video=0), None] for packet in made.encode(frame))
        for time, packet in zip((0, 1, 2, 2, 3, 4), packets, strict=True):
            packet.time_base, packet.pts, packet.dts = Fraction(1, 25), time, time
            film.mux(packet)
    shrink(tmp_path / "film.mkv", tmp_path / "small.mp4", 60)
    assert numbers(decode_gray(tmp_path / "film.mkv")) == [0, 1, 2, 3, 4, 5]
    assert numbers(decode_gray(tmp_path / "small.mp4")) == [0, 1, 2, 4, 5]


def test_avi_is_counted_though_frames_are_left_out(tmp_path, write_video, numbers):
    """As an AVI is decoded: what repeats the frame before is not among its frames."""
    path = write_video(tmp_path / "clip.avi", 40, [*range(20), *range(30, 50)])
    shrink(path, tmp_path / "small.mp4", 60)
    assert numbers(decode(path)[..., 0]) == numbers(decode(tmp_path / "small.mp4")[..., 0]) == list(range(40))


@pytest.mark.parametrize("before", [1, 100])
def test_a_key_frame_is_near_wherever_a_clip_begins(tmp_path, write_video, before):
    """And there are no more of them than that needs, however many there were."""
    shrink(write_video(tmp_path / "clip.mp4", 100, key_frames_every=before), tmp_path / "small.mp4")
    with av.open(str(tmp_path / "small.mp4")) as container:
        keys = [number for number, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert np.diff([*keys, 100]).max() <= KEY_FRAMES_EVERY and keys[0] == 0 and len(keys) < 50


@pytest.mark.parametrize(("matrix", "full"), [(None, False), (1, False), (1, True), (6, True)])
def test_colours_and_the_shape_of_pixels_stay(tmp_path, matrix, full):
    """By whichever matrix and range the colours are stored."""
    names = {1: "ITU709", 6: "SMPTE170M"}
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = colours.repeat(16, 0).repeat(16, 1)
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        made = container.add_stream("libx264", rate=25, options={"crf": "4"})
        made.width, made.height, made.pix_fmt = 128, 96, "yuv420p"
        made.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if matrix:
            made.codec_context.colorspace, made.codec_context.color_range = matrix, 1 + full
        how: Any = {"dst_colorspace": names[matrix], "dst_color_range": ("MPEG", "JPEG")[full]} if matrix else {}
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", **how)
        container.mux(made.encode(frame))
        container.mux(made.encode())
    shrink(tmp_path / "clip.mp4", tmp_path / "small.mp4")
    before, after = (decode(tmp_path / name)[0, 8::16, 8::16].astype(int) for name in ("clip.mp4", "small.mp4"))
    assert abs(before - colours).max() < 8 and abs(after - before).max() < 8
    with av.open(str(tmp_path / "small.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_a_video_that_cannot_be_read_leaves_nothing(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", 40)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        shrink(path, tmp_path / "small.mp4")
    narrow = write_video(tmp_path / "narrow.mkv", 2, width=20, height=1, codec="ffv1")
    with pytest.raises(VideoError, match=r"narrow\.mkv has frames of 20 × 1 pixels; H\.264 needs 2 × 2"):
        shrink(narrow, tmp_path / "small.mp4")
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
        shrink(tmp_path / "absent.mp4", tmp_path / "small.mp4")
    with pytest.raises(ValueError, match="short_side=31: give an even integer"):
        shrink(path, tmp_path / "small.mp4", 31)
    assert below(tmp_path) == ["clip.mp4", "narrow.mkv"]


def test_real_videos_keep_their_frames(user_data, tmp_path):
    for name in ("mmaction2-demo.mp4", "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi"):
        path = user_data("video") / name
        shrink(path, tmp_path / "small.mp4", 128)
        before, after = decode(path, short_side=64).astype(int), decode(tmp_path / "small.mp4", short_side=64).astype(int)
        assert before.shape == after.shape and abs(before - after).mean() < 3
        assert abs(before - after).mean() < abs(before[1:] - after[:-1]).mean()
        assert stream(path)[3] == stream(tmp_path / "small.mp4")[3]
