"""ITSL on real video: the paper's run with one command, from one process to many machines.

`accelerate launch -m stdcf_lib.itsl kinetics400 --data FOLDER --folder runs/k400` trains STDCF-R50 through all stages;
`--help` lists the rest, and `--plan` says what a run would need without starting it.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from stdcf_lib.data.footage import Footage
from stdcf_lib.data.kinetics import Kinetics
from stdcf_lib.data.noise import Noise
from stdcf_lib.data.something import SomethingV1
from stdcf_lib.itsl import SWAPS, AtomSwap, Recipe, Stage, run, schedule
from stdcf_lib.measure import cost
from stdcf_lib.models import VideoResNet, stdcf_r50
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.models.resnet import start_from_image

GIB = 2**30


@dataclass(frozen=True)
class Field:
    """A data set, and the recipe that is usual for it: rates are for 64 clips a step and grow with the batch."""

    classes: int
    iterations: int
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    epochs: float
    final_epochs: float
    footage: Callable[[argparse.Namespace, bool], Dataset]


def _kinetics(arguments: argparse.Namespace, training: bool) -> Footage:
    root, part = Path(arguments.data, "kinetics400"), "train" if training else "val"
    classes = (root / "classes.txt").read_text().splitlines() if (root / "classes.txt").exists() else None
    size = {"frames": arguments.frames, "stride": arguments.stride, "size": arguments.size, "views": tuple(arguments.views)}
    return Kinetics(_first(root, f"{part}.csv", f"{part}.txt"), root / part, training, classes=classes, **size)


def _something(arguments: argparse.Namespace, training: bool) -> Footage:
    root, part = Path(arguments.data, "something-v1"), "train" if training else "validation"
    names = root / "something-something-v1-labels.csv"
    size = {"frames": arguments.frames, "size": arguments.size, "views": tuple(arguments.views)}
    lists = (f"something-something-v1-{part}.csv", f"{part}.txt")
    return SomethingV1(_first(root, *lists), root / "frames", training, labels=names, **size)


def _noise(arguments: argparse.Namespace, training: bool) -> Noise:
    return Noise("train" if training else "test", arguments.frames, arguments.size, 4, arguments.seed)


def _first(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    raise SystemExit(f"{root} has none of {', '.join(names)}; name the folder that holds it with --data")


# [ours] Epochs: the paper does not say. Iterations are the paper's, rates and decays the field's.
FIELDS = {
    "kinetics400": Field(400, 3, 0.1, 1e-4, None, 12, 36, _kinetics),
    "something-v1": Field(174, 2, 0.01, 5e-4, 20.0, 10, 30, _something),
    "noise": Field(4, 1, 0.01, 1e-4, None, 1, 1, _noise),
}


def parser() -> argparse.ArgumentParser:
    """The command line; a value left out is the data set's own."""
    words = argparse.ArgumentParser(
        "stdcf_lib.itsl",
        description="Train STDCF-R50 by iterative training of space and time (ITSL), or a peer of it directly. A run that was "
        "stopped goes on when the same command is given again.",
        epilog="For many GPUs or machines: `accelerate launch -m stdcf_lib.itsl …`; `accelerate config` asks how many.",
    )
    words.add_argument("dataset", choices=FIELDS, help="'noise' needs no videos and shows that a run works")
    words.add_argument(
        "--data",
        default=os.environ.get("STDCF_DATA"),
        help="folder with kinetics400/ (train.csv, val.csv, train/, val/; also .txt lists of `path label`, and classes.txt for "
        "the order of the classes) or something-v1/ (the official files, frames/); default $STDCF_DATA",
    )
    words.add_argument("--folder", type=Path, help="where checkpoints, metrics and weights go")
    words.add_argument("--plan", action="store_true", help="print the stages and what they need, and train nothing")

    network = words.add_argument_group("network")
    network.add_argument("--kind", choices=KINDS, default="stdcf")
    network.add_argument("--small", action="store_true", help="a network of the same class for a laptop: 4 blocks, 8 channels")
    network.add_argument("--spatial-atoms", type=int, default=5, metavar="M")
    network.add_argument("--temporal-atoms", type=int, default=3, metavar="N")
    network.add_argument("--dropout", type=float, default=0.5)
    network.add_argument("--checkpointing", action="store_true", help="less memory, a third more time, the same result")
    network.add_argument(
        "--image-weights", type=Path, help="a file with the state_dict of torchvision's resnet50 to start from"
    )

    clips = words.add_argument_group("clips and stages")
    clips.add_argument("--frames", type=int, default=8)
    clips.add_argument("--stride", type=int, default=8, help="frames of the video from one to the next (Kinetics)")
    clips.add_argument("--size", type=int, default=224)
    clips.add_argument("--views", type=int, nargs=2, metavar=("CLIPS", "CROPS"), help="of a test; default 10 3, or 1 1")
    clips.add_argument("--iterations", type=int, help="of stage-t and stage-s")
    clips.add_argument("--reduction", type=int, default=4, help="how many times fewer voxels both stages show")
    clips.add_argument("--epochs", type=float, help="of each stage")
    clips.add_argument("--final-epochs", type=float, help="of the last, full-size stage; 0 leaves it out")
    clips.add_argument("--direct", action="store_true", help="no stages: full-size training for --final-epochs, as a reference")
    clips.add_argument("--swap", choices=SWAPS, default="keep", help="what becomes of the atoms at another size")

    training = words.add_argument_group("training")
    training.add_argument("--batch-size", type=int, default=64, help="clips a step, over all processes")
    training.add_argument("--learning-rate", type=float, help="for 64 clips a step; grows with the batch")
    training.add_argument("--accumulation", type=int, default=1, help="batches whose gradients make one step")
    training.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no", help="'no' is float32")
    training.add_argument("--workers", type=int, default=4, help="processes that decode, for each process that trains")
    training.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    training.add_argument("--seed", type=int, default=0)
    return words


def network(arguments: argparse.Namespace) -> VideoResNet:
    """The network that the arguments ask for, as it is before training."""
    torch.manual_seed(arguments.seed)
    classes = FIELDS[arguments.dataset].classes
    counts = (arguments.spatial_atoms, arguments.temporal_atoms)
    options = {"dropout": arguments.dropout, "checkpointing": arguments.checkpointing}
    if arguments.small:
        if arguments.kind == "stdcf":
            options |= {"spatial_atoms": counts[0], "temporal_atoms": counts[1]}
        return VideoResNet(arguments.kind, classes, blocks=(1, 1, 1, 1), width=8, stem=(3, 7, 7), **options)
    model = stdcf_r50(classes, arguments.kind, *counts, **options)
    if arguments.image_weights:
        energy = start_from_image(model, torch.load(arguments.image_weights, weights_only=True, map_location="cpu"))
        print(f"started from {arguments.image_weights}: its filters keep at least {min(energy.values()):.1%} of their energy")
    return model


def stages(arguments: argparse.Namespace) -> list[Stage]:
    """The stages that the arguments ask for."""
    field = FIELDS[arguments.dataset]
    iterations, epochs, final = (
        getattr(field, name) if getattr(arguments, name) is None else getattr(arguments, name)
        for name in ("iterations", "epochs", "final_epochs")
    )
    if arguments.direct:
        return [Stage("direct", arguments.frames, arguments.size, None, final)]
    return schedule(iterations, arguments.frames, arguments.size, arguments.reduction, epochs=epochs, final_epochs=final)


def plan(model: VideoResNet, planned: list[Stage], swap: str, batch_size: int) -> list[dict[str, float | str]]:
    """What each stage needs: `gmacs` of one forward pass, `stored_gib` that one clip and `batch_gib` that a batch keeps for
    backward in float32 (bfloat16 keeps a little over half), and `fits`, the clips that fit into 80 GB beside weights and
    optimiser."""
    rows = []
    swaps = AtomSwap(model, planned[0], swap)
    state = 3 * 4 * sum(p.numel() for p in model.parameters())  # weights, gradients and momentum
    for stage in planned:
        swaps.to(stage)
        counted = cost(model.train(), (2, 3, stage.frames, stage.size, stage.size))  # BN has no statistics of one voxel
        stored = counted.stored_bytes / 2
        rows.append(
            {
                "stage": stage.name,
                "clip": f"{stage.frames}×{stage.size}²",
                "frozen": stage.frozen or "nothing",
                "epochs": stage.epochs,
                "gmacs": counted.macs / 2e9,
                "stored_gib": stored / GIB,
                "batch_gib": stored * batch_size / GIB,
                "fits": int((80e9 - state) // stored),
            }
        )
    return rows


def main() -> None:
    words = parser()
    arguments = words.parse_args()
    field = FIELDS[arguments.dataset]
    if arguments.views is None:
        arguments.views = [10, 3] if arguments.dataset == "kinetics400" else [1, 1]
    try:
        planned = stages(arguments)
        model = network(arguments)
    except (ValueError, OSError) as error:
        words.error(str(error))
    if arguments.plan:
        rows = plan(model, planned, arguments.swap, arguments.batch_size)
        print("stage   clip      frozen    epochs  GMAC/clip  GiB kept/clip  GiB kept/batch  clips in 80 GB")
        for row in rows:
            print(
                "{stage:8}{clip:10}{frozen:10}{epochs:6g}{gmacs:11.3f}{stored_gib:15.3f}{batch_gib:16.1f}{fits:16}".format(
                    **row
                )
            )
        return
    if arguments.folder is None:
        words.error("name the run's folder with --folder")
    if arguments.data is None and arguments.dataset != "noise":
        words.error("name the folder of your videos with --data, or set STDCF_DATA")
    full = {training: field.footage(arguments, training) for training in (True, False)}

    def data(stage: Stage) -> tuple[Dataset, Dataset]:
        seen = [part.reduced(stage.frames, stage.size) if isinstance(part, Footage) else part for part in full.values()]
        return seen[0], seen[1]

    rate = field.learning_rate if arguments.learning_rate is None else arguments.learning_rate
    recipe = Recipe(
        arguments.batch_size,
        rate * arguments.batch_size / 64,
        field.weight_decay,
        field.clip_norm,
        arguments.swap,
        arguments.seed,
    )
    accelerator = Accelerator(mixed_precision=arguments.precision, gradient_accumulation_steps=arguments.accumulation)
    try:
        rows = run(
            model,
            planned,
            data,
            arguments.folder,
            recipe,
            accelerator=accelerator,
            workers=arguments.workers,
            save_every=arguments.save_every,
            config={"dataset": arguments.dataset, "kind": arguments.kind, "stride": arguments.stride},
        )
    except ValueError as error:
        words.error(str(error))
    if accelerator.is_main_process:
        top1, top5 = rows[-1]["full_top1"], rows[-1]["full_top5"]
        print(f"top-1 {top1:.4f}, top-5 {top5:.4f}; all figures are in {arguments.folder / 'metrics.jsonl'}")


if __name__ == "__main__":
    main()
