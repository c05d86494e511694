import pytest
import torch
from torch.nn import functional as F

from stdcf_lib.data import TRMNIST
from stdcf_lib.experiments import reconstruction
from stdcf_lib.experiments.reconstruction import FAMILIES, STARTS, SWEEP, kept, trained, trials
from stdcf_lib.runs import runs_folder


@pytest.fixture(scope="module")
def test_clips():
    return TRMNIST("test").clips


@pytest.mark.parametrize("name", FAMILIES)
def test_the_fast_reconstruction_is_the_network(name):
    model = FAMILIES[name].build(1).double()
    reconstruction._full_network.cache_clear()
    reconstruction._full_network().double()
    clips = torch.rand(2, 1, 8, 28, 28, dtype=torch.float64)
    fast, plain = reconstruction.reconstruct(model, clips), model(clips)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-10)
    parameters = list(model.parameters())
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (fast, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
    reconstruction._full_network.cache_clear()


def test_clips_keep_their_place_on_the_way_into_the_network():
    clips = torch.randint(0, 256, (3, 1, 8, 28, 28), dtype=torch.uint8)
    assert torch.equal(reconstruction.as_input(reconstruction.frames_last(clips)), clips.float() / 255)


def test_errors_are_mean_squares_of_each_clip(test_clips):
    model, clips = FAMILIES["full"].build(0), test_clips[:300]
    expected = [F.mse_loss(model(clip[None] / 255), clip[None] / 255).item() for clip in clips[[0, 150, 299]]]
    assert reconstruction.errors(model, clips)[[0, 150, 299]].tolist() == pytest.approx(expected, rel=1e-4)


def test_a_little_training_helps_and_repeats(test_clips):
    def once():
        model = FAMILIES["stdcf"].build(0)
        return reconstruction.fit(model, test_clips[:640], 2, seed=0, test_clips=test_clips[:100], progress=False)

    first, second = once(), once()
    assert first[1]["train_loss"] < 0.95 * first[0]["train_loss"]
    assert [row["train_loss"] for row in first] == [row["train_loss"] for row in second]
    assert first[-1]["test_mse"] == second[-1]["test_mse"]


def test_a_quarter_wider_rank1_has_the_weights_of_stdcf():
    def weights(name):
        return sum(p.numel() for key, p in FAMILIES[name].build().named_parameters() if not key.endswith("bias"))

    assert abs(weights("rank1-wide") / weights("stdcf") - 1) < 0.02


def test_every_run_of_the_plan_is_kept_and_nothing_else():
    assert {folder.name for folder in (runs_folder() / "reconstruction").iterdir()} == set(trials())
    assert all(kept(name.removesuffix(f"-seed{seed}"), seed).finished for name, (_, seed, _) in trials().items())


def test_kept_runs_are_complete_and_were_made_from_these_clips(test_clips):
    train_digest, test_digest = reconstruction.digest(TRMNIST("train").clips), reconstruction.digest(test_clips)
    validation_digest = reconstruction.digest(reconstruction.validation_clips())
    for name, (variant, seed, epochs) in trials().items():
        run = kept(name.removesuffix(f"-seed{seed}"), seed)
        config = run.config
        assert (config["kind"], config["seed"], config["epochs"]) == (variant.kind, seed, epochs)
        scored_on = validation_digest if name.startswith("care") else test_digest
        assert (config["train_clips"], config["test_clips"]) == (train_digest, scored_on)
        assert config["learning_rate"] == variant.rate
        assert [row["epoch"] for row in run.metrics] == list(range(1, epochs + 1))


@pytest.mark.parametrize("name", [*FAMILIES, *(name for name in STARTS if name not in FAMILIES), "sweep-M1-N1", "sweep-M9-N3"])
def test_kept_weights_give_the_kept_error(name, test_clips):
    expected = kept(name).metrics[-1]["test_mse"]
    assert reconstruction.errors(trained(name), test_clips).mean().item() == pytest.approx(expected, rel=1e-4)


def test_the_chosen_starts_and_rates_are_the_best_of_their_trials():
    """Starts by short runs, the mean over two seeds; rates by runs of full length. No result uses these seeds or clips."""
    seeds = {seed for name, (_, seed, _) in trials().items() if not name.startswith("care")}
    assert not {*reconstruction.CARE_SEEDS, reconstruction.LONG_CARE_SEED} & seeds
    for family, chosen in reconstruction.CHOSEN.items():
        found = {}
        for rate, start in reconstruction.LONG_CARE[family].items():
            short = {way: sum(reconstruction.care_scores(family, way, rate)) for way in reconstruction.CARE_STARTS[family]}
            assert min(short, key=short.__getitem__) == start
            long = kept(f"care50-{family}-{rate:g}", reconstruction.LONG_CARE_SEED)
            found[start, rate] = long.metrics[-1]["test_mse"]
        assert min(found, key=found.__getitem__) == chosen


def test_the_sweep_covers_all_atom_counts():
    assert len(SWEEP) == 27
    layer = SWEEP["sweep-M9-N2"].build().conv2
    assert layer.psi.shape == (9, 3, 3) and layer.phi.shape == (2, 3)


def test_a_trial_is_trained_kept_and_not_trained_again(tmp_path, monkeypatch, test_clips):
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    monkeypatch.setattr(reconstruction, "TRMNIST", lambda split: TRMNIST(split, clips=64))
    monkeypatch.setattr(reconstruction, "trials", lambda: {"full-seed0": (FAMILIES["full"], 0, 1)})
    assert reconstruction.minutes_missing("full-seed0") > 0
    first = reconstruction.run_trial("full-seed0")
    weights = (tmp_path / "reconstruction" / "full-seed0" / "weights.safetensors").stat().st_mtime_ns
    assert reconstruction.run_trial("full-seed0") == first and "test MSE" in first
    assert (tmp_path / "reconstruction" / "full-seed0" / "weights.safetensors").stat().st_mtime_ns == weights
    assert reconstruction.minutes_missing("full-seed0") == 0
