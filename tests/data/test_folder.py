"""One's own videos: the classes that folders or lists say, and a part held out that stays the same."""

import pytest
import torch

from stdcf_lib.data.folder import video_folder
from stdcf_lib.data.video_clips import VideoClips


@pytest.fixture
def tree(tmp_path):
    """Makes `{class: count}` into a folder of files that have the names of videos and nothing in them."""

    def make(**counts):
        for name, count in counts.items():
            (tmp_path / name).mkdir()
            for i in range(count):
                (tmp_path / name / f"{i}.mp4").touch()
        return tmp_path

    return make


def names(listed):
    return [f"{path.parent.name}/{path.name}" for path, _ in listed]


def test_folders_are_classes_and_what_is_no_video_is_passed_over(tree):
    root = tree(wave=2, clap=0)
    for name in ("a.AVI", "b.MkV", "c.webm", "d.mov", "notes.txt", ".hidden.mp4", "poster.jpg"):
        (root / "clap" / name).touch()
    (root / "clap" / "folder.mp4").mkdir()
    (root / ".cache").mkdir()
    (root / "README.md").touch()
    found = video_folder(root)
    assert found.classes == ["clap", "wave"]
    assert sorted(names(found.training + found.held_out)) == [
        *(f"clap/{name}" for name in ("a.AVI", "b.MkV", "c.webm", "d.mov")), "wave/0.mp4", "wave/1.mp4",
    ]  # fmt: skip
    assert all(found.classes[label] == path.parent.name for path, label in found.training + found.held_out)


@pytest.mark.parametrize(
    ("share", "held_out"),
    [(None, {"a": 2, "b": 1, "d": 4}), (0.5, {"a": 5, "b": 1, "d": 10}), (0.99, {"a": 9, "b": 1, "d": 19})],
)
def test_the_same_share_of_each_class_is_held_out(tree, share, held_out):
    found = video_folder(tree(a=10, b=2, c=1, d=20), val_share=share)
    counts = {name: sum(found.classes[label] == name for _, label in found.held_out) for name in found.classes}
    assert counts == held_out | {"c": 0}
    assert len({*found.training, *found.held_out}) == len(found.training) + len(found.held_out) == 33


def test_what_is_held_out_is_drawn_by_the_seed_and_not_by_other_classes(tree):
    root = tree(a=10, b=10)
    found = video_folder(root, seed=3)
    assert video_folder(root) == video_folder(root, seed=0) and found == video_folder(root, seed=3)
    assert found.held_out != video_folder(root, seed=4).held_out
    assert {path.stem for path, label in found.held_out if label} != {path.stem for path, label in found.held_out if not label}
    tree(c=5)
    assert [row for row in video_folder(root, seed=3).held_out if row[1] < 2] == found.held_out


def test_a_list_says_what_is_held_out(tree, tmp_path):
    root = tree(a=3, b=3)
    (tmp_path / "held out.txt").write_text("\ufeffa/2.mp4\r\n\r\n ./b/0.mp4 \r\na/1.mp4\r\n", encoding="utf-8")
    found = video_folder(root, tmp_path / "held out.txt")
    assert names(found.held_out) == ["a/1.mp4", "a/2.mp4", "b/0.mp4"]
    assert names(found.training) == ["a/0.mp4", "b/1.mp4", "b/2.mp4"]


def test_lists_of_paths_and_numbers_will_do(tree):
    root = tree(a=2, b=2)
    (root / "train.txt").write_text("a/0.mp4 1\nb/0.mp4 0\n")
    (root / "val.txt").write_text("a/1.mp4 1\n")
    found = video_folder(root)
    assert found.classes == ["0", "1"] and found.training == [(root / "a" / "0.mp4", 1), (root / "b" / "0.mp4", 0)]
    assert found.held_out == [(root / "a" / "1.mp4", 1)]
    (root / "classes.txt").write_text("to bow\nto applaud\n\n")
    assert video_folder(root).classes == ["to bow", "to applaud"]


LISTS = {"train.txt": "a/0.mp4 0\nb/0.mp4 1\n", "val.txt": "a/1.mp4 0\n"}


@pytest.mark.parametrize(
    ("counts", "files", "options", "message"),
    [
        ({}, {}, {}, "has no videos: give a folder for each class"),
        ({"a": 0, "b": 0}, {}, {}, "has no videos"),
        ({"a": 3}, {}, {}, r"has too few classes \(a\); give at least two"),
        ({"a": 2, "walk": 0}, {}, {}, "the folder 'walk' in .* has no video"),
        ({"a": 1, "b": 1}, {}, {}, "no video is held out"),
        ({"a": 2, "b": 2}, {}, {"val_share": 0}, "val_share=0: give a finite number above 0 and below 1"),
        ({"a": 2, "b": 2}, {}, {"val_share": 1}, "val_share=1: give"),
        ({"a": 2, "b": 2}, {}, {"seed": -1}, "seed=-1: give an integer of at least 0"),
        ({"a": 2, "b": 2}, {"list": "a/0.mp4\nb/7.mp4\n"}, {"val_list": "list"}, "line 2 of .*list names 'b/7.mp4'"),
        ({"a": 2, "b": 2}, {"list": "\n"}, {"val_list": "list"}, "no video is held out"),
        ({"a": 2, "b": 1}, {"list": "b/0.mp4\n"}, {"val_list": "list"}, "class 'b' has no video to train on"),
        ({"a": 2, "b": 2}, {"list": b"a/\xff.mp4"}, {"val_list": "list"}, "line 1 of .*list is not in UTF-8"),
        ({}, LISTS, {"val_share": 0.5}, "val.txt says which videos are held out"),
        ({}, LISTS, {"val_list": "list"}, "val.txt says which videos are held out"),
        ({"a": 2, "b": 2}, {"train.txt": ""}, {}, "has train.txt alone; give both"),
        ({}, {"train.txt": "", "val.txt": ""}, {}, r"has too few classes \(none\)"),
        ({}, LISTS | {"val.txt": ""}, {}, "no video is held out"),
        ({}, LISTS | {"val.txt": "./b/0.mp4 1\n"}, {}, "b/0.mp4 is in both"),
        ({}, LISTS | {"val.txt": "a/1.mp4 2\n"}, {}, "class '2' has no video to train on"),
        ({}, LISTS | {"train.txt": "a/0.mp4 1\nb/0.mp4 999999999\n"}, {}, "class '2'; classes are numbered 0, 1, …"),
        ({}, LISTS | {"classes.txt": "bow\nclap\nwave\n"}, {}, "has no video of class 'wave'"),
        ({}, LISTS | {"classes.txt": "bow\n"}, {}, "line 2 of .*train.txt has the class 1"),
        ({}, LISTS | {"classes.txt": "bow\n\nclap\n"}, {}, "line 2 of .*classes.txt is empty"),
        ({}, LISTS | {"classes.txt": ""}, {}, "line 1 of .*classes.txt is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(tree, counts, files, options, message):
    root = tree(**counts)
    for name, text in files.items():
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    if "val_list" in options:
        options = options | {"val_list": root / options["val_list"]}
    with pytest.raises(ValueError, match=message):
        video_folder(root, **options)


def test_a_folder_or_list_that_is_not_there_is_named(tree):
    root = tree(a=2, b=2)
    with pytest.raises(NotADirectoryError, match="nowhere is no folder; name the one that holds your videos"):
        video_folder(root / "nowhere")
    with pytest.raises(FileNotFoundError, match="absent"):
        video_folder(root, root / "absent")


def test_clips_are_mirrored_unless_left_and_right_matter(tmp_path, write_video):
    """Frame 31 of a numbered video is dark on the left and bright on the right."""
    path = write_video(tmp_path / "a.mp4", 1, first=31)
    for flip, sides in ((True, {True, False}), (False, {True})):
        clips, seen = VideoClips([(path, 0)], True, frames=1, stride=1, size=96, flip=flip), set()
        clips._numbers = lambda count, view: [0]
        for seed in range(20):
            torch.manual_seed(seed)
            clip = clips[0][0]
            left, right = clip[..., :48].mean(), clip[..., 48:].mean()
            seen.add(bool(right > left))
        assert seen == sides
