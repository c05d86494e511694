from functools import cache

import pytest
import torch

from stdcf_lib.convert.layers import parameters_of
from stdcf_lib.data import TRMNIST
from stdcf_lib.data.actions import Actions
from stdcf_lib.data.kth_protocol import SPLITS
from stdcf_lib.experiments import reconstruction, recovery, tempo
from stdcf_lib.runs import runs_folder

BOTH = pytest.mark.parametrize("task", recovery.TASKS)
START = {"digits": "", "actions": "actions-"}


@cache
def rendered(split):
    actions = ("boxing", "jogging", "running")
    return Actions(split, frames=32 if split == "train" else 16, scenarios=(1,), repetitions=(1,), actions=actions)


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Few clips, and a folder of its own."""
    monkeypatch.setattr(recovery, "TRMNIST", lambda split: TRMNIST(split, clips=128))
    monkeypatch.setattr(tempo, "rendered", rendered)
    monkeypatch.setattr(recovery, "_run", lambda trial: recovery.Run(tmp_path / trial))
    return tmp_path


def test_what_is_kept_is_what_the_trials_are():
    trials = recovery.trials()
    assert {folder.name for folder in (runs_folder() / "recovery").iterdir()} == set(trials)
    assert all(recovery._run(name).finished for name in trials)


@BOTH
def test_trials_have_the_ways_for_each_seed_and_the_rates_apart(task):
    trials = [trial for trial in recovery.trials().values() if trial.task == task]
    results = [trial for trial in trials if not trial.care]
    assert len(results) == len(recovery.WAYS) * len(recovery.SEEDS)
    assert {(trial.way, trial.rate) for trial in results if trial.way != "converted"} == set(recovery.TASKS[task].rates.items())
    assert {(trial.way, trial.rate) for trial in trials if trial.care} == {
        (way, rate) for way, rates in recovery.TASKS[task].care.items() for rate in rates
    }


def test_the_rate_is_chosen_on_another_network_or_by_other_subjects(monkeypatch):
    assert recovery.TASKS["digits"].care_seed not in recovery.SEEDS
    asked = []

    def few_clips(split, **options):
        asked.append(split)
        return Actions(split, scenarios=(1,), repetitions=(1,), actions=("boxing",))

    monkeypatch.setattr(recovery, "Actions", few_clips)
    recovery.TASKS["actions"].test(tempo.trained("full", 0), care=True)
    assert asked == ["validation"] and set(SPLITS["validation"]).isdisjoint((*SPLITS["train"], *SPLITS["test"]))


@BOTH
def test_every_way_has_the_same_layers_and_half_of_the_parameters(task):
    original, converted = recovery.TASKS[task].network(0), recovery.converted(task, 0)
    assert 0.45 < parameters_of(converted) / parameters_of(original) <= recovery.SHARE
    for way in recovery.WAYS:
        assert [(name, p.shape) for name, p in recovery.trained(task, way).named_parameters()] == [
            (name, p.shape) for name, p in converted.named_parameters()
        ]


@pytest.mark.parametrize("way", ["distilled", "tuned", "scratch"])
@BOTH
def test_a_trial_trains_tests_and_keeps(task, way, few):
    name, measure = f"{START[task]}{way}-seed0", recovery.TASKS[task].measure
    said = recovery.run_trial(name)
    assert said.startswith(f"{name}: {measure} 0.")
    run = recovery.kept(task, way, 0)
    assert run.finished and len(run.metrics) == recovery.EPOCHS and run.metrics[-1][recovery.TASKS[task].score] > 0
    assert recovery.minutes_missing(name) == 0 < recovery.minutes_missing(f"{START[task]}{way}-seed1")
    weights = recovery.trained(task, way).state_dict()
    start = recovery.converted(task, 0).state_dict()
    moved = torch.cat([(weights[name] - start[name]).flatten() for name in start]).norm()
    usual = torch.cat([start[name].flatten() for name in start]).norm()
    assert (moved > 0.5 * usual) == (way == "scratch")
    assert recovery.run_trial(name) == said


def test_a_conversion_is_tested_and_kept(few):
    recovery.run_trial("converted-seed1")
    (row,) = recovery.kept("digits", "converted", 1).metrics
    assert row["test_mse"] > 0.02  # far from the 0.014 of the network that it was


@BOTH
def test_distillation_sees_no_label(task, few):
    clips, samples = recovery.TASKS[task].clips(), recovery.TASKS[task].samples()
    assert clips.dtype == torch.uint8 and len(clips) == len(samples)
    assert torch.equal(samples[7][0] if task == "actions" else samples[7], clips[7])


def test_actions_are_met_in_the_middle_and_the_digits_folded(few):
    clips = recovery.TASKS["actions"].clips()
    assert torch.equal(clips, tempo.rendered("train").clips[:, :, 8:24])
    digits = recovery.TASKS["digits"].clips()[:3]
    assert torch.equal(recovery.TASKS["digits"].prepare(digits), digits.float() / 255)


def test_low_precision_neither_tests_nor_remembers(few):
    """Accuracy is that of full precision, and a changed weight is seen at once."""
    task, layer = recovery.TASKS["actions"], torch.nn.Linear(4, 4, bias=False)
    seen = []

    class Network(torch.nn.Module):
        def features(self, x):
            seen.append(layer(x.flatten(1)[:, :4]).dtype)
            return torch.zeros(len(x), 6)

        def fc(self, x):
            return x

    with task.quickly():
        before = layer(torch.ones(1, 4))
        with torch.no_grad():
            layer.weight.mul_(2)
        assert before.dtype == torch.bfloat16 and torch.allclose(layer(torch.ones(1, 4)), 2 * before)
        task.test(Network(), care=False)
    assert set(seen) == {torch.float32}


def test_a_run_for_choosing_keeps_no_weights(few, monkeypatch):
    monkeypatch.setattr(reconstruction, "validation_clips", lambda: TRMNIST("train", clips=64, seed=1).clips)
    recovery.run_trial("care-distilled-0.003-seed4")
    run = recovery._run("care-distilled-0.003-seed4")
    assert run.weights == {} and run.config["learning_rate"] == 3e-3


@BOTH
def test_the_chosen_rates_are_the_best_of_those_tried_and_the_lowest_of_equals(task):
    chosen = recovery.TASKS[task].rates
    for way in recovery.TASKS[task].care:
        scores = recovery.care_scores(task, way)
        assert list(scores) == sorted(scores)
        assert chosen[way] == recovery.TASKS[task].best(scores, key=scores.__getitem__)
    assert chosen["tuned"] == chosen["distilled"]
