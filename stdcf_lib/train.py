"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from stdcf_lib.runs import Run


def train(
    model: nn.Module,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[nn.Module, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 1,
    run: Run | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a model in place, and resume where it was stopped.

    Args:
        model: trained in place.
        batches: epoch number, from 0 → the batches of that epoch. Let their order depend on the number alone, as
            `shuffled` does: then a resumed run sees the batches that an unbroken one would have seen.
        loss: (model, batch) → a scalar, the mean over the batch.
        optimizer: over the parameters that are to train.
        epochs: how many in all, those before a resume included.
        evaluate: model → figures to record, called after every `evaluate_every` epochs and after the last.
        run: where checkpoints (every epoch), metrics and weights go; nothing is written if None.
        progress: show a bar over epochs.

    Returns:
        One dictionary an epoch: `epoch` from 1, `train_loss` (mean over its batches), `seconds`, and what `evaluate` gave.

    Raises:
        FloatingPointError: the loss is no longer finite. The last checkpoint stays.
    """
    metrics: list[dict[str, float]] = []
    kept = run.restore() if run else None
    if kept:
        state, metrics = kept
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    with tqdm(total=epochs, initial=len(metrics), unit="epoch", disable=not progress) as bar:
        for epoch in range(len(metrics), epochs):
            start = time.perf_counter()
            model.train()
            losses = []
            for batch in batches(epoch):
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                optimizer.step()
                losses.append(value.item())
            row = {"epoch": epoch + 1, "train_loss": sum(losses) / len(losses)}
            if not math.isfinite(row["train_loss"]):
                raise FloatingPointError(f"the loss became {row['train_loss']} in epoch {epoch + 1}; lower the learning rate")
            row["seconds"] = round(time.perf_counter() - start, 3)
            if evaluate and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs):
                model.eval()
                with torch.no_grad():
                    row |= evaluate(model)
            metrics.append(row)
            if run:
                run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, metrics)
            bar.set_postfix({name: f"{v:.4g}" for name, v in row.items() if name not in ("epoch", "seconds")})
            bar.update()
    if run:
        run.finish(model, metrics)
    return metrics


def shuffled(count: int, batch_size: int, seed: int) -> Callable[[int], Iterable[Tensor]]:
    """Epoch number → the indices of `count` samples in batches, in an order that depends on `seed` and the number alone."""

    def batches(epoch: int) -> Iterable[Tensor]:
        mixed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        return torch.randperm(count, generator=generator).split(batch_size)

    return batches
