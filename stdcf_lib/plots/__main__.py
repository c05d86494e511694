"""Draw every figure of the story, with the arrays it shows: `python -m stdcf_lib.plots` fills `figures/`."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from stdcf_lib import STDCFConv3d, atoms, explore
from stdcf_lib.data.probes import moving_bar
from stdcf_lib.experiments import steps
from stdcf_lib.plots import (
    actions,
    capacity,
    convert,
    interactions,
    itsl,
    joint_convolution,
    motion,
    reconstruction,
    roofline,
    tempo,
    tr_mnist,
)
from stdcf_lib.plots.style import Drawing, Film


def at_rest(make: Callable[[], explore.Panel]) -> Drawing:
    """Draw a slider panel at its default values."""
    panel = make()
    return panel.draw(**panel.values)


def output_voxel() -> Drawing:
    """The voxel that notebook 02 begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = STDCFConv3d(1, 4, kernel_size=3)
    clip = moving_bar(frames=8, size=12, length=7)
    return joint_convolution.voxel(clip, layer.psi, layer.phi, layer.alpha[0, 0], t=2, y=4, x=4)


def direction_selectivity() -> Drawing:
    """The filter of notebook 02 that looks to the right, and the nearest separable one."""
    psi, phi = atoms.spatial_atoms((5, 5), 3), atoms.temporal_atoms(5, 3)
    alpha = torch.zeros(3, 3, dtype=psi.dtype)
    alpha[0, 2], alpha[1, 1] = 1, 0.535
    return joint_convolution.direction_selectivity(psi, phi, alpha)


def layers() -> Drawing:
    """What `make bench` found last, layer by layer."""
    return roofline.measured_layers(json.loads(Path("benchmarks/results.json").read_text(encoding="utf-8"))["Layers"])


def layers_on_gpu() -> Drawing:
    """What `make gpu` found last, layer by layer."""
    return roofline.layers_on_gpu(steps.records()[0])


# A name starts with the number of the notebook that explains the figure.
FIGURES: dict[str, Callable[[], Drawing | Film]] = {
    "00_start": motion.watching,
    "01_alpha_matrix": capacity.alpha_matrix,
    "01_counts": capacity.counts,
    "01_nearest_rank1": capacity.nearest_rank1_trained,
    "02_atom_products": partial(at_rest, explore.atom_products),
    "02_output_voxel": output_voxel,
    "02_direction_selectivity": direction_selectivity,
    "02_compass": partial(at_rest, explore.probe),
    "02_layers": layers,
    "02_layers_on_gpu": layers_on_gpu,
    "03_making": tr_mnist.making,
    "03_borders": tr_mnist.borders,
    "03_separability": tr_mnist.separability,
    "03_coupling": tr_mnist.coupling,
    "04_learning_curves": reconstruction.learning_curves,
    "04_final_errors": reconstruction.final_errors,
    "04_care": reconstruction.care,
    "04_answer": reconstruction.answer,
    "04_error_by_weights": reconstruction.error_by_weights,
    "04_starts": reconstruction.starts,
    "04_sweep": reconstruction.sweep,
    "04_reconstructions": reconstruction.reconstructions,
    "04_learned_atoms": reconstruction.learned_atoms,
    "05_contact_sheet": actions.contact_sheet,
    "05_film": tempo.film,
    "05_filter_response": tempo.filter_response,
    "05_toy_steps": tempo.toy_steps,
    "05_accuracy": tempo.by_tempo,
    "05_change": partial(tempo.by_tempo, "change"),
    "05_neighbours": partial(tempo.by_tempo, "neighbours"),
    "05_confusion": tempo.confusion,
    "05_three_maps": tempo.three_maps,
    "05_guesses": tempo.guesses,
    "05_real_confusion": tempo.real_confusion,
    "05_real_map": tempo.real_map,
    "05_real_tempo": interactions.real_tempo,
    "06_needs": itsl.needs,
    "06_largest_clips": itsl.largest_clips,
    "06_stages": itsl.stages,
    "06_turning": itsl.turning,
    "06_swapped": itsl.swapped,
    "06_curves": itsl.curves,
    "06_outcome": itsl.outcome,
    "06_longer": itsl.longer,
    "06_carried_over": itsl.carried_over,
    "06_real_plans": interactions.real_plans,
    "06_published": itsl.published,
    "06_steps": itsl.steps,
    "07_layers": partial(convert.layers, convert.OURS),
    "07_each_or_all": convert.each_or_all,
    "07_race": convert.race,
    "07_along_axes": convert.along_axes,
    "07_recovered": convert.recovered,
}


def main(words: Sequence[str] | None = None, folder: Path = Path("figures")) -> None:
    """Write figures of `FIGURES` into `folder`, as SVG, PNG and the arrays drawn. Of a film the SVG is the first frame."""
    parser = argparse.ArgumentParser(description="Draw the figures of figures/ again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"such as {next(iter(FIGURES))}; all without any")
    names = parser.parse_args(words).names
    if unknown := sorted({*names} - {*FIGURES}):
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(FIGURES)}")
    for name in names or FIGURES:
        FIGURES[name]().save(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
