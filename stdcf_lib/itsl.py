"""ITSL, iterative training of space and time: a video network learns on clips that are small or short, by turns.

Stage-t shows all frames at a reduced size and fixes the spatial atoms; stage-s shows full frames, few of them, and fixes
the temporal atoms. Each costs a fraction of the memory and the compute of the full clip (paper, abstract and appendix D).
"""

import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from stdcf_lib.atoms import stretch
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.measure import cost
from stdcf_lib.runs import Run
from stdcf_lib.train import shuffled, train

SWAPS = ("keep", "dilate", "resample")
WARM_UP = 0.05  # of a stage's steps [ours]
BN_BATCHES = 20  # to estimate the statistics of BN at another size [ours]


@dataclass(frozen=True)
class Stage:
    """What one stage of training shows the network, what it fixes, and for how long.

    Args:
        name: such as "t-1".
        frames, size: of the clips, T and H = W.
        frozen: the atoms that do not train, "spatial" or "temporal"; None for none.
        epochs: passes over the training clips, a fraction allowed.
        batch: batches are this many times as large as `run` is told, and so is the learning rate (Adam's by the root of it).
    """

    name: str
    frames: int
    size: int
    frozen: str | None = None
    epochs: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("frames", "size", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r} in stage {self.name!r}: give an integer of at least 1")
        if self.frozen not in ("spatial", "temporal", None):
            raise ValueError(f"frozen={self.frozen!r} in stage {self.name!r}: choose 'spatial', 'temporal' or None")
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs={self.epochs!r} in stage {self.name!r}: give a number above 0")


def schedule(
    iterations: int, frames: int, size: int, reduction: int = 4, *, epochs: float = 1.0, final_epochs: float = 1.0
) -> list[Stage]:
    """The stages of ITSL: t-1, s-1, t-2, s-2, …, and last `final`, full-size fine-tuning of everything.

    Args:
        iterations: of stage-t and stage-s. The paper has 3 for Kinetics-400 and 2 for Something-Something V1.
        frames, size: of the full clip, T and H = W.
        reduction: how many times fewer voxels both stages show. [ours] 4: half the height and width, or a
            quarter of the frames.
        epochs: of each stage.
        final_epochs: of the last one; 0 leaves it out.

    Raises:
        ValueError: no iteration, or a size or length that cannot be reduced by as much.

    Example:
        >>> [(s.name, s.frames, s.size, s.frozen) for s in schedule(1, frames=8, size=224)]
        [('t-1', 8, 112, 'spatial'), ('s-1', 2, 224, 'temporal'), ('final', 8, 224, None)]
    """
    if type(iterations) is not int or iterations < 1:
        raise ValueError(f"iterations={iterations!r}: give an integer of at least 1")
    side = math.isqrt(reduction) if type(reduction) is int and reduction > 0 else 0
    if side < 1 or side**2 != reduction:
        raise ValueError(f"reduction={reduction!r}: give a square, such as 4 or 16, so that height and width shrink alike")
    if frames % reduction or size % side:
        raise ValueError(
            f"frames={frames} and size={size} cannot be reduced by {reduction}: "
            f"give a multiple of {reduction} frames and a multiple of {side} pixels"
        )
    stages = []
    for i in range(1, iterations + 1):
        stages.append(Stage(f"t-{i}", frames, size // side, "spatial", epochs))
        stages.append(Stage(f"s-{i}", frames // reduction, size, "temporal", epochs))
    return stages + ([Stage("final", frames, size, None, final_epochs)] if final_epochs else [])


def view(clips: Tensor, stage: Stage) -> Tensor:
    """Clips as a stage shows them: all of the scene and all of the time, on a coarser grid. [ours]

    Of every k frames the first is shown, for all their time; pixels are averages over areas.

    Args:
        clips: floats (B, C, T, H, W) with H = W, at least as long and large as the stage's; T a multiple of its frames.

    Returns:
        (B, C, stage.frames, stage.size, stage.size); `clips` themselves if they are that already.
    """
    frames, *sizes = clips.shape[2:]
    if sizes == [stage.size] * 2 and frames == stage.frames:
        return clips
    if frames % stage.frames or min(sizes) < stage.size or sizes[0] != sizes[1]:
        raise ValueError(
            f"clips of shape {tuple(clips.shape)} have no view of {stage.frames} frames of {stage.size}×{stage.size} "
            f"(stage {stage.name!r}): give square frames, no smaller, and a multiple of as many"
        )
    clips = clips[:, :, :: frames // stage.frames]
    return clips if sizes[0] == stage.size else F.adaptive_avg_pool3d(clips, (None, stage.size, stage.size))


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


def top(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Whether the label of each clip is the best, or among the best five: logits (n, classes), labels (n,) → (n,) each."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return {"top1": best[:, 0], "top5": best.any(1)}


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
    """

    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    swap: str = "keep"
    seed: int = 0
    adam: bool = False

    def optimizer(self, model: nn.Module, stage: Stage, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """A fresh one and its schedule, over all that is not frozen."""
        decayed, free = [], []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                atoms = name.rpartition(".")[2] in ("psi", "phi")
                (free if atoms or parameter.dim() < 2 else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        if self.adam:
            optimizer = torch.optim.AdamW(groups, lr=self.learning_rate * math.sqrt(stage.batch))
        else:
            optimizer = torch.optim.SGD(groups, lr=self.learning_rate * stage.batch, momentum=0.9)
        warm = max(1, round(WARM_UP * steps))

        def share(step: int) -> float:
            after = (step - warm) / max(1, steps - warm)
            return (step + 1) / (warm + 1) if step < warm else 0.5 + 0.5 * math.cos(math.pi * after)

        return optimizer, LambdaLR(optimizer, share)


def run(
    model: nn.Module,
    stages: list[Stage],
    data: Callable[[Stage], tuple[Dataset, Dataset]],
    folder: Path,
    recipe: Recipe | None = None,
    *,
    scores: Callable[[Tensor, Tensor], dict[str, Tensor]] = top,
    accelerator: Accelerator | None = None,
    workers: int = 0,
    save_every: int = 200,
    config: dict[str, Any] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a network through stages, in place. Killed at any moment and called again, it ends with the weights of an unbroken
    run: bit for bit on the same machine with one or two processes, up to the order of sums with more.

    Every stage has a fresh optimiser. The network is evaluated after each epoch at the stage's own size, and at its end at
    full size (the largest of `stages`), on a copy whose atoms are swapped to that grid and whose BN statistics are estimated
    anew.

    Args:
        model: as built, with any number of `STDCFConv3d` layers, which are what freezing and swapping are about.
        stages: from `schedule`, or your own.
        data: stage → training and test set, of pairs (clip, label): clip floats (C, T, H, W), of the stage's size or
            larger (then `view` reduces it). A test clip may be (V, C, T, H, W), V views whose softmax is averaged. Draw
            what is random from torch's or Python's generator: both are seeded for every clip and epoch.
        folder: where checkpoints, metrics and weights go, shared by all machines of the run.
        recipe: how to train; `Recipe()` by default.
        scores: (logits (n, classes), labels (n,)) → figures by name, one a clip; their means are recorded.
        accelerator: brings device, processes, precision and accumulation, such as
            `Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)`. By default as `accelerate launch` says.
        workers: processes that load clips.
        save_every: steps between checkpoints within an epoch.
        config: what else to write into config.json.
        progress: show a bar for each stage.

    Returns:
        One dictionary an epoch: `stage`, and what `train` returns with the scores at the stage's own size. The last of each
        stage also has the scores at full size, as `full_…`; `steps`; `macs`, of the stage's forward passes in all
        (backward adds about twice that); and `stored_bytes`, what one batch on one device keeps for backward (`measure.cost`).

    Raises:
        ValueError: stages, batches or clips that do not fit together, or a folder that holds another run.
    """
    recipe, accelerator = recipe or Recipe(), accelerator or Accelerator()
    if not stages or len({stage.name for stage in stages}) < len(stages):
        raise ValueError(f"stages={[stage.name for stage in stages]}: give at least one, each with a name of its own")
    shares = accelerator.num_processes * accelerator.gradient_accumulation_steps
    if recipe.batch_size % shares:
        raise ValueError(
            f"batch_size={recipe.batch_size} cannot be shared by {shares} (processes × accumulated batches); give a multiple"
        )
    swaps = AtomSwap(model, stages[0], recipe.swap)
    whole = Run(folder)
    if accelerator.is_main_process:
        planned = {"stages": [asdict(stage) for stage in stages], **asdict(recipe), "precision": accelerator.mixed_precision}
        whole.start({**(config or {}), **planned, "network": str(model).splitlines()})
    accelerator.wait_for_everyone()
    model.to(accelerator.device)
    work = _Work(recipe, accelerator, scores, workers)
    full = Stage("full", max(stage.frames for stage in stages), max(stage.size for stage in stages))

    rows: list[dict[str, float]] = []
    for number, stage in enumerate(stages, 1):
        part = Run(Path(folder) / f"{number}_{stage.name}")
        training, test = data(stage)
        steps = work.steps(stage, training)
        swaps.to(stage)
        if part.finished:
            model.load_state_dict(part.weights)
        else:
            work.train(model, number, stage, training, test, part, save_every, progress)
            accelerator.wait_for_everyone()
        metrics = part.metrics
        if "steps" not in metrics[-1]:
            counted = cost(model.train(), (work.share(stage), training[0][0].shape[0], stage.frames, stage.size, stage.size))
            if (stage.frames, stage.size) == (full.frames, full.size):
                at_full = {name: value for name, value in metrics[-1].items() if name not in ("epoch", "train_loss", "seconds")}
            else:
                at_full = work.at_full_size(copy.deepcopy((model, swaps)), full, *data(full))
            metrics[-1] |= {f"full_{name}": value for name, value in at_full.items()}
            macs = counted.macs // work.share(stage) * steps * stage.batch * recipe.batch_size
            metrics[-1] |= {"steps": steps, "macs": macs, "stored_bytes": counted.stored_bytes}
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                part.finish(model, metrics)
        rows += [{"stage": stage.name} | row for row in metrics]
    if accelerator.is_main_process:
        whole.finish(model, rows)
    accelerator.wait_for_everyone()
    return rows


class _Work:
    """One process's share of a run: its batches, and what it does with them."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator, scores: Callable[..., dict[str, Tensor]], workers: int):
        self.recipe, self.accelerator, self.scores, self.workers = recipe, accelerator, scores, workers

    def share(self, stage: Stage) -> int:
        """Clips that one process has on its device at a time."""
        parts = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        return stage.batch * self.recipe.batch_size // parts

    def steps(self, stage: Stage, training: Dataset) -> int:
        batch = stage.batch * self.recipe.batch_size
        steps = round(stage.epochs * (len(training) // batch))
        if steps < 1:
            raise ValueError(
                f"stage {stage.name!r} has no step to make: {stage.epochs} epochs of {len(training)} clips, {batch} a batch"
            )
        return steps

    def train(
        self,
        model: nn.Module,
        number: int,
        stage: Stage,
        training: Dataset,
        test: Dataset,
        part: Run,
        save_every: int,
        progress: bool,
    ) -> None:
        steps, accumulated = self.steps(stage, training), self.accelerator.gradient_accumulation_steps
        an_epoch = len(training) // (stage.batch * self.recipe.batch_size)
        optimizer, scheduler = self.recipe.optimizer(model, stage, steps)
        wrapped, optimizer = self.accelerator.prepare(model, optimizer)

        def batches(epoch: int, first: int = 0) -> Iterator[Any]:
            left = min(an_epoch, steps - epoch * an_epoch) * accumulated
            return self.batches(training, stage, (number, epoch), range(first, left))

        def loss(model: nn.Module, batch: Any) -> Tensor:
            clips, labels = self.placed(batch, stage)
            return F.cross_entropy(model(clips).float(), labels)

        def evaluate(model: nn.Module) -> dict[str, float]:
            if self.accelerator.num_processes > 1:  # each process has averaged the BN statistics of its own clips
                for buffer in model.buffers():
                    broadcast(buffer)
            return self.evaluate(model, stage, test)

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        together = self.share(stage) * self.accelerator.num_processes
        hidden = not (progress and self.accelerator.is_main_process)
        bar = tqdm(total=steps * accumulated, desc=stage.name, unit="clip", unit_scale=together, disable=hidden)
        with bar:
            train(
                wrapped, batches, loss, optimizer, math.ceil(steps / an_epoch), scheduler=scheduler,
                clip_norm=self.recipe.clip_norm, evaluate=evaluate, run=part, save_every=save_every,
                accelerator=self.accelerator, progress=bar,
            )  # fmt: skip
        self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # for the next stage to wrap anew
        self.accelerator.free_memory()

    def batches(self, training: Dataset, stage: Stage, turn: tuple[int, ...], numbers: range) -> Iterator[Any]:
        """The batches of those numbers within an epoch, each this process's share of one for all."""
        share, processes, rank = self.share(stage), self.accelerator.num_processes, self.accelerator.process_index
        order = list(shuffled(len(training), share, _mixed(self.recipe.seed, *turn))(0))
        mine = [order[n * processes + rank].tolist() for n in numbers]
        seeded = _Seeded(training, (self.recipe.seed, *turn))
        for n, batch in zip(numbers, self.loader(seeded, batch_sampler=mine), strict=True):
            torch.manual_seed(_mixed(self.recipe.seed, *turn, n, rank))  # for dropout and the like
            yield batch

    def placed(self, batch: Any, stage: Stage) -> tuple[Tensor, Tensor]:
        """On the device, as the stage shows it, in the order in memory that convolutions like."""
        clips, labels = (part.to(self.accelerator.device, non_blocking=True) for part in batch)
        return view(clips, stage).to(memory_format=torch.channels_last_3d), labels

    def loader(self, dataset: Dataset, **order: Any) -> DataLoader:
        return DataLoader(dataset, num_workers=self.workers, pin_memory=self.accelerator.device.type == "cuda", **order)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, stage: Stage, test: Dataset) -> dict[str, float]:
        """The mean scores over the test set."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = Subset(test, range(rank, len(test), processes))
        sums: dict[str, Tensor] = {}
        model.eval()
        for clips, labels in self.loader(mine, batch_size=self.share(stage)):
            views = clips.shape[1] if clips.dim() == 6 else 1
            clips, labels = self.placed((clips.flatten(0, 1) if clips.dim() == 6 else clips, labels), stage)
            with self.accelerator.autocast():
                chances = model(clips).float().softmax(1).unflatten(0, (-1, views)).mean(1)
            for name, values in self.scores(chances, labels).items():
                sums[name] = sums.get(name, 0) + values.float().sum()
        return {name: self.accelerator.reduce(value, "sum").item() / len(test) for name, value in sums.items()}

    @torch.no_grad()
    def at_full_size(
        self, copies: tuple[nn.Module, AtomSwap], full: Stage, training: Dataset, test: Dataset
    ) -> dict[str, float]:
        """The scores at full size of a network that the stage's training has left at another."""
        model, swaps = copies
        swaps.to(full)
        count = min(BN_BATCHES, len(training) // (self.share(full) * self.accelerator.num_processes))
        with self.accelerator.autocast():
            update_bn((self.placed(batch, full)[0] for batch in self.batches(training, full, (0, 0), range(count))), model)
        if self.accelerator.num_processes > 1:
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.copy_(self.accelerator.reduce(buffer, "mean"))
        return self.evaluate(model, full, test)


class _Seeded(Dataset):
    """Seeds what is random in a clip by its number and the epoch's, whichever worker loads it, after a resume as before."""

    def __init__(self, dataset: Dataset, seed: tuple[int, ...]):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, index: int) -> Any:
        mixed = _mixed(*self.seed, index)
        torch.manual_seed(mixed)
        random.seed(mixed)
        return self.dataset[index]


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


if __name__ == "__main__":
    from stdcf_lib.itsl_video import main

    main()
