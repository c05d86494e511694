"""The data sets that the command knows, and the recipe that is usual for each."""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from stdcf_lib.data.folder import video_folder
from stdcf_lib.data.lists import class_names
from stdcf_lib.data.noise import CLIPS, Noise

if TYPE_CHECKING:
    from stdcf_lib.data.footage import Footage
    from stdcf_lib.itsl.plan import StandIn


@dataclass(frozen=True)
class Preset:
    """A data set, and the recipe that is usual for it: rates are for 64 clips a step and grow with the batch. `SOURCES` says
    where its numbers come from.

    `classes` is how many there are, 0 where the videos say it. `clips` are those of the training and the validation set, which
    a plan counts with; `sets` makes the sets. What reads videos is imported there, so that a plan needs none of it.
    """

    classes: int
    clips: tuple[int, int]
    iterations: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    epochs: float
    final_epochs: float
    views: tuple[int, int]
    sets: Callable[[argparse.Namespace], "Sets"]


class Sets(NamedTuple):
    """What a run sees: to train on, to validate on now and then, and to test with all views at the end.

    `classes` are the names of the classes in the order of their numbers, as far as they are known; with another `config`,
    as it says what else is seen, a run must not go on.
    """

    training: "Footage | Noise | StandIn"
    validation: "Footage | Noise | StandIn"
    test: "Footage | Noise | StandIn"
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None
    classes: Sequence[str] = ()
    config: dict[str, Any] | None = None


def _of_footage(arguments: argparse.Namespace, training: "Footage", test: "Footage") -> Sets:
    from stdcf_lib.data.footage import normalised

    training, test = training.as_bytes(), test.as_bytes()
    return Sets(training, test.viewed(arguments.val_views), test, normalised)


def _kinetics(arguments: argparse.Namespace) -> Sets:
    from stdcf_lib.data.kinetics import Kinetics

    root = Path(arguments.data, "kinetics400")
    names = class_names(root / "classes.txt") if (root / "classes.txt").exists() else None
    options = {
        "frames": arguments.frames,
        "stride": arguments.stride,
        "size": arguments.size,
        "views": arguments.views,
        "classes": names,
        "max_faulty": arguments.max_faulty,
        "num_classes": PRESETS["kinetics400"].classes,
    }
    train, test = (
        Kinetics(_first(root, f"{part}.csv", f"{part}.txt"), root / part, part == "train", **options)
        for part in ("train", "val")
    )
    return _of_footage(arguments, train, test)._replace(classes=names or ())


def _something(arguments: argparse.Namespace) -> Sets:
    from stdcf_lib.data.something import SomethingV1

    root = Path(arguments.data, "something-v1")
    options = {
        "frames": arguments.frames,
        "size": arguments.size,
        "views": arguments.views,
        "labels": root / "something-something-v1-labels.csv",
        "max_faulty": arguments.max_faulty,
        "num_classes": PRESETS["something-v1"].classes,
    }
    lists = {part: _first(root, f"something-something-v1-{part}.csv", f"{part}.txt") for part in ("train", "validation")}
    train, test = (SomethingV1(file, root / "frames", part == "train", **options) for part, file in lists.items())
    return _of_footage(arguments, train, test)


def _folder(arguments: argparse.Namespace) -> Sets:
    from stdcf_lib.data.video_clips import VideoClips

    found = video_folder(arguments.data, arguments.val_list, arguments.val_share, arguments.seed)
    options = (arguments.frames, arguments.stride, arguments.size, arguments.views, arguments.flip, arguments.max_faulty)
    sets = _of_footage(arguments, VideoClips(found.training, True, *options), VideoClips(found.held_out, False, *options))
    rows = [[(os.path.relpath(path, arguments.data), label) for path, label in part] for part in found[1:]]
    digest = hashlib.sha256(json.dumps([found.classes, *rows]).encode()).hexdigest()[:16]
    return sets._replace(classes=found.classes, config={"flip": arguments.flip, "videos": f"sha256 {digest}"})


def _noise(arguments: argparse.Namespace) -> Sets:
    shape = (arguments.frames, arguments.size, PRESETS["noise"].classes, arguments.seed)
    test = Noise("test", *shape)
    return Sets(Noise("train", *shape), test, test)


def _first(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{root} has none of {', '.join(names)}; name the folder that holds it with --data")


PRESETS = {
    "kinetics400": Preset(400, (240_000, 20_000), 3, "sgd", 0.1, 1e-4, None, 12, 36, (10, 3), _kinetics),
    "something-v1": Preset(174, (86_017, 11_522), 2, "sgd", 0.01, 5e-4, 20.0, 10, 30, (1, 1), _something),
    "folder": Preset(0, (0, 0), 3, "adam", 3e-3, 1e-2, None, 12, 36, (10, 3), _folder),
    "noise": Preset(4, (CLIPS["train"], CLIPS["test"]), 1, "sgd", 0.01, 1e-4, None, 1, 1, (1, 1), _noise),
}
SWAP = "resample"
SOURCES = {
    "iterations": "ours",
    "reduction": "ours, the paper only says that both are reduced",
    "epochs": "ours, the paper does not say",
    "final_epochs": "ours, the paper does not say",
    "swap": "ours (notebook 06); the paper's Table C is keep",
    "enlarge": "ours, stages fill what full size does",
    "optimizer": "usual in the field, the paper does not say",
    "learning_rate": "usual in the field, the paper does not say",
    "weight_decay": "usual in the field, the paper does not say",
    "clip_norm": "usual in the field, the paper does not say",
}
"""Where the numbers of a recipe come from."""
OTHER_SOURCES = {(name, "iterations"): "the paper, appendix D" for name in ("kinetics400", "something-v1")}
OTHER_SOURCES |= {("folder", name): "ours: few videos, from scratch" for name in ("optimizer", "learning_rate", "weight_decay")}
"""Where those of some presets come from, by preset and number."""
STRIDED = ("kinetics400", "folder")
"""Data sets of video files, of which clips show every `--stride`-th frame."""
