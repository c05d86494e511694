"""`python -m stdcf_lib.itsl folder`, and `predict` from what it has left: the answers are those of the run's own test."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import warm

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.data.folder import video_folder
from stdcf_lib.itsl import command, predict, top
from stdcf_lib.itsl.predict import scores, trained
from stdcf_lib.itsl.presets import PRESETS
from stdcf_lib.itsl.run import Training
from stdcf_lib.runs import Run

WORDS = (
    "folder --small --frames 4 --stride 2 --size 32 --batch-size 4 --workers 0 --iterations 1 --epochs 1 --final-epochs 1 "
    "--views 2 3 --swap resample --temporal-atoms 2 --no-flip --dropout 0.1"
)


def train(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["itsl", *map(str, words)])
    command.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_videos):
    """A run on six videos of each class, the folder of the videos, and the chances that its test had."""
    root, tested = tmp_path_factory.mktemp("own"), []

    def kept(chances, labels):
        tested.extend(chances)
        return top(chances, labels)

    class Watched(Training):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, scores=kept, **options)

    videos = own_videos(root / "videos", 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "Training", Watched)
        train(patch, *WORDS.split(), "--data", videos, "--folder", root / "run", "--val-share", "0.4")
    return root / "run", videos, torch.stack(tested[-4:])


@pytest.fixture
def said(capsys, monkeypatch):
    """What `predict` prints, what it says on stderr, and its exit status."""

    def answered(*words):
        capsys.readouterr()
        status = 0
        monkeypatch.setattr(sys, "argv", ["itsl", "predict", *map(str, words)])
        try:
            predict.main()
        except SystemExit as stopped:
            status = stopped.code
        return *capsys.readouterr(), status

    return answered


def test_a_clip_is_seen_as_the_test_of_the_run_saw_it(finished):
    run, videos, tested = finished
    held_out = video_folder(videos, val_share=0.4).held_out
    network = trained(run)
    assert len(held_out) == 4 and not torch.allclose(tested[0], tested[2], atol=1e-4)
    for (path, _), chances in zip(held_out, tested, strict=True):
        torch.testing.assert_close(scores(network, path), chances, atol=1e-5, rtol=0)
        one = scores(network, path, views=(1, 1))
        assert one.sum() == pytest.approx(1) and not torch.allclose(one, chances, atol=1e-6)


def test_the_network_is_the_one_that_the_run_ended_with(finished):
    network = trained(finished[0]).network
    layers = [layer for layer in network.modules() if isinstance(layer, STDCFConv3d)]
    assert {layer.kernel_size for layer in layers} == {(3, 5, 5)} and {len(layer.phi) for layer in layers} == {2}
    assert network.fc.out_features == 2 and not network.training
    weights = Run(finished[0]).weights
    assert all(torch.equal(value.cpu(), weights[name]) for name, value in network.state_dict().items())


def test_the_run_keeps_what_is_needed_to_use_it(finished):
    run = finished[0]
    assert (run / "classes.txt").read_text() == "down\nup\n"
    config = Run(run).config
    assert (config["num_classes"], config["frames"], config["stride"], config["size"]) == (2, 4, 2, 32)
    assert (config["kind"], config["small"], config["spatial_atoms"], config["temporal_atoms"]) == ("stdcf", True, 5, 2)
    assert (config["classes"], config["views"], config["flip"]) == (["down", "up"], [2, 3], False) and "test_top1" in Run(
        run
    ).metrics[-1]


@pytest.mark.parametrize("words", ["", "--no-flip"])
def test_clips_to_train_on_are_mirrored_unless_it_is_forbidden(finished, words):
    arguments = command.parser().parse_args(["folder", "--stride", "2", "--data", str(finished[1]), *words.split()])
    arguments.views = (1, 1)
    sets: Any = PRESETS["folder"].sets(arguments)
    assert sets.training.flip == (not words) and sets.training.training and not sets.test.training
    assert sets.config["flip"] == (not words) and sets.classes == ["down", "up"]


def test_a_run_does_not_go_on_with_other_videos(finished, own_videos, tmp_path, monkeypatch, capsys):
    run, videos, _ = finished
    own_videos(tmp_path / "videos", 7)
    with pytest.raises(SystemExit):
        train(monkeypatch, *WORDS.split(), "--data", tmp_path / "videos", "--folder", run, "--val-share", "0.4")
    assert "holds another run ({'videos': 'sha256" in capsys.readouterr().err.splitlines()[-1]
    shutil.copytree(videos, tmp_path / "moved")
    train(monkeypatch, *WORDS.split(), "--data", tmp_path / "moved", "--folder", run, "--val-share", "0.4")
    assert "2 classes, 8 clips to train on, 4 held out" in capsys.readouterr().out.splitlines()


def test_the_best_classes_are_printed_with_their_scores(finished, said):
    run, videos, _ = finished
    clips = [videos / "up" / "0.mp4", videos / "down" / "3.mp4"]
    out, err, status = said("--weights", run, *clips)
    lines = out.splitlines()
    assert (err, status, lines[0], lines[3]) == ("", 0, str(clips[0]), str(clips[1])) and len(lines) == 6
    chances = scores(trained(run), clips[0])
    assert lines[1] == f"  {chances.max():.3f}  {('down', 'up')[chances.argmax()]}" and chances.max() >= chances[0]
    first = json.loads(said("--weights", run / "weights.safetensors", "--json", *clips)[0])[0]
    assert [row["score"] for row in first["classes"]] == pytest.approx(sorted(chances.tolist(), reverse=True))
    assert first["clip"] == str(clips[0]) and {row["class"] for row in first["classes"]} == {"down", "up"}


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_bad_clip_is_named_and_the_others_are_answered(finished, said, tmp_path, form):
    run, videos, _ = finished
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    good = videos / "up" / "0.mp4"
    out, err, status = said("--weights", run, text, good, tmp_path / "absent.mp4", videos, *form.split())
    assert status == 1 and len(err.splitlines()) == 3
    assert [name in line for name, line in zip(("text.mp4", "absent.mp4", "videos"), err.splitlines(), strict=True)] == [
        True
    ] * 3
    if form:
        answers = json.loads(out)
        assert ["error" in answer for answer in answers] == [True, False, True, True]
        assert answers[0]["clip"] == str(text) and str(text) in answers[0]["error"]
    else:
        assert out.splitlines()[0] == str(good) and len(out.splitlines()) == 3


def test_a_short_video_holds_its_last_frame(finished, tmp_path):
    """Clips of 4 frames, every 400th: all that a video of 10 frames has is its first, and then its last."""
    run, videos, _ = finished
    network = trained(run)
    network.config["stride"] = 400
    assert scores(network, videos / "up" / "0.mp4").sum() == pytest.approx(1)


def copied(finished, folder, **changes):
    """The run with another configuration."""
    shutil.copytree(finished[0], folder)
    run = Run(folder)
    run.keep("config.json", json.dumps(run.config | changes).encode())
    return folder


@pytest.mark.parametrize(("names", "expected"), [(["abseiling"], {"abseiling", "1"}), ([], {"0", "1"})])
def test_a_run_of_kinetics_names_classes_as_far_as_it_can(finished, said, tmp_path, names, expected):
    run = copied(finished, tmp_path / "run", dataset="kinetics400", classes=names)
    (answer,) = json.loads(said("--weights", run, "--json", finished[1] / "up" / "0.mp4")[0])
    assert {row["class"] for row in answer["classes"]} == expected


def test_five_classes_are_told_of_more(finished, said, monkeypatch):
    chances = torch.tensor([0.1, 0.3, 0.05, 0.25, 0.2, 0.02, 0.08])
    monkeypatch.setattr(predict, "scores", lambda *_: chances)
    monkeypatch.setattr(predict, "trained", lambda folder: trained(folder)._replace(classes=list("abcdefg")))
    out, _, _ = said("--weights", finished[0], "any.mp4")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["0.300", "b"], ["0.250", "d"], ["0.200", "e"], ["0.100", "a"], ["0.080", "g"]
    ]  # fmt: skip


def test_mistakes_end_in_a_line(finished, said, tmp_path):
    run, clip = finished[0], finished[1] / "up" / "0.mp4"
    noise = copied(finished, tmp_path / "noise", dataset="noise")
    stages = [stage for stage in Run(run).config["stages"] if stage["name"] != "final"]
    short = copied(finished, tmp_path / "short", stages=stages)
    coarse = copied(finished, tmp_path / "coarse", stages=stages[:1])
    odd, other = copied(finished, tmp_path / "odd", views=None), copied(finished, tmp_path / "other", num_classes=9)
    slow = copied(finished, tmp_path / "slow", stride="2")
    begun = copied(finished, tmp_path / "begun")
    (begun / "weights.safetensors").unlink()
    damaged = copied(finished, tmp_path / "damaged")
    (damaged / "weights.safetensors").write_bytes(b"0")
    for words, message in [
        (["--weights", run], "the following arguments are required: CLIP"),
        ([clip], "the following arguments are required: --weights"),
        (["--weights", tmp_path / "nowhere", clip], "no config.json in"),
        (["--weights", run / "config.json", clip], "no config.json in"),
        (["--weights", begun, clip], "begun is not finished: it has no weights.safetensors"),
        (["--weights", damaged, clip], "weights.safetensors cannot be read"),
        (["--weights", odd, clip], "config.json and the weights beside it are of no network that there is (views="),
        (["--weights", slow, clip], "config.json and the weights beside it are of no network that there is (stride='2'"),
        (["--weights", other, clip], "config.json and the weights beside it are of no network that there is (num_classes=9"),
        (["--weights", noise, clip], "noise is no run of `python -m stdcf_lib.itsl kinetics400 or folder`"),
        (["--weights", short, clip], "short ended with stage 's-1', in which the network did not see whole clips"),
        (["--weights", coarse, clip], "coarse ended with stage 't-1', in which the network did not see whole clips"),
        (["--weights", run, clip, "--views", "1", "2"], "crops of --views=2: choose 1 or 3"),
        (["--weights", run, clip, "--views", "0", "1"], "--views=[0, 1]: give 2 integers of at least 1"),
        (["--weights", run, clip, "--views", "many", "1"], "invalid int value: 'many'"),
    ]:
        out, err, status = said(*words)
        assert (out, status) == ("", 2) and message in err.splitlines()[-1], words


def test_real_clips_are_learned_from_and_told_apart(user_data, tmp_path):
    """Three of UT-Interaction, through the command as it is typed: two people who hug, twice, and one who points."""
    real = user_data("ut_interaction")
    for name, label in (("hugging", 1), ("pointing", 3)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for path in sorted(real.glob(f"*_*_{label}.avi"))[: 2 if label == 1 else 1]:
            (tmp_path / "videos" / name / path.name).symlink_to(path)
    words = "folder --small --frames 4 --stride 8 --size 32 --batch-size 2 --workers 0 --iterations 1 --views 1 1".split()
    folders = ["--data", tmp_path / "videos", "--folder", tmp_path / "run", "--epochs", "1", "--final-epochs", "1"]
    answer = warm.answered(command.main, [*words, *map(str, folders)])
    assert answer.returncode == 0, answer.stderr
    assert "2 classes, 2 clips to train on, 1 held out" in answer.stdout.splitlines()
    clips = sorted(map(str, Path(tmp_path, "videos").glob("*/*.avi")))
    typed = [sys.executable, "-m", "stdcf_lib.itsl", "predict", "--weights", tmp_path / "run", "--json"]
    answer = subprocess.run([*typed, *clips], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    answers = json.loads(answer.stdout)
    assert [row["clip"] for row in answers] == clips
    assert all(sum(best["score"] for best in row["classes"]) == pytest.approx(1) for row in answers)
