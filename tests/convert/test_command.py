"""The command, as a new user would give it: to torchvision's networks, and to a file of one's own."""

import itertools
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stdcf_lib.convert import load, named, to_stdcf
from stdcf_lib.convert.clips import Videos, clips
from stdcf_lib.convert.command import _short, difference, main, totals
from stdcf_lib.convert.timing import _timed, seconds
from stdcf_lib.measure import cost

MINE = """
import torch
from torch import nn
from beside import WIDTH

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, WIDTH, 3, padding=1), nn.BatchNorm3d(WIDTH), nn.ReLU(), nn.Conv3d(WIDTH, 8, 3, padding=1),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3),
    )

def clips():
    return torch.rand(22, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

def one():
    return clips()[:1]

def two():
    return clips()[:2]

def gray():
    return torch.rand(8, 3, 4, 8, 8)

def number():
    return 5

def broken():
    raise KeyError("width")

def infinite():
    network = net()
    network[-1].bias.data[0] = torch.inf
    return network
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("WIDTH = 8\n")
    torch.save({"no": "state_dict"}, tmp_path / "list.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("text")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


OWN = "mine.py:net --input 1 1 4 8 8"


def test_a_network_of_ones_own_is_converted_recovered_saved_and_tested(place, capsys):
    main(f"{OWN} --keep 0.3 --clips mine.py:clips --epochs 12 --rate 0.01 --output net.safetensors".split())
    said = capsys.readouterr().out
    kept = [float(share) for share in re.findall(r"([\d.]+)%", said.partition("\nparameters")[0])]
    assert len(kept) == 2 and min(kept) >= 30
    assert re.search(r"on a drawn clip its answer differs by [\d.]+% of the original's", said)
    first, now = (float(share) for share in re.findall(r"differed by ([\d.]+)%, and now by ([\d.]+)%", said)[0])
    assert now < 0.7 * first
    assert "recovered on 19 clips; on 3 held out" in said and "no nearer" not in said
    assert "loaded again, it gives the same answer, to the bit" in said
    again = load(place / "net.safetensors", named.build("mine.py:net")).eval()
    own = named.called("mine.py:clips")
    with torch.no_grad():
        original = named.build("mine.py:net").eval()(own)
        assert difference(again(own), original) < 0.012 * first


def test_what_recovery_makes_worse_is_left_as_it_was_converted(place, capsys):
    main(f"{OWN} --keep 0.3 --output converted.safetensors".split())
    main(f"{OWN} --keep 0.3 --clips mine.py:clips --epochs 1 --rate 100 --output recovered.safetensors".split())
    said = capsys.readouterr().out
    first, now = (float(share) for share in re.findall(r"differed by ([\d.]+)%, and now by ([\d.]+)%", said)[0])
    assert now > first and "no nearer, so it is left as it was converted" in said
    one, other = (load(place / f"{name}.safetensors", named.build("mine.py:net")) for name in ("converted", "recovered"))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_a_network_that_cannot_be_saved_or_is_not_what_was_saved_ends_in_a_line(place, monkeypatch):
    def full(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("stdcf_lib.convert.command.save", full)
        with pytest.raises(SystemExit, match=r"stdcf_lib\.convert: no room"):
            main(f"{OWN} --atoms 1 1 --output net.safetensors".split())
    monkeypatch.setattr("stdcf_lib.convert.command.load", lambda *_: named.build("mine.py:net"))
    with pytest.raises(SystemExit, match=r"net\.safetensors does not answer as the network that was saved; do not use it"):
        main(f"{OWN} --atoms 1 1 --output net.safetensors".split())


def test_own_weights_are_read_and_every_budget_is_one(place, capsys):
    network = named.build("mine.py:net")
    torch.save(network.state_dict(), place / "mine.pt")
    for budget in ("--parameters 0.6", "--macs 0.8", "--atoms 2 1"):
        main(f"{OWN} --weights mine.pt {budget}".split())
        said = capsys.readouterr().out
        assert "no --weights" not in said and re.search(r"time here +[\d.]+ s a pass; converted", said)
    assert re.search(r"^0 +3×3×3 +1→8 +2 +1 ", said, re.MULTILINE)


def test_a_network_of_torchvision_and_what_stays(place, capsys):
    main("mc3_18 --input 1 3 4 16 16 --parameters 0.99".split())
    said = capsys.readouterr().out
    assert "no --weights: those that mc3_18 is built with" in said and "stays as it is" in said


def test_weights_of_torchvision_are_asked_for_by_name(place, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "torchvision.models.get_model", lambda name, weights: asked.append((name, weights)) or named.called(OWN[:11])
    )
    main("r3d_18 --weights DEFAULT --input 1 1 4 8 8".split())
    assert asked == [("r3d_18", "DEFAULT")]


def test_a_network_of_torchvision_says_which_clips_it_takes():
    assert named.input_size("r3d_18") == (1, 3, 16, 112, 112) and named.input_size("mine.py:net") is None


def test_videos_are_found_wherever_they_lie_in_a_folder(tmp_path, monkeypatch):
    for name in ("b/c/d.MOV", "a.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    videos = Videos(tmp_path, "r3d_18", 16)
    assert [path.name for path in videos.paths] == ["a.mp4", "d.MOV"] and len(videos) == 2
    asked = []
    monkeypatch.setattr("stdcf_lib.convert.clips.frame_count", lambda _: 100)
    picture = np.zeros((16, 20, 24, 3), np.uint8)
    monkeypatch.setattr(
        "stdcf_lib.convert.clips.decode_numbers", lambda _, numbers, hold: asked.append((numbers, hold)) or picture
    )
    assert videos[0].shape == (3, 16, 112, 112)
    assert asked == [(range(34, 66, 2), True)]  # the middle, and of a short video its last frame again and again


def test_a_file_of_ones_own_leaves_the_path_of_modules_as_it_was(place):
    before = [*sys.path]
    named.build("mine.py:net")
    assert sys.path == before


def test_a_layer_counts_in_the_total_unless_it_has_no_count(place):
    """One that is never called, such as a head for training alone."""
    network: Any = named.build("mine.py:net")
    converted, report = to_stdcf(network, keep=0.9, input_size=(1, 1, 4, 8, 8))
    counted = cost(network, (1, 1, 4, 8, 8)).macs
    unknown = [row._replace(macs_before=None, macs_after=None) for row in report]
    lines = totals(network, converted, report, torch.rand(1, 1, 4, 8, 8))
    saved = sum((row.macs_before or 0) - (row.macs_after or 0) for row in report)
    assert saved and f"as three layers {_short(counted - saved)} ({1 - saved / counted:.0%})" in lines
    lines = totals(network, converted, unknown, torch.rand(1, 1, 4, 8, 8))
    assert f"MACs         {_short(counted)}; as three layers {_short(counted)} (100%)" in lines


def test_numbers_of_a_kind_that_cannot_be_close_are_not_compared():
    one, other = ({"scores": torch.full((2,), value), "label": torch.tensor(int(value)), "name": ""} for value in (3.0, 4.0))
    assert difference(one, other) == 0.25


def test_large_counts_are_short():
    assert [_short(count) for count in (999_999, 10**6, 10**9 - 10**7, 10**9)] == ["999,999", "1.00 M", "990.00 M", "1.00 G"]


def test_two_clips_are_enough_to_hold_one_out(place):
    assert len(clips("mine.py:two", "mine.py:net", (1, 1, 4, 8, 8))) == 2


def test_a_form_takes_what_passes_within_its_layer_and_the_first_pass_is_not_counted(monkeypatch):
    """By a clock that each look at it moves on by a second, but for the first pass, which is slow."""
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    converted, _ = to_stdcf(network, 2, 1)
    looks = itertools.count(1)
    monkeypatch.setattr("time.perf_counter", lambda: (look := next(looks)) + 1000 * (look % 8 in (3, 4)))
    layer: Any = converted.eval()[0]  # pyright: ignore
    forms = []
    with layer.register_forward_pre_hook(lambda layer, _: forms.append(layer.evaluation)):
        found = seconds(network, converted, ["", "0"], torch.rand(2, 1, 4, 5, 5), passes=1)
    assert forms == ["filters"] * 2 + ["atoms"] * 2
    assert found == {"": (3, 3, 3), "0": (1, 1, 1)}
    assert layer.evaluation == "auto" and network.training and not converted.training
    seconds(network.eval(), converted.train(), [""], torch.rand(2, 1, 4, 5, 5), passes=1)
    assert not network.training and converted.training
    assert not any(hooks for module in (network, layer) for hooks in (module._forward_hooks, module._forward_pre_hooks))


def test_a_gpu_is_waited_for_at_each_look_at_the_clock(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    clips: Any = SimpleNamespace(is_cuda=True)
    _timed(nn.Identity(), [""], clips, 2)
    assert len(waits) == 2 * (1 + 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("r3d", "'r3d' is no video model of torchvision"),
        ("r2plus1d_18 --input 1 3 4 16 16", "VideoResNet has nothing to convert"),
        ("r3d_18 --weights KINETICS", "r3d_18 has no weights 'KINETICS'; torchvision offers KINETICS400_V1"),
        ("mine.py:net", "name the shape of the network's input with --input"),
        ("mine.py:net --input 1 1 0 8 8", "--input="),
        ("mine.py:net --input 1 3 4 8 8", "the network does not take --input 1 3 4 8 8: "),
        ("mine.py:nothing --input 1 1 4 8 8", "mine.py:nothing failed: AttributeError"),
        ("mine.py:broken --input 1 1 4 8 8", "mine.py:broken failed: KeyError: 'width'"),
        ("mine.py:number --input 1 1 4 8 8", "mine.py:number gave int; name a function that returns a torch.nn.Module"),
        ("mine.py:infinite --input 1 1 4 8 8", "it answers no finite numbers"),
        ("nowhere.py:net --input 1 1 4 8 8", "nowhere.py is no file"),
        ("no.module:net --input 1 1 4 8 8", "no.module:net failed: ModuleNotFoundError"),
        (f"{OWN} --weights text.pt", "text.pt holds no weights that torch can load"),
        (f"{OWN} --weights text.safetensors", "text.safetensors holds no weights that safetensors can load"),
        (f"{OWN} --weights list.pt", "list.pt is no state_dict"),
        (f"{OWN} --weights other.pt", "--weights other.pt are of another network"),
        (f"{OWN} --weights gone.pt", "No such file"),
        (f"{OWN} --keep 1.5", "keep=1.5: give a finite number"),
        (f"{OWN} --parameters 0.001", "out of reach"),
        (f"{OWN} --atoms 0 1", "spatial_atoms=0: give an integer of at least 1"),
        (f"{OWN} --keep 0.5 --macs 0.5", "not allowed with argument"),
        (f"{OWN} --output mine.py", "--output mine.py is there already"),
        (f"{OWN} --output gone/net.safetensors", "is in no folder that there is"),
        (f"{OWN} --clips mine.py:one", "has 1 clip; give two or more"),
        (f"{OWN} --clips mine.py:gray", r"has clips of shape \(3, 4, 8, 8\); the network takes \(1, 4, 8, 8\)"),
        (f"{OWN} --clips mine.py:number", "gave int; give clips"),
        (f"{OWN} --clips empty", "empty has no videos"),
        ("mine.py:net --input 1 1 4 8 99999999999", "--input 1 1 4 8 99999999999 has 3,199,999,999,968 numbers"),
        (f"{OWN} --epochs 0", "--epochs=0: give an integer of at least 1"),
        (f"{OWN} --rate 0", "--rate=0.0: give"),
    ],
)
def test_mistakes_are_refused_in_a_line_before_anything_is_written(words, message, place, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in place.rglob("*.*")}
    asked = words if "--output" in words else f"{words} --output net.safetensors"
    with pytest.raises(SystemExit) as ended:
        main(asked.split())
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert re.search(message, said[-1]), said[-1]
    assert {path.name: path.stat().st_mtime_ns for path in place.rglob("*.*") if "__pycache__" not in path.parts} == before


def test_videos_are_prepared_as_torchvision_does(user_data, place, capsys):
    folder = user_data("ut_interaction")
    (place / "videos").mkdir()
    for name in ("0_1_4.avi", "1_1_2.avi"):
        (place / "videos" / name).symlink_to(folder / name)
    found = clips("videos", "r3d_18", (1, 3, 16, 112, 112))
    assert len(found) == 2 and found[1].shape == (3, 16, 112, 112)
    assert abs(float(found[0].mean())) < 2 and float(found[0].std()) > 0.1
    with pytest.raises(ValueError, match=r"videos are prepared for networks of torchvision; for mine.py:net name a function"):
        clips("videos", "mine.py:net", (1, 1, 16, 112, 112))
