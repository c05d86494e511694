"""What conversion costs a trained network, and what a short training brings back.

The full 3D networks of the reconstruction experiment are converted to half of their parameters, and then trained for a short
while, in three ways. `python -m stdcf_lib.experiments recovery` trains what `runs/recovery/` keeps and is not there yet.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.recovery import distill, fine_tune
from stdcf_lib.data import TRMNIST
from stdcf_lib.experiments import reconstruction
from stdcf_lib.fold import FoldedTime
from stdcf_lib.runs import Run, digest, runs_folder

SHARE = 0.5  # of the network's parameters that its conversion leaves
EPOCHS, BATCH_SIZE = 2, reconstruction.BATCH_SIZE
SEEDS = range(3)
MINUTES = 0.3  # a trial, one thread on an idle core of an AMD EPYC

WAYS = {
    "converted": "converted",
    "distilled": "recovered by distillation",
    "tuned": "recovered by fine-tuning",
    "scratch": "from scratch, as long",
}
"""What becomes of a network, in words. `"distilled"` learns the answers of the network that it was, `"tuned"` the task itself,
and so does `"scratch"`, which has the same layers and atoms, all drawn anew."""

# One rate for all, the best of three for a seed that no result uses, by validation digits, distilled.
CARE_RATES, CARE_SEED = (3e-4, 1e-3, 3e-3), 4
RATE = 3e-3


@dataclass(frozen=True)
class Trial:
    """A way to treat the network of a seed; `care` says that it chooses the rate."""

    way: str
    seed: int
    rate: float = RATE
    care: bool = False


def trials() -> dict[str, Trial]:
    """Name of each kept run → its trial, those that others wait for first."""
    care = {f"care-distilled-{rate:g}-seed{CARE_SEED}": Trial("distilled", CARE_SEED, rate, care=True) for rate in CARE_RATES}
    return care | {f"{way}-seed{seed}": Trial(way, seed) for seed in SEEDS for way in WAYS}


def kept(way: str, seed: int = 0) -> Run:
    """The kept run of a way."""
    return _run(f"{way}-seed{seed}")


def scores(way: str) -> list[float]:
    """The test error of each seed: of `WAYS`, or `"before"` the conversion."""
    if way == "before":
        return [reconstruction.kept("full", seed).metrics[-1]["test_mse"] for seed in SEEDS]
    return [kept(way, seed).metrics[-1]["test_mse"] for seed in SEEDS]


def care_scores() -> dict[float, float]:
    """The validation error that each rate ended with."""
    return {rate: _run(f"care-distilled-{rate:g}-seed{CARE_SEED}").metrics[-1]["test_mse"] for rate in CARE_RATES}


def _run(trial: str) -> Run:
    return Run(runs_folder() / "recovery" / trial)


def converted(seed: int = 0) -> nn.Module:
    """The trained full 3D network of a seed with half of its parameters, untrained since."""
    return to_stdcf(reconstruction.trained("full", seed), parameters=SHARE)[0]


def trained(way: str, seed: int = 0) -> nn.Module:
    """The network that a kept run ended with."""
    model = converted(seed)
    model.load_state_dict(kept(way, seed).weights)
    return model.eval()


@cache
def clips() -> Tensor:
    """What is trained on, in the order that folded convolutions like; `reconstruction.as_input` takes a batch of it."""
    return reconstruction.frames_last(TRMNIST("train").clips)


def fit(trial: Trial, run: Run | None = None, progress: bool = True) -> list[dict[str, Any]]:
    """Convert the network of a trial and train it: the metrics of `stdcf_lib.train.train`, the last with `test_mse`."""
    model = converted(trial.seed)
    if trial.way == "scratch":
        torch.manual_seed(trial.seed)
        for layer in model.children():
            layer.reset_parameters()  # pyright: ignore[reportCallIssue] - of all three kinds of layers
    tested = reconstruction.validation_clips() if trial.care else TRMNIST("test").clips

    def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
        return {"test_mse": reconstruction.errors(model, tested).mean().item()} if epoch == EPOCHS else {}

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        x = reconstruction.as_input(batch)
        return F.mse_loss(model(x), x)

    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "rate": trial.rate, "seed": trial.seed, "evaluate": evaluate}
    options |= {"run": run, "progress": progress}
    with FoldedTime():
        if trial.way == "distilled":
            teacher = reconstruction.trained("full", trial.seed)
            return distill(model, teacher, clips(), EPOCHS, prepare=reconstruction.as_input, **options)
        return fine_tune(model, clips(), loss, EPOCHS, **options)


def run_trial(name: str) -> str:
    """Train and test one of `trials()` and keep what is found; does nothing for what is there."""
    trial, run = trials()[name], _run(name)
    if not run.finished:
        about: dict[str, Any] = {"way": trial.way, "share": SHARE, "seed": trial.seed}
        if trial.way != "converted":
            about |= {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate": trial.rate}
        run.start(about | {"clips": digest(TRMNIST("train").clips)})
        if trial.way == "converted":
            model = converted(trial.seed)
            error = reconstruction.errors(model, TRMNIST("test").clips).mean().item()
            run.finish(model, [{"epoch": 0, "test_mse": error}])
        else:
            fit(trial, run, progress=False)
        if trial.care:
            run.forget_weights()
    return f"{name}: test MSE {run.metrics[-1]['test_mse']:.5f}"


def minutes_missing(name: str) -> float:
    """How long a trial still takes, at most; 0 for one that is finished."""
    return 0.0 if _run(name).finished else MINUTES
