"""What conversion costs a trained network, and what a short training brings back.

The full 3D networks of the reconstruction experiment (TR-MNIST) and of the tempo experiment (rendered actions) are converted to
half of their parameters, and then trained for a short while, in three ways. `python -m stdcf_lib.experiments recovery` trains
what `runs/recovery/` keeps and is not there yet.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.recovery import Clips, distill, fine_tune
from stdcf_lib.data import TRMNIST
from stdcf_lib.data.actions import Actions
from stdcf_lib.experiments import reconstruction, tempo
from stdcf_lib.fold import FoldedTime
from stdcf_lib.runs import Run, digest, runs_folder

SHARE = 0.5  # of the network's parameters that its conversion leaves
EPOCHS = 2
SEEDS = range(3)

WAYS = {
    "converted": "converted",
    "distilled": "recovered by distillation",
    "tuned": "recovered by fine-tuning",
    "scratch": "from scratch, as long",
}
"""What becomes of a network, in words. `"distilled"` learns the answers of the network that it was, `"tuned"` the task itself,
and so does `"scratch"`, which has the same layers and atoms, all drawn anew."""

# Rates are chosen before there is a result, by clips that none uses; of equals the lowest. Share, epochs and these rates were
# set for the digits, and the actions took them over before any of their runs.
CARE_RATES = (3e-4, 1e-3, 3e-3)


class Task(ABC):
    """Trained full 3D networks, what they are recovered with, and how well they do."""

    title: str  # for figures, and the two below
    measure: str
    score: str  # the measure's name in the metrics
    best: Callable[..., float]  # of several scores: min or max
    batch_size: int
    care: ClassVar[dict[str, tuple[float, ...]]]  # the rates that are tried, for each way that they are tried in
    rates: ClassVar[dict[str, float]]  # what was chosen, for each way that trains
    care_seed: int  # of the network that rates are chosen on
    minutes: float  # a trial, one thread on an idle core of an AMD EPYC

    @abstractmethod
    def network(self, seed: int) -> nn.Module:
        """A trained network, as it was before conversion."""

    @abstractmethod
    def before(self, seed: int) -> float:
        """The score of that network on the test clips."""

    @abstractmethod
    def clips(self) -> Tensor:
        """What is trained on, without labels: uint8 (n, 1, T, H, W)."""

    @abstractmethod
    def samples(self) -> Clips:
        """The same clips with what the task itself asks for."""

    @abstractmethod
    def prepare(self, clips: Tensor) -> Tensor:
        """A batch of clips → the network's input."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Of the task itself, on a batch of `samples`."""

    @abstractmethod
    def test(self, model: nn.Module, care: bool) -> float:
        """The score on the test clips; or, to choose a rate, on others that are not trained on."""

    @abstractmethod
    def quickly(self) -> AbstractContextManager:
        """Within it, training is quick on a CPU."""


class Digits(Task):
    """Autoencoders of TR-MNIST, scored by their error. All ways have the best rate for distilling one more network."""

    title, measure, score, best = "TR-MNIST", "test error", "test_mse", min
    care_seed, batch_size, minutes = 4, reconstruction.BATCH_SIZE, 0.3
    care: ClassVar = {"distilled": CARE_RATES}
    rates: ClassVar = {"distilled": 3e-3, "tuned": 3e-3, "scratch": 3e-3}

    def network(self, seed: int) -> nn.Module:
        return reconstruction.trained("full", seed)

    def before(self, seed: int) -> float:
        return reconstruction.kept("full", seed).metrics[-1][self.score]

    def clips(self) -> Tensor:
        return TRMNIST("train").clips

    def samples(self) -> Clips:
        return self.clips()

    def prepare(self, clips: Tensor) -> Tensor:
        return reconstruction.as_input(reconstruction.frames_last(clips))

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        x = self.prepare(batch)
        return F.mse_loss(model(x), x)

    def test(self, model: nn.Module, care: bool) -> float:
        clips = reconstruction.validation_clips() if care else TRMNIST("test").clips
        return reconstruction.errors(model, clips).mean().item()

    def quickly(self) -> AbstractContextManager:
        return FoldedTime()


class RenderedActions(Task):
    """Networks that tell six actions apart, scored by their accuracy at tempo 1.

    Each training clip gives the window in its middle. All networks have results, so rates are chosen on one of them, by
    subjects that neither training nor test have. To distil, the lowest and the highest of the rates were level, so one more
    was tried beyond each, and the lowest of these is best, by a few clips. What is gentle enough for a trained network may be
    slow for a new one: from scratch has a rate of its own, chosen alike.
    """

    title, measure, score, best = "rendered actions", "test accuracy", "test_accuracy", max
    care_seed, batch_size, minutes = 0, tempo.BATCH_SIZE, 1.2
    care: ClassVar = {"distilled": (1e-4, *CARE_RATES, 1e-2), "scratch": (*CARE_RATES, 1e-2)}
    rates: ClassVar = {"distilled": 1e-4, "tuned": 1e-4, "scratch": 3e-3}

    def network(self, seed: int) -> nn.Module:
        return tempo.trained("full", seed)

    def before(self, seed: int) -> float:
        return tempo.measured("full", seed)["plain"]["1.0"]["accuracy"]

    def clips(self) -> Tensor:
        return tempo.rendered("train").clips[:, :, tempo.FRAMES // 2 :][:, :, : tempo.FRAMES]

    def samples(self) -> Clips:
        return TensorDataset(self.clips(), tempo.rendered("train").action)

    def prepare(self, clips: Tensor) -> Tensor:
        return tempo.as_input(clips).contiguous(memory_format=torch.channels_last_3d)

    def loss(self, model: nn.Module, batch: list[Tensor]) -> Tensor:
        clips, label = batch
        return F.cross_entropy(model(self.prepare(clips)).float(), label)

    def test(self, model: Any, care: bool) -> float:
        data = Actions("validation", repetitions=tempo.TEST_REPETITIONS) if care else tempo.rendered("test")
        with torch.autocast("cpu", enabled=False), torch.no_grad():
            return tempo.accuracy(model, tempo.features(model, data.clips), data.action)

    def quickly(self) -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)  # a cache would hold on to the first step's weights


TASKS: dict[str, Task] = {"digits": Digits(), "actions": RenderedActions()}


@dataclass(frozen=True)
class Trial:
    """A way to treat a task's network of a seed; `care` says that it chooses the rate."""

    task: str
    way: str
    seed: int
    rate: float
    care: bool = False

    @property
    def name(self) -> str:
        """Of the kept run."""
        task = "" if self.task == "digits" else f"{self.task}-"
        return f"{task}care-{self.way}-{self.rate:g}-seed{self.seed}" if self.care else f"{task}{self.way}-seed{self.seed}"


def trials() -> dict[str, Trial]:
    """Name of each kept run → its trial, those that others wait for first."""
    every = [_care(name, way, rate) for name, task in TASKS.items() for way, rates in task.care.items() for rate in rates]
    every += [_result(task, way, seed) for task in TASKS for seed in SEEDS for way in WAYS]
    return {trial.name: trial for trial in every}


def _care(task: str, way: str, rate: float) -> Trial:
    return Trial(task, way, TASKS[task].care_seed, rate, care=True)


def _result(task: str, way: str, seed: int) -> Trial:
    return Trial(task, way, seed, TASKS[task].rates.get(way, 0.0))


def kept(task: str, way: str, seed: int = 0) -> Run:
    """The kept run of a way."""
    return _run(_result(task, way, seed).name)


def scores(task: str, way: str) -> list[float]:
    """The test score of each seed: of `WAYS`, or `"before"` the conversion."""
    if way == "before":
        return [TASKS[task].before(seed) for seed in SEEDS]
    return [kept(task, way, seed).metrics[-1][TASKS[task].score] for seed in SEEDS]


def care_scores(task: str, way: str = "distilled") -> dict[float, float]:
    """The score that each rate ended with, on clips that no result uses."""
    return {rate: _run(_care(task, way, rate).name).metrics[-1][TASKS[task].score] for rate in TASKS[task].care[way]}


def _run(name: str) -> Run:
    return Run(runs_folder() / "recovery" / name)


def converted(task: str, seed: int = 0) -> nn.Module:
    """The trained full 3D network of a seed with half of its parameters, untrained since."""
    return to_stdcf(TASKS[task].network(seed), parameters=SHARE)[0]


def trained(task: str, way: str, seed: int = 0) -> nn.Module:
    """The network that a kept run ended with."""
    model = converted(task, seed)
    model.load_state_dict(kept(task, way, seed).weights)
    return model.eval()


def fit(trial: Trial, run: Run | None = None, progress: bool = True) -> list[dict[str, Any]]:
    """Convert the network of a trial and train it: the metrics of `stdcf_lib.train.train`, the last with the task's score."""
    task, model = TASKS[trial.task], converted(trial.task, trial.seed)
    if trial.way == "scratch":
        torch.manual_seed(trial.seed)
        for layer in model.children():
            if not isinstance(layer, nn.MaxPool3d):
                layer.reset_parameters()  # pyright: ignore[reportCallIssue] - of all kinds of layers that have weights

    def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
        return {task.score: task.test(model, trial.care)} if epoch == EPOCHS else {}

    options: dict[str, Any] = {"batch_size": task.batch_size, "rate": trial.rate, "seed": trial.seed, "evaluate": evaluate}
    options |= {"run": run, "progress": progress}
    with task.quickly():
        if trial.way == "distilled":
            return distill(model, task.network(trial.seed), task.clips(), EPOCHS, prepare=task.prepare, **options)
        return fine_tune(model, task.samples(), task.loss, EPOCHS, **options)


def run_trial(name: str) -> str:
    """Train and test one of `trials()` and keep what is found; does nothing for what is there."""
    trial, run = trials()[name], _run(name)
    task = TASKS[trial.task]
    if not run.finished:
        about: dict[str, Any] = {"way": trial.way, "share": SHARE, "seed": trial.seed}
        if trial.way != "converted":
            about |= {"epochs": EPOCHS, "batch_size": task.batch_size, "learning_rate": trial.rate}
        run.start(about | {"clips": digest(task.clips())})
        if trial.way == "converted":
            model = converted(trial.task, trial.seed)
            run.finish(model, [{"epoch": 0, task.score: task.test(model, care=False)}])
        else:
            fit(trial, run, progress=False)
        if trial.care:
            run.forget_weights()
    return f"{name}: {task.measure} {run.metrics[-1][task.score]:.5f}"


def minutes_missing(name: str) -> float:
    """How long a trial still takes, at most; 0 for one that is finished."""
    return 0.0 if _run(name).finished else TASKS[trials()[name].task].minutes
