"""The experiment on real clips: contestants that cost alike, views of the right time, folds that keep to themselves."""

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from stdcf_lib.experiments import interactions
from stdcf_lib.experiments.interactions import CONTESTANTS, FAMILIES, FULL, PLANS, Windows, answers, network, views
from stdcf_lib.experiments.plans import direct


class Stand:
    """Six clips of two recordings, whose every frame says its number."""

    def __init__(self) -> None:
        self.clips = [torch.arange(90, dtype=torch.uint8)[:, None, None].expand(-1, 64, 96).clone() for _ in range(6)]
        for number, clip in enumerate(self.clips):
            clip[:, :, 10 * number :] //= 2
        self.sequence = torch.tensor([1, 1, 1, 2, 2, 2])
        self.interaction = torch.arange(6)

    def __len__(self) -> int:
        return 6


@pytest.fixture
def stand(monkeypatch):
    found = Stand()
    monkeypatch.setattr(interactions, "clips", lambda: found)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield found
    AcceleratorState._reset_state(reset_partial_state=True)


def test_contestants_cost_alike_and_full_size_makes_as_many_updates():
    updates = {}
    for name, plan in PLANS.items():
        stages = plan.timed(network("stdcf"))
        updates[name] = sum(round(stage.epochs * (54 // plan.batch_size)) for stage in stages)
        assert sum(plan.shares) == pytest.approx(interactions.BUDGET * (1.6 if name == "direct-seconds" else 1))
    assert updates["direct-updates"] == pytest.approx(updates["itsl-resample"], rel=0.1)
    assert {contestant.plan for contestant in FAMILIES.values()} == {PLANS["stdcf"]}
    assert set(CONTESTANTS) == {"full", "rank1", "one-frame", *PLANS}


def test_views_show_the_same_time_at_every_tempo(stand, monkeypatch):
    monkeypatch.setattr(
        interactions,
        "shown",
        lambda clips, indices: torch.stack([clip[i] for clip, i in zip(clips, indices, strict=True)])[:, None],
    )
    usual, half, quarter = (views([0], slower)[:, 0, :, 0, 0] for slower in (1, 2, 4))
    assert usual.shape == (6, 16) and half.shape == (6, 31) and quarter.shape == (6, 61)
    assert torch.equal(half[:, ::2], usual) and torch.equal(quarter[:, ::4], usual)
    middles = usual.float().mean(1)
    assert middles[0] == middles[1] < middles[2] == middles[3] < middles[4] == middles[5]  # windows, with their mirror images


def test_windows_for_training_are_drawn_anew_and_repeat_with_the_seed(stand):
    data = Windows([0, 4])
    assert len(data) == 2 * interactions.REPEATS and data[1][1] == 4

    def drawn(seed):
        random.seed(seed)
        return data[1][0]

    assert drawn(0).shape == (1, FULL.frames, FULL.size, FULL.size)
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))


def test_one_frame_is_the_middle_one_and_knows_the_scene(stand):
    """Of 16 frames nothing is left where nothing moves; of one, what is written in it."""
    stand.clips[0][:] = stand.clips[0][40]
    assert views([0]).abs().max() == 0
    seen = views([0], frames=1)
    assert seen.shape == (6, 1, 16, FULL.size, FULL.size) and torch.equal(seen[:, :, :1].expand_as(seen), seen)
    assert seen.std(correction=0) == pytest.approx(0, abs=1e-6)
    stand.clips[0][:, :30] //= 2
    assert views([0], frames=1).std(correction=0) > 0.5
    assert Windows([0], 1)[0][0].shape == (1, FULL.frames, FULL.size, FULL.size)


def test_the_box_is_read_from_other_recordings_only():
    """Boxes that say the interaction in all recordings but one, where they say another."""
    data: Any = SimpleNamespace(
        aspect=torch.tensor([1.0, 2.0] * 10 + [2.0, 1.0]),
        clips=[torch.zeros(30)] * 22,
        interaction=torch.tensor([0, 1] * 11),
        sequence=torch.tensor([1] * 10 + [2] * 10 + [3, 3]),
    )
    found = interactions.box_answers(data)
    assert torch.equal(found[:20], data.interaction[:20]) and torch.equal(found[20:], 1 - data.interaction[20:])


def test_answers_are_means_of_chances(stand):
    found = answers(network("stdcf"), [0, 4])
    assert found.shape == (2, 6)
    torch.testing.assert_close(found.sum(1), torch.ones(2))


def test_a_fold_never_trains_on_the_recording_that_is_left_out(stand, monkeypatch):
    seen = {}

    def run(model, stages, data, *rest, **options):
        training, test = data(stages[0])
        seen["training"], seen["test"] = {stand.sequence[i].item() for i in training.numbers}, set(test.numbers)
        return []

    monkeypatch.setattr(interactions, "run", run)
    interactions.fit(CONTESTANTS["stdcf"], 1e-3, 0, fold=2)
    assert seen == {"training": {1}, "test": {3, 4, 5}}


def test_a_trial_is_taken_up_at_the_fold_where_it_was_stopped(stand, tmp_path, monkeypatch):
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    monkeypatch.setattr(interactions, "FOLDS", range(1, 3))
    small = {"stdcf": interactions.Contestant("STDCF", "stdcf", direct("short", FULL, 0.5, 3))}
    monkeypatch.setattr(interactions, "CONTESTANTS", small)
    monkeypatch.setattr(interactions, "FAMILIES", small)
    name, fit, trained = "stdcf-seed0", interactions.fit, []

    def once(contestant, rate, seed, fold):
        trained.append(fold)
        if trained.count(2) == 1 and fold == 2:
            raise KeyboardInterrupt
        return network("stdcf", fold), [{"seconds": 1.0, "steps": 3, "macs": 5}]

    monkeypatch.setattr(interactions, "fit", once)
    with pytest.raises(KeyboardInterrupt):
        interactions.run_trial(name)
    assert "accuracy" in interactions.run_trial(name) and trained == [1, 2, 2]
    run = interactions.kept("stdcf")
    assert [row["fold"] for row in run.metrics] == [1, 2] and run.metrics[0]["updates"] == 3
    assert {key.split(".")[0] for key in run.weights} == {"fold1", "fold2"}
    found = interactions.kept_answers("stdcf")
    assert found["label"].tolist() == list(range(6)) and found["1"].shape == found["4"].shape == (6, 6)
    np.testing.assert_allclose(found["1"][:3], answers(network("stdcf", 1), [0, 1, 2]), atol=1e-3)
    assert interactions.minutes_missing(name) == 0 and fit is not once


def test_without_clips_there_is_nothing_to_train(monkeypatch, tmp_path):
    monkeypatch.setenv("STDCF_DATA", str(tmp_path))
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    assert interactions.minutes_missing("stdcf-seed0") == 0
    (tmp_path / "ut_interaction").mkdir()
    assert interactions.minutes_missing("stdcf-seed0") > 0
