"""How every stage is trained."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from stdcf_lib.checks import number, whole, wholes
from stdcf_lib.itsl.stages import Stage
from stdcf_lib.train import Optimization

WARM_UP = 0.05  # of a stage's steps [ours]


@dataclass(frozen=True)
class Recipe:
    """How every stage is trained: SGD with momentum 0.9 or Adam, a short warm-up, then a cosine. [ours]

    Args:
        batch_size: clips a step, over all processes and accumulated batches. An epoch leaves out what fills no batch.
        learning_rate: the highest.
        weight_decay: of coefficients and ordinary weights; atoms, BN and biases have none.
        clip_norm: gradients of a larger norm are scaled down to it.
        swap: what becomes of the atoms at another size, see `AtomSwap`.
        seed: of the order of the clips, and of all that is random in them and in the network.
        adam: Adam, with decoupled decay, in place of SGD. A small network with a short time to learn prefers it.
        grid: the frames and the size of the clips that the atoms, as built, are meant for; by default the first stage's.
        average: how much a step keeps of an average of the weights, such as 0.999, which is then what is scored, what the next
            stage begins with and what is kept in the end; None for the weights themselves.

    Raises:
        ValueError: a number out of range.
    """

    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    swap: str = "keep"
    seed: int = 0
    adam: bool = False
    grid: tuple[int, int] | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size)
        number("learning_rate", self.learning_rate, above=0)
        number("weight_decay", self.weight_decay, least=0)
        if self.clip_norm is not None:
            number("clip_norm", self.clip_norm, above=0)
        if self.grid is not None:
            wholes("grid", self.grid, 2)
        if self.average is not None:
            number("average", self.average, least=0, below=1)
        whole("seed", self.seed, least=0)

    def anchor(self, stages: list[Stage]) -> Stage:
        """The stage whose grid the atoms, as built, are meant for."""
        return Stage("grid", *self.grid) if self.grid else stages[0]

    def rate(self, stage: Stage) -> float:
        """The highest learning rate of a stage: in proportion to its batch, Adam's to the root of it."""
        return self.learning_rate * (math.sqrt(stage.batch) if self.adam else stage.batch)

    def optimization(self, model: nn.Module, stage: Stage, steps: int) -> Optimization:
        """A fresh optimiser, over all that is not frozen, and its schedule for so many steps."""
        decayed, free = [], []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                atoms = name.rpartition(".")[2] in ("psi", "phi")
                (free if atoms or parameter.dim() < 2 else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        fused = all(parameter.is_cuda for parameter in decayed + free)
        if self.adam:
            optimizer = torch.optim.AdamW(groups, lr=self.rate(stage), fused=fused)
        else:
            optimizer = torch.optim.SGD(groups, lr=self.rate(stage), momentum=0.9, fused=fused)
        warm = max(1, round(WARM_UP * steps))

        def share(step: int) -> float:
            after = (step - warm) / max(1, steps - warm)
            return (step + 1) / (warm + 1) if step < warm else 0.5 + 0.5 * math.cos(math.pi * after)

        return Optimization(optimizer, LambdaLR(optimizer, share), self.clip_norm, self.average)
