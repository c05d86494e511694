"""Time and memory against peers: `python -m benchmarks` prints and records them, and writes the README's table. No test
asserts a time.

Each way is timed in turn, round after round, so that a machine whose speed drifts treats all alike; medians are reported.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch.nn import functional as F

from benchmarks import choices, data, layers, networks, readme, targets
from benchmarks.explorables import pointer_to_picture
from benchmarks.layers import medians
from benchmarks.panels import panels
from benchmarks.record import keep
from stdcf_lib.fold import FoldedTime
from stdcf_lib.models import ReconstructionAutoencoder
from stdcf_lib.runs import machine


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


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    results = {"machine": machine(), "Table A, training step of 64 clips, ms": training_steps()}
    results["Panels, key press to picture in JupyterLab, ms"] = panels()
    results["Explorables, from pointer to picture"] = pointer_to_picture()
    keep(results)
    data.main()
    networks.main()
    layers.main()
    choices.main()
    readme.main()
    targets.main()


if __name__ == "__main__":
    main()
