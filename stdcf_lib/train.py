"""The one training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from stdcf_lib.checks import number, whole
from stdcf_lib.runs import Run

READ_EVERY = 10
"""Steps between readings of the loss. Reading waits for the device, which would otherwise be given work ahead of time."""


@dataclass(frozen=True)
class Optimization:
    """How weights change.

    Args:
        optimizer: over the parameters that are to train.
        scheduler: of the learning rate, moved on by every step of the optimiser.
        clip_norm: gradients of a larger norm are scaled down to it.
    """

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip_norm: float | None = None


def train(
    model: nn.Module,
    batches: Callable[..., Iterable[Any]],
    loss: Callable[[nn.Module, Any], Tensor],
    optimization: Optimization,
    epochs: int,
    *,
    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    run: Run | None = None,
    save_minutes: float | None = None,
    accelerator: Accelerator | None = None,
    progress: bool | tqdm = True,
) -> list[dict[str, Any]]:
    """Train a model in place, and resume where it was stopped.

    The loop counts in steps of the optimiser, so a run may go on with other processes or another accumulation than it began
    with, if `batches` makes each step of the same samples whatever they are.

    Args:
        model: trained in place.
        batches: epoch number, from 0 → the batches of that epoch. Let their order depend on the number alone, as
            `shuffled` does: then a resumed run sees the batches that an unbroken one would have seen. With `save_minutes`
            it is called as `batches(epoch, first)` where an epoch was broken off, to give those from step `first` on.
        loss: (model, batch) → a scalar, the mean over the batch.
        optimization: the optimiser, and what steers it.
        epochs: how many in all, those before a resume included.
        evaluate: (model, number of the epoch, from 1) → figures to record, called after every epoch.
        run: where checkpoints (after every epoch, before and after it is evaluated), metrics and weights go; nothing is
            written if None. They are written beside the training, which goes on meanwhile.
        save_minutes: between further checkpoints within an epoch; 0 is after every step.
        accelerator: has prepared `model` and the optimiser, and brings its device, its precision, its accumulation of
            gradients (over batches; an epoch must be a multiple) and its other processes, each of which calls this with
            batches of its own. One of them writes.
        progress: show a bar over epochs; or a bar of your own, which every step moves on by 1.

    Returns:
        One dictionary an epoch: `epoch` from 1, `train_loss` (mean over its batches), `seconds`, and what `evaluate` gave.

    Raises:
        FloatingPointError: the loss is no longer finite. The last checkpoint stays.
        FolderInUse: another process trains in the run's folder.
    """
    epochs = whole("epochs", epochs)
    save_minutes = None if save_minutes is None else number("save_minutes", save_minutes, least=0)
    writes = run is not None and (accelerator is None or accelerator.is_main_process)
    with run.held() if run and writes else nullcontext(), ThreadPoolExecutor(1) as writer:
        loop = _Loop(model, optimization, run, writer if writes else None, accelerator)
        return loop(batches, loss, epochs, evaluate, save_minutes, progress)


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        optimization: Optimization,
        run: Run | None,
        writer: Executor | None,
        accelerator: Accelerator | None,
    ):
        self.model, self.optimization, self.run, self.accelerator = model, optimization, run, accelerator
        self.writer, self.writing = writer, None  # the thread that writes, if this process does, and what it is at
        self.saved = time.monotonic()
        self.bare: nn.Module = accelerator.unwrap_model(model) if accelerator else model
        scaler = accelerator.scaler if accelerator else None  # of fp16 alone
        parts = {"model": self.bare, "optimizer": optimization.optimizer, "scheduler": optimization.scheduler, "scaler": scaler}
        self.parts: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        self.metrics: list[dict[str, Any]] = []
        self.done = self.seen = 0  # steps of an epoch that is not over, and of all
        self.over = False  # all steps of that epoch are done, and it is not evaluated yet
        self.seconds = 0.0  # of that epoch before it was broken off
        self.total = 0.0  # the sum of that epoch's losses, a mean over processes and accumulated batches for each step
        self.read_total = 0.0  # what this process has read of its own and not yet shared
        self.unread: list[Tensor] = []
        kept = run.restore() if run else None
        if kept:
            state, self.metrics = kept
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.done, self.seen, self.seconds, self.total = (state[n] for n in ("done", "seen", "seconds", "total"))
            self.over = state.get("over", False)

    def __call__(
        self,
        batches: Callable[..., Iterable[Any]],
        loss: Callable[[nn.Module, Any], Tensor],
        epochs: int,
        evaluate: Callable[[nn.Module, int], dict[str, float]] | None,
        save_minutes: float | None,
        progress: bool | tqdm,
    ) -> list[dict[str, Any]]:
        own_bar = None if isinstance(progress, bool) else progress
        if own_bar is not None:
            own_bar.initial = own_bar.n = self.seen
        if self.accelerator:
            self.accelerator.step = 0  # an interrupted call may have left it between two batches of one step
        with tqdm(total=epochs, initial=len(self.metrics), unit="epoch", disable=progress is not True) as bar:
            for epoch in range(len(self.metrics), epochs):
                start = time.perf_counter() - self.seconds
                self.model.train()
                self.optimization.optimizer.zero_grad()
                for batch in () if self.over else batches(epoch, self.done) if self.done else batches(epoch):
                    if not self.learn(loss, batch):
                        continue
                    self.done, self.seen = self.done + 1, self.seen + 1
                    if self.done % READ_EVERY == 0:
                        self.read(epoch)
                        if own_bar is not None:
                            memory = f"{memory_bytes() / 2**30:.1f} GiB"
                            own_bar.set_postfix(loss=f"{self.so_far():.4g}", memory=memory, refresh=False)
                    if save_minutes is not None and self.due(save_minutes):
                        self.share(epoch)
                        self.seconds = time.perf_counter() - start
                        self.save()
                    if own_bar is not None:
                        own_bar.update()
                self.share(epoch)
                row = {"epoch": epoch + 1, "train_loss": self.total / self.done}
                row |= {"seconds": round(time.perf_counter() - start, 3)}
                if evaluate:
                    # Kept first: what stops an evaluation, once or for ever, must not cost the epoch before it.
                    self.seconds, self.over = time.perf_counter() - start, True
                    self.save()
                    self.bare.eval()
                    with torch.no_grad():
                        row |= evaluate(self.bare, epoch + 1)
                self.metrics.append(row)
                self.done, self.over, self.seconds, self.total = 0, False, 0.0, 0.0
                self.save()
                bar.set_postfix({name: f"{v:.4g}" for name, v in row.items() if name not in ("epoch", "seconds")})
                bar.update()
        self.written()
        if self.run and self.writer:
            self.run.finish(self.bare, self.metrics)
        return self.metrics

    def learn(self, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> bool:
        """Learn from a batch; whether that was a step of the optimiser, or its gradients wait for those of others."""
        optimizer, scheduler = self.optimization.optimizer, self.optimization.scheduler
        clip_norm, accelerator = self.optimization.clip_norm, self.accelerator
        with accelerator.accumulate(self.model) if accelerator else nullcontext():
            value = loss(self.model, batch)
            accelerator.backward(value) if accelerator else value.backward()
            self.unread.append(value.detach())
            stepped = accelerator is None or accelerator.sync_gradients
            if stepped and clip_norm is not None:
                clip = accelerator.clip_grad_norm_ if accelerator else nn.utils.clip_grad_norm_
                clip(self.model.parameters(), clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        if stepped and scheduler:
            scheduler.step()
        return stepped

    def read(self, epoch: int) -> None:
        """Take the losses from the device, and see that they are numbers."""
        for value in torch.stack(self.unread).tolist() if self.unread else []:
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss became {value} in epoch {epoch + 1}; lower the learning rate")
            self.read_total += value
        self.unread.clear()

    def share(self, epoch: int) -> None:
        """`read`, and add what every process has read to the total, which is then the same in all of them."""
        self.read(epoch)
        self.total += self._mean(self.read_total)
        self.read_total = 0.0

    def so_far(self) -> float:
        """The mean loss of the epoch, as far as this process knows it."""
        accumulated = self.accelerator.gradient_accumulation_steps if self.accelerator else 1
        return (self.total + self.read_total / accumulated) / self.done

    def _mean(self, value: float) -> float:
        """Over processes, and over the batches that make a step."""
        if self.accelerator is None:
            return value
        value /= self.accelerator.gradient_accumulation_steps
        if self.accelerator.num_processes == 1:
            return value
        every = self.accelerator.gather(torch.tensor([value], dtype=torch.float64, device=self.accelerator.device))
        return math.fsum(cast(Tensor, every).tolist()) / self.accelerator.num_processes

    def due(self, minutes: float) -> bool:
        """Whether it is time for a checkpoint within an epoch, by the clock of the first process."""
        several = self.accelerator is not None and self.accelerator.num_processes > 1
        if several and minutes and self.done % READ_EVERY:
            return False  # to agree takes a message, which every step need not wait for
        late = time.monotonic() - self.saved >= 60 * minutes
        if several and minutes:
            accelerator = cast(Accelerator, self.accelerator)
            return bool(cast(Tensor, accelerator.gather(torch.tensor([late], device=accelerator.device)))[0])
        return late

    def save(self) -> None:
        """Hand a copy of everything to the thread that writes."""
        self.written()
        if self.run and self.writer:
            position = {"done": self.done, "seen": self.seen, "seconds": self.seconds, "total": self.total, "over": self.over}
            state = {name: part.state_dict() for name, part in self.parts.items()} | position
            self.writing = self.writer.submit(self.run.save, _copied(state), copy.deepcopy(self.metrics))
        self.saved = time.monotonic()

    def written(self) -> None:
        """Wait until the last checkpoint is written, and raise what stopped it."""
        if self.writing:
            self.writing.result()
            self.writing = None


def _copied(state: Any) -> Any:
    """A state on the CPU that the next step does not change."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: _copied(part) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(_copied, state))
    return state


def shuffled(count: int, batch_size: int, seed: int) -> Callable[..., Iterable[Tensor]]:
    """Epoch number → the indices of `count` samples in batches, in an order that depends on `seed` and the number alone.

    A second number leaves out the batches before it.
    """

    def batches(epoch: int, first: int = 0) -> Iterable[Tensor]:
        mixed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        return torch.randperm(count, generator=generator).split(batch_size)[first:]

    return batches


def memory_bytes() -> int:
    """The most memory that tensors have held on the GPU, where one is in use; otherwise what this process holds now."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss
