"""Atoms that follow the grid from stage to stage."""

import math

from torch import nn

from stdcf_lib.atoms import stretch
from stdcf_lib.checks import choice
from stdcf_lib.conv import Change, STDCFConv3d
from stdcf_lib.itsl.stages import Stage

SWAPS = ("keep", "dilate", "resample", "restore")


class AtomSwap:
    """Fits the atoms of a network's `STDCFConv3d` layers to the grid of each stage; coefficients stay. [ours]

    The atoms as built are meant for the first stage's grid. On a grid r times as fine along an axis,

    - `"keep"` leaves them as they are, and they see 1/r of the scene that they saw;
    - `"dilate"` spreads their taps r times as far, and leaves them as they are on a coarser grid;
    - `"resample"` stretches them over as many taps as `"dilate"` spans, r · (k - 1) + 1 instead of k, by `atoms.stretch`;
    - `"restore"` does the same, and temporal atoms that a stage shrinks come back as they were, frozen or not: what they
      learn in that stage is lost, and what they knew before is not.

    Atoms that a stage freezes come back as they were when it is over: they are never coarser than what they have learned.

    Args:
        model: its layers are fitted in place.
        first: the stage whose grid the atoms, as built, are meant for.
        rule: one of the four.

    Raises:
        TypeError: a model or a stage of another kind.
        ValueError: another rule.
    """

    def __init__(self, model: nn.Module, first: Stage, rule: str = "keep"):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}; give a torch.nn.Module")
        self.first, self.rule = _stage("first", first), choice("swap", rule, SWAPS)
        self.layers = [layer for layer in model.modules() if isinstance(layer, STDCFConv3d)]
        self.built = [(layer.kernel_size, layer.dilation) for layer in self.layers]
        self.borrowed: list[Change] = []

    def to(self, stage: Stage) -> None:
        """Swap, and freeze what the stage freezes. Make the optimiser afterwards."""
        _stage("stage", stage)
        while self.borrowed:
            self.borrowed.pop().undo()
        finer = (stage.frames / self.first.frames, *(stage.size / self.first.size,) * 2)  # along (time, height, width)
        frozen = {"spatial": ("psi",), "temporal": ("phi",), "both": ("phi", "psi"), None: ()}[stage.frozen]
        for layer, (kernel_size, dilation) in zip(self.layers, self.built, strict=True):
            if self.rule == "dilate":
                time, height, width = (max(1, round(f * d)) for f, d in zip(finer, dilation, strict=True))
                layer.dilate(temporal=time, spatial=(height, width))
            elif self.rule in ("resample", "restore"):
                taps = [k + 2 * math.floor((f - 1) * (k - 1) / 2) for f, k in zip(finer, kernel_size, strict=True)]
                wanted = {"phi": taps[:1], "psi": taps[1:]}
                returning = {*frozen, *(["phi"] if self.rule == "restore" and taps[0] < layer.kernel_size[0] else [])}
                for name in sorted(wanted, key=lambda name: name in returning):  # comes last, to be undone first
                    atoms = getattr(layer, name).detach()
                    sizes = atoms.shape[1:]
                    if list(sizes) != wanted[name]:
                        resampled = stretch(atoms, tuple(new / old for new, old in zip(wanted[name], sizes, strict=True)))
                        change = layer.swap(**{name: resampled})
                        if name in returning:
                            self.borrowed.append(change)
            layer.freeze(stage.frozen)


def _stage(name: str, value: Stage) -> Stage:
    if not isinstance(value, Stage):
        raise TypeError(f"{name} is {type(value).__name__}; give a Stage")
    return value
