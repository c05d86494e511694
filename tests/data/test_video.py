"""Videos: every frame is the right one however it is reached, and a faulty file is refused by name."""

import random
import subprocess
import sys
import wave

import av
import numpy as np
import pytest
from PIL import Image

from stdcf_lib.data import video
from stdcf_lib.data.video import VideoError, decode, decode_gray, decode_jpegs, decode_numbers, frame_count, timed_frames

REAL = {
    "R6llTwEh07w.mp4": (303, 256, 340),
    "WUzgd7C1pWA.mp4": (327, 256, 340),
    "mmaction2-demo.mp4": (280, 256, 340),
    "v_SoccerJuggling_g23_c01.avi": (240, 240, 320),
    # Its header promises 75: packed B-frames leave one packet that shows nothing.
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": (74, 240, 320),
}


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_gray_frames_come_whole_and_in_order(tmp_path, write_video, numbers, suffix):
    frames = decode_gray(write_video(tmp_path / f"clip{suffix}", 40))
    assert (frames.shape, frames.dtype) == ((40, 120, 160), np.uint8)
    assert numbers(frames) == list(range(40))


def test_gray_spans_black_to_white(tmp_path, write_video):
    frames = decode_gray(write_video(tmp_path / "clip.avi", 40))
    assert frames.min() <= 3 and frames.max() >= 252


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_frames_are_found_wherever_decoding_starts(tmp_path, write_video, numbers, suffix, b_frames):
    path = write_video(tmp_path / f"clip{suffix}", 40, b_frames=b_frames)
    for start in range(40):
        assert numbers(decode(path, start, 1)[..., 0]) == [start]
    assert numbers(decode(path, 3, 5, 7)[..., 0]) == [3, 10, 17, 24, 31]
    assert numbers(decode(path, 35)[..., 0]) == [35, 36, 37, 38, 39]
    assert numbers(decode(path, 30, stride=4)[..., 0]) == [30, 34, 38]


def test_only_frames_from_the_key_frame_on_are_decoded(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", 60, key_frames_every=10)
    decoded = []
    frames = video._frames
    monkeypatch.setattr(video, "_frames", lambda *args, **kw: (decoded.append(frame) or frame for frame in frames(*args, **kw)))
    decode(path, 45, 3)
    assert len(decoded) == 8  # 40 is the key frame, 47 the last one wanted


@pytest.fixture
def write_h264(tmp_path, write_video):
    """Writes a video of H.264; many of its frames no other hangs on."""
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no encoder libx264")
    return lambda name, *frames: write_video(tmp_path / name, *frames, key_frames_every=40, b_frames=4, codec="libx264")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("times", [range(80), [0, 1, 2, 3, 8, 9, 10, 15, 16, 17, 20, 21, 25, *range(26, 80)]])
def test_frames_passed_over_change_no_other(write_h264, times, suffix):
    path = write_h264(f"clip{suffix}", len(times), times)
    whole = decode(path)
    for stride in (1, 2, 3, 8):
        for start in range(0, len(whole) - 3 * stride, 5):
            numbers = list(range(start, start + 4 * stride, stride))
            np.testing.assert_array_equal(decode_numbers(path, numbers), whole[numbers])
            np.testing.assert_array_equal(decode(path, start, 4, stride), whole[numbers])
    last = len(whole) - 1
    np.testing.assert_array_equal(decode_numbers(path, [last - 5, last + 3], hold=True), whole[[last - 5, last]])
    with pytest.raises(VideoError, match=f"it ends with frame {last}, counted from 0, and frame {last + 3} is asked for"):
        decode_numbers(path, [last - 5, last + 3])


def test_frames_that_nothing_needs_are_not_decoded(write_h264, monkeypatch):
    path = write_h264("clip.mp4", 80)
    decoded = []
    frames = video._frames
    monkeypatch.setattr(video, "_frames", lambda *args, **kw: (decoded.append(frame) or frame for frame in frames(*args, **kw)))
    decode(path, 45, 4, 8)
    assert len(decoded) < 25  # of frames 40 to 69
    assert {45, 53, 61, 69} <= {round(25 * frame.time) for frame in decoded}


def test_a_last_frame_that_was_passed_over_is_held(write_h264, monkeypatch):
    """No other frame may hang on the last one, in a stream of another encoder than this."""
    path = write_h264("clip.mp4", 20)
    whole, frames = decode(path), video._frames

    def passing_over(opened, entire, needed):
        return (frame for frame in frames(opened, entire, needed) if needed is None or frame.time < 19 / 25)

    monkeypatch.setattr(video, "_frames", passing_over)
    np.testing.assert_array_equal(decode_numbers(path, [10, 25], hold=True), whole[[10, 19]])


def test_frames_come_with_their_times_from_0(tmp_path, write_video):
    times = [5, 6, 9, 10]
    for suffix, expected in ((".mp4", [0, 1, 4, 5]), (".mkv", [0, 1, 4, 5]), (".avi", [0, 1, 2, 3])):
        with timed_frames(write_video(tmp_path / f"clip{suffix}", 4, times)) as (stream, shown):
            assert stream.codec_context.width == 160
            assert [round(25 * frame.time, 1) for frame in shown] == expected


def test_video_of_varying_rate_is_sampled_by_time(tmp_path, write_video, numbers):
    times = [0, 1, 2, 3, 8, 9, 10, 15, 16, 17]
    path = write_video(tmp_path / "clip.mkv", len(times), times)
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert rate
        period = float(25 / rate)
    due = [max(i for i, time in enumerate(times) if round(time / period) <= k) for k in range(round(times[-1] / period) + 1)]
    assert numbers(decode(path)[..., 0]) == due
    for start in range(len(due)):
        assert numbers(decode(path, start, 1)[..., 0]) == [due[start]]


def test_avi_with_frames_left_out_is_whole(tmp_path, write_video, numbers):
    path = write_video(tmp_path / "clip.avi", 40, [*range(20), *range(30, 50)])
    assert numbers(decode_gray(path)) == list(range(40)) == numbers(decode(path)[..., 0])
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(VideoError):
        decode_gray(path)


def test_short_side_is_resized_and_the_aspect_kept(tmp_path, write_video):
    wide, tall = (write_video(tmp_path / f"{w}.mp4", 2, height=h, width=w) for h, w in ((120, 160), (160, 120)))
    assert decode(wide, short_side=60).shape == (2, 60, 80, 3)
    assert decode(tall, short_side=60).shape == (2, 80, 60, 3)
    assert decode(wide, short_side=50).shape == (2, 50, 67, 3)
    # Resizing moves no brightness about beyond its neighbours.
    assert abs(decode(wide, short_side=60).mean() - decode(wide).mean()) < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, "start=-1: give an integer of at least 0"),
        ({"frames": 0}, "frames=0: give an integer of at least 1"),
        ({"stride": 1.5}, "stride=1.5: give an integer of at least 1"),
        ({"short_side": 0}, "short_side=0: give an integer of at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        decode(tmp_path / "never opened.mp4", **arguments)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
@pytest.mark.parametrize("arguments", [(40,), (38, 3), (30, 4, 4), (400, 1)])
def test_too_short_a_video_is_named(tmp_path, write_video, suffix, arguments):
    path = write_video(tmp_path / f"clip{suffix}", 40)
    with pytest.raises(VideoError, match=r"too short: it ends with frame 39") as raised:
        decode(path, *arguments)
    assert str(path) in str(raised.value)


def truncated(part):
    return lambda raw: raw[: int(len(raw) * part)]


def overwritten(raw):
    middle = len(raw) // 2
    return raw[:middle] + np.random.default_rng(0).bytes(2000) + raw[middle + 2000 :]


FAULTS = {
    "empty": lambda raw: b"",
    "a web page": lambda raw: b"<!DOCTYPE html>" * 100,
    "a playlist": lambda raw: b"#EXTM3U\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
    "the header alone": truncated(0.01),
    "a third": truncated(1 / 3),
    "all but a tenth": truncated(0.9),
    "bytes overwritten": overwritten,
    "zeros from the middle": lambda raw: raw[: len(raw) // 2] + bytes(len(raw) // 2),
}


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("decoder", [decode_gray, decode])
def test_faulty_file_is_named(tmp_path, write_video, decoder, fault, suffix):
    path = write_video(tmp_path / f"clip{suffix}", 40)
    path.write_bytes(FAULTS[fault](path.read_bytes()))
    with pytest.raises(VideoError) as raised:
        decoder(path)
    assert str(path) in str(raised.value)


def payload(path, number):
    """Where the bytes of a frame of an AVI begin and end in the file."""
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[number]
        return packet.pos + 8, packet.pos + 8 + packet.size


def test_file_that_ends_within_its_last_frame_is_truncated(tmp_path, write_video):
    path = write_video(tmp_path / "clip.avi", 40)
    begin, end = payload(path, 39)
    path.write_bytes(path.read_bytes()[: (begin + end) // 2])
    with pytest.raises(VideoError, match="truncated in or after its frame 40"):
        decode_gray(path)


def test_damage_within_a_frame_is_not_hidden(tmp_path, write_video):
    path = write_video(tmp_path / "clip.avi", 40)
    begin, end = payload(path, 24)
    raw = path.read_bytes()
    path.write_bytes(raw[: begin + 60] + np.random.default_rng(0).bytes(end - begin - 80) + raw[end - 20 :])
    with pytest.raises(VideoError, match="damaged"):
        decode_gray(path)
    assert len(decode(path, 0, 20)) == 20


@pytest.mark.parametrize("suffix", [".txt", ".avi"])
def test_text_is_no_video(tmp_path, suffix):
    (path := tmp_path / f"readme{suffix}").write_text("To be read, not watched.\n" * 50)
    with pytest.raises(VideoError, match="readme"):
        decode_gray(path)


def test_sound_alone_is_no_video(tmp_path, write_video):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound.mkv has no video stream; it has \['audio'\]"):
        decode(tmp_path / "sound.mkv")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    with pytest.raises(VideoError, match=r"sound.wav"):
        decode(tmp_path / "sound.wav")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
        decode_gray(tmp_path / "absent.mp4")
    with pytest.raises(IsADirectoryError):
        decode(tmp_path)


# Whatever the bytes are

WRITTEN = {"clip.avi": "mpeg4", "clip.mp4": "mpeg4", "clip.mov": "mpeg4", "clip.mkv": "mpeg4", "clip.webm": "libvpx"}


@pytest.fixture
def written(tmp_path, write_video):
    """Writes the video of a name from WRITTEN, 24 frames of 64 × 80 pixels."""

    def write(name):
        if WRITTEN[name] not in av.codecs_available:
            pytest.skip(f"this FFmpeg has no encoder {WRITTEN[name]}")
        return write_video(tmp_path / name, 24, height=64, width=80, codec=WRITTEN[name], title="a title of it")

    return write


def replaced(path, old, new):
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    return path


@pytest.mark.parametrize("read", [decode, decode_gray, frame_count])
def test_unknown_codec_is_named(written, read):
    path = replaced(written("clip.avi"), b"FMP4", b"\x01?!9")
    with pytest.raises(VideoError, match=r"clip\.avi .* codec that cannot be decoded"):
        read(path)


@pytest.mark.parametrize("name", WRITTEN)
def test_titles_may_be_in_any_encoding(written, numbers, name):
    path = replaced(written(name), b"a title of it", b"\xff\xfe title \xe9\xb0\x80!")
    assert numbers(decode_gray(path)) == list(range(24)) == numbers(decode(path)[..., 0])
    assert frame_count(path) == 24


def test_frames_without_width_are_refused(written):
    """Neither the track (0xB0 and 0xBA are width and height) nor the codec's own header (0x63A2) says how large they are."""
    path = replaced(written("clip.mkv"), b"\xb0\x81\x50\xba\x81\x40", b"\xec\x84\0\0\0\0")
    with pytest.raises(VideoError, match=r"clip\.mkv is (damaged: its frames are 0 × 0 pixels|no video that can be decoded)"):
        decode(replaced(path, b"\x63\xa2", b"\x63\xca"), short_side=32)


@pytest.mark.parametrize("name", WRITTEN)
def test_larger_frames_than_will_do_are_not_even_decoded(written, monkeypatch, name):
    path = written(name)
    monkeypatch.setattr(video, "MOST_PIXELS", (64 + 160) * (80 + 160))
    assert len(decode(path)) == len(decode_gray(path)) == 24
    monkeypatch.setattr(video, "MOST_PIXELS", 64 * 80 - 1)
    for read in (decode, decode_gray):
        with pytest.raises(VideoError, match=name):
            read(path)


def test_frames_are_not_made_larger_than_will_do(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "narrow.mp4", 2, height=640, width=20)
    with pytest.raises(VideoError, match=r"narrow\.mp4 has frames of 2000 × 64000 pixels as asked for; at most 36,000,000"):
        decode(path, short_side=2000)
    (tmp_path / "jpegs").mkdir()
    Image.new("RGB", (1, 9000)).save(tmp_path / "jpegs" / "00001.jpg")
    with pytest.raises(VideoError, match=r"00001\.jpg has frames of 256 × 2304000 pixels"):
        decode_jpegs(tmp_path / "jpegs", [0], 256)
    assert decode_jpegs(tmp_path / "jpegs", [0], 2).shape == (1, 18000, 2, 3)
    monkeypatch.setattr(video, "MOST_BYTES", 20 * 640 * 3)
    assert decode(path, 1).shape == (1, 640, 20, 3) and decode_gray(path).shape == (2, 640, 20)
    with pytest.raises(VideoError, match=r"narrow\.mp4 needs more than 38,400 bytes when decoded; ask for fewer frames"):
        decode(path)


def test_a_time_stamp_far_ahead_is_not_filled_with_copies(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "clip.mkv", 40, [*range(39), 30_000])
    monkeypatch.setattr(video, "MOST_BYTES", 100 * 120 * 160 * 3)
    converted, chosen = [], video._chosen
    monkeypatch.setattr(video, "_chosen", lambda *args, **kw: (converted.append(0) or frame for frame in chosen(*args, **kw)))
    with pytest.raises(VideoError, match=r"clip\.mkv needs more than 5,760,000 bytes when decoded"):
        decode(path)
    assert len(converted) < 40
    assert len(decode(path, 30, 20)) == 20
    with pytest.raises(VideoError, match="needs more than"):
        decode(path, 0, 101, hold=True)


def test_a_gray_video_does_not_change_its_size(tmp_path, write_video):
    """A film that goes on with the frames of a smaller one."""
    paths = [write_video(tmp_path / f"{width}.avi", 3, width=width) for width in (160, 80)]
    with av.open(str(tmp_path / "film.avi"), "w") as film, av.open(str(paths[0])) as large, av.open(str(paths[1])) as small:
        stream = film.add_stream_from_template(large.streams.video[0])
        for number, packet in enumerate(packet for part in (large, small) for packet in part.demux(video=0) if packet.size):
            packet.stream, packet.pts, packet.dts = stream, number, number
            film.mux(packet)
    with pytest.raises(VideoError, match=r"film\.avi has a frame of another size, \(120, 80\), than the first, \(120, 160\)"):
        decode_gray(tmp_path / "film.avi")
    assert decode(tmp_path / "film.avi").shape == (6, 120, 160, 3)  # colour frames are resized anyway


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm"])
def test_matroska_that_ends_early_is_truncated(written, name):
    path = written(name)
    raw = path.read_bytes()
    for part in range(1, 24):
        path.write_bytes(raw[: len(raw) * part // 24])
        for read in (decode_gray, decode, lambda path: decode(path, 12, 12, hold=True)):
            with pytest.raises(VideoError, match=name):
                read(path)
    path.write_bytes(raw[:-1])
    with pytest.raises(VideoError, match=rf"{name} is truncated: it lacks 1 bytes at its end"):
        decode_gray(path)


def test_matroska_of_open_length_is_read_as_far_as_it_goes(written, numbers):
    path = written("clip.mkv")
    raw = path.read_bytes()
    size = raw.index(b"\x18\x53\x80\x67") + 4
    assert raw[size] == 1  # eight bytes, seven of which count
    path.write_bytes(raw[:size] + b"\x01" + 7 * b"\xff" + raw[size + 8 : -len(raw) // 3])
    shown = numbers(decode_gray(path))
    assert 2 < len(shown) < 24 and shown == list(range(len(shown)))


def mutated(raw, draw):
    """The file with one to four faults of the kinds that disks, networks and careless programs make."""
    raw = bytearray(raw)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.randrange(min(len(raw), draw.choice([64, 1000, 4000, len(raw)])))  # headers more often than the rest
        match draw.randrange(6):
            case 0:
                raw[at] ^= 1 << draw.randrange(8)
            case 1:
                raw = raw[: at + 1]
            case 2:
                length = draw.choice([4, 16, 256])
                raw[at : at + length] = bytes(len(raw[at : at + length]))
            case 3:
                number = draw.choice([0, 1, 2**31, 2**32 - 1, 100_000]).to_bytes(4, draw.choice(["big", "little"]))
                raw[at : at + 4] = number
            case 4:
                raw[at : at + 4] = draw.randbytes(4)
            case _:
                del raw[at : at + draw.randrange(1, 9)]
    return bytes(raw)


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_the_bytes_are_only_a_video_error_comes(written, name):
    path = written(name)
    raw, draw = path.read_bytes(), random.Random(name)
    refused = 0
    for _ in range(80):
        path.write_bytes(mutated(raw, draw))
        for read in (decode_gray, frame_count, lambda path: decode(path, draw.randrange(30), 3, 2, 32, hold=True)):
            try:
                read(path)
            except VideoError as error:
                assert name in str(error)
                refused += 1
    assert 40 < refused < 3 * 80


def test_whatever_the_bytes_are_only_a_video_error_comes_from_jpegs(tmp_path):
    path, draw = tmp_path / "00001.jpg", random.Random(0)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    raw, refused = path.read_bytes(), 0
    for _ in range(300):
        path.write_bytes(mutated(raw, draw))
        try:
            decode_jpegs(tmp_path, [0], 32)
        except VideoError as error:
            assert path.name in str(error)
            refused += 1
    assert 40 < refused < 300


# Real files


@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_decoded_whole(user_data, name):
    assert decode_gray(user_data("video") / name).shape == REAL[name]


@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_the_same_from_wherever_decoding_starts(user_data, name):
    path, count = user_data("video") / name, REAL[name][0]
    whole = decode(path, short_side=64)
    assert len(whole) == count
    some = sorted(random.Random(name).sample(range(count), 12))
    assert (decode_numbers(path, some, short_side=64) == whole[some]).all()
    for start in (1, count // 5, count // 2, count - 20):
        assert (decode(path, start, 5, 4, short_side=64) == whole[start : start + 20 : 4]).all()


def test_real_videos_cut_short_are_refused(user_data, tmp_path):
    for name in REAL:
        raw = (user_data("video") / name).read_bytes()
        (path := tmp_path / name).write_bytes(raw[: int(0.9 * len(raw))])
        with pytest.raises(VideoError, match=name):
            decode_gray(path)


def test_frames_by_their_numbers_are_those_of_one_pass(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", 20, width=64, height=48)
    whole = decode(path)
    numbers = [0, 3, 3, 11, 19]
    np.testing.assert_array_equal(decode_numbers(path, numbers), whole[numbers])
    np.testing.assert_array_equal(decode_numbers(path, [18, 25, 30], hold=True), whole[[18, 19, 19]])
    with pytest.raises(VideoError, match="ends with frame 19, counted from 0, and frame 20 is asked for"):
        decode_numbers(path, [18, 20])
    with pytest.raises(ValueError, match="give them in ascending order"):
        decode_numbers(path, [3, 2])


FORK = """
import os, sys
from stdcf_lib.data.video import decode, decode_gray
frames = decode(sys.argv[1], short_side=32)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0 if (decode(sys.argv[1], short_side=32) == frames).all() and len(decode_gray(sys.argv[1])) else 1)
"""


def test_a_fork_decodes_after_its_parent_has(written):
    """As a loader's worker does after a look at a clip; PyAV 19 alone would hang in it."""
    subprocess.run([sys.executable, "-c", FORK, written("clip.mp4")], check=True, timeout=120)
