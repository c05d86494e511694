"""BN over a batch that several processes share, so that a network learns the same from however many."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn


@contextmanager
def shared_bn(model: nn.Module, on_gpu: bool) -> Iterator[None]:
    """Within a `with` block, the `nn.BatchNorm3d` of a network have the mean and variance of all processes' clips together.

    If it is to be on a GPU, by PyTorch's own `nn.SyncBatchNorm`, which there is not for a CPU. Every process must have as many
    clips, and call the layers as often.
    """
    layers: list[Any] = [layer for layer in model.modules() if type(layer) is nn.BatchNorm3d]
    for layer in layers:  # the layer itself and what it holds must stay: the optimiser and the checkpoint know them
        if on_gpu:
            layer.__class__ = nn.SyncBatchNorm
            layer.process_group = None
        else:
            layer.__class__ = _SharedBatchNorm
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm3d


class _SharedBatchNorm(nn.BatchNorm3d):
    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T, H, W) → the same shape; B is this process's share."""
        x = input
        if not self.training:
            return super().forward(x)
        over = (0, 2, 3, 4)
        values = x.float()
        count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        mean = _over_processes(values.sum(over)) / count
        centred = values - mean.view(-1, 1, 1, 1)
        variance = _over_processes(centred.square().sum(over)) / count
        scaled = centred * torch.rsqrt(variance + self.eps).view(-1, 1, 1, 1)
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        return torch.addcmul(self.bias.view(-1, 1, 1, 1), scaled, self.weight.view(-1, 1, 1, 1)).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """Of what every process has, in all of them; and so the gradient of one is the sum of those that all of them have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0].contiguous())


def _over_processes(x: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(x))
