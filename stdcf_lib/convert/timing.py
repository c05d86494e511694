"""How long each form of a converted network takes, on the device at hand."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d


class Seconds(NamedTuple):
    """What a layer takes of a pass: as it was, as one convolution with rebuilt filters, and by its atoms."""

    before: float
    filters: float
    atoms: float


@torch.no_grad()
def seconds(
    network: nn.Module, converted: nn.Module, names: Sequence[str], clips: Tensor, passes: int = 3
) -> dict[str, Seconds]:
    """Time each form in evaluation mode, the median over passes.

    Args:
        network: as it was.
        converted: of `to_stdcf`.
        names: of the layers; `""` is the whole network.
        clips: the input of both.
        passes: timed, after one that is not.

    Returns:
        Name → seconds of a pass.
    """
    layers: list[Any] = [layer for layer in converted.modules() if isinstance(layer, STDCFConv3d | STDCFConvTranspose3d)]
    usual, modes = [layer.evaluation for layer in layers], [module.training for module in (network, converted)]
    found = []
    try:
        for module, evaluation in ((network, None), (converted, "filters"), (converted, "atoms")):
            for layer in layers:
                layer.evaluation = evaluation or layer.evaluation
            found.append(_timed(module.eval(), names, clips, passes))
    finally:
        for layer, evaluation in zip(layers, usual, strict=True):
            layer.evaluation = evaluation
        network.train(modes[0])
        converted.train(modes[1])
    return {name: Seconds(*(form[name] for form in found)) for name in names}


def _timed(module: nn.Module, names: Sequence[str], clips: Tensor, passes: int) -> dict[str, float]:
    took: dict[str, float] = {}

    def now() -> float:
        if clips.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def starts(name: str) -> Any:
        return lambda *_: took.update({name: took.get(name, 0.0) - now()})

    def ends(name: str) -> Any:
        return lambda *_: took.update({name: took[name] + now()})

    within = dict(module.named_modules())
    hooks = []
    for name in names:
        hooks += [within[name].register_forward_pre_hook(starts(name)), within[name].register_forward_hook(ends(name))]
    every = []
    try:
        for _ in range(1 + passes):
            took.clear()
            module(clips)
            every.append(dict(took))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: statistics.median(one[name] for one in every[1:]) for name in names}
