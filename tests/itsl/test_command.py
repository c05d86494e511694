"""The command `python -m stdcf_lib.itsl`: what it plans, what it refuses, and a run from beginning to end."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import warm
from accelerate import debug_launcher

from stdcf_lib.itsl import Stage, command
from stdcf_lib.itsl.command import network, parser, stages
from stdcf_lib.itsl.plan import hours, loading, plan
from stdcf_lib.itsl.presets import PRESETS, SOURCES
from stdcf_lib.measure import cost
from stdcf_lib.models import stdcf_r50
from stdcf_lib.runs import Run

SMOKE = "noise --small --frames 4 --size 32 --batch-size 8 --workers 0 --dropout 0".split()


def parsed(line):
    """The arguments of a line with which nothing is trained, completed."""
    return command.parse([*line.split(), "--plan"])[0]


def typed(*words):
    """What the command answers, in a process of its own."""
    return warm.answered(command.main, [str(word) for word in words])


def test_the_help_says_what_can_be_asked_for():
    text = parser().format_help()
    for word in ("--plan", "--direct", "--swap", "--checkpointing", "accelerate launch", "kinetics400", "something-v1"):
        assert word in text


def test_the_plan_is_the_papers_and_its_numbers_are_counted():
    planned = stages(parsed("kinetics400 --swap keep"))
    assert [stage.name for stage in planned] == ["t-1", "s-1", "t-2", "s-2", "t-3", "s-3", "final"]
    assert [stage.name for stage in stages(parsed("something-v1"))] == ["t-1", "s-1", "t-2", "s-2", "final"]
    rows = plan(stdcf_r50(), [planned[0], planned[-1]], "keep", 64)
    batch = cost(stdcf_r50().train(), (64, 3, 8, 224, 224))
    assert rows[1]["gmacs"] == batch.macs / 64e9 and rows[1]["batch_gib"] == batch.stored_bytes / 2**30
    assert (rows[0]["clip"], rows[0]["frozen"], rows[1]["frozen"]) == ("8×112²", "spatial", "nothing")
    assert 3.5 < rows[1]["gmacs"] / rows[0]["gmacs"] < 4
    assert (rows[0]["batch"], rows[1]["batch"]) == (256, 64) and 0.9 < rows[0]["batch_gib"] / rows[1]["batch_gib"] < 1.1
    weights, fits = 12 * batch.parameters, rows[1]["fits"]
    kept = [cost(stdcf_r50().train(), (clips, 3, 8, 224, 224)).stored_bytes + weights for clips in (fits, fits + 1)]
    assert kept[0] <= 80e9 < kept[1]


def test_loaders_are_timed_for_each_kind_of_stage(capsys, monkeypatch):
    monkeypatch.setattr("stdcf_lib.itsl.plan.LOADING_SECONDS", 0.05)
    command.main([*SMOKE, "--iterations", "2", "--benchmark-loader"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "clips/s" in line and "rate" not in line]
    assert [row[:2] for row in rows] == [["t-1", "4×16²"], ["s-1", "1×32²"], ["final", "4×32²"]]
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_planned_memory_is_what_training_keeps(precision):
    """Counted without computing, held against what autograd really keeps of a batch under autocast."""
    arguments = parsed("noise --small --frames 8 --size 64 --dropout 0")
    model, kept = network(arguments).train(), {}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(torch.rand(4, 3, 8, 64, 64)).sum()
    (row,) = plan(model, [Stage("full", 8, 64)], "keep", 4, precision)
    pooled = 2 * 4 * 8 * 8 * 32 * 32 if precision == "bf16" else 0  # a CPU pools in float32, where a GPU does not
    assert loss.requires_grad and row["batch_gib"] * 2**30 == pytest.approx(sum(kept.values()) - pooled, rel=0.08)


def test_one_clip_keeps_less_than_two():
    one, two, three = (plan(stdcf_r50(kind="full"), [Stage("full", 4, 32)], "keep", clips)[0] for clips in (1, 2, 3))
    assert 0 < one["batch_gib"] < two["batch_gib"] and one["fits"] == two["fits"] == three["fits"]
    assert two["batch_gib"] - one["batch_gib"] == pytest.approx(three["batch_gib"] - two["batch_gib"])


def test_the_plan_is_printed_without_videos(monkeypatch, capsys):
    command.main([*SMOKE, "--plan"])
    recipe, counted, measured = capsys.readouterr().out.split("\n\n")
    assert "ours" in recipe and "appendix D" not in recipe
    assert [line.split()[0] for line in counted.splitlines()] == ["stage", "t-1", "s-1", "final"]
    rows = [line.split() for line in measured.splitlines()[3:]]
    assert [row[0] for row in rows] == ["t-1", "s-1", "final", "test", "all", "together"]
    assert "measured by a few steps on" in measured and "with --benchmark-loader it is counted" in measured
    assert all(row[2] == "s" and row[3] == "-" for row in rows[:5])
    command.main([*SMOKE, "--plan", "--benchmark-loader"])
    measured = capsys.readouterr().out.split("\n\n")[2]
    assert all(line.split()[4] == "s" for line in measured.splitlines()[3:8]) and "--benchmark-loader" not in measured


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0, "0 s"), (119 / 3600, "119 s"), (2 / 60, "2 min"), (1.99, "119 min"), (2, "2.0 h"), (4032.16, "4032.2 h")],
)
def test_a_duration_is_told_in_its_own_unit(hours, words):
    assert sys.modules["stdcf_lib.itsl.plan"]._duration(hours) == words


def test_planned_hours_are_those_of_a_run(tmp_path):
    """The counts are of a run: steps, validations of every second epoch, full size after a stage, the test."""
    arguments = parsed(
        "noise --small --frames 4 --size 32 --batch-size 4 --workers 0 --epochs 3 --final-epochs 2 --val-every 2 --views 2 3"
    )
    training = command.training_of(arguments)
    seconds = {"seconds": 36.0, "view_seconds": 3.6, "memory_gib": 1.0}
    asked = []
    training.rehearse = lambda number, clips=None, steps=3: asked.append(number) or seconds
    rows = hours(training)
    assert sorted(asked) == [0, 1, 2]
    assert [row["clips_per_second"] for row in rows] == pytest.approx([4 / 36, 4 / 36, 4 / 36, 0])
    assert [row["stage"] for row in rows] == ["t-1", "s-1", "final", "test"]
    assert [row["training_hours"] for row in rows] == pytest.approx([0.24, 0.24, 0.16, 0.0])  # 8 steps an epoch
    assert [row["validation_hours"] for row in rows] == pytest.approx([0.024, 0.024, 0.008, 0.048])  # 8 clips, 6 views


@pytest.mark.parametrize(
    ("device", "workers", "waiting"), [("cpu", 2, [0.24, 0.08, 0.04]), ("cuda", 2, [0, 0, 0]), ("cuda", 0, [0.24, 0.08, 0.04])]
)
def test_a_gpu_trains_while_clips_are_loaded_and_a_cpu_takes_turns(device, workers, waiting):
    training: Any = command.training_of(
        parsed(f"noise --small --frames 4 --size 32 --batch-size 4 --workers {workers} --epochs 3 --final-epochs 2")
    )
    training.accelerator = SimpleNamespace(device=torch.device(device), num_processes=2)
    loaded = [{"clip": clip, "clips_per_second": 2 / wait} for clip, wait in (("4×16²", 36), ("1×32²", 12), ("4×32²", 9))]

    def asked(step):
        rows = hours(training, lambda number: {"seconds": step, "view_seconds": 1.0, "memory_gib": 1.0}, loaded)
        return [row["waiting_hours"] for row in rows]

    assert asked(36.0) == pytest.approx([*waiting, 0])  # 24, 24 and 16 steps of 2 clips in each process
    assert asked(10.0)[0] == pytest.approx(waiting[0] or 24 * (36 - 10) / 3600)
    loaded[0]["clips_per_second"] = float("nan")  # of less than a batch
    assert asked(36.0)[0] != asked(36.0)[0]


@pytest.mark.parametrize(("device", "room", "clips"), [("cuda", 3.5, None), ("cpu", 3.5, 3), ("cpu", 1.5, 2)])
def test_a_plan_measures_whole_batches_on_a_gpu_and_few_clips_on_a_cpu(monkeypatch, device, room, clips):
    training: Any = command.training_of(parsed("noise --small --frames 4 --size 32 --batch-size 8"))
    seconds, asked = dict.fromkeys(("seconds", "view_seconds", "memory_gib"), 1.0), []
    training.rehearse = lambda number, clips, steps: asked.append(clips) or seconds
    training.accelerator = SimpleNamespace(device=torch.device(device), num_processes=1)
    training.share = lambda stage: 8
    a_clip = training.costs[2].macs / 8
    monkeypatch.setattr(sys.modules["stdcf_lib.itsl.plan"], "CPU_MACS", room * a_clip)
    hours(training)
    assert asked[0] == clips  # full size is measured first


def test_a_rehearsal_takes_real_steps_and_leaves_everything_alone(tmp_path):
    arguments = parsed("noise --small --frames 4 --size 32 --batch-size 4 --accumulation 2")
    training = command.training_of(arguments)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    found = training.rehearse(2)
    assert found["seconds"] > found["view_seconds"] > 0 and found["memory_gib"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.model.state_dict().items())


def test_the_recipe_is_printed_with_its_sources():
    arguments = parser().parse_args("something-v1 --epochs 7 --preset kinetics400".split())
    sources = command.completed(arguments)
    assert (arguments.iterations, arguments.epochs, arguments.swap, arguments.learning_rate) == (3, 7, "resample", 0.1)
    words = command.in_words(arguments, stages(arguments), sources)
    assert "iterations     3" in words and "the paper, appendix D" in words
    assert "\nepochs         7" in words and words.count("given") == 1
    assert "256 at rate 0.4; 64 at rate 0.1" in words
    assert sources.keys() == SOURCES.keys() and all(
        text.startswith(("the paper", "ours", "usual", "given")) for text in sources.values()
    )


@pytest.mark.parametrize(
    ("line", "batches"),
    [
        ("kinetics400", {4, 1}),
        ("kinetics400 --enlarge 1", {1}),
        ("kinetics400 --enlarge 2", {2, 1}),
        ("kinetics400 --reduction 16 --frames 16", {16, 1}),
        ("kinetics400 --batch-size 6000", {2, 1}),  # 20 steps an epoch
        ("noise --batch-size 8", {1}),
    ],
)
def test_stages_have_batches_that_fill_what_full_size_does(line, batches):
    assert {stage.batch for stage in stages(parsed(line))} == batches


@pytest.mark.parametrize(
    ("kind", "words"),
    [("stdcf", ""), ("stdcf", "--swap keep"), ("stdcf", "--iterations 2 --epochs 3 --final-epochs 1"), ("rank1", "")],
)
def test_the_same_command_with_direct_costs_what_its_stages_do(kind, words):
    line = f"noise --small --frames 8 --size 64 {words}"
    staged, arguments = parsed(line), parsed(f"{line} --direct --kind {kind}")
    rows = plan(network(staged), stages(staged), staged.swap, 2)
    spent = sum(row["epochs"] * row["gmacs"] for row in rows)
    (only,) = stages(arguments)
    (row,) = plan(network(arguments), [only], "keep", 2)
    assert row["epochs"] * row["gmacs"] == pytest.approx(spent) and only.epochs > 1
    assert (only.name, only.frames, only.size, only.frozen, only.batch) == ("direct", 8, 64, None, 1)


def test_direct_may_be_told_how_long():
    (only,) = stages(parsed("something-v1 --direct 50"))
    assert only.epochs == 50


def test_loading_is_clips_by_seconds_after_the_first_batch(monkeypatch):
    seconds = iter(range(0, 100, 2))
    monkeypatch.setattr("stdcf_lib.itsl.plan.time.perf_counter", lambda: next(seconds))
    same = [Stage("t-1", 8, 16, "spatial"), Stage("t-2", 8, 16, "spatial")]
    training: Any = SimpleNamespace(stages=same, loaded=lambda number: [(torch.zeros(3), None)] * 3)
    assert loading(training) == [{"stage": "t-1", "clip": "8×16²", "clips_per_second": 1.5}]


def test_recipes_are_those_of_the_field():
    kinetics, something = PRESETS["kinetics400"], PRESETS["something-v1"]
    assert (kinetics.classes, kinetics.learning_rate, kinetics.weight_decay, kinetics.clip_norm) == (400, 0.1, 1e-4, None)
    assert (something.classes, something.learning_rate, something.weight_decay, something.clip_norm) == (174, 0.01, 5e-4, 20)
    assert PRESETS["noise"].classes == 4
    assert (kinetics.clips, something.clips) == ((240_000, 20_000), (86_017, 11_522))
    assert (kinetics.epochs, kinetics.final_epochs) == (12, 36) and (something.epochs, something.final_epochs) == (10, 30)


def test_sets_of_kinetics_are_those_of_its_folder(tmp_path):
    root = tmp_path / "kinetics400"
    for part, label in (("train", 1), ("val", 0)):
        (root / part).mkdir(parents=True)
        (root / part / "a.mp4").touch()
        (root / f"{part}.txt").write_text(f"a.mp4 {label}\n")
    arguments = parsed("kinetics400 --frames 4 --stride 3 --size 32 --views 2 1 --max-faulty 0.5")
    arguments.data = tmp_path
    assert PRESETS["kinetics400"].sets(arguments).classes == ()
    (root / "classes.txt").write_text("yoga\nchess\n")
    sets: Any = PRESETS["kinetics400"].sets(arguments)
    assert sets.classes == ["yoga", "chess"]
    assert (sets.training.samples, sets.training.training) == ([(root / "train/a.mp4", 1)], True)
    assert (sets.test.samples, sets.test.training) == ([(root / "val/a.mp4", 0)], False)
    for data in sets.training, sets.test:
        assert (data.frames, data.stride, data.size, data.views, data.max_faulty) == (4, 3, 32, (2, 1), 0.5)


def test_a_run_goes_through_and_is_taken_up_again(tmp_path, capsys):
    words = [sys.executable, "-m", "stdcf_lib.itsl", *SMOKE, "--log-every", "2", "--folder", tmp_path / "run"]
    first = subprocess.run(words, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    run = Run(tmp_path / "run")
    assert [row["stage"] for row in run.metrics] == ["t-1", "s-1", "final"] and run.config["dataset"] == "noise"
    assert run.config["learning_rate"] == pytest.approx(0.01 * 8 / 64)  # grows with the batch
    assert f"test top-1 {run.metrics[-1]['test_top1']:.4f}" in first.stdout and "clips/s" in first.stderr
    weights = tmp_path / "run" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    command.main([*SMOKE, "--folder", str(tmp_path / "run")])
    assert capsys.readouterr().out == first.stdout
    with pytest.raises(SystemExit, match="2"):
        command.main([*SMOKE, "--folder", str(tmp_path / "run"), "--swap", "keep"])
    assert "holds another run" in capsys.readouterr().err.splitlines()[-1]
    assert weights.stat().st_mtime_ns == before


def test_real_videos_go_through(user_data, tmp_path):
    root = tmp_path / "data" / "kinetics400"
    root.mkdir(parents=True)
    videos = sorted(path for path in user_data("video").iterdir() if path.suffix == ".mp4")
    for part in ("train", "val"):
        (root / part).symlink_to(user_data("video"))
        (root / f"{part}.txt").write_text("".join(f"{path.name} {i}\n" for i, path in enumerate(videos * 2)))
    words = "kinetics400 --small --frames 4 --stride 8 --size 64 --batch-size 4 --workers 1 --views 2 3 --iterations 1".split()
    answer = typed(*words, "--data", tmp_path / "data", "--folder", tmp_path / "run", "--epochs", 1, "--final-epochs", 1)
    assert answer.returncode == 0, answer.stderr
    rows = Run(tmp_path / "run").metrics
    assert [row["stage"] for row in rows] == ["t-1", "s-1", "final"] and rows[-1]["test_top5"] >= rows[-1]["test_top1"]


@pytest.fixture
def mistakes(tmp_path):
    """A folder of data that is not quite right, for `main` to refuse."""
    video, gestures = tmp_path / "kinetics400", tmp_path / "something-v1"
    for folder in (video / "train", video / "val", gestures / "frames"):
        folder.mkdir(parents=True)
    (video / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (video / "val.txt").write_text("a.mp4 400\n")
    (video / "val" / "a.mp4").write_bytes(b"no video")
    (gestures / "something-something-v1-train.csv").write_text("1;Doing something\n")
    (gestures / "something-something-v1-validation.csv").write_text("1;Doing something\n")
    for name in ("one/walk", "empty/run", "empty/walk", "two/run", "two/walk"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(0 if name == "empty/run" else 3):
            (tmp_path / name / f"{i}.mp4").write_bytes(b"no video")
    (tmp_path / "list").write_text("run/0.mp4\nwalk/7.mp4\n")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "small.pt")
    return tmp_path


NOISE = "noise --small --frames 4 --size 32 --batch-size 8 --workers 0 --folder {}/run"
OWN = "folder --small --frames 4 --size 32 --batch-size 2 --workers 0 --folder {}/run --data {}/"
MISTAKES = [
    ("chess --plan", "invalid choice: 'chess'"),
    ("noise", "name the run's folder with --folder"),
    ("noise --plan --batch-size 0", "--batch-size: '0': give an integer of at least 1"),
    ("noise --plan --batch-size many", "--batch-size: 'many': give an integer"),
    ("noise --plan --accumulation 0", "--accumulation: '0': give an integer of at least 1"),
    ("noise --plan --views 10 2", "--views 10 2: give 1 crop or 3"),
    ("noise --plan --views 0 1", "--views: '0': give an integer"),
    ("kinetics400 --plan --stride 0", "--stride: '0': give an integer"),
    ("noise --plan --stride 4", "--stride is for kinetics400 and folder"),
    ("noise --plan --frames 0", "--frames: '0': give an integer"),
    ("noise --plan --frames 6", "give a multiple of 4 frames"),
    ("noise --plan --size 33", "a multiple of 2 pixels"),
    ("noise --plan --reduction 3", "reduction=3: give a square"),
    ("noise --plan --iterations 0", "--iterations: '0': give an integer"),
    ("noise --plan --epochs 0", "--epochs: '0': give a finite number above 0"),
    ("noise --plan --epochs nan", "--epochs: 'nan': give a finite number above 0"),
    ("noise --plan --final-epochs -1", "--final-epochs: '-1': give a finite number of at least 0"),
    ("noise --plan --direct 0", "--direct: '0': give a finite number above 0"),
    ("noise --plan --direct 4 --swap keep", "--swap is about stages, and --direct 4 has none"),
    ("noise --plan --direct 4 --final-epochs 2", "--final-epochs is about stages, and --direct 4 has none"),
    ("noise --no-steps --folder {}/run", "--no-steps is about --plan"),
    ("kinetics400 --benchmark-loader", "name the folder of your videos with --data"),
    ("kinetics400 --plan --benchmark-loader", "name the folder of your videos with --data"),
    ("noise --plan --preset noise", "invalid choice: 'noise'"),
    ("noise --plan --enlarge 0", "--enlarge: '0': give an integer of at least 1"),
    ("noise --plan --average 1", "--average: '1': give a finite number"),
    ("noise --plan --clip-norm 0", "--clip-norm: '0': give a finite number above 0"),
    ("noise --plan --log-every 0", "--log-every: '0': give an integer"),
    ("noise --plan --learning-rate -1", "--learning-rate: '-1': give a finite number above 0"),
    ("noise --plan --learning-rate high", "--learning-rate: 'high': give a finite number above 0"),
    ("noise --plan --dropout 1", "--dropout: '1': give a finite number of at least 0 and below 1"),
    ("noise --plan --workers -1", "--workers: '-1': give an integer of at least 0"),
    ("noise --plan --save-minutes -1", "--save-minutes: '-1': give a finite number of at least 0"),
    ("noise --plan --val-every 0", "--val-every: '0': give an integer"),
    ("noise --plan --val-views 1 2", "--val-views 1 2: give 1 crop or 3"),
    ("noise --plan --test-batch 0", "--test-batch: '0': give an integer"),
    ("noise --plan --seed -1", "--seed: '-1': give an integer of at least 0"),
    ("noise --plan --max-faulty 2", "--max-faulty: '2': give a finite number of at least 0 and of at most 1"),
    ("noise --plan --spatial-atoms 7", "spatial_atoms=7"),
    ("noise --plan --temporal-atoms 4", "temporal_atoms=4"),
    ("noise --plan --kind full --spatial-atoms 3", "--spatial-atoms is about atoms, which --kind full has not"),
    ("noise --plan --kind rank1 --swap resample", "--swap is about atoms, which --kind rank1 has not"),
    ("noise --plan --image-weights {}/absent.pt", "absent.pt"),
    ("noise --plan --image-weights {}", "Is a directory"),
    ("noise --plan --image-weights {}/text.pt", "text.pt holds no weights that torch can load"),
    ("noise --plan --image-weights {}/list.pt", "list.pt is no state_dict"),
    ("noise --plan --image-weights {}/small.pt", "conv1.weight is (1,), and this network needs"),
    ("noise --plan --small --image-weights {}/small.pt", "--image-weights is for the full network"),
    (NOISE + " --accumulation 3", "batch_size=8 cannot be shared by 3"),
    (NOISE + " --batch-size 64", "stage 't-1' has no step to make"),
    (NOISE + " --batch-size 1", "stage 's-1': the network cannot train on 1 clips of 1×32² at a time"),
    ("noise --small --frames 4 --size 32 --batch-size 8 --folder {}/file", "is a file; name a folder"),
    ("kinetics400 --data {}/nowhere --folder {}/run", "nowhere/kinetics400 has none of train.csv, train.txt"),
    ("kinetics400 --data {} --folder {}/run", "there are no samples"),
    ("something-v1 --data {} --folder {}/run", "something-something-v1-labels.csv"),
    ("noise --plan --val-share 0.5", "--val-share is for folder"),
    ("kinetics400 --plan --no-flip", "--no-flip is for folder"),
    ("something-v1 --plan --val-list {}/file", "--val-list is for folder"),
    ("folder --plan", "name the folder of your videos with --data"),
    ("folder --data {}/two", "name the run's folder with --folder"),
    (OWN + "two --val-share 0", "--val-share: '0': give a finite number above 0 and below 1"),
    (OWN + "two --val-share 1", "--val-share: '1': give a finite number above 0 and below 1"),
    (OWN + "two --val-share 0.5 --val-list {}/list", "--val-list names what --val-share would draw; leave out one"),
    (OWN + "two --val-list {}/absent", "absent"),
    (OWN + "two --val-list {}/list", "line 2 of {}/list names 'walk/7.mp4', which is no video"),
    (OWN + "nowhere", "nowhere is no folder; name the one that holds your videos"),
    (OWN + "something-v1/frames", "frames has no videos"),
    (OWN + "one", "one has too few classes (walk); give at least two"),
    (OWN + "empty", "the folder 'run' in {}/empty has no video"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_refused_in_a_line_before_anything_is_written(words, message, mistakes, monkeypatch, capsys):
    monkeypatch.delenv("STDCF_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["itsl", *words.replace("{}", str(mistakes)).split()])
    before = sorted(mistakes.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        command.main()
    error = capsys.readouterr().err
    assert message.replace("{}", str(mistakes)) in error.splitlines()[-1] and stopped.value.code == 2
    assert sorted(mistakes.rglob("*")) == before


def test_videos_that_cannot_be_read_are_listed_before_anything_is_written(mistakes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["itsl", *OWN.replace("{}", str(mistakes)).split()])
    sys.argv[-1] += "two"
    with pytest.raises(SystemExit, match="2"):
        command.main()
    error = capsys.readouterr().err
    assert "samples in a row could not be read; they are:" in error and f"{mistakes}/two/walk/" in error.splitlines()[-1]
    assert not (mistakes / "run").exists()


def test_all_data_are_not_taken_for_ones_own(mistakes, monkeypatch, capsys):
    """STDCF_DATA names the folder of all data sets, which has folders with videos in them."""
    monkeypatch.setenv("STDCF_DATA", str(mistakes / "two"))
    monkeypatch.setattr(sys, "argv", ["itsl", "folder", "--folder", str(mistakes / "run")])
    with pytest.raises(SystemExit):
        command.main()
    assert "name the folder of your videos with --data" in capsys.readouterr().err


def test_a_plan_for_ones_own_videos_has_their_classes_and_loads_them(own_videos, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(command, "plan", lambda model, *_: seen.append(model.fc.out_features) or [])
    monkeypatch.setattr(sys.modules["stdcf_lib.itsl.plan"], "LOADING_SECONDS", 0.05)
    videos = str(own_videos(tmp_path / "videos", 5))
    command.main(["folder", "--data", videos, *"--plan --small --frames 4 --size 32 --batch-size 2 --workers 0".split()])
    rows = [line.split() for line in capsys.readouterr().out.partition("evaluation  peak")[2].splitlines()[1:]]
    assert seen == [2] and [row[0] for row in rows][-3:] == ["test", "all", "together"] and not any("-" in row for row in rows)


def test_a_class_beyond_the_last_is_refused_with_its_line(mistakes, monkeypatch, capsys):
    (mistakes / "kinetics400" / "train" / "a.mp4").write_bytes(b"no video")
    words = f"kinetics400 --data {mistakes} --folder {mistakes}/run"
    monkeypatch.setattr(sys, "argv", ["itsl", *words.split()])
    with pytest.raises(SystemExit):
        command.main()
    error = capsys.readouterr().err.splitlines()[-1]
    assert "line 1 of" in error and "val.txt" in error and "400" in error


def test_a_rate_that_explodes_ends_in_a_line(tmp_path):
    answer = typed(*SMOKE, "--folder", tmp_path / "run", "--learning-rate", 1e30)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert "the loss became" in answer.stderr and "lower the learning rate" in answer.stderr


def test_a_folder_in_use_ends_in_a_line(tmp_path):
    with Run(tmp_path / "run").held():
        answer = typed(*SMOKE, "--folder", tmp_path / "run")
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert f"in use by process {os.getpid()} on" in answer.stderr


def test_torchrun_on_a_cpu_makes_one_run(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "stdcf_lib.itsl"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    words = [*command, *SMOKE, "--folder", tmp_path / "run"]
    answer = subprocess.run(words, capture_output=True, text=True, env=environment | {"CUDA_VISIBLE_DEVICES": ""})
    assert answer.returncode == 0, answer.stderr
    run = Run(tmp_path / "run")
    assert {row["processes"] for row in run.metrics if "steps" in row} == {2}
    assert answer.stdout.count("top-1") == 1


def test_a_notebook_starts_one_run_in_several_processes(tmp_path):
    """As notebook 06 does for several GPUs, by accelerate's launcher for processors."""
    words = [*SMOKE, "--quiet", "--folder", str(tmp_path / "run")]
    answer = warm.answered(debug_launcher, command.main, (words,), 2)
    assert answer.returncode == 0, answer.stderr
    assert {row["processes"] for row in Run(tmp_path / "run").metrics if "steps" in row} == {2}
    assert answer.stdout.count("test top-1") == 1


def without_decoders(words):
    for absent in ("torchvision", "av", "PIL"):
        assert absent not in sys.modules
        sys.modules[absent] = cast(Any, None)
    command.main(words)


def test_a_plan_needs_neither_torchvision_nor_a_decoder():
    answer = warm.answered(without_decoders, "kinetics400 --plan --no-steps --small".split())
    assert answer.returncode == 0 and "final   8×224²" in answer.stdout, answer.stderr


def test_the_network_is_the_one_asked_for():
    small: Any = network(parser().parse_args([*SMOKE, "--kind", "rank1"]))
    assert small.kind == "rank1" and [len(stage) for stage in small.stages] == [1, 1, 1, 1] and small.fc.in_features == 32 * 8
    arguments = parser().parse_args(["kinetics400", "--spatial-atoms", "4", "--checkpointing"])
    model: Any = network(arguments)
    assert model.stages[0][0].checkpointing and len(model.stages[0][0].residual[3].psi) == 4
    torch.manual_seed(arguments.seed)
    assert torch.equal(next(model.parameters()), next(stdcf_r50(spatial_atoms=4).parameters()))


@pytest.mark.parametrize(("count", "expected"), [(3, 4), (45, 9), (400, 64)])
def test_few_videos_have_small_batches(own_videos, tmp_path, count, expected):
    """An eighth of those to train on, which are four fifths of two classes; but 4 at least and 64 at most."""
    for way in own_videos(tmp_path / "videos", 1).iterdir():
        for number in range(1, count):
            (way / f"{number}.mp4").symlink_to(way / "0.mp4")
    arguments = command.parse(f"folder --plan --small --data {tmp_path / 'videos'}".split())[0]
    assert arguments.batch_size is None
    command.training_of(arguments)
    assert arguments.batch_size == expected
