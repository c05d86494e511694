"""What a finished run says of videos: `python -m stdcf_lib.itsl predict --weights RUN clip.mp4 …`."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stdcf_lib.checks import choice, whole, wholes
from stdcf_lib.data.video import VideoError
from stdcf_lib.data.video_clips import VideoClips
from stdcf_lib.itsl import AtomSwap, Recipe, Stage
from stdcf_lib.itsl.networks import build
from stdcf_lib.itsl.presets import STRIDED
from stdcf_lib.models import VideoResNet
from stdcf_lib.runs import Run

BEST = 5
AT_A_TIME = 8  # views on the device
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Trained(NamedTuple):
    """The network that a run has ended with, on the device, the names of its classes, and the run's configuration."""

    network: VideoResNet
    classes: list[str]
    config: dict[str, Any]


def trained(folder: Path | str) -> Trained:
    """A finished run of the command, of videos, from its folder alone; or from the file of weights in it.

    Raises:
        ValueError: a run that is not finished, that is not of videos, or whose last stage did not show whole clips; a
            damaged one.
        OSError: no run there.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() and folder.name == "weights.safetensors" else folder
    run = Run(folder)
    config = run.config
    if not run.finished:
        raise ValueError(f"{folder} is not finished: it has no weights.safetensors; the command that trains goes on with it")
    if config.get("dataset") not in STRIDED or "num_classes" not in config:
        raise ValueError(
            f"{folder} is no run of `python -m stdcf_lib.itsl {' or '.join(STRIDED)}`, whose videos are shown as predict shows "
            "them; name one"
        )
    weights = run.weights
    with _described(folder):
        stages = [Stage(**stage) for stage in config["stages"]]
        for name in ("num_classes", "frames", "size", "stride"):
            whole(name, config[name])
        wholes("views", config["views"], 2)
        choice("precision", config["precision"], ("no", *HALVES))
        if not all(isinstance(name, str) for name in config["classes"]):
            raise TypeError("classes are no names")
        last = stages[-1]
    if (last.frames, last.size) != (config["frames"], config["size"]):
        raise ValueError(
            f"{folder} ended with stage {last.name!r}, in which the network did not see whole clips; train with a final "
            "stage (--final-epochs)"
        )
    with _described(folder):
        if config["num_classes"] != len(weights["fc.bias"]):  # before so many are made room for
            raise ValueError(f"num_classes={config['num_classes']}, and the weights are of {len(weights['fc.bias'])}")
        network = _as_it_ended(config, stages)
        network.load_state_dict(weights)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    # What has no name is called by its number.
    names = [*config["classes"], *map(str, range(len(config["classes"]), config["num_classes"]))]
    return Trained(network.to(device or "cpu").eval(), names, config)


@contextmanager
def _described(folder: Path) -> Iterator[None]:
    """Whatever goes wrong within is the fault of what a run's folder says of its network."""
    try:
        yield
    except Exception as error:  # of whatever the network is made of
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{folder / 'config.json'} and the weights beside it are of no network that there is ({reason}); restore them"
        ) from error


def _as_it_ended(config: dict[str, Any], stages: list[Stage]) -> VideoResNet:
    """The network of a run, its atoms of the sizes that the last stage has left them with."""
    form = {name: config[name] for name in ("kind", "small", "spatial_atoms", "temporal_atoms") if name in config}
    network = build(num_classes=config["num_classes"], **form)
    recipe = Recipe(swap=config["swap"], grid=config["grid"])
    swaps = AtomSwap(network, recipe.anchor(stages), recipe.swap)
    for stage in stages:
        swaps.to(stage)
    return network


@torch.no_grad()
def scores(run: Trained, clip: Path | str, views: tuple[int, int] | None = None) -> Tensor:
    """The chances of each class, (classes,) and 1 in all, as the run's test would have them: a softmax averaged over views.

    Args:
        run: from `trained`.
        clip: a video, of any length; see `VideoClips`.
        views: (clips, crops), by default those of the run's test.

    Raises:
        VideoError, OSError: the video cannot be read; the message names it.
        ValueError: views out of range.
    """
    config, device, path = run.config, run.network.fc.weight.device, Path(clip)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    shown = VideoClips(
        [(path, 0)], False, config["frames"], config["stride"], config["size"], views or tuple(config["views"])
    ).clip(path)
    shown = shown if shown.dim() == 5 else shown[None]
    half = HALVES.get(config["precision"])
    chances = []
    for part in shown.split(AT_A_TIME):
        with torch.autocast(device.type, half, enabled=half is not None):
            part = part.to(device).to(memory_format=torch.channels_last_3d)
            chances.append(run.network(part).float().softmax(1))
    return torch.cat(chances).mean(0).cpu()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(
        "stdcf_lib.itsl predict",
        description=f"Say which {BEST} classes a trained network finds most likely in each clip. A clip that cannot be read is "
        "named on stderr, the others are answered, and the exit status is 1.",
    )
    words.add_argument(
        "--weights", type=Path, required=True, metavar="RUN", help="the folder of a finished run, or weights.safetensors in it"
    )
    words.add_argument("clips", nargs="+", metavar="CLIP", help="videos")
    words.add_argument(
        "--views", type=int, nargs=2, metavar=("CLIPS", "CROPS"), help="of each; default those of the run's test"
    )
    words.add_argument("--json", action="store_true", help="one JSON document, for programs")
    return words


def main() -> None:
    """The command."""
    command = parser()
    arguments = command.parse_args(sys.argv[2:])
    try:
        if arguments.views is not None:
            clips, crops = wholes("--views", arguments.views, 2, meaning="(clips, crops)")
            arguments.views = clips, choice("crops of --views", crops, (1, 3))
        run = trained(arguments.weights)
    except (ValueError, OSError) as error:
        command.error(str(error))
    answers: list[dict[str, Any]] = []
    for clip in arguments.clips:
        try:
            best = scores(run, clip, arguments.views).topk(min(BEST, len(run.classes)))
        except (VideoError, OSError) as error:
            print(f"stdcf_lib.itsl predict: {error}", file=sys.stderr)
            answers.append({"clip": clip, "error": str(error)})
            continue
        found = list(zip(map(run.classes.__getitem__, best.indices.tolist()), best.values.tolist(), strict=True))
        answers.append({"clip": clip, "classes": [{"class": name, "score": score} for name, score in found]})
        if not arguments.json:
            print("\n".join([clip, *(f"  {score:.3f}  {name}" for name, score in found)]), flush=True)
    if arguments.json:
        print(json.dumps(answers, indent=2))
    if any("error" in answer for answer in answers):
        sys.exit(1)
