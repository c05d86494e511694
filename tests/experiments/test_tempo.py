import math
from functools import partial

import numpy as np
import pytest
import torch

from stdcf_lib.data.actions import Actions
from stdcf_lib.data.kth import KTH
from stdcf_lib.experiments import tempo
from stdcf_lib.models import KTHNet
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.runs import runs_folder


@pytest.fixture(scope="module")
def clips():
    return Actions("test", frames=16, actions=("handwaving", "walking"), scenarios=(1,), repetitions=(1,)).clips[:4]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return KTHNet("stdcf").eval()


def test_input_is_standardised_and_repetition_changes_nothing(clips):
    x = tempo.as_input(clips)
    torch.testing.assert_close(x.mean((1, 2, 3, 4)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((1, 2, 3, 4), correction=0), torch.ones(4), atol=1e-5, rtol=0)
    repeated = tempo.as_input(clips.repeat_interleave(3, 2))
    torch.testing.assert_close(repeated, x.repeat_interleave(3, 2), atol=1e-4, rtol=0)
    assert tempo.as_input(torch.full((1, 1, 2, 4, 4), 9, dtype=torch.uint8)).abs().max() == 0


@pytest.mark.parametrize("kind", ["full", "rank1", "stdcf"])
def test_the_exact_way_does_not_see_repetition(kind, clips):
    torch.manual_seed(0)
    model = KTHNet(kind).eval()
    before, slow = tempo.features(model, clips), clips.repeat_interleave(2, 2)
    with tempo.at_tempo(model, 2.0, "exact"):
        assert tempo.relative_change(tempo.features(model, slow), before) < 1e-5
    for way in ("plain", "dilated", "interpolated"):
        with tempo.at_tempo(model, 2.0, way):
            assert tempo.relative_change(tempo.features(model, slow), before) > 0.01
    assert torch.equal(tempo.features(model, clips), before)  # and every way is undone


def test_at_tempo_one_every_way_is_the_trained_network(model, clips):
    before = tempo.features(model, clips)
    for way in tempo.WAYS:
        with tempo.at_tempo(model, 1.0, way):
            torch.testing.assert_close(tempo.features(model, clips), before)
    with pytest.raises(ValueError, match="way='slow'; choose one of 'plain'"):
        tempo.at_tempo(model, 2.0, "slow")


@pytest.mark.parametrize("kind", KINDS)
def test_projected_filters_have_three_dimensions_along_time_and_come_back(kind):
    torch.manual_seed(0)
    model = KTHNet(kind)
    before = [taps.detach().clone() for taps in model.temporal_filters]
    with tempo.projected(model):
        for taps, whole in zip(model.temporal_filters, before, strict=True):
            in_time = taps.detach().movedim(min(2, taps.dim() - 1), 0).flatten(1)
            assert torch.linalg.matrix_rank(in_time, rtol=1e-4) <= 3
            rest = whole - taps.detach()
            assert abs((rest * taps.detach()).sum()) < 1e-4 * whole.square().sum()  # what is left out is at a right angle
            if kind == "stdcf" or taps.shape[2] == 3:
                torch.testing.assert_close(taps.detach(), whole)
    assert all(torch.equal(taps, whole) for taps, whole in zip(model.temporal_filters, before, strict=True))


def test_neighbours_kept():
    points = torch.arange(12.0)[:, None] ** 1.5  # no two distances are equal
    assert tempo.neighbours_kept(points, points, count=3) == 1
    assert tempo.neighbours_kept(points.flip(0), points, count=3) < 0.5
    assert tempo.neighbours_kept(points.flip(0), points, count=11) == 1  # all others are neighbours


def test_relative_change_by_hand():
    assert tempo.relative_change(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.0]])) == pytest.approx(0.75)


@pytest.mark.parametrize("period", [5, 8])
def test_motion_period_of_a_swinging_bar(period):
    t = torch.arange(32)
    place = (10 + 6 * torch.sin(2 * torch.pi * t / period + 0.3)).round().long()
    clip = torch.zeros(1, 1, 32, 6, 24, dtype=torch.uint8)
    for k, x in enumerate(place.tolist()):
        clip[0, 0, k, :, x : x + 3] = 200
    assert tempo.motion_period(clip).tolist() == [period]
    with pytest.raises(ValueError, match="4 frames are too short"):
        tempo.motion_period(clip[:, :, :4])


def test_the_guess_is_the_dilation_the_network_is_surest_at(model, clips):
    slow = clips.repeat_interleave(2, 2)
    sure = []
    for dilation in (1, 2, 3):
        with tempo.at_tempo(model, dilation, "dilated"), torch.no_grad():
            sure.append(model(tempo.as_input(slow)).softmax(1).amax(1))
    expected = torch.stack(sure).argmax(0) + 1
    assert torch.equal(tempo.guess_tempo(model, slow), expected)


def test_a_little_training_learns_and_repeats():
    data = Actions("train", frames=32, size=(24, 32), actions=("handwaving", "walking"), scenarios=(1,), repetitions=(1, 2))

    def once():
        torch.manual_seed(0)
        return [row["train_loss"] for row in tempo.fit(KTHNet("stdcf"), 4, data=data, precision=torch.float32, progress=False)]

    losses = once()
    assert losses[-1] < 0.7 * losses[0] and losses == once()


def test_the_rate_is_gentle_at_first_and_falls_along_a_half_cosine(monkeypatch):
    rates = []

    def watched(model, batches, loss, optimization, epochs, **options):
        for _ in range(epochs * 2):  # steps of an epoch of 32 clips in sixteens
            rates.append(optimization.optimizer.param_groups[0]["lr"])
            optimization.optimizer.step()
            optimization.scheduler.step()

    monkeypatch.setattr(tempo, "train", watched)
    data = Actions("train", frames=32, size=(24, 32), actions=("walking",), scenarios=(1,), repetitions=(1, 2, 3, 4))
    assert len(data) == 32
    tempo.fit(KTHNet("stdcf"), 4, data=data, progress=False)
    expected = [1e-3, *(3e-3 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (1, 2, 3))]
    assert rates == pytest.approx([rate for rate in expected for _ in range(2)])


def test_kept_runs_are_the_trials():
    assert {folder.name for folder in (runs_folder() / "tempo").iterdir()} == set(tempo.trials())


@pytest.mark.parametrize("name", tempo.trials())
def test_every_run_is_kept_and_measured(name):
    trial = tempo.trials()[name]
    kind = name.removesuffix(f"-seed{trial.seed}")
    run = tempo.kept(kind, trial.seed)
    assert run.finished and not tempo.missing(name)
    assert (run.config["kind"], run.config["seed"], len(run.metrics)) == (trial.kind, trial.seed, trial.epochs)
    assert (run.folder / "weights.safetensors").stat().st_size < (100 if trial.care else 200_000)
    assert (run.folder / "real.npz").exists() == (kind in KINDS)


def test_stdcf_stops_early_at_about_the_training_loss_of_the_others():
    """The number of epochs was chosen by runs of a seed that no result uses."""
    assert tempo.CARE_SEED not in tempo.SEEDS
    others = np.mean([tempo.training_loss(kind, seed) for kind in ("full", "rank1") for seed in tempo.SEEDS])
    losses = tempo.care_losses()
    assert min(losses, key=lambda epochs: abs(losses[epochs] - others)) == tempo.EARLY_EPOCHS
    early = [tempo.training_loss("stdcf-early", seed) for seed in tempo.SEEDS]
    assert 0.8 < np.mean(early) / others < 1.25


def test_kept_weights_give_the_kept_numbers():
    found = tempo.measured("stdcf", 1)
    data = Actions("test", repetitions=(1,), scenarios=(1,))  # an eighth of all
    right = tempo.accuracy(model := tempo.trained("stdcf", 1), tempo.features(model, data.clips), data.action)
    plain = found["plain"]["1.0"]["accuracy"]
    assert abs(right - plain) < 0.1
    assert tempo.measured("stdcf", 1, "actions")["splits"]["test"] == pytest.approx(plain, abs=0.005)


def test_real_features_are_those_of_the_real_clips(user_data, real_cache):
    folder = user_data("kth")
    windows, kept = KTH(folder, None, on_bad="skip", cache=real_cache), tempo.kept_features("rank1", 2, "real")
    assert list(kept["clip"]) == windows.clip and kept["action"].tolist() == windows.action.tolist()
    chosen = range(0, len(windows), 30)
    clips = torch.stack([(windows[i] * 255).round().to(torch.uint8) for i in chosen])
    found = tempo.features(tempo.trained("rank1", 2), clips)
    torch.testing.assert_close(torch.from_numpy(kept["1, plain"][::30]), found, rtol=2e-2, atol=2e-3)


def test_the_period_of_real_clips_is_measured_on_all_windows(user_data, real_cache):
    found = tempo.measured("stdcf", 0, "periods")
    assert set(found) == {"1.0", "2.0"} and all(0.5 < one["right"] <= 1 for one in found.values())
    assert found["1.0"]["windows"] == len(KTH(user_data("kth"), None, frames=32, stride=2, on_bad="skip", cache=real_cache))


def test_the_guess_is_measured_against_those_who_know(monkeypatch):
    """On the clips of one action, by hand: the oracle's answers are those of the network dilated by the tempo."""
    few = {"actions": ("walking",), "scenarios": (1,)}
    monkeypatch.setattr(tempo, "Actions", partial(Actions, **few))
    tempo.rendered.cache_clear()
    model = tempo.trained("stdcf")
    found = tempo.measure_guesses(model)
    tempo.rendered.cache_clear()
    data = Actions("test", frames=64, tempo=2.0, repetitions=(1,), **few)
    with tempo.at_tempo(model, 2.0, "dilated"):
        expected = tempo.accuracy(model, tempo.features(model, data.clips[:, :, 16:48]), data.action)
    assert found["2.0"]["oracle"] == {"accuracy": pytest.approx(expected), "right": 1.0}
    assert found["2.0"]["nobody"]["right"] == 0.0 and found["1.0"]["nobody"]["right"] == 1.0
