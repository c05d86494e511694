"""Stages, what they show and freeze, the swaps between them, and runs that are killed or shared.

`itsl_job.py` beside this file is the run that is killed.
"""

import copy
import os
import random
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import itsl_job
import pytest
import torch
import warm
from accelerate import Accelerator
from torch import nn

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.itsl import AtomSwap, Recipe, Stage, run, schedule, shared_bn, top, view
from stdcf_lib.itsl.log import logged
from stdcf_lib.itsl.run import Training
from stdcf_lib.models import SmallVideoNet
from stdcf_lib.runs import DamagedRun, Run

FULL = Stage("full", 16, 28)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# Stages


def test_the_schedule_is_the_papers():
    names = [stage.name for stage in schedule(3, frames=8, size=224)]
    assert names == ["t-1", "s-1", "t-2", "s-2", "t-3", "s-3", "final"]
    for stage in schedule(3, frames=8, size=224, epochs=2, final_epochs=5)[:-1]:
        expected = (8, 112, "spatial") if stage.name.startswith("t") else (2, 224, "temporal")
        assert (stage.frames, stage.size, stage.frozen, stage.epochs) == (*expected, 2)
        assert 4 * stage.frames * stage.size**2 == 8 * 224**2
    assert schedule(1, 8, 224, final_epochs=5)[-1] == Stage("final", 8, 224, None, 5)
    assert {stage.epochs for stage in schedule(1, 8, 224)} == {1.0}
    assert [stage.name for stage in schedule(1, 8, 224, final_epochs=0)] == ["t-1", "s-1"]
    assert [(s.frames, s.size) for s in schedule(1, 32, 224, reduction=16)][:2] == [(32, 56), (2, 224)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedule(0, 8, 224), "iterations=0: give an integer of at least 1"),
        (lambda: schedule(10**9, 8, 224), "iterations=1000000000: give at most 1000"),
        (lambda: schedule(1, 8, 224, final_epochs=cast(Any, torch.ones(2))), "final_epochs=.*: give a finite number"),
        (lambda: schedule(1, 8, 224, reduction=3), "reduction=3: give a square, such as 4"),
        (lambda: schedule(1, 8, 224, reduction=cast(Any, 4.0)), "reduction=4.0: give an integer"),
        (lambda: schedule(1, 6, 224), "frames=6 and size=224 cannot be reduced by 4: give a multiple of 4 frames"),
        (lambda: schedule(1, 8, 225), "a multiple of 2 pixels"),
        (lambda: Stage("x", 0, 8), "stage 'x': frames=0: give an integer"),
        (lambda: Stage("x", 8, cast(Any, 8.0)), "stage 'x': size=8.0"),
        (lambda: Stage("x", 8, 8, "all"), "stage 'x': frozen='all': choose 'spatial', 'temporal', 'both' or None"),
        (lambda: Stage("x", 8, 8, None, 0), "stage 'x': epochs=0: give a finite number above 0"),
        (lambda: AtomSwap(nn.ReLU(), FULL, "swap"), "swap='swap': choose 'keep', 'dilate', 'resample' or 'restore'"),
        (lambda: view(torch.zeros(1, 1, 6, 28, 28), Stage("x", 4, 28)), "have no view of 4 frames of 28×28 .stage 'x'."),
        (lambda: view(torch.zeros(1, 1, 4, 14, 14), Stage("x", 4, 28)), "no smaller"),
        (lambda: view(torch.zeros(1, 1, 4, 28, 30), Stage("x", 4, 28)), "square frames"),
    ],
)
def test_bad_stages_are_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Views


@pytest.mark.parametrize("stage", [*schedule(1, 16, 28), Stage("m", 8, 20)])
def test_a_view_shows_the_same_scene_for_the_same_time(stage):
    """A ramp along an axis says where in the scene, and when, each of its pixels is."""
    place = (torch.arange(28.0) + 0.5) / 28
    time = torch.arange(16.0) / 16
    ramps = torch.stack(torch.broadcast_tensors(time.view(-1, 1, 1), place.view(-1, 1), place))
    seen = view(ramps[None], stage)[0]
    assert seen.shape == (3, stage.frames, stage.size, stage.size)
    expected_place = (torch.arange(stage.size) + 0.5) / stage.size
    torch.testing.assert_close(seen[0, :, 0, 0], torch.arange(stage.frames) / stage.frames)  # each frame from where it begins
    torch.testing.assert_close(seen[1, 0, :, 0], expected_place, atol=0.5 / 28, rtol=0)
    torch.testing.assert_close(seen[2, 0, 0], expected_place, atol=0.5 / 28, rtol=0)


def test_a_view_averages_areas_and_keeps_frames_whole():
    clips = torch.rand(2, 3, 16, 28, 28)
    small, short = view(clips, Stage("t", 16, 14)), view(clips, Stage("s", 4, 28))
    torch.testing.assert_close(small, clips.unflatten(3, (14, 2)).unflatten(5, (14, 2)).mean((4, 6)))
    assert torch.equal(short, clips[:, :, [0, 4, 8, 12]])
    assert view(clips, FULL) is clips


# Atoms


def small_net():
    torch.manual_seed(0)
    return SmallVideoNet(channels=(2, 3), strides=(1, 2), num_classes=3)


def grids(net):
    return {(layer.kernel_size, layer.padding, layer.dilation) for layer in net.modules() if isinstance(layer, STDCFConv3d)}


THREE = (3, 3, 3)
EXPECTED = {  # kernel, padding, dilation on the grids of t, s and final
    "keep": [(THREE, (1, 1, 1), (1, 1, 1))] * 3,
    "dilate": [(THREE, (1, 1, 1), (1, 1, 1)), (THREE, (1, 2, 2), (1, 2, 2)), (THREE, (1, 2, 2), (1, 2, 2))],
    "resample": [(THREE, (1, 1, 1), (1, 1, 1)), ((1, 5, 5), (0, 2, 2), (1, 1, 1)), ((3, 5, 5), (1, 2, 2), (1, 1, 1))],
}


@pytest.mark.parametrize("rule", EXPECTED)
def test_atoms_fit_the_grid(rule):
    net, stages = small_net(), schedule(2, 16, 28)
    swaps = AtomSwap(net, stages[0], rule)
    for stage, expected in zip(stages, [*EXPECTED[rule][:2] * 2, EXPECTED[rule][2]], strict=True):
        swaps.to(stage)
        assert grids(net) == {expected}
        assert net(torch.rand(1, 1, stage.frames, stage.size, stage.size)).shape == (1, 3)
        for layer in swaps.layers:
            trains = (layer.psi.requires_grad, layer.phi.requires_grad, layer.alpha.requires_grad)
            assert trains == (stage.frozen != "spatial", stage.frozen != "temporal", True)


def test_each_axis_of_a_kernel_follows_its_own_grid():
    """(3, 3, 5) is wider than high: it stays so on the first grid, and on one twice as fine."""
    torch.manual_seed(0)
    layer = STDCFConv3d(1, 2, (3, 3, 5), padding=(1, 1, 2))
    psi = layer.psi.detach().clone()
    swaps = AtomSwap(layer, Stage("t", 4, 16), "resample")
    for size, expected in ((16, (3, 3, 5)), (32, (3, 5, 9)), (16, (3, 3, 5)), (48, (3, 7, 13))):
        swaps.to(Stage("x", 4, size, "spatial"))
        assert layer.kernel_size == expected
        assert layer(torch.rand(1, 1, 4, size, size)).shape[2:] == (4, size, size)
    swaps.to(Stage("x", 4, 16))
    assert torch.equal(layer.psi, psi)


def test_atoms_that_train_come_back_from_a_single_tap():
    net, stages = small_net(), [replace(stage, frozen=None) for stage in schedule(2, 16, 28)]
    swaps = AtomSwap(net, stages[0], "resample")
    for stage, expected in zip(stages, [*EXPECTED["resample"][:2] * 2, EXPECTED["resample"][2]], strict=True):
        swaps.to(stage)
        assert grids(net) == {expected}
        maps = net.layers(torch.rand(1, 1, stage.frames, stage.size, stage.size))
        assert maps.shape[2:] == (stage.frames, stage.size // 2, stage.size // 2)


@pytest.mark.parametrize(("rule", "returns"), [("resample", False), ("restore", True)])
def test_only_restore_lends_atoms_that_train(rule, returns):
    """To a stage of a quarter of the frames that freezes nothing: φ of one tap is the layer's own from then on, or a loan."""
    layer = STDCFConv3d(1, 2, 3, padding=1)
    phi = layer.phi
    swaps = AtomSwap(layer, Stage("t", 16, 16), rule)
    swaps.to(Stage("s", 4, 16))
    assert layer.kernel_size == (1, 3, 3)
    swaps.to(Stage("t", 16, 16))
    assert layer.kernel_size == (3, 3, 3) and (layer.phi is phi) == returns


def test_frozen_atoms_come_back_as_they_were():
    net, stages = small_net(), schedule(2, 16, 28)
    swaps = AtomSwap(net, stages[0], "resample")
    learned = {}
    for stage in stages:
        swaps.to(stage)
        layer = swaps.layers[1]
        if stage.name in ("t-2", "final"):
            assert torch.equal(layer.phi, learned["phi"])
        if stage.name in ("s-2", "final"):
            assert torch.equal(layer.psi, learned["psi"])
        with torch.no_grad():  # as training would
            for name, axis in (("psi", "spatial"), ("phi", "temporal")):
                if stage.frozen != axis:
                    getattr(layer, name).add_(torch.rand_like(getattr(layer, name)))
                    learned[name] = getattr(layer, name).clone()


def test_restored_temporal_atoms_train_on_a_single_tap_and_come_back():
    net, stages = small_net(), [replace(stage, frozen=None) for stage in schedule(2, 16, 28)]
    swaps = AtomSwap(net, stages[0], "restore")
    phi = swaps.layers[1].phi.detach().clone()
    for stage, expected in zip(stages, [*EXPECTED["resample"][:2] * 2, EXPECTED["resample"][2]], strict=True):
        swaps.to(stage)
        assert grids(net) == {expected}
        layer = swaps.layers[1]
        assert layer.phi.requires_grad and layer.psi.requires_grad
        if stage.frames == 16:
            assert torch.equal(layer.phi, phi)
        with torch.no_grad():  # as training would
            layer.psi.add_(torch.rand_like(layer.psi))
            layer.phi.add_(torch.rand_like(layer.phi))
        if stage.frames == 16:
            phi = layer.phi.detach().clone()
    before = swaps.layers[1].psi.detach().clone()
    swaps.to(Stage("t", 16, 14))  # what trained is stretched, in space as under "resample"
    assert not torch.equal(swaps.layers[1].psi, before) and swaps.layers[1].psi.shape[1:] == (3, 3)


def test_whether_temporal_atoms_are_shortened_is_asked_of_the_temporal_axis():
    torch.manual_seed(0)
    layer = STDCFConv3d(1, 2, (5, 3, 3), padding=(2, 1, 1))
    swaps, phi = AtomSwap(layer, Stage("t", 8, 16), "restore"), layer.phi.detach().clone()
    swaps.to(Stage("s", 4, 16))
    assert layer.kernel_size == (3, 3, 3)
    with torch.no_grad():
        layer.phi.zero_()
    swaps.to(Stage("t", 8, 16))
    assert torch.equal(layer.phi, phi)


def test_atoms_may_belong_to_a_grid_that_no_stage_has():
    net = small_net()
    anchor = Recipe(swap="resample", grid=(16, 14)).anchor([FULL])
    swaps = AtomSwap(net, anchor, "resample")
    built = [layer.psi.detach().clone() for layer in swaps.layers]
    swaps.to(Stage("s", 4, 28, "both"))
    assert grids(net) == {EXPECTED["resample"][1]}
    assert not any(layer.psi.requires_grad or layer.phi.requires_grad for layer in swaps.layers)
    swaps.to(Stage("t", 16, 14))
    assert all(torch.equal(layer.psi, psi) for layer, psi in zip(swaps.layers, built, strict=True))
    assert Recipe().anchor([FULL]) == FULL


def test_resampled_atoms_answer_to_the_same_scene():
    """A smooth scene at twice the resolution: the layer says of each place what it said before, dilated or resampled."""
    wave = torch.sin(torch.linspace(0, 3, 56))
    fine = (wave[:, None] * wave.flip(0))[None, None, None].expand(1, 1, 4, 56, 56)
    coarse_stage, fine_stage = Stage("t", 4, 28), Stage("s", 4, 56)
    difference = {}
    for rule in ("keep", "dilate", "resample"):
        torch.manual_seed(0)
        layer = STDCFConv3d(1, 4, 3, padding=1)
        swaps = AtomSwap(layer, coarse_stage, rule)
        expected = layer(view(fine, coarse_stage))[..., 3:-3, 3:-3]
        swaps.to(fine_stage)
        found = view(layer(fine), coarse_stage)[..., 3:-3, 3:-3]
        difference[rule] = ((found - expected).norm() / expected.norm()).item()
    assert difference["dilate"] < 0.1 and difference["resample"] < 0.1


@pytest.mark.parametrize(("frozen", "atoms"), [("spatial", "psi"), ("temporal", "phi"), (None, "nothing")])
def test_frozen_atoms_never_change_and_all_else_does(tmp_path, capsys, frozen, atoms):
    net = small_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    stage = Stage("only", 4, 8, frozen, 2.0)
    data = itsl_job.Clips(16), itsl_job.Clips(4)
    run(net, [stage], lambda _: data, tmp_path, Recipe(batch_size=4, weight_decay=0.1), progress=False)
    assert capsys.readouterr() == ("", "")
    for name, tensor in net.state_dict().items():
        same = tensor.numpy().tobytes() == before[name].numpy().tobytes()
        assert same == name.endswith(atoms), name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("batch_size", 1, 0),
        ("learning_rate", 1e-9, 0.0),
        ("weight_decay", 0.0, -0.1),
        ("clip_norm", 1e-9, 0.0),
        ("seed", 0, -1),
        ("grid", (1, 1), (1, 0)),
        ("average", 0.0, 1.0),
    ],
)
def test_numbers_of_a_recipe_have_bounds(name, good, bad):
    assert getattr(Recipe(**{name: good}), name) == good
    with pytest.raises(ValueError, match=f"^{name}="):
        Recipe(**{name: bad})


def test_decay_spares_atoms_norms_and_biases():
    net = small_net()
    groups = Recipe(weight_decay=0.5).optimization(net, Stage("x", 4, 8, batch=8), 100).optimizer.param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    named = {name for name, p in net.named_parameters() if id(p) in decayed}
    assert named == {"layers.0.alpha", "layers.3.alpha", "fc.weight"}
    assert {group["initial_lr"] for group in groups} == {0.8}  # 8 times the batch, 8 times the rate


def test_adam_grows_with_the_root_of_the_batch():
    optimizer = Recipe(learning_rate=0.1, adam=True).optimization(small_net(), Stage("x", 4, 8, batch=4), 100).optimizer
    assert isinstance(optimizer, torch.optim.AdamW) and {g["initial_lr"] for g in optimizer.param_groups} == {0.2}


def test_the_rate_warms_up_and_falls_to_nothing():
    optimization = Recipe(learning_rate=1.0).optimization(small_net(), Stage("x", 4, 8), 100)
    optimizer, scheduler = optimization.optimizer, optimization.scheduler
    assert scheduler
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == rates[5] == 1.0 and rates[:6] == sorted(rates[:6]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]) and 0 < rates[-1] < 0.001


# Runs


def test_a_run_explains_itself_and_is_not_repeated(tmp_path):
    net = itsl_job.network()
    rows = itsl_job.fit(net, tmp_path)
    kept = Run(tmp_path)
    assert kept.metrics == rows and kept.config["swap"] == "resample" and kept.config["seed"] == 3
    assert [stage["name"] for stage in kept.config["stages"]] == ["t-1", "s-1", "t-2", "s-2", "final"]
    assert {"torch", "device", "processes", "commit"} <= kept.config["machine"].keys()
    assert any("STDCFConv3d" in line for line in kept.config["network"])
    assert [(row["stage"], row["epoch"]) for row in rows] == [(s["name"], e) for s in kept.config["stages"] for e in (1, 2)]
    for row in rows[1::2]:  # 1.4 epochs of 5 steps
        assert row["steps"] == 7 and row["stored_bytes"] > 0 and 0 <= row["full_top1"] <= 1 and row["full_top5"] == 1
    assert rows[-1]["full_top1"] == rows[-1]["top1"]
    assert 3 < rows[-1]["macs"] / rows[1]["macs"] < 12
    assert all(torch.equal(kept.weights[name], tensor) for name, tensor in net.state_dict().items())

    again = itsl_job.network()

    def forbidden():
        nonlocal loaded
        loaded += 1

    loaded = 0
    assert itsl_job.fit(again, tmp_path, tick=forbidden) == rows
    assert loaded == 2  # the first clip of the two sets, to see that the network takes it
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match=r"holds another run .*'swap': 'resample'"):
        itsl_job.fit(itsl_job.network(), tmp_path, swap="keep")


def test_a_fork_has_imported_all():
    fork = warm.process(exec, "import sys; sys.exit('stdcf_lib.itsl.command' not in sys.modules)")
    fork.start()
    ended(fork)


def start_job(folder, *attempts, network="plain", test_clips=6):
    fork = warm.process(itsl_job.job, folder, network, test_clips, *attempts)
    fork.start()
    return fork


def ended(*jobs):
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * len(jobs)


def same_weights(one, other, **tolerance):
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        if tolerance:
            torch.testing.assert_close(other.weights[name], tensor, **tolerance)
        else:
            assert torch.equal(other.weights[name], tensor), name


CLOCK = {"seconds", "data_seconds", "evaluation_seconds", "clips_per_second", "memory_gib"}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, processes):
    chance = random.Random(processes)
    # An unbroken run has some 400 ticks; after a few kills at random the rest goes through.
    kills = [f"{processes}x1:{chance.randrange(6, 60)}" for _ in range(8 if processes == 1 else 3)]
    plans = {"unbroken": [f"{processes}x1"], "killed": [*kills, f"{processes}x1"]}
    ended(*(start_job(tmp_path / name, *attempts, network="with dropout") for name, attempts in plans.items()))
    unbroken, killed = Run(tmp_path / "unbroken"), Run(tmp_path / "killed")
    same_weights(unbroken, killed)
    for lines in (unbroken.metrics, killed.metrics), (logged(tmp_path / "unbroken"), logged(tmp_path / "killed")):
        a, b = ([{name: row[name] for name in row if name not in CLOCK} for row in one] for one in lines)
        assert a == b
    assert not list((tmp_path / "killed").rglob(".*")) and not list((tmp_path / "killed").rglob("checkpoint.pt"))


def test_the_same_call_goes_on_with_the_network_where_it_was_broken_off(tmp_path):
    """As a notebook's cell does that is interrupted and run again: in a stage whose atoms have another size than as built."""
    unbroken, net, loaded = itsl_job.network(), itsl_job.network(), 0
    itsl_job.fit(unbroken, tmp_path / "unbroken")

    def interrupted():
        nonlocal loaded
        loaded += 1
        if loaded == 90:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        itsl_job.fit(net, tmp_path / "run", tick=interrupted)
    given = itsl_job.network().state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    itsl_job.fit(net, tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    (tmp_path / "run" / "1_t-1" / ".lock").touch()  # of a process that was killed as it ended a stage
    itsl_job.fit(itsl_job.network(), tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*"))
    same_weights(Run(tmp_path / "unbroken"), Run(tmp_path / "run"))


def test_however_many_share_a_step_it_is_the_same_step(tmp_path):
    """Weights and scores agree up to the order of sums; also where a run goes on with other processes and another accumulation
    than it began with. With BN, whose statistics are those of all processes, however many processes; not parts of a batch."""
    plans = {
        "plain": {"one": ["1x1"], "changing": ["1x2:40", "2x1:35", "2x2:20", "4x1:25", "1x4:70", "2x1"]},
        "with BN": {"one": ["1x1"], "two": ["2x1"], "accumulated": ["1x2"]},
    }
    jobs = {(kind, name): attempts for kind, named in plans.items() for name, attempts in named.items()}
    ended(*(start_job(tmp_path / kind / name, *attempts, network=kind) for (kind, name), attempts in jobs.items()))
    for kind, second in (("plain", "changing"), ("with BN", "two")):
        one, other = Run(tmp_path / kind / "one"), Run(tmp_path / kind / second)
        same_weights(one, other, atol=1e-5, rtol=1e-4)
        for row, expected in zip(other.metrics, one.metrics, strict=True):
            assert row.keys() == expected.keys()
            for figure in row.keys() - CLOCK - {"stage", "processes", "accumulation", "stored_bytes"}:
                assert row[figure] == pytest.approx(expected[figure], rel=1e-3), (second, figure)
    with pytest.raises(AssertionError):  # the parts of a batch have statistics of their own
        same_weights(Run(tmp_path / "with BN" / "one"), Run(tmp_path / "with BN" / "accumulated"), atol=1e-5, rtol=1e-4)
    last = Run(tmp_path / "plain" / "changing").metrics[-1]
    assert (last["processes"], last["accumulation"]) == (2, 1)


def test_a_process_without_a_test_clip_of_its_own_is_not_waited_for(tmp_path):
    ended(start_job(tmp_path / "two", "2x1", test_clips=1), start_job(tmp_path / "one", "1x1", test_clips=1))
    two, one = Run(tmp_path / "two"), Run(tmp_path / "one")
    assert [row["top1"] for row in two.metrics] == [row["top1"] for row in one.metrics]
    assert {row["top1"] for row in two.metrics} <= {0.0, 1.0}


def test_processes_that_would_each_train_alone_are_refused(tmp_path, monkeypatch):
    """`torchrun` on a CPU says by a variable how many there are, and accelerate asks for another."""
    Accelerator(cpu=True)  # which looks at the variables once
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="accelerator sees 1 of 2 processes"):
        itsl_job.fit(itsl_job.network(), tmp_path)
    assert not os.listdir(tmp_path)


def test_a_finished_run_needs_no_stage_folders(tmp_path):
    net = itsl_job.network()
    rows = itsl_job.fit(net, tmp_path, keep_stages=False)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "log.jsonl", "metrics.jsonl", "weights.safetensors"]
    again, before = itsl_job.network(), (tmp_path / "weights.safetensors").stat().st_mtime_ns
    assert itsl_job.fit(again, tmp_path) == rows
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True))


def test_only_the_stages_own_files_go_with_them(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "1_t-1").mkdir()
    for name in ("notes/mine", "1_t-1/mine"):
        (tmp_path / name).write_text("mine")
    itsl_job.fit(itsl_job.network(), tmp_path, keep_stages=False)
    assert (tmp_path / "notes" / "mine").read_text() == (tmp_path / "1_t-1" / "mine").read_text() == "mine"
    assert os.listdir(tmp_path / "1_t-1") == ["mine"]


def test_a_run_kept_at_half_the_size_is_never_there_at_full_size(tmp_path, monkeypatch):
    """A kill between two writings would otherwise leave another run than an unbroken one."""
    written = []
    finish = Run.finish

    def watched(run, model, metrics):
        finish(run, model, metrics)
        written.append((run.folder.name, {tensor.dtype for tensor in run.weights.values() if tensor.is_floating_point()}))

    monkeypatch.setattr(Run, "finish", watched)
    net = itsl_job.network()
    itsl_job.fit(net, tmp_path / "run", dtype=torch.float16)
    assert [types for name, types in written if name == "run"] == [{torch.float16}]
    assert {str(types) for name, types in written if name != "run"} == {"{torch.float32}"}
    for name, tensor in Run(tmp_path / "run").weights.items():
        assert torch.equal(net.state_dict()[name], tensor.to(net.state_dict()[name]))


@pytest.mark.parametrize(("remembers", "momentum"), [(True, 0.1), (True, None), (False, 0.1)])
def test_bn_that_processes_share_does_what_bn_of_the_whole_batch_does(remembers, momentum, monkeypatch):
    """Here the others' clips are the same again, so that sums are doubled."""
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(shared_bn, "_over_processes", lambda own: 2 * own)
    alone, shared = (nn.Sequential(nn.BatchNorm3d(3, momentum=momentum, track_running_stats=remembers)) for _ in range(2))
    for seed in range(2):
        clips = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
        with shared_bn.shared_bn(shared, on_gpu=False):
            found = shared(clips)
        torch.testing.assert_close(found, alone(clips.repeat(2, 1, 1, 1, 1)).chunk(2)[0])
    torch.testing.assert_close(shared.state_dict(), alone.state_dict())


def test_bn_is_estimated_anew_and_atoms_swapped_for_the_scores_at_full_size(tmp_path, monkeypatch):
    """What is evaluated at full size is a network on that grid whose statistics are those of full-size clips."""
    evaluated = []
    evaluate = Training._evaluate

    def watched(work, model, stage, test):
        evaluated.append((stage.name, copy.deepcopy(model)))
        return evaluate(work, model, stage, test)

    monkeypatch.setattr(Training, "_evaluate", watched)
    net = itsl_job.network()
    itsl_job.fit(net, tmp_path)
    at_full = [model for name, model in evaluated if name == "full"]
    assert len(at_full) == 4  # after every stage that is not of that size itself
    for model in at_full:
        assert {layer.kernel_size for layer in model.modules() if isinstance(layer, STDCFConv3d)} == {(3, 5, 5)}
        clips = torch.stack([itsl_job.Clips(20)[i][0] for i in range(20)])
        first = model.layers[0](clips)
        torch.testing.assert_close(model.layers[1].running_mean, first.mean((0, 2, 3, 4)), atol=0.05, rtol=0.05)
        assert int(model.layers[1].num_batches_tracked) == 5  # 20 clips in fours, and none of the stage's own


def test_each_epoch_and_each_stage_sees_clips_anew(tmp_path):
    """What is drawn for a clip hangs on its number, the epoch, the stage and the seed."""
    seen = {}

    class Watched(itsl_job.Clips):
        def __getitem__(self, index):
            seen.setdefault(index, []).append(torch.initial_seed())
            return super().__getitem__(index)

    stages = [Stage("a", 4, 8, None, 2.0), Stage("b", 4, 8, None, 1.0)]
    run(small_net(), stages, lambda _: (Watched(8), itsl_job.Clips(4)), tmp_path, Recipe(batch_size=4), progress=False)
    for index, seeds in seen.items():
        trained = seeds[2 if index == 0 else 0 :]  # the first clip is looked at once for each stage before
        assert len(set(trained)) == len(trained) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": []}, r"stages=\[\]: give at least one"),
        ({"stages": [FULL, FULL]}, "each with a name of its own"),
        ({"recipe": Recipe(batch_size=64)}, "stage 'full' has no step to make: 1.0 epochs of 20 clips, 64 a batch"),
        ({"recipe": Recipe(batch_size=4, swap="no")}, "swap='no': choose 'keep', 'dilate', 'resample' or 'restore'"),
    ],
)
def test_bad_runs_are_refused_in_words(tmp_path, options, message):
    options = {"stages": [FULL], "recipe": Recipe(batch_size=4)} | options
    data = itsl_job.Clips(20), itsl_job.Clips(4)
    with pytest.raises(ValueError, match=message):
        run(small_net(), data=lambda _: data, folder=tmp_path, progress=False, **options)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_shorter_than_a_kernel_are_refused_in_bf16_on_a_cpu(tmp_path, monkeypatch, frames):
    """PyTorch's gradients are arbitrary there, up to infinity, where in float32 they are right."""

    class Short(itsl_job.Clips):
        def __getitem__(self, index):
            return self.clips[index][:, :frames], self.labels[index]

    data, recipe, stages = (Short(20), Short(4)), Recipe(batch_size=4), [Stage("still", frames, 8)]
    monkeypatch.setattr(Accelerator, "mixed_precision", "bf16")
    if frames == 3:
        Training(small_net(), stages, lambda _: data, tmp_path / "a", recipe, progress=False)
    else:
        with pytest.raises(ValueError, match=rf"stage 'still': .* over 3 frames meets {frames}, .* train in float32"):
            run(small_net(), stages, lambda _: data, tmp_path / "a", recipe, progress=False)
    assert not (tmp_path / "a").exists()
    monkeypatch.undo()
    if frames < 3:
        run(small_net(), stages, lambda _: data, tmp_path / "b", recipe, progress=False)
        assert Run(tmp_path / "b").finished


def test_batches_that_cannot_be_shared_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size=4 cannot be shared by 3"):
        itsl_job.fit(itsl_job.network(), tmp_path, accumulation=3)


def test_views_of_a_test_clip_are_averaged(tmp_path):
    class Views(itsl_job.Clips):
        def __getitem__(self, index):
            return torch.stack([self.clips[index], 1 - self.clips[index]]), self.labels[index]

    seen = []

    def scores(chances, labels):
        seen.append(chances)
        return top(chances, labels)

    net, test = small_net(), Views(6)
    data = itsl_job.Clips(20), test
    run(net, [Stage("only", 4, 8)], lambda _: data, tmp_path, Recipe(batch_size=4), scores=scores, progress=False)
    net.eval()
    with torch.no_grad():
        expected = torch.stack([net(torch.stack([c, 1 - c])).softmax(1).mean(0) for c in test.clips])
    torch.testing.assert_close(torch.cat(seen), expected)


def test_top_scores():
    logits = torch.tensor([[3.0, 2, 1, 0, -1, -2, -3]] * 3)
    scored = top(logits, torch.tensor([0, 4, 6]))
    assert scored["top1"].tolist() == [True, False, False] and scored["top5"].tolist() == [True, True, False]


def test_the_network_itself_is_left_alone_by_its_evaluation_at_full_size(tmp_path):
    net = itsl_job.network()
    stages = schedule(1, 4, 8, final_epochs=0)
    run(net, [replace(stages[0], epochs=1)], lambda _: (itsl_job.Clips(20), itsl_job.Clips(6)), tmp_path / "a", Recipe(4))
    one = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net = itsl_job.network()
    run(net, [replace(stages[0], epochs=1)], lambda _: (itsl_job.Clips(20), itsl_job.Clips(6)), tmp_path / "b", Recipe(4))
    assert all(torch.equal(tensor, one[name]) for name, tensor in net.state_dict().items())


# Scores


def scored(monkeypatch, tmp_path, **options):
    """Train a little; each scoring as (stage, clips at a time, whether that was before the end)."""
    calls = []
    evaluate = Training._evaluate

    def watched(self, model, stage, clips):
        sizes = []
        hook = model.register_forward_hook(lambda module, x, y: sizes.append(len(x[0])))
        found = evaluate(self, model, stage, clips)
        hook.remove()
        calls.append((stage.name, len(clips), sizes))
        return found

    monkeypatch.setattr(Training, "_evaluate", watched)
    return itsl_job.fit(itsl_job.network(), tmp_path, **options), calls


def test_the_test_set_is_for_the_end_and_validation_for_every_few_epochs(monkeypatch, tmp_path):
    rows, calls = scored(monkeypatch, tmp_path, test=itsl_job.Clips(7), validate_every=2)
    assert [count for *_, count, _ in calls].count(7) == 1 and calls[-1][:2] == ("final", 7)
    assert ["test_top1" in row for row in rows] == [False] * (len(rows) - 1) + [True]
    assert [(row["epoch"], "top1" in row) for row in rows if row["stage"] == "t-1"] == [(1, False), (2, True)]
    assert all("full_top1" in row for row in rows if "steps" in row)
    assert Run(tmp_path).metrics[-1]["test_top1"] == rows[-1]["test_top1"]


class Viewed(itsl_job.Clips):
    """Five views of each clip."""

    def __getitem__(self, index):
        clip, label = super().__getitem__(index)
        return clip.expand(5, -1, -1, -1, -1).clone(), label


def test_views_are_scored_in_parts_that_the_device_has_room_for(monkeypatch, tmp_path):
    """Never more views at a time than a training batch has clips, however many clips are loaded together."""
    rows, calls = scored(monkeypatch, tmp_path / "a", test=Viewed(7), test_batch=3)
    assert calls[-1][2] == [4, 4, 4, 3, 4, 4, 4, 3, 4, 1]  # 15, 15 and 5 views
    module = sys.modules["stdcf_lib.itsl.run"]  # by its name one gets the function
    monkeypatch.setattr(module, "TEST_BYTES", 2 * 5 * 4 * 8 * 8 * 4)
    again, calls = scored(monkeypatch, tmp_path / "b", test=Viewed(7))
    assert calls[-1][2] == [4, 4, 2] * 3 + [4, 1]  # two clips are as many bytes as allowed
    assert again[-1]["test_top1"] == pytest.approx(rows[-1]["test_top1"], abs=0.5)
    monkeypatch.setattr(module, "TEST_BYTES", 1)
    _, calls = scored(monkeypatch, tmp_path / "c", test=Viewed(7))
    assert calls[-1][2] == [4, 1] * 7  # one clip, whatever it takes


def test_bytes_are_prepared_on_the_device(monkeypatch, tmp_path):
    class Bytes(itsl_job.Clips):
        def __getitem__(self, index):
            clip, label = super().__getitem__(index)
            return (clip * 50).clamp(0, 255).to(torch.uint8), label

    seen = []

    def prepare(clips):
        seen.append(clips.dtype)
        return clips.float() / 50

    data = Bytes(20), Bytes(6)
    stages = [replace(stage, epochs=1.0) for stage in schedule(1, frames=4, size=8)]
    rows = run(itsl_job.network(), stages, lambda _: data, tmp_path, Recipe(4), prepare=prepare, progress=False)
    assert set(seen) == {torch.uint8} and len(rows) == 3


# What a person sees


def test_a_log_has_the_lines_of_steps_and_epochs_in_order(tmp_path, capsys):
    watched = []
    rows = itsl_job.fit(itsl_job.network(), tmp_path, watch=watched.append, progress=True)
    lines = logged(tmp_path)
    assert lines == watched
    # 5 stages of 5 and 2 steps; a line every third of a stage, and one for each epoch
    assert [(line["step"], "train_loss" in line) for line in lines[:4]] == [(3, False), (5, True), (6, False), (7, True)]
    assert [line["step"] for line in lines[4:8]] == [10, 12, 13, 14] and lines[-1]["step"] == 35
    assert [line["stage"] for line in lines[::4]] == ["t-1", "s-1", "t-2", "s-2", "final"]
    for line in lines:
        assert line["clips_per_second"] > 0 and 0 <= line["data_seconds"] <= line["seconds"] and line["memory_gib"] > 0
        if "train_loss" not in line:
            assert 0 <= line["top1"] <= 1 and line["clips_per_second"] == pytest.approx(4 / line["seconds"], rel=0.01)
    epochs = [line for line in lines if "train_loss" in line]
    assert [line["train_top1"] for line in epochs] == [row["train_top1"] for row in rows]
    printed = capsys.readouterr().err
    assert "t-1    epoch 1 step 3: loss" in printed and "waiting for data" in printed and "left" in printed
    assert "final  epoch 2 over: loss" in printed


def test_the_work_ahead_is_counted_to_its_end(tmp_path):
    data = itsl_job.Clips(20), itsl_job.Clips(6)
    stages = [replace(stage, epochs=1.4) for stage in schedule(2, frames=4, size=8)]
    options: Any = {"progress": False, "test": Viewed(7), "validate_every": 2}
    work = Training(small_net(), stages, lambda _: data, tmp_path, Recipe(4, swap="resample"), **options)
    work.run()
    assert work.skipped == 0 and work.done == work.total
    again = Training(small_net(), stages, lambda _: data, tmp_path / "b", Recipe(4, swap="resample"), **options)
    first = Run(tmp_path / "1_t-1")
    kept: Any = SimpleNamespace(state_dict=lambda: first.weights)
    Run(tmp_path / "b" / "1_t-1").finish(kept, first.metrics)
    again.run()
    assert 0 < again.skipped < again.total == again.skipped + again.done


def test_the_time_left_is_that_of_what_is_left_at_the_pace_so_far(tmp_path, monkeypatch):
    data = itsl_job.Clips(20), itsl_job.Clips(6)
    work: Any = Training(small_net(), schedule(1, frames=4, size=8), lambda _: data, tmp_path, Recipe(4, swap="resample"))
    seen = []
    work.total, work.skipped, work.done, work.began = 100, 30, 20, 1000.0
    work.log = lambda line, left: seen.append(left)
    monkeypatch.setattr(sys.modules["stdcf_lib.itsl.run"].time, "monotonic", lambda: 1010.0)
    work._log({"step": 1, "seconds": 2.0}, 0)
    assert seen == [25.0]  # 50 of 100 are left, and 20 took 10 seconds


@pytest.mark.parametrize(("answer", "right"), [(0, 1.0), (1, 0.0)])
def test_the_training_accuracy_is_the_share_of_right_answers(tmp_path, monkeypatch, answer, right):
    net: Any = itsl_job.network(dropout=0)
    zeros = [0] * 20
    net.fc[1].bias.data[answer] = 1e3
    monkeypatch.setattr(itsl_job.Clips, "__getitem__", lambda clips, index: (clips.clips[index], zeros[index]))
    rows = itsl_job.fit(net, tmp_path, rate=1e-9)
    assert {row["train_top1"] for row in rows} == {right}
    assert {line["top1"] for line in logged(tmp_path) if "train_loss" not in line} == {right}


def test_no_log_is_kept_where_none_is_wanted(tmp_path):
    itsl_job.fit(itsl_job.network(), tmp_path, log_every=None)
    assert not (tmp_path / "log.jsonl").exists()


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="the package tensorboard is not installed"):
        itsl_job.fit(itsl_job.network(), tmp_path / "a", tensorboard=True)
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", cast(Any, SimpleNamespace(SummaryWriter=SummaryWriter)))
    itsl_job.fit(itsl_job.network(), tmp_path / "b", tensorboard=True)
    assert written[0] == (tmp_path / "b" / "tensorboard", 3)
    assert {("steps/loss", 3), ("steps/top1", 3), ("epochs/top1", 5), ("epochs/train_top1", 35)} <= set(written)
    assert not {name for name, _ in written[1:] if str(name).startswith(("steps/train", "epochs/loss"))}


def test_an_average_is_what_is_scored_and_what_goes_on(tmp_path):
    data = itsl_job.Clips(20), itsl_job.Clips(6)
    stages = [Stage("a", 4, 8, None, 2.0), Stage("b", 4, 8, None, 1.0)]
    nets = {}
    for average in (None, 0.0, 0.9):
        nets[average] = small_net()
        run(nets[average], stages, lambda _: data, tmp_path / str(average), Recipe(4, average=average), progress=False)
    same_weights(Run(tmp_path / "None"), Run(tmp_path / "0.0"))  # which is no average at all
    assert not torch.equal(nets[0.9].fc.weight, nets[None].fc.weight)


def test_the_network_is_compiled_in_place_where_it_is_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda net: compiled.append(net))
    net = itsl_job.network()
    itsl_job.fit(net, tmp_path, compile=True)
    assert compiled == [net]


def test_cudnn_searches_while_training_and_is_left_as_it_was(tmp_path, monkeypatch):
    seen, cudnn = [], torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", False)
    monkeypatch.setattr(cudnn, "deterministic", True)
    net = itsl_job.network()

    def see(_, inputs):
        if not inputs[0].is_meta:  # counted, before the run
            seen.append((cudnn.enabled, cudnn.benchmark, cudnn.deterministic))

    net.register_forward_pre_hook(see)
    itsl_job.fit(net, tmp_path)
    assert set(seen) == {(True, True, True)}  # `torch.backends.cudnn.flags` would have switched it off
    assert (cudnn.enabled, cudnn.benchmark) == (True, False)


@pytest.mark.parametrize("line", ['{"step": "1"}', "{", "3"])
def test_a_damaged_line_of_the_log_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(DamagedRun, match=r"^line 2 of .*log.jsonl"):
        logged(tmp_path)


def test_swaps_want_a_module_and_stages():
    stage = Stage("t-1", 4, 8)
    with pytest.raises(TypeError, match=r"model is list; give a torch\.nn\.Module"):
        AtomSwap(cast(Any, []), stage)
    with pytest.raises(TypeError, match="first is tuple; give a Stage"):
        AtomSwap(nn.Identity(), cast(Any, (4, 8)))
    with pytest.raises(TypeError, match="stage is str; give a Stage"):
        AtomSwap(nn.Identity(), stage).to(cast(Any, "final"))
