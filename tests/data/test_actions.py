"""The motion against recorded people, the painting against a slower telling of the same, and the clips as a whole."""

import hashlib
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stdcf_lib.data.actions import Actions, clips, duration, render
from stdcf_lib.data.actions.cast import LEAD, draw_scene, draw_subject, draw_take
from stdcf_lib.data.actions.make_gaits import HELD_OUT, channels, fit, measure_gaits, read_takes
from stdcf_lib.data.actions.motion import (
    ASSET,
    CHANNELS,
    GAITS,
    JOINTS,
    LIMBS,
    angles,
    gait,
    grounded,
    modelled,
    skeleton,
    styles,
)
from stdcf_lib.data.actions.pixels import Capsules, paint, silhouette
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS

SMALL = (60, 80)
CYCLE = 2 * math.pi * np.arange(96) / 96
FEET = [JOINTS.index(f"{side}_{joint}") for joint in ("ankle", "toe") for side in "lr"]
KTH_SPEED = {"walking": 1.36, "jogging": 2.3, "running": 3.6}
BONES = [(f"{side}_{a}", f"{side}_{b}") for side in "lr" for a, b in LIMBS.values()]


def motions():
    for action in ACTIONS:
        motion = gait(action, KTH_SPEED[action]) if action in GAITS else modelled(action, 1.2)
        yield action, motion._replace(coefficients=grounded(motion.coefficients))


def digest(clip):
    return hashlib.sha256(np.asarray(clip).tobytes()).hexdigest()


def actor(clip):
    """Where a clip (frames, h, w) differs from its first frame by more than grass and noise do."""
    return np.abs(clip.astype(int) - clip[0]) > 45


# Motion


@given(st.sampled_from(ACTIONS), st.floats(-20, 20), st.floats(1.5, 2.0))
def test_bones_keep_their_length(action, phase, height):
    motion = dict(motions())[action]
    found, rest = (skeleton(motion.coefficients, np.array(p), height, motion.apart) for p in (phase, 0.0))
    for a, b in BONES:
        lengths = [np.linalg.norm(j[JOINTS.index(a)] - j[JOINTS.index(b)]) for j in (found, rest)]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)
        assert 0.05 * height < lengths[0] < 0.27 * height


@pytest.mark.parametrize(("action", "motion"), list(motions()))
def test_feet_come_down_to_the_ground_and_no_further(action, motion):
    lowest = (skeleton(motion.coefficients, CYCLE, 1.0, motion.apart)[:, FEET, 2] - [0.04, 0.04, 0.02, 0.02]).min()
    assert lowest == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("action", GAITS)
def test_feet_on_the_ground_stay_where_they_are(action):
    """Series and speed belong together: a foot on the ground moves back as fast as the body moves on."""
    motion = dict(motions())[action]
    feet = skeleton(motion.coefficients, CYCLE, 1.75)[:, FEET]
    step = motion.period / len(CYCLE)
    world = (np.roll(feet[..., 0], -1, 0) - np.roll(feet[..., 0], 1, 0)) / (2 * step) + motion.speed
    lowest = feet[..., 2].argmin(1)
    down = feet[..., 2].min(1) < 0.06 * 1.75
    sliding = world[np.arange(len(CYCLE)), lowest][down]
    assert abs(np.median(sliding)) < 0.12 * motion.speed
    # Walkers always have a foot on the ground; runners fly.
    assert down.all() if action == "walking" else action == "jogging" or not down.all()


def test_left_and_right_take_turns_in_gaits_and_boxing_and_agree_in_waving_and_clapping():
    for action, motion in motions():
        left, right = angles(motion.coefficients, CYCLE, motion.apart)
        for name in ("upper_arm_theta", "upper_arm_beta", "thigh_theta"):
            later = right[name] if action in ("handwaving", "handclapping") else np.roll(right[name], len(CYCLE) // 2)
            np.testing.assert_allclose(left[name], later, atol=1e-9)


@pytest.mark.parametrize("action", ACTIONS)
def test_actors_move_as_the_motion_says(action):
    who, how = draw_subject(0, 7), draw_take(0, action, 7, 1, 1)
    time = np.linspace(0, how.motion.period, 40)
    posed = clips._pose(who, how, time)
    at = {name: posed[:, JOINTS.index(name)] for name in JOINTS}
    apart = np.abs(at["l_wrist"] - at["r_wrist"]).max(0)
    assert apart[2] < 1e-9 if action in ("handwaving", "handclapping") else max(apart[0], apart[2]) > 0.1
    swing = [np.ptp(at[name], axis=0).max() for name in ("l_ankle", "l_wrist")]
    assert swing[0] > 0.4 if action in GAITS else swing[0] < 0.03
    assert swing[1] > 0.12
    # Whoever does not pass by shows his face to the camera, or his side if he boxes.
    nose = at["l_toe"] - at["l_ankle"]
    assert (nose[:, 1] < 0).all() if action in ("handwaving", "handclapping") else (np.abs(nose[:, 0]).max() > 0.1)


def test_faster_is_another_motion_not_the_same_one_faster():
    """Jogging and running differ in stride, lean and knees, and no constant factor on time makes one the other."""
    jog, run = gait("jogging", KTH_SPEED["jogging"]), gait("running", KTH_SPEED["running"])
    assert run.period < 0.95 * jog.period
    assert run.speed * run.period > 1.3 * jog.speed * jog.period
    lean = [m.coefficients[CHANNELS.index("trunk"), 0] for m in (jog, run)]
    assert math.degrees(lean[1] - lean[0]) > 2
    series = [angles(m.coefficients, CYCLE)[0] for m in (jog, run)]
    thigh = [np.ptp(s["thigh_theta"]) for s in series]
    assert math.degrees(thigh[1] - thigh[0]) > 12
    # Even after stretching to the same mean and swing, the shanks go different ways.
    shank = [(s["shank_theta"] - s["shank_theta"].mean()) / np.ptp(s["shank_theta"]) for s in series]
    nearest = min(np.abs(shank[0] - np.roll(shank[1], k)).max() for k in range(len(CYCLE)))
    assert nearest > 0.03


def test_a_style_is_what_a_take_has_beyond_the_line():
    plain = gait("walking", 1.3)
    for k in range(styles("walking")):
        one = np.eye(styles("walking"))[k]
        personal = gait("walking", 1.3, one)
        assert 0.5 < math.degrees(np.abs(personal.coefficients - plain.coefficients).max()) < 40
    everyone = gait("walking", 1.3, np.ones(styles("walking")))
    np.testing.assert_allclose(everyone.coefficients, plain.coefficients, atol=1e-9)


def test_fit_finds_the_gait_that_made_the_joints():
    made = gait("running", 3.3)._replace(period=0.74)
    joints = skeleton(made.coefficients, 1.1 + 2 * math.pi * np.arange(45) / 30 / made.period, 1.8)
    series, period, phase = fit(joints)
    assert period == pytest.approx(made.period, abs=3e-3)
    sides = slice(CHANNELS.index("upper_arm_theta"), None)
    np.testing.assert_allclose(series[sides], made.coefficients[sides], atol=0.02)
    # The feet go round in the series' own phase, whose origin is the foremost thigh.
    assert math.remainder(phase - 1.1, 2 * math.pi) == pytest.approx(0, abs=0.03)


def test_committed_gaits_are_those_of_the_recorded_takes(user_data):
    kept, made = json.loads(ASSET.read_text()), measure_gaits(user_data("mocap"))
    assert kept["credit"] == made["credit"] and "NSF EIA-0196217" in kept["credit"]
    for a, b in zip(kept["takes"], made["takes"], strict=True):
        assert (a["take"], a["gait"], a["speed"]) == (b["take"], b["gait"], b["speed"])
        assert a["period"] == pytest.approx(b["period"], abs=3e-3)
        for name in CHANNELS:
            np.testing.assert_allclose(a["series"][name], b["series"][name], atol=5e-3)


@pytest.mark.parametrize("name", HELD_OUT)
def test_joints_of_people_who_were_kept_out(name, user_data):
    """At a held-out person's speed, the gait has his stride period to 6 % and his joint angles to 16° (his legs' to 9°)."""
    action, speed, joints = read_takes(user_data("mocap"))[name]
    _, period, phase = fit(joints)
    sides = channels(joints)
    time = 2 * math.pi * np.arange(len(joints)) / 30 / period

    def miss(motion, limbs):
        posed = angles(motion.coefficients, phase + time)
        squares = [(a[f"{limb}_theta"] - b[f"{limb}_theta"]) ** 2 for a, b in zip(sides, posed, strict=True) for limb in limbs]
        return math.degrees(math.sqrt(np.mean(squares)))

    motion = gait(action, speed)
    assert motion.period == pytest.approx(period, rel=0.06)
    assert miss(motion, LIMBS) < 16
    assert miss(motion, ("thigh", "shank")) < 9
    other = gait("running", 3.0) if action == "walking" else gait("walking", 1.3)
    assert miss(other, LIMBS) > 1.8 * miss(motion, LIMBS)


# Painting


def paint_slowly(canvas, capsules, gray, depth, light, softness):
    """Pixel by pixel, the nearest point of each segment found by ternary search."""
    for f in range(len(canvas)):
        for i in sorted(range(len(gray)), key=lambda i: -depth[f, i]):
            start, end = capsules.start[f, i], capsules.end[f, i]
            for row in range(canvas.shape[1]):
                for column in range(canvas.shape[2]):
                    pixel = np.array([row + 0.5, column + 0.5])
                    low, high = 0.0, 1.0
                    for _ in range(60):
                        a, b = low + (high - low) / 3, high - (high - low) / 3
                        far = [np.linalg.norm(pixel - start - t * (end - start)) for t in (a, b)]
                        low, high = (low, b) if far[0] < far[1] else (a, high)
                    across = pixel - start - low * (end - start)
                    radius = capsules.radius[f, i, 0] * (1 - low) + capsules.radius[f, i, 1] * low
                    cover = min(max((radius - np.linalg.norm(across)) / softness[f, i] + 0.5, 0), 1)
                    shade = 1 - light[0] * across[0] / radius + light[1] * across[1] / radius
                    canvas[f, row, column] += cover * (gray[i] * shade - canvas[f, row, column])


def test_paint_agrees_with_painting_slowly():
    rng = np.random.default_rng(3)
    start, end = rng.uniform(-4, 18, (2, 2, 3, 2))
    capsules = Capsules(start, end, rng.uniform(1, 4, (2, 3, 2)))
    gray, depth, light = rng.uniform(0, 200, 3), rng.random((2, 3)), np.array([0.3, -0.2])
    softness = rng.uniform(0.8, 3, (2, 3))
    fast, slow = np.full((2, 14, 15), 99, np.float32), np.full((2, 14, 15), 99.0)
    paint(fast, capsules, gray, depth, light, softness)
    paint_slowly(slow, capsules, gray, depth, light, softness)
    assert np.abs(slow - 99).max() > 50
    np.testing.assert_allclose(fast, slow, atol=0.01)


def test_silhouette_is_the_union_and_capsules_outside_leave_no_trace():
    start = np.array([[[5, 5], [8, 5], [40, 90]]], float)
    capsules = Capsules(start, start + np.array([0, 6]), np.full((1, 3, 2), 3.0))
    cover = silhouette((1, 20, 20), capsules, np.ones((1, 3)))
    assert cover[0, 5:9, 5:11].min() == 1 and cover.max() == 1
    assert cover[0, 14:].max() == 0 and cover[0, :, 17:].max() == 0


# Tempo


@pytest.mark.parametrize("scenario", [1, 2, 4])
@pytest.mark.parametrize("action", ACTIONS)
def test_tempo_two_shows_every_frame_of_tempo_one(action, scenario):
    start = duration(action, 11, scenario, 1) / 2 - 0.2
    one, two = (render(action, 11, scenario, 1, n, tempo, start=start, size=SMALL) for n, tempo in ((6, 1.0), (12, 2.0)))
    np.testing.assert_array_equal(two[::2], one)
    assert (two[1::2] != one).mean() > 0.2


@pytest.mark.parametrize(("tempo", "every", "of_one"), [(0.5, 1, 2), (1.5, 3, 2), (3.0, 3, 1), (0.75, 3, 4), (math.pi, 0, 0)])
def test_equal_motion_times_are_equal_frames(tempo, every, of_one):
    options = {"seed": 3, "start": 0.37, "size": SMALL}
    one, other = render("walking", 2, 2, 3, 9, **options), render("walking", 2, 2, 3, 9, tempo, **options)
    np.testing.assert_array_equal(one[0], other[0])
    for k in range(1, 3):
        if every and max(k * every, k * of_one) < 9:
            np.testing.assert_array_equal(other[k * every], one[k * of_one])
    # Frame rate and tempo are one thing for the motion.
    np.testing.assert_array_equal(
        render("walking", 2, 2, 3, 4, 2.0, **options), render("walking", 2, 2, 3, 4, 1.0, fps=50, **options)
    )


def test_the_middle_of_the_action_is_the_middle_of_the_clip_at_any_tempo():
    plain, slow = (Actions("test", n, 1, tempo, actions=["running"], scenarios=[1], repetitions=[1, 2], size=(30, 40))
                   for n, tempo in ((9, 1.0), (17, 2.0)))  # fmt: skip
    assert torch.equal(slow.clips[:, :, ::2], plain.clips)


# Clips


@pytest.mark.parametrize("repetition", [1, 2])
@pytest.mark.parametrize("action", GAITS)
def test_gaits_enter_and_leave_the_frame(action, repetition):
    length = round(25 * duration(action, 12, 1, repetition))
    clip = render(action, 12, 1, repetition, length, size=SMALL)
    seen = actor(clip)
    lead = int(25 * LEAD)
    assert seen[:lead].sum() < 10 and seen[-lead:].sum() < 10
    assert seen[length // 2].sum() > 150
    present = np.flatnonzero(seen.sum((1, 2)) > 60)
    assert present[0] <= lead + length // 6 and present[-1] >= length - lead - length // 6 - 1
    column = [np.average(np.arange(80), weights=frame.sum(0)) for frame in seen[present]]
    direction = np.sign(column[-1] - column[0])
    assert abs(column[-1] - column[0]) > 55 and (direction * np.diff(column) > -1).all()
    heading = draw_take(0, action, 12, 1, repetition).heading
    assert np.sign(math.cos(heading)) == direction
    assert math.cos(heading) * math.cos(draw_take(0, action, 12, 1, repetition + 1).heading) < 0


@pytest.mark.parametrize("action", GAITS)
def test_gaits_cross_at_the_speeds_of_kth(action):
    """Body heights a second, measured on 12 real clips outdoors: 0.72 to 0.82, 1.19 to 1.33, and 1.9 to 2.3."""
    low, high = {"walking": (0.6, 0.95), "jogging": (1.05, 1.6), "running": (1.7, 2.6)}[action]
    speeds = [draw_take(0, action, n, 1, 1).motion.speed / draw_subject(0, n).height for n in range(1, 26)]
    assert low < min(speeds) and max(speeds) < high


@pytest.mark.parametrize("action", [a for a in ACTIONS if a not in GAITS])
def test_actions_on_the_spot_repeat_with_their_period(action):
    period = draw_take(0, action, 13, 1, 1).motion.period
    assert duration(action, 13, 1, 1) == pytest.approx(4 * period)
    clip = render(action, 13, 1, 1, 9, fps=4 / period).astype(float)

    def moved(a, b):
        return (np.abs(clip[a] - clip[b]) > 45).sum()

    for k in range(4):
        assert moved(k, k + 4) == 0
    # Two punches a period look alike from the side, so a quarter of it is what differs.
    assert max(moved(0, 1), moved(1, 2)) > 40


def test_seeds_subjects_and_repetitions_differ():
    base = ("handwaving", 5, 1, 1)
    chosen: list[tuple[str, int, int, int]] = [
        base,
        ("boxing", 5, 1, 1),
        ("handwaving", 6, 1, 1),
        ("handwaving", 5, 3, 1),
        ("handwaving", 5, 1, 2),
    ]
    made = [render(*part, 4, size=SMALL) for part in chosen] + [render(*base, 4, seed=1, size=SMALL)]
    assert len({digest(clip) for clip in made}) == len(made)
    assert digest(render(*base, 4, size=SMALL)) == digest(made[0])


def test_the_same_bits_whatever_threads_chunks_and_number_of_frames(monkeypatch):
    part = ("jogging", 4, 3, 2)
    start = duration(*part) / 2 - 0.5
    clip = render(*part, 24, start=start, size=SMALL)
    np.testing.assert_array_equal(render(*part, 5, start=start, size=SMALL), clip[:5])
    monkeypatch.setattr(clips, "CHUNK", 5)
    np.testing.assert_array_equal(render(*part, 24, start=start, size=SMALL), clip)
    code = (
        "import torch, hashlib; torch.set_num_threads(3)\n"
        "from stdcf_lib.data.actions import render\n"
        f"print(hashlib.sha256(render(*{part}, 24, start={start!r}, size={SMALL}).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert other.stdout.strip() == digest(clip)


@pytest.mark.parametrize(
    ("part", "expected"),
    [  # in coats, with bags, near and far, in the house
        (("boxing", 18, 3, 1), (126.749, 24.185, 905)),
        (("boxing", 9, 2, 1), (112.424, 13.470, -396)),
        (("running", 24, 3, 2), (204.152, 33.090, 563)),
        (("walking", 2, 2, 1), (136.109, 21.497, 358)),
        (("handwaving", 1, 4, 3), (179.916, 42.103, 530)),
        (("jogging", 11, 1, 4), (136.924, 23.798, 1574)),
        (("handclapping", 25, 3, 1), (129.173, 28.973, -655)),
    ],
)
def test_clips_are_those_that_runs_were_trained_on(part: Any, expected):
    """Mean, spread, and a sum in which every pixel has its own weight; other arithmetic may round a few the other way."""
    clip = render(*part, frames=4, start=None, fps=5, size=SMALL).astype(float)
    found = clip.mean(), clip.std(), clip.ravel() @ np.cos(np.arange(clip.size))
    for value, wanted, tolerance in zip(found, expected, (0.002, 0.002, 6), strict=True):
        assert value == pytest.approx(wanted, abs=tolerance)


def test_data_set_follows_the_official_split():
    sizes = {"frames": 2, "size": (12, 16), "actions": ["boxing", "walking"], "scenarios": [1, 4], "repetitions": [2]}
    for split, subjects in SPLITS.items():
        made = Actions(split, **sizes)
        assert set(made.subject.tolist()) == set(subjects) and len(made) == 4 * len(subjects)
    everyone = Actions(None, **sizes)
    assert sorted(set(everyone.subject.tolist())) == list(range(1, 26))
    i = 37
    subject, scenario, repetition = (int(x[i]) for x in (everyone.subject, everyone.scenario, everyone.repetition))
    alone = render(ACTIONS[everyone.action[i]], subject, scenario, repetition, 2, start=None, fps=12.5, size=(12, 16))
    np.testing.assert_array_equal(everyone.clips[i, 0], alone)
    assert everyone.clips.shape == (100, 1, 2, 12, 16) and everyone.clips.dtype == torch.uint8
    item = everyone[i]
    assert item.dtype == torch.float32 and 0 <= item.min() < item.max() <= 1
    assert torch.equal((item * 255).round().byte(), everyone.clips[i])


@pytest.mark.parametrize("scenario", [1, 2, 3, 4])
def test_pictures_are_gray_with_a_body_that_stands_out(scenario):
    clip = render("boxing", 9, scenario, 1, 2)
    assert clip.shape == (2, 120, 160) and clip.dtype == np.uint8
    assert 60 < clip.mean() < 245 and clip.std() > 8
    ground = draw_scene(0, 9, scenario, (120, 160)).ground
    body = np.abs(clip[0] - ground) > 40
    assert 300 < body.sum() < 5000


def test_scenarios_are_what_they_say():
    for n in range(1, 26):
        assert draw_subject(0, n).height == draw_subject(0, n, other_clothes=True).height
    # 3: a dark pullover in the first scenario, a bright one in the third.
    changed = [(n, draw_subject(0, n).gray["torso"], draw_subject(0, n, True).gray["torso"]) for n in range(1, 26)]
    number, _, bright = next((n, dark, bright) for n, dark, bright in changed if dark < 70 and bright > 150)
    for scenario, many in ((1, False), (3, True)):
        chest = render("handwaving", number, scenario, 1, 1)[0, 40:80, 60:100]
        ground = draw_scene(0, number, scenario, (120, 160)).ground[40:80, 60:100]
        of_that_gray = (np.abs(chest - bright) < 25) & (np.abs(chest - ground) > 15)
        assert (of_that_gray.sum() > 200) == many
    # 2: the zoom makes the body larger and smaller; the walk at a slant takes him nearer or farther, as far as KTH's.
    take = draw_take(0, "handwaving", 3, 2, 1)
    assert take.zoom[0] > 0.1 and draw_take(0, "handwaving", 3, 1, 1).zoom[0] == 0
    dark = next(n for n in range(1, 26) if max(draw_subject(0, n).gray[part] for part in ("torso", "legs")) < 60)
    _, period, offset = draw_take(0, "boxing", dark, 2, 1).zoom
    near, far = (((quarter * math.pi / 2 - offset) / (2 * math.pi) % 1) * period for quarter in (1, 3))
    bodies = [(render("boxing", dark, 2, 1, 1, start=t)[0] < 80).sum(1) > 2 for t in (near, far)]
    heights = [np.ptp(np.flatnonzero(rows)) for rows in bodies]
    assert heights[0] > 1.2 * heights[1] > 50
    tall = {}
    for scenario in (1, 2):
        length = round(25 * duration("walking", 3, scenario, 1))
        seen = actor(render("walking", 3, scenario, 1, length))
        tall[scenario] = [np.ptp(np.flatnonzero(seen[k].sum(1) > 1)) for k in (length // 4, length - length // 4)]
    assert max(tall[1]) < 1.06 * min(tall[1]) and max(tall[2]) > 1.1 * min(tall[2])
    # 4: the floor is darker than the wall.
    ground = draw_scene(0, 3, 4, (120, 160)).ground
    assert ground[110:].mean() < 0.9 * ground[40:80].mean()
    with pytest.raises(ValueError, match="read-only"):  # a scene is drawn once, for all of its clips
        ground += 1


def test_sizes_show_the_same_picture():
    large, small = (render("handclapping", 8, 3, 1, 2, size=size).astype(float) for size in ((120, 160), SMALL))
    means = large.reshape(2, 60, 2, 80, 2).mean((2, 4))
    assert np.corrcoef(means.ravel(), small.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "dancing"}, "action='dancing': choose 'boxing', .* or 'walking'"),
        ({"subject": 26}, "subject=26: give an integer from 1 to 25"),
        ({"subject": 0}, "subject=0: give an integer from 1 to 25"),
        ({"scenario": 5}, "scenario=5: give an integer from 1 to 4"),
        ({"repetition": 1.5}, r"repetition=1\.5: give an integer from 1 to 4"),
        ({"frames": 0}, "frames=0: give an integer of at least 1"),
        ({"tempo": 0}, "tempo=0: give a finite number above 0"),
        ({"tempo": math.nan}, "tempo=nan: give a finite number above 0"),
        ({"tempo": "2"}, "tempo='2': give a finite number above 0"),
        ({"fps": -25}, "fps=-25: give a finite number above 0"),
        ({"start": math.inf}, "start=inf: give a finite number"),
        ({"seed": -1}, "seed=-1: give an integer of at least 0"),
        ({"size": 60}, r"size=60: give 2 integers of at least 1 \(rows, columns\)"),
        ({"size": (60, 60)}, r"size=\(60, 60\): give 3 : 4 with at least 12 rows"),
    ],
)
def test_bad_arguments_of_render(change, message):
    good = {"action": "boxing", "subject": 1, "scenario": 1, "repetition": 1, "frames": 1}
    with pytest.raises(ValueError, match=message):
        render(**good | change)


def test_numpy_numbers_will_do():
    plain = render("boxing", 3, 2, 1, 2, tempo=0.5, start=1.0, size=(30, 40))
    size = np.array([30, 40])
    make: Any = render
    one = make(
        "boxing", np.int64(3), np.int32(2), np.uint8(1), np.int64(2), np.float32(0.5), np.int64(0), np.float32(1), size=size
    )
    assert (one == plain).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev': choose 'train', 'validation', 'test' or None"),
        ({"split": "test", "actions": []}, r"actions=\[\]: name at least one of boxing"),
        ({"split": "test", "actions": "boxing"}, "actions='b': choose 'boxing'"),
        ({"split": "test", "scenarios": []}, r"scenarios=\[\]: give integers of at least 1"),
        ({"split": "test", "stride": 0}, "stride=0: give an integer of at least 1"),
    ],
)
def test_bad_arguments_of_the_data_set(options, message):
    with pytest.raises(ValueError, match=message):
        Actions(**options)


def test_motions_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="action='boxing': choose 'walking', 'jogging' or 'running'"):
        gait("boxing", 1.0)
    with pytest.raises(ValueError, match=r"speed=3: give a finite number of at least 0\.7 and of at most 2"):
        gait("walking", 3)
    with pytest.raises(ValueError, match="action='running': choose 'boxing', 'handclapping' or 'handwaving'"):
        modelled("running", 1.0)
