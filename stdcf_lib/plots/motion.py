"""Films: products of atoms, gratings, and the filters that watch them (notebooks 00 and 02).

Pictures are enlarged by whole numbers, so that every pixel of a clip stays a square. Arguments are tensors as on the layers:
ψ (M, kh, kw), φ (N, kt), filters (kt, kh, kw).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from stdcf_lib.atoms import spatial_atoms, temporal_atoms
from stdcf_lib.data.probes import drifting_grating
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.plots.joint_convolution import response_amplitude
from stdcf_lib.plots.style import BLUE, PHI, PSI, VERMILLION, Film, show_frame, show_signed, styled

DPI = 100
SMALLEST = 90  # width of a clip, in pixels of the screen
STEPS = 2  # pictures of `watching` for one frame of a clip, so that the gratings glide


def direction_filter() -> Tensor:
    """The filter (5, 5, 5) for motion to the right of notebook 02: α of rank two, its even and its odd term equally loud."""
    psi, phi = spatial_atoms((5, 5), 2), temporal_atoms(5, 3)
    even, odd = torch.einsum("hw,t->thw", psi[0], phi[2]), torch.einsum("hw,t->thw", psi[1], phi[1])
    loudness = response_amplitude(torch.stack([even, odd])[:, None])
    return even + float(loudness[0] / loudness[1]) * odd


@styled
@torch.no_grad()
def watching(joint: Tensor | None = None, wavelength: int = 8) -> Film:
    """Film two gratings that drift at 1 px/frame, to the right and to the left, and what two filters answer to them: the
    separable filter (rank one) nearest to `joint`, and `joint` itself.

    An answer is made from the frames up to now, within the square that the filter covers. The filters' own frames are played
    beside their answers.

    Args:
        joint: a square filter (kt, k, k) of rank two; by default `direction_filter()`.
        wavelength: of the gratings, in pixels.
    """
    w = direction_filter() if joint is None else joint
    fit = joint_decomposition(w[None, None], 1, 1)
    pair = torch.stack([torch.einsum("mn,mhw,nt->thw", fit.alpha[0, 0], fit.psi, fit.phi), w])
    kt, size, margin, frames = len(w), w.shape[-1], 7, STEPS * wavelength
    corner = margin - 0.5, margin - 0.5
    wide, narrow = 152 // (size + 2 * margin) * (size + 2 * margin), 100 // size * size  # on the screen
    directions = {"right": 0, "left": 180}

    def passing(direction: int) -> Tensor:
        """Clips (frames, kt, H, W): what has just gone by, a little later in each."""
        grating = {"direction": direction, "wavelength": wavelength}
        return torch.cat(
            [drifting_grating(kt, size + 2 * margin, phase=-360 * k / frames, **grating)[0] for k in range(frames)]
        )

    clips = torch.stack([passing(direction) for direction in directions.values()])
    covered = 2 * clips[..., margin:-margin, margin:-margin].to(w) - 1
    answers = torch.einsum("fthw,skthw->fsk", pair, covered).numpy()
    loudness = [response_amplitude(pair[:, None], direction=a, wavelength=wavelength) for a in directions.values()]
    patterns = pair[:, torch.arange(frames) * kt // frames]  # slower than the stripes, so that the loop has no gap

    figure = blank(800, 532)
    write(figure, 400, 26, "Which filter tells right from left?", size=19)
    gratings, filters, traces, points = [], [], [], []
    for s, side in enumerate(directions):
        left = 200 + 300 * s
        write(figure, left + 140, 62, {"right": "to the right  →", "left": "←  to the left"}[side], size=16)
        axes = place(figure, left + (280 - wide) / 2, 80, wide, wide)
        gratings.append(show_frame(axes, clips[s, 0, -1].numpy()))
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=VERMILLION, linewidth=5))
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=BLUE, linewidth=2))
    back = np.arange(-2 * frames, 1)
    for f, (name, color) in enumerate({"rank one": VERMILLION, "rank two": BLUE}.items()):
        top = 248 + 138 * f
        filters.append(
            show_signed(
                place(figure, 90 - narrow / 2, top + 6, narrow, narrow, color), patterns[f, 0].numpy(), float(w.abs().max())
            )
        )
        write(figure, 90, top + 122, name, size=16, color=color, weight="bold")
        for s in range(len(directions)):
            axes = place(figure, 200 + 300 * s, top + 22, 280, 104)
            axes.set(xlim=(back[0], 2), ylim=1.1 * np.abs(answers).max() * np.array([-1, 1]), xticks=[], yticks=[])
            axes.grid(False)
            axes.spines[:].set_visible(False)
            axes.axhline(0, color="0.75", linewidth=1.5)
            traces.append((axes.plot(back, 0 * back, "-", color=color, linewidth=3.5, clip_on=False)[0], answers[f, s]))
            points.append((axes.plot(0, 0, "o", color=color, markersize=10, clip_on=False)[0], answers[f, s]))
            write(figure, 200 + 300 * s, top + 8, f"±{loudness[s][f]:.1f}", size=16, color=color, ha="left")

    def show(k: int) -> None:
        for s, image in enumerate(gratings):
            image.set_data(clips[s, k, -1].numpy())
        for f, image in enumerate(filters):
            image.set_data(patterns[f, k].numpy())
        for trace, answer in traces:
            trace.set_ydata(answer[(k + back) % frames])
        for point, answer in points:
            point.set_ydata(answer[[k]])

    show(0)
    arrays = {f"answer of rank {f + 1}, {side}": answers[f, s] for f in (0, 1) for s, side in enumerate(directions)}
    arrays |= {f"grating, {side}": clips[s, :, -1].numpy() for s, side in enumerate(directions)}
    return Film(figure, arrays | {"rank 1": pair[0].numpy(), "rank 2": w.numpy()}, frames, show, pause=90)


@styled
@torch.no_grad()
def products(psi: Tensor, phi: Tensor) -> Film:
    """Film the multiplication table of atoms: ψ_m above, φ_n beside it, and every ψ_m ⊗ φ_n as a small moving clip."""
    table = torch.einsum("mhw,nt->nmthw", psi, phi).numpy()
    frames, most = phi.shape[1], [float(values.abs().max()) for values in (psi, phi)]
    scale = -(-SMALLEST // psi.shape[2])
    width, height = scale * psi.shape[2], scale * psi.shape[1]
    figure = blank(170 + len(psi) * (width + 14), 78 + (len(phi) + 1) * (height + 14))
    write(figure, figure.bbox.width / 2, 18, r"$\psi_m \otimes \varphi_n$: each picture, in each rhythm", size=13)
    images, taps = [], []
    for m, atom in enumerate(psi):
        left = 164 + m * (width + 14)
        write(figure, left + width / 2, 52, rf"$\psi_{{{m + 1}}}$", size=15, color=PSI)
        show_signed(place(figure, left, 68, width, height, PSI), atom.numpy(), most[0])
        for n in range(len(phi)):
            axes = place(figure, left, 68 + (n + 1) * (height + 14), width, height)
            images.append((show_signed(axes, table[n, m, 0], most[0] * most[1]), table[n, m]))
    for n, atom in enumerate(phi):
        top = 68 + (n + 1) * (height + 14)
        write(figure, 24, top + height / 2, rf"$\varphi_{{{n + 1}}}$", size=15, color=PHI)
        axes = place(figure, 48, top, 100, height, PHI)
        axes.set(xlim=(-0.7, frames - 0.3), ylim=(-1.15 * most[1], 1.15 * most[1]), xticks=[], yticks=[])
        axes.axhline(0, color="0.6", linewidth=1)
        taps.append(axes.bar(np.arange(frames), atom.numpy(), width=0.6))

    def show(k: int) -> None:
        for image, clip in images:
            image.set_data(clip[k])
        for bars in taps:
            for t, bar in enumerate(bars):
                bar.set(facecolor=PHI, alpha=1.0 if t == k else 0.3)

    show(0)
    return Film(figure, {"psi": psi.numpy(), "phi": phi.numpy(), "products": table}, frames, show, pause=500)


@styled
def side_by_side(clips: Mapping[str, np.ndarray], title: str = "", pause: int = 100) -> Film:
    """Film gray clips (T, H, W) of one length side by side, with their names above; black is 0, white 1, or 255 in uint8."""
    first = next(iter(clips.values()))
    frames, rows, columns = first.shape
    scale = max(2, -(-140 // columns))
    width, height, above = scale * columns, scale * rows, 66 if title else 34
    figure = blank(len(clips) * (width + 20) + 20, above + height + 16)
    if title:
        write(figure, figure.bbox.width / 2, 18, title, size=12)
    images = []
    for i, (name, clip) in enumerate(clips.items()):
        left = 20 + i * (width + 20)
        write(figure, left + width / 2, above - 16, name, size=11)
        images.append(
            (show_frame(place(figure, left, above, width, height), clip[0], 255 if clip.dtype == np.uint8 else 1), clip)
        )

    def show(k: int) -> None:
        for image, clip in images:
            image.set_data(clip[k])

    return Film(figure, dict(clips), frames, show, pause)


@styled
@torch.no_grad()
def compass(clip: Tensor, bank: nn.Conv3d) -> Film:
    """Film a clip (1, 1, T, H, W) in the middle and, around it, what each filter of a `direction_bank()` of eight answers, on
    the side to which it looks. The clip's mean is taken off, so that gray is zero to the filters.
    """
    clip = clip.to(bank.weight)
    answers = bank(clip - clip.mean())[0].numpy()
    scale = -(-112 // clip.shape[-1])
    side = scale * clip.shape[-1]
    figure = blank(3 * (side + 12) + 12, 3 * (side + 12) + 44)
    write(figure, figure.bbox.width / 2, 18, "Each filter's answer, on the side to which it looks", size=10)
    limit, shown = float(np.abs(answers).max()), []
    for row, column in np.ndindex(3, 3):
        axes = place(figure, 12 + column * (side + 12), 40 + row * (side + 12), side, side)
        if row == column == 1:
            shown.append((show_frame(axes, clip[0, 0, 0].numpy()), clip[0, 0].numpy()))
        else:
            turn = round(np.degrees(np.arctan2(1 - row, column - 1)) / 45) % 8
            shown.append((show_signed(axes, answers[turn, 0], limit), answers[turn]))

    def show(k: int) -> None:
        for image, moving in shown:
            image.set_data(moving[k])

    return Film(figure, {"clip": clip[0, 0].numpy(), "answers": answers}, clip.shape[2], show)


def blank(width: float, height: float) -> Figure:
    """An empty figure of so many pixels, laid out by hand: what is placed on it keeps to whole pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.set_layout_engine("none")
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float, frame: str | None = None) -> Axes:
    """Axes in pixels from the upper left corner, framed in a colour or thinly in gray."""
    w, h = figure.bbox.width, figure.bbox.height
    axes = figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
    axes.spines[:].set(visible=True, edgecolor=frame or "0.5", linewidth=3 if frame else 0.5)
    axes.grid(False)
    return axes


def write(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """Text centred at pixels from the upper left corner."""
    look = {"ha": "center", "va": "center"} | look
    figure.text(x / figure.bbox.width, 1 - y / figure.bbox.height, text, **look)
