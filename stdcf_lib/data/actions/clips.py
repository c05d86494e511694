"""Rendered clips of the six KTH actions: `render` draws one, `Actions` is a data set of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.utils.data import Dataset

from stdcf_lib.checks import choice, number, whole, wholes
from stdcf_lib.data.actions.cast import (
    FOCAL,
    HEIGHT,
    LEAD,
    REPETITIONS,
    SCENARIOS,
    SUBJECTS,
    WIDTH,
    Scene,
    Subject,
    Take,
    draw_scene,
    draw_subject,
    draw_take,
    sample,
)
from stdcf_lib.data.actions.motion import JOINTS, skeleton
from stdcf_lib.data.actions.pixels import Capsules, paint, silhouette
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS

FPS = 25.0
FLICKER = 0.4  # seconds
EXPOSURE = 0.016  # seconds
EDGE = 1.1  # pixels: how soft the edge of what stands still is
CHUNK = 16  # frames painted at a time; changes memory and speed only


class Actions(Dataset):
    """One rendered clip for each action, subject, scenario and repetition. `.clips` is uint8 (n, 1, frames, height, width).

    Indexing gives a clip as the networks take it: float32 (1, frames, height, width) in [0, 1]. `.action`, the place in
    ACTIONS, `.subject`, `.scenario` and `.repetition` are int64 (n,). Frames, stride and size are those of `KTH`.

    Args:
        split: "train", "validation" or "test", KTH's official split by subject; None for all 25 subjects.
        frames, stride: a clip shows every stride-th of the frames that KTH's camera would take, 25 a second; `frames` of
            them.
        tempo: 2 for half speed, any positive number, see `render`.
        size: (height, width) of a frame, which are drawn at that size.
        start: motion time of the first frame in seconds; None puts the middle of the clip into the middle of the action.
        actions, scenarios, repetitions: which to render; leaving some out leaves the others as they are.
        seed: same seed, same clips, bit for bit, whatever the thread count; a clip does not depend on which others there
            are.

    Raises:
        ValueError: for an argument that makes no clips.
    """

    def __init__(
        self,
        split: str | None,
        frames: int = 16,
        stride: int = 2,
        tempo: float = 1.0,
        size: tuple[int, int] = (60, 80),
        start: float | None = None,
        actions: Sequence[str] = ACTIONS,
        scenarios: Sequence[int] = SCENARIOS,
        repetitions: Sequence[int] = REPETITIONS,
        seed: int = 0,
    ) -> None:
        choice("split", split, (*SPLITS, None))
        subjects = SUBJECTS if split is None else SPLITS[split]
        scenarios, repetitions = wholes("scenarios", scenarios), wholes("repetitions", repetitions)
        named = [choice("actions", action, ACTIONS) for action in actions]
        if not named:
            raise ValueError(f"actions={actions!r}: name at least one of {', '.join(ACTIONS)}")
        parts = [(a, p, d, r) for p in subjects for d in scenarios for a in named for r in repetitions]
        fps = FPS / whole("stride", stride)
        rendered = [render(*part, frames, tempo, seed, start, fps, size) for part in parts]
        self.clips = torch.from_numpy(np.stack(rendered))[:, None]
        self.action = torch.tensor([ACTIONS.index(part[0]) for part in parts])
        self.subject, self.scenario, self.repetition = torch.tensor([part[1:] for part in parts]).unbind(1)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        return self.clips[index].float() / 255


def duration(action: str, subject: int, scenario: int, repetition: int, seed: int = 0) -> float:
    """Seconds at tempo 1 that an action takes.

    A gait's: from `LEAD` seconds before its actor comes in sight to as long after he left. Of the actions on the spot, which
    go on for ever, four periods.

    Args:
        action, subject, scenario, repetition, seed: as for `render`.

    Raises:
        ValueError: for an argument out of its range.

    Example:
        >>> round(duration("walking", 3, 2, 1), 2)
        6.12
    """
    action, subject, scenario, repetition, seed = _checked(action, subject, scenario, repetition, seed)
    return _duration(draw_take(seed, action, subject, scenario, repetition))


def render(
    action: str,
    subject: int,
    scenario: int,
    repetition: int,
    frames: int,
    tempo: float = 1.0,
    seed: int = 0,
    start: float | None = 0.0,
    fps: float = FPS,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> ndarray:
    """A clip of a subject doing an action in a scenario.

    Scenarios as KTH's: 1 outdoors, 2 with a changing scale (gaits cross at a slant, else the camera zooms), 3 in other clothes,
    4 indoors. Walking, jogging and running cross the frame, repetitions in alternating directions; how they move was
    measured on recorded people. Boxing, hand clapping and hand waving are modelled after real clips, see `motion`.

    Args:
        action: one of ACTIONS.
        subject, scenario, repetition: 1 to 25, 1 to 4, 1 to 4.
        frames: how many.
        tempo: frame k shows the action at the motion time start + k / (fps · tempo) seconds: at tempo 2 it takes twice as
            long. Everything that moves, the sensor's noise included, is a function of that time rounded to a microsecond,
            so that equal times are equal frames: frame 2k at tempo 2 is frame k at tempo 1, bit for bit.
        seed: same seed, same clips; another seed is another cast of 25, in other places.
        start: motion time of the first frame; None for the clip whose middle is the middle of the action.
        fps: frames a second.
        size: rows and columns, 3 : 4; the picture is drawn at that size, not scaled down from KTH's 120 × 160.

    Returns:
        uint8 (frames, height, width).

    Raises:
        ValueError: for an argument out of its range.
    """
    action, subject, scenario, repetition, seed = _checked(action, subject, scenario, repetition, seed)
    frames = whole("frames", frames)
    tempo, fps = number("tempo", tempo, above=0), number("fps", fps, above=0)
    start = None if start is None else number("start", start)
    height, width = wholes("size", size, 2, meaning="(rows, columns)")
    if height * WIDTH != width * HEIGHT or height < 12:
        raise ValueError(f"size={size!r}: give 3 : 4 with at least 12 rows, such as (120, 160) or (60, 80)")

    who = draw_subject(seed, subject, other_clothes=scenario == 3)
    where = draw_scene(seed, subject, scenario, (height, width))
    how = draw_take(seed, action, subject, scenario, repetition)
    if start is None:
        start = (_duration(how) - (frames - 1) / (fps * tempo)) / 2
    time = np.round(start + np.arange(frames) / (fps * tempo), 6)
    clip = np.empty((frames, height, width), np.uint8)
    for i in range(0, frames, CHUNK):
        part = slice(i, i + CHUNK)
        clip[part] = _draw(who, where, how, time[part], [seed, 6, ACTIONS.index(action), subject, scenario, repetition])
    return clip


def _duration(how: Take) -> float:
    return how.leave - how.enter + 2 * LEAD if how.motion.speed else 4 * how.motion.period


def _draw(who: Subject, where: Scene, how: Take, time: ndarray, key: list[int]) -> ndarray:
    """The frames at motion times (F,): uint8 (F, height, width)."""
    height, width = where.ground.shape
    shape = (len(time), height, width)
    detail = height / HEIGHT
    limbs, later = (_limbs(who, _pose(who, how, t), how.heading) for t in (time, time + EXPOSURE))

    # The camera: the actor's own size hangs on how far he went, and everything's on the zoom.
    gone = how.motion.speed * (time + how.enter - LEAD) if how.motion.speed else np.zeros(len(time))
    distance = FOCAL / how.scale + gone * math.sin(how.heading)
    near = (FOCAL / how.scale / distance)[:, None, None]
    tilt = (HEIGHT / 2 - where.horizon) / FOCAL
    swing, period, offset = how.zoom
    zoom = 1 + swing * np.sin(2 * math.pi * time / period + offset)

    def project(points: ndarray) -> ndarray:
        up = points[..., 2] * math.cos(tilt) + points[..., 1] * math.sin(tilt)
        row = where.horizon + near[..., 0] * (how.row - where.horizon - how.scale * up)
        column = how.column + near[..., 0] * how.scale * (points[..., 0] + (gone * math.cos(how.heading))[:, None])
        pixel = np.stack([row, column], -1)
        centre = np.array([HEIGHT, WIDTH]) / 2
        return (centre + zoom[:, None, None] * (pixel - centre)) * detail

    thickness = limbs.radius * near * how.scale * zoom[:, None, None] * detail

    def capsules(start: ndarray, end: ndarray) -> Capsules:
        return Capsules(project(start), project(end), thickness)

    canvas = _ground(where.ground, zoom, shape)
    _flicker(canvas, time, where.flicker, key)
    fallen = capsules(*(points @ where.shadow[:, :3].T + where.shadow[:, 3] for points in (limbs.start, limbs.end)))
    soft = np.full(fallen.start.shape[:2], where.softness * detail)
    canvas *= 1 - np.float32(where.darkness) * silhouette(shape, fallen, soft)
    body, moved = capsules(limbs.start, limbs.end), capsules(later.start, later.end)
    # What moves while the shutter is open has wide soft edges.
    smear = (np.hypot(*(moved.start - body.start).T) + np.hypot(*(moved.end - body.end).T)).T / 2
    depth = (limbs.start[..., 1] + limbs.end[..., 1]) / 2 - limbs.nearer
    paint(canvas, body, limbs.gray, depth, where.light, EDGE + smear)
    for frame, moment in zip(canvas, time, strict=True):
        frame += np.float32(where.noise) * _noise(shape[1:], [*key, 1, round(moment * 1e6) % 2**48])
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def _noise(shape: tuple[int, int], key: list[int]) -> ndarray:
    return np.random.default_rng(key).standard_normal(shape, np.float32)


def _flicker(canvas: ndarray, time: ndarray, strength: float, key: list[int]) -> None:
    """Add to canvas (F, H, W) grain that changes within FLICKER seconds: a turn from one random grain to the next.

    As in KTH, it is correlated from frame to frame and along rows.
    """
    beat, part = np.divmod(time / FLICKER, 1)
    grains = {}
    for k in range(int(beat.min()), int(beat.max()) + 2):
        noise = gaussian_filter1d(_noise(canvas.shape[1:], [*key, 0, k % 2**48]), 0.75, axis=1, mode="wrap")
        grains[k] = noise * np.float32(strength / noise.std())
    for frame, k, angle in zip(canvas, beat.astype(int), math.pi / 2 * part, strict=True):
        frame += np.float32(math.cos(angle)) * grains[k] + np.float32(math.sin(angle)) * grains[k + 1]


def _ground(ground: ndarray, zoom: ndarray, shape: tuple[int, int, int]) -> ndarray:
    """The ground as the camera sees it at each zoom (F,): float32 of shape."""
    if (zoom == 1).all():
        return np.repeat(ground[None], shape[0], 0)
    # Pixels are named by their corner, and the zoom leaves the middle of the frame where it is.
    row, column = ((np.arange(n) + 0.5 - n / 2) / zoom[:, None] + n / 2 - 0.5 for n in shape[1:])
    return sample(ground, row[:, :, None], column[:, None, :]).astype(np.float32)


def _pose(who: Subject, how: Take, time: ndarray) -> ndarray:
    """Joints (F, 17, 3) in metres to the right, away from the camera, and up; he stands over the origin."""
    phase = how.phase + 2 * math.pi * time / how.motion.period
    ahead, left, up = np.moveaxis(skeleton(how.motion.coefficients, phase, who.height, how.motion.apart), -1, 0)
    cos, sin = math.cos(how.heading), math.sin(how.heading)
    return np.stack([ahead * cos - left * sin, ahead * sin + left * cos, up], -1)


class _Limbs(NamedTuple):
    start: ndarray
    """(F, n, 3) metres, as `_pose`."""
    end: ndarray
    radius: ndarray
    """(n, 2) metres."""
    gray: ndarray
    """(n,)"""
    nearer: ndarray
    """(n,) metres: what lies on top is painted as if it were so much nearer."""


def _limbs(who: Subject, joints: ndarray, heading: float) -> _Limbs:
    """The body around joints (F, 17, 3)."""
    at: dict[str, ndarray] = dict(zip(JOINTS, np.moveaxis(joints, -2, 0), strict=True))
    ahead = np.array([math.cos(heading), math.sin(heading), 0])
    crown = at["head"] - at["neck"]
    made = []

    def limb(
        start: ndarray, end: ndarray, first: float, last: float, cloth: str, tone: float = 1.0, nearer: float = 0.0
    ) -> None:
        # Radii are for a body of 1.75 m.
        scale = who.height / 1.75 * (1.0 if cloth in ("skin", "hair", "shoes") else who.girth)
        made.append((start, end, (first * scale, last * scale), who.gray[cloth] * tone, nearer))

    def between(a: str, b: str, t: float) -> ndarray:
        return at[a] + t * (at[b] - at[a])

    for side in "lr":
        hip, knee, ankle, toe = (at[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "toe"))
        limb(hip, knee, 0.1, 0.077, "legs")
        limb(knee, ankle, 0.074, 0.06, "legs", 0.97)
        limb(ankle - 0.25 * (toe - ankle), ankle + 1.1 * (toe - ankle), 0.046, 0.032, "shoes")
        if who.coat:
            hem = between(f"{side}_hip", f"{side}_knee", who.coat)
            limb(between(f"{side}_hip", "neck", 0.2), hem, 0.11, 0.105, "torso", nearer=0.08)
        limb(between(f"{side}_shoulder", "neck", 0.3), between(f"{side}_hip", "neck", 0.1), 0.1, 0.103, "torso", nearer=0.04)
        shoulder, elbow, wrist = (at[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        limb(shoulder, at["neck"], 0.064, 0.05, "torso")
        limb(shoulder, elbow, 0.066, 0.055, "torso", 1.05, nearer=0.02)
        limb(elbow, wrist, 0.053, 0.04, "sleeves", 1.08, nearer=0.04)
        limb(wrist, wrist + 0.3 * (wrist - elbow), 0.038, 0.036, "skin", nearer=0.04)
    limb(between("pelvis", "neck", 0.72), between("pelvis", "neck", 0.06), 0.12, 0.115, "torso", nearer=0.04)
    limb(at["neck"] - 0.1 * crown, at["neck"] + 0.4 * crown, 0.055, 0.05, "skin", 0.8)
    limb(at["head"] + 0.05 * crown - 0.01 * ahead, at["head"] + 0.3 * crown + 0.005 * ahead, 0.078, 0.086, "hair")
    face = at["head"] + 0.045 * ahead
    limb(face - 0.4 * crown, face + 0.08 * crown, 0.05, 0.058, "skin", nearer=0.02)
    if who.bag:
        limb(between("neck", "pelvis", 0.2) - 0.2 * ahead, between("neck", "pelvis", 0.7) - 0.2 * ahead, 0.1, 0.11, "hair")
    starts, ends, radius, gray, nearer = zip(*made, strict=True)
    return _Limbs(np.stack(starts, 1), np.stack(ends, 1), np.array(radius), np.array(gray), np.array(nearer))


def _checked(action: str, subject: int, scenario: int, repetition: int, seed: int) -> tuple[str, int, int, int, int]:
    return (
        choice("action", action, ACTIONS),
        whole("subject", subject, 1, SUBJECTS[-1]),
        whole("scenario", scenario, 1, SCENARIOS[-1]),
        whole("repetition", repetition, 1, REPETITIONS[-1]),
        whole("seed", seed, 0),
    )
