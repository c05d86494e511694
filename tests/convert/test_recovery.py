import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.recovery import distill, fine_tune

CLIPS = torch.rand(24, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 4, 3), nn.Flatten(), nn.Linear(288, 3)
    )


def away(student, teacher):
    with torch.no_grad():
        return float(F.mse_loss(student.eval()(CLIPS), teacher.eval()(CLIPS)))


def test_without_labels_it_comes_closer_to_the_network_that_it_was(teacher):
    student, _ = to_stdcf(teacher.eval(), 2, 1)
    teacher.train()
    state, first = copy.deepcopy(teacher.state_dict()), away(student, copy.deepcopy(teacher))
    rows = distill(student, teacher, CLIPS, epochs=10, batch_size=8, rate=1e-2, progress=False)
    assert teacher.training and all(
        torch.equal(a, b) for a, b in zip(state.values(), teacher.state_dict().values(), strict=True)
    )
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    assert away(student, teacher) < 0.7 * first


def test_the_same_seed_gives_the_same_network_and_clips_may_be_prepared(teacher):
    found = []
    bytes_of = (CLIPS * 255).round().to(torch.uint8)
    for seed in (0, 0, 1):
        student, _ = to_stdcf(teacher, 2, 1)
        distill(student, teacher, bytes_of, 1, prepare=lambda x: x.float() / 255, batch_size=8, seed=seed, progress=False)
        found.append(student.state_dict()["0.alpha"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_with_labels_it_learns_them_and_the_rate_falls_to_nothing(teacher, monkeypatch):
    labels = (CLIPS[:, 0, 0, 0, 0] > 0.5).long()
    student, _ = to_stdcf(teacher, 3, 2)
    rates, scores = [], []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watched)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
        scores.append(float((model(CLIPS).argmax(1) == labels).float().mean()))
        return {"right": scores[-1]}

    rows = fine_tune(
        student, TensorDataset(CLIPS, labels), loss, 12, batch_size=8, rate=1e-2, evaluate=evaluate, progress=False
    )
    assert len(rates) == 12 * 3 and rates[0] == 1e-2 and rates == sorted(rates, reverse=True) and 0 < rates[-1] < 1e-4
    assert rows[-1]["right"] == scores[-1] > 0.9


def test_frozen_parameters_stay(teacher):
    student: Any = to_stdcf(teacher, 2, 1)[0]
    student[0].freeze("both")
    psi, alpha = student[0].psi.clone(), student[0].alpha.clone()
    distill(student, teacher, CLIPS, 1, progress=False)
    assert torch.equal(student[0].psi, psi) and not torch.equal(student[0].alpha, alpha)


@pytest.mark.parametrize(
    ("options", "message"), [({"epochs": 0}, "epochs=0"), ({"rate": 0}, "rate=0"), ({"batch_size": 0}, "batch")]
)
def test_bad_numbers_are_named(options, message, teacher):
    with pytest.raises(ValueError, match=message):
        distill(to_stdcf(teacher)[0], teacher, CLIPS, **options)
    with pytest.raises(ValueError, match="the number of samples=0"):
        distill(to_stdcf(teacher)[0], teacher, CLIPS[:0])
