"""ITSL on real video: the paper's run with one command, from one process to many machines.

`accelerate launch -m stdcf_lib.itsl kinetics400 --data FOLDER --folder runs/k400` trains STDCF-R50 through all stages;
`folder --data VIDEOS` takes your own. `--help` lists the rest, and `--plan` says what a run would need without starting it.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from stdcf_lib.checks import number, whole
from stdcf_lib.data.lists import TooManyFaultyFiles
from stdcf_lib.files import read_weights
from stdcf_lib.itsl.networks import build
from stdcf_lib.itsl.plan import StandIn, full_size_epochs, hours, loading, plan, print_hours, print_plan
from stdcf_lib.itsl.presets import OTHER_SOURCES, PRESETS, SOURCES, STRIDED, SWAP, Sets
from stdcf_lib.itsl.recipe import Recipe
from stdcf_lib.itsl.run import Clips, Training, seeing_all_processes
from stdcf_lib.itsl.stages import Stage, schedule
from stdcf_lib.itsl.swap import SWAPS
from stdcf_lib.models import VideoResNet
from stdcf_lib.models.kinds import KINDS, of_kind
from stdcf_lib.models.resnet import start_from_image
from stdcf_lib.runs import FolderInUse, machine

BATCH_SIZE = 64
MATCHED = math.inf  # --direct without a number of epochs; no text, which argparse would parse
LEAST_STEPS = 20
"""Of an epoch: batches are enlarged no further than leaves as many, unless it is asked for. [ours]"""


def _whole(least: int) -> Callable[[str], int]:
    """For argparse: an integer of at least `least`."""

    def parsed(text: str) -> int:
        try:
            return whole("", int(text), least)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: give an integer of at least {least}") from None

    return parsed


def _number(**bounds: float) -> Callable[[str], float]:
    """For argparse: a finite number within `bounds`, those of `checks.number`."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        try:
            return number("", value, **bounds)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {str(error).partition(': ')[2]}") from None

    return parsed


def parser() -> argparse.ArgumentParser:
    """The command line; a value left out is the data set's own."""
    words = argparse.ArgumentParser(
        "stdcf_lib.itsl",
        description="Train STDCF-R50 by iterative training of space and time (ITSL), or a peer of it directly. A run that was "
        "stopped goes on when the same command is given again.",
        epilog="For many GPUs or machines: `accelerate launch -m stdcf_lib.itsl …`; `accelerate config` asks how many. What a "
        "finished run sees in a clip: `python -m stdcf_lib.itsl predict --help`.",
    )
    words.add_argument(
        "dataset", choices=PRESETS, help="'folder' is your own videos; 'noise' needs no videos and shows that a run works"
    )
    words.add_argument(
        "--data",
        help="of 'folder': a folder for each class with its videos, or train.txt and val.txt of `path label` (and classes.txt, "
        "the names in the order of their numbers); else the folder with kinetics400/ (train.csv, val.csv, train/, val/; also "
        ".txt lists, and classes.txt) or something-v1/ (the official files, frames/), default $STDCF_DATA",
    )
    words.add_argument("--folder", type=Path, help="where checkpoints, metrics and weights go")
    words.add_argument(
        "--plan", action="store_true",
        help="print the stages, what they need and how long they take by a few steps on the device at hand, and train nothing; "
        "with --benchmark-loader, which 'folder' always has, by a few seconds of loading too",
    )  # fmt: skip
    words.add_argument(
        "--benchmark-loader", action="store_true",
        help="print how many clips a second this machine loads for each kind of stage, with --workers, and train nothing",
    )  # fmt: skip
    words.add_argument("--no-steps", action="store_true", help="with --plan: count, and take no steps")
    words.add_argument(
        "--preset", choices=[name for name in PRESETS if name != "noise"],
        help="the recipe for what is left out below; by default the data set's own. It is printed, with where it comes from",
    )  # fmt: skip

    network = words.add_argument_group("network")
    network.add_argument("--kind", choices=KINDS, default="stdcf")
    network.add_argument("--small", action="store_true", help="a network of the same class for a laptop: 4 blocks, 8 channels")
    network.add_argument("--spatial-atoms", type=_whole(1), metavar="M", help="of --kind stdcf; default 5")
    network.add_argument("--temporal-atoms", type=_whole(1), metavar="N", help="of --kind stdcf; default 3")
    network.add_argument("--dropout", type=_number(least=0, below=1), help="default 0.5, or 0 with --small")
    network.add_argument("--checkpointing", action="store_true", help="less memory, a third more time, the same result")
    network.add_argument(
        "--image-weights", type=Path, help="a file with the state_dict of torchvision's resnet50 to start from"
    )

    clips = words.add_argument_group("clips and stages")
    clips.add_argument("--frames", type=_whole(1), default=8)
    clips.add_argument("--stride", type=_whole(1), help="frames of the video from one to the next; default 8")
    clips.add_argument("--size", type=_whole(1), default=224)
    clips.add_argument(
        "--views", type=_whole(1), nargs=2, metavar=("CLIPS", "CROPS"), help="of the test at the end; default 10 3, or 1 1"
    )
    clips.add_argument(
        "--val-views", type=_whole(1), nargs=2, metavar=("CLIPS", "CROPS"), default=(1, 1), help="of a validation; default 1 1"
    )
    clips.add_argument("--iterations", type=_whole(1), help="of stage-t and stage-s")
    clips.add_argument("--reduction", type=_whole(1), help="how many times fewer voxels both stages show; default 4")
    clips.add_argument("--epochs", type=_number(above=0), help="of each stage")
    clips.add_argument("--final-epochs", type=_number(least=0), help="of the last, full-size stage; 0 leaves it out")
    clips.add_argument(
        "--direct", nargs="?", const=MATCHED, type=_number(above=0), metavar="EPOCHS",
        help="no stages: full-size training, as a reference. Without a number, for as many multiplications as all stages of "
        "the same command cost without --direct, with --kind stdcf",
    )  # fmt: skip
    clips.add_argument("--swap", choices=SWAPS, help="what becomes of the atoms at another size; default resample")
    clips.add_argument(
        "--enlarge", type=_whole(1), metavar="TIMES",
        help="larger batches and rates in stage-t and stage-s; default as many times as they show fewer voxels, where that "
        f"leaves {LEAST_STEPS} steps an epoch",
    )  # fmt: skip
    clips.add_argument(
        "--max-faulty", type=_number(least=0, most=1), default=0.02, metavar="SHARE",
        help="of the files that may fail before the run stops with a list of them; a few always may",
    )  # fmt: skip

    own = words.add_argument_group("your own videos (folder)")
    own.add_argument("--val-list", type=Path, metavar="FILE", help="the videos held out, a path relative to --data in each row")
    own.add_argument(
        "--val-share", type=_number(above=0, below=1), metavar="SHARE",
        help="of each class that is held out, drawn by --seed, where there is no list; default 0.2",
    )  # fmt: skip
    own.add_argument(
        "--no-flip", dest="flip", action="store_false", help="no training clip is mirrored: left and right are part of a class"
    )

    training = words.add_argument_group("training")
    training.add_argument(
        "--batch-size", type=_whole(1), help="clips a step, over all processes; default 64, or of few videos an eighth"
    )
    training.add_argument("--optimizer", choices=("sgd", "adam"), help="SGD with momentum 0.9, or AdamW")
    training.add_argument(
        "--learning-rate",
        type=_number(above=0),
        help="for 64 clips a step; grows with the batch, or with --optimizer adam its root",
    )
    training.add_argument("--weight-decay", type=_number(least=0), help="of all but atoms, BN and biases")
    training.add_argument("--clip-norm", type=_number(above=0), help="gradients of a larger norm are scaled down to it")
    training.add_argument("--accumulation", type=_whole(1), default=1, help="batches whose gradients make one step")
    training.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no", help="'no' is float32")
    training.add_argument(
        "--workers",
        type=_whole(0),
        default=min(4, os.cpu_count() or 1),
        help="processes that decode, for each process that trains (default: 4, or as many as there are cores)",
    )
    training.add_argument("--val-every", type=_whole(1), default=4, help="epochs between validations; a stage ends with one")
    training.add_argument(
        "--test-batch", type=_whole(1), metavar="CLIPS", help="that a process loads at a time to score them, with all views"
    )
    training.add_argument("--save-minutes", type=_number(least=0), default=10, help="between checkpoints")
    training.add_argument(
        "--average", type=_number(least=0, below=1), metavar="SHARE",
        help="that a step keeps of an average of the weights, such as 0.999, which is then scored and kept",
    )  # fmt: skip
    training.add_argument("--compile", action="store_true", help="the network first (torch.compile); minutes at each stage")
    training.add_argument("--log-every", type=_whole(1), default=50, metavar="STEPS", help="between lines of the log")
    training.add_argument("--quiet", action="store_true", help="no bar and no lines of the log, which is kept all the same")
    training.add_argument("--tensorboard", action="store_true", help="the log for TensorBoard as well")
    training.add_argument("--seed", type=_whole(0), default=0)
    return words


def network(arguments: argparse.Namespace, num_classes: int | None = None) -> VideoResNet:
    """The network that the arguments ask for, as it is before training; for as many classes as the data set has by default.

    Raises:
        ValueError: counts of atoms that do not fit, or image weights that are none.
        OSError: image weights that cannot be opened.
    """
    torch.manual_seed(arguments.seed)
    options = _form(arguments) | {"checkpointing": arguments.checkpointing}
    options["dropout"] = arguments.dropout if arguments.dropout is not None else 0.0 if arguments.small else 0.5
    model = build(num_classes=num_classes or PRESETS[arguments.dataset].classes, **options)
    if arguments.image_weights:
        energy = start_from_image(model, read_weights(arguments.image_weights))
        print(f"started from {arguments.image_weights}: its filters keep at least {min(energy.values()):.1%} of their energy")
    return model


def _form(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `build` is told of the network's form."""
    atoms = {"spatial_atoms": arguments.spatial_atoms or 5, "temporal_atoms": arguments.temporal_atoms or 3}
    return {"kind": arguments.kind, "small": arguments.small, **of_kind(arguments.kind, **atoms)}


def completed(arguments: argparse.Namespace) -> dict[str, str]:
    """Fill in what the arguments leave to the preset, and say of each number of the recipe where it comes from."""
    preset, sources = PRESETS[arguments.preset or arguments.dataset], {}
    for name in SOURCES:
        if getattr(arguments, name, None) is not None:
            sources[name] = "given"
        elif name == "swap":
            arguments.swap = SWAP if arguments.kind == "stdcf" else "keep"
        elif name == "reduction":
            arguments.reduction = 4
        elif name != "enlarge":
            setattr(arguments, name, getattr(preset, name))
        sources.setdefault(name, OTHER_SOURCES.get((arguments.preset or arguments.dataset, name), SOURCES[name]))
    if arguments.batch_size is None and PRESETS[arguments.dataset].classes:
        arguments.batch_size = BATCH_SIZE
    return sources


def stages(arguments: argparse.Namespace, clips: int | None = None) -> list[Stage]:
    """The stages that completed arguments ask for.

    Args:
        arguments: of the command line, completed.
        clips: to train on, which caps how much batches grow; by default as many as the data set has.

    Raises:
        ValueError: clips that cannot be reduced.
    """
    if arguments.direct:
        return [Stage("direct", arguments.frames, arguments.size, None, arguments.direct)]
    clips = PRESETS[arguments.dataset].clips[0] if clips is None else clips
    enlarge = arguments.enlarge or max(1, min(arguments.reduction, clips // (LEAST_STEPS * arguments.batch_size)))
    return schedule(
        arguments.iterations, arguments.frames, arguments.size, arguments.reduction,
        epochs=arguments.epochs, final_epochs=arguments.final_epochs, enlarge=enlarge,
    )  # fmt: skip


def as_long_as_the_stages(arguments: argparse.Namespace) -> float:
    """The full-size epochs that cost as many multiplications as what the same arguments ask for without --direct, of STDCF."""
    ours = argparse.Namespace(**vars(arguments) | {"image_weights": None})
    theirs = argparse.Namespace(**vars(ours) | {"direct": None, "kind": "stdcf"})
    theirs.batch_size = theirs.batch_size or BATCH_SIZE  # which makes steps larger, and no more multiplications
    classes = PRESETS[arguments.dataset].classes or 1  # a head costs next to nothing
    epochs = full_size_epochs(network(theirs, classes), stages(theirs), arguments.swap if arguments.kind == "stdcf" else SWAP)
    full = [Stage("full", arguments.frames, arguments.size)]
    a_clip = [plan(network(one, classes), full, "keep", 2)[0]["gmacs"] for one in (theirs, ours)]
    return epochs * a_clip[0] / a_clip[1]


def in_words(arguments: argparse.Namespace, planned: list[Stage], sources: dict[str, str]) -> str:
    """The recipe of completed arguments, a line a number, with where each comes from."""
    values = {name: getattr(arguments, name) for name in SOURCES}
    grown = {stage.batch: recipe(arguments).rate(stage) for stage in planned}
    values["enlarge"] = "; ".join(f"{k * arguments.batch_size} at rate {rate:g}" for k, rate in grown.items())
    if arguments.direct:
        about_stages = ("iterations", "reduction", "epochs", "final_epochs", "swap", "enlarge")
        values = {"direct": arguments.direct} | {name: value for name, value in values.items() if name not in about_stages}
    texts = {
        name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in values.items() if value is not None
    }
    width = max(map(len, texts.values())) + 2
    labels = {name: "batches" if name == "enlarge" else name.replace("_", " ") for name in texts}
    rows = [f"{labels[name]:15}{text:{width}}{sources[name]}" for name, text in texts.items()]
    return "\n".join(["the recipe, and where it comes from:", *rows])


def recipe(arguments: argparse.Namespace) -> Recipe:
    """How the stages of completed arguments are trained."""
    adam, grown = arguments.optimizer == "adam", arguments.batch_size / 64
    return Recipe(
        arguments.batch_size,
        arguments.learning_rate * (grown**0.5 if adam else grown),
        arguments.weight_decay,
        arguments.clip_norm,
        "keep" if arguments.direct else arguments.swap,
        arguments.seed,
        adam,
        average=arguments.average,
    )


def parse(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, dict[str, str]]:
    """The arguments of a command line, checked and completed, and where each number of their recipe comes from.

    Raises:
        SystemExit: arguments that contradict each other; the reason is printed.
    """
    command = parser()
    arguments = command.parse_args(words)
    arguments.views = PRESETS[arguments.dataset].views if arguments.views is None else tuple(arguments.views)
    if arguments.data is None and arguments.dataset != "folder":  # which names one's own folder, and not that of all data
        arguments.data = os.environ.get("STDCF_DATA")
    if contradiction := _contradiction(arguments):
        command.error(contradiction)
    if arguments.dataset in STRIDED and arguments.stride is None:
        arguments.stride = 8
    try:
        sources = completed(arguments)
        if arguments.direct:
            sources["direct"] = "as many multiplications as all stages" if arguments.direct == MATCHED else "given"
        if arguments.direct == MATCHED:
            arguments.direct = as_long_as_the_stages(arguments)
    except ValueError as error:
        command.error(str(error))
    return arguments, sources


def main(words: Sequence[str] | None = None, watch: Callable[[dict[str, Any]], None] | None = None) -> None:
    """The command. From a notebook, give it its words, and what is to be called with each line of the log."""
    arguments, sources = parse(words)
    try:  # everything that can be refused is refused here, before anything is written
        training = training_of(arguments, watch)
    except (ValueError, OSError, TooManyFaultyFiles) as error:
        parser().error(str(error))
    if training.accelerator.is_main_process:
        print(in_words(arguments, training.stages, sources), flush=True)
    if arguments.plan:
        _plan(arguments, training)
        return
    if arguments.benchmark_loader:
        for row in loading(training):
            print("{stage:8}{clip:10}{clips_per_second:9.1f} clips/s".format(**row), flush=True)
        return
    try:
        if (names := training.config["classes"]) and training.accelerator.is_main_process:
            clips = f"{len(training.full_sets[0])} clips to train on, {len(training.full_sets[1])} held out"
            print(f"{len(names)} classes, {clips}", flush=True)
            training.whole.keep("classes.txt", "".join(f"{name}\n" for name in names).encode())
        rows = training.run()
    except (FolderInUse, FloatingPointError, TooManyFaultyFiles, OSError) as error:
        sys.exit(f"stdcf_lib.itsl: {error}")
    except KeyboardInterrupt:
        sys.exit("stdcf_lib.itsl: stopped; the same command goes on from the last checkpoint")
    if training.accelerator.is_main_process:
        top1, top5 = rows[-1]["test_top1"], rows[-1]["test_top5"]
        print(f"test top-1 {top1:.4f}, top-5 {top5:.4f}; all figures are in metrics.jsonl of the run's folder")


def _plan(arguments: argparse.Namespace, training: Training) -> None:
    processes, main = training.accelerator.num_processes, training.accelerator.is_main_process
    batch = max(1, arguments.batch_size // processes // arguments.accumulation)
    if main:
        print()
        print_plan(plan(training.model, training.stages, training.recipe.swap, batch, arguments.precision))
    if not arguments.no_steps:
        loaded = loading(training) if _loads(arguments) else []
        rows = hours(training, loaded=loaded)
        if main:
            print_hours(rows, machine()["device"], processes, bool(loaded))


def _loads(arguments: argparse.Namespace) -> bool:
    """Whether true clips are loaded; a plan does without, unless it is of one's own videos or asked to count loading."""
    return not arguments.plan or arguments.benchmark_loader or arguments.dataset == "folder"


def _contradiction(arguments: argparse.Namespace) -> str | None:
    """Arguments that would be passed over in silence, or that something is missing for."""
    given = {name for name, value in vars(arguments).items() if value not in (None, False)}
    if arguments.kind != "stdcf" and (idle := given & {"spatial_atoms", "temporal_atoms", "swap"}):
        return f"--{min(idle).replace('_', '-')} is about atoms, which --kind {arguments.kind} has not; leave it out"
    if arguments.small and arguments.image_weights:
        return "--image-weights is for the full network, and --small asks for another; leave out one of them"
    about_stages = {"iterations", "reduction", "epochs", "final_epochs", "swap", "enlarge"}
    if arguments.direct not in (None, MATCHED) and (idle := given & about_stages):
        return f"--{min(idle).replace('_', '-')} is about stages, and --direct {arguments.direct:g} has none; leave it out"
    if arguments.no_steps and not arguments.plan:
        return "--no-steps is about --plan; leave it out, or add --plan"
    if arguments.dataset not in STRIDED and arguments.stride is not None:
        return (
            f"--stride is for {' and '.join(STRIDED)}; something-v1 takes a frame of each of --frames segments, and noise has "
            "no videos"
        )
    own = {"--val-list": arguments.val_list, "--val-share": arguments.val_share, "--no-flip": not arguments.flip or None}
    if arguments.dataset != "folder" and (idle := [name for name, value in own.items() if value is not None]):
        return f"{idle[0]} is for folder; {arguments.dataset} has its own way, leave it out"
    if arguments.val_list is not None and arguments.val_share is not None:
        return "--val-list names what --val-share would draw; leave out one of them"
    for name, (count, crops) in (("--views", arguments.views), ("--val-views", arguments.val_views)):
        if crops not in (1, 3):
            return f"{name} {count} {crops}: give 1 crop or 3 for each clip"
    if arguments.dataset == "folder" and arguments.data is None:
        return "name the folder of your videos with --data"
    if arguments.folder is None and not (arguments.benchmark_loader or arguments.plan):
        return "name the run's folder with --folder"
    if _loads(arguments) and arguments.data is None and arguments.dataset != "noise":
        return "name the folder of your videos with --data, or set STDCF_DATA"
    return None


def training_of(arguments: argparse.Namespace, watch: Callable[[dict[str, Any]], None] | None = None) -> Training:
    """The run that arguments of `parse` ask for; with `--plan` of noise, unless it is to load videos.

    Raises:
        ValueError: arguments that do not fit together, or data that cannot be read.
        OSError: a file that cannot be opened.
    """
    preset = PRESETS[arguments.dataset]
    accelerator = seeing_all_processes(mixed_precision=arguments.precision, gradient_accumulation_steps=arguments.accumulation)
    sets = _by_one_process(accelerator, lambda: preset.sets(arguments) if _loads(arguments) else _stand_ins(arguments))
    num_classes = preset.classes or len(sets.classes)
    if arguments.batch_size is None:  # of one's own videos, which may be few; BN wants more than one, and each part its share
        parts = accelerator.num_processes * arguments.accumulation
        arguments.batch_size = max(1, min(BATCH_SIZE, max(4, len(sets.training) // 8)) // parts) * parts
    planned = stages(arguments, len(sets.training))

    def data(stage: Stage) -> tuple[Clips, Clips]:
        training, validation = (part.reduced(stage.frames, stage.size) for part in (sets.training, sets.validation))
        return training, validation

    config = {"dataset": arguments.dataset, "num_classes": num_classes, "classes": sets.classes, **_form(arguments)}
    config |= {name: getattr(arguments, name) for name in ("frames", "stride", "size", "views")} | (sets.config or {})
    return Training(
        network(arguments, num_classes),
        planned,
        data,
        arguments.folder,
        recipe(arguments),
        test=sets.test,
        prepare=sets.prepare,
        validate_every=arguments.val_every,
        test_batch=arguments.test_batch,
        accelerator=accelerator,
        workers=arguments.workers,
        compile=arguments.compile,
        save_minutes=arguments.save_minutes,
        config=config,
        log_every=arguments.log_every,
        watch=watch,
        tensorboard=arguments.tensorboard,
        progress=not arguments.quiet,
    )


def _stand_ins(arguments: argparse.Namespace) -> Sets:
    """As many clips of noise as the data set has, to rehearse with."""
    training, scored = PRESETS[arguments.dataset].clips
    shape = arguments.frames, arguments.size
    val_views, views = (count * crops for count, crops in (arguments.val_views, arguments.views))
    clips = StandIn(training, *shape), StandIn(scored, *shape, val_views), StandIn(scored, *shape, views)
    return Sets(*clips, torch.Tensor.float)


def _by_one_process(accelerator: Accelerator, make: Callable[[], Sets]) -> Sets:
    """What the first process makes, in all of them: a list of a quarter of a million files is looked through once."""
    made: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            made = [make()]
        except (ValueError, OSError) as error:  # the others wait for it, and end with it
            made = [error]
    (found,) = broadcast_object_list(made)
    if isinstance(found, Exception):
        raise found
    return found
