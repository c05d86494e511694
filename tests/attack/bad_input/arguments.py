"""What functions are called with: layers, atoms, stages, explorables."""

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from stdcf_lib import atoms, conv, rank1
from stdcf_lib.convert import to_stdcf
from stdcf_lib.decompose import energies, joint_decomposition
from stdcf_lib.explorables import Filter, Rank, Voxel
from stdcf_lib.itsl import AtomSwap, Recipe, Stage, schedule
from tests.attack.bad_input.bent import VALUES, Case


class Call(NamedTuple):
    """Something to call, arguments that it takes, and further names that a refusal may have for them."""

    function: Callable[..., object]
    arguments: dict[str, Any]
    also: tuple[str, ...] = ()


def _bent_call(chance: random.Random, call: Call) -> Case:
    arguments = dict(call.arguments)
    changed = chance.sample(sorted(arguments), min(len(arguments), chance.choice((1, 1, 1, 2))))
    for name in changed:
        value = chance.choice(VALUES)
        arguments[name] = iter((1, 2, 3)) if type(value) is type(iter(())) else value
    # Where two do not fit together, either will do.
    return Case(lambda: call.function(**arguments), rf"\b({'|'.join((*sorted(arguments), *call.also))})\b")


LAYER = {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
         "bias": True, "padding_mode": "zeros", "dtype": None}  # fmt: skip
OURS = {"spatial_atoms": 3, "temporal_atoms": 2, "atoms": "dct", "evaluation": "auto"}
TRANSPOSED = LAYER | {"output_padding": 0}


def _layer(**options: Any) -> Any:
    return conv.STDCFConv3d(1, 1, 3, spatial_atoms=3, temporal_atoms=2, **options)


def _swapped(**atoms: Any) -> None:
    _layer(padding=1).swap(**atoms)


def _dilated(**options: Any) -> None:
    _layer(padding=1).dilate(**options)


def _frozen(what: Any) -> None:
    _layer().freeze(what)


def _followed(model: Any, first: Any, rule: Any, stage: Any) -> None:
    AtomSwap(model, first, rule).to(stage)


def _converted_with(**options: Any) -> None:
    to_stdcf(nn.Conv3d(1, 2, 3, padding=1), **options)


@functools.cache
def _layer_calls() -> list[Call]:
    stage, factors = Stage("final", 4, 16), {"middle_channels": None, "between": None}
    return [
        Call(conv.STDCFConv3d, LAYER | OURS),
        Call(conv.STDCFConvTranspose3d, TRANSPOSED | OURS),
        Call(rank1.Rank1Conv3d, LAYER | factors),
        Call(rank1.Rank1ConvTranspose3d, TRANSPOSED | factors),
        Call(_swapped, {"psi": torch.ones(3, 5, 5), "phi": torch.ones(2, 3)}),
        Call(_dilated, {"temporal": 2, "spatial": (1, 2)}, ("dilation",)),
        Call(_frozen, {"what": "both"}),
        Call(atoms.spatial_atoms, {"size": (3, 3), "count": 3, "family": "dct"}, ("atoms", "spatial_atoms")),
        Call(atoms.temporal_atoms, {"size": 3, "count": 2, "family": "dct"}, ("atoms", "temporal_atoms")),
        Call(atoms.stretch, {"atoms": torch.ones(2, 3), "factor": 1.5}),
        Call(joint_decomposition, {"filters": torch.ones(2, 1, 3, 3, 3), "spatial_atoms": 2, "temporal_atoms": 2}),
        Call(energies, {"filters": torch.ones(2, 1, 3, 3, 3)}),
        Call(_converted_with, {"spatial_atoms": 3, "temporal_atoms": 2, "input_size": (1, 1, 4, 8, 8)}),
        Call(_converted_with, {"keep": 0.9, "spatial_atoms": None}),
        Call(_converted_with, {"macs": 0.9, "input_size": (1, 1, 4, 8, 8)}),
        Call(Stage, {"name": "t-1", "frames": 4, "size": 16, "frozen": "spatial", "epochs": 1.0, "batch": 1}),
        Call(schedule, {"iterations": 2, "frames": 8, "size": 32, "reduction": 4, "epochs": 1.0, "final_epochs": 1.0,
                        "enlarge": 1}),
        Call(Recipe, {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "clip_norm": None, "swap": "keep", "seed": 0,
                      "adam": False, "grid": None, "average": None}),
        Call(_followed, {"model": _layer(), "first": Stage("t-1", 4, 8), "rule": "resample", "stage": stage}, ("swap",)),
    ]  # fmt: skip


def layers(chance: random.Random, place: Path) -> Case:
    return _bent_call(chance, chance.choice(_layer_calls()))


def _changed(make: Callable[..., Any], **options: Any) -> None:
    """An explorable, as its Python object is made, drawn upon by its page, and asked for a page of its own."""
    make(**options).page()


@functools.cache
def _explorable_calls() -> list[Call]:
    layer, clip = _layer(), torch.rand(1, 1, 4, 5, 6)
    seen = {"probe": "bar", "speed": 1.0, "wavelength": 8.0, "direction": 45, "tempo": 1.5, "dilation": 2}
    return [
        Call(functools.partial(_changed, Filter), {"layer": layer, "output": 0, "input": 0, **seen}),
        Call(
            functools.partial(_changed, Voxel), {"layer": layer, "clip": clip, "output": 0, "input": 0, "t": 0, "y": 1, "x": 2}
        ),
        Call(functools.partial(_changed, Rank), {"alpha": torch.rand(2, 2, 2, 2), "middle": 1, "gauge": 0.5}),
        Call(functools.partial(_changed, Rank), {"alpha": layer, "middle": 1, "gauge": 0.5}),
    ]


def explorables(chance: random.Random, place: Path) -> Case:
    return _bent_call(chance, chance.choice(_explorable_calls()))


PREPARED = _layer_calls, _explorable_calls
