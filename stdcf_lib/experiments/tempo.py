"""The tempo experiment (Figures 3 and B): networks that learned actions at one tempo meet them at others.

`python -m stdcf_lib.experiments tempo` trains and measures what `runs/tempo/` keeps and is not there yet.
"""

import io
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.conv import Change
from stdcf_lib.data.actions import Actions
from stdcf_lib.data.kth import KTH
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS
from stdcf_lib.models import KTHNet
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.runs import Run, digest, runs_folder
from stdcf_lib.train import Optimization, shuffled, train

# [ours] 16 frames, every second of KTH's 25 a second, at half its size: a window is 1.28 seconds long.
FRAMES = 16
TEMPI = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""τ: the same motion takes τ times as long, and a window τ times as many frames."""

SEEDS = range(5)
EPOCHS, BATCH_SIZE, LEARNING_RATE = 10, 16, 3e-3
MINUTES = 15  # to train and measure a network, one thread on an idle core of an AMD EPYC
# STDCF ends with less than half of the others' training loss. "stdcf-early" is trained for fewer epochs, so as to end with
# about theirs; how many is chosen by `care` runs of a seed that no result uses.
EARLY_EPOCHS = 6
CARE_EPOCHS, CARE_SEED = (5, 6, 7), 100
TEST_REPETITIONS = (1, 2)  # one in each direction

WAYS = {
    "plain": "as trained",
    "dilated": "dilated",
    "exact": "dilated, pool too",
    "interpolated": "interpolated",
}
"""How a trained network is made to meet a tempo, see `at_tempo`; in words."""


@cache
def rendered(split: str, tempo: float = 1.0) -> Actions:
    """Rendered windows at a tempo, the same physical time at each: (n, 1, 16 τ, 60, 80). For training they are twice as
    long, so that a window can be cut out anywhere."""
    frames = FRAMES * (1 + (split == "train"))
    repetitions = (1, 2, 3, 4) if split == "train" else TEST_REPETITIONS
    return Actions(split, frames=round(frames * tempo), tempo=tempo, repetitions=repetitions)


def as_input(clips: Tensor) -> Tensor:
    """uint8 (n, 1, T, H, W) → floats of mean 0 and deviation 1 over each clip, so that neither the light nor the clothes
    decide. [ours] Repeating frames changes neither number."""
    x = clips.float()
    over = (1, 2, 3, 4)
    return (x - x.mean(over, keepdim=True)) / x.std(over, correction=0, keepdim=True).clamp_min(1.0)


def at_tempo(model: KTHNet, tempo: float, way: str) -> AbstractContextManager:
    """A trained network made to meet clips of tempo τ, within a `with` block.

    - `"plain"`: as it was trained.
    - `"dilated"`: all temporal filters dilated by τ, the paper's way; by the nearest whole number, at least 1.
    - `"exact"`: conv1 and conv2 dilated by that number, and pool2 joining so many times more frames. [ours]
    - `"interpolated"`: all temporal filters stretched by τ itself, which needs no whole number. [ours]
    """
    if way not in WAYS:
        raise ValueError(f"way={way!r}; choose one of {', '.join(map(repr, WAYS))}")
    whole = max(1, round(tempo))
    if way == "plain":
        return nullcontext(model)
    if way == "interpolated":
        return model.stretch(tempo)
    return model.dilate(whole, exact=way == "exact")


@torch.no_grad()
def features(model: KTHNet, clips: Tensor) -> Tensor:
    """The representation of uint8 clips (n, 1, T, H, W): (n, 64)."""
    return torch.cat([model.features(as_input(part)) for part in clips.split(8)])


def accuracy(model: KTHNet, representation: Tensor, label: Tensor) -> float:
    """The share of clips whose class the network finds from their representation."""
    return (model.fc(representation).argmax(1) == label).float().mean().item()


def relative_change(representation: Tensor, reference: Tensor) -> float:
    """‖f - f₁‖ / ‖f₁‖, the mean over clips; the reference is the representation of the same clips at tempo 1."""
    return ((representation - reference).norm(dim=1) / reference.norm(dim=1)).mean().item()


def neighbours_kept(representation: Tensor, reference: Tensor, count: int = 10) -> float:
    """How much of a clip's neighbourhood survives a change: among the reference points of all *other* clips, the share of
    the `count` nearest ones that is common to a clip's representation and to its own reference. 1 is all; by chance it is
    count / (n - 1)."""
    distance = torch.cdist(torch.stack([representation, reference]), reference[None].expand(2, -1, -1))
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    moved, before = distance.topk(count, largest=False).indices
    return (moved[:, :, None] == before[:, None, :]).any(2).float().mean().item()


def guess_tempo(model: KTHNet, clips: Tensor, dilations: tuple[int, ...] = (1, 2, 3), way: str = "dilated") -> Tensor:
    """Which dilation suits each clip: the one at which the network is surest of any class. [ours]

    uint8 (n, 1, T, H, W) → (n,), values of `dilations`.
    """
    sure = []
    for dilation in dilations:
        with at_tempo(model, dilation, way), torch.no_grad():
            sure.append(model.fc(features(model, clips)).softmax(1).amax(1))
    return torch.tensor(dilations)[torch.stack(sure).argmax(0)]


def motion_period(clips: Tensor, shortest: int = 4) -> Tensor:
    """The period of the motion in each clip, in frames. [ours]

    The first peak of the autocorrelation of the change from frame to frame that comes near the highest, as two periods
    correlate like one. It looks at lags from `shortest` to half the clip; a clip that shows less than two periods
    misleads it.

    uint8 (n, 1, T, H, W) → (n,) int64.
    """
    x = as_input(clips)[:, 0].flatten(2)
    change = x.diff(dim=1)
    lags = range(shortest, (change.shape[1] + 1) // 2 + 1)
    if not lags:
        raise ValueError(
            f"clips of {clips.shape[2]} frames are too short for periods of {shortest}; give {2 * shortest} or more"
        )
    score = [F.cosine_similarity(change[:, lag:].flatten(1), change[:, :-lag].flatten(1)) for lag in lags]
    score = F.pad(torch.stack(score), (0, 0, 1, 1), value=-1)
    peak = (score[1:-1] >= score[:-2]) & (score[1:-1] >= score[2:]) & (score[1:-1] >= 0.9 * score.amax(0))
    return peak.int().argmax(0) + shortest


def kept(kind: str, seed: int = 0) -> Run:
    """The kept run of a family; its weights are kept at half the size, and what is measured is what is kept."""
    return _run(f"{kind}-seed{seed}")


def training_loss(kind: str, seed: int = 0) -> float:
    """What a kept run ended with."""
    return kept(kind, seed).metrics[-1]["train_loss"]


def care_losses() -> dict[int, float]:
    """The training loss that the `care` run of so many epochs ended with."""
    return {epochs: training_loss(f"care-stdcf-{epochs}", CARE_SEED) for epochs in CARE_EPOCHS}


def _run(name: str) -> Run:
    return Run(runs_folder() / "tempo" / name, dtype=torch.float16)


def trained(kind: str, seed: int = 0) -> KTHNet:
    """The network that a kept run ended with."""
    model = KTHNet(kind.removesuffix("-early"))
    model.load_state_dict(kept(kind, seed).weights)
    return model.eval()


def measured(kind: str, seed: int = 0, what: str = "tempo") -> dict[str, Any]:
    """What was found out about a kept run: the result of `measure`, or `what="actions"` or `"guesses"` of its like."""
    return json.loads((kept(kind, seed).folder / f"{what}.json").read_text())


def kept_features(kind: str = "stdcf", seed: int = 0, what: str = "features") -> dict[str, np.ndarray]:
    """The arrays of `feature_grid`, or with `what="real"` of `real_features`, of a kept run."""
    with np.load(kept(kind, seed).folder / f"{what}.npz") as arrays:
        return {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()}


def fit(
    model: KTHNet,
    epochs: int,
    *,
    seed: int = 0,
    data: Actions | None = None,
    run: Run | None = None,
    precision: torch.dtype = torch.bfloat16,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a network on rendered actions at tempo 1: cross-entropy, Adam, a learning rate that falls
    from 3e-3 along a half cosine, a window from anywhere in each clip.

    Args:
        model: trained in place.
        epochs: passes over the clips, one window each.
        seed: of the order of the clips and of the windows.
        data: `rendered("train")` by default.
        run: where to keep it; resumes from there.
        precision: bfloat16, as the kept runs have it, is twice as fast on a CPU that multiplies it by itself and no slower to
            learn; on one that does not it is many times slower than float32.
        progress: show a bar.

    Returns:
        The metrics of `stdcf_lib.train.train`.
    """
    data = rendered("train") if data is None else data
    order = shuffled(len(data), BATCH_SIZE, seed)
    room = data.clips.shape[2] - FRAMES
    steps_an_epoch = math.ceil(len(data) / BATCH_SIZE)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        start = np.random.default_rng([seed, epoch]).integers(0, room + 1, len(data))
        for index in order(epoch):
            windows = [data.clips[i, :, start[i] : start[i] + FRAMES] for i in index.tolist()]
            yield as_input(torch.stack(windows)), data.action[index]

    def share(step: int) -> float:
        """A half cosine, a step for each epoch, after a gentle first one."""
        epoch = step // steps_an_epoch
        return 1 / 3 if epoch == 0 else (1 + math.cos(math.pi * epoch / epochs)) / 2

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        clips, label = batch
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = model(clips.contiguous(memory_format=torch.channels_last_3d))
        return F.cross_entropy(logits.float(), label)

    model.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    return train(model, batches, loss, Optimization(optimizer, rate), epochs, run=run, progress=progress)


def measure(model: KTHNet, split: str = "test") -> dict[str, dict[str, dict[str, float]]]:
    """Meet every tempo in every way, on rendered clips: way → tempo → `accuracy`, `change`, `neighbours` (to tempo 1)."""
    label = rendered(split).action
    reference = features(model, rendered(split).clips)
    found = {way: {} for way in WAYS}
    for tempo in TEMPI:
        clips = rendered(split, tempo).clips
        for way in WAYS:
            with at_tempo(model, tempo, way):
                representation = features(model, clips)
            found[way][str(tempo)] = {
                "accuracy": accuracy(model, representation, label),
                "change": relative_change(representation, reference),
                "neighbours": neighbours_kept(representation, reference),
            }
    return found


@torch.no_grad()
def projected(model: KTHNet, dimensions: int = 3) -> Change:
    """Leave the filters of each layer only so many dimensions along time, those that keep most of their squares. [ours]

    That is what the temporal atoms of an STDCF layer leave: all that its filters do in time is spanned by N sequences.

    Returns:
        The change, to `undo()` or to use in a `with` block.
    """
    fewer = []
    for taps in model.temporal_filters:
        in_time = taps.movedim(min(2, taps.dim() - 1), 0)  # time is axis 2 of a weight, and axis 1 of φ
        basis = torch.linalg.svd(in_time.flatten(1), full_matrices=False).U[:, :dimensions]
        kept_part = (basis @ (basis.T @ in_time.flatten(1))).reshape(in_time.shape)
        fewer.append(nn.Parameter(kept_part.movedim(0, min(2, taps.dim() - 1)).contiguous()))
    change = Change(model, temporal_filters=model.temporal_filters)
    model.temporal_filters = fewer
    return change


def measure_projected(model: KTHNet) -> dict[str, dict[str, float]]:
    """The test accuracy of a network as trained, and with three dimensions along time a layer (`projected`), at τ = 1 and,
    interpolated, at τ = ½: "as trained" and "projected" → tempo → accuracy. On rendered clips."""
    found: dict[str, dict[str, float]] = {}
    for name in ("as trained", "projected"):
        with projected(model) if name == "projected" else nullcontext():
            found[name] = {}
            for tempo in (1.0, 0.5):
                data = rendered("test", tempo)
                with at_tempo(model, tempo, "interpolated"):
                    found[name][str(tempo)] = accuracy(model, features(model, data.clips), data.action)
    return found


def measure_repeated(model: KTHNet) -> dict[str, float]:
    """How far the representation of rendered test clips moves when every frame is shown twice, by each way to meet it."""
    clips, found = rendered("test").clips, {}
    reference = features(model, clips)
    for way in ("plain", "dilated", "exact"):
        with at_tempo(model, 2.0, way):
            found[way] = relative_change(features(model, clips.repeat_interleave(2, dim=2)), reference)
    return found


def measure_actions(model: KTHNet) -> dict[str, Any]:
    """At tempo 1, on rendered clips: `splits`, the accuracy on each split, and `confusion` of the test split, how many clips
    of each action (rows) were taken for each (columns)."""
    splits = {}
    confusion = torch.zeros(len(ACTIONS), len(ACTIONS), dtype=torch.int64)
    for split in SPLITS:
        data = Actions(split, repetitions=TEST_REPETITIONS)
        with torch.no_grad():
            answers = model.fc(features(model, data.clips)).argmax(1)
        splits[split] = (answers == data.action).float().mean().item()
        if split == "test":
            confusion.index_put_((data.action, answers), torch.tensor(1), accumulate=True)
    return {"splits": splits, "confusion": confusion.tolist()}


DILATIONS = (1, 2, 3)


def measure_guesses(model: KTHNet) -> dict[str, dict[str, dict[str, float]]]:
    """Let the dilation be chosen clip by clip, on rendered clips: tempo → who chooses → `accuracy`, and `right`, the share
    of clips for which the choice is the tempo.

    The choosers are `"nobody"`, `"confidence"` (`guess_tempo`), `"period"` (`motion_period` of a clip twice as long,
    which must show two periods, by the median period of the training clips) and `"oracle"`, who knows.
    """
    usual = motion_period(rendered("train").clips).float().median()
    found = {}
    for tempo in map(float, DILATIONS):
        data = Actions("test", frames=round(2 * FRAMES * tempo), tempo=tempo, repetitions=TEST_REPETITIONS[:1])
        quarter = data.clips.shape[2] // 4
        logits = []
        for dilation in DILATIONS:
            with at_tempo(model, dilation, "dilated"), torch.no_grad():
                logits.append(model.fc(features(model, data.clips[:, :, quarter : 3 * quarter])))
        logits = torch.stack(logits)
        choices = {
            "nobody": torch.ones(len(data), dtype=torch.int64),
            "confidence": logits.softmax(2).amax(2).argmax(0) + 1,
            "period": (motion_period(data.clips) / usual).round().long().clamp(DILATIONS[0], DILATIONS[-1]),
            "oracle": torch.full((len(data),), int(tempo)),
        }
        found[str(tempo)] = {
            who: {
                "accuracy": (logits[choice - 1, range(len(data))].argmax(1) == data.action).float().mean().item(),
                "right": (choice == int(tempo)).float().mean().item(),
            }
            for who, choice in choices.items()
        }
    return found


GRID_TEMPI = (1.0, 1.5, 2.0, 3.0)


def feature_grid(model: KTHNet) -> dict[str, np.ndarray]:
    """The representation of rendered test clips, outdoors and indoors, under every dilation from 1 to 3 of every layer.

    `features` float16 (tempi, 3, 3, 3, n, 64), tempi as in `GRID_TEMPI`; `action` and `subject` (n,).
    """
    grid, same = [], {}
    for tempo in GRID_TEMPI:
        data = Actions("test", frames=round(FRAMES * tempo), tempo=tempo, scenarios=(1, 4), repetitions=TEST_REPETITIONS[:1])
        for timing in product(DILATIONS, repeat=3):
            change = model.retime(*timing)
            grid.append(features(model, data.clips).half().numpy())
            change.undo()
        same = {"action": data.action.numpy(), "subject": data.subject.numpy()}  # at every tempo
    shape = (len(GRID_TEMPI), *(len(DILATIONS),) * 3, *grid[0].shape)
    return {"features": np.stack(grid).reshape(shape), **same}


REAL = {"1, plain": (1, "plain"), "2, plain": (2, "plain"), "2, dilated": (2, "dilated"), "2, exact": (2, "exact")}


def real_features(model: KTHNet, folder: Path) -> dict[str, np.ndarray]:
    """The representation of windows of real KTH clips, all subjects', as they are and at half the tempo: float16 (n, 64) under
    the names of `REAL`; `action` (n,), and `clip`, the name of the clip that a window is of."""
    arrays, same = {}, {}
    for name, (tempo, way) in REAL.items():
        data = KTH(folder, None, frames=FRAMES * tempo, stride=2 // tempo, on_bad="skip")
        clips = torch.stack([(data[i] * 255).round().to(torch.uint8) for i in range(len(data))])
        with at_tempo(model, tempo, way):
            arrays[name] = features(model, clips).half().numpy()
        same = {"action": data.action.numpy(), "clip": np.array(data.clip)}  # in every window, at either tempo
    return arrays | same


def real_periods(_: KTHNet, folder: Path) -> dict[str, dict[str, float]]:
    """How well the period of the motion tells the tempo of windows of real KTH clips, as in `measure_guesses`: tempo → `right`,
    the share of windows for which it says the tempo, and `windows`, how many there are. The network has no part in it."""
    usual = motion_period(rendered("train").clips).float().median()
    found = {}
    for tempo in (1, 2):
        data = KTH(folder, None, frames=2 * FRAMES * tempo, stride=2 // tempo, on_bad="skip")
        clips = torch.stack([(data[i] * 255).round().to(torch.uint8) for i in range(len(data))])
        said = (motion_period(clips) / usual).round().clamp(DILATIONS[0], DILATIONS[-1])
        found[str(float(tempo))] = {"right": (said == tempo).float().mean().item(), "windows": len(said)}
    return found


@dataclass(frozen=True)
class Trial:
    """A network to train; `care` says that it chooses a number of epochs, and is measured no further."""

    kind: str
    seed: int
    epochs: int = EPOCHS
    care: bool = False


def trials() -> dict[str, Trial]:
    """Name of each kept run → its trial, those that others wait for first."""
    care = {f"care-stdcf-{epochs}-seed{CARE_SEED}": Trial("stdcf", CARE_SEED, epochs, care=True) for epochs in CARE_EPOCHS}
    results = {f"{kind}-seed{seed}": Trial(kind, seed) for seed in SEEDS for kind in KINDS}
    early = {f"stdcf-early-seed{seed}": Trial("stdcf", seed, EARLY_EPOCHS) for seed in SEEDS}
    return care | results | early


def minutes_missing(name: str) -> float:
    """How long a trial still takes, at most; 0 for one that is trained and measured."""
    return 0.0 if _run(name).finished and not missing(name) else MINUTES


def run_trial(name: str) -> str:
    """Train and measure one of `trials()` and keep what is found; does nothing for what is there."""
    trial, run = trials()[name], _run(name)
    if not run.finished:
        data = rendered("train")
        run.start({
            "kind": trial.kind, "seed": trial.seed, "epochs": trial.epochs, "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE, "clips": digest(data.clips),
        })  # fmt: skip
        torch.manual_seed(trial.seed)
        fit(KTHNet(trial.kind), trial.epochs, seed=trial.seed, run=run, progress=False)
    if trial.care:
        run.forget_weights()
        return f"{name}: training loss {run.metrics[-1]['train_loss']:.3f}"
    kind = name.removesuffix(f"-seed{trial.seed}")
    for file, find in missing(name).items():
        found = find(trained(kind, trial.seed))
        if file.endswith(".json"):
            content = (json.dumps(found, indent=1) + "\n").encode()
        else:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **found)
            content = buffer.getvalue()
        run.keep(file, content)
    return f"{name}: test accuracy {measured(kind, trial.seed)['plain']['1.0']['accuracy']:.3f}"


def missing(name: str) -> dict[str, Callable[[KTHNet], dict[str, Any]]]:
    """The files still to be made beside a run, and what finds their content. Real clips are measured where there are some."""
    trial = trials()[name]
    if trial.care:
        return {}
    wanted: dict[str, Callable[[KTHNet], dict[str, Any]]] = {"tempo.json": measure}
    if trial.epochs == EPOCHS:
        wanted |= {"actions.json": measure_actions, "repeated.json": measure_repeated, "projected.json": measure_projected}
        if trial.kind == "stdcf":
            wanted["guesses.json"] = measure_guesses
            if trial.seed == 0:
                wanted["features.npz"] = feature_grid
        if folder := real_folder():
            wanted["real.npz"] = partial(real_features, folder=folder)
            if (trial.kind, trial.seed) == ("stdcf", 0):
                wanted["periods.json"] = partial(real_periods, folder=folder)
    return {file: find for file, find in wanted.items() if not (_run(name).folder / file).exists()}


def real_folder() -> Path | None:
    """Where the user's own KTH is, `$STDCF_DATA/kth`; None if it is not there."""
    folder = Path(os.environ.get("STDCF_DATA", ""), "kth")
    return folder if "STDCF_DATA" in os.environ and (folder / "00sequences.txt").exists() else None
