"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from stdcf_lib.runs import Run


def train(
    model: nn.Module,
    batches: Callable[..., Iterable[Any]],
    loss: Callable[[nn.Module, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 1,
    run: Run | None = None,
    save_every: int | None = None,
    accelerator: Accelerator | None = None,
    progress: bool | tqdm = True,
) -> list[dict[str, float]]:
    """Train a model in place, and resume where it was stopped.

    Args:
        model: trained in place.
        batches: epoch number, from 0 → the batches of that epoch. Let their order depend on the number alone, as
            `shuffled` does: then a resumed run sees the batches that an unbroken one would have seen. With `save_every`
            it is called as `batches(epoch, first)` where an epoch was broken off, to give those from number `first` on.
        loss: (model, batch) → a scalar, the mean over the batch.
        optimizer: over the parameters that are to train.
        epochs: how many in all, those before a resume included.
        scheduler: of the learning rate, moved on by every step of the optimiser.
        clip_norm: gradients of a larger norm are scaled down to it.
        evaluate: model → figures to record, called after every `evaluate_every` epochs and after the last.
        run: where checkpoints (every epoch), metrics and weights go; nothing is written if None.
        save_every: steps of the optimiser between further checkpoints within an epoch.
        accelerator: has prepared `model` and `optimizer`, and brings its device, its precision, its accumulation of
            gradients (over batches; an epoch must be a multiple) and its other processes, each of which calls this with
            batches of its own. One of them writes.
        progress: show a bar over epochs; or a bar of your own, which every batch moves on by 1.

    Returns:
        One dictionary an epoch: `epoch` from 1, `train_loss` (mean over its batches), `seconds`, and what `evaluate` gave.

    Raises:
        FloatingPointError: the loss is no longer finite. The last checkpoint stays.
    """
    bare = accelerator.unwrap_model(model) if accelerator else model
    writes = run is not None and (accelerator is None or accelerator.is_main_process)
    scaler = accelerator.scaler if accelerator else None  # of fp16 alone
    states = {"model": bare, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}

    def save(**within: Any) -> None:
        if writes:
            run.save({name: part.state_dict() for name, part in states.items() if part is not None} | within, metrics)

    def totals() -> list[float]:
        """`total` of every process, which all must ask for together."""
        if accelerator is None or accelerator.num_processes == 1:
            return [total]
        return accelerator.gather(torch.tensor([total], dtype=torch.float64, device=accelerator.device)).tolist()

    metrics: list[dict[str, float]] = []
    done, total, before = 0, 0.0, 0.0  # batches, sum of losses and seconds of an epoch that was broken off
    seen = 0  # batches of all epochs
    kept = run.restore() if run else None
    if kept:
        state, metrics = kept
        for name, part in states.items():
            if part is not None:
                part.load_state_dict(state[name])
        done, before, seen = (state.get(name, 0) for name in ("done", "seconds", "seen"))
        if done:
            total = state["totals"][accelerator.process_index if accelerator else 0]
    if not isinstance(progress, bool):
        progress.initial = progress.n = seen
    epochs_bar = tqdm(total=epochs, initial=len(metrics), unit="epoch", disable=progress is not True)
    with epochs_bar as bar:
        for epoch in range(len(metrics), epochs):
            start = time.perf_counter() - before
            steps = 0
            model.train()
            optimizer.zero_grad()
            for batch in batches(epoch, done) if done else batches(epoch):
                with accelerator.accumulate(model) if accelerator else nullcontext():
                    value = loss(model, batch)
                    accelerator.backward(value) if accelerator else value.backward()
                    done, seen, total = done + 1, seen + 1, total + value.item()
                    if not math.isfinite(total):
                        raise FloatingPointError(
                            f"the loss became {value.item()} in epoch {epoch + 1}; lower the learning rate"
                        )
                    whole_step = accelerator is None or accelerator.sync_gradients
                    if whole_step and clip_norm is not None:
                        clip = accelerator.clip_grad_norm_ if accelerator else nn.utils.clip_grad_norm_
                        clip(model.parameters(), clip_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                if whole_step:
                    steps += 1
                    if scheduler:
                        scheduler.step()
                    if save_every and steps % save_every == 0:
                        save(seen=seen, done=done, totals=totals(), seconds=time.perf_counter() - start)
                if not isinstance(progress, bool):
                    progress.set_postfix(loss=f"{total / done:.4g}", memory=f"{memory_bytes() / 2**30:.1f} GiB", refresh=False)
                    progress.update()
            mean = math.fsum(totals()) / (accelerator.num_processes if accelerator else 1) / done
            row = {"epoch": epoch + 1, "train_loss": mean, "seconds": round(time.perf_counter() - start, 3)}
            if evaluate and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs):
                bare.eval()
                with torch.no_grad():
                    row |= evaluate(bare)
            metrics.append(row)
            done, total, before = 0, 0.0, 0.0
            save(seen=seen)
            bar.set_postfix({name: f"{v:.4g}" for name, v in row.items() if name not in ("epoch", "seconds")})
            bar.update()
    if writes:
        run.finish(bare, metrics)
    return metrics


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
