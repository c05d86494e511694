import pytest
import torch

from stdcf_lib.convert.layers import parameters_of
from stdcf_lib.data import TRMNIST
from stdcf_lib.experiments import reconstruction, recovery
from stdcf_lib.experiments.recovery import Trial


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Few clips, and a folder of its own."""
    few_clips = TRMNIST("train", clips=128).clips
    monkeypatch.setattr(recovery, "TRMNIST", lambda split: TRMNIST(split, clips=128))
    monkeypatch.setattr(recovery, "clips", lambda: reconstruction.frames_last(few_clips))
    monkeypatch.setattr(recovery, "_run", lambda trial: recovery.Run(tmp_path / trial))
    return tmp_path


def test_trials_have_the_ways_for_each_seed_and_the_rates_on_another():
    trials = recovery.trials()
    results = [trial for trial in trials.values() if not trial.care]
    assert len(results) == len(recovery.WAYS) * len(recovery.SEEDS)
    assert {trial.seed for trial in trials.values() if trial.care}.isdisjoint(recovery.SEEDS)
    assert {trial.rate for trial in results} == {recovery.RATE}


def test_every_way_has_the_same_layers_and_half_of_the_parameters():
    original, converted = reconstruction.trained("full", 0), recovery.converted(0)
    assert 0.45 < parameters_of(converted) / parameters_of(original) <= recovery.SHARE
    for way in recovery.WAYS:
        assert [(name, p.shape) for name, p in recovery.trained(way).named_parameters()] == [
            (name, p.shape) for name, p in converted.named_parameters()
        ]


@pytest.mark.parametrize("way", ["distilled", "tuned", "scratch"])
def test_a_trial_trains_tests_and_keeps(way, few):
    said = recovery.run_trial(f"{way}-seed0")
    assert said.startswith(f"{way}-seed0: test MSE 0.")
    run = recovery.kept(way, 0)
    assert run.finished and len(run.metrics) == recovery.EPOCHS and run.metrics[-1]["test_mse"] > 0
    assert recovery.minutes_missing(f"{way}-seed0") == 0 < recovery.minutes_missing(f"{way}-seed1")
    weights = recovery.trained(way).state_dict()
    start = recovery.converted(0).state_dict()
    moved = torch.cat([(weights[name] - start[name]).flatten() for name in start]).norm()
    usual = torch.cat([start[name].flatten() for name in start]).norm()
    assert (moved > 0.5 * usual) == (way == "scratch")
    assert recovery.run_trial(f"{way}-seed0") == said


def test_a_conversion_is_tested_and_kept(few):
    recovery.run_trial("converted-seed1")
    (row,) = recovery.kept("converted", 1).metrics
    assert row["test_mse"] > 0.02  # far from the 0.014 of the network that it was


def test_a_run_for_choosing_keeps_no_weights(few, monkeypatch):
    monkeypatch.setattr(reconstruction, "validation_clips", lambda: TRMNIST("train", clips=64, seed=1).clips)
    recovery.run_trial("care-distilled-0.003-seed4")
    run = recovery._run("care-distilled-0.003-seed4")
    assert run.weights == {} and run.config["learning_rate"] == 3e-3


def test_the_kept_rate_is_the_best_of_those_tried():
    scores = recovery.care_scores()
    assert min(scores, key=scores.__getitem__) == recovery.RATE == Trial("tuned", 0).rate
