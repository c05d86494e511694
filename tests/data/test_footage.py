"""Kinetics and Something-Something: the frames that were meant, the same for every stage, and no file that can stop a run."""

import logging
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from stdcf_lib.data import footage
from stdcf_lib.data.footage import FORGIVEN, MEAN, STD, TooManyFaultyFiles, normalised
from stdcf_lib.data.kinetics import Kinetics, kinetics_csv
from stdcf_lib.data.something import SomethingV1, something_csv
from stdcf_lib.data.video import VideoError, decode, decode_jpegs, decode_numbers, frame_count, jpeg_count
from stdcf_lib.data.video_clips import VideoClips

WIDE = {"height": 120, "width": 160}


def gray(clips):
    """Normalised (…, 3, T, S, S) → uint8 (T, S, S) of the first channel."""
    x = clips[..., 0, :, :, :] * STD[0] + MEAN[0]
    return (x * 255).round().clamp(0, 255).to(torch.uint8).numpy()


@pytest.fixture
def videos(tmp_path, write_video):
    """Six videos of 40 frames in two classes, their CSV and the same as a list of paths."""
    rows, paths = ["label,youtube_id,time_start,time_end,split,is_cc"], []
    for i in range(6):
        label = ["air drumming", '"yoga, slow"'][i % 2]
        folder = label.strip('"').replace(" ", "_") if i < 4 else label.strip('"')
        path = write_video(tmp_path / "videos" / folder / f"id-{i}_{i:06d}_{i + 10:06d}.mp4", 40, first=100 * i, **WIDE)
        rows.append(f"{label},id-{i},{i},{i + 10},train,0")
        paths.append(f"{folder}/{path.name} {i % 2}")
    (tmp_path / "train.csv").write_text("\r\n".join(rows) + "\r\n")
    (tmp_path / "train.txt").write_text("\n".join(paths) + "\n")
    return tmp_path


def kinetics(root, **options):
    options = {"training": True, "frames": 4, "stride": 2, "size": 96} | options
    return Kinetics(root / options.pop("annotation", "train.csv"), root / "videos", **options)


def test_csv_and_list_name_the_same_videos(videos):
    data, listed = kinetics(videos), kinetics(videos, annotation="train.txt")
    assert data.samples == listed.samples and len(data) == 6 and data.missing == []
    assert [label for _, label in data.samples] == [0, 1] * 3


def test_what_is_not_said_of_clips_is_the_usual(videos):
    listed = Kinetics(videos / "train.csv", videos / "videos", training=False)
    for data in listed, VideoClips(listed.samples, training=False):
        assert (data.frames, data.stride, data.size, data.views) == (8, 8, 224, (10, 3))
        assert (data.flip, data.max_faulty) == (True, 0.02)


def test_a_training_clip_is_a_run_of_strided_frames_anywhere(videos, numbers):
    data = kinetics(videos, size=112)
    starts = set()
    for seed in range(60):
        torch.manual_seed(seed)
        clip, label = data[4]
        assert clip.shape == (3, 4, 112, 112) and clip.dtype == torch.float32 and label == 0
        bits = gray(clip)[:, 56] > 127
        starts.add(bits.tobytes())
    assert len(starts) > 30  # place in the video, place in the frame, mirroring


def test_the_right_frames_are_decoded(videos, numbers, monkeypatch):
    asked = []
    reading = "stdcf_lib.data.video_clips.decode_numbers"
    monkeypatch.setattr(reading, lambda *a, **k: asked.append(a[1:]) or decode_numbers(*a, **k))
    data = kinetics(videos)
    for seed in range(200):
        torch.manual_seed(seed)
        data[1]
    starts, sides = {numbers[0] for numbers, _ in asked}, {side for _, side in asked}
    assert all(shown == list(range(shown[0], shown[0] + 8, 2)) for shown, _ in asked)
    assert min(starts) == 0 and max(starts) == 40 - 8 and len(starts) > 25
    assert min(sides) == round(96 * 256 / 224) and max(sides) == round(96 * 320 / 224)


def test_views_cover_the_video_and_the_frame(videos, numbers):
    data = kinetics(videos, training=False, views=(3, 3), size=96, stride=4)
    clips, label = data[2]
    assert clips.shape == (9, 3, 4, 96, 96) and label == 0
    whole = decode(data.samples[2][0], short_side=round(96 * 256 / 224))
    height, width = whole.shape[1:3]
    for i, start in enumerate((0, 12, 24)):
        for j, left in enumerate((0, round((width - 96) / 2), width - 96)):
            top = round((height - 96) / 2)
            expected = whole[start : start + 16 : 4, top : top + 96, left : left + 96, 0]
            np.testing.assert_allclose(gray(clips[3 * i + j]).astype(int), expected, atol=1)
    one, _ = kinetics(videos, training=False, views=(1, 1), size=96, stride=4)[2]
    assert torch.equal(one, clips[4])  # the middle of both
    across, _ = kinetics(videos, training=False, views=(1, 3), size=96, stride=4)[2]
    along, _ = kinetics(videos, training=False, views=(3, 1), size=96, stride=4)[2]
    assert torch.equal(across, clips[3:6]) and torch.equal(along, clips[1::3])


@pytest.mark.parametrize("training", [True, False])
def test_stages_see_the_same_time_and_the_same_scene(videos, training):
    full = kinetics(videos, training=training, views=(2, 3), frames=8)
    short, small = full.reduced(2, 96), full.reduced(8, 48)
    for seed in range(5):
        seen = []
        for data in (full, short, small):
            torch.manual_seed(seed)
            seen.append(data[seed][0])
        whole, fewer, coarser = seen
        torch.testing.assert_close(fewer, whole[..., ::4, :, :])
        halved = torch.nn.functional.avg_pool3d(whole.reshape(-1, 1, *whole.shape[-3:]), (1, 2, 2)).reshape(coarser.shape)
        # Of a range of over 4: cut out at whole pixels of its own size, it may be half a pixel away, and no more.
        assert (coarser - halved).abs().mean() < 0.2
    with pytest.raises(ValueError, match="8 frames of 96² cannot be shown as 3 of 96²"):
        full.reduced(3, 96)


def test_a_stage_is_decoded_at_its_own_size(videos, monkeypatch):
    """What stage-t shows at half the size, and a test in all its views, is read once and never larger than it is shown."""
    sides = []
    reading = "stdcf_lib.data.video_clips.decode_numbers"
    monkeypatch.setattr(reading, lambda *a, **k: sides.append(a[2]) or decode_numbers(*a, **k))
    kinetics(videos).reduced(4, 48)[0]
    assert round(48 * 256 / 224) <= sides.pop() <= round(48 * 320 / 224) and not sides
    kinetics(videos, training=False, views=(3, 3))[0]
    assert sides == [round(96 * 256 / 224)]


def test_bytes_are_the_same_clips_before_they_are_normalised(videos):
    data = kinetics(videos)
    for index in range(3):
        clips = []
        for shown in (data, data.as_bytes(), data.as_bytes().reduced(4, 96)):
            torch.manual_seed(index)
            clips.append(shown[index][0])
        assert clips[1].dtype == torch.uint8 and torch.equal(clips[1], clips[2])
        torch.testing.assert_close(normalised(clips[1]), clips[0])
    assert data.viewed((2, 1)).views == (2, 1) and data.views != (2, 1)
    with pytest.raises(ValueError, match="crops of views=2"):
        data.viewed((1, 2))


def test_every_colour_is_normalised_alike():
    found = normalised(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(2, 3, 1, 1, 1))
    torch.testing.assert_close(found.flatten(1), torch.tensor([[-2.0] * 3, [0.55 / 0.225] * 3]))


def test_a_video_that_is_too_short_holds_its_last_frame(tmp_path, write_video, numbers):
    path = write_video(tmp_path / "short.mp4", 5, **WIDE)
    (tmp_path / "list.txt").write_text("short.mp4 0\n")
    clip, _ = Kinetics(tmp_path / "list.txt", tmp_path, training=False, frames=4, stride=2, size=105, views=(1, 1))[0]
    assert clip.shape == (3, 4, 105, 105)
    assert numbers(decode(path, 0, 4, 2, hold=True)[..., 0]) == [0, 2, 4, 4]
    training = Kinetics(tmp_path / "list.txt", tmp_path, training=True, frames=4, stride=2, size=105)
    assert all(training._numbers(5, None) == [0, 2, 4, 6] for _ in range(20))
    with pytest.raises(VideoError, match="too short"):
        decode(path, 5, 4, 2, hold=True)
    assert frame_count(path) == 5


# Faults

FAULTS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("moved to another place\n" * 99),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 20]),
    "vanished": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def sound_alone(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


FAULTS["sound alone"] = sound_alone


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_named_once_and_replaced(videos, caplog, fault):
    data = kinetics(videos, max_faulty=0.2)
    path = data.samples[3][0]
    FAULTS[fault](path)
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            torch.manual_seed(seed)
            clip, _ = data[3]
            assert clip.std() > 0.1
    assert [record.getMessage().count(path.name) > 0 for record in caplog.records] == [True]
    assert data.faulty == [str(path)] == data.reduced(2, 96).faulty


def test_a_replacement_does_not_depend_on_when_the_fault_was_met(videos):
    first = kinetics(videos, max_faulty=0.5)
    first.samples[3][0].write_bytes(b"")
    torch.manual_seed(5)
    clip, label = first[3]
    torch.manual_seed(5)
    again, same = first[3]
    assert torch.equal(clip, again) and label == same


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_faulty_files_stop_the_run_with_a_list(videos, workers):
    empty = [videos / f"{number}.mp4" for number in range(FORGIVEN + 1)]
    for path in empty:
        path.touch()
    samples = [*kinetics(videos).samples, *((path, 0) for path in empty)]
    data = VideoClips(samples, training=True, frames=4, stride=2, size=96, max_faulty=0.4)
    message = r"6 of 12 files could not be read, more than 5 and than max_faulty=0.4 of them"
    with pytest.raises(TooManyFaultyFiles, match=message) as raised:
        for _ in range(3):
            list(DataLoader(data, batch_size=1, num_workers=workers))
    assert all(path.name in str(raised.value) for path in empty)


def test_a_few_faulty_files_stop_no_small_run(tmp_path, write_video):
    """Of ten files the share allows none, and yet five may fail; the sixth is too many."""
    for i in range(10):
        write_video(tmp_path / f"{i}.mp4", 4, **WIDE)
    (tmp_path / "list.txt").write_text("".join(f"{i}.mp4 0\n" for i in range(10)))
    data = Kinetics(tmp_path / "list.txt", tmp_path, training=True, frames=2, stride=1, size=96)
    for i in range(FORGIVEN):
        data.samples[i][0].write_bytes(b"")
        data[i]
    assert len(data.faulty) == FORGIVEN == 5
    data.samples[5][0].unlink()
    with pytest.raises(TooManyFaultyFiles, match=r"6 of 10 files could not be read, more than 5 and than max_faulty=0\.02"):
        for _ in range(9):
            data[5]


def test_a_share_counts_where_it_allows_more(videos, monkeypatch):
    monkeypatch.setattr(footage, "FORGIVEN", 0)
    data = kinetics(videos, max_faulty=0.5)
    for i in range(3):
        data.samples[i][0].unlink()
        data[i]
    data.samples[3][0].unlink()
    with pytest.raises(TooManyFaultyFiles, match="4 of 6"):
        data[3]


@pytest.mark.parametrize(
    ("old", "new", "faults"), [(b"FMP4", b"\x01?!9", 1), (b"a title", b"\xff\xfe\xe9\x80te", 0)], ids=["codec", "title"]
)
def test_a_video_of_another_making_stops_no_run(videos, write_video, old, new, faults):
    """An AVI of an unknown codec, and a title that is not in UTF-8: each stopped a whole run."""
    data = kinetics(videos, max_faulty=0)
    raw = write_video(videos / "other.avi", 40, title="a title").read_bytes()
    assert old in raw
    data.samples[3][0].write_bytes(raw.replace(old, new))
    clip, _ = data[3]
    assert clip.std() > 0.1 and len(data.faulty) == faults


def test_workers_share_what_they_have_met(videos):
    data = kinetics(videos, max_faulty=0.5)
    data.samples[1][0].unlink()
    batches = list(DataLoader(data, batch_size=2, num_workers=2))
    assert sum(len(labels) for _, labels in batches) == 6
    assert data.faulty == [str(data.samples[1][0])]


def test_missing_videos_are_named_and_the_rest_will_do(videos, caplog):
    shutil.rmtree(videos / "videos" / "air drumming")
    data = kinetics(videos)
    assert len(data) == 5 and [path.endswith("id-4_000004_000014.mp4") for path in data.missing] == [True]
    assert "1 of 6 are missing" in caplog.text
    shutil.rmtree(videos / "videos")
    with pytest.raises(ValueError, match="there are no samples"):
        kinetics(videos)


# Arguments and lists


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride=0: give an integer of at least 1"),
        ({"frames": 0}, "frames=0: give an integer of at least 1"),
        ({"size": 2.5}, r"size=2\.5: give an integer"),
        ({"views": (1, 2)}, "crops of views=2: choose 1 or 3"),
        ({"views": 3}, r"views=3: give 2 integers of at least 1 \(clips, crops\)"),
        ({"max_faulty": 2}, "max_faulty=2: give a finite number of at least 0 and of at most 1"),
        ({"num_classes": 1}, r"num_classes=1: 2 labels are in .*train\.csv"),
        ({"num_classes": 1, "classes": ["yoga, slow", "air drumming"]}, "num_classes=1: 2 labels are given"),
        ({"num_classes": 1, "annotation": "train.txt"}, "line 2 of .*train.txt has the class 1; 1 classes are numbered"),
    ],
)
def test_arguments_out_of_range_are_refused(videos, options, message):
    with pytest.raises(ValueError, match=message):
        kinetics(videos, **options)


def test_numpy_integers_will_do(videos):
    one = kinetics(videos, frames=np.int64(4), stride=np.int32(2), size=np.int64(96), num_classes=np.int64(2))
    torch.manual_seed(0)
    clip, _ = one[0]
    torch.manual_seed(0)
    assert torch.equal(clip, kinetics(videos)[0][0])
    with pytest.raises(ValueError, match="frames=0: give an integer"):
        one.reduced(0, 96)


def test_the_official_kinetics_list_is_read(user_data):
    labels = user_data("video") / "labels"
    names = (labels / "kinetics400.txt").read_text().splitlines()
    samples = kinetics_csv(labels / "kinetics-400_val_head.csv", "k400", names)
    assert len(names) == 400 and samples[0][0].as_posix() == "k400/abseiling/0wR5jVB-WPk_000417_000427.mp4"
    assert samples[0][1] == 0 and {label for _, label in samples} <= set(range(400))


# Something-Something V1


@pytest.fixture
def gestures(tmp_path):
    """Three folders of JPEGs whose gray says the number of the frame; 30, 5 and 12 of them."""
    labels = ["Pushing [something], slowly", "Holding something"]
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    rows = []
    for i, count in enumerate((30, 5, 12)):
        folder = tmp_path / "frames" / str(i + 7)
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((100, 130, 3), 8 * number, np.uint8)).save(folder / f"{number + 1:05d}.jpg")
        rows.append(f"{i + 7};{labels[i % 2]}")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def something(root, **options):
    options = {"training": False, "frames": 5, "size": 64, "labels": root / "labels.csv"} | options
    return SomethingV1(root / "train.csv", root / "frames", **options)


def shown(clip):
    return (gray(clip).mean((1, 2)) / 8).round().astype(int).tolist()


def test_what_is_not_said_of_gestures_is_the_usual(gestures):
    data = SomethingV1(gestures / "train.csv", gestures / "frames", training=False, labels=gestures / "labels.csv")
    assert (data.frames, data.size, data.views, data.flip, data.max_faulty) == (8, 224, (1, 1), False, 0.02)
    assert data.short_sides == (256, 320) and data.reduced(8, 112).short_sides == (256, 320)


def test_the_middle_of_each_segment_is_tested(gestures):
    data = something(gestures)
    assert [label for _, label in data.samples] == [0, 1, 0]
    assert shown(data[0][0]) == [3, 9, 15, 21, 27]
    assert shown(data[1][0]) == [0, 1, 2, 3, 4]
    clips, _ = something(gestures, views=(2, 3))[2]
    assert clips.shape == (6, 3, 5, 64, 64)
    assert shown(clips[0]) == shown(clips[2]) == [0, 3, 5, 7, 10] and shown(clips[3]) == [1, 4, 6, 9, 11]
    assert shown(something(gestures, frames=10)[1][0]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_any_frame_of_each_segment_is_trained_on(gestures, monkeypatch):
    data, seen = something(gestures, training=True), []
    for seed in range(80):
        torch.manual_seed(seed)
        seen.append(shown(data[0][0]))
    for segment, values in enumerate(zip(*seen, strict=True)):
        assert set(values) == set(range(6 * segment, 6 * segment + 6))
    rounded_up = torch.full((5,), 1 - 2**-53, dtype=torch.float64)  # of five segments that makes all of the last
    monkeypatch.setattr(torch, "rand", lambda *_, dtype: rounded_up)
    assert data._numbers(30, None)[-1] == 29


def test_gestures_are_never_mirrored_and_cut_out_anywhere(tmp_path):
    folder = tmp_path / "frames" / "1"
    folder.mkdir(parents=True)
    across, down = np.meshgrid(np.linspace(0, 255, 130), np.linspace(0, 255, 100))
    Image.fromarray(np.stack([across, down, down], 2).astype(np.uint8)).save(folder / "00001.jpg", quality=95)
    (tmp_path / "train.txt").write_text("1 0\n")
    data = SomethingV1(tmp_path / "train.txt", tmp_path / "frames", training=True, frames=2, size=64)
    corners = []
    for seed in range(60):
        torch.manual_seed(seed)
        clip = data[0][0] * STD[0] + MEAN[0]
        assert clip[0, 0, 32, -1] > clip[0, 0, 32, 0] + 0.2 and clip[1, 0, -1, 32] > clip[1, 0, 0, 32] + 0.2
        corners.append([clip[0, 0, 32, 0], clip[0, 0, 32, -1], clip[1, 0, 0, 32], clip[1, 0, -1, 32]])
    left, right, top, bottom = torch.tensor(corners).T
    assert left.min() < 0.05 and right.max() > 0.95 and top.min() < 0.05 and bottom.max() > 0.95


def test_stages_of_gestures_see_the_same_frames(gestures):
    data = something(gestures, training=True, frames=4)
    for seed in range(5):
        frames = []
        for stage in (data, data.reduced(2, 64), data.reduced(4, 32)):
            torch.manual_seed(seed)
            frames.append(shown(stage[0][0]))
        assert frames[1] == frames[0][::2] and frames[2] == frames[0]


def test_a_damaged_frame_is_a_fault_by_name(gestures):
    data = something(gestures, max_faulty=0.5)
    path = gestures / "frames" / "7" / "00016.jpg"
    path.write_bytes(path.read_bytes()[:200])
    data[0]
    assert data.faulty == [str(gestures / "frames" / "7")]
    with pytest.raises(VideoError, match=r"00016\.jpg is missing, or no whole JPEG"):
        decode_jpegs(path.parent, [14, 15])
    for none in (gestures / "frames", gestures / "nowhere", path):
        with pytest.raises(VideoError, match="is no folder with frames"):
            jpeg_count(none)
    Image.new("RGB", (90, 100)).save(path)
    with pytest.raises(VideoError, match="another size"):
        decode_jpegs(path.parent, [14, 15])


def test_the_official_labels_are_read(user_data, tmp_path):
    labels = user_data("video") / "labels" / "something-something-v1.txt"
    names = labels.read_text().splitlines()
    (tmp_path / "train.csv").write_text("".join(f"{i};{name}\n" for i, name in enumerate(names)))
    assert [label for _, label in something_csv(tmp_path / "train.csv", tmp_path, labels)] == list(range(174))


# Real files


def test_real_videos_become_clips(user_data, tmp_path):
    videos = sorted(path for path in user_data("video").iterdir() if path.suffix in (".mp4", ".avi"))
    people = sorted(user_data("kth").glob("*.avi"))[:2]
    (tmp_path / "list.txt").write_text("".join(f"{path} {i}\n" for i, path in enumerate([*videos, *people])))
    data = Kinetics(tmp_path / "list.txt", tmp_path, training=True, frames=4, stride=8, size=112)
    assert len(data) == 7
    for clip, labels in DataLoader(data, batch_size=1, num_workers=1):
        assert clip.shape == (1, 3, 4, 112, 112) and clip.std() > 0.2 and 0 <= labels < 7
    assert data.faulty == []
    assert footage.SPARES > 5
