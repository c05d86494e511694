"""Real video: small networks learn UT-Interaction, by families and by plans, and meet its clips at other tempi.

`python -m stdcf_lib.experiments interactions` trains what `runs/interactions/` keeps and is not there yet. It needs the clips:
`$STDCF_DATA/ut_interaction`, the `segmented_set1` of UT-Interaction (Ryoo and Aggarwal, 2009). Kept are answers and weights.
`python -m stdcf_lib.experiments.interactions` measures what the clips' boxes and lengths alone give away.
"""

import io
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.data.interactions import INTERACTIONS, Interactions, shown, window
from stdcf_lib.experiments.plans import Plan, direct, itsl
from stdcf_lib.itsl import Stage, run
from stdcf_lib.models import SmallVideoNet
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.runs import Run, digest, runs_folder

# [ours] A window is 2.1 seconds of the 30 frames a second; how long a clip is gives away much of its label, and is not shown.
FRAMES, STRIDE, SIZE, JITTER = 16, 4, 56, 12
FOLDS = range(1, 11)
"""The recordings; each is left out once."""

# Passes over 54 clips in batches of 6, seen to be enough in a first look at other seeds.
BUDGET, BATCH_SIZE, WEIGHT_DECAY = 60.0, 6, 1e-2
REPEATS = 5  # of the clips in what the training counts as an epoch, as it is evaluated after each
FULL = Stage("full", FRAMES, SIZE)
# A rate for each contestant is chosen by the negative log-likelihood of the odd folds, with a seed that no result uses.
CARE_RATES, CARE_SEED, CARE_FOLDS = (1e-3, 3e-3, 1e-2), 100, range(1, 11, 2)
MINUTES = 6  # for the ten folds of a contestant, one thread on an idle core of an AMD EPYC

TEMPI = (1, 2, 4)
"""How many times slower a clip is shown: the same time, in so many times the frames."""


@dataclass(frozen=True)
class Contestant:
    """A family of filters and a plan to train it by, with how many different frames it is shown. `title` is for figures."""

    title: str
    kind: str
    plan: Plan
    frames: int = FRAMES


# All STDCF, at the compute of "stdcf" but for one. ITSL makes twice its updates: so does a batch of 3, at full size. And it
# took 1.6 times as long in a first look, which the results' own seconds will tell better: so much more compute has one of them.
PLANS = {
    "stdcf": direct("full size, same compute", FULL, BUDGET, BATCH_SIZE),
    "direct-updates": direct("full size, as many updates", FULL, BUDGET, 3),
    "direct-seconds": direct("full size, as many seconds", FULL, 1.6 * BUDGET, BATCH_SIZE),
    "itsl-resample": itsl("ITSL, atoms resampled", FULL, BUDGET, BATCH_SIZE),
    "itsl": itsl("ITSL, atoms kept", FULL, BUDGET, BATCH_SIZE, "keep"),
    "unfrozen-restored": itsl("nothing frozen, φ restored", FULL, BUDGET, BATCH_SIZE, "restore", "nothing"),
}
TITLES = {"full": "full 3D", "rank1": "rank-1", "stdcf": "STDCF"}
FAMILIES = {kind: Contestant(TITLES[kind], kind, PLANS["stdcf"]) for kind in KINDS}
# What a network knows that sees no motion at all: the middle frame of the same windows, for as long as a window lasts. So it is
# the same network at the same cost.
ONE_FRAME = Contestant("one frame", "full", direct("one frame", FULL, BUDGET, BATCH_SIZE), frames=1)
CONTESTANTS = FAMILIES | {name: Contestant(plan.title, "stdcf", plan) for name, plan in PLANS.items() if name != "stdcf"}
CONTESTANTS["one-frame"] = ONE_FRAME
# The lowest negative log-likelihood of the `care` runs.
CHOSEN = {
    "full": 1e-2, "rank1": 3e-3, "stdcf": 1e-2, "direct-updates": 1e-2, "direct-seconds": 1e-2, "itsl-resample": 3e-3,
    "itsl": 1e-2, "unfrozen-restored": 1e-2, "one-frame": 1e-2,
}  # fmt: skip
SEEDS = range(3)


def network(kind: str, seed: int = 0) -> SmallVideoNet:
    """The network as it is before training."""
    torch.manual_seed(seed)
    return SmallVideoNet(kind, len(INTERACTIONS), strides=(2, 2, 2, 2))


def folder() -> Path:
    """Where the user's own UT-Interaction is, or would be: `$STDCF_DATA/ut_interaction`."""
    return Path(os.environ.get("STDCF_DATA", "data"), "ut_interaction")


@cache
def clips() -> Interactions:
    """The clips of `folder()`. Raises FileNotFoundError if there are none."""
    return Interactions(folder())


class Windows:
    """Windows of some clips, for training: shifted in time by up to `JITTER` frames, cut out and mirrored at random."""

    def __init__(self, numbers: Sequence[int], frames: int = FRAMES):
        self.numbers, self.frames = [number for _ in range(REPEATS) for number in numbers], frames

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        data, number = clips(), self.numbers[index]
        clip = data.clips[number]
        shift = random.uniform(-JITTER, JITTER)
        top, left = random.randint(0, clip.shape[1] - SIZE), random.randint(-6, 6) + (clip.shape[2] - SIZE) // 2
        cut = clip[:, top : top + SIZE, left : left + SIZE]
        cut = cut.flip(2) if random.random() < 0.5 else cut
        return _shown(cut, window(len(clip), self.frames, STRIDE, shift))[0], int(data.interaction[number])


class Middles:
    """The window in the middle of each of some clips."""

    def __init__(self, numbers: Sequence[int], frames: int = FRAMES):
        self.numbers, self.frames = list(numbers), frames

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = self.numbers[index]
        return views([number], frames=self.frames)[2], int(clips().interaction[number])


def views(numbers: Sequence[int], slower: int = 1, frames: int = FRAMES) -> Tensor:
    """The six views of each clip by which it is judged, three windows in time and their mirror images: (6·n, 1, T, S, S).

    Args:
        numbers: of the clips.
        slower: how many times slower they are shown, 1, 2 or 4: the same time, in so many times the frames.
        frames: of a view at the usual tempo.
    """
    found = []
    for number in numbers:
        clip = clips().clips[number]
        top, left = (clip.shape[1] - SIZE) // 2, (clip.shape[2] - SIZE) // 2
        cut = clip[:, top : top + SIZE, left : left + SIZE]
        for shift in (-JITTER, 0, JITTER):
            index = window(len(clip), slower * (frames - 1) + 1, STRIDE // slower, shift)
            found += [_shown(cut, index), _shown(cut.flip(2), index)]
    return torch.cat(found)


def _shown(clip: Tensor, index: np.ndarray) -> Tensor:
    """A window of a clip, for a network: (1, 1, T, S, S); a single frame for as long as a window lasts."""
    x = shown([clip], [index])
    return x.expand(-1, -1, FRAMES, -1, -1) if len(index) == 1 else x


@torch.no_grad()
def answers(model: nn.Module, numbers: Sequence[int], slower: int = 1, frames: int = FRAMES) -> Tensor:
    """The mean softmax over the views of each clip: (n, 6)."""
    x = views(numbers, slower, frames).to(memory_format=torch.channels_last_3d)
    return model.eval()(x).softmax(1).unflatten(0, (len(numbers), 6)).mean(1)


def fit(contestant: Contestant, rate: float, seed: int, fold: int) -> tuple[SmallVideoNet, list[dict[str, Any]]]:
    """Train on all recordings but one: the network, and the metrics of `itsl.run`."""
    numbers = torch.arange(len(clips()))
    left_out = clips().sequence == fold
    model = network(contestant.kind, 100 * seed + fold)
    stages = contestant.plan.longer(1 / REPEATS).timed(model)
    with tempfile.TemporaryDirectory() as scratch:
        rows = run(
            model,
            stages,
            lambda stage: (
                Windows(numbers[~left_out].tolist(), contestant.frames),
                Middles(numbers[left_out].tolist(), contestant.frames),
            ),
            scratch,
            contestant.plan.recipe(rate, 100 * seed + fold, WEIGHT_DECAY),
            accelerator=Accelerator(cpu=True, mixed_precision="bf16"),
            save_minutes=60,
            log_every=None,
            progress=False,
        )
    return model, rows


def kept(name: str, seed: int = 0) -> Run:
    """The kept run of a contestant, ten folds in one; weights at half the size, under `fold{k}.` each."""
    return Run(runs_folder() / "interactions" / f"{name}-seed{seed}", dtype=torch.float16)


def kept_answers(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """What a kept contestant answered about each of the clips, by the network that had not seen its recording: (60, 6) under
    "1", and slower, as it was trained, "2" and "4", and dilated, "2, dilated" and "4, dilated"; and the `label` (60,)."""
    with np.load(kept(name, seed).folder / "answers.npz") as arrays:
        return {key: array.astype(np.float32) if array.dtype == np.float16 else array for key, array in arrays.items()}


def by_recording(name: str, what: str = "accuracy", way: str = "1") -> list[float]:
    """What a kept contestant answered about the clips of each recording, in their order, as a mean over the seeds.

    Args:
        name: of `CONTESTANTS`.
        what: "accuracy" or "nll", the negative log-likelihood of the true interaction.
        way: a key of `kept_answers`.
    """
    found = []
    for seed in SEEDS:
        arrays = kept_answers(name, seed)
        chances, label, sequence = (torch.from_numpy(arrays[key]) for key in (way, "label", "sequence"))
        right = (chances.argmax(1) == label).float()
        score = {"accuracy": right, "nll": F.nll_loss(chances.clamp_min(1e-6).log(), label, reduction="none")}[what]
        found.append([score[sequence == fold].mean().item() for fold in FOLDS])
    return np.mean(found, axis=0).tolist()


def box_accuracy() -> float:
    """The kept share of clips that boxes and lengths alone give away."""
    return json.loads((runs_folder() / "interactions" / "box.json").read_text(encoding="utf-8"))["accuracy"]


@dataclass(frozen=True)
class Trial:
    """A contestant to train; `care` says that it chooses a rate, on folds and with a seed that no result uses."""

    name: str
    rate: float
    seed: int
    care: bool = False

    @property
    def folds(self) -> range:
        return CARE_FOLDS if self.care else FOLDS


def trials() -> dict[str, Trial]:
    """Name of each kept run → its trial."""
    care = {
        f"care-{name}-{rate:g}-seed{CARE_SEED}": Trial(name, rate, CARE_SEED, care=True)
        for name in CONTESTANTS
        for rate in CARE_RATES
    }
    return care | {f"{name}-seed{s}": Trial(name, CHOSEN[name], s) for s in SEEDS for name in CONTESTANTS}


def run_trial(name: str) -> str:
    """Train the folds of one of `trials()` that are missing and keep them; does nothing if it is finished."""
    trial = trials()[name]
    part = kept(*_parts(name))
    if not part.finished:
        data = clips()
        contestant = CONTESTANTS[trial.name]
        with part.held():
            part.start({
                "title": contestant.title, "kind": contestant.kind, "rate": trial.rate, "seed": trial.seed,
                "folds": list(trial.folds), "epochs": BUDGET, "batch_size": contestant.plan.batch_size,
                "stages": [asdict(stage) for stage in contestant.plan.stages], "swap": contestant.plan.swap,
                "clips": digest(torch.cat([clip.flatten() for clip in data.clips])[:, None]),
            })  # fmt: skip
            state, rows = part.restore() or ({"answers": {}, "models": {}}, [])
            for fold in trial.folds[len(rows) :]:
                model, stages = fit(contestant, trial.rate, trial.seed, fold)
                numbers = torch.arange(len(data))[data.sequence == fold].tolist()
                label = data.interaction[numbers]
                for slower in TEMPI[:1] if trial.care or contestant.frames == 1 else TEMPI:
                    state["answers"][f"{fold}, {slower}"] = answers(model, numbers, slower, contestant.frames)
                    if slower > 1 and contestant.plan is PLANS["stdcf"]:
                        with model.dilate(slower):
                            state["answers"][f"{fold}, {slower}, dilated"] = answers(model, numbers, slower)
                chances = state["answers"][f"{fold}, 1"]
                rows.append({
                    "fold": fold, "accuracy": (chances.argmax(1) == label).float().mean().item(),
                    "nll": F.nll_loss(chances.clamp_min(1e-6).log(), label).item(),
                    "seconds": fsum(row["seconds"] for row in stages),
                    "updates": sum(row["steps"] for row in stages if "steps" in row),
                    "macs": sum(row["macs"] for row in stages if "macs" in row),
                })  # fmt: skip
                state["models"] |= {f"fold{fold}.{key}": value for key, value in model.state_dict().items()}
                part.save(state, rows)
            part.keep("answers.npz", _joined(state["answers"], trial.folds, data))
            holder = _Holder(state["models"])
            part.finish(holder, rows)
            if trial.care or trial.name not in FAMILIES or trial.seed:
                part.forget_weights()  # answers are kept of all, weights of one network of each family and fold
    found = part.metrics
    accuracy, nll = (fsum(row[key] for row in found) / len(found) for key in ("accuracy", "nll"))
    return f"{name}: accuracy {accuracy:.3f}, NLL {nll:.3f} in {fsum(row['seconds'] for row in found):.0f} s"


class _Holder(nn.Module):
    """What `Run.finish` takes the weights from: the networks of all folds."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        self.state = state

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        return self.state


def _joined(found: dict[str, Tensor], folds: Sequence[int], data: Interactions) -> bytes:
    """The answers of all folds, in the order of the clips, as an npz."""
    chosen = torch.isin(data.sequence, torch.tensor(folds))
    order = torch.cat([torch.arange(len(data))[data.sequence == fold] for fold in folds]).argsort()
    ways = [key.partition(", ")[2] for key in found if key.startswith(f"{folds[0]}, ")]
    arrays: dict[str, Any] = {way: torch.cat([found[f"{fold}, {way}"] for fold in folds])[order].half().numpy() for way in ways}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, label=data.interaction[chosen].numpy(), sequence=data.sequence[chosen].numpy(), **arrays)
    return buffer.getvalue()


def box_answers(data: Interactions) -> Tensor:
    """What one can say of each clip from the shape of its box and its length, without a pixel: (n,), by the five nearest
    clips of the other recordings. A network that is shown either has learned no motion by being as good as this."""
    # Here, as all that reads kept runs would otherwise wait a second for it.
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = torch.stack([data.aspect, torch.tensor([len(clip) for clip in data.clips])], 1).log().numpy()
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(5))
    folds = LeaveOneGroupOut()
    found = cross_val_predict(nearest, x, data.interaction.numpy(), groups=data.sequence.numpy(), cv=folds)
    return torch.from_numpy(found)


def main() -> None:
    right = (box_answers(clips()) == clips().interaction).float().mean().item()
    content = json.dumps({"accuracy": round(right, 4), "clips": len(clips())}, indent=1) + "\n"
    Run(runs_folder() / "interactions").keep("box.json", content.encode())
    print(content)


def minutes_missing(name: str) -> float:
    """How long a trial still takes, at most; 0 for one that is finished, and where the clips are not at hand."""
    return 0.0 if kept(*_parts(name)).finished or not folder().is_dir() else MINUTES * len(trials()[name].folds) / len(FOLDS)


def _parts(name: str) -> tuple[str, int]:
    contestant, seed = name.rsplit("-seed", 1)
    return contestant, int(seed)


if __name__ == "__main__":
    main()
