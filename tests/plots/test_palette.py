"""One colour for each symbol and each family of filters, in every figure; one way to write φ."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, same_color, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from stdcf_lib import Rank1Conv3d, STDCFConv3d, explore
from stdcf_lib.plots import capacity, itsl, reconstruction, tempo, tr_mnist
from stdcf_lib.plots import joint_convolution as joint
from stdcf_lib.plots.__main__ import direction_selectivity, output_voxel
from stdcf_lib.plots.style import BLUE, FULL, JOINT, PHI, PSI, SEPARABLE, Drawing, family_color, new_figure

ROOT = Path(__file__).parents[2]


def blindness() -> Drawing:
    psi, phi = torch.eye(9)[:2].view(2, 3, 3), torch.eye(3)[:2]
    bank = torch.einsum("imn, mhw, nt -> ithw", torch.rand(4, 2, 2), psi, phi)
    return joint.sides(bank[:3, None], bank[3])


def layers() -> Drawing:
    models = {
        "full 3D": torch.nn.Conv3d(2, 2, 3),
        "STDCF, three layers": STDCFConv3d(2, 2, 3),
        "rank-1": Rank1Conv3d(2, 2, 3),
    }
    return joint.costs(models, (1, 2, 4, 8, 8))


def rest(make) -> Drawing:
    panel = make()
    return panel.draw(**panel.values)


# Figures that name a family or a symbol.
DRAWN = {
    "alpha_matrix": capacity.alpha_matrix,
    "counts": capacity.counts,
    "families": capacity.families,
    "products": lambda: rest(explore.atom_products),
    "assembly": lambda: rest(explore.filter_assembly),
    "voxel": output_voxel,
    "directions": direction_selectivity,
    "sides": blindness,
    "costs": layers,
    "coupling": tr_mnist.coupling,
    "learning_curves": reconstruction.learning_curves,
    "final_errors": reconstruction.final_errors,
    "starts": reconstruction.starts,
    "error_by_weights": reconstruction.error_by_weights,
    "learned_atoms": reconstruction.learned_atoms,
    "by_tempo": tempo.by_tempo,
    "steps": itsl.steps,
}


def hue(color) -> float:
    return float(rgb_to_hsv(to_rgb(color))[0])


def alike(color, meant: str) -> bool:
    """Whether a colour is the one meant or a shade of it; black has no shades."""
    if meant == FULL:
        return same_color(color, FULL)
    return abs(hue(color) - hue(meant)) < 0.02 and not same_color(color, FULL)


def named(axes: Axes) -> Iterator[tuple[str, Artist]]:
    """Artists with what they are called: by their label, or by the tick of the row in which they stand."""
    for artist in [*axes.lines, *axes.containers]:
        if not str(artist.get_label()).startswith("_"):
            yield str(artist.get_label()), artist[0] if isinstance(artist, tuple) else artist
    rows = {
        round(float(y), 3): text.get_text() for y, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=False)
    }  # shared axes have no labels
    for line in axes.lines:
        if len(at := set(np.asarray(line.get_ydata()).tolist())) == 1:
            yield rows.get(round(at.pop(), 3), ""), line
    for bar in axes.patches:
        if isinstance(bar, Rectangle) and bar.get_x() == 0:
            yield rows.get(round(bar.get_y() + bar.get_height() / 2, 3), ""), bar


def strays(drawing: Drawing) -> list[str]:
    """What is called by a family's or a symbol's name, and has another colour."""
    found = []
    for axes in drawing.figure.axes:
        for name, artist in named(axes):
            meant = family_color(name)
            color = artist.get_color() if isinstance(artist, Line2D) else artist.get_facecolor()  # pyright: ignore
            if meant in (JOINT, SEPARABLE, FULL) and not alike(color, meant):
                found.append(f"{name!r} in {color}")
        texts = [*axes.texts, axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]
        found += [f"{text.get_text()} in {text.get_color()}" for text in texts if stray_symbol(text)]
    return found


def stray_symbol(text: Text) -> bool:
    symbol = re.fullmatch(r"\$\\(psi|varphi)_\{?\d\}?\$", text.get_text())
    return symbol is not None and not alike(text.get_color(), {"psi": PSI, "varphi": PHI}[symbol[1]])


@pytest.mark.parametrize("name", DRAWN)
def test_families_and_symbols_have_their_colours(name):
    drawing = DRAWN[name]()
    assert strays(drawing) == []
    meant = {family_color(what) for axes in drawing.figure.axes for what, _ in named(axes)}
    texts = [text.get_text() for axes in drawing.figure.axes for text in [*axes.texts, axes.title, *axes.get_xticklabels()]]
    assert meant & {JOINT, SEPARABLE, FULL} or any("varphi" in text or "psi" in text for text in texts)  # it did look at some


def test_a_stray_is_found():
    figure, axes = new_figure()
    axes.plot([0, 1], color=BLUE, label="rank-1, wider")
    axes.plot([1, 2], color=SEPARABLE, label="rank-1")
    axes.barh([0, 1], [1, 2], color=[JOINT, JOINT])
    axes.set_yticks([0, 1], ["full 3D", "STDCF"])
    axes.text(0, 0, r"$\psi_{1}$", color=PHI)
    assert [found.split(" in ")[0] for found in strays(Drawing(figure, {}))] == ["'rank-1, wider'", "'full 3D'", r"$\psi_{1}$"]


STRAIGHT = re.compile(r"\\phi(?![a-z])")


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "stdcf_lib").rglob("*.py")), *sorted(ROOT.glob("*.md"))], ids=lambda p: p.name
)
def test_texts_write_phi_one_way(path):
    assert STRAIGHT.findall(path.read_text()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_write_phi_one_way(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell.source for cell in cells]
    shown += [str(output.get("data", {}).get("text/latex")) for cell in cells for output in cell.get("outputs", [])]
    assert [text for text in shown if STRAIGHT.search(text)] == []
