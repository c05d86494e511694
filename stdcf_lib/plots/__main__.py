"""Draw every figure of the story, with the arrays it shows: `python -m stdcf_lib.plots` fills `figures/`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from stdcf_lib import explore
from stdcf_lib.plots import capacity, reconstruction, tr_mnist
from stdcf_lib.plots.style import Drawing


def at_rest(make: Callable[[], explore.Panel]) -> Drawing:
    """Draw a slider panel at its default values."""
    panel = make()
    return panel.draw(**panel.values)


# A name starts with the number of the notebook that explains the figure.
FIGURES: dict[str, Callable[[], Drawing]] = {
    "01_alpha_matrix": capacity.alpha_matrix,
    "01_counts": capacity.counts,
    "01_nearest_rank1": capacity.nearest_rank1_trained,
    "02_atom_products": partial(at_rest, explore.atom_products),
    "02_output_voxel": partial(at_rest, explore.output_voxel),
    "02_direction_selectivity": partial(at_rest, explore.direction_selectivity),
    "02_compass": partial(at_rest, explore.probe),
    "03_making": tr_mnist.making,
    "03_borders": tr_mnist.borders,
    "03_separability": tr_mnist.separability,
    "03_coupling": tr_mnist.coupling,
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
