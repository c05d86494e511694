"""What a conversion lost, brought back by a short training: without labels from the network as it was, or with them."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from stdcf_lib.checks import number, whole
from stdcf_lib.runs import Run
from stdcf_lib.train import Optimization, shuffled, train


class Clips(Protocol):
    """A tensor (n, C, T, H, W), a `torch.utils.data.Dataset`, or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def distill(
    student: nn.Module,
    teacher: nn.Module,
    clips: Clips,
    epochs: int = 3,
    *,
    prepare: Callable[[Any], Tensor] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train a converted network to answer as the network that it was: self-distillation, which needs no labels.

    The loss is the mean squared difference of their answers, such as logits (Ba and Caruana, 2014).

    Args:
        student: of `to_stdcf`, trained in place. Its norms learn their statistics anew on the way.
        teacher: the network as it was; left alone, and asked in evaluation mode.
        clips: unlabelled, of the kind that the network was trained on.
        epochs: passes over them.
        prepare: what makes the networks' input of a batch of clips; by default they are their input as they are.
        **options: of `fine_tune`.

    Returns:
        The metrics of `stdcf_lib.train.train`.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    training = teacher.training

    def loss(student: nn.Module, batch: Any) -> Tensor:
        x = batch if prepare is None else prepare(batch)
        with torch.no_grad():
            wanted = teacher(x)
        return F.mse_loss(student(x), wanted)

    teacher.eval()
    try:
        return fine_tune(student, clips, loss, epochs, **options)
    finally:
        teacher.train(training)


def fine_tune(
    model: nn.Module,
    samples: Clips,
    loss: Callable[[nn.Module, Any], Tensor],
    epochs: int = 3,
    *,
    batch_size: int = 16,
    rate: float = 1e-3,
    seed: int = 0,
    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None,
    run: Run | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a network for a short while, in place: Adam, a rate that falls to nothing along a half cosine.

    Args:
        model: a converted network, or any other.
        samples: clips, or pairs of a clip and its label.
        loss: (model, batch) → a scalar. Batches are samples collated, on the model's device.
        epochs: passes over the samples.
        batch_size: samples a step.
        rate: at the beginning.
        seed: of the order of the samples.
        evaluate, run, progress: of `stdcf_lib.train.train`.

    Returns:
        The metrics of `stdcf_lib.train.train`.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    count, batch_size = whole("the number of samples", len(samples)), whole("batch_size", batch_size)
    steps = whole("epochs", epochs) * math.ceil(count / batch_size)
    order, device = shuffled(count, batch_size, seed), next(model.parameters()).device

    def batch(index: Tensor) -> Any:
        found = samples[index] if isinstance(samples, Tensor) else default_collate([samples[i] for i in index.tolist()])
        return found.to(device) if isinstance(found, Tensor) else [part.to(device) for part in found]

    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=number("rate", rate, above=0))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    return train(
        model,
        lambda epoch: (batch(index) for index in order(epoch)),
        loss,
        Optimization(optimizer, falling),
        epochs,
        evaluate=evaluate,
        run=run,
        progress=progress,
    )
