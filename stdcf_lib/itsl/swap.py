"""Atoms that follow the grid from stage to stage."""

import math
from typing import Any

from torch import nn

from stdcf_lib.atoms import stretch
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.itsl.stages import Stage

SWAPS = ("keep", "dilate", "resample")


class AtomSwap:
    """Fits the atoms of a network's `STDCFConv3d` layers to the grid of each stage; coefficients stay. [ours]

    The atoms as built are meant for the first stage's grid. On a grid r times as fine along an axis,

    - `"keep"` leaves them as they are, and they see 1/r of the scene that they saw;
    - `"dilate"` spreads their taps r times as far, and leaves them as they are on a coarser grid;
    - `"resample"` stretches them over as many taps as `"dilate"` spans, r · (k - 1) + 1 instead of k, by `atoms.stretch`.

    Atoms that a stage freezes come back as they were when it is over: they are never coarser than what they have learned.
    """

    def __init__(self, model: nn.Module, first: Stage, rule: str = "keep"):
        if rule not in SWAPS:
            raise ValueError(f"swap={rule!r} is not a rule; choose one of {', '.join(map(repr, SWAPS))}")
        self.first, self.rule = first, rule
        self.layers = [layer for layer in model.modules() if isinstance(layer, STDCFConv3d)]
        self.built = [(layer.kernel_size, layer.dilation, layer.padding) for layer in self.layers]
        self.borrowed: list[Any] = []

    def to(self, stage: Stage) -> None:
        """Swap, and freeze what the stage freezes. Make the optimiser afterwards."""
        while self.borrowed:
            self.borrowed.pop().undo()
        finer = {"phi": stage.frames / self.first.frames, "psi": stage.size / self.first.size}
        frozen = {"spatial": "psi", "temporal": "phi"}.get(stage.frozen)
        for layer, (kernel_size, dilation, padding) in zip(self.layers, self.built, strict=True):
            if self.rule == "dilate":
                spread = [max(1, round(finer[name] * d)) for name, d in zip(("phi", "psi", "psi"), dilation, strict=True)]
                layer.dilate(temporal=spread[0], spatial=tuple(spread[1:]))
            elif self.rule == "resample":
                for name in sorted(finer, key=lambda name: name == frozen):  # what is borrowed comes last, to be undone first
                    taps = kernel_size[0] if name == "phi" else kernel_size[1]
                    wanted = taps + 2 * math.floor((finer[name] - 1) * (taps - 1) / 2)
                    atoms = getattr(layer, name)
                    if wanted != atoms.shape[-1]:
                        change = layer.swap(**{name: stretch(atoms.detach(), wanted / atoms.shape[-1])})
                        if name == frozen:
                            self.borrowed.append(change)
                if not isinstance(padding, str):  # `swap` has no padding to go by where atoms come back from a single tap
                    sizes = zip(padding, layer.kernel_size, kernel_size, strict=True)
                    layer.padding = tuple(p * (k - 1) // (b - 1) if b > 1 else p for p, k, b in sizes)
            layer.freeze(stage.frozen)
