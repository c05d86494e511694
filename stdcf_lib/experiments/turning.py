"""The ITSL experiment that a laptop can run: digits that turn, and every schedule at the same compute.

`python -m stdcf_lib.experiments itsl` trains what `runs/itsl/` keeps and is not there yet.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import fsum
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from stdcf_lib.data.turning import TurningDigits, parts
from stdcf_lib.itsl import AtomSwap, Recipe, Stage, run, schedule
from stdcf_lib.measure import cost
from stdcf_lib.models import SmallVideoNet
from stdcf_lib.runs import Run, digest, runs_folder

FRAMES, SIZE, BATCH_SIZE = 16, 28, 64
BUDGET = 4.0  # the compute of so many full-size epochs
FINAL = 0.5  # of it for the last stage; the stages before share the rest
SEEDS = range(3)
MINUTES = 4  # a run at BUDGET, one thread on an idle core of an AMD EPYC
# Of Adam. [ours] On another seed and test clips that are not used here, ITSL ended at a joint accuracy of 0.54 with it, and
# at 0.29 with SGD at 0.3, the best of four rates (6 full-size epochs in all).
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Plan:
    """A way to spend compute. `title` is for figures; `shares` are the compute of each stage, in full-size epochs."""

    title: str
    stages: tuple[Stage, ...]
    shares: tuple[float, ...]
    swap: str = "keep"
    accumulation: int = 1

    def timed(self) -> list[Stage]:
        """The stages, with the epochs that their share of the compute buys, counted in multiplications."""
        model = network()
        swaps = AtomSwap(model, self.stages[0], self.swap)
        timed = []
        for stage, share in zip(self.stages, self.shares, strict=True):
            swaps.to(stage)
            macs = cost(model, (1, 1, stage.frames, stage.size, stage.size)).macs
            timed.append(replace(stage, epochs=share * _full_macs() / macs))
        return timed


def network(seed: int = 0) -> SmallVideoNet:
    """The network as it is before training."""
    torch.manual_seed(seed)
    return SmallVideoNet("stdcf", num_classes=40)


@cache
def _full_macs() -> int:
    return cost(network(), (1, 1, FRAMES, SIZE, SIZE)).macs


def itsl(title: str, swap: str = "keep", freezing: bool = True, final: float = FINAL) -> Plan:
    """Two iterations of ITSL and the final stage, which has the share `final` of BUDGET."""
    stages = schedule(2, FRAMES, SIZE)
    if not freezing:
        stages = [replace(stage, frozen=None) for stage in stages]
    each = BUDGET * (1 - FINAL) / 4
    return Plan(title, tuple(stages), (each,) * 4 + (BUDGET * final,), swap)


def direct(title: str, epochs: float = BUDGET, accumulation: int = 1) -> Plan:
    """Full-size clips from beginning to end."""
    return Plan(title, (Stage("direct", FRAMES, SIZE),), (epochs,), accumulation=accumulation)


# One long cycle of multigrid training (Wu et al., CVPR 2020, Table 1): as clips shrink, batches and the learning rate grow, so
# that each step costs the same; each shape has as many steps. Their 1/√2 of 28 pixels is 20.
MULTIGRID = Plan(
    "multigrid",
    (
        Stage("m-1", FRAMES // 4, 20, batch=8),
        Stage("m-2", FRAMES // 2, 20, batch=4),
        Stage("m-3", FRAMES // 2, SIZE, batch=2),
        Stage("m-4", FRAMES, SIZE),
    ),
    (BUDGET / 4,) * 4,
)

PLANS = {
    "itsl": itsl("ITSL, atoms kept"),
    "direct": direct("full size, same compute"),
    "unfrozen": itsl("same stages, nothing frozen", freezing=False),
    "multigrid": MULTIGRID,
    "itsl-dilate": itsl("ITSL, atoms dilated", "dilate"),
    "itsl-resample": itsl("ITSL, atoms resampled", "resample"),
}
# The same with the rule that serves, and shorter, with less memory, and longer.
PLANS |= {
    "unfrozen-resample": itsl("nothing frozen, atoms resampled", "resample", freezing=False),
    "itsl-resample-short": itsl("ITSL, atoms resampled, short final", "resample", final=FINAL / 2),
    # The resampled network has 5×5 atoms in the end. Does it need the stages? Here it has them from (nearly) the start.
    "direct-large": Plan(
        "full size, atoms of 5×5, same compute",
        (Stage("t-0", FRAMES, SIZE // 2), Stage("direct", FRAMES, SIZE)),
        (0.02, BUDGET - 0.02),
        "resample",
    ),
    "direct-memory": direct("full size, a quarter of the memory", accumulation=4),
    "direct-epochs": direct("full size, as many epochs as ITSL", BUDGET * (4 * (1 - FINAL) + FINAL)),
}


def trials() -> dict[str, tuple[Plan, int]]:
    """Name of each kept run → its plan and seed."""
    return {f"{name}-seed{seed}": (plan, seed) for name, plan in PLANS.items() for seed in SEEDS}


def kept(name: str, seed: int = 0) -> Run:
    """The kept run of a plan, such as `kept("itsl-dilate", seed=1)`."""
    return _run(f"{name}-seed{seed}")


def _run(trial: str) -> Run:
    return Run(runs_folder() / "itsl" / trial)


def fit(
    plan: Plan,
    seed: int,
    folder: Path,
    training: TurningDigits,
    test: TurningDigits,
    *,
    precision: str = "bf16",
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train the network of a seed by a plan and keep it in `folder`: the metrics of `itsl.run`, scored by `accuracy`.

    The kept runs have precision "bf16", which is twice as fast as "no" (float32) on a CPU that multiplies bfloat16 by itself,
    and many times slower on one that does not.
    """
    return run(
        network(seed),
        plan.timed(),
        lambda stage: (training, test),
        folder,
        Recipe(BATCH_SIZE, LEARNING_RATE, swap=plan.swap, seed=seed, adam=True),
        scores=accuracy,
        accelerator=Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=plan.accumulation),
        config={
            "title": plan.title,
            "accumulation": plan.accumulation,
            "training": digest(training.clips),
            "test": digest(test.clips),
        },
        # What the stages are for is in the run's own metrics; half the size is enough to keep.
        keep_stages=False,
        dtype=torch.float16,
        progress=progress,
    )


def accuracy(chances: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Whether the likeliest of the 40 classes is the label, and whether its digit and its motion are."""
    (digit, motion), (true_digit, true_motion) = parts(chances.argmax(1)), parts(labels)
    return {
        "joint": (digit == true_digit) & (motion == true_motion),
        "digit": digit == true_digit,
        "motion": motion == true_motion,
    }


def minutes_missing(name: str) -> float:
    """How long a trial still takes, at most; 0 for one that is finished."""
    return 0.0 if _run(name).finished else fsum(trials()[name][0].shares) / BUDGET * MINUTES


def run_trial(name: str) -> str:
    """Train one of `trials()` in full and keep it; resumes, and does nothing if it is finished."""
    plan, seed = trials()[name]
    kept_run = _run(name)
    if not kept_run.finished:
        fit(plan, seed, kept_run.folder, TurningDigits("train"), TurningDigits("test"), progress=False)
    last, seconds = kept_run.metrics[-1], fsum(row["seconds"] for row in kept_run.metrics)
    found = ", ".join(f"{part} {last[f'full_{part}']:.3f}" for part in ("joint", "digit", "motion"))
    return f"{name}: {found} in {seconds:.0f} s"
