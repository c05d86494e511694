"""Whole networks: a forward pass, a training step, and the memory that it needs, by family and form.

`python -m benchmarks.networks` prints and records them. Memory is the peak of a process that does nothing else.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.layers import PASSES, ROUNDS, in_passes, medians
from benchmarks.record import keep
from stdcf_lib import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.models import KTHNet, ReconstructionAutoencoder, SmallVideoNet, stdcf_r50
from stdcf_lib.runs import machine
from stdcf_lib.train import peak_bytes

LAST = torch.channels_last_3d

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
KEEPS = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
"""What has glibc hand memory back to the kernel as soon as it is free; or keep it, as `make runs` does."""

AS_IS, KEPT = "training step, ms", "training step, memory kept, ms"


def families(make: Callable[[str], nn.Module]) -> dict[str, Callable[[], nn.Module]]:
    """What makes a network of each family, and an STDCF network that rebuilds its filters."""
    return {
        "full 3D": lambda: make("full"),
        "rank-1": lambda: make("rank1"),
        "STDCF": lambda: make("stdcf"),
        "STDCF, filters": lambda: forced(make("stdcf"), "filters"),
    }


R50 = "R50, one clip of 8×224²"
ALONE = f"{R50}, in a process of its own, 2 threads"

NETWORKS: dict[str, tuple[tuple[int, ...], dict[str, Callable[[], nn.Module]]]] = {
    R50: (
        (1, 3, 8, 224, 224),
        families(lambda kind: stdcf_r50(kind=kind))
        | {"STDCF, N=2": lambda: stdcf_r50(temporal_atoms=2)}
        | {"STDCF, N=2, filters": lambda: forced(stdcf_r50(temporal_atoms=2), "filters")},
    ),
    "KTHNet, 16 clips of 16×60×80": ((16, 1, 16, 60, 80), families(KTHNet)),
    "turning digits, 64 clips of 16×28²": ((64, 1, 16, 28, 28), families(lambda kind: SmallVideoNet(kind, num_classes=40))),
    "autoencoder of Table A, 64 clips of 8×28²": ((64, 1, 8, 28, 28), families(ReconstructionAutoencoder)),
}


def forced(network: nn.Module, evaluation: str) -> nn.Module:
    """A network whose layers are all evaluated by one form."""
    for module in network.modules():
        if isinstance(module, STDCFConv3d | STDCFConvTranspose3d):
            module.evaluation = evaluation
    return network


def evaluated(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """A forward pass in evaluation mode."""

    def run() -> None:
        network.eval()
        with torch.inference_mode():
            network(x)

    return run


def trained(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """A step of SGD, on the mean square of what comes out."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)

    def run() -> None:
        network.train()
        optimizer.zero_grad()
        y = network(x)
        F.mse_loss(y, torch.zeros_like(y)).backward()
        optimizer.step()

    return run


def measured(title: str) -> dict[str, dict[str, float]]:
    """Milliseconds of each family and form, in turn."""
    shape, makers = NETWORKS[title]
    x = torch.rand(shape).to(memory_format=LAST)
    networks = {name: make().to(memory_format=LAST) for name, make in makers.items()}
    forward = medians({name: evaluated(network, x) for name, network in networks.items()}, ROUNDS // PASSES)
    step = medians({name: trained(network, x) for name, network in networks.items()}, ROUNDS // PASSES)
    return {name: {"evaluation, ms": forward[name], "training step, ms": step[name]} for name in networks}


# The layers of which the peak of a training step is compared, each in a process of its own.
LAYERS = {
    "Conv3d": lambda c: nn.Conv3d(c, c, 3, padding=1, bias=False),
    "STDCF, N=2": lambda c: STDCFConv3d(c, c, 3, padding=1, bias=False, temporal_atoms=2, evaluation="atoms"),
    "STDCF, N=3": lambda c: STDCFConv3d(c, c, 3, padding=1, bias=False, temporal_atoms=3, evaluation="atoms"),
}


def peak_of(what: str, name: str) -> float:
    """MB that this process holds at most in three training steps of a network, or of a layer of so many channels, above what it
    holds when its input is there."""
    torch.set_num_threads(2)
    if what.isdigit():
        channels, size = int(what), 7 * 512 // int(what)
        module: nn.Module = LAYERS[name](channels).to(memory_format=LAST)
        x = torch.rand(4, channels, 8, size, size).to(memory_format=LAST).requires_grad_()
    else:
        shape, makers = NETWORKS[what]
        module, x = makers[name]().to(memory_format=LAST), torch.rand(shape).to(memory_format=LAST)
    before = peak_bytes()
    step = trained(module, x)
    for _ in range(3):
        step()
    return (peak_bytes() - before) / 1e6


def peak(what: str, name: str) -> float:
    """`peak_of` a fresh process, which gives memory back as soon as it is free: otherwise its peak varies by a fifth."""
    return round(_in_a_process(f"peak_of({what!r}, {name!r})", GIVES_BACK), 1)


def step_of(name: str) -> float:
    """Milliseconds that this process takes for a training step of R50 with two threads."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    shape, makers = NETWORKS[R50]
    step = trained(makers[name]().to(memory_format=LAST), torch.rand(shape).to(memory_format=LAST))
    return medians({name: step}, 5)[name]


def alone() -> dict[str, dict[str, Any]]:
    """`step_of` a fresh process, as whoever trains a network has it: with glibc as it is, and told to keep memory."""
    found: dict[str, dict[str, Any]] = {}
    passes = {name: {AS_IS: [], KEPT: []} for name in ("full 3D", "STDCF, N=2", "STDCF")}
    for _ in range(PASSES):
        for name, times in passes.items():
            times[AS_IS].append(_in_a_process(f"step_of({name!r})", {}))
            times[KEPT].append(_in_a_process(f"step_of({name!r})", KEEPS))
    for name, times in passes.items():
        found[name] = {what: statistics.median(seen) for what, seen in times.items()} | {"passes": times}
    return found


def _in_a_process(what: str, glibc: dict[str, str]) -> float:
    """What a function of this module finds in a fresh process, with variables that glibc reads."""
    code = f"from benchmarks import networks; print(networks.{what})"
    environment = os.environ | glibc
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    results: dict[str, Any] = {"machine": machine()} | in_passes(NETWORKS, measured)
    results[ALONE] = alone()
    for channels in ("64", "128", "256", "512"):
        results[f"peak of a training step, {channels} channels, MB"] = {name: peak(channels, name) for name in LAYERS}
    results[f"peak of a training step, {R50}, MB"] = {name: peak(R50, name) for name in NETWORKS[R50][1]}
    keep({"Networks": results})


if __name__ == "__main__":
    main()
