"""Figures of notebook 02: atoms, the filters they make together, and what those filters answer.

Arguments are tensors as on the layers: ψ (M, kh, kw), φ (N, kt), and α (M, N), the coefficients of one filter. Directions are
in degrees, 0 right, 90 up; speeds in pixels per frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter
from torch import Tensor, nn
from torch.nn.functional import conv3d

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.convert import ConvertedLayer
from stdcf_lib.data.probes import drifting_grating, moving_bar
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.measure import cost
from stdcf_lib.plots.style import (
    ALPHA,
    BLACK,
    FULL,
    JOINT,
    PHI,
    PSI,
    SEPARABLE,
    Arrays,
    Drawing,
    Scene,
    family_color,
    new_figure,
    shade,
    show_frame,
    show_signed,
    signed_ends,
    signed_key,
    styled,
)

STEP = 1.15  # from one frame of a film strip to the next; a frame is one unit wide
_REPORTED = ("parameters_before", "parameters_after", "energy")  # what `conversion` draws of a report


def response_amplitude(
    filters: Tensor, speed: float = 1.0, direction: float = 0.0, wavelength: float = 8.0, dilation: int = 1
) -> np.ndarray:
    """How strongly filters answer a drifting grating that swings between -1 and 1.

    A linear filter answers a sine wave with a sine wave. Two gratings a quarter of a wave apart give the cosine and the
    sine of that answer at one voxel; the root of their squares is its amplitude, exact at any speed.

    Args:
        filters: (C_out, 1, kt, kh, kw).
        speed, direction, wavelength: of the grating, as for `drifting_grating`.
        dilation: of the filters along time, in frames.

    Returns:
        (C_out,) amplitudes.

    Raises:
        ValueError: filters of another shape.
    """
    if filters.dim() != 5 or filters.shape[1] != 1:
        raise ValueError(f"filters of shape {tuple(filters.shape)}: a grating has one channel; give (C_out, 1, kt, kh, kw)")
    kt, kh, kw = filters.shape[2:]
    grating = {"speed": speed, "direction": direction, "wavelength": wavelength}
    clips = [drifting_grating(dilation * (kt - 1) + 1, max(kh, kw), phase=phase, **grating) for phase in (0, 90)]
    waves = 2 * torch.cat(clips)[..., :kh, :kw].to(filters) - 1
    cosine, sine = conv3d(waves, filters.detach(), dilation=(dilation, 1, 1)).flatten(1)
    return torch.hypot(cosine, sine).numpy()


def direction_bank(directions: int = 8, frames: int = 5, size: int = 7, wavelength: float = 8.0) -> nn.Conv3d:
    """A float64 convolution whose channels look for motion at 1 px/frame, in evenly spread directions from 0 on.

    Its filters are gratings under a Gaussian window, of unit norm: space-time Gabor filters (Adelson and Bergen, 1985). The
    widths of the window are [ours].
    """
    t, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (frames, size))
    window = torch.exp(-(x**2 + x[:, None] ** 2) / 8 - t[:, None, None] ** 2 / 4)
    angles = [360 * i / directions for i in range(directions)]
    waves = [2 * drifting_grating(frames, size, direction=angle, wavelength=wavelength) - 1 for angle in angles]
    filters = torch.cat(waves) * window
    options = {"padding": "same", "padding_mode": "replicate", "bias": False, "dtype": torch.float64}
    bank = nn.Conv3d(1, directions, (frames, size, size), **options)
    bank.weight.data = filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    return bank


@styled
@torch.no_grad()
def atoms(psi: Tensor, phi: Tensor) -> Drawing:
    """Draw spatial atoms as pictures and temporal atoms as bars, one a frame."""
    figure = Figure(figsize=(8, 4))
    in_space, in_time = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.1, 1])[:, 0]
    axes = in_space.subplots()
    for m, atom in enumerate(psi):
        _film(axes, atom[None], left=m * STEP, edge=PSI)
        axes.text(m * STEP + 0.5, -0.08, rf"$\psi_{{{m + 1}}}$", ha="center", **_lettered(PSI))
    signed_key(axes, len(psi) * STEP + 0.25, 0.42, width=0.9)
    _fit(axes, right=len(psi) * STEP + 1.4, bottom=1, top=-0.3)
    in_space.suptitle(f"{len(psi)} spatial atoms of {psi.shape[1]}×{psi.shape[2]} pixels: small pictures")
    limit = 1.15 * float(phi.abs().max())
    for n, axes in enumerate(in_time.subplots(1, len(phi), sharey=True, squeeze=False)[0]):
        axes.axhline(0, color="0.5", linewidth=1)
        axes.bar(np.arange(phi.shape[1]), _numpy(phi[n]), color=PHI, width=0.5, zorder=3)
        axes.set(xlabel="frame", ylim=(-limit, limit), xticks=np.arange(phi.shape[1]))
        axes.set_title(rf"$\varphi_{{{n + 1}}}$", **_lettered(PHI))
    in_time.suptitle(f"{len(phi)} temporal atoms of {phi.shape[1]} frames: short rhythms")
    return Drawing(figure, {"psi": _numpy(psi), "phi": _numpy(phi)})


def products(psi: Tensor, phi: Tensor) -> Drawing:
    """Draw the multiplication table of atoms: frame t of film strip (m, n) is ψ_m · φ_n(t)."""
    return products_scene(len(psi), len(phi), phi.shape[1], psi.shape[1] / psi.shape[2])(psi, phi)


@styled
def products_scene(spatial_atoms: int, temporal_atoms: int, frames: int, aspect: float = 1.0) -> Scene[[Tensor, Tensor]]:
    """The figure of `products` for M atoms, `aspect` times as high as wide, and N atoms of that many frames."""
    strip, (left, top) = frames * STEP + 0.4, (1.6, 1.5)
    width, height = left + temporal_atoms * strip, top + spatial_atoms * STEP
    figure, axes = new_figure(width=9, height=0.4 + 9 * (height + 0.6) / (width + 0.8))
    blank = torch.zeros(frames, 100, round(100 / aspect))
    in_space, in_time, table = [], [], {}
    for m in range(spatial_atoms):
        axes.text(-0.15, top + m * STEP + 0.5, rf"$\psi_{{{m + 1}}}$", ha="right", va="center", **_lettered(PSI))
        in_space += _film(axes, blank[:1], top=top + m * STEP, edge=PSI, animated=True)
        for n in range(temporal_atoms):
            table[m, n] = _film(axes, blank, left=left + n * strip, top=top + m * STEP, animated=True)
    for n in range(temporal_atoms):
        axes.text(left + n * strip + (strip - 0.55) / 2, -0.15, rf"$\varphi_{{{n + 1}}}$", ha="center", **_lettered(PHI))
        in_time.append(_film(axes, torch.zeros(frames, 1, 1), left=left + n * strip, edge=PHI, animated=True))
    signed_key(axes, -0.5, 0.35)
    _fit(axes, right=width - 0.4, bottom=height, left=-0.8, top=-0.6)
    sizes = f"{spatial_atoms} × {temporal_atoms} clips of {frames} frames"
    axes.set_title(rf"Every $\psi_m \otimes \varphi_n$ is a small clip: {sizes}")

    @torch.no_grad()
    def show(psi: Tensor, phi: Tensor) -> Arrays:
        products = torch.einsum("mhw,nt->mnthw", psi, phi)
        _set_film(in_space, psi, limit=psi.abs().max())
        for atom, film in zip(phi, in_time, strict=True):
            _set_film(film, atom[:, None, None], limit=phi.abs().max())
        for (m, n), film in table.items():
            _set_film(film, products[m, n], limit=products.abs().max())
        return {"psi": _numpy(psi), "phi": _numpy(phi), "products": _numpy(products)}

    return Scene(figure, show)


@torch.no_grad()
def assembly(psi: Tensor, phi: Tensor, alpha: Tensor, terms: int) -> Drawing:
    """Draw W = Σ α^{mn} ψ_m ⊗ φ_n while it grows: its first `terms` terms, the largest |α| first."""
    return assembly_scene(len(psi), len(phi), phi.shape[1])(psi, phi, alpha, terms)


@styled
def assembly_scene(spatial_atoms: int, temporal_atoms: int, frames: int) -> Scene[[Tensor, Tensor, Tensor, int]]:
    """The figure of `assembly` for M and N atoms, and filters of that many frames."""
    most = spatial_atoms * temporal_atoms
    figure = Figure(figsize=(8.4, 4.4))
    layout: list[Any] = [["alpha", "films"], ["errors", "films"]]
    axes: dict[str, Any] = figure.subplot_mosaic(layout, width_ratios=[1, 1.4], height_ratios=[1.3, 1])
    table = _table(axes["alpha"], torch.zeros(spatial_atoms, temporal_atoms))
    table.set_animated(True)
    axes["alpha"].spines[:].set_animated(True)
    axes["alpha"].set_title(r"$\alpha$; in use: framed", **_lettered(ALPHA))
    frame = {
        (i, j): _outline(axes["alpha"], j - 0.45, i - 0.45, 0.9, 0.9, animated=True) for i, j in np.ndindex(*table.get_size())
    }
    (curve,) = axes["errors"].plot([], [], "o-", color=JOINT, markersize=3, animated=True)
    (now,) = axes["errors"].plot([], [], "D", color=ALPHA, markersize=7, zorder=3, animated=True)
    axes["errors"].set(xlabel="terms", ylabel="relative error", xlim=(-0.05 * most, 1.05 * most), ylim=(-0.05, 1.05))
    axes["errors"].xaxis.get_major_locator().set_params(integer=True)
    axes["errors"].yaxis.set_animated(True)
    axes["errors"].locator_params(axis="y", nbins=3)
    names = [axes["films"].text(0, 1.5 * row - 0.06, f"$W$, sum of all {most}", animated=True) for row in range(3)]
    films = [_film(axes["films"], torch.zeros(frames, 1, 1), top=1.5 * row, animated=True) for row in range(3)]
    key = signed_key(axes["films"], 0.05, 4.12, limit=1)
    key.xaxis.set_animated(True)
    _fit(axes["films"], right=frames * STEP, bottom=4.5, top=-0.3)
    title = figure.suptitle("terms", animated=True)

    @torch.no_grad()
    def show(psi: Tensor, phi: Tensor, alpha: Tensor, terms: int) -> Arrays:
        order = alpha.abs().flatten().argsort(descending=True, stable=True)
        if not 1 <= terms <= len(order):
            raise ValueError(f"terms={terms}: M × N = {len(order)} terms make the filter; give 1 to {len(order)}")
        every = torch.einsum("mn,mhw,nt->mnthw", alpha, psi, phi).flatten(0, 1)[order]
        sums = torch.cat([torch.zeros_like(every[:1]), every.cumsum(0)])
        w = sums[-1]
        errors = (sums - w).flatten(1).norm(dim=1) / w.norm()
        used = [divmod(int(i), alpha.shape[1]) for i in order[:terms]]
        m, n = used[-1]

        _set(table, _numpy(alpha))
        for place, outline in frame.items():
            outline.set(visible=place in used, edgecolor=ALPHA if place == (m, n) else BLACK)
        curve.set_data(range(len(errors)), _numpy(errors))
        now.set_data([terms], [float(errors[terms])])
        axes["errors"].set_ylim(-0.05, 1.05 * float(errors.max()))
        names[0].set_text(rf"${alpha[m, n]:+.2f}\;\psi_{{{m + 1}}} \otimes \varphi_{{{n + 1}}}$, the latest term")
        names[1].set_text(f"sum of {terms}")
        for images, film in zip(films, (every[terms - 1], sums[terms], w), strict=True):
            _set_film(images, film, limit=w.abs().max())
        key.set_xticks((-1, 0, 1), signed_ends(float(w.abs().max())))
        title.set_text(
            f"The {terms} largest of {len(order)} terms make the filter up to a relative error of {errors[terms]:.2f}"
        )
        arrays = {"alpha": alpha, "term": every[terms - 1], "sum": sums[terms], "filter": w, "errors": errors}
        return {name: _numpy(values) for name, values in arrays.items()}

    return Scene(figure, show)


@styled
@torch.no_grad()
def three_layers(clip: Tensor, psi: Tensor, phi: Tensor, alpha: Tensor, t: int = 0) -> Drawing:
    """Draw the maps between the three layers (Eq. 2): N after φ, N · M after ψ, C_out after α, at frame t of the output.

    clip is (1, 1, T, H, W), alpha (C_out, 1, M, N); no padding.
    """
    after_phi = conv3d(clip.to(phi), phi[:, None, :, None, None])[0]
    after_psi = conv3d(after_phi[:, None], psi[:, None, None])  # (N, M, T', H', W')
    output = torch.einsum("omn,nmthw->othw", alpha[:, 0], after_psi)
    frames = clip[0, 0, t : t + phi.shape[1]]
    columns = {
        "clip": frames[:, None],
        rf"after $\varphi$: $N = {len(phi)}$": after_phi[:, None, t],
        rf"after $\psi$: $N \cdot M = {len(phi) * len(psi)}$": after_psi[:, :, t],
        rf"after $\alpha$: $C_{{out}} = {len(alpha)}$": output[:, None, t],
    }
    colors = dict(zip(columns, ("0.5", PHI, PSI, ALPHA), strict=True))
    rows, gap = max(map(len, columns.values())), 0.9
    right = sum(maps.shape[1] * STEP + gap for maps in columns.values()) - gap
    figure, axes = new_figure(width=10, height=0.4 + 10 * (rows * STEP + 0.6) / right)
    left = 0.0
    for number, (name, maps) in enumerate(columns.items()):
        top = (rows - len(maps)) * STEP / 2
        for row, film in enumerate(maps):
            _film(
                axes,
                film,
                left=left,
                top=top + row * STEP,
                limit=maps.abs().max(),
                gray=number == 0,
                edge=colors[name] if number else None,
            )
            if number in (1, 2):
                label = rf"$\varphi_{{{row + 1}}}$"
                axes.text(left - 0.07, top + row * STEP + 0.5, label, ha="right", va="center", **_lettered(PHI))
        heading = left + (maps.shape[1] * STEP - STEP + 1) / 2
        axes.text(heading, top - (0.33 if number == 2 else 0.1), name, ha="center", **_lettered(colors[name]))
        if number == 2:
            for m in range(len(psi)):
                axes.text(left + m * STEP + 0.5, top - 0.08, rf"$\psi_{{{m + 1}}}$", ha="center", **_lettered(PSI))
        if number:
            axes.annotate("", (left - 0.3, rows * STEP / 2), (left - 0.62, rows * STEP / 2), arrowprops={"arrowstyle": "->"})
        left += maps.shape[1] * STEP + gap
    signed_key(axes, 0.05, rows * STEP - 0.3, width=1.2)
    _fit(axes, right=right, bottom=rows * STEP, top=-0.4)
    axes.set_title(
        rf"Eq. 2 at frame {t}: each rhythm $\varphi_n$ makes a map, each picture $\psi_m$ one of each, "
        rf"and $\alpha$ mixes all {len(phi) * len(psi)}"
    )
    arrays = {"frames": frames, "after_phi": after_phi[:, t], "after_psi": after_psi[:, :, t], "output": output[:, t]}
    return Drawing(figure, {name: _numpy(values) for name, values in arrays.items()})


@styled
@torch.no_grad()
def voxel(clip: Tensor, psi: Tensor, phi: Tensor, alpha: Tensor, t: int = 0, y: int = 0, x: int = 0) -> Drawing:
    """Draw every product behind one voxel of the output, by the filter W and by atoms and coefficients.

    Args:
        clip: (1, 1, T, H, W).
        psi, phi, alpha: of one filter.
        t, y, x: the voxel of the output, which is not padded.
    """
    w = torch.einsum("mn,mhw,nt->thw", alpha, psi, phi)
    kt, kh, kw = w.shape
    clip = clip[0, 0].to(w)
    output = conv3d(clip[None, None], w[None, None])[0, 0]
    if not all(0 <= i < n for i, n in zip((t, y, x), output.shape, strict=True)):
        raise ValueError(f"t={t}, y={y}, x={x} is outside the output of shape {tuple(output.shape)}")
    patch = clip[t : t + kt, y : y + kh, x : x + kw]
    answers = torch.einsum("mhw,nt,thw->mn", psi, phi, patch)

    figure = Figure(figsize=(9.6, 5.8))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.45])[:, 0]
    axes = above.subplots()
    _film(axes, clip[t : t + kt], gray=True)
    for k in range(kt):
        _outline(axes, k * STEP + x / clip.shape[2], y / clip.shape[1], kw / clip.shape[2], kh / clip.shape[1])
        axes.text(k * STEP + 0.5, -0.05, f"clip, frame {t + k}", ha="center")
    right = kt * STEP + 0.5
    _film(axes, output[t][None], left=right, limit=output.abs().max())
    _outline(axes, right + x / output.shape[2], y / output.shape[1], 1 / output.shape[2], 1 / output.shape[1])
    axes.text(right + 0.5, -0.05, f"output, frame {t}", ha="center")
    signed_key(axes, right + 1.2, 0.42, width=0.6, limit=float(output.abs().max()))
    _fit(axes, right=right + 2, bottom=1, top=-0.2)
    above.suptitle(f"Output voxel t={t}, y={y}, x={x} is {_signed(output[t, y, x])}: the same sum, made in two ways")

    tables = {
        "patch": patch.flatten(0, 1),
        r"$\times\;W$": w.flatten(0, 1),
        f"= {w.numel()} products,\nsum {_signed((patch * w).sum())}": (patch * w).flatten(0, 1),
        r"$\psi_m \otimes \varphi_n$ on patch": answers,
        r"$\times\;\alpha^{mn}$": alpha,
        f"= {alpha.numel()} products,\nsum {_signed((answers * alpha).sum())}": answers * alpha,
    }
    for cells, (name, values) in zip(below.subplots(1, 6), tables.items(), strict=True):
        _table(cells, values, numbers=True, labels=values.shape == alpha.shape)
        cells.set_title(name, **(_lettered(ALPHA) if values is alpha else {}))
        cells.set_anchor("N")
        if values.shape != alpha.shape:
            cells.hlines([k * kh - 0.5 for k in range(1, kt)], -0.5, kw - 0.5, color="white", linewidth=4)
    arrays = {"patch": patch, "filter": w, "products": patch * w}
    arrays |= {"answers": answers, "terms": answers * alpha, "output": output}
    return Drawing(figure, {name: _numpy(values) for name, values in arrays.items()})


@styled
@torch.no_grad()
def direction_selectivity(psi: Tensor, phi: Tensor, alpha: Tensor, speed: float = 1.0, wavelength: float = 8.0) -> Drawing:
    """Draw a filter above the nearest separable one: α, film strip, x-t slice, and answers to gratings of every direction."""
    w = torch.einsum("mn,mhw,nt->thw", alpha, psi, phi)
    fit = joint_decomposition(w[None, None], 1, 1)
    separable = torch.einsum("mn,mhw,nt->thw", fit.alpha[0, 0], fit.psi, fit.phi)
    # The nearest separable filter lies in the span of the same atoms, so it has an α of its own.
    coordinates = [torch.linalg.pinv(atoms.flatten(1)) for atoms in (psi, phi)]
    alphas = alpha, coordinates[0].T @ separable.flatten(1).T @ coordinates[1]
    directions = np.arange(0, 360, 5)
    pair = torch.stack([w, separable])[:, None]
    answers = np.stack([response_amplitude(pair, speed, angle, wavelength) for angle in directions.tolist()])

    figure = Figure(figsize=(11, 4.2))
    layout: list[Any] = [[f"alpha {row}", f"film {row}", f"slice {row}", "polar"] for row in (0, 1)]
    axes = figure.subplot_mosaic(layout, width_ratios=[1, 4, 0.9, 1.7], per_subplot_kw={"polar": {"projection": "polar"}})
    for row, (name, film, line, color) in enumerate(
        (("this filter", w, "-", JOINT), ("the nearest separable filter", separable, "--", SEPARABLE))
    ):
        _table(axes[f"alpha {row}"], alphas[row], numbers=True)
        rank = np.linalg.matrix_rank(_numpy(alphas[row]), tol=1e-4)
        axes[f"alpha {row}"].set_title(rf"$\alpha$, rank {rank}", **_lettered(ALPHA))
        _film(axes[f"film {row}"], film, limit=w.abs().max())
        _fit(axes[f"film {row}"], right=len(w) * STEP, bottom=1)
        axes[f"film {row}"].set_title(name, color=color)
        if row:
            signed_key(axes["film 1"], 0.02, 1.06, limit=float(w.abs().max()))
        show_signed(axes[f"slice {row}"], _numpy(film[:, w.shape[1] // 2]), float(w.abs().max()))
        axes[f"slice {row}"].set(xlabel="x", ylabel="t, downwards", title="middle row")
        around = [*range(len(directions)), 0]
        axes["polar"].plot(np.radians(directions[around]), answers[around, row], line, color=color, linewidth=2)
    axes["polar"].set(ylim=(0, 1.05 * answers.max()), yticklabels=[], title="answer to a grating")
    best = int(answers[:, 0].argmax())
    away = (best + 36) % 72
    figure.suptitle(
        f"Toward {directions[best]}°: {answers[best, 0]:.2f}, away: {answers[away, 0]:.2f}. Nearest separable: "
        f"{answers[best, 1]:.2f} and {answers[away, 1]:.2f}, although it keeps {fit.energy:.0%} of the energy"
    )
    arrays = {"alpha": alpha, "filter": w, "separable": separable}
    return Drawing(figure, {k: _numpy(v) for k, v in arrays.items()} | {"directions": directions, "amplitudes": answers})


@styled
@torch.no_grad()
def sides(separable: Tensor, joint: Tensor) -> Drawing:
    """Draw how much more strongly filters answer motion to the right than to the left: a grating's amplitude, and the energy of
    the answer to a moving bar, before and after a ReLU; a dot for each separable filter, a diamond for the joint one.

    Args:
        separable: (n, 1, kt, kh, kw).
        joint: (kt, kh, kw).
    """
    filters = torch.cat([separable, joint[None, None].to(separable)])
    bars = [conv3d(moving_bar(13, direction=angle).to(filters), filters)[0] for angle in (0, 180)]
    both_ways = {
        "amplitude, grating": [response_amplitude(filters, direction=angle) for angle in (0, 180)],
        "energy, bar": [_numpy(answer.square().mean((1, 2, 3))) for answer in bars],
        "energy, bar, after ReLU": [_numpy(answer.relu().square().mean((1, 2, 3))) for answer in bars],
    }
    figure, axes = new_figure(width=8.0, height=2.6)
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(separable))
    arrays = {}
    for row, (name, (right, left)) in enumerate(both_ways.items()):
        *ratios, of_joint = arrays[name] = right / np.maximum(left, 1e-3 * right)
        axes.plot(ratios, row + spread, "o", color=SEPARABLE, markersize=3, alpha=0.5, label=None if row else "separable")
        axes.plot(of_joint, row, "D", color=JOINT, label=None if row else "joint, rank 2")
    axes.axvline(1, color=BLACK, linewidth=0.8)
    axes.set(
        xscale="log",
        xlim=(0.2, 2000),
        yticks=range(3),
        yticklabels=both_ways,
        xlabel="answer to the right / to the left (1000 stands for more)",
    )
    axes.invert_yaxis()
    axes.legend(loc="upper center")
    widest = max(max(r, 1 / r) for r in arrays["energy, bar, after ReLU"][:-1])
    axes.set_title(f"Separable filters take no side, and after a ReLU a small one: at most {widest:.1f} to 1")
    return Drawing(figure, arrays)


@styled
@torch.no_grad()
def film_strips(strips: Mapping[str, Tensor], gray: bool = False) -> Drawing:
    """Draw named film strips (T, H, W), one a row, on one scale; `gray` for clips in [0, 1], otherwise signed."""
    longest = max(map(len, strips.values()))
    inches = min(1.0, 9 / (longest * STEP))  # a frame's width
    figure, axes = new_figure(width=inches * longest * STEP, height=inches * (1.45 * len(strips) + (0 if gray else 0.4)) + 0.2)
    limit = torch.stack([film.abs().max() for film in strips.values()]).max()
    for row, (name, film) in enumerate(strips.items()):
        axes.text(0, 1.45 * row - 0.08, name)
        _film(axes, film, top=1.45 * row, limit=limit, gray=gray)
    if not gray:
        signed_key(axes, 0.03, 1.45 * len(strips) - 0.32, limit=float(limit))
    _fit(axes, right=longest * STEP, bottom=1.45 * len(strips) - (0.4 if gray else 0), top=-0.4)
    return Drawing(figure, {name: _numpy(film) for name, film in strips.items()})


@styled
@torch.no_grad()
def compass(clip: Tensor, bank: nn.Conv3d, spatial_atoms: int, temporal_atoms: int, temporal_dilation: int = 1) -> Drawing:
    """Draw a direction bank, converted to M and N atoms, at work: its first filter, that one's answer, the energy of all.

    Args:
        clip: (1, 1, T, H, W), T odd. Its mean is taken off, so that gray is zero to the filters.
        bank: with channels that look in evenly spread directions from 0 on, such as `direction_bank()`.
        spatial_atoms, temporal_atoms, temporal_dilation: of the converted layer.

    Raises:
        ValueError: an even number of frames.
    """
    if clip.shape[2] % 2 == 0:
        raise ValueError(f"clip of {clip.shape[2]} frames has none in the middle; give an odd number of frames")
    scene = compass_scene(clip.shape[2], len(bank.weight), bank.weight.shape[2])
    return scene(clip, bank, spatial_atoms, temporal_atoms, temporal_dilation)


@styled
def compass_scene(frames: int, directions: int, taps: int) -> Scene[[Tensor, nn.Conv3d, int, int, int]]:
    """The figure of `compass` for clips of square frames, and a bank of that many directions and frames.

    `frames` of a clip are shown, its middle ones, as large as the width allows; the energy is that of all its frames.
    """
    tall = 4.8 / (STEP * frames) * 10.2  # inches of the strips, which take the width
    figure = Figure(figsize=(10, tall + 2.5))
    layout: list[Any] = [["strips"], ["compass"]]
    axes = figure.subplot_mosaic(layout, height_ratios=[tall, 1.6], per_subplot_kw={"compass": {"projection": "polar"}})
    strips, blank = axes["strips"], torch.zeros(frames, 1, 1)
    in_filter = _film(strips, blank[:taps], animated=True)
    edges = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=JOINT, linewidth=2, animated=True) for _ in range(taps)]
    for edge in edges:
        strips.add_patch(edge)
    in_clip = _film(strips, blank, top=1.6, gray=True, animated=True)
    in_answer = _film(strips, blank, top=3.2, animated=True)
    _outline(strips, (frames - 1) / 2 * STEP, 3.2, 1, 1, animated=True)
    names = (
        "the filter that looks right",
        "clip; the filters see it less its mean",
        f"that filter's answer, on the scale of the strongest of the {directions}; framed: made from the frames above",
    )
    for row, name in enumerate(names):
        strips.text(0, 1.6 * row - 0.12, name)
    signed_key(strips, STEP * (frames - 1) - 0.9, -0.52, width=1.7)  # above the frames, which dilation spreads
    _fit(strips, right=STEP * (frames - 1) + 1.02, bottom=4.2, top=-0.6)
    angles = np.arange(directions) * 2 * np.pi / directions
    width = 0.6 * 2 * np.pi / directions
    bars = axes["compass"].bar(angles, np.ones(directions), width=width, color=JOINT, zorder=3, animated=True)
    axes["compass"].set(yticklabels=[], title=f"energy of the {directions} answers")
    axes["compass"].yaxis.set_animated(True)
    title = figure.suptitle("$M$", animated=True)

    @torch.no_grad()
    def show(clip: Tensor, bank: nn.Conv3d, spatial_atoms: int, temporal_atoms: int, temporal_dilation: int) -> Arrays:
        layer = STDCFConv3d.from_conv3d(bank, spatial_atoms, temporal_atoms)
        layer.dilate(temporal=temporal_dilation)
        clip = clip.to(bank.weight)
        filters, answer = layer.filters()[:, 0], layer(clip - clip.mean())[0]
        kept = 1 - (filters - bank.weight[:, 0]).square().sum() / bank.weight.square().sum()
        energy = answer.square().mean(dim=(1, 2, 3))
        before = (clip.shape[2] - frames) // 2
        watched, shown = clip[0, 0, before : before + frames], answer[:, before : before + frames]
        answered, answer_limit = shown[0], shown.abs().max()

        _set_film(in_filter, filters[0])
        # Over the very frames of the clip that it meets when it answers in the middle frame.
        first = (frames - 1 - temporal_dilation * (taps - 1)) / 2
        for k, (image, edge) in enumerate(zip(in_filter, edges, strict=True)):
            left = (first + k * temporal_dilation) * STEP
            image.set_extent((left, left + 1, 1, 0))
            edge.set_x(left)
        for image, frame in zip(in_clip, _numpy(watched), strict=True):
            image.set_data(frame)
        _set_film(in_answer, answered, answer_limit)
        for bar, height in zip(bars, energy.tolist(), strict=True):
            bar.set_height(height)
        axes["compass"].set_ylim(0, 1.05 * float(energy.max()))
        title.set_text(f"$M={spatial_atoms}$, $N={temporal_atoms}$ keep {kept:.1%} of the filters' energy")
        arrays = {"filter": filters[0], "clip": watched, "answer": answered, "energy": energy}
        return {name: _numpy(values) for name, values in arrays.items()}

    return Scene(figure, show)


@styled
@torch.no_grad()
def tempo(w: Tensor, dilations: Sequence[int] = (1, 2, 3)) -> Drawing:
    """Draw the answer of a filter (kt, kh, kw) to gratings drifting right against their speed, for some temporal dilations."""
    speeds = np.linspace(0, 3, 61)
    amplitudes = np.array([[response_amplitude(w[None, None], v, dilation=d)[0] for v in speeds] for d in dilations])
    figure, panels = new_figure(1, 2, width=9, height=3.2, sharey=True)
    for k, (d, answer, width) in enumerate(zip(dilations, amplitudes, np.linspace(5, 1.5, len(dilations)), strict=True)):
        for axes, x in zip(panels, (speeds, d * speeds), strict=True):
            axes.plot(x, answer, color=shade(JOINT, 0.6 - 0.3 * k), label=f"dilation {d}", linewidth=width)
    panels[0].set(xlabel="speed of the grating, px/frame", ylabel="amplitude of the answer")
    panels[0].set_title("Dilated in time, a filter likes slower motion")
    panels[1].set(xlabel="dilation × speed, px/frame", xlim=(0, 3), title="Against dilation × speed: one curve")
    panels[1].legend(loc="lower center")
    return Drawing(figure, {"speeds": speeds, "amplitudes": amplitudes})


@styled
@torch.no_grad()
def energy_kept(banks: Mapping[str, Tensor]) -> Drawing:
    """Draw the energy that the best M spatial and N temporal atoms keep, for banks of filters (C_out, C_in, kt, kh, kw)."""
    figure, panels = new_figure(1, len(banks), width=1.4 + 2.4 * len(banks), height=4.2, sharey=True, squeeze=False)
    arrays = {}
    for axes, (name, filters) in zip(panels[0], banks.items(), strict=True):
        kt, kh, kw = filters.shape[2:]
        grid = [[joint_decomposition(filters, m, n).energy for n in range(1, kt + 1)] for m in range(1, kh * kw + 1)]
        arrays[name] = np.array(grid)
        axes.imshow(grid, cmap="gray", vmin=0, vmax=1, aspect="auto", origin="lower")
        for (m, n), energy in np.ndenumerate(arrays[name]):
            axes.text(n, m, f"{energy:.0%}", ha="center", va="center", size=8, color="black" if energy > 0.5 else "white")
        axes.set(xticks=range(kt), xticklabels=range(1, kt + 1), xlabel="temporal atoms $N$", title=name)
        axes.set(yticks=range(kh * kw), yticklabels=range(1, kh * kw + 1))
        axes.grid(False)
    panels[0, 0].set_ylabel("spatial atoms $M$")
    m = min(5, *map(len, arrays.values()))
    least, most = (f"{100 * end(grid[m - 1, -1] for grid in arrays.values()):.0f}" for end in (min, max))
    share = most if least == most else f"{least} to {most}"
    figure.suptitle(f"The best {m} spatial atoms keep {share}% of the energy, if no temporal one is left out")
    return Drawing(figure, arrays)


@styled
def conversion(report: Sequence[ConvertedLayer]) -> Drawing:
    """Draw the report of `to_stdcf`, a row a layer: parameters before and after, and the energy that its filters keep."""
    before, after, energy = (np.array([getattr(layer, name) for layer in report]) for name in _REPORTED)
    rows = np.arange(len(report))
    figure, (sizes, kept) = new_figure(1, 2, width=9, height=0.9 + 0.24 * len(report), sharey=True, width_ratios=[2, 1])
    sizes.hlines(rows, before, after, color="0.6")
    sizes.plot(before, rows, "o", color=FULL, markerfacecolor="white", label="before: full 3D")
    sizes.plot(after, rows, "D", color=JOINT, label="after: STDCF")
    sizes.set(xscale="log", xlabel="parameters", yticks=rows, yticklabels=[layer.name for layer in report])
    sizes.set_title(f"Parameters of the converted layers: {before.sum():,} before, {after.sum():,} after")
    sizes.invert_yaxis()
    sizes.legend()
    kept.barh(rows, energy, height=0.5, color=JOINT, zorder=3)
    kept.set(xlim=(0, 1), xlabel="share of the filters' energy", title="Energy kept")
    return Drawing(figure, dict(zip(_REPORTED, (before, after, energy), strict=True)))


@styled
def costs(models: Mapping[str, nn.Module], input_size: tuple[int, ...]) -> Drawing:
    """Draw what models cost, side by side, as `measure.cost` counts it for an input of that shape."""
    counted = np.array([cost(model, input_size) for model in models.values()])
    names = {"parameters": "parameters", "macs": "multiply-accumulates", "stored_bytes": "bytes kept for backward"}
    figure, panels = new_figure(1, len(names), width=9.6, height=0.9 + 0.45 * len(models), sharey=True)
    for axes, label, values in zip(panels, names.values(), counted.T, strict=True):
        axes.barh(range(len(models)), values, height=0.6, color=[family_color(name) for name in models], zorder=3)
        for row, value in enumerate(values):
            axes.text(value, row, f" {value / values[0]:.2f}", va="center")
        axes.set(yticks=range(len(models)), yticklabels=list(models), xlabel=label, xlim=(0, 1.25 * values.max()))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.get_major_locator().set_params(nbins=4)
    panels[0].invert_yaxis()
    figure.suptitle(f"Numbers beside the bars: relative to {next(iter(models))}")
    return Drawing(figure, dict(zip(names, counted.T, strict=True)))


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().numpy()


def _signed(value: Tensor) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _film(
    axes: Axes,
    frames: Tensor,
    left: float = 0.0,
    top: float = 0.0,
    limit: Tensor | None = None,
    gray: bool = False,
    step: float = STEP,
    edge: str | None = None,
    animated: bool = False,
) -> list[AxesImage]:
    """Place frames (T, H, W) side by side in axes whose y runs downwards; each one unit wide, in a frame of colour `edge`."""
    most = float(frames.detach().abs().max() if limit is None else limit.detach()) or 1.0
    images = []
    for k, frame in enumerate(_numpy(frames)):
        images.append(show_frame(axes, frame) if gray else show_signed(axes, frame, most))
        height = frame.shape[0] / frame.shape[1]
        images[k].set(extent=(left + k * step, left + k * step + 1, top + height, top), animated=animated)
        if gray or edge:  # a white clip would melt into the page
            line = {"edgecolor": edge or "0.5", "linewidth": 2 if edge else 0.5, "animated": animated}
            axes.add_patch(Rectangle((left + k * step, top), 1, height, fill=False, **line))
    return images


def _set(image: AxesImage, values: np.ndarray, limit: float | None = None) -> None:
    """Give an image of `show_signed` other values."""
    most = (float(np.abs(values).max()) if limit is None else limit) or 1.0
    image.set(data=values, clim=(-most, most))


def _set_film(images: Sequence[AxesImage], frames: Tensor, limit: Tensor | None = None) -> None:
    """Give a signed film other frames."""
    most = float(frames.abs().max() if limit is None else limit)
    for image, frame in zip(images, _numpy(frames), strict=True):
        _set(image, frame, most)


def _lettered(color: str) -> dict[str, Any]:
    """How the name of a symbol is written: in its colour, darker so that it can be read."""
    return {"color": shade(color, -0.25)}


def _fit(axes: Axes, right: float, bottom: float, left: float = 0.0, top: float = 0.0) -> None:
    axes.set(xlim=(left - 0.02, right), ylim=(bottom + 0.02, top - 0.02), aspect="equal")
    axes.set_axis_off()


def _table(axes: Axes, values: Tensor, numbers: bool = False, labels: bool = True) -> AxesImage:
    """Draw a matrix in cells, by default over ψ downwards and φ to the right."""
    cells = _numpy(values)
    limit = float(np.abs(cells).max()) or 1.0
    image = show_signed(axes, cells, limit)
    axes.set_aspect(0.6 if numbers else 1)
    if labels:
        axes.set_yticks(range(len(values)), [rf"$\psi_{{{m + 1}}}$" for m in range(len(values))])
        axes.set_xticks(range(values.shape[1]), [rf"$\varphi_{{{n + 1}}}$" for n in range(values.shape[1])])
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.tick_params(axis="y", labelcolor=_lettered(PSI)["color"])
        axes.tick_params(axis="x", labelcolor=_lettered(PHI)["color"])
    if numbers:
        for (i, j), value in np.ndenumerate(cells):
            text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
            axes.text(j, i, text, ha="center", va="center", size=7, color="white" if value < -0.3 * limit else "black")
    return image


def _outline(axes: Axes, x: float, y: float, width: float, height: float, color: str = BLACK, **options: Any) -> Rectangle:
    halo = [withStroke(linewidth=4, foreground="white")]  # so that it is seen on black, too
    outline = Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=2, path_effects=halo, **options)
    axes.add_patch(outline)
    return outline
