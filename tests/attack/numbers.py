"""Which numbers move? The same computations again, on two threads, with other instructions, broken off and resumed.

`python -m tests.attack.numbers [--seconds S] [--seed N]` prints a table: a row for each computation (the layer's answer and
gradients in both forms, a training, a schedule of ITSL; float32 and bf16) and a column for each circumstance. `=` is the same
to the bit; a number is the largest difference, as a share of the largest number. Each circumstance is a process of its own,
since PyTorch chooses its instructions once; older ones, AVX2, stand for another machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib import STDCFConv3d
from stdcf_lib.data.turning import TurningDigits
from stdcf_lib.itsl import Recipe, run, schedule
from stdcf_lib.models import SmallVideoNet
from stdcf_lib.runs import Run
from stdcf_lib.train import Optimization, shuffled, train

ROOT = Path(__file__).parents[2]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "AVX2"}
# Threads, and what is set of the environment.
CIRCUMSTANCES: dict[str, tuple[int, dict[str, str]]] = {
    "again": (1, {}),
    "avx2": (1, AVX2),
    "2 threads": (2, {}),
}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
LOSS = "losses of the epochs"


def layer(evaluation: str, dtype: torch.dtype, seed: int = 0, channels: int = 64) -> dict[str, Tensor]:
    """The answer and all gradients of a layer; with 64 channels, one that is evaluated by atoms where nothing is said."""
    torch.manual_seed(seed)
    one = STDCFConv3d(channels, channels, 3, padding=1, evaluation=evaluation).to(dtype)
    x = torch.randn(2, channels, 8, 16, 16).to(dtype).requires_grad_()
    y = one(x)
    y.backward(torch.randn(y.shape).to(dtype))
    gradients = {name: parameter.grad for name, parameter in one.named_parameters()} | {"x": x.grad}
    return {"y": y.detach()} | {name: gradient for name, gradient in gradients.items() if gradient is not None}


def training(dtype: torch.dtype, seed: int = 0, folder: Path | None = None, stop: int = 0) -> dict[str, Tensor]:
    """The weights of a small network after eight steps; with `folder`, broken off in step `stop` and resumed."""
    data = TurningDigits("train", 64)
    clips, labels = data.clips.float() / 255, data.label

    def attempt(stop: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        network = SmallVideoNet("stdcf", num_classes=40)
        optimization = Optimization(torch.optim.Adam(network.parameters(), 1e-2))
        steps = 0

        def loss(network: nn.Module, index: Tensor) -> Tensor:
            nonlocal steps
            steps += 1
            if steps == stop:
                raise KeyboardInterrupt
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return F.cross_entropy(network(clips[index]), labels[index])

        kept = Run(folder) if folder else None
        metrics = train(network, shuffled(64, 16, seed), loss, optimization, 2, run=kept, save_minutes=0, progress=False)
        return network.state_dict() | {LOSS: torch.tensor([row["train_loss"] for row in metrics])}

    if stop:
        with suppress(KeyboardInterrupt):
            attempt(stop)
    return attempt(0)


def itsl(seed: int = 0) -> dict[str, Tensor]:
    data = TurningDigits("train", 32)
    torch.manual_seed(seed)
    network = SmallVideoNet("stdcf", num_classes=40)
    recipe = Recipe(batch_size=8, learning_rate=0.01, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        stages = schedule(1, frames=16, size=28, final_epochs=1)
        metrics = run(
            network, stages, lambda _: (data, data), folder, recipe, accelerator=Accelerator(cpu=True), progress=False
        )
    return network.state_dict() | {LOSS: torch.tensor([row["train_loss"] for row in metrics])}


def answers(seed: int) -> dict[str, Tensor]:
    """Everything that is compared, by `row/tensor`."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, dtype in DTYPES.items():
        for evaluation in ("filters", "atoms"):
            found[f"{evaluation} {name}"] = layer(evaluation, dtype, seed)
    for name, dtype in DTYPES.items():
        found[f"trained {name}"] = training(dtype, seed)
        with tempfile.TemporaryDirectory() as folder:
            found[f"trained {name} resumed"] = training(dtype, seed, Path(folder), stop=6)
    found["trained float32, itsl"] = itsl(seed)
    return {f"{row}/{name}": tensor.contiguous() for row, tensors in found.items() for name, tensor in tensors.items()}


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference, as a share of the largest number of its tensor; 0 where all is the same to the bit."""
    if all(torch.equal(found[name], expected[name]) for name in expected):
        return 0.0
    pairs = [(found[name].double(), expected[name].double()) for name in expected]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def elsewhere(threads: int, environment: dict[str, str], seed: int) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.safetensors")
        command = [sys.executable, "-m", "tests.attack.numbers", "--seed", str(seed), "--one", str(path)]
        subprocess.run(command, cwd=ROOT, env=os.environ | environment | {"OMP_NUM_THREADS": str(threads)}, check=True)
        return load_file(path)


def rows(found: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By computation; the losses of a training apart from its weights."""
    parted: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        row, _, part = name.partition("/")
        parted.setdefault(f"{row}, losses" if part == LOSS else row, {})[part] = tensor
    return parted


def table(seconds: float, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Circumstance → the `difference` of each row from one thread and the machine's own instructions."""
    end = time.monotonic() + seconds
    expected = rows(elsewhere(1, {}, seed))
    resumed = {row: row.replace(" resumed", "") for row in expected if " resumed" in row}
    yield "resumed", {row: difference(expected[name], expected[row]) for name, row in resumed.items()}
    for name, (threads, environment) in CIRCUMSTANCES.items():
        if time.monotonic() < end:
            found = rows(elsewhere(threads, environment, seed))
            yield name, {row: difference(found[row], expected[row]) for row in expected if row not in resumed}


def attack(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int | float | str]:
    """The table, as far as there is time; its figures are how many computations were not the same to the bit where they should
    be, and the largest difference of a single layer and of a training's losses elsewhere."""
    broken, layers, losses, columns = 0, 0.0, 0.0, 0
    for name, column in table(seconds, seed):
        columns += 1
        say(name)
        for row, away in sorted(column.items()):
            say(f"  {row:32}{'=' if away == 0 else f'{away:.0e}'}")
        if name in ("resumed", "again"):
            broken += sum(away != 0 for away in column.values())
        layers = max([layers, *(away for row, away in column.items() if row.endswith(" float32") and "trained" not in row)])
        losses = max([losses, *(away for row, away in column.items() if row.endswith("float32, losses"))])
    return {
        "circumstances": columns,
        "not the same to the bit, and should be": broken,
        "float32, one layer, at most": float(f"{layers:.1e}"),
        "float32, losses of a training, at most": float(f"{losses:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Tell which numbers are the same to the bit in which circumstances.")
    parser.add_argument("--seconds", type=float, default=300, help="begin no circumstance after so long (300)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and order (0)")
    parser.add_argument("--one", type=Path, metavar="FILE", help="keep the answers of this process in a file, and no more")
    arguments = parser.parse_args()
    if arguments.one:
        save_file(answers(arguments.seed), arguments.one)
    else:
        print(attack(arguments.seconds, arguments.seed, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
