"""The one training loop.

Which numbers are the same: on one machine's CPU, with the same versions and threads, the same seed gives the same weights to
the bit, in float32 and in bfloat16, and so does a run that was broken off and resumed. A GPU adds up in no fixed order, and so
does not. With another number of threads, or on a processor with other instructions, sums come in another order. The answer and
the gradients of a layer then agree to 1e-5 of the largest, and to 0.02 in bfloat16. Trained weights need not agree: where a
gradient is little more than rounding, Adam makes a whole step of it. After eight steps the mean loss differed by 1e-5 (in
bfloat16, 4e-4), some weights by a third of the largest.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from stdcf_lib.checks import choice, number, whole
from stdcf_lib.runs import DamagedRun, Run

Loss = Tensor | tuple[Tensor, dict[str, Tensor]]

READ_EVERY = 10
"""Steps between readings of the loss. Reading waits for the device, which would otherwise be given work ahead of time."""


@dataclass(frozen=True)
class Optimization:
    """How weights change.

    Args:
        optimizer: over the parameters that are to train.
        scheduler: of the learning rate, moved on by every step of the optimiser.
        clip_norm: gradients of a larger norm are scaled down to it.
        average: how much of the average of weights and buffers a step keeps, such as 0.999. The average is what is evaluated,
            and what the model is in the end. None for the weights themselves.
    """

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip_norm: float | None = None
    average: float | None = None


def train(
    model: nn.Module,
    batches: Callable[..., Iterable[Any]],
    loss: Callable[[nn.Module, Any], Loss],
    optimization: Optimization,
    epochs: int,
    *,
    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    run: Run | None = None,
    save_minutes: float | None = None,
    accelerator: Accelerator | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    log_every: int = 50,
    progress: bool | Callable[[int], None] = True,
) -> list[dict[str, Any]]:
    """Train a model in place, and resume where it was stopped.

    The loop counts in steps of the optimiser, so a run may go on with other processes or another accumulation than it began
    with, if `batches` makes each step of the same samples whatever they are.

    Args:
        model: trained in place.
        batches: epoch number, from 0 → the batches of that epoch. Let their order depend on the number alone, as
            `shuffled` does: then a resumed run sees the batches that an unbroken one would have seen. With `save_minutes`
            it is called as `batches(epoch, first)` where an epoch was broken off, to give those from step `first` on.
        loss: (model, batch) → a scalar, the mean over the batch; or that and a dictionary of other means over it to record,
            such as the accuracy.
        optimization: the optimiser, and what steers it.
        epochs: how many in all, those before a resume included.
        evaluate: (model, number of the epoch, from 1) → figures to record, called after every epoch.
        run: where checkpoints (after every epoch, before and after it is evaluated), metrics and weights go; nothing is
            written if None. They are written beside the training, which goes on meanwhile.
        save_minutes: between further checkpoints within an epoch; 0 is after every step.
        accelerator: has prepared `model` and the optimiser, and brings its device, its precision, its accumulation of
            gradients (over batches; an epoch must be a multiple) and its other processes, each of which calls this with
            batches of its own. One of them writes.
        log: is given a dictionary every `log_every` steps: `step` (of all, from 1), `epoch`; `loss`, and what else `loss`
            gave, as means of this process over the steps since the one before, or since the epoch began; `seconds` that such a
            step took, and `data_seconds`, those of them that it waited for its batch; `learning_rate`, and `gradient_norm`
            before it is clipped, of the last step; and `memory_gib`, see `memory_bytes`. After each epoch it is given what is
            returned of it, and `step`.
        log_every: steps from one to the next.
        progress: show a bar over epochs; or what is to be called after every step, with how many of all are done.

    Returns:
        One dictionary an epoch: `epoch` from 1; `train_loss`, and `train_…` for what else `loss` gave (means over its
        batches); `seconds`; and what `evaluate` gave. With `log` also `data_seconds`, `evaluation_seconds`, `learning_rate`
        of the last step, `gradient_norm` of the last that was logged, and `memory_gib`.

    Raises:
        FloatingPointError: the loss is no longer finite. The last checkpoint stays.
        FolderInUse: another process trains in the run's folder.
        DamagedRun: its checkpoint cannot be read, or is of another training.
    """
    epochs = whole("epochs", epochs)
    save_minutes = None if save_minutes is None else number("save_minutes", save_minutes, least=0)
    writes = run is not None and (accelerator is None or accelerator.is_main_process)
    with run.held() if run and writes else nullcontext(), ThreadPoolExecutor(1) as writer:
        loop = _Loop(model, optimization, run, writer if writes else None, accelerator)
        loop.log, loop.log_every = log, whole("log_every", log_every)
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
        self.average = None
        if optimization.average is not None:
            rule = get_ema_multi_avg_fn(optimization.average)
            self.average = AveragedModel(self.bare, multi_avg_fn=rule, use_buffers=True)
        scaler = accelerator.scaler if accelerator else None  # of fp16 alone
        parts = {"model": self.bare, "optimizer": optimization.optimizer, "scheduler": optimization.scheduler}
        parts |= {"scaler": scaler, "average": self.average}
        self.parts: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        self.metrics: list[dict[str, Any]] = []
        self.done = self.seen = 0  # steps of an epoch that is not over, and of all
        self.over = False  # all steps of that epoch are done, and it is not evaluated yet
        self.seconds = self.waited = 0.0  # of that epoch, before it was broken off; and of it, spent on waiting for batches
        self.totals: dict[str, float] = {}  # sums of that epoch's losses, means over processes and accumulated batches
        self.read_totals: dict[str, float] = {}  # what this process has read of its own and not yet shared
        self.unread: list[dict[str, Tensor]] = []
        self.log: Callable[[dict[str, Any]], None] | None = None
        self.log_every: int
        self.window: dict[str, float] = {}  # sums since the last line of the log
        self.batches, self.line = 0, (0, 0.0, 0.0)  # in it; and the step, the time and the waiting at that line, or a resume
        self.norm: Tensor | float | None = None  # of the gradient, when it was last looked at
        if run and (kept := run.restore()):
            try:
                self.go_on(*kept)
            except Exception as error:  # of whatever the parts are made of
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DamagedRun(
                    f"{run.folder / 'checkpoint.pt'} is of another training ({reason}); remove it, and the run begins anew"
                ) from error

    def go_on(self, state: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        """From a checkpoint. Whatever does not fit is refused here, as later it would stop the training in words of torch."""
        self.done, self.seen = whole("done", state["done"], 0), whole("seen", state["seen"], 0)
        self.seconds, self.waited = number("seconds", state["seconds"]), number("waited", state["waited"])
        self.over = choice("over", state["over"], (True, False))
        self.norm = None if state["norm"] is None else float(state["norm"])
        self.totals = {name: number(name, total) for name, total in state["totals"].items()}
        # An older version kept none of the line of the log that it was in.
        self.window = {name: number(name, total) for name, total in state.get("window", {}).items()}
        self.batches = whole("batches", state.get("batches", 0), 0)
        self.metrics = metrics
        if not isinstance(metrics, list) or not all(isinstance(row, dict) for row in metrics):
            raise ValueError("its metrics are no dictionaries")
        if self.totals and not self.done:
            raise ValueError("its totals are of no step")
        for name, part in self.parts.items():
            fresh = part.state_dict()
            if name == "optimizer":
                groups = state[name]["param_groups"]
                for group, now in zip(groups, fresh["param_groups"], strict=True):  # what is on or off may depend on the device
                    group |= {option: value for option, value in now.items() if value is None or isinstance(value, bool)}
                    if group["params"] != now["params"]:
                        raise ValueError("optimizer has other parameters")
                _like(name, groups, fresh["param_groups"])
                _fits(state[name]["state"], self.optimization.optimizer)
            elif name != "scaler":  # which has nothing on another device
                _like(name, state[name], fresh)
            part.load_state_dict(state[name])

    def __call__(
        self,
        batches: Callable[..., Iterable[Any]],
        loss: Callable[[nn.Module, Any], Loss],
        epochs: int,
        evaluate: Callable[[nn.Module, int], dict[str, float]] | None,
        save_minutes: float | None,
        progress: bool | Callable[[int], None],
    ) -> list[dict[str, Any]]:
        stepped = progress if callable(progress) else lambda seen: None
        stepped(self.seen)
        if self.accelerator:
            self.accelerator.step = 0  # an interrupted call may have left it between two batches of one step
        with tqdm(total=epochs, initial=len(self.metrics), unit="epoch", disable=progress is not True) as bar:
            for epoch in range(len(self.metrics), epochs):
                start = time.perf_counter() - self.seconds
                if not self.done:  # otherwise a line goes on where it was broken off
                    self.window, self.batches = {}, 0
                self.line = self.seen, time.perf_counter(), self.waited
                self.model.train()
                self.optimization.optimizer.zero_grad()
                for batch in () if self.over else self.awaited(batches(epoch, self.done) if self.done else batches(epoch)):
                    if not self.learn(loss, batch):
                        continue
                    self.done, self.seen = self.done + 1, self.seen + 1
                    if self.done % READ_EVERY == 0:
                        self.read(epoch)
                    if self.log and self.seen % self.log_every == 0:
                        self.read(epoch)
                        self.log(self.logged(epoch))
                    if save_minutes is not None and self.due(save_minutes):
                        self.share(epoch)
                        self.seconds = time.perf_counter() - start
                        self.save()
                    stepped(self.seen)
                self.share(epoch)
                row = {"epoch": epoch + 1} | {f"train_{name}": total / self.done for name, total in self.totals.items()}
                row |= {"seconds": round(time.perf_counter() - start, 3)}
                if self.log:
                    row |= {"data_seconds": round(self.waited, 3), **self.state_of_things()}
                if evaluate:
                    # Kept first: what stops an evaluation, once or for ever, must not cost the epoch before it.
                    self.seconds, self.over = time.perf_counter() - start, True
                    self.save()
                    began, evaluated = time.perf_counter(), self.average.module if self.average else self.bare
                    evaluated.eval()
                    with torch.no_grad():
                        row |= evaluate(evaluated, epoch + 1)
                    if self.log:
                        row["evaluation_seconds"] = round(time.perf_counter() - began, 3)
                self.metrics.append(row)
                self.done, self.over, self.seconds, self.waited, self.totals = 0, False, 0.0, 0.0, {}
                if self.log:  # before it is kept, as a run that is taken up does not come to this line again
                    self.log({"step": self.seen} | row)
                self.save()
                bar.set_postfix({name: f"{v:.4g}" for name, v in row.items() if name not in ("epoch", "seconds")})
                bar.update()
        self.written()
        if self.average:
            self.bare.load_state_dict(self.average.module.state_dict())
        if self.run and self.writer:
            self.run.finish(self.bare, self.metrics)
        return self.metrics

    def awaited(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches, while `waited` counts what they take to come."""
        coming = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(coming, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def learn(self, loss: Callable[[nn.Module, Any], Loss], batch: Any) -> bool:
        """Learn from a batch; whether that was a step of the optimiser, or its gradients wait for those of others."""
        optimizer, scheduler = self.optimization.optimizer, self.optimization.scheduler
        clip_norm, accelerator = self.optimization.clip_norm, self.accelerator
        with accelerator.accumulate(self.model) if accelerator else nullcontext():
            found = loss(self.model, batch)
            value, figures = found if isinstance(found, tuple) else (found, {})
            accelerator.backward(value) if accelerator else value.backward()
            self.unread.append({"loss": value.detach()} | figures)
            stepped = accelerator is None or accelerator.sync_gradients
            line_due = self.log is not None and (self.seen + 1) % self.log_every == 0
            if stepped and (clip_norm is not None or line_due):
                clip = accelerator.clip_grad_norm_ if accelerator else nn.utils.clip_grad_norm_
                self.norm = cast(Tensor, clip(self.model.parameters(), math.inf if clip_norm is None else clip_norm))
            optimizer.step()
            optimizer.zero_grad()
        if stepped and scheduler:
            scheduler.step()
        if stepped and self.average:
            self.average.update_parameters(self.bare)
        return stepped

    def read(self, epoch: int) -> None:
        """Take the losses from the device, and see that they are numbers."""
        names = [name for figures in self.unread for name in figures]
        values = [value.float() for figures in self.unread for value in figures.values()]
        for name, value in zip(names, torch.stack(values).tolist() if values else [], strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(f"the {name} became {value} in epoch {epoch + 1}; lower the learning rate")
            for sums in (self.read_totals, self.window):
                sums[name] = sums.get(name, 0.0) + value
        self.batches += len(self.unread)
        self.unread.clear()

    def share(self, epoch: int) -> None:
        """`read`, and add what every process has read to the totals, which are then the same in all of them."""
        self.read(epoch)
        for name, value in zip(self.read_totals, self._means(list(self.read_totals.values())), strict=True):
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.read_totals = {}

    def logged(self, epoch: int) -> dict[str, Any]:
        """A line of the log, and the next begins."""
        means = {name: total / self.batches for name, total in self.window.items()}
        steps = self.seen - self.line[0]
        times = {"seconds": (time.perf_counter() - self.line[1]) / steps, "data_seconds": (self.waited - self.line[2]) / steps}
        self.window, self.batches, self.line = {}, 0, (self.seen, time.perf_counter(), self.waited)
        return {"step": self.seen, "epoch": epoch + 1, **means, **times, **self.state_of_things()}

    def state_of_things(self) -> dict[str, Any]:
        """As it is after the last step."""
        scheduler, optimizer = self.optimization.scheduler, self.optimization.optimizer
        rate = scheduler.get_last_lr()[0] if scheduler else optimizer.param_groups[0]["lr"]
        norm = {} if self.norm is None else {"gradient_norm": float(self.norm)}
        return {"learning_rate": rate, **norm, "memory_gib": round(memory_bytes() / 2**30, 3)}

    def _means(self, values: list[float]) -> list[float]:
        """Over processes, and over the batches that make a step."""
        if self.accelerator is None:
            return values
        values = [value / self.accelerator.gradient_accumulation_steps for value in values]
        if self.accelerator.num_processes == 1:
            return values
        own = torch.tensor([values], dtype=torch.float64, device=self.accelerator.device)
        every = cast(Tensor, self.accelerator.gather(own))
        return [math.fsum(column) / self.accelerator.num_processes for column in every.T.tolist()]

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
            position = {"done": self.done, "seen": self.seen, "over": self.over}
            position |= {"seconds": self.seconds, "waited": self.waited, "totals": dict(self.totals)}
            position |= {"window": dict(self.window), "batches": self.batches}
            position["norm"] = None if self.norm is None else float(self.norm)
            state = {name: part.state_dict() for name, part in self.parts.items()} | position
            self.writing = self.writer.submit(self.run.save, _copied(state), copy.deepcopy(self.metrics))
        self.saved = time.monotonic()

    def written(self) -> None:
        """Wait until the last checkpoint is written, and raise what stopped it."""
        if self.writing:
            self.writing.result()
            self.writing = None


def _like(name: str, kept: Any, fresh: Any) -> None:
    """See that a state has the parts of another, in their types and shapes."""
    if isinstance(fresh, dict | list | tuple):
        if isinstance(fresh, dict) and not (isinstance(kept, dict) and fresh.keys() <= kept.keys()):
            raise ValueError(f"{name} has not the parts {', '.join(map(str, fresh))}")
        if isinstance(fresh, list | tuple) and not (isinstance(kept, list | tuple) and len(kept) == len(fresh)):
            raise ValueError(f"{name} has not {len(fresh)} parts")
        for key, value in fresh.items() if isinstance(fresh, dict) else enumerate(fresh):
            _like(f"{name} {key}", kept[key], value)
    elif isinstance(fresh, Tensor):
        if not isinstance(kept, Tensor) or kept.shape != fresh.shape or kept.layout != fresh.layout:
            raise ValueError(f"{name} is no tensor of shape {tuple(fresh.shape)}")
    elif isinstance(kept, int) and abs(kept) >= 2**63:
        raise ValueError(f"{name} is too large a number")
    elif not isinstance(kept, int | float) and type(kept) is not type(fresh):
        raise ValueError(f"{name} is {type(kept).__name__}")


def _fits(state: dict[Any, Any], optimizer: torch.optim.Optimizer) -> None:
    """See that what an optimiser remembers, a dictionary for each parameter by its number, has their shapes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = [{(name, type(value)) for name, value in of_one.items()} for of_one in state.values()]
    if any(other != names[0] for other in names):
        raise ValueError("optimizer has not the same parts for every parameter")
    for place, of_one in state.items():
        for name, value in of_one.items():
            if isinstance(value, Tensor):
                _like(f"optimizer {name}", value, torch.zeros(()) if name == "step" else parameters[place])
            elif value is not None and name != "step":
                raise ValueError(f"optimizer {name} is {type(value).__name__}")


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


def peak_bytes() -> int:
    """The most memory that this process has held at any time, on a CPU."""
    try:  # `getrusage` also counts what the process held that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):  # where there is no Linux
        return psutil.Process().memory_info().rss
