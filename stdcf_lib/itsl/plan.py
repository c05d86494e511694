"""What a run needs, before it begins: multiplications and memory, counted; and hours, from a few real steps."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stdcf_lib.itsl.run import Training
from stdcf_lib.itsl.stages import Stage
from stdcf_lib.itsl.swap import AtomSwap
from stdcf_lib.measure import cost

GIB = 2**30
LOADING_SECONDS = 5.0
CPU_MACS = 2e10  # of the forward pass that a plan measures on a CPU, where a batch would take minutes; of two clips at least


class StandIn:
    """So many clips of noise in the place of real ones, for steps that are only timed: uint8 (3, frames, size, size) or
    (views, 3, …), label 0. Of noise, as a GPU is quicker with zeros."""

    def __init__(self, count: int, frames: int, size: int, views: int = 1):
        self.count, self.shape = count, ((views,) if views > 1 else ()) + (3, frames, size, size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(256, self.shape, dtype=torch.uint8, generator=generator), 0

    def reduced(self, frames: int, size: int) -> "StandIn":
        """As a stage of ITSL shows it."""
        return StandIn(self.count, frames, size, self.shape[0] if len(self.shape) == 5 else 1)


def plan(model: nn.Module, planned: Sequence[Stage], swap: str, batch_size: int, precision: str = "no") -> list[dict[str, Any]]:
    """What each stage needs, counted without computing it (`measure.cost`).

    Args:
        model: as built for the grid of the first stage; left alone.
        planned: the stages.
        swap: see `AtomSwap`.
        batch_size: clips that are on one device at a time in a stage whose batches are not enlarged. A layer's rebuilt filters
            are kept once for all of them.
        precision: "no" for float32; with "bf16" and "fp16" activations have half the size, and every weight is kept in it too.

    Returns:
        For each stage its name, `clip` (frames × size²), `frozen`, `epochs`; `batch`, clips on a device; `gmacs` of one clip's
        forward pass; `batch_gib` that a batch keeps for backward; and `fits`, the clips that fit into 80 GB beside weights,
        gradients and momentum.
    """
    model = copy.deepcopy(model)
    swaps = AtomSwap(model, planned[0], swap)
    rows = []
    for stage in planned:
        swaps.to(stage)
        own = stage.batch * batch_size
        batch = max(2, own)  # BN has no statistics of one voxel
        one, two = (_kept(model, stage, count, precision) for count in (batch, 2 * batch))
        a_clip = (two.stored_bytes - one.stored_bytes) / batch
        state = 3 * 4 * sum(p.numel() for p in model.parameters())
        rows.append(
            {
                "stage": stage.name,
                "clip": _clip(stage),
                "frozen": stage.frozen or "nothing",
                "epochs": stage.epochs,
                "batch": own,
                "gmacs": one.macs / batch / 1e9,
                "batch_gib": (one.stored_bytes - (batch - own) * a_clip) / GIB,
                "fits": int((80e9 - state - (one.stored_bytes - batch * a_clip)) // a_clip),
            }
        )
    return rows


def _kept(model: nn.Module, stage: Stage, clips: int, precision: str) -> Any:
    shape = clips, 3, stage.frames, stage.size, stage.size
    if precision == "no":
        return cost(model.train(), shape)
    half = copy.deepcopy(model).train().bfloat16()
    found = cost(half, shape)  # autocast keeps the weights' halves as well, which are the model's own here
    return found._replace(stored_bytes=found.stored_bytes + 2 * found.parameters)


def full_size_epochs(model: nn.Module, planned: Sequence[Stage], swap: str) -> float:
    """How many epochs of full-size training of the network as built cost as many multiplications as its stages do."""
    rows = plan(model, [*planned, Stage("as built", planned[-1].frames, planned[-1].size)], swap, 2)
    built = plan(model, [Stage("as built", planned[-1].frames, planned[-1].size)], "keep", 2)[0]["gmacs"]
    return sum(row["epochs"] * row["gmacs"] for row in rows[:-1]) / built


def hours(
    training: Training,
    measure: Callable[[int], dict[str, float]] | None = None,
    loaded: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """How long a run takes.

    Args:
        training: the run.
        measure: number of a stage → what `Training.rehearse` returns; by default that, of a few real steps on the device at
            hand, on a CPU with no more clips at a time than `CPU_MACS` allow.
        loaded: what `loading` found for this run; without it loaders are taken to keep up.

    Returns:
        For each stage its name, `training_hours`, `waiting_hours` of its steps for clips, `clips_per_second` that it asks of
        all loaders together, `validation_hours` (those at full size included, of clips that are there) and `memory_gib`, the
        peak of the steps; and last the test, if there is one.
    """
    on_gpu = training.accelerator.device.type == "cuda"
    found: dict[tuple[Any, ...], dict[str, float]] = {}

    def rehearsed(number: int) -> dict[str, float]:
        a_clip = training.costs[number].macs / training.share(training.stages[number])
        return training.rehearse(number, None if on_gpu else max(2, int(CPU_MACS / a_clip)), steps=3)

    def measured(number: int) -> dict[str, float]:
        stage = training.stages[number]
        key = stage.frames, stage.size, stage.frozen, stage.batch
        if key not in found:
            found[key] = (measure or rehearsed)(number)
        return found[key]

    rates = {row["clip"]: row["clips_per_second"] for row in loaded}

    def waiting(stage: Stage, seconds: float) -> float:
        load = training.batch(stage) / training.accelerator.num_processes / rates.get(_clip(stage), math.inf)
        # A GPU trains while processors load the next clips; on a CPU both take turns.
        return max(load - seconds, 0.0) if on_gpu and training.workers else load

    def scoring(clips: Any, view_seconds: float) -> float:
        return training.views(clips) * view_seconds / training.accelerator.num_processes / 3600

    last = len(training.stages) - 1
    full = measured(last)["view_seconds"]
    rows = []
    for number, stage in enumerate(training.stages):
        clips, validation = training.sets[number]
        looks = math.ceil(training.epochs(number) / training.validate_every)
        validated = looks * scoring(validation, measured(number)["view_seconds"])
        if (stage.frames, stage.size) != (training.full.frames, training.full.size):
            validated += scoring(training.full_sets[1], full)
        found_here = measured(number)
        rows.append(
            {
                "stage": stage.name,
                "training_hours": training.steps(stage, clips) * found_here["seconds"] / 3600,
                "waiting_hours": training.steps(stage, clips) * waiting(stage, found_here["seconds"]) / 3600,
                "clips_per_second": training.batch(stage) / found_here["seconds"],
                "validation_hours": validated,
                "memory_gib": found_here["memory_gib"],
            }
        )
    if training.test is not None:
        tested = {"stage": "test", "validation_hours": scoring(training.test, full)}
        rows.append(dict.fromkeys(rows[0], 0.0) | tested)
    return rows


def loading(training: Training) -> list[dict[str, Any]]:
    """How fast this process's loaders bring the clips of each kind of stage, as in training, with nothing else to do.

    Returns:
        For each its name, `clip` (frames × size²) and `clips_per_second`, after the first batch.
    """
    rows, seen = [], set()
    for number, stage in enumerate(training.stages):
        if (stage.frames, stage.size) in seen:
            continue
        seen.add((stage.frames, stage.size))
        clips, start, taken = 0, 0.0, 0.0
        for count, (batch, _) in enumerate(training.loaded(number)):
            if count:
                clips, taken = clips + len(batch), time.perf_counter() - start
            else:
                start = time.perf_counter()
            if taken > LOADING_SECONDS:
                break
        rate = clips / taken if taken else float("nan")
        rows.append({"stage": stage.name, "clip": _clip(stage), "clips_per_second": rate})
    return rows


def _clip(stage: Stage) -> str:
    return f"{stage.frames}×{stage.size}²"


def print_plan(rows: list[dict[str, Any]]) -> None:
    """Print what `plan` found."""
    print("stage   clip      frozen    epochs  batch  GMAC/clip  GiB kept/batch  clips in 80 GB")
    for row in rows:
        print("{stage:8}{clip:10}{frozen:10}{epochs:6.4g}{batch:7}{gmacs:11.3f}{batch_gib:16.1f}{fits:16}".format(**row))


def print_hours(rows: list[dict[str, Any]], device: str, processes: int, loaded: bool) -> None:
    """Print what `hours` found; `loaded` says whether it knew how fast clips are loaded."""
    also = "for evaluations" if loaded else "where it cannot keep up (with --benchmark-loader it is counted)"
    print(f"\nmeasured by a few steps on {device}, {processes} at work.")
    print(f"To this come the starts of stages, and loading {also}:")
    line = "{:8}{:>10}{:>21}{:>17}{:>12}{:>11}"
    print(line.format("stage", "training", "+ waiting for clips", "clips/s to load", "evaluation", "peak, GiB"))
    spent = {name: sum(row[name] for row in rows) for name in ("training_hours", "waiting_hours", "validation_hours")}
    for row in [*rows, {"stage": "all", **spent}]:
        training, waiting, validation = (_duration(row[name]) for name in spent)
        rest = [f"{row[name]:.1f}" if row.get(name) else "" for name in ("clips_per_second", "memory_gib")]
        print(line.format(row["stage"], training, waiting if loaded else "-", rest[0], validation, rest[1]))
    print(f"together {_duration(sum(spent.values()))}")


def _duration(hours: float) -> str:
    """In the unit that one would say it in."""
    seconds = 3600 * hours
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{hours:.1f} h"
