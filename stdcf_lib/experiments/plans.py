"""Ways to spend the same compute on training: in the stages of ITSL, in parts of them, or at full size."""

import copy
from dataclasses import dataclass, replace

from torch import nn

from stdcf_lib.checks import choice
from stdcf_lib.itsl import AtomSwap, Recipe, Stage, schedule
from stdcf_lib.measure import cost

FINAL = 0.5  # of ITSL's compute for the last stage; the stages before share the rest


@dataclass(frozen=True)
class Plan:
    """A way to spend compute. `title` is for figures; `shares` are the compute of each stage, in full-size epochs."""

    title: str
    stages: tuple[Stage, ...]
    shares: tuple[float, ...]
    batch_size: int
    swap: str = "keep"
    accumulation: int = 1
    grid: tuple[int, int] | None = None

    def recipe(self, rate: float, seed: int, weight_decay: float = 1e-4) -> Recipe:
        """How its stages are trained, by Adam."""
        return Recipe(self.batch_size, rate, weight_decay, swap=self.swap, grid=self.grid, seed=seed, adam=True)

    def timed(self, model: nn.Module) -> list[Stage]:
        """The stages, with the epochs of gray clips that their share of the compute buys, counted in multiplications."""
        model = copy.deepcopy(model)

        def macs(stage: Stage) -> int:
            return cost(model, (1, 1, stage.frames, stage.size, stage.size)).macs

        whole_epoch = macs(self.full)
        swaps, timed = AtomSwap(model, self.recipe(1.0, 0).anchor(list(self.stages)), self.swap), []
        for stage, share in zip(self.stages, self.shares, strict=True):
            swaps.to(stage)
            timed.append(replace(stage, epochs=share * whole_epoch / macs(stage)))
        return timed

    @property
    def full(self) -> Stage:
        """Full size, the largest of its stages."""
        return Stage("full", max(stage.frames for stage in self.stages), max(stage.size for stage in self.stages))

    def longer(self, times: float) -> "Plan":
        """The same plan with so many times the compute in each stage."""
        return replace(self, title=f"{self.title}, ×{times:g}", shares=tuple(times * share for share in self.shares))


def itsl(
    title: str,
    full: Stage,
    budget: float,
    batch_size: int,
    swap: str = "resample",
    freezing: str = "by turns",
    kinds: str = "ts",
) -> Plan:
    """Two iterations of ITSL and the final stage.

    Args:
        title: for figures.
        full: the clips of the final stage.
        budget: compute in all, in full-size epochs.
        batch_size: clips a step.
        swap: see `AtomSwap`.
        freezing: "by turns" as ITSL has it, "nothing", or "always" both kinds of atoms.
        kinds: the stages of an iteration, "ts", or "t" or "s" alone with the compute of both.
    """
    choice("freezing", freezing, ("by turns", "nothing", "always"))
    choice("kinds", kinds, ("ts", "t", "s"))
    t, s, final = schedule(1, full.frames, full.size)
    stages = [replace(t if kind == "t" else s, name=f"{kind}-{i}") for i in (1, 2) for kind in kinds] + [final]
    if freezing != "by turns":
        stages = [replace(stage, frozen="both" if freezing == "always" else None) for stage in stages]
    each = budget * (1 - FINAL) / (len(stages) - 1)
    # Atoms as built belong to the grid of stage-t, also where a plan has none, so that all plans end with the same network.
    grid = None if kinds[0] == "t" else (t.frames, t.size)
    return Plan(title, tuple(stages), (each,) * (len(stages) - 1) + (budget * FINAL,), batch_size, swap, grid=grid)


def direct(title: str, full: Stage, budget: float, batch_size: int, large: bool = False, accumulation: int = 1) -> Plan:
    """Full-size clips from beginning to end; `large` with the atoms, from the beginning, that ITSL's resampling ends with."""
    swap, grid = "keep", None
    if large:
        t = schedule(1, full.frames, full.size)[0]
        swap, grid = "resample", (t.frames, t.size)
    return Plan(title, (replace(full, name="direct"),), (budget,), batch_size, swap, accumulation, grid)
