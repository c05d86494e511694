"""Makes gaits.json from recorded takes: `python -m stdcf_lib.data.actions.make_gaits FOLDER`.

FOLDER holds takes of the CMU Graphics Lab Motion Capture Database: `joints.npz`, each take (frames, 17, 3) in metres, x
forward, y left, z up, 30 frames a second, with `joint_names`; and `takes.csv` with the columns `id`, `action` and `speed_m_s`.
The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217.
"""

import argparse
import csv
import json
import math
import os
import re
from pathlib import Path

import numpy as np
from numpy import ndarray
from scipy.optimize import minimize_scalar

from stdcf_lib.data.actions.motion import ASSET, CHANNELS, GAITS, HARMONICS, JOINTS, LIMBS, MIDDLE, TURNS, waves

CREDIT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. "
    "The database was created with funding from NSF EIA-0196217."
)
# Kept out of the asset, one recorded person or more per gait, for the renderer to be checked against.
HELD_OUT = ("walk_cmu06", "walk_cmuX37", "jog_cmu02", "run_cmuR4")
PERIODS = np.arange(0.5, 1.6, 0.02)  # seconds: candidates for a stride's


def read_takes(folder: str | Path) -> dict[str, tuple[str, float, ndarray]]:
    """The gait, speed (m/s) and joints (frames, 17, 3) at 30 fps of every take in folder, by id."""
    folder = Path(folder)
    with open(folder / "takes.csv", newline="") as file, np.load(folder / "joints.npz") as stored:
        if tuple(stored["joint_names"]) != JOINTS:
            raise ValueError(f"joints.npz in {folder} has the joints {stored['joint_names']}; needed are {JOINTS}")
        return {
            row["id"]: (row["action"], float(row["speed_m_s"]), stored[row["id"]].astype(float)) for row in csv.DictReader(file)
        }


def channels(joints: ndarray) -> tuple[dict[str, ndarray], dict[str, ndarray]]:
    """The channels of `motion` read off joints (frames, 17, 3): left and right, each name (frames,)."""
    at: dict[str, ndarray] = dict(zip(JOINTS, np.moveaxis(joints, -2, 0), strict=True))

    def lean(limb: ndarray) -> ndarray:
        return np.arctan2(limb[:, 0], limb[:, 2])

    def turn(side: ndarray) -> ndarray:
        return np.arctan2(-side[:, 0], side[:, 1])

    hips = (at["l_hip"] + at["r_hip"]) / 2
    leg = np.linalg.norm(at["l_knee"] - at["l_hip"], axis=-1) + np.linalg.norm(at["l_ankle"] - at["l_knee"], axis=-1)
    middle = {
        "trunk": lean(at["neck"] - hips),
        "head": lean(at["head"] - at["neck"]),
        "shoulder_turn": turn(at["l_shoulder"] - at["r_shoulder"]),
        "hip_turn": turn(at["l_hip"] - at["r_hip"]),
        "hip_height": hips[:, 2] / leg,
    }
    sides = []
    for side, sign in (("l", 1), ("r", -1)):
        found = dict(middle)
        for limb, (start, end) in LIMBS.items():
            bone = at[f"{side}_{end}"] - at[f"{side}_{start}"]
            bone = bone / np.linalg.norm(bone, axis=-1, keepdims=True)
            found[f"{limb}_theta"] = np.unwrap(np.arctan2(bone[:, 0], -bone[:, 2]))
            found[f"{limb}_beta"] = np.arcsin(np.clip(sign * bone[:, 1], -1, 1))
        sides.append(found)
    return sides[0], sides[1]


def fit(joints: ndarray, fps: float = 30.0) -> tuple[ndarray, float, float]:
    """The series (channels, 1 + 2·HARMONICS) nearest to joints (frames, 17, 3), its period, and the phase at frame 0.

    Least squares over both sides at once, which makes the gait symmetric: what limps in a take is averaged out. The phase is
    0 when the left thigh's first harmonic is foremost.
    """
    left, right = channels(joints)
    time = np.arange(len(joints)) / fps

    def miss(period: float) -> float:
        return _fit(left, right, 2 * math.pi * time / period)[1]

    near = min(PERIODS, key=miss)
    found = minimize_scalar(miss, bounds=(near - 0.02, near + 0.02), method="bounded")
    period = float(found.x)  # pyright: ignore[reportAttributeAccessIssue]
    coefficients, _ = _fit(left, right, 2 * math.pi * time / period)
    a, b = coefficients[CHANNELS.index("thigh_theta"), 1:3]
    shift = math.atan2(b, a)
    return _shifted(coefficients, shift), period, -shift


def _shifted(coefficients: ndarray, shift: float) -> ndarray:
    """The series q(φ + shift) of the series q."""
    shifted = coefficients.copy()
    for h in range(1, HARMONICS + 1):
        a, b = coefficients[:, 2 * h - 1], coefficients[:, 2 * h]
        cos, sin = math.cos(h * shift), math.sin(h * shift)
        shifted[:, 2 * h - 1], shifted[:, 2 * h] = a * cos + b * sin, b * cos - a * sin
    return shifted


def _fit(left: dict[str, ndarray], right: dict[str, ndarray], phase: ndarray) -> tuple[ndarray, float]:
    """The nearest series at phases (frames,), and the sum of squares by which it misses."""
    # What both sides share repeats every half period, and turns change their sign then: even and odd harmonics only.
    even = [0] + [c for h in range(2, HARMONICS + 1, 2) for c in (2 * h - 1, 2 * h)]
    odd = [c for h in range(1, HARMONICS + 1, 2) for c in (2 * h - 1, 2 * h)]
    ours, theirs = waves(phase), waves(phase + math.pi)
    coefficients, error = np.zeros((len(CHANNELS), ours.shape[1])), 0.0
    for i, name in enumerate(CHANNELS):
        if name in MIDDLE:
            kept, design, target = (odd if name in TURNS else even), ours, left[name]
        else:
            kept, design, target = slice(None), np.concatenate([ours, theirs]), np.concatenate([left[name], right[name]])
        solution = np.linalg.lstsq(design[:, kept], target, rcond=None)[0]
        coefficients[i, kept] = solution
        error += float(((target - design[:, kept] @ solution) ** 2).sum())
    return coefficients, error


def measure_gaits(folder: str | Path) -> dict:
    """The content of gaits.json: period, speed and series of every take in folder but the held-out ones."""
    takes = []
    for name, (gait, speed, joints) in read_takes(folder).items():
        if name not in HELD_OUT:
            coefficients, period, _ = fit(joints)
            series = {c: [round(float(v), 4) + 0.0 for v in row] for c, row in zip(CHANNELS, coefficients, strict=True)}
            takes.append({"take": name, "gait": gait, "speed": speed, "period": round(period, 4), "series": series})
    return {"credit": CREDIT, "takes": sorted(takes, key=lambda take: (GAITS.index(take["gait"]), take["take"]))}


def write_gaits(content: dict, path: str | Path) -> None:
    """Write content as JSON, a series to a line, whole or not at all."""
    text = json.dumps(content, indent=1)
    # json puts every number on a line of its own; join those of a series.
    text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text + "\n")
    os.replace(unfinished, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stdcf_lib.data.actions.make_gaits", description="Make gaits.json.")
    parser.add_argument("folder", help="folder with joints.npz and takes.csv")
    parser.add_argument("path", nargs="?", type=Path, default=ASSET, help="where to write; default: into the package")
    arguments = parser.parse_args()
    write_gaits(measure_gaits(arguments.folder), arguments.path)
    print(f"wrote {arguments.path.name}: {arguments.path.stat().st_size / 1e3:.1f} kB")
