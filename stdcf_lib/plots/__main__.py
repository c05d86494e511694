"""Draw every figure of the story, with the arrays it shows: `python -m stdcf_lib.plots` fills `figures/`."""

from collections.abc import Callable
from pathlib import Path

from stdcf_lib.plots import capacity, reconstruction
from stdcf_lib.plots.style import Drawing

# A name starts with the number of the notebook that explains the figure.
FIGURES: dict[str, Callable[[], Drawing]] = {
    "01_alpha_matrix": capacity.alpha_matrix,
    "01_counts": capacity.counts,
    "01_nearest_rank1": capacity.nearest_rank1_trained,
    "04_learning_curves": reconstruction.learning_curves,
    "04_final_errors": reconstruction.final_errors,
    "04_error_by_weights": reconstruction.error_by_weights,
    "04_starts": reconstruction.starts,
    "04_sweep": reconstruction.sweep,
    "04_reconstructions": reconstruction.reconstructions,
    "04_learned_atoms": reconstruction.learned_atoms,
}


def main(folder: Path = Path("figures")) -> None:
    """Write every figure of `FIGURES` into `folder`, as SVG, PNG and the arrays drawn."""
    for name, draw in FIGURES.items():
        draw().save(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
