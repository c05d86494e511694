"""Who acts, where and how: everything about a clip that chance decides, drawn once per subject, scene and repetition [ours].

The ranges were set by eye and by measurement on real KTH clips: bodies 70 to 98 of 120 pixels tall, crossing at 0.75 to 2.2
heights a second, gray levels of grounds around 135 or 220, sensor noise with a deviation of 1 to 2 gray levels.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.ndimage import gaussian_filter, uniform_filter

from stdcf_lib.data.actions.motion import GAITS, Motion, gait, grounded, modelled, styles
from stdcf_lib.data.kth_protocol import ACTIONS

SUBJECTS = range(1, 26)
SCENARIOS = (1, 2, 3, 4)
REPETITIONS = (1, 2, 3, 4)
HEIGHT, WIDTH = 120, 160
LEAD = 0.4  # seconds of empty scene before a gait's actor comes in sight and after he left


class Subject(NamedTuple):
    """A body, its clothes and its way of moving. Lengths in metres, grays in 0 to 255, traits in [0, 1]."""

    height: float
    girth: float
    """How stout: a factor on the radius of every limb."""
    gray: dict[str, float]
    """Of torso, sleeves, legs, shoes, skin and hair."""
    coat: float
    """How far the coat reaches down the thigh, 0 for none."""
    bag: bool
    pace: float
    """How fast among people, -1 to 1."""
    traits: ndarray
    """(3,): reach, lift and lag of `modelled`."""
    walk: ndarray
    run: ndarray
    """The styles of `gait` for walking, and for jogging and running: weights of the recorded takes, which sum to 1."""


class Scene(NamedTuple):
    ground: ndarray
    """(H, W) float32: what the camera sees without an actor."""
    light: ndarray
    """(2,), see `paint`."""
    shadow: ndarray
    """(3, 4): maps a point of the body (right, away, up, 1) in metres to where its shadow falls."""
    darkness: float
    """What a shadow takes from the ground, between 0 and 1."""
    softness: float
    """Of the shadow's edge, pixels."""
    flicker: float
    """Standard deviation, in gray levels, of the ground's slow change: grass and compression."""
    noise: float
    """Standard deviation of the sensor's noise in gray levels."""
    horizon: float
    """Row of the horizon, pixels; above the frame, as KTH's camera looks down a little."""


class Take(NamedTuple):
    """A repetition: how the actor moves and where the camera sees him."""

    motion: Motion
    phase: float
    """At motion time 0."""
    heading: float
    """Radians: where he looks; 0 is right, -π/2 towards the camera."""
    scale: float
    """Pixels a metre where he stands, or half way."""
    row: float
    """Where his feet are then."""
    column: float
    enter: float
    """Seconds from half way to when he comes in sight: negative; 0 for the actions on the spot."""
    leave: float
    zoom: tuple[float, float, float]
    """Relative depth, period (s) and phase of the camera's zoom."""


def draw_subject(seed: int, number: int, other_clothes: bool = False) -> Subject:
    """The subject of a number, 1 to 25; in scenario d3 the same one in other clothes."""
    rng = np.random.default_rng([seed, 1, number])
    body = {
        "height": rng.uniform(1.58, 1.92),
        "girth": rng.uniform(0.92, 1.15),
        "pace": rng.uniform(-1, 1),
        "traits": rng.random(3),
        "walk": rng.dirichlet(np.full(styles("walking"), 0.5)),
        "run": rng.dirichlet(np.full(styles("running"), 0.5)),
    }
    skin, hair = rng.uniform(110, 175), rng.uniform(12, 65)
    if other_clothes:
        rng = np.random.default_rng([seed, 2, number])
    bright = 0.45 if other_clothes else 0.12
    torso = rng.uniform(140, 205) if rng.random() < bright else rng.uniform(20, 68)
    legs = rng.uniform(150, 190) if rng.random() < 0.2 else rng.uniform(18, 95)
    sleeves = skin if not other_clothes and rng.random() < 0.1 else torso
    shoes = rng.uniform(170, 220) if rng.random() < 0.3 else rng.uniform(15, 50)
    coat = rng.uniform(0.3, 0.8) if other_clothes and rng.random() < 0.6 else 0.0
    bag = bool(other_clothes and rng.random() < 0.35)
    gray = {"torso": torso, "sleeves": sleeves, "legs": legs, "shoes": shoes, "skin": skin, "hair": hair}
    return Subject(gray=gray, coat=coat, bag=bag, **body)


@lru_cache(maxsize=8)  # the same place serves six actions and four repetitions
def draw_scene(seed: int, number: int, scenario: int, size: tuple[int, int]) -> Scene:
    """The place where a subject performs a scenario: a lawn, or a room with a bright wall for scenario 4."""
    rng = np.random.default_rng([seed, 3, number, scenario])
    row = np.linspace(0, 1, HEIGHT)[:, None]
    column = np.linspace(-1, 1, WIDTH)
    side = rng.choice([-1.0, 1.0])
    if scenario == 4:
        wall, floor = rng.uniform(165, 225), rng.uniform(95, 150)
        edge = rng.uniform(0.75, 0.82)
        lamp = rng.uniform(-0.6, 0.6)
        ground = wall * (1.12 - 0.22 * (column - lamp) ** 2 - 0.12 * (row - 0.35) ** 2)
        ground = np.where(row > edge, floor * (1.05 - 0.15 * (column - lamp) ** 2), ground)
        ground = np.where(np.abs(row - edge) < 0.012, wall * 1.02, ground)
        ground = ground + 2 * gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 1) / 0.28
        # The wall is behind the actor: his shadow slides along it, to the side and down.
        shadow = np.array([[1, 0, 0, side * rng.uniform(0.15, 0.4)], [0, 0, 0, 0.9], [0, 0, 1, -rng.uniform(0.0, 0.15)]])
        look = {"darkness": rng.uniform(0.12, 0.3), "softness": 6.0, "horizon": rng.uniform(10, 40), "flicker": 1.2}
    else:
        bright = rng.random() < 0.4
        level = rng.uniform(208, 232) if bright else rng.uniform(112, 145)
        # Streaks of grass, longer than tall as a lawn is seen at a slant, in the measured lengths.
        streaks = rng.uniform(2.2, 3.8) * _texture(rng, (0.55, 5)) + rng.uniform(2.2, 3.8) * _texture(rng, (1.8, 18))
        ground = level + (22 - 40 * row) * rng.uniform(0.4, 1) + (0.6 + 0.6 * row) * streaks
        ground = ground + 1.2 * rng.standard_normal((HEIGHT, WIDTH)) + rng.uniform(2, 5) * _texture(rng, (8, 60))
        sunny = rng.random() < 0.3
        long = rng.uniform(0.7, 1.6) if sunny else 0.12
        shadow = np.array([[1, 0, side * long, 0], [0, 1, long * rng.uniform(-0.5, 0.6), 0], [0, 0, 0, 0]])
        darkness, softness = (rng.uniform(0.35, 0.6), 1.6) if sunny else (rng.uniform(0.12, 0.3), 4.0)
        look = {"darkness": darkness, "softness": softness, "horizon": rng.uniform(-40, -5), "flicker": rng.uniform(4, 6)}
    light = np.array([rng.uniform(0.08, 0.2), -side * rng.uniform(0.03, 0.15)])
    ground = np.clip(ground, 0, 255)
    if size != (HEIGHT, WIDTH):
        ground = _resize(ground, size)
    ground = ground.astype(np.float32)
    ground.setflags(write=False)
    return Scene(ground, light, shadow, noise=rng.uniform(0.8, 1.6), **look)


def draw_take(seed: int, action: str, number: int, scenario: int, repetition: int) -> Take:
    """How a subject performs an action for the n-th time in a scenario."""
    who = draw_subject(seed, number)
    rng = np.random.default_rng([seed, 4, ACTIONS.index(action), number, scenario, repetition])
    # What he keeps up through the four repetitions of a clip.
    habit = np.random.default_rng([seed, 5, ACTIONS.index(action), number, scenario])
    zoom = (0.0, 1.0, 0.0)
    if action in GAITS:
        mean, spread = {"walking": (1.36, 0.2), "jogging": (2.3, 0.3), "running": (3.6, 0.45)}[action]
        speed = mean + spread * (0.7 * who.pace + 0.3 * rng.uniform(-1, 1))
        style = who.walk if action == "walking" else who.run
        # Long legs take long strides in the same time.
        motion = gait(action, speed * 1.75 / who.height, style)._replace(speed=speed)
        away = habit.choice([-1.0, 1.0])
        slant = away * habit.uniform(0.5, 0.95) if scenario == 2 else habit.uniform(-0.08, 0.08)
        first_right = habit.random() < 0.5
        rightwards = (repetition % 2 == 1) == first_right
        heading = slant if rightwards else math.pi + slant
        scale = habit.uniform(30, 40) if scenario == 2 else habit.uniform(84, 96) / 1.78
        row = habit.uniform(74, 84) if scenario == 2 else habit.uniform(102, 110)
        column = WIDTH / 2
    else:
        low, high = {"boxing": (0.95, 1.3), "handclapping": (0.95, 1.3), "handwaving": (1.35, 2.0)}[action]
        period = low + (high - low) * float(np.clip(0.5 - 0.35 * who.pace + 0.15 * rng.uniform(-1, 1), 0, 1))
        motion = modelled(action, period, *np.clip(who.traits + 0.08 * rng.uniform(-1, 1, 3), 0, 1))
        if action == "boxing":
            turn = habit.uniform(-0.05, 0.6)
            heading = -turn if habit.random() < 0.5 else math.pi + turn
        else:
            heading = -math.pi / 2 + habit.uniform(-0.2, 0.2)
        scale = habit.uniform(72, 90 if action == "handwaving" else 97) / 1.78
        row = habit.uniform(105, 113)
        column = WIDTH / 2 + habit.uniform(-14, 14)
        if scenario == 2:
            scale *= 0.86
            row -= 6
            zoom = (habit.uniform(0.12, 0.22), habit.uniform(6, 11), rng.uniform(0, 2 * math.pi))
    motion = motion._replace(coefficients=grounded(motion.coefficients))
    made = Take(motion, rng.uniform(0, 2 * math.pi), heading, scale, row, column, 0.0, 0.0, zoom)
    if action in GAITS:
        times = [_crossing(made, column) for column in (-0.6 * scale, WIDTH + 0.6 * scale)]
        made = made._replace(enter=min(times), leave=max(times))
    return made


FOCAL = 520.0  # pixels: KTH's actors change little in size while they cross, the camera is far away


def _crossing(take: Take, column: float) -> float:
    """When the actor's middle is at a column; 0 is half way."""
    right = take.motion.speed * math.cos(take.heading)
    away = take.motion.speed * math.sin(take.heading)
    ratio = (column - take.column) / FOCAL
    return ratio * (FOCAL / take.scale) / (right - ratio * away)


def _texture(rng: np.random.Generator, grain: tuple[float, float]) -> ndarray:
    noise = gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), grain, mode="wrap")
    return noise / noise.std()


def _resize(image: ndarray, size: tuple[int, int]) -> ndarray:
    """Area means, bilinear between them."""
    factor = HEIGHT / size[0], WIDTH / size[1]
    sides = [max(1, round(f)) for f in factor]
    means = uniform_filter(image, sides) if max(factor) > 1 else image  # pyright: ignore[reportArgumentType]
    row = (np.arange(size[0]) + 0.5) * factor[0] - 0.5
    column = (np.arange(size[1]) + 0.5) * factor[1] - 0.5
    return sample(means, row[:, None] + 0 * column, column + 0 * row[:, None])


def sample(image: ndarray, row: ndarray, column: ndarray) -> ndarray:
    """Bilinear; beyond its border the image goes on as in a mirror."""
    row, column = (last - np.abs(last - np.abs(at)) for at, last in ((row, image.shape[0] - 1), (column, image.shape[1] - 1)))
    top = np.minimum(row.astype(int), image.shape[0] - 2)
    left = np.minimum(column.astype(int), image.shape[1] - 2)
    down, across = row - top, column - left
    upper = image[top, left] * (1 - across) + image[top, left + 1] * across
    lower = image[top + 1, left] * (1 - across) + image[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down
