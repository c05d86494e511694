"""A run of ITSL: one network through all of its stages, on one process or many, that can be killed at any moment."""

import copy
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from stdcf_lib.checks import number, whole
from stdcf_lib.itsl.log import Log
from stdcf_lib.itsl.recipe import Recipe
from stdcf_lib.itsl.shared_bn import shared_bn
from stdcf_lib.itsl.stages import Stage, view
from stdcf_lib.itsl.swap import AtomSwap
from stdcf_lib.measure import Cost, cost
from stdcf_lib.runs import Run
from stdcf_lib.train import shuffled, train


class Clips(Protocol):
    """A set of pairs (clip, label), such as a `torch.utils.data.Dataset` that has a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...


BN_STEPS = 20  # whose clips estimate the statistics of BN at another size [ours]
NOWHERE = Path(os.devnull, "nowhere")  # the folder of a run that is only rehearsed
TEST_BYTES = 2**28  # of the clips that are scored together, with all their views, as they are loaded [ours]


def top(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Whether the label of each clip is the best, or among the best five: logits (n, classes), labels (n,) → (n,) each."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return {"top1": best[:, 0], "top5": best.any(1)}


def run(
    model: nn.Module,
    stages: list[Stage],
    data: Callable[[Stage], tuple[Clips, Clips]],
    folder: Path | str,
    recipe: Recipe | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train a network through stages, in place. Killed at any moment and called again, it ends as an unbroken run.

    What stays the same: with the processes and the accumulation it began with, the weights bit for bit, on the same machine's
    CPU with one or two processes, and up to the order of sums with more, or on a GPU. With other processes, every step still
    learns from the same clips, seen in the same way, and BN has the statistics of all clips that are on devices together, so
    the weights agree up to the order of sums, except for the places that dropout draws. With another accumulation, BN has those
    of other parts of a batch.

    Broken off, as by Ctrl-C, it leaves the network as it was given, so that the same call goes on.

    Every stage has a fresh optimiser. The network is validated after each epoch at the stage's own size, and at its end at
    full size (the largest of `stages`), on a copy whose atoms are swapped to that grid and whose BN statistics are estimated
    anew. A test set is for the end: many views of each clip cost a large part of what training does.

    Args:
        model: as built, with any number of `STDCFConv3d` layers, which are what freezing and swapping are about.
        stages: from `schedule`, or your own.
        data: stage → training and validation set, of pairs (clip, label): clip floats (C, T, H, W), of the stage's size or
            larger (then `view` reduces it), or what `prepare` makes such floats of. A clip to be scored may be
            (V, C, T, H, W), V views whose softmax is averaged. Draw what is random from torch's or Python's generator: both
            are seeded for every clip and epoch.
        folder: where checkpoints, metrics and weights go, shared by all machines of the run.
        recipe: how to train; `Recipe()` by default.
        **options: of `Training`.

    Returns:
        One dictionary an epoch: `stage`, and what `train` returns, validated epochs with their scores. The last of each
        stage also has the scores at full size, as `full_…`; `steps`; `processes` and `accumulation` that it ended with;
        `macs`, of the stage's forward passes in all (backward adds about twice that); and `stored_bytes`, what one batch on
        one device keeps for backward (`measure.cost`). The last of all has those on the test set, as `test_…`.

    Raises:
        ValueError: stages, batches or clips that do not fit together, or a folder that holds another run; before anything
            is written.
        FolderInUse: another process trains in the folder.
        FloatingPointError: the loss is no longer finite.
    """
    return Training(model, stages, data, folder, recipe, **options).run()


def _has_frames(module: Any, inputs: tuple[Tensor, ...]) -> None:
    """Refuse what PyTorch gets wrong in silence: with channels last, bf16 convolutions on a CPU read past clips shorter than
    the kernel (seen with torch 2.14: gradients of weights, or answers, that are arbitrary up to infinity)."""
    frames, needed = inputs[0].shape[2], module.kernel_size[0]
    if frames < needed:
        raise ValueError(
            f"a convolution over {needed} frames meets {frames}, and PyTorch's bf16 is arbitrary there on a CPU; "
            "train in float32, or show more frames"
        )


def seeing_all_processes(**options: Any) -> Accelerator:
    """`Accelerator(**options)` that sees its fellow processes on a CPU too, where accelerate by itself asks for a variable."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return Accelerator(cpu=several and not torch.accelerator.is_available(), **options)


class Training:
    """A run that has been checked and has not begun; arguments as for `run` (`folder` may be None, to rehearse alone), and

    Args:
        test: a set of clips of full size to score once, when all stages are over.
        scores: (logits (n, classes), labels (n,)) → figures by name, one a clip; their means are recorded.
        prepare: what is done to clips on the device before anything else, such as `data.footage.normalised`: bytes are
            four times quicker to hand over than floats.
        validate_every: epochs between validations; the last of a stage is always validated.
        test_batch: clips, with all their views, that one process loads at a time to score them; by default as many as a
            training batch has, within `TEST_BYTES`. On the device there are never more views at a time than a training
            batch has clips.
        accelerator: brings device, processes, precision and accumulation, such as
            `Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)`. By default as `accelerate launch` or
            `torchrun` says.
        workers: processes that load clips.
        compile: whether the network is compiled first (`torch.compile`), anew for each grid that it meets.
        save_minutes: between checkpoints within an epoch, which are written beside the training.
        config: what else to write into config.json.
        keep_stages: whether the folder of each stage stays, with the weights that it ended with.
        dtype: of the weights that the run keeps in the end, and of those that the network then has; see `Run`.
        log_every: steps between lines of `log.jsonl`: what `train` gives its log, the stage and clips a second. None for no
            such file.
        watch: is called after each of these lines, with it, by the first process.
        tensorboard: whether the figures of these lines also go to `tensorboard/` in the folder, for that program.
        progress: show a bar that knows how long the whole run will take, and print the lines of the log.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: list[Stage],
        data: Callable[[Stage], tuple[Clips, Clips]],
        folder: Path | str | None,
        recipe: Recipe | None = None,
        *,
        test: Clips | None = None,
        scores: Callable[[Tensor, Tensor], dict[str, Tensor]] = top,
        prepare: Callable[[Tensor], Tensor] | None = None,
        validate_every: int = 1,
        test_batch: int | None = None,
        accelerator: Accelerator | None = None,
        workers: int = 0,
        compile: bool = False,
        save_minutes: float = 10,
        config: Mapping[str, Any] | None = None,
        keep_stages: bool = True,
        dtype: torch.dtype | None = None,
        log_every: int | None = 50,
        watch: Callable[[dict[str, Any]], None] | None = None,
        tensorboard: bool = False,
        progress: bool = True,
    ):
        if not stages or len({stage.name for stage in stages}) < len(stages):
            raise ValueError(f"stages={[stage.name for stage in stages]}: give at least one, each with a name of its own")
        self.model, self.stages, self.test, self.scores = model, stages, test, scores
        self.prepare, self.validate_every = prepare, whole("validate_every", validate_every)
        self.test_batch = None if test_batch is None else whole("test_batch", test_batch)
        self.recipe, self.accelerator = recipe or Recipe(), accelerator or seeing_all_processes()
        self.workers, self.save_minutes = whole("workers", workers, 0), number("save_minutes", save_minutes, least=0)
        self.keep_stages, self.progress, self.compile = keep_stages, progress, compile
        self.log_every = None if log_every is None else whole("log_every", log_every)
        started = int(os.environ.get("WORLD_SIZE", 1))
        if started != self.accelerator.num_processes:
            raise ValueError(
                f"accelerator sees {self.accelerator.num_processes} of {started} processes (WORLD_SIZE): each would train "
                "alone; on a CPU make it as Accelerator(cpu=True), or leave it out"
            )
        parts = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        if self.recipe.batch_size % parts:
            raise ValueError(
                f"batch_size={self.recipe.batch_size} cannot be shared by {parts} (processes × accumulated batches); "
                "give a multiple"
            )
        self.swaps = AtomSwap(model, self.recipe.anchor(stages), self.recipe.swap)
        self.full = Stage("full", max(stage.frames for stage in stages), max(stage.size for stage in stages))
        self.sets, self.full_sets = [data(stage) for stage in stages], data(self.full)
        self.firsts: dict[int, tuple[Clips, Tensor]] = {}
        self.costs, self.full_cost = self._costs()
        planned = {"stages": [asdict(stage) for stage in stages], **asdict(self.recipe)}
        planned |= {"precision": self.accelerator.mixed_precision, "network": str(model).splitlines()}
        self.config = {**(config or {}), **planned}
        self.whole = Run(NOWHERE if folder is None else folder, dtype)
        self.whole.check(self.config)
        self.log = Log(self.whole, watch, tensorboard, print_lines=progress) if self.accelerator.is_main_process else None
        self.total = sum(self._work(number) for number in range(len(stages))) + self._scoring(test, self.full_cost)
        self.done = self.skipped = 0  # of it, now and before

    def run(self) -> list[dict[str, Any]]:
        """See the function `run`."""
        main = self.accelerator.is_main_process
        hidden = not (self.progress and main)
        self.began = time.monotonic()
        with (
            self.whole.held() if main else nullcontext(),
            self._put_back_if_broken_off(),
            self._as_it_runs(),
            tqdm(total=self.total, unit="MAC", unit_scale=True, disable=hidden, smoothing=0.05) as self.bar,
        ):
            if main:
                self.whole.start(self.config)
            self.accelerator.wait_for_everyone()
            self._place_network()
            if self.whole.finished:
                rows = self.whole.metrics
                for stage in self.stages:
                    self.swaps.to(stage)
            else:
                rows = [row for number in range(len(self.stages)) for row in self._stage(number)]
                if self.test is not None:
                    tested = self._scored_at_full_size(self.stages[-1], self.full_sets[0], self.test)
                    rows[-1] |= {f"test_{name}": value for name, value in tested.items()}
                if main:
                    self.whole.finish(self.model, rows)
                self.accelerator.wait_for_everyone()
            self.model.load_state_dict(self.whole.weights)
            if main and not self.keep_stages:
                for number in range(len(self.stages)):
                    self._part(number).remove()
            self.accelerator.wait_for_everyone()
        return rows

    def _part(self, number: int) -> Run:
        return self.whole.part(f"{number + 1}_{self.stages[number].name}")

    def _stage(self, number: int) -> list[dict[str, Any]]:
        """Train a stage, or take it up where it was stopped, or read it where it is over."""
        stage, (training, _), part = self.stages[number], self.sets[number], self._part(number)
        self.swaps.to(stage)
        if part.finished:
            if self.accelerator.is_main_process:
                with part.held():  # what is left there of a process that was killed as it ended goes
                    pass
            self.model.load_state_dict(part.weights)
            self._skipped(self._work(number))
        else:
            self._train(number, part)
            self.accelerator.wait_for_everyone()
        metrics = part.metrics
        if "steps" not in metrics[-1]:
            if self._is_full(stage):
                at_full = {name: value for name, value in metrics[-1].items() if not _of_training(name)}
            else:
                at_full = self._scored_at_full_size(stage, *self.full_sets)
            counted, steps = self.costs[number], self.steps(stage, training)
            for row in metrics:
                row["clips_per_second"] = round(self.batch(stage) * (len(training) // self.batch(stage)) / row["seconds"], 3)
            metrics[-1] |= {f"full_{name}": value for name, value in at_full.items()}
            metrics[-1] |= {
                "steps": steps,
                "processes": self.accelerator.num_processes,
                "accumulation": self.accelerator.gradient_accumulation_steps,
                "macs": counted.macs // self.share(stage) * steps * self.batch(stage),
                "stored_bytes": counted.stored_bytes,
            }
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                part.finish(self.model, metrics)
        return [{"stage": stage.name} | row for row in metrics]

    def _costs(self) -> tuple[list[Cost], int]:
        """Of one batch on one device in each stage, and the multiplications of a full-size clip in the end; and so a stage
        that the network cannot see is refused at once."""
        model, swaps = copy.deepcopy((self.model, self.swaps))
        if self.accelerator.device.type == "cpu" and self.accelerator.mixed_precision == "bf16":
            for module in model.modules():
                if hasattr(module, "in_channels") and len(getattr(module, "kernel_size", ())) == 3:
                    module.register_forward_pre_hook(_has_frames)
        costs, channels = [], 0
        for stage, (training, validation) in zip(self.stages, self.sets, strict=True):
            self.steps(stage, training)
            if not len(validation):
                raise ValueError(f"stage {stage.name!r} has no validation clips")
            swaps.to(stage)
            clip = self._first(training)
            channels = clip.shape[0]
            view(self.prepare(clip[None]) if self.prepare else clip[None], stage)
            try:
                costs.append(cost(model.train(), (self.share(stage), clip.shape[0], stage.frames, stage.size, stage.size)))
            except (ValueError, RuntimeError) as error:
                raise ValueError(
                    f"stage {stage.name!r}: the network cannot train on {self.share(stage)} clips of "
                    f"{stage.frames}×{stage.size}² at a time ({error})"
                ) from error
        swaps.to(self.full)
        return costs, cost(model.eval(), (1, channels, self.full.frames, self.full.size, self.full.size)).macs

    def _first(self, clips: Clips) -> Tensor:
        """The first clip of a set, loaded once."""
        if id(clips) not in self.firsts:
            self.firsts[id(clips)] = clips, clips[0][0]  # the set too, so that no other can come by its id
        return self.firsts[id(clips)][1]

    def _work(self, number: int) -> int:
        """Multiplications of a stage, backward passes, validations and scores at full size included."""
        stage, (training, validation) = self.stages[number], self.sets[number]
        a_clip, steps = self.costs[number].macs // self.share(stage), self.steps(stage, training)
        work = 3 * a_clip * steps * self.batch(stage)
        work += math.ceil(self.epochs(number) / self.validate_every) * self._scoring(validation, a_clip)
        return work if self._is_full(stage) else work + self._scoring(self.full_sets[1], self.full_cost)

    def _scoring(self, clips: Clips | None, a_clip: int) -> int:
        """Multiplications of scoring a set."""
        return 0 if clips is None else self.views(clips) * a_clip

    def views(self, clips: Clips) -> int:
        """How many views are scored for a set."""
        first = self._first(clips)
        return len(clips) * (len(first) if first.dim() == 5 else 1)

    def epochs(self, number: int) -> int:
        """That a stage begins."""
        stage, (training, _) = self.stages[number], self.sets[number]
        return math.ceil(self.steps(stage, training) / (len(training) // self.batch(stage)))

    def _did(self, work: int) -> None:
        self.done += work
        self.bar.update(work)

    def _skipped(self, work: int) -> None:
        """Work that was done before a run was taken up again, and says nothing of how fast it goes."""
        self.skipped += work
        if not self.bar.disable:
            self.bar.initial += work
            self.bar.n += work

    def _log(self, line: dict[str, Any], number: int) -> None:
        stage, (training, _) = self.stages[number], self.sets[number]
        before = sum(self.steps(self.stages[i], self.sets[i][0]) for i in range(number))
        clips = self.batch(stage) * (len(training) // self.batch(stage) if "train_loss" in line else 1)
        line = {"stage": stage.name} | line | {"step": before + line["step"]}
        if line["seconds"]:
            line["clips_per_second"] = round(clips / line["seconds"], 4)
        left = max(0, self.total - self.skipped - self.done) * (time.monotonic() - self.began) / max(1, self.done)
        cast(Log, self.log)(line, left)

    def batch(self, stage: Stage) -> int:
        """Clips a step."""
        return stage.batch * self.recipe.batch_size

    def share(self, stage: Stage) -> int:
        """Clips that one process has on its device at a time."""
        return self.batch(stage) // (self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps)

    def steps(self, stage: Stage, training: Clips) -> int:
        """Of the optimiser, that a stage makes with so many clips."""
        batch = self.batch(stage)
        steps = round(stage.epochs * (len(training) // batch))
        if steps < 1:
            raise ValueError(
                f"stage {stage.name!r} has no step to make: {stage.epochs} epochs of {len(training)} clips, {batch} a batch"
            )
        return steps

    def _is_full(self, stage: Stage) -> bool:
        return (stage.frames, stage.size) == (self.full.frames, self.full.size)

    def _train(self, number: int, part: Run) -> None:
        stage, (training, validation) = self.stages[number], self.sets[number]
        steps, feed, batch = self.steps(stage, training), self._feed(training), self.batch(stage)
        an_epoch = len(training) // batch
        epochs, before = self.epochs(number), None

        def batches(epoch: int, first: int = 0) -> Iterator[Any]:
            return self._batches(feed, stage, (number + 1, epoch), range(first, min(an_epoch, steps - epoch * an_epoch)))

        def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
            return {} if epoch % self.validate_every and epoch < epochs else self._evaluate(model, stage, validation)

        def stepped(seen: int) -> None:
            nonlocal before
            work = 3 * self.costs[number].macs // self.share(stage) * batch  # backward takes twice as much as forward
            if before is None:
                self._skipped(work * seen)
            else:
                self._did(work * (seen - before))
            before = seen

        self.bar.set_description(stage.name)
        logs = self.log_every is not None and self.accelerator.is_main_process
        self._fit(
            stage, steps, batches, epochs, evaluate=evaluate, run=part, save_minutes=self.save_minutes, progress=stepped,
            log=(lambda line: self._log(line, number)) if logs else None, log_every=self.log_every or 1,
        )  # fmt: skip

    def _fit(self, stage: Stage, steps: int, batches: Callable[..., Any], epochs: int, **options: Any) -> None:
        """`train` the network as it is, by the recipe for so many steps."""
        optimization = self.recipe.optimization(self.model, stage, steps)
        wrapped, optimizer = self.accelerator.prepare(self.model, optimization.optimizer)
        optimization = replace(optimization, optimizer=optimizer)

        def loss(model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            clips, labels = batch
            logits, labels = model(self._placed(clips, stage)).float(), labels.to(self.accelerator.device, non_blocking=True)
            return F.cross_entropy(logits, labels), {"top1": (logits.argmax(1) == labels).float().mean()}

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        try:
            train(wrapped, batches, loss, optimization, epochs, accelerator=self.accelerator, **options)
        finally:
            self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # for the next stage, or call, to wrap anew
            self.accelerator.free_memory()

    def rehearse(self, number: int, clips: int | None = None, steps: int = 3) -> dict[str, float]:
        """Take a few real steps of a stage on a copy of the network, with its first clip over and over; nothing is kept.

        Args:
            number: of the stage, from 0.
            clips: that each process has on its device at a time; by default as many as in the run.
            steps: that are timed, after one that is not.

        Returns:
            `seconds` a step, with accumulation, or what such a step takes in proportion where `clips` is smaller;
            `view_seconds` that it takes to score a view; and `memory_gib`, the peak, see `train.memory_bytes`.
        """
        stage, (training, _) = self.stages[number], self.sets[number]
        clips = min(self.share(stage), whole("clips", clips or self.share(stage)))
        first, lines, own, scoring = self._first(training), [], (self.model, self.swaps), 0.0
        same = first[None].expand(clips, *first.shape).contiguous()
        if self.accelerator.device.type == "cuda":
            same = same.pin_memory()  # as loaders hand them over
        batch = same, torch.zeros(clips, dtype=torch.long)
        accumulated = self.accelerator.gradient_accumulation_steps
        try:
            self.model, self.swaps = copy.deepcopy(own)
            self._place_network()
            self.swaps.to(stage)
            with self._as_it_runs():
                passes = (1 + steps) * accumulated
                self._fit(stage, 1 + steps, lambda epoch: [batch] * passes, 1, log=lines.append, log_every=1, progress=False)
                self.model.eval()
                with torch.no_grad(), self.accelerator.autocast():
                    for _ in range(2):  # the second is timed
                        start = time.perf_counter()
                        float(self.model(self._placed(batch[0], stage)).float().sum())
                        scoring = time.perf_counter() - start
        finally:
            self.model, self.swaps = own
        step = sorted(line["seconds"] - line["data_seconds"] for line in lines[1:-1])[(steps - 1) // 2]
        memory = max(line["memory_gib"] for line in lines)
        return {"seconds": step * self.share(stage) / clips, "view_seconds": scoring / clips, "memory_gib": memory}

    def _place_network(self) -> None:
        """On the device, its filters in the order in memory that convolutions like, as are the clips."""
        self.model.to(self.accelerator.device)
        for weight in self.model.parameters():
            if weight.dim() == 5:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        if self.compile:
            self.model.compile()

    @contextmanager
    def _as_it_runs(self) -> Iterator[None]:
        """With cuDNN looking for the fastest ways, as shapes change from stage to stage alone; and BN over all processes."""
        several, on_gpu = self.accelerator.num_processes > 1, self.accelerator.device.type == "cuda"
        cudnn: Any = torch.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, True  # its context manager, `flags`, would switch cuDNN itself off
        try:
            with shared_bn(self.model, on_gpu) if several else nullcontext():
                yield
        finally:
            cudnn.benchmark = before

    @contextmanager
    def _put_back_if_broken_off(self) -> Iterator[None]:
        """Leave the network as it was given where a run is broken off, so that a notebook's cell may be run again."""
        given = copy.deepcopy(self.model.state_dict())
        try:
            yield
        except BaseException:
            self.swaps.to(replace(self.recipe.anchor(self.stages), frozen=None))
            self.model.load_state_dict(given)
            raise

    def loaded(self, number: int) -> Iterator[Any]:
        """This process's batches (clips, labels) of a stage, as it loads them, over and over."""
        stage, (training, _) = self.stages[number], self.sets[number]
        feed, an_epoch = self._feed(training), range(len(training) // self.batch(stage))
        for epoch in itertools.count():
            yield from self._batches(feed, stage, (number + 1, epoch), an_epoch)

    def _feed(self, training: Clips) -> DataLoader:
        """Loads the batches that its `batch_sampler` is given for each epoch, by workers that stay."""
        return self._loader(_Seeded(training), batch_sampler=_Turn(), persistent_workers=self.workers > 0)

    def _batches(self, feed: DataLoader, stage: Stage, turn: tuple[int, ...], steps: range) -> Iterator[Any]:
        """This process's batches of those steps within an epoch: a step has the same clips, however they are shared."""
        share, processes, rank = self.share(stage), self.accelerator.num_processes, self.accelerator.process_index
        accumulated = self.accelerator.gradient_accumulation_steps
        seed, count = (self.recipe.seed, *turn), len(cast(_Seeded, feed.dataset))
        order = list(shuffled(count, share, _mixed(*seed))(0))
        numbers = [n for step in steps for n in range(step * accumulated, (step + 1) * accumulated)]
        cast(_Turn, feed.batch_sampler).batches = [
            [(_mixed(*seed, index), index) for index in order[n * processes + rank].tolist()] for n in numbers
        ]
        for n, batch in zip(numbers, feed, strict=True):
            torch.manual_seed(_mixed(*seed, n, rank))  # for dropout and the like
            yield batch

    def _placed(self, clips: Tensor, stage: Stage) -> Tensor:
        """On the device, as the stage shows it, in the order in memory that convolutions like."""
        clips = clips.to(self.accelerator.device, non_blocking=True)
        clips = self.prepare(clips) if self.prepare else clips
        return view(clips, stage).to(memory_format=torch.channels_last_3d)

    def _loader(self, dataset: Dataset, **order: Any) -> DataLoader:
        return DataLoader(dataset, num_workers=self.workers, pin_memory=self.accelerator.device.type == "cuda", **order)

    @torch.no_grad()
    def _evaluate(self, model: nn.Module, stage: Stage, clips: Clips) -> dict[str, float]:
        """The mean scores over a set."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = Subset(cast(Dataset, clips), range(rank, len(clips), processes))
        sums: dict[str, Tensor] = {}
        a_clip = self.full_cost if self._is_full(stage) else self.costs[self.stages.index(stage)].macs // self.share(stage)
        model.eval()
        for batch, labels in self._loader(mine, batch_size=self._test_batch(stage, clips)):
            views = batch.shape[1] if batch.dim() == 6 else 1
            chances = []
            for part in (batch.flatten(0, 1) if batch.dim() == 6 else batch).split(self.share(stage)):
                with self.accelerator.autocast():
                    chances.append(model(self._placed(part, stage)).float().softmax(1))
            labels = labels.to(self.accelerator.device, non_blocking=True)
            for name, values in self.scores(torch.cat(chances).unflatten(0, (-1, views)).mean(1), labels).items():
                sums[name] = sums.get(name, torch.zeros((), device=values.device)) + values.float().sum()
            self._did(len(labels) * views * a_clip * processes)
        # Objects, not tensors: a process without a clip of its own does not know the names, and must not be waited for.
        shares = gather_object([{name: value.item() for name, value in sums.items()}])
        names = max(shares, key=len)
        return {name: math.fsum(share.get(name, 0.0) for share in shares) / len(clips) for name in names}

    def _test_batch(self, stage: Stage, clips: Clips) -> int:
        """Clips of a set to score that one process loads at a time."""
        if self.test_batch is not None:
            return self.test_batch
        return max(1, min(self.share(stage), TEST_BYTES // self._first(clips).nbytes))

    @torch.no_grad()
    def _scored_at_full_size(self, stage: Stage, training: Clips, clips: Clips) -> dict[str, float]:
        """The scores at full size of the network that a stage's training has left."""
        if self._is_full(stage):
            return self._evaluate(self.model, stage, clips)
        model, swaps = copy.deepcopy((self.model, self.swaps))
        swaps.to(self.full)
        steps = range(min(BN_STEPS, len(training) // self.recipe.batch_size))
        seen = (self._placed(batch[0], self.full) for batch in self._batches(self._feed(training), self.full, (0, 0), steps))
        with self.accelerator.autocast():
            update_bn(seen, model)
        return self._evaluate(model, self.full, clips)


def _of_training(name: str) -> bool:
    """Whether a figure of an epoch comes from `train`, and not from scores."""
    own = ("epoch", "seconds", "data_seconds", "evaluation_seconds", "learning_rate", "gradient_norm", "memory_gib")
    return name in own or name.startswith("train_")


class _Turn:
    """The batches of an epoch, for a loader that stays."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Seeded(Dataset):
    """Seeds what is random in a clip, whichever worker loads it and after a resume as before: an index is (seed, number)."""

    def __init__(self, dataset: Clips):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Any:
        seed, number = index
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` seeds all devices, and takes a hundred times as long
        random.seed(seed)
        return self.dataset[number]


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
