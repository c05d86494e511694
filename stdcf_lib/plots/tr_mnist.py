"""Figures of notebook 03: how TR-MNIST's clips are made, why just so, and how motion ties space to time.

As in `stdcf_lib.data.tr_mnist`: positions are (row, column) in pixels, pixel i covers [i, i + 1), directions and turns are
counter-clockwise in degrees.
"""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from stdcf_lib.data import TRMNIST, mnist
from stdcf_lib.data.tr_mnist import Motion, bounce, ink_box, overhang, render
from stdcf_lib.plots.joint_convolution import film_strips
from stdcf_lib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    JOINT,
    ORANGE,
    PURPLE,
    SEPARABLE,
    SKY_BLUE,
    VERMILLION,
    Arrays,
    Drawing,
    Made,
    Plot,
    Scene,
    new_figure,
    show_frame,
    show_signed,
    styled,
)

STEP = 1.08  # from one frame of a film strip to the next; a frame is one unit wide
_KINDS = list(zip((BLUE, VERMILLION, GREEN, PURPLE, BLACK, ORANGE), ("o-", "s--", "^-.", "D:", "x--", "v-"), strict=True))
_LOOKS = list(zip((ORANGE, SKY_BLUE, GREEN, PURPLE), "os^D", strict=True))  # of the digits of a clip


class Animation(NamedTuple):
    """Clips side by side that play for ever. Shows itself as an animated PNG, which needs neither a kernel nor JavaScript.

    clips: (n, T, H, W) uint8. scale: screen pixels to a pixel. pace: milliseconds to a frame.
    """

    clips: Tensor
    scale: int = 5
    pace: int = 250

    def __repr__(self) -> str:
        n, frames, height, width = self.clips.shape
        return f"<Animation: {n} clips of {frames} frames, {height} × {width} pixels>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "image/png": b64encode(self.png()).decode()}

    def png(self) -> bytes:
        """The animation as APNG bytes; equal clips give equal bytes on one machine."""
        if self.clips.dtype != torch.uint8 or self.clips.ndim != 4:
            raise TypeError(f"clips must be uint8 (n, T, H, W), got {self.clips.dtype} {tuple(self.clips.shape)}")
        large = self.clips.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3).numpy()
        apart = np.pad(large, ((0, 0), (0, 0), (0, 0), (0, 2 * self.scale)), constant_values=255)
        first, *others = (Image.fromarray(np.concatenate(list(frame), 1)) for frame in apart.swapaxes(0, 1))
        buffer = io.BytesIO()
        first.save(buffer, "PNG", save_all=True, append_images=others, duration=self.pace, loop=0)
        return buffer.getvalue()


def alone(motion: Motion, images: Tensor, rotation: float = 45.0, size: int = 28, margin: int = 0) -> Tensor:
    """Each digit of each clip without the others, (n, d, T, H, W) uint8; `margin` pixels beyond the border are shown too.

    images: `mnist(split)[0]`, where the digits of `motion` are from.
    """
    digit, _, box, position, _ = motion
    turn = rotation * torch.arange(position.shape[2], dtype=torch.float64)
    places = position.flatten(0, 1) + margin
    rendered = render(images[digit.flatten()], box.flatten(0, 1), places, turn, size + 2 * margin)
    return rendered.unflatten(0, digit.shape)


def follow(dataset: TRMNIST, rotation: float = 45.0) -> Tensor:
    """One-digit clips as seen by an eye that moves and turns with the digit, (n, T, H, W) uint8.

    Resampled from the clips' own pixels; the digit stays upright in the middle of the frame.
    """
    _, _, box, position, _ = dataset.motion
    if box.shape[1] != 1:
        raise ValueError(f"dataset has {box.shape[1]} digits a clip; an eye can follow one: make it with digits=1")
    clips = dataset.clips[:, 0]
    middle = (clips.shape[-1] - box[:, 0, None, 2:].double()) / 2
    frames = []
    for k in range(clips.shape[1]):
        # `render` turns about the centre of a box; here it is the box of where the digit is now.
        now = torch.cat([position[:, 0, k], box[:, 0, 2:].double()], 1)
        turn_back = torch.tensor([-rotation * k], dtype=torch.float64)
        frames.append(render(clips[:, k], now, middle, turn_back, clips.shape[-1])[:, 0])
    return torch.stack(frames, 1)


# How a clip is made


@styled
def ink_boxes(images: Tensor) -> Drawing:
    """Draw digits (n, 28, 28) with the box of their ink and its centre, about which they will turn."""
    boxes = ink_box(images)
    figure, panels = new_figure(1, len(images), width=1.3 * len(images), height=1.9, squeeze=False)
    for axes, image, (top, left, height, width) in zip(panels[0], images, boxes.tolist(), strict=True):
        show_frame(axes, image.numpy(), maximum=255).set_extent((0, 28, 28, 0))
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=ORANGE, linewidth=2))
        axes.plot(left + width / 2, top + height / 2, "+", color=VERMILLION, markersize=9, markeredgewidth=2)
        axes.set(xlim=(0, 28), ylim=(28, 0), title=f"{height} × {width}")
    figure.suptitle("The ink box, height × width in pixels, and its centre")
    return Drawing(figure, {"images": images.numpy(), "boxes": boxes.numpy()})


@Plot
def mirrors() -> Made:
    """Draw a bouncing point in its room, and its straight path through the mirror images of that room."""
    figure, axes = new_figure(width=7.2, height=4)
    axes.set_animated(True)
    rooms = PolyCollection([], edgecolor="0.6")
    axes.add_collection(rooms)
    border = axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=BLACK, linewidth=2))
    (through,) = axes.plot([], [], "o--", color=BLUE, markerfacecolor="white", label="straight, through mirrors")
    (bent,) = axes.plot([], [], "-", color=VERMILLION)
    (back,) = axes.plot([], [], "o", color=VERMILLION)
    axes.plot([], [], "o-", color=VERMILLION, label="folded back: the bouncing digit")
    axes.set(aspect="equal", xlabel="column of the ink box's corner, pixels", ylabel="row, pixels", title="frames")
    axes.set(xlim=(-60, 60), ylim=(60, -60))
    axes.grid(False)
    figure.legend(loc="outside lower center", ncols=2)

    def show(
        speed: float = 3.0,
        direction: float = 20.0,
        frames: int = 8,
        start: tuple[float, float] = (5.0, 3.0),
        room: tuple[float, float] = (8.0, 12.0),
    ) -> Arrays:
        turn = np.deg2rad(direction)
        velocity = speed * torch.tensor([-np.sin(turn), np.cos(turn)])
        first, span = (torch.tensor(pair, dtype=torch.float64) for pair in (start, room))
        fine = torch.linspace(0, frames - 1, 40 * frames, dtype=torch.float64)[:, None]
        whole = torch.arange(frames, dtype=torch.float64)[:, None]
        folded, path = (bounce(first, velocity, span, time).numpy() for time in (whole, fine))
        straight = (first + velocity * whole).numpy()

        tile = straight / room
        low, high = np.floor(tile.min(0)).clip(max=0).astype(int), np.ceil(tile.max(0)).clip(min=1).astype(int)
        places = [(i, j) for i in range(low[0], high[0]) for j in range(low[1], high[1])]
        corners = np.array([[(j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1)] for i, j in places])
        rooms.set_verts(list(corners * np.array(room[::-1])))
        rooms.set_facecolor(["0.93" if (i % 2, j % 2) != (0, 0) else "1" for i, j in places])
        border.set_bounds(0, 0, room[1], room[0])
        for line, points in ((through, straight), (bent, path), (back, folded)):
            line.set_data(points[:, 1], points[:, 0])
        axes.set(xlim=(low[1] * room[1] - 1, high[1] * room[1] + 1), ylim=(high[0] * room[0] + 1, low[0] * room[0] - 1))
        bounces = int(np.abs(np.floor(tile[-1]) - np.floor(tile[0])).sum())
        axes.set_title(f"{frames} frames, {bounces} bounces: a mirrored room makes the path straight")
        return {"straight": straight, "folded": folded}

    return figure, show


def making(
    clip: int = 0, digits: int = 2, speed: tuple[float, float] = (1.0, 4.0), rotation: float = 45.0, size: int = 28
) -> Drawing:
    """Draw a test clip's digits alone, with the upright ink boxes that bounce, their maximum, and their paths."""
    return making_scene(digits)(clip, speed, rotation, size)


@styled
def making_scene(digits: int) -> Scene[[int, tuple[float, float], float, int]]:
    """The figure of `making` for clips of that many digits."""
    images, frames = mnist("test")[0], 8
    figure, (strip, paths) = new_figure(1, 2, width=10, height=max(3, 0.6 + 0.86 * (digits + 1)), width_ratios=[3.4, 1])
    blank = torch.zeros(frames, 1, 1, dtype=torch.uint8)
    films = [_film(strip, blank, top=row * STEP, animated=True) for row in range(digits + 1)]
    names = [strip.text(-0.1, row * STEP + 0.5, "clip", ha="right", va="center", animated=True) for row in range(digits + 1)]
    boxes, lines = [], []
    for color, marker in _LOOKS[:digits]:
        boxes.append([Rectangle((0, 0), 1, 1, fill=False, edgecolor=color, lw=1.2, animated=True) for _ in range(frames)])
        for box in boxes[-1]:
            strip.add_patch(box)
        look = {"color": color, "animated": True}
        (path,) = paths.plot([], [], "-", linewidth=1, **look)
        (centres,) = paths.plot([], [], marker, markersize=4, **look)
        (first,) = paths.plot([], [], marker, markersize=9, markerfacecolor="none", **look)
        lines.append((path, centres, first))
    _fit(strip, right=frames * STEP, bottom=(digits + 1) * STEP, left=-0.7)
    strip.set_title("each digit alone with its upright ink box, and their maximum")
    paths.set(xlim=(0, 28), ylim=(28, 0), aspect="equal", xlabel="pixels", title="paths of the centres")
    paths.spines[:].set_visible(True)
    paths.xaxis.set_animated(True)
    paths.yaxis.set_animated(True)
    paths.locator_params(nbins=4)

    def show(clip: int, speed: tuple[float, float], rotation: float, size: int) -> Arrays:
        dataset = TRMNIST("test", clips=clip + 1, digits=digits, speed=speed, rotation=rotation, size=size)
        motion = Motion(*(values[clip : clip + 1] for values in dataset.motion))
        layers = alone(motion, images, rotation, size)[0]
        _, labels, ink, positions, velocities = (values[0] for values in motion)
        centres = (positions + ink[:, None, 2:] / 2).numpy()

        for film, layer in zip(films, [*layers, dataset.clips[clip, 0]], strict=True):
            for image, frame in zip(film, layer.numpy(), strict=True):
                image.set_data(frame)
        for name, label in zip(names, labels.tolist(), strict=False):  # the last row is the clip
            name.set_text(f"a {label}")
        # Finer than frames, so that a corner of the path shows where it bounced.
        fine = torch.linspace(0, frames - 1, 40 * frames, dtype=torch.float64)[:, None]
        for d in range(digits):
            height, width = (ink[d, 2:] / size).tolist()
            for k, (top, left) in enumerate((positions[d] / size).tolist()):
                boxes[d][k].set_bounds(k * STEP + left, d * STEP + top, width, height)
            path = bounce(positions[d, 0], velocities[d], (size - ink[d, 2:]).double(), fine) + ink[d, 2:] / 2
            for line, places in zip(lines[d], (path.numpy(), centres[d], centres[d, :1]), strict=True):
                line.set_data(places[:, 1], places[:, 0])
        paths.set(xlim=(0, size), ylim=(size, 0))
        return {"alone": layers.numpy(), "clip": dataset.clips[clip, 0].numpy(), "centres": centres}

    return Scene(figure, show)


# Why just so


@styled
def borders(clips: int = 500) -> Drawing:
    """Draw what four readings of "the digit hits the border" would do to the first training digits.

    What bounces is, in turn: the 28-pixel patch; the circle that holds the ink box however it turns; the ink box,
    upright; the digit's centre. Start and velocity are the same draws.
    """
    dataset, images = TRMNIST("train", clips=clips, digits=1), mnist("train")[0]
    digit, _, box, position, velocity = (values[:, 0] for values in dataset.motion)
    sides = box[:, 2:].double()
    chance = position[:, 0] / (28 - sides)
    turn = 45.0 * torch.arange(8, dtype=torch.float64)
    # Half the size of what bounces.
    halves = {
        "patch": torch.full_like(sides, 14.0),
        "circle": (torch.hypot(*sides.T) / 2)[:, None].expand(-1, 2),
        "ink box": sides / 2,
        "centre": torch.zeros_like(sides),
    }
    arrays, margin = {}, 16
    for name, half in halves.items():
        room = (28 - 2 * half).clamp(min=0)
        moved = bounce((chance * room)[:, None], velocity[:, None], room[:, None], turn[:, None] / 45.0)
        # Where there is no room, the digit stays at its own place for the patch, and in the middle for the circle.
        corner = box[:, None, :2] + moved if name == "patch" else moved + ((28 - room - sides) / 2)[:, None]
        wide = render(images[digit], box, corner + margin, turn, 28 + 2 * margin)
        arrays |= {f"{name}, room": room.numpy(), f"{name}, ink cut off": _cut_off(wide, margin).mean(1)}

    figure, panels = new_figure(1, 3, width=9.6, height=3, sharey=True)
    rooms = np.array([arrays[f"{name}, room"].mean(0) for name in halves])
    y = np.arange(len(halves))
    panels[0].barh(y - 0.2, rooms[:, 0], 0.35, color=BLUE, label="up and down")
    panels[0].barh(y + 0.2, rooms[:, 1], 0.35, color=ORANGE, hatch="//", label="left and right")
    panels[0].set(xlabel="mean room to move, pixels", yticks=y, yticklabels=halves, ylabel="what bounces", xlim=(0, 40))
    panels[0].legend()
    panels[0].invert_yaxis()
    stuck = [100 * (arrays[f"{name}, room"] == 0).all(1).mean() for name in halves]
    cut = [100 * arrays[f"{name}, ink cut off"].mean() for name in halves]
    for axes, values, label in ((panels[1], stuck, "digits that cannot move"), (panels[2], cut, "mean share of ink cut off")):
        bars = axes.barh(y, values, 0.6, color=GREEN)
        axes.bar_label(bars, [f" {value:.1f}" for value in values])
        axes.set(xlabel=f"{label}, %", xlim=(0, 1.25 * max(values)))
    figure.suptitle("The ink box lets every digit move and cuts off little")
    return Drawing(figure, arrays)


@styled
def overhangs(motion: Motion, images: Tensor) -> Drawing:
    """Draw the bound on how far turned digits overhang the frame, and the ink they lose, frame by frame."""
    bound = overhang(motion.box).flatten().numpy()
    cut = _cut_off(alone(motion, images, margin=16), 16).reshape(len(bound), -1)
    figure, (left, right) = new_figure(1, 2, width=9, height=3.2)
    left.hist(bound, np.arange(3, 9.01, 0.5), color=BLUE)  # finer, whole pixels of a box would show as a comb
    left.axvline(bound.mean(), color=VERMILLION, linestyle="--", label=f"mean {bound.mean():.1f}")
    left.axvline(bound.max(), color=BLACK, linestyle=":", label=f"largest {bound.max():.1f}")
    left.set(xlabel="bound on the overhang, pixels", ylabel="digits", title="A turned digit may overhang", xlim=(3, 11))
    left.legend(loc="right")
    frame = np.arange(cut.shape[1])
    bars = right.bar(frame, 100 * cut.mean(0), color=GREEN)
    right.bar_label(bars, [f"{100 * share:.1f}" for share in cut.mean(0)])
    right.set(xlabel="frame", ylabel="mean share of ink cut off, %", xticks=frame)
    right.set_title(f"…but loses {100 * cut.mean():.1f}% of its ink on average")
    return Drawing(figure, {"bound": bound, "cut": cut})


@styled
def draws(motion: Motion) -> Drawing:
    """Draw how speeds, directions and starting places are spread over all digits."""
    velocity = motion.velocity.flatten(0, 1)
    room = (28 - motion.box[..., 2:]).flatten(0, 1)
    values = {
        "speed": velocity.norm(dim=1),
        "direction": torch.rad2deg(torch.atan2(-velocity[:, 0], velocity[:, 1])) % 360,
        "start": (motion.position[:, :, 0].flatten(0, 1) / room).flatten(),
    }
    bins = {"speed": np.linspace(0, 5, 21), "direction": np.linspace(0, 360, 25), "start": np.linspace(0, 1, 21)}
    labels = {"speed": "speed, px/frame", "direction": "direction, degrees", "start": "start, share of the room"}
    figure, panels = new_figure(1, 3, width=9.6, height=3)
    arrays = {}
    for axes, (name, value) in zip(panels, values.items(), strict=True):
        counts, edges = np.histogram(value.numpy(), bins[name])
        # A count of many independent draws scatters by the root of itself.
        even = len(value) / (counts > 0).sum()
        axes.stairs(counts, edges, fill=True, color=BLUE)
        axes.axhspan(even - 2 * even**0.5, even + 2 * even**0.5, color=ORANGE, alpha=0.6, label="even, ± 2σ")
        axes.set(xlabel=labels[name], ylim=(0, 1.45 * counts.max()))
        axes.legend(loc="upper right")
        arrays |= {f"{name}, counts": counts, f"{name}, edges": edges}
    panels[0].set_ylabel("digits")
    panels[1].set_xticks(range(0, 361, 90))
    figure.suptitle("Speed, direction and start are spread evenly")
    return Drawing(figure, arrays)


@styled
def speeds(motion: Motion, clips: int = 150) -> Drawing:
    """Draw how often digits bounce in a clip, and how alike neighbouring frames are at a given speed.

    Alike: the correlation of pixels with the mean frame taken off, over `clips` clips of one digit, upright or turning by 45° a
    frame.
    """
    room = (28 - motion.box[..., 2:]).double()
    start, end = motion.position[:, :, 0], motion.position[:, :, 0] + (motion.position.shape[2] - 1) * motion.velocity
    # Each wall crossed by the straight path through the mirrors is a bounce.
    bounces = (torch.floor(end / room) - torch.floor(start / room)).abs().sum(-1).flatten().long().numpy()
    pace = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8])
    alike = {
        name: np.array([_neighbours(TRMNIST("train", clips, digits=1, speed=(v, v), rotation=angle).clips[:, 0]) for v in pace])
        for name, angle in (("upright", 0), ("turning by 45°", 45))
    }

    figure, (left, right) = new_figure(1, 2, width=9, height=3.2)
    counts = np.bincount(bounces)
    bars = left.bar(np.arange(len(counts)), 100 * counts / counts.sum(), color=BLUE)
    left.bar_label(bars, [f"{100 * share:.1f}" for share in counts / counts.sum()])
    left.set(xlabel="bounces in a clip", ylabel="share of digits, %", title=f"{bounces.mean():.1f} bounces on average")
    right.axvspan(1, 4, color="0.9", label="drawn speeds")
    for (name, values), style in zip(alike.items(), ("o--", "s-"), strict=True):
        right.plot(pace, values, style, color=VERMILLION, markersize=4, label=name)
    right.set(xlabel="speed, px/frame", ylabel="correlation of neighbouring frames", xlim=(0, None), ylim=(0, 1))
    right.set_title("The turn takes frames apart, the drift a little more")
    right.legend()
    return Drawing(figure, {"bounces": counts, "speed": pace, **alike})


def turns(image: Tensor, rotations: Sequence[float] = (30, 45, 90), frames: int = 8) -> Drawing:
    """Draw a digit (28, 28) that turns in the middle of the frame, a film strip for each rotation in degrees a frame."""
    box = ink_box(image[None])
    middle = (28 - box[:, None, 2:].double()) / 2
    strips = {}
    for rotation in rotations:
        turn = rotation * torch.arange(frames, dtype=torch.float64)
        orientations = len(set((turn % 360).tolist()))
        name = f"{rotation:g}° a frame: {orientations} orientations in {frames} frames, a full turn takes {360 / rotation:g}"
        strips[name] = render(image[None], box, middle.expand(-1, frames, -1), turn, 28)[0] / 255
    return film_strips(strips, gray=True)


@styled
def overlaps(motion: Motion, images: Tensor, clip: int = 0, frame: int = 0) -> Drawing:
    """Draw two digits combined by their maximum and by their sum, and how much of the digits overlaps over all frames.

    Overlap: the ink that both have, pixel by pixel the lesser, as a share of the ink of the digit that has less.
    """
    layers = alone(motion, images).numpy().astype(int)
    if layers.shape[1] != 2:
        raise ValueError(f"motion has {layers.shape[1]} digits a clip; give one of two")
    both, total = layers.min(1).sum((2, 3)), layers.sum((3, 4)).min(1)
    overlap = (both / total).ravel()
    added = layers.sum(1)
    too_bright = (added > 255).sum() / (added > 0).sum()

    figure, panels = new_figure(1, 4, width=10, height=2.9, width_ratios=[1, 1, 1, 1.7])
    one, other = layers[clip, :, frame]
    pictures = {"maximum": np.maximum(one, other), "sum, cut at white": (one + other).clip(max=255)}
    for axes, (name, picture) in zip(panels, pictures.items(), strict=False):
        show_frame(axes, picture, maximum=255)
        axes.set_title(name)
    lost = one + other > 255
    show_frame(panels[2], lost)
    panels[2].set_title("where the sum is cut")
    panels[3].hist(100 * overlap, np.arange(0, 101, 5), color=BLUE)
    panels[3].set(xlabel="ink that overlaps, %", ylabel="frames", title=f"{100 * overlap.mean():.0f}% on average")
    figure.suptitle(f"Digits overlap a lot; a sum would exceed white in {100 * too_bright:.0f}% of the lit pixels")
    return Drawing(figure, {"overlap": overlap, "too bright": too_bright, "cut": lost} | pictures)


@styled
def sampling(image: Tensor, angle: float = 20.0) -> Drawing:
    """Draw a digit (28, 28) turned by bilinear and by nearest sampling, its ink at all angles, and the rounding error."""
    angles = np.arange(0, 91.0, 1.0)
    turned = {mode: np.array([_turned(image, a, mode) for a in angles]) for mode in ("bilinear", "nearest")}
    pictures = {mode: _turned(image, angle, mode) for mode in turned}
    ink = {mode: pixels.sum((1, 2)) / image.numpy().sum(dtype=float) for mode, pixels in turned.items()}
    smooth = turned["bilinear"]
    error = np.round(smooth) - smooth
    error = error[np.abs(error) > 1e-6]  # of those that need rounding

    figure, panels = new_figure(1, 4, width=10.4, height=2.9, width_ratios=[1, 1, 1.6, 1.6])
    for axes, (mode, picture) in zip(panels, pictures.items(), strict=False):
        show_frame(axes, picture, maximum=255)
        axes.set_title(f"{mode}, {angle:g}°")
    for mode, look in {"bilinear": {"color": BLUE}, "nearest": {"color": VERMILLION, "linestyle": "--"}}.items():
        panels[2].plot(angles, 100 * ink[mode], label=mode, **look)
    swing = 170 * max(np.abs(share - 1).max() for share in ink.values())  # leaves room for the legend
    panels[2].set(xlabel="angle, degrees", ylabel="ink, % of upright", xticks=[0, 45, 90], ylim=(100 - swing, 100 + swing))
    panels[2].set_title("Nearest flickers")
    panels[2].legend(loc="lower center", ncols=2)
    panels[3].hist(error, np.linspace(-0.5, 0.5, 21), color=BLUE)
    panels[3].set(xlabel="stored - exact, gray levels", ylabel="pixels")
    panels[3].set_title(f"uint8: rms {np.sqrt((error**2).mean()):.2f} of 255")
    arrays = pictures | {f"{mode}, ink": share for mode, share in ink.items()}
    return Drawing(figure, arrays | {"angles": angles, "rounding error": error})


@styled
def labels(label: Mapping[str, Tensor]) -> Drawing:
    """Draw how often each class occurs, and which pairs meet in a clip; `label` maps a split to (n, 2) classes."""
    classes = np.arange(10)
    counts = {name: np.bincount(given.numpy().ravel(), minlength=10) for name, given in label.items()}
    figure, axes = new_figure(1, 1 + len(label), width=3.2 * (1 + len(label)), height=3.2)
    for at, (name, count), color, hatch in zip((-0.2, 0.2), counts.items(), (BLUE, ORANGE), ("", "//"), strict=False):
        axes[0].bar(classes + at, 100 * count / count.sum(), 0.38, color=color, hatch=hatch, label=name)
    axes[0].set(xlabel="class", ylabel="share of digits, %", xticks=classes, ylim=(0, 15), title="Classes keep MNIST's balance")
    axes[0].legend(ncols=2)
    arrays: dict[str, np.ndarray] = {f"{name}, classes": count for name, count in counts.items()}
    for panel, (name, given) in zip(axes[1:], label.items(), strict=True):
        pairs = np.zeros((10, 10), int)
        np.add.at(pairs, tuple(given.numpy().T), 1)
        shares = counts[name] / counts[name].sum()
        even = len(given) * np.outer(shares, shares)
        image = show_signed(panel, (pairs - even) / even**0.5, limit=4)  # a count scatters by the root of itself
        panel.set(xlabel="second digit", ylabel="first digit", xticks=classes, yticks=classes)
        panel.set_title(f"{name}: pairs meet by chance")
        figure.colorbar(image, ax=panel, label="more or fewer clips, in σ", shrink=0.8)
        arrays[f"{name}, pairs"] = pairs
    return Drawing(figure, arrays)


# Space and time


def separable_energy(clips: Tensor) -> Tensor:
    """The share of a clip's energy that its best k space × time products hold, for k = 1 … T: (n, T) from (n, T, H, W).

    A clip is a matrix, frames by pixels, and its singular value decomposition is the best sum of such products.
    """
    matrix = clips.flatten(2).double()
    energy = torch.linalg.eigvalsh(matrix @ matrix.mT).flip(1).clamp(min=0).cumsum(1)
    return energy / energy[:, -1:]


def kinds_of_motion(clips: int = 300) -> dict[str, Tensor]:
    """One-digit test clips (n, 8, 28, 28) of the same digits at the same starts, by what they do.

    "unrelated" has the frames of "both", each from another clip; "followed" is "both" through the eye of `follow`.
    """

    def one(**options: Any) -> TRMNIST:
        return TRMNIST("test", clips, digits=1, **options)

    both = one()
    return {
        "still": one(speed=(0, 0), rotation=0).clips[:, 0],
        "moves": one(rotation=0).clips[:, 0],
        "turns": one(speed=(0, 0)).clips[:, 0],
        "both": both.clips[:, 0],
        "unrelated": unrelated(both.clips[:, 0]),
        "followed": follow(both),
    }


def unrelated(clips: Tensor) -> Tensor:
    """The same frames in other company: frame k of clip i is taken from clip i + 7k, so that nothing moves on."""
    return torch.stack([clips[:, k].roll(-7 * k, 0) for k in range(clips.shape[1])], 1)


@styled
def slices(kinds: Mapping[str, Tensor], clip: int = 0, row: int = 14) -> Drawing:
    """Draw one row of clips (n, T, H, W) over time, $x$ to the right and $t$ downwards, a panel a kind."""
    figure, panels = new_figure(1, len(kinds), width=1.9 * len(kinds), height=4, sharey=True, squeeze=False)
    for axes, (name, clips) in zip(panels[0], kinds.items(), strict=True):
        _slice(axes, clips[clip, :, row], name)
    panels[0, 0].set_ylabel("time $t$, frames")
    figure.suptitle(f"Row {row} of the frame over time")
    return Drawing(figure, {name: clips[clip, :, row].numpy() for name, clips in kinds.items()})


def separability(kinds: Mapping[str, Tensor] | None = None, clip: int = 0, row: int = 14) -> Drawing:
    """Draw one row of clips over time, and the share of energy that k space × time products hold, the mean over clips.

    kinds: uint8 clips (n, T, H, W) by name, at most 6; None for `kinds_of_motion`. The row is of the clip of that number.
    """
    kinds = kinds_of_motion() if kinds is None else kinds
    if not 1 <= len(kinds) <= len(_KINDS):
        raise ValueError(f"kinds has {len(kinds)} entries; give 1 to {len(_KINDS)}, more could not be told apart")
    _, frames, _, width = next(iter(kinds.values())).shape
    return separability_scene(tuple(kinds), frames, width)(kinds, clip, row)


@styled
def separability_scene(names: Sequence[str], frames: int = 8, size: int = 28) -> Scene[[Mapping[str, Tensor], int, int]]:
    """The figure of `separability` for kinds of those names, clips of that many frames and pixels to a side."""
    figure = Figure(figsize=(10, 3.6))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.35, 1])[0]
    panels, energy = left.subplots(1, len(names), squeeze=False, sharey=True)[0], right.subplots()
    slices, curves, most = [], [], min(frames, size**2)
    for axes, name, (color, look) in zip(panels, names, _KINDS, strict=False):
        slices.append(_slice(axes, torch.zeros(frames, size, dtype=torch.uint8), name))
        slices[-1].set_animated(True)
        axes.spines[:].set_animated(True)
        axes.title.set_color(color)
        curves += energy.plot([], [], look, color=color, label=name, markersize=5, animated=True)
    panels[0].set_ylabel("time $t$, frames")
    title = left.suptitle("Row", animated=True)
    margin = 0.05 * (most - 1)
    energy.set(xlabel="space × time products", ylabel="share of energy", xlim=(1 - margin, most + margin), ylim=(0, 1.03))
    one_product = energy.set_title("One product: 100%", animated=True)
    energy.legend(loc="lower right")

    def show(kinds: Mapping[str, Tensor], clip: int, row: int) -> Arrays:
        arrays = {}
        for (name, clips), image, curve in zip(kinds.items(), slices, curves, strict=True):
            kept = separable_energy(clips).mean(0).numpy()
            image.set_data(clips[clip, :, row].numpy())
            curve.set_data(np.arange(1, len(kept) + 1), kept)
            arrays |= {f"{name}, row": clips[clip, :, row].numpy(), f"{name}, energy": kept}
        first = {name: arrays[f"{name}, energy"][0] for name in kinds}
        ends = max(first, key=first.__getitem__), min(first, key=first.__getitem__)
        named = first if len(first) <= 3 else ends  # as many as there is room for
        one_product.set_text("One product: " + ", ".join(f"{name} {first[name]:.0%}" for name in named))
        title.set_text(f"Row {row} of the frame over time")
        return arrays

    return Scene(figure, show)


def one_way(direction: float | None = 0.0, clips: int = 2000, width: float = 22.5) -> Tensor:
    """Clips (n, 5, 44, 44) of single digits that move freely, do not turn, and head for `direction` ± `width` degrees.

    direction: None for all directions. Of `clips` clips, those are left out that bounce or head elsewhere.
    """
    dataset = TRMNIST("train", clips, digits=1, frames=5, size=44, rotation=0)
    _, _, _, position, velocity = (values[:, 0] for values in dataset.motion)
    chosen = ((position.diff(dim=1) - velocity[:, None]).abs() < 1e-9).all(2).all(1)
    if direction is not None:
        heading = torch.rad2deg(torch.atan2(-velocity[:, 0], velocity[:, 1]))
        chosen &= ((heading - direction + 180) % 360 - 180).abs() <= width
    return dataset.clips[chosen, 0]


def patch_energy(clips: Tensor, size: int = 5, patches: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """How much energy of random size³ patches k joint functions hold at best, and k products of space and time.

    The joint functions are the principal components; the products are those of the components of space alone and of time
    alone, most energy first. clips: (n, T, H, W). Returns two arrays (size³,) of shares, for k = 1, 2, ….
    """
    every = clips.unfold(1, size, 1).unfold(2, size, 1).unfold(3, size, 1)  # a view: nothing is copied yet
    rng = np.random.default_rng(0)
    at = [torch.from_numpy(rng.integers(0, n, patches)) for n in every.shape[:4]]
    patch = every[tuple(at)].double().flatten(2)  # (patches, time, space)
    patch = patch - patch.mean(0)
    covariance = torch.einsum("nti,nsj->tisj", patch, patch)
    of_space = torch.linalg.eigh(torch.einsum("titj->ij", covariance)).eigenvectors
    of_time = torch.linalg.eigh(torch.einsum("tisi->ts", covariance)).eigenvectors
    products = torch.einsum("tisj,ta,ib,sa,jb->ab", covariance, of_time, of_space, of_time, of_space).flatten()
    joint = torch.linalg.eigvalsh(covariance.flatten(2).flatten(0, 1))
    ordered = (values.sort(descending=True).values for values in (joint, products))
    joint, products = ((values.cumsum(0) / values.sum()).numpy() for values in ordered)
    return joint, products


@styled
def coupling(kinds: Mapping[str, Tensor] | None = None, most: int = 12) -> Drawing:
    """Draw the energy of 5×5×5 patches that k joint functions hold, and k products of space and time, a panel a kind.

    kinds: clips (n, T, H, W) by name; None for TR-MNIST, for single digits that only move, in all
            directions, and for those of them that move right.
    """
    if kinds is None:
        kinds = {"TR-MNIST": TRMNIST("train", 1000).clips[:, 0], "all directions": one_way(None), "to the right": one_way()}
    figure, panels = new_figure(1, len(kinds), width=3.3 * len(kinds), height=3.4, sharey=True, squeeze=False)
    k, arrays = np.arange(1, most + 1), {}
    for axes, (name, clips) in zip(panels[0], kinds.items(), strict=True):
        joint, products = (energy[:most] for energy in patch_energy(clips))
        axes.fill_between(k, products, joint, color="0.85", linewidth=0)
        axes.plot(k, joint, "o-", color=JOINT, markersize=4, label="joint functions of space and time")
        axes.plot(k, products, "s--", color=SEPARABLE, markersize=4, label="products space × time")
        axes.set(xlabel="functions $k$", title=f"{name}: up to {100 * (joint - products).max():.0f} points apart", ylim=(0, 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        arrays |= {f"{name}, joint": joint, f"{name}, products": products}
    panels[0, 0].set_ylabel("share of energy")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("One direction couples space and time; all directions together hide it")
    return Drawing(figure, arrays)


def _cut_off(wide: Tensor, margin: int) -> np.ndarray:
    """The share of ink in the outer `margin` pixels of frames (…, H, W)."""
    inside = wide[..., margin:-margin, margin:-margin].sum((-2, -1), dtype=torch.float64)
    return (1 - inside / wide.sum((-2, -1), dtype=torch.float64)).numpy()


def _neighbours(clips: Tensor) -> float:
    """The correlation of each frame with the next, over clips (n, T, H, W) with the mean frame taken off."""
    clips = clips.double() - clips.double().mean((0, 1))
    return float(np.corrcoef(clips[:, :-1].flatten(), clips[:, 1:].flatten())[0, 1])


def _turned(image: Tensor, angle: float, mode: str) -> np.ndarray:
    """A digit turned about the middle of the frame, not rounded."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    # From a place in the turned picture to where it was before; x before y, which runs downwards.
    back = torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]])
    grid = affine_grid(back, [1, 1, *image.shape], align_corners=False)
    return grid_sample(image[None, None].double(), grid, mode, align_corners=False)[0, 0].numpy()


def _slice(axes: Axes, row: Tensor, name: str) -> AxesImage:
    frames, width = row.shape
    image = show_frame(axes, row.numpy(), maximum=255)
    image.set_extent((0, width, frames, 0))
    axes.set(xlim=(0, width), ylim=(frames, 0), title=name, aspect="auto", xlabel="$x$", yticks=np.linspace(0, frames, 5))
    return image


def _film(axes: Axes, frames: Tensor, top: float = 0.0, animated: bool = False) -> list[AxesImage]:
    """Place frames (T, H, W), uint8, side by side in axes whose y runs downwards; each is one unit wide."""
    images = [show_frame(axes, frame, maximum=255) for frame in frames.numpy()]
    for k, image in enumerate(images):
        image.set(extent=(k * STEP, k * STEP + 1, top + 1, top), animated=animated)
    return images


def _fit(axes: Axes, right: float, bottom: float, left: float = 0.0) -> None:
    axes.set(xlim=(left, right), ylim=(bottom, -0.05), aspect="equal")
    axes.set_axis_off()
