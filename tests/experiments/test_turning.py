"""The experiment with turning digits: plans that cost alike, runs that are complete, and scores of both parts of a label."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState

from stdcf_lib.data.turning import TurningDigits
from stdcf_lib.experiments import turning
from stdcf_lib.experiments.turning import BUDGET, PLANS, accuracy, fit, itsl, kept, network, trials
from stdcf_lib.measure import cost
from stdcf_lib.runs import Run


@pytest.fixture(autouse=True)
def alone():
    """Accelerate has one precision a process, and other tests have taken theirs."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


SAME_COMPUTE = [name for name in PLANS if "short" not in name and name != "direct-epochs"]


def compute(plan):
    """Multiplications of a plan's forward passes, in full-size epochs; each kernel size as the plan's swap makes it."""
    full = cost(network(), (1, 1, 16, 28, 28)).macs
    model = network()
    swaps = turning.AtomSwap(model, plan.stages[0], plan.swap)
    total = 0.0
    for stage in plan.timed():
        swaps.to(stage)
        total += stage.epochs * cost(model, (1, 1, stage.frames, stage.size, stage.size)).macs / full
    return total


@pytest.mark.parametrize("name", SAME_COMPUTE)
def test_plans_cost_alike(name):
    assert compute(PLANS[name]) == pytest.approx(BUDGET)


def test_plans_that_cost_otherwise_say_so():
    assert compute(PLANS["itsl-resample-short"]) == pytest.approx(BUDGET * (0.5 + 0.5 / 2))
    # As many epochs as ITSL has, where its small stages cost a quarter each.
    epochs = sum(stage.epochs for stage in PLANS["itsl"].timed())
    assert sum(stage.epochs for stage in PLANS["direct-epochs"].timed()) == pytest.approx(epochs, rel=0.05)


def test_stages_freeze_by_turns_or_not_at_all():
    assert [stage.frozen for stage in PLANS["itsl"].stages] == ["spatial", "temporal", "spatial", "temporal", None]
    assert {stage.frozen for stage in PLANS["unfrozen"].stages} == {None}
    assert [(s.frames, s.size) for s in PLANS["unfrozen"].stages] == [(s.frames, s.size) for s in PLANS["itsl"].stages]
    for stage in PLANS["multigrid"].stages:  # every step sees about as many voxels
        assert stage.batch * stage.frames * stage.size**2 == pytest.approx(16 * 28**2, rel=0.03)


def test_scores_are_of_the_label_and_of_its_parts():
    chances = torch.zeros(4, 40)
    chances[range(4), [21, 21, 21, 21]] = 1.0  # digit 5, motion 1
    scored = accuracy(chances, torch.tensor([21, 22, 17, 0]))
    assert scored["joint"].tolist() == [True, False, False, False]
    assert scored["digit"].tolist() == [True, True, False, False]
    assert scored["motion"].tolist() == [True, False, True, False]


def test_a_smoke_run_goes_through_every_stage(tmp_path):
    training, test = TurningDigits("train", clips=192), TurningDigits("test", clips=64)
    rows = fit(itsl("smoke"), 0, tmp_path, training, test, precision="no", progress=False)
    assert list(dict.fromkeys(row["stage"] for row in rows)) == ["t-1", "s-1", "t-2", "s-2", "final"]
    for row in rows:
        assert 0 <= row["joint"] <= min(row["digit"], row["motion"]) <= 1
    assert all("full_joint" in row for row in rows if "steps" in row)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "metrics.jsonl", "weights.safetensors"]
    assert {tensor.dtype for tensor in Run(tmp_path).weights.values()} == {torch.float16, torch.int64}


@pytest.mark.parametrize("name", trials())
def test_kept_runs_are_complete(name):
    plan, seed = trials()[name]
    run = kept(*name.rsplit("-seed", 1))
    assert run.finished
    assert (run.config["title"], run.config["seed"], run.config["swap"]) == (plan.title, seed, plan.swap)
    last = {row["stage"]: row for row in run.metrics}
    assert list(last) == [stage.name for stage in plan.stages]
    for stage in plan.timed():
        assert last[stage.name]["steps"] == pytest.approx(stage.epochs * (6000 // (64 * stage.batch)), abs=1)


@pytest.mark.parametrize("name", ["itsl", "itsl-resample", "direct"])
def test_kept_weights_give_the_kept_accuracy(name):
    run, plan = kept(name), PLANS[name]
    model = network()
    turning.AtomSwap(model, plan.stages[0], plan.swap).to(plan.stages[-1])
    model.load_state_dict(run.weights)
    data = TurningDigits("test")
    model.eval().to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        parts = (part.float().to(memory_format=torch.channels_last_3d) / 255 for part in data.clips.split(100))
        chances = torch.cat([model(part) for part in parts])
    found = accuracy(chances, data.label)["joint"].float().mean().item()
    assert found == pytest.approx(run.metrics[-1]["full_joint"], abs=0.01)  # there in bfloat16
