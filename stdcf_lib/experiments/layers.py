"""One layer of R50 beside its peers, as training meets it on the machine at hand: the part of `make gpu` that is about speed.

On a CPU, `benchmarks/layers.py` measures more of them; this is then only known to work.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video.resnet import Conv2Plus1D

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.rank1 import Rank1Conv3d

LAYERS = {64: 56, 128: 28, 256: 14, 512: 7}  # channels of the middle convolutions without a stride → height and width
FRAMES, ROUNDS, CALLS = 8, 7, 3
LAST = torch.channels_last_3d


def peers(channels: int) -> dict[str, nn.Module]:
    """What a 3×3×3 layer is computed by, by name."""
    options: dict[str, Any] = {"padding": 1, "bias": False}
    found: dict[str, nn.Module] = {"Conv3d": nn.Conv3d(channels, channels, 3, **options)}
    for count, form in ((2, "filters"), (3, "filters"), (2, "atoms")):  # on a GPU the atoms take dozens of times as long
        layer = STDCFConv3d(channels, channels, 3, **options, temporal_atoms=count, evaluation=form)
        found[f"STDCF N={count}, {form}"] = layer
    found["rank-1"] = Rank1Conv3d(channels, channels, 3, **options)
    found["Conv2Plus1D"] = Conv2Plus1D(channels, channels, channels * channels * 27 // (channels * 9 + 3 * channels))
    return {name: module.to(memory_format=LAST) for name, module in found.items()}


def by_public_operators(x: Tensor, layer: STDCFConv3d) -> Tensor:
    """Space, coefficients, time, by torch's own convolutions."""
    outs, ins, atoms, count = layer.alpha.shape
    maps = F.conv2d(x.transpose(1, 2).flatten(0, 1), layer.psi.repeat(ins, 1, 1)[:, None], padding=1, groups=ins)
    maps = F.conv2d(maps, layer.alpha.permute(0, 3, 1, 2).reshape(outs * count, ins * atoms, 1, 1))
    maps = maps.unflatten(0, (len(x), -1)).transpose(1, 2)
    return F.conv3d(maps, layer.phi[None, :, :, None, None].expand(outs, -1, -1, -1, -1), padding=(1, 0, 0), groups=outs)


def measured(clips: int = 32) -> list[dict[str, Any]]:
    """Milliseconds of each layer and peer, forward and forward with backward, with so many clips at a time; under autocast to
    bfloat16 on a GPU. `error` is that of the output of one clip, relative to float64.

    Forms that are tried without a backward pass have `both_ms` None.
    """
    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    rows = []
    with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
        for channels, size in LAYERS.items():
            torch.manual_seed(0)
            x = torch.randn(clips, channels, FRAMES, size, size, device=device).to(dtype, memory_format=LAST)
            modules: Any = {name: module.to(device) for name, module in peers(channels).items()}
            forward = {name: _forward(module, x) for name, module in modules.items()} | _tried(x, modules)
            both = {name: _both(module, x) for name, module in modules.items()}
            one, two = _milliseconds(forward, on_gpu), _milliseconds(both, on_gpu)
            for name, way in forward.items():
                like = name if name in modules else f"{name.split(',')[0]}, filters"  # whose parameters a tried form has
                rows.append({"channels": channels, "size": size, "clips": clips, "layer": name, "forward_ms": one[name],
                             "both_ms": two.get(name), "error": _error(way(), x, modules[like])})  # fmt: skip
    return rows


def _tried(x: Tensor, modules: Any) -> dict[str, Callable[[], Tensor]]:
    """Forms that are no part of the layers: forward alone."""
    found: dict[str, Callable[[], Tensor]] = {}
    for count in (2, 3):
        layer = modules[f"STDCF N={count}, filters"]
        found[f"STDCF N={count}, public operators"] = partial(_without_gradients, by_public_operators, x, layer)
        if x.is_cuda:
            from stdcf_lib.experiments import triton_forms  # Triton comes with torch for GPUs alone

            parts = triton_forms.coefficients(layer.alpha.detach(), x.dtype), layer.psi.detach(), layer.phi.detach()
            for name, form in (("staged", triton_forms.staged), ("fused", triton_forms.fused)):
                found[f"STDCF N={count}, Triton, {name}"] = partial(_with_channels_last, form, x, *parts)
    return found


def _with_channels_last(form: Callable[..., Tensor], x: Tensor, *parts: Tensor) -> Tensor:
    return form(x.movedim(1, -1), *parts).movedim(-1, 1)


def _without_gradients(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with torch.no_grad():
        return function(*arguments)


def _forward(module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return lambda: _without_gradients(module, x)


def _both(module: nn.Module, x: Tensor) -> Callable[[], Any]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    gradient = torch.ones_like(module(x))
    return lambda: torch.autograd.grad(module(x), (x, *module.parameters()), gradient)


def _error(y: Tensor, x: Tensor, module: Any) -> float | None:
    """Of the first clip, by norms; None for layers of several, which have no one filter."""
    if not isinstance(module, nn.Conv3d | STDCFConv3d):
        return None
    weight = module.weight if isinstance(module, nn.Conv3d) else module.filters()
    exact = F.conv3d(x[:1].detach().double().cpu(), weight.detach().double().cpu(), padding=1)
    return float((y[:1].detach().double().cpu() - exact).norm() / exact.norm())


def _milliseconds(ways: dict[str, Callable[[], Any]], on_gpu: bool) -> dict[str, float]:
    """Medians over rounds in which each way has its turn. On a GPU the calls are queued behind other work, so that what is
    timed is the GPU's time and not Python's, as in a network that keeps it busy."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    busy = torch.ones(8192, 8192, device="cuda", dtype=torch.bfloat16) if on_gpu else torch.empty(0)
    for way in ways.values():  # cuDNN searches, Triton compiles
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            if on_gpu:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                for _ in range(2 * CALLS):
                    torch.mm(busy, busy)
                start.record()
                for _ in range(CALLS):
                    way()
                end.record()
                torch.cuda.synchronize()
                times[name].append(start.elapsed_time(end) / CALLS)
            else:
                begin = time.perf_counter()
                way()
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: round(statistics.median(seen), 4) for name, seen in times.items()}
