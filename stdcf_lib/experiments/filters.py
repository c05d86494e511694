"""How joint are trained filters? Measured on 3D networks that others trained, and on our own.

`python -m stdcf_lib.experiments filters` measures what `runs/filters/` lacks. The filters of others are read from
`$STDCF_DATA/trained`, and none of them is kept: only what is measured, with whose they are.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stdcf_lib.capacity import matricize
from stdcf_lib.decompose import energies
from stdcf_lib.experiments import reconstruction, tempo
from stdcf_lib.files import read_weights
from stdcf_lib.runs import Run, runs_folder

ATOMS = (5, 3)  # the paper's, of the joint filters that the race is about


@dataclass(frozen=True)
class Network:
    """A trained network; `first_axis` says what its kernels' first axis is. Without a `file` it is one of ours."""

    title: str
    first_axis: str
    source: str
    licence: str
    file: str | None = None


NETWORKS = {
    "face": Network(
        "face video",
        "time",
        "PhysNet trained on UBFC-rPPG, of rPPG-Toolbox (github.com/ubicomplab/rPPG-Toolbox)",
        "Responsible AI source licence, for research",
        "physnet_ubfc.safetensors",
    ),
    "molecule": Network(
        "molecules",
        "space",
        "gnina's scoring network `dense`, of gnina-torch (github.com/RMeli/gnina-torch)",
        "MIT",
        "gnina_dense.safetensors",
    ),
    "brain": Network(
        "brains",
        "space",
        "brainchop's MeshNet of 30 channels, of brainchop-models (github.com/neuroneural/brainchop-models)",
        "none stated",
        "brainchop_meshnet30.safetensors",
    ),
    "digits": Network("TR-MNIST, ours", "time", "runs/reconstruction/full-seed0 to 4, of this repository", "MIT"),
    "actions": Network("rendered actions, ours", "time", "runs/tempo/full-seed0 to 4, of this repository", "MIT"),
}


def measure(filters: Tensor) -> dict[str, Any]:
    """What the best member of each family keeps of a layer's filters, as shares of ‖W‖².

    Args:
        filters: (C_out, C_in, kt, kh, kw).

    Returns:
        - `shape`, and `norm`, ‖W‖²;
        - `joint`, kh·kw rows and kt columns: of M spatial and N temporal atoms (`stdcf_lib.decompose.energies`, the most that
          there can be in the last row and column, and hardly less elsewhere);
        - `separable`: of one picture times one rhythm for every pair of channels;
        - `family`: of the nearest rank-1 layer with C'' = 1, 2, … middle channels (`stdcf_lib.capacity.nearest_rank1`);
        - `along`: of the best 1, 2, … atoms along each axis alone: time, height, width.
    """
    kt, kh, kw = filters.shape[2:]
    w = filters.detach().double().contiguous()
    norm = float(w.square().sum())
    pairs = torch.linalg.svdvals(w.view(-1, kt, kh * kw))
    by_space = w.flatten(3).transpose(2, 3)  # (C_out, C_in, kh·kw, kt), like α with every atom
    family = torch.linalg.svdvals(matricize(by_space)).square().cumsum(0) / norm
    along = []
    for axis in (2, 3, 4):
        strengths = torch.linalg.svdvals(w.movedim(axis, 0).flatten(1))
        along.append(_rounded(strengths.square().cumsum(0) / norm))
    return {
        "shape": list(filters.shape),
        "norm": norm,
        "joint": [_rounded(row) for row in energies(w)],
        "separable": round(float(pairs[:, 0].square().sum()) / norm, 5),
        "family": _rounded(family),
        "along": along,
    }


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


def joint_parameters(shape: list[int], spatial_atoms: int, temporal_atoms: int) -> int:
    """Numbers in ψ, φ and α of a joint layer with filters of a shape."""
    c_out, c_in, kt, kh, kw = shape
    return c_out * c_in * spatial_atoms * temporal_atoms + spatial_atoms * kh * kw + temporal_atoms * kt


def family_parameters(shape: list[int]) -> int:
    """Numbers in both factors of a rank-1 layer with filters of a shape, for each middle channel."""
    c_out, c_in, kt, kh, kw = shape
    return c_in * kh * kw + c_out * kt


def family_at(layer: dict[str, Any], parameters: float) -> float:
    """What the nearest rank-1 layer keeps with so many parameters: between two numbers of middle channels, in between."""
    middle = np.arange(len(layer["family"]) + 1) * family_parameters(layer["shape"])
    return float(np.interp(parameters, middle, [0.0, *layer["family"]]))


def race(layer: dict[str, Any], spatial_atoms: int = ATOMS[0], temporal_atoms: int = ATOMS[1]) -> tuple[float, float]:
    """What joint filters keep of a layer, and what the rank-1 family keeps with as many parameters."""
    kept = layer["joint"][spatial_atoms - 1][temporal_atoms - 1]
    return kept, family_at(layer, joint_parameters(layer["shape"], spatial_atoms, temporal_atoms))


def at_c_out(layer: dict[str, Any]) -> float:
    """What the nearest rank-1 layer keeps with C'' = C_out, as the paper's tables have it."""
    family = layer["family"]
    return family[min(layer["shape"][0], len(family)) - 1]


def in_all(layers: list[dict[str, Any]], share: Callable[[dict[str, Any]], float]) -> float:
    """A share of all layers together: of the sum of their ‖W‖²."""
    return sum(share(layer) * layer["norm"] for layer in layers) / sum(layer["norm"] for layer in layers)


@cache
def measured(name: str) -> dict[str, dict[str, Any]]:
    """What was found out about a network: layer → the result of `measure`."""
    return json.loads((_folder() / f"{name}.json").read_text())["layers"]


def _folder() -> Path:
    return runs_folder() / "filters"


def trained_filters(name: str) -> dict[str, Tensor]:
    """The filters of a network that look along three axes, by layer: (C_out, C_in, kt, kh, kw).

    Raises:
        FileNotFoundError: those of others are not there.
    """
    network = NETWORKS[name]
    if network.file:
        weights = read_weights(theirs() / network.file)
        order = sorted(weights, key=lambda key: [int(part) if part.isdigit() else part for part in key.split(".")])
        return {key.removesuffix(".weight"): weights[key] for key in order}
    of_seed = reconstruction.trained if name == "digits" else tempo.trained
    seeds = reconstruction.SEEDS if name == "digits" else tempo.SEEDS
    found = {}
    for seed in seeds:
        for layer, module in of_seed("full", seed).named_children():
            if isinstance(module, nn.Conv3d):
                found[f"{layer}, seed {seed}"] = module.weight
            elif isinstance(module, nn.ConvTranspose3d):
                found[f"{layer}, seed {seed}"] = module.weight.transpose(0, 1)
    return found


def theirs() -> Path:
    """Where filters that others trained are, or would be: `$STDCF_DATA/trained`."""
    return Path(os.environ.get("STDCF_DATA", "data"), "trained")


def trials() -> list[str]:
    """The name of each network."""
    return list(NETWORKS)


def minutes_missing(name: str) -> float:
    """How long a measurement still takes; 0 for one that is there, and where the filters are not at hand."""
    file = NETWORKS[name].file
    return 0.0 if (_folder() / f"{name}.json").exists() or (file and not (theirs() / file).exists()) else 0.2


def run_trial(name: str) -> str:
    """Measure the filters of a network and keep what is found; does nothing if it is there."""
    if minutes_missing(name):
        network = NETWORKS[name]
        layers = {layer: measure(filters) for layer, filters in trained_filters(name).items()}
        about = {"title": network.title, "source": network.source, "licence": network.licence}
        rows = ",\n".join(f"  {json.dumps(layer)}: {json.dumps(found)}" for layer, found in layers.items())
        content = f'{{\n "about": {json.dumps(about)},\n "layers": {{\n{rows}\n }}\n}}\n'
        Run(_folder()).keep(f"{name}.json", content.encode())
    found = list(measured(name).values())
    joint, family = (in_all(found, lambda layer, k=k: race(layer)[k]) for k in (0, 1))
    return f"{name}: joint {joint:.3f}, rank-1 family with as many parameters {family:.3f}, of {len(found)} layers"
