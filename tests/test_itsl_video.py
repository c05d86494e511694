"""The command `python -m stdcf_lib.itsl`: what it plans, what it refuses, and a run from beginning to end."""

import subprocess
import sys

import pytest
import torch

from stdcf_lib import itsl_video
from stdcf_lib.itsl_video import FIELDS, network, parser, plan, stages
from stdcf_lib.measure import cost
from stdcf_lib.models import stdcf_r50
from stdcf_lib.runs import Run

SMOKE = "noise --small --frames 4 --size 32 --batch-size 8 --workers 0 --dropout 0".split()


def command(*words, check=True):
    answer = subprocess.run([sys.executable, "-m", "stdcf_lib.itsl", *words], capture_output=True, text=True)
    assert not check or answer.returncode == 0, answer.stderr
    return answer


def test_the_help_says_what_can_be_asked_for():
    text = parser().format_help()
    for word in ("--plan", "--direct", "--swap", "--checkpointing", "accelerate launch", "kinetics400", "something-v1"):
        assert word in text


def test_the_plan_is_the_papers_and_its_numbers_are_measured():
    arguments = parser().parse_args(["kinetics400", "--plan"])
    planned = stages(arguments)
    assert [stage.name for stage in planned] == ["t-1", "s-1", "t-2", "s-2", "t-3", "s-3", "final"]
    assert [stage.name for stage in stages(parser().parse_args(["something-v1"]))] == ["t-1", "s-1", "t-2", "s-2", "final"]
    rows = plan(stdcf_r50(), [planned[0], planned[-1]], "keep", 64)
    two = cost(stdcf_r50().train(), (2, 3, 8, 224, 224))
    stored = two.stored_bytes / 2
    assert rows[1]["gmacs"] == two.macs / 2e9 and rows[1]["stored_gib"] == stored / 2**30
    assert (rows[0]["clip"], rows[0]["frozen"], rows[1]["frozen"]) == ("8×112²", "spatial", "nothing")
    assert 3.5 < rows[1]["gmacs"] / rows[0]["gmacs"] < 4 and rows[1]["batch_gib"] == 64 * rows[1]["stored_gib"]
    weights = 12 * two.parameters
    assert rows[1]["fits"] * stored + weights <= 80e9 < (rows[1]["fits"] + 1) * stored + weights


def test_the_plan_is_printed_without_videos(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["itsl", *SMOKE, "--plan"])
    itsl_video.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "t-1", "s-1", "final"]


def test_the_reference_has_one_stage():
    (only,) = stages(parser().parse_args(["something-v1", "--direct", "--final-epochs", "50"]))
    assert (only.name, only.frames, only.size, only.frozen, only.epochs) == ("direct", 8, 224, None, 50)


def test_recipes_are_the_fields():
    kinetics, something = FIELDS["kinetics400"], FIELDS["something-v1"]
    assert (kinetics.classes, kinetics.learning_rate, kinetics.weight_decay, kinetics.clip_norm) == (400, 0.1, 1e-4, None)
    assert (something.classes, something.learning_rate, something.weight_decay, something.clip_norm) == (174, 0.01, 5e-4, 20)


def test_a_run_goes_through_and_is_taken_up_again(tmp_path):
    first = command(*SMOKE, "--folder", tmp_path / "run", "--swap", "resample")
    run = Run(tmp_path / "run")
    assert [row["stage"] for row in run.metrics] == ["t-1", "s-1", "final"] and run.config["dataset"] == "noise"
    assert run.config["learning_rate"] == pytest.approx(0.01 * 8 / 64)  # grows with the batch
    assert f"top-1 {run.metrics[-1]['full_top1']:.4f}" in first.stdout and "clip/s" in first.stderr
    before = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    assert command(*SMOKE, "--folder", tmp_path / "run", "--swap", "resample").stdout == first.stdout
    other = command(*SMOKE, "--folder", tmp_path / "run", "--swap", "keep", check=False)
    assert other.returncode == 2 and "holds another run" in other.stderr
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns >= before


def test_real_videos_go_through(user_data, tmp_path):
    root = tmp_path / "data" / "kinetics400"
    root.mkdir(parents=True)
    videos = sorted(path for path in user_data("video").iterdir() if path.suffix == ".mp4")
    for part in ("train", "val"):
        (root / part).symlink_to(user_data("video"))
        (root / f"{part}.txt").write_text("".join(f"{path.name} {i}\n" for i, path in enumerate(videos * 3)))
    words = "kinetics400 --small --frames 4 --stride 8 --size 64 --batch-size 4 --workers 1 --views 2 3 --iterations 1".split()
    command(*words, "--data", tmp_path / "data", "--folder", tmp_path / "run", "--epochs", "1", "--final-epochs", "1")
    assert [row["stage"] for row in Run(tmp_path / "run").metrics] == ["t-1", "s-1", "final"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kinetics400", "--data", "nowhere"], "name the run's folder with --folder"),
        (["kinetics400", "--data", "nowhere", "--folder", "x"], "nowhere/kinetics400 has none of train.csv, train.txt"),
        (["noise", "--plan", "--frames", "6"], "give a multiple of 4 frames"),
        (["noise", "--plan", "--spatial-atoms", "7"], "spatial_atoms=7"),
        (["noise", "--plan", "--image-weights", "absent.pt"], "absent.pt"),
        (["chess", "--plan"], "invalid choice: 'chess'"),
    ],
)
def test_bad_commands_are_refused_in_words(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["itsl", *words])
    with pytest.raises(SystemExit) as stopped:
        itsl_video.main()
    assert message in capsys.readouterr().err + str(stopped.value)


def test_the_network_is_the_one_asked_for():
    small = network(parser().parse_args([*SMOKE, "--kind", "rank1"]))
    assert small.kind == "rank1" and sum(p.numel() for p in small.parameters()) < 200_000
    arguments = parser().parse_args(["kinetics400", "--spatial-atoms", "4", "--checkpointing"])
    model = network(arguments)
    assert model.stages[0][0].checkpointing and len(model.stages[0][0].residual[3].psi) == 4
    torch.manual_seed(arguments.seed)
    assert torch.equal(next(model.parameters()), next(stdcf_r50(spatial_atoms=4).parameters()))
