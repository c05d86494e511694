"""How the six actions move: joint angles as Fourier series of a phase, and the skeleton they pose.

The body stands upright along z, looks along x, and has its left side along y. A limb's direction is given by two angles:
θ, in the sagittal plane from straight down, positive to the front, and β, out of that plane, positive away from the body:

    direction = (cos β sin θ, ± sin β, -cos β cos θ)        + left, - right

The channel q of the left side at phase φ is the series q(φ) = a₀ + Σ_h a_h cos hφ + b_h sin hφ; the right side does the same
half a period apart, q(φ + π), or at once where both arms move together. Angles are in radians, lengths in metres, times in
seconds, speeds in metres a second.

Walking, jogging and running are measured: `gaits.json`, made by `make_gaits`, holds the series of recorded takes. The data used
in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217.
Boxing, hand waving and hand clapping are modelled [ours]: poses, rates and their spread were set by eye and by the
autocorrelation of frames in real KTH clips; there is no motion capture behind them.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from stdcf_lib.checks import choice, number
from stdcf_lib.data.kth_protocol import ACTIONS

ASSET = Path(__file__).with_name("gaits.json")
HARMONICS = 4

GAITS = ("walking", "jogging", "running")

# The middle of the body has one of each: the lean of trunk and head (θ from straight *up*), the turn of shoulders and hips
# about z, positive to the left, and the height of the hips over the length of thigh and shank together.
MIDDLE = ("trunk", "head", "shoulder_turn", "hip_turn", "hip_height")
LIMBS = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shank": ("knee", "ankle"),
    "foot": ("ankle", "toe"),
}
SIDES = tuple(f"{limb}_{angle}" for limb in LIMBS for angle in ("theta", "beta"))
CHANNELS = MIDDLE + SIDES
TURNS = ("shoulder_turn", "hip_turn")

THIGH, SHANK = 0.245, 0.246  # of the body height, as are all lengths in `skeleton`
LEG = THIGH + SHANK

JOINTS = (
    "pelvis", "neck", "head",
    "l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist",
    "l_hip", "l_knee", "l_ankle", "l_toe", "r_hip", "r_knee", "r_ankle", "r_toe",
)  # fmt: skip


class Motion(NamedTuple):
    """One subject doing one action, for ever."""

    coefficients: ndarray
    """(channels, 1 + 2·HARMONICS): a₀, a₁, b₁, a₂, b₂, … of each channel."""
    period: float
    """Seconds: a stride (two steps), two punches, one wave, one clap."""
    speed: float
    """Metres a second along x; 0 for the actions on the spot."""
    apart: float = math.pi
    """The phase between left and right: π if they take turns, 0 if both do the same at once."""


def waves(phase: ndarray) -> ndarray:
    """1, cos φ, sin φ, cos 2φ, sin 2φ, … of phases (...): (..., 1 + 2·HARMONICS)."""
    order = np.arange(1, HARMONICS + 1) * np.asarray(phase)[..., None]
    pairs = np.stack([np.cos(order), np.sin(order)], -1)
    return np.concatenate([np.ones((*np.shape(phase), 1)), pairs.reshape(*np.shape(phase), -1)], -1)


def angles(coefficients: ndarray, phase: ndarray, apart: float = math.pi) -> tuple[dict[str, ndarray], dict[str, ndarray]]:
    """The channels at phases (...), each (...): those of the left side, and those of the right. They share the middle."""
    left = dict(zip(CHANNELS, np.moveaxis(waves(phase) @ coefficients.T, -1, 0), strict=True))
    right = dict(zip(CHANNELS, np.moveaxis(waves(phase + apart) @ coefficients.T, -1, 0), strict=True))
    return left, left | {name: right[name] for name in SIDES}


def skeleton(coefficients: ndarray, phase: ndarray, height: float = 1.75, apart: float = math.pi) -> ndarray:
    """Where the 17 `JOINTS` are at phases (...), in metres: (..., 17, 3), pelvis over the origin, ground at z = 0.

    Limb lengths are the usual fractions of the body height (Drillis and Contini, 1966; Winter, *Biomechanics and Motor
    Control of Human Movement*).
    """
    left, right = angles(coefficients, phase, apart)
    zero = np.zeros_like(left["trunk"])
    pelvis = np.stack([zero, zero, left["hip_height"] * LEG * height], -1)

    def up(lean: ndarray) -> ndarray:
        return np.stack([np.sin(lean), zero, np.cos(lean)], -1)

    def aside(turn: ndarray) -> ndarray:
        return np.stack([-np.sin(turn), np.cos(turn), zero], -1)

    chest = pelvis + 0.288 * height * up(left["trunk"])
    neck = chest + 0.035 * height * up(left["trunk"])
    joints = [pelvis, neck, neck + 0.115 * height * up(left["head"])]
    for side, sign in ((left, 1), (right, -1)):
        shoulder = chest + sign * 0.112 * height * aside(side["shoulder_turn"])
        elbow = shoulder + 0.186 * height * direction(side, "upper_arm", sign)
        joints += [shoulder, elbow, elbow + 0.150 * height * direction(side, "forearm", sign)]
    for side, sign in ((left, 1), (right, -1)):
        hip = pelvis + sign * 0.055 * height * aside(side["hip_turn"])
        knee = hip + THIGH * height * direction(side, "thigh", sign)
        ankle = knee + SHANK * height * direction(side, "shank", sign)
        joints += [hip, knee, ankle, ankle + 0.09 * height * direction(side, "foot", sign)]
    return np.stack(joints, -2)


def direction(side: dict[str, ndarray], limb: str, sign: int) -> ndarray:
    """The unit vector (..., 3) along a limb, from the body outwards; sign is 1 on the left and -1 on the right."""
    theta, beta = side[f"{limb}_theta"], side[f"{limb}_beta"]
    return np.stack([np.cos(beta) * np.sin(theta), sign * np.sin(beta), -np.cos(beta) * np.cos(theta)], -1)


def gait(action: str, speed: float, style: ndarray | None = None) -> Motion:
    """Walking, jogging or running at a speed in m/s, from the recorded takes.

    Series and period are lines in the speed, fitted to the takes by least squares: one line for walking, one for jogging and
    running together, which the takes show to be one way of moving at two speeds.

    Args:
        action: one of GAITS.
        speed: in m/s, 0.7 to 2 for walking, 1.7 to 4.5 for jogging and running: the takes say nothing beyond.
        style: one weight per take of that fit (`styles(action)` of them), adding so much of what the take has beyond the
            line.

    Raises:
        ValueError: for another action, and for a speed far from those of the takes.
    """
    choice("action", action, GAITS)
    speed = number("speed", speed, *((0.7, 2.0) if action == "walking" else (1.7, 4.5)))
    mean_speed, line, residuals = _fitted(action == "walking")
    found = line[0] + (speed - mean_speed) * line[1]
    if style is not None:
        found = found + np.asarray(style) @ residuals
    return Motion(found[:-1].reshape(len(CHANNELS), -1), float(found[-1]), speed)


def styles(action: str) -> int:
    """How many takes `gait` has to blend for an action."""
    return len(_fitted(action == "walking")[2])


@cache
def _fitted(walking: bool) -> tuple[float, ndarray, ndarray]:
    takes = [take for take in json.loads(ASSET.read_text())["takes"] if (take["gait"] == "walking") == walking]
    speeds = np.array([take["speed"] for take in takes])
    values = np.array([[*np.ravel([take["series"][name] for name in CHANNELS]), take["period"]] for take in takes])
    design = np.stack([np.ones(len(takes)), speeds - speeds.mean()], -1)
    line = np.linalg.lstsq(design, values, rcond=None)[0]
    return float(speeds.mean()), line, values - design @ line


def modelled(action: str, period: float, reach: float = 0.5, lift: float = 0.5, lag: float = 0.5) -> Motion:
    """Boxing, hand clapping or hand waving [ours]: arms that swing between two poses, with one period.

    Args:
        action: "boxing", "handclapping" or "handwaving".
        period: in seconds.
        reach, lift, lag: in [0, 1], personal traits: how far the arms go, how high, and how round their path is.

    Raises:
        ValueError: for another action.
    """
    choice("action", action, (name for name in ACTIONS if name not in GAITS))
    degrees = {name: np.zeros(1 + 2 * HARMONICS) for name in CHANNELS}

    def swing(name: str, low: float, high: float, late: float = 0.0) -> None:
        # From low at phase 0 to high at π and back, the sine part makes a limb late by about so many radians.
        half = (high - low) / 2
        degrees[name][:3] = (low + high) / 2, -half * math.cos(late), -half * math.sin(late)

    def pulse(name: str, rest: float, peak: float) -> None:
        # ((1 + cos φ) / 2)²: near the peak for a third of the period, at rest for the other two.
        degrees[name][:4] = rest + (peak - rest) * 3 / 8, (peak - rest) / 2, 0, (peak - rest) / 8

    if action == "handwaving":
        swing("upper_arm_beta", 12 + 26 * (1 - reach), 134 + 22 * lift)
        swing("forearm_beta", 10 + 26 * (1 - reach), 180 + 30 * lift, late=0.35 * lag)
        swing("upper_arm_theta", 4, 12)
        swing("forearm_theta", 12, 14)
        swing("trunk", 0, -2)
    elif action == "handclapping":
        swing("upper_arm_theta", 42 + 16 * lift, 14 + 10 * lift)
        swing("upper_arm_beta", 2, 48 + 26 * reach)
        swing("forearm_theta", 98 + 32 * lift, 100 + 30 * lift)
        swing("forearm_beta", -40, 58 + 26 * reach, late=0.2 * lag)
        # On a round path the hands sink after the clap and open from below.
        degrees["upper_arm_theta"][2] -= 22 * lag
        degrees["forearm_theta"][2] -= 58 * lag
    else:
        pulse("upper_arm_theta", -6 + 24 * (1 - reach), 76 + 14 * lift)
        pulse("forearm_theta", 104 + 26 * lift, 86 + 8 * lift)
        pulse("upper_arm_beta", 20, 2)
        pulse("forearm_beta", -18, -6)
        degrees["shoulder_turn"][1] = -10 - 16 * reach
        degrees["hip_turn"][1] = -3 - 6 * reach
        degrees["trunk"][0], degrees["trunk"][3] = 3 + 4 * lag, 1.5
    bend = 6 + 10 * lag if action == "boxing" else 1
    degrees["head"][0] = 4
    degrees["thigh_theta"][0], degrees["shank_theta"][0], degrees["foot_theta"][0] = bend, -bend, 78
    degrees["thigh_beta"][0], degrees["shank_beta"][0], degrees["foot_beta"][0] = 3, 0, 22
    coefficients = np.radians(np.stack([degrees[name] for name in CHANNELS]))
    return Motion(coefficients, period, 0.0, apart=math.pi if action == "boxing" else 0.0)


def grounded(coefficients: ndarray) -> ndarray:
    """The series with the mean height of the hips such that in a period the lowest toe or ankle comes down to the ground.

    Feet have a thickness: ankles rest 4 %, toes 2 % of the body height above the ground.
    """
    joints = skeleton(coefficients, 2 * math.pi * np.arange(64) / 64, height=1.0)
    feet = [JOINTS.index(f"{side}_{joint}") for joint in ("ankle", "toe") for side in "lr"]
    lowest = (joints[:, feet, 2] - [0.04, 0.04, 0.02, 0.02]).min()
    settled = coefficients.copy()
    settled[CHANNELS.index("hip_height"), 0] -= lowest / LEG
    return settled
