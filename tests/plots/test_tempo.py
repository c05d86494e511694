from typing import Any

import numpy as np
import pytest
import torch

from stdcf_lib.data.actions import Actions
from stdcf_lib.experiments import tempo
from stdcf_lib.experiments.tempo import REAL, TEMPI, kept_features, measured, trained
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.plots import tempo as plots


def test_film_shows_the_same_moments():
    arrays = plots.film().arrays
    assert set(arrays) == {"tempo 0.5", "tempo 1", "tempo 2"}
    np.testing.assert_array_equal(arrays["tempo 2"][::2], arrays["tempo 1"][:8])
    np.testing.assert_array_equal(arrays["tempo 1"][::2], arrays["tempo 0.5"][:8])


@pytest.mark.parametrize(("τ", "dilation"), [(2.0, 2), (3.0, 3), (1.0, 1)])
def test_a_dilated_filter_follows_the_tempo(τ, dilation):
    arrays = plots.filter_response(tempo=τ, dilation=dilation).arrays
    spread = arrays["reference"].std()
    assert np.abs(arrays["dilated"][::dilation] - arrays["reference"]).max() < 1e-3 * spread
    if τ > 1:
        assert np.abs(arrays["plain"][::dilation] - arrays["reference"]).max() > 0.3 * spread


def test_the_toy_by_hand():
    steps = plots.toy(torch.tensor([1.0, 3, 0, 2]))
    # (1, -1, 2) against (x before, x, x after), zeros outside
    assert steps["filter 1"].tolist() == [5, -2, 7, -2]
    assert steps["pool"].tolist() == [5, 7]
    assert steps["filter 2"].tolist() == [5 - 7, 10 + 7]
    assert steps["mean"] == 7.5


@pytest.mark.parametrize("repeat", [2, 3])
def test_the_toy_is_exact_with_its_pool_alone(repeat):
    signal = torch.rand(8)
    before = plots.toy(signal)["mean"]
    torch.testing.assert_close(plots.toy(signal, repeat, (repeat, 1), 2 * repeat)["mean"], before)
    assert abs(plots.toy(signal, repeat, (repeat, repeat))["mean"] - before) > 1e-3


def test_toy_steps_draw_the_toy():
    arrays = plots.toy_steps(repeat=3, dilation_1=3, pool=6, dilation_2=1).arrays
    np.testing.assert_allclose(arrays["repeated, filter 2"], arrays["as built, filter 2"])
    assert len(arrays["repeated, filter 1"]) == 24


@pytest.mark.parametrize("measure", plots.MEASURES)
def test_curves_are_the_records(measure):
    arrays = plots.by_tempo(measure).arrays
    assert arrays["tempo"].tolist() == list(TEMPI)
    for kind, way, seed, i in [("stdcf", "dilated", 1, 4), ("full", "plain", 2, 0), ("rank1", "exact", 0, 5)]:
        assert arrays[f"{kind}, {way}"][seed, i] == measured(kind, seed)[way][str(TEMPI[i])][measure]
    with pytest.raises(ValueError, match="measure='speed'; choose one of 'accuracy'"):
        plots.by_tempo("speed")


def test_confusion_counts_every_test_clip_of_every_seed():
    counts = plots.confusion("rank1").arrays["counts"]
    assert counts.sum(1).tolist() == [len(tempo.SEEDS) * 9 * 4 * 2] * 6  # seeds, people, scenarios, repetitions
    right = np.mean([measured("rank1", seed, "actions")["splits"]["test"] for seed in tempo.SEEDS])
    assert np.trace(counts) / counts.sum() == pytest.approx(right)


def test_kept_features_are_the_networks():
    data = Actions("test", frames=32, tempo=2.0, scenarios=(1, 4), repetitions=(1,))
    kept = kept_features()
    np.testing.assert_array_equal(kept["action"], data.action)
    np.testing.assert_array_equal(kept["subject"], data.subject)
    model = trained("stdcf")
    with model.retime(2, 1, 3):
        found = tempo.features(model, data.clips[:8])
    np.testing.assert_allclose(plots.grid_features(2.0, (2, 1, 3))[:8], found, rtol=2e-2, atol=2e-3)
    with pytest.raises(ValueError, match=r"τ=2.5; the kept representations are of tempi 1.0, 1.5"):
        plots.grid_features(2.5)


def test_the_map_stays_while_clips_move():
    still, moved = plots.tempo_map(tempo=1.0).arrays, plots.tempo_map(tempo=2.0).arrays
    fitted = np.asarray(plots.fitted_map())
    assert still["neighbours"] == 1 and 0 < moved["neighbours"] < 0.9
    # A clip put into the map where it already is comes to lie where it was.
    size = fitted.std()
    assert np.linalg.norm(still["position"] - fitted, axis=1).mean() < 0.02 * size
    assert np.linalg.norm(moved["position"] - fitted, axis=1).mean() > 0.1 * size
    reference = torch.from_numpy(plots.grid_features(1.0))
    expected = tempo.neighbours_kept(torch.from_numpy(plots.grid_features(2.0, (2, 2, 2))), reference)
    assert plots.three_maps().arrays["tempo 2, dilated by 2, neighbours"] == pytest.approx(expected)


def test_a_line_leads_from_each_clip_to_where_it_went():
    drawing = plots.tempo_map(tempo=3.0, action="walking")
    start, end = np.asarray(plots.fitted_map()), drawing.arrays["position"]
    paths: Any = drawing.figure.axes[0].collections[0]
    lines = {tuple(np.ravel(path)) for path in paths.get_segments()}
    walking = plots.grid_actions() == 5
    assert lines == {(*a, *b) for a, b in zip(start[walking], end[walking], strict=True)}


def test_one_can_look_at_one_action_or_one_subject():
    choices: list[dict[str, Any]] = [{}, {"action": "boxing"}, {"action": "boxing", "subject": 22}]
    everybody, boxers, one = (plots.tempo_map(**chosen).png() for chosen in choices)
    assert len({everybody, boxers, one}) == 3


def test_real_answers_are_the_kept_representations_answers():
    true, found = plots.real_answers("2, dilated", "full", 1)
    kept = kept_features("full", 1, "real")
    with torch.no_grad():
        expected = trained("full", 1).fc(torch.from_numpy(kept["2, dilated"])).argmax(1).numpy()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(true, kept["action"])
    clips, answers = plots.real_answers("1, plain", whole_clips=True)
    assert len(clips) == len(answers) == len(set(kept["clip"])) == 17
    kept = kept_features("stdcf", 0, "real")
    with torch.no_grad():
        chances = trained("stdcf").fc(torch.from_numpy(kept["1, plain"])).softmax(1)
    for place, clip in enumerate(sorted(set(kept["clip"]))):
        summed = chances[torch.from_numpy(kept["clip"] == clip)].sum(0)
        assert answers[place] == summed.argmax()
    first = [chances[torch.from_numpy(kept["clip"] == clip)][0].argmax().item() for clip in sorted(set(kept["clip"]))]
    assert first != answers.tolist()  # one window is not the clip


def test_real_confusion_counts_windows():
    arrays = plots.real_confusion(seeds=(0,)).arrays
    assert all(counts.sum() == len(kept_features("stdcf", 0, "real")["clip"]) for counts in arrays.values())


def test_real_map_compares_with_tempo_one():
    arrays = plots.real_map().arrays
    assert arrays["1, plain, neighbours"] == 1
    assert {name.split(", ")[-1] for name in arrays} == {"position", "neighbours"} and len(arrays) == 2 * len(REAL)


def test_guesses_are_the_records():
    arrays = plots.guesses().arrays
    assert arrays["confidence"][1, 2] == measured("stdcf", 1, "guesses")["3.0"]["confidence"]["accuracy"]
    assert (arrays["oracle"] >= arrays["nobody"] - 0.02).all()


def test_what_the_title_says_of_the_change_holds():
    arrays = plots.by_tempo("change").arrays
    slow = np.flatnonzero(arrays["tempo"] >= 2)
    for kind in KINDS:
        plain, dilated, exact = (arrays[f"{kind}, {way}"][:, slow].mean(0) for way in ("plain", "dilated", "exact"))
        assert (exact < dilated).all()
        assert (dilated < plain / 2).all() == (kind != "stdcf")
