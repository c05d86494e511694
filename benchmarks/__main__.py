"""Time and memory against peers: `python -m benchmarks` prints and records them. No test asserts a time.

Each way is timed in turn, round after round, so that a machine whose speed drifts treats all alike; medians are reported.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.explorables import pointer_to_picture
from benchmarks.panels import panels
from benchmarks.record import keep
from stdcf_lib import Rank1Conv3d, STDCFConv3d
from stdcf_lib.fold import FoldedTime
from stdcf_lib.measure import cost
from stdcf_lib.models import ReconstructionAutoencoder
from stdcf_lib.runs import machine

ROUNDS = 7


def medians(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Milliseconds each way takes, the median over rounds after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(seen[1:]), 2) for name, seen in times.items()}


def training_steps() -> dict[str, float]:
    """One training step of Table A's STDCF autoencoder on 64 clips, by layout."""
    x = torch.rand(64, 1, 8, 28, 28)
    last = torch.channels_last_3d
    layouts = {
        "NCDHW": (x, {}, nullcontext),
        "channels_last_3d": (x.to(memory_format=last), {"memory_format": last}, nullcontext),
        "folded time": (x[:, 0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)[:, None], {}, FoldedTime),
    }

    def step(clips: torch.Tensor, options: dict, context: Callable) -> Callable[[], None]:
        model = ReconstructionAutoencoder("stdcf").to(**options) if options else ReconstructionAutoencoder("stdcf")
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

        def run() -> None:
            optimizer.zero_grad()
            with context():
                F.mse_loss(model(clips), clips).backward()
            optimizer.step()

        return run

    return medians({name: step(*layout) for name, layout in layouts.items()})


def layers(channels: int, size: int) -> dict[str, dict[str, float]]:
    """Forward and backward of one layer of 2 clips × 8 frames, and what it keeps for backward, beside `nn.Conv3d`."""
    shape = (2, channels, 8, size, size)
    x = torch.rand(shape, requires_grad=True)
    same: dict[str, Any] = {"kernel_size": 3, "padding": 1}
    peers: dict[str, nn.Module] = {
        "Conv3d": nn.Conv3d(channels, channels, **same),
        "STDCF, filters": STDCFConv3d(channels, channels, **same, evaluation="filters"),
        "STDCF, atoms": STDCFConv3d(channels, channels, **same, evaluation="atoms"),
        "rank-1": Rank1Conv3d(channels, channels, **same),
    }
    both = medians({name: lambda layer=layer: layer(x).sum().backward() for name, layer in peers.items()})
    return {
        name: {
            "forward + backward, ms": both[name],
            "ratio to Conv3d": round(both[name] / both["Conv3d"], 2),
            "kept for backward, MB": round(cost(layer, shape).stored_bytes / 1e6, 1),
        }
        for name, layer in peers.items()
    }


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    results = {"machine": machine(), "Table A, training step of 64 clips, ms": training_steps()}
    for channels, size in ((64, 28), (128, 14), (512, 7)):
        results[f"{channels} channels, {size}×{size}"] = layers(channels, size)
    results["Panels, key press to picture in JupyterLab, ms"] = panels()
    results["Explorables, from pointer to picture"] = pointer_to_picture()
    keep(results)


if __name__ == "__main__":
    main()
