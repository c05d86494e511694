"""Figures of the rendered actions, beside the real ones."""

from pathlib import Path

import numpy as np

from stdcf_lib.data.actions import duration, render
from stdcf_lib.data.kth import sequences
from stdcf_lib.data.kth_protocol import ACTIONS
from stdcf_lib.data.video import decode_gray
from stdcf_lib.plots.style import Drawing, new_figure, show_frame, styled

FRAMES = 6
SPACING = 7  # frames between those of a strip, for the actions on the spot


@styled
def contact_sheet(real: str | Path | None = None, subject: int = 11, scenario: int = 1, labels: bool = True) -> Drawing:
    """A strip of frames for each action, and beside it one of a real clip where a folder of KTH has one.

    Gaits are shown while most of the person is in sight, the other actions every 7 frames.

    real: folder with KTH's `00sequences.txt` and clips; None for the rendered strips alone.
    labels: whether the actions are named; without names the sheet is a test of whether one knows them.
    """
    rendered = [_rendered_strip(action, subject, scenario) for action in ACTIONS]
    columns = [("rendered", rendered)]
    if real is not None:
        columns.append(("real KTH", [_real_strip(Path(real), action) for action in ACTIONS]))
    figure, axes = new_figure(
        len(ACTIONS), len(columns), width=6.4 * len(columns), height=0.85 * len(ACTIONS) + 0.4, squeeze=False
    )
    for j, (name, strips) in enumerate(columns):
        axes[0, j].set_title(name)
        for i, strip in enumerate(strips):
            show_frame(axes[i, j], np.concatenate(list(strip), axis=1), 255)
            axes[i, j].spines[:].set_visible(False)
            if labels and j == 0:
                axes[i, j].set_ylabel(ACTIONS[i], rotation=0, ha="right", va="center")
    return Drawing(figure, {name.replace(" ", "_"): np.stack(strips) for name, strips in columns})


def _rendered_strip(action: str, subject: int, scenario: int) -> np.ndarray:
    length = round(25 * duration(action, subject, scenario, 1))
    clip = render(action, subject, scenario, 1, length)
    return clip[_chosen(action, clip)]


def _real_strip(folder: Path, action: str) -> np.ndarray:
    """From the first clip of an action that the folder has; black where there is none."""
    for clip, intervals in sequences(folder / "00sequences.txt").items():
        name = f"{clip}_uncomp.avi"
        for path in (folder / action / name, folder / name):
            if f"_{action}_" in clip and path.is_file():
                first, last = intervals[0]
                frames = decode_gray(path)[first - 1 : last]
                return frames[_chosen(action, frames)]
    return np.zeros((FRAMES, 120, 160), np.uint8)


def _chosen(action: str, clip: np.ndarray) -> np.ndarray:
    if action in ("walking", "jogging", "running"):
        # Whoever crosses the frame differs from what is mostly seen there; at the ends of a clip nobody does.
        apart = (np.abs(clip - np.median(clip, axis=0)) > 25).mean((1, 2))
        seen = np.flatnonzero(apart >= apart.max() / 2)
        return np.linspace(seen[0], seen[-1], FRAMES).astype(int)
    return np.minimum(SPACING * np.arange(FRAMES), len(clip) - 1)
