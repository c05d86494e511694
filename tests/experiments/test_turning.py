"""The experiment with turning digits: plans that cost alike, runs that are complete, and scores of both parts of a label."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState

from stdcf_lib.data.turning import TurningDigits
from stdcf_lib.experiments.plans import itsl
from stdcf_lib.experiments.turning import (
    BATCH_SIZE,
    BUDGET,
    CARE_RATES,
    CARE_SEED,
    CHOSEN,
    FULL,
    PLANS,
    TUNED,
    accuracy,
    fit,
    kept,
    network,
    trials,
)
from stdcf_lib.itsl import AtomSwap, Stage
from stdcf_lib.measure import cost
from stdcf_lib.runs import Run


@pytest.fixture(autouse=True)
def alone():
    """Accelerate has one precision a process, and other tests have taken theirs."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def compute(plan):
    """Multiplications of a plan's forward passes, in full-size epochs; each kernel size as the plan's swap makes it."""
    full = cost(network(), (1, 1, 16, 28, 28)).macs
    model = network()
    swaps = AtomSwap(model, Stage("grid", *plan.grid) if plan.grid else plan.stages[0], plan.swap)
    total = 0.0
    for stage in plan.timed(network()):
        swaps.to(stage)
        total += stage.epochs * cost(model, (1, 1, stage.frames, stage.size, stage.size)).macs / full
    return total


def updates(plan):
    """Steps of a plan's optimiser."""
    return sum(round(stage.epochs * (6000 // (stage.batch * plan.batch_size))) for stage in plan.timed(network()))


def last_kernels(plan):
    """The kernels of the network that a plan ends with."""
    model = network()
    swaps = AtomSwap(model, plan.recipe(1.0, 0).anchor(list(plan.stages)), plan.swap)
    for stage in plan.stages:
        swaps.to(stage)
    return {layer.kernel_size for layer in swaps.layers}


@pytest.mark.parametrize("name", PLANS)
def test_plans_cost_alike(name):
    assert compute(PLANS[name]) == pytest.approx(BUDGET)
    assert compute(PLANS[name].longer(3)) == pytest.approx(3 * BUDGET)


def test_plans_that_are_held_against_resampled_itsl_match_it():
    for name in ("direct-updates", "direct-large"):
        assert updates(PLANS[name]) == pytest.approx(updates(PLANS["itsl-resample"]), rel=0.03)
    for name in ("direct-large", "unfrozen-resample", "unfrozen-restored", "atoms-never-train", "t-only", "s-only"):
        assert last_kernels(PLANS[name]) == last_kernels(PLANS["itsl-resample"]) == {(3, 5, 5)}
    assert last_kernels(PLANS["itsl"]) == last_kernels(PLANS["direct"]) == {(3, 3, 3)}


def test_stages_freeze_by_turns_or_not_at_all():
    def stages(name):
        return [(stage.frames, stage.size) for stage in PLANS[name].stages]

    def frozen(name):
        return [stage.frozen for stage in PLANS[name].stages]

    assert frozen("itsl") == ["spatial", "temporal", "spatial", "temporal", None]
    assert frozen("t-only") == ["spatial", "spatial", None] and stages("t-only") == [(16, 14), (16, 14), (16, 28)]
    assert frozen("s-only") == ["temporal", "temporal", None] and stages("s-only") == [(4, 28), (4, 28), (16, 28)]
    assert set(frozen("unfrozen")) == set(frozen("unfrozen-restored")) == {None}
    assert set(frozen("atoms-never-train")) == {"both"}
    assert stages("unfrozen") == stages("unfrozen-restored") == stages("atoms-never-train") == stages("itsl")
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
    plan = itsl("smoke", FULL, BUDGET / 4, BATCH_SIZE, "keep")
    rows = fit(plan, 3e-3, 0, tmp_path, training, test, precision="no", progress=False)
    assert list(dict.fromkeys(row["stage"] for row in rows)) == ["t-1", "s-1", "t-2", "s-2", "final"]
    for row in rows:
        assert 0 <= row["joint"] <= min(row["digit"], row["motion"]) <= 1
    assert all("full_joint" in row for row in rows if "steps" in row)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "metrics.jsonl", "weights.safetensors"]
    assert {tensor.dtype for tensor in Run(tmp_path).weights.values()} == {torch.float16, torch.int64}


@pytest.mark.parametrize("name", trials())
def test_kept_runs_are_complete(name):
    trial = trials()[name]
    plan, run = trial.plan, kept(*name.rsplit("-seed", 1))
    assert run.finished
    assert (run.config["title"], run.config["seed"], run.config["swap"]) == (plan.title, trial.seed, plan.swap)
    assert (run.config["learning_rate"], run.config["batch_size"]) == (trial.rate, plan.batch_size)
    last = {row["stage"]: row for row in run.metrics}
    assert list(last) == [stage.name for stage in plan.stages]
    for stage in plan.timed(network()):
        assert last[stage.name]["steps"] == pytest.approx(stage.epochs * (6000 // (plan.batch_size * stage.batch)), abs=1)
    assert bool(run.weights) != trial.care


@pytest.mark.parametrize("name", TUNED)
def test_each_plan_has_the_rate_that_was_best_for_it(name):
    scores = {rate: kept(f"care-{name}-{rate:g}", CARE_SEED).metrics[-1]["full_joint"] for rate in CARE_RATES}
    assert max(scores, key=scores.__getitem__) == CHOSEN[name]
    clips = {kept(f"care-{name}-{rate:g}", CARE_SEED).config["test"] for rate in CARE_RATES}
    assert kept("direct").config["test"] not in clips


@pytest.fixture(scope="module")
def some_clips():
    return TurningDigits("test", clips=400)


@pytest.mark.parametrize("name", ["itsl", "itsl-resample", "direct"])
def test_kept_weights_give_the_kept_accuracy(name, some_clips):
    run, plan = kept(name), PLANS[name]
    model = network()
    AtomSwap(model, plan.stages[0], plan.swap).to(plan.stages[-1])
    model.load_state_dict(run.weights)
    model.eval().to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        parts = (part.float().to(memory_format=torch.channels_last_3d) / 255 for part in some_clips.clips.split(100))
        chances = torch.cat([model(part) for part in parts])
    found = accuracy(chances, some_clips.label)["joint"].float().mean().item()
    # The first fifth of the test clips, and what was kept was found in bfloat16.
    assert found == pytest.approx(run.metrics[-1]["full_joint"], abs=0.06)
