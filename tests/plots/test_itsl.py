import numpy as np
import pytest

from stdcf_lib.data.turning import TurningDigits
from stdcf_lib.experiments.turning import CHOSEN, PLANS, RANKED, TUNED, care_scores, kept, minutes
from stdcf_lib.itsl import schedule, view
from stdcf_lib.plots import itsl as plots


def test_needs_are_the_independent_counts():
    arrays = plots.needs(frames=8, batch=1).arrays
    np.testing.assert_allclose(arrays["compute (GMAC)"], [66.069, 17.375, 16.518], atol=5e-4)
    assert arrays["parameters"] == 31_910_960
    assert arrays["stored (GiB)"][0] > 2.5 * arrays["stored (GiB)"][1]
    assert plots.needs(frames=16, reduction=16, batch=1).arrays["compute (GMAC)"][2] < arrays["compute (GMAC)"][2]


def test_the_longest_clips_fit_and_longer_ones_do_not():
    arrays = plots.largest_clips((24,), batch=2).arrays
    state = 12 * plots.r50_cost(8, 224).parameters
    for name, size, share in (("full", 224, 1), ("stage-t", 112, 1), ("stage-s", 224, 4)):
        longest = int(arrays[name][0]) // share
        for frames, fits in ((longest, True), (longest + 2, False)):
            assert (plots.r50_cost(frames, size, batch=2).stored_bytes + state <= 24e9) is fits, name


def test_stages_are_the_schedules():
    arrays = plots.stages(3, 32, 224, 16).arrays
    assert arrays["frames"].tolist() == [32, 2] * 3 + [32] and arrays["size"].tolist() == [56, 224] * 3 + [224]


def test_turning_digits_are_shown_as_the_stages_see_them():
    arrays = plots.turning((4,)).arrays
    clip = TurningDigits("test", clips=5)[4][0]
    t, s, _ = schedule(1, 16, 28)
    np.testing.assert_array_equal(arrays["4, full"], clip[0])
    np.testing.assert_array_equal(arrays["4, stage-t"], view(clip[None], t)[0, 0])
    np.testing.assert_array_equal(arrays["4, stage-s"], view(clip[None], s)[0, 0])


def test_swapped_atoms():
    arrays = plots.swapped(2).arrays
    np.testing.assert_array_equal(arrays["built"], arrays["keep"])
    np.testing.assert_array_equal(arrays["dilate"][::2, ::2], arrays["built"])
    assert arrays["dilate"].shape == arrays["resample"].shape == (5, 5)
    assert (arrays["dilate"][1::2] == 0).all() and (arrays["resample"] != 0).sum() > (arrays["dilate"] != 0).sum()


def test_curves_are_at_full_size_and_end_where_compute_and_minutes_end():
    arrays = plots.curves().arrays
    for name in ("itsl-resample", "direct", "t-only"):
        for measure, whole in (("compute", sum(PLANS[name].shares)), ("minutes", minutes()[name])):
            x = arrays[f"{name}, {measure}"]
            assert x[-1] == pytest.approx(whole) and (np.diff(x) > 0).all() and arrays[name].shape[1:] == x.shape
        assert arrays[name][1, -1] == kept(name, 1).metrics[-1]["full_joint"]
    rows = [row for row in kept("itsl-resample", 2).metrics if "full_joint" in row]  # at the end of each stage, by its swap
    assert arrays["itsl-resample"][2].tolist() == [row["full_joint"] for row in rows]
    assert arrays["itsl-resample, compute"].tolist() == pytest.approx(np.cumsum(PLANS["itsl-resample"].shares).tolist())
    assert arrays["direct"][0].tolist() == [row["joint"] for row in kept("direct").metrics]  # trained at full size


def test_outcomes_are_the_last_rows():
    arrays = plots.outcome().arrays
    assert len(arrays) == 3 * len(RANKED)
    assert arrays["direct, motion"][1] == kept("direct", 1).metrics[-1]["full_motion"]
    with_both = [f"{name}, {part}" for name in RANKED for part in ("digit", "motion")]
    assert all((arrays[key] >= arrays[f"{key.rsplit(', ', 1)[0]}, joint"]).all() for key in with_both)


def test_care_shows_each_rate_and_the_choice():
    figure, arrays = plots.care()
    assert list(arrays) == list(TUNED)
    assert arrays["direct"].tolist() == list(care_scores("direct").values())
    rings = [np.asarray(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_markersize() == 11]
    assert np.concatenate(rings).tolist() == [CHOSEN[name] for name in TUNED]


def test_temporal_atoms_are_destroyed_by_a_single_tap_that_trains():
    arrays = plots.temporal_atoms_left().arrays
    assert all(len(values) in (4 * 3, 4 * 6) and values.shape[1] == 3 for values in arrays.values())  # layers × seeds, N
    assert np.median(arrays["unfrozen-resample"][:, 1]) < 0.05 < 0.5 < np.median(arrays["itsl-resample"][:, 1])
    assert np.median(arrays["unfrozen-restored"][:, 1]) > 0.5


def test_what_is_carried_over_is_in_the_runs():
    arrays = plots.carried_over().arrays
    rows = [row for row in kept("itsl-dilate", 1).metrics if "steps" in row]
    assert arrays["itsl-dilate, at full size"][1].tolist() == [row["full_joint"] for row in rows]
    assert arrays["itsl-dilate, at its own size"][1].tolist() == [row["joint"] for row in rows]


def test_published_numbers_are_the_papers():
    tables = plots.published().arrays
    assert tables["Kinetics-400"].tolist()[0] == [68.2, 88.4] and tables["Kinetics-400"].shape == (7, 2)
    assert tables["Something-Something V1"].tolist()[-1] == [45.9, 75.2]
    assert all((np.diff(table, axis=0) > 0).all() for table in tables.values())


@pytest.mark.parametrize("record", plots.records(), ids=lambda record: record["machine"]["device"])
def test_steps_are_the_record(record):
    drawing = plots.steps(record)
    row = next(row for row in record["steps"] if (row["kind"], row["stage"]) == ("stdcf", "stage-t"))
    shown = "batch" if record["machine"]["device"].startswith("NVIDIA") else "peak_gib"
    assert drawing.arrays["stdcf, clips_per_second"][1] == row["clips_per_second"]
    assert drawing.arrays[f"stdcf, {shown}"][1] == row[shown] and len(drawing.arrays) == 6
    assert record["machine"]["device"] in drawing.figure.get_suptitle()


def test_the_record_of_a_gpu_comes_first():
    devices = [record["machine"]["device"] for record in plots.records()]
    assert len(devices) > 1 and devices[0].startswith("NVIDIA") and devices[-1].startswith(("AMD", "Intel"))


def test_nothing_is_computed_to_count():
    assert plots.r50_cost(64, 224).stored_bytes > 4e9  # more than a test may hold
