import io

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from stdcf_lib.runs import Run
from stdcf_lib.train import shuffled, train

x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
y = x @ torch.tensor([[1.0], [-2.0], [0.5]])


def start(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def loss(model, index):
    return F.mse_loss(model(x[index]), y[index])


def fit(epochs, **options):
    model, optimizer = start()
    metrics = train(model, shuffled(40, 8, seed=1), loss, optimizer, epochs, progress=False, **options)
    return model, metrics


def losses(metrics):
    return [row["train_loss"] for row in metrics]


def test_it_learns():
    _, metrics = fit(40)
    assert metrics[-1]["train_loss"] < 0.01 * metrics[0]["train_loss"]
    assert [row["epoch"] for row in metrics] == list(range(1, 41))


def test_the_same_seed_gives_the_same_bytes():
    (a, first), (b, second) = fit(3), fit(3)
    assert torch.equal(a.weight, b.weight) and losses(first) == losses(second)


@pytest.mark.parametrize("stopped_in", [1, 2, 4])
def test_a_stopped_run_ends_as_an_unbroken_one(tmp_path, stopped_in):
    unbroken, expected = fit(5)
    calls = 0

    def dies(model, index):
        nonlocal calls
        calls += 1
        if calls == 5 * stopped_in - 2:  # in the middle of an epoch of 5 batches
            raise KeyboardInterrupt
        return loss(model, index)

    model, optimizer = start()
    with pytest.raises(KeyboardInterrupt):
        train(model, shuffled(40, 8, seed=1), dies, optimizer, 5, run=Run(tmp_path), progress=False)
    resumed, metrics = fit(5, run=Run(tmp_path))
    assert torch.equal(resumed.weight, unbroken.weight) and losses(metrics) == losses(expected)
    assert torch.equal(Run(tmp_path).weights["weight"], unbroken.weight)


@pytest.mark.parametrize("stopped_at", [3, 7, 12])
def test_a_run_stopped_within_an_epoch_goes_on_from_its_last_step(tmp_path, stopped_at):
    def fit(loss, run=None):
        model, optimizer = start()
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=20)
        order = shuffled(40, 8, seed=1)
        options = {"scheduler": scheduler, "save_every": 1, "run": run, "progress": False}
        return model, train(model, order, loss, optimizer, 4, **options)

    calls = []

    def dies(model, index):
        calls.append(index)
        if len(calls) == stopped_at:
            raise KeyboardInterrupt
        return loss(model, index)

    unbroken, expected = fit(loss)
    with pytest.raises(KeyboardInterrupt):
        fit(dies, Run(tmp_path))
    resumed, metrics = fit(dies, Run(tmp_path))
    assert len(calls) == 4 * 5 + 1  # only the batch that it died of was loaded again
    assert torch.equal(resumed.weight, unbroken.weight) and losses(metrics) == losses(expected)


def test_accumulated_batches_make_the_step_of_a_large_one():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    weights = []
    for prepare, size in ((accelerator.prepare, 4), (lambda *parts: parts, 8)):
        model = start()[0]
        wrapped, optimizer = prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        options = {"accelerator": accelerator if size == 4 else None, "progress": False, "clip_norm": 1.0}
        train(wrapped, shuffled(40, size, seed=1), loss, optimizer, 3, **options)
        weights.append(model.weight.detach().clone())
    torch.testing.assert_close(*weights)


def test_gradients_are_clipped():
    model, _ = start()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(model, lambda _: [torch.arange(40)], loss, optimizer, 1, clip_norm=0.01, progress=False)
    assert 0 < (model.weight - before).norm() <= 0.01 + 1e-6


def test_a_bar_of_your_own_counts_batches():
    bar = tqdm(total=10, file=io.StringIO())
    model, optimizer = start()
    train(model, shuffled(40, 8, seed=1), loss, optimizer, 2, progress=bar)
    assert bar.n == 10 and "memory" in bar.postfix and "loss" in bar.postfix


def test_it_evaluates_when_asked_and_after_the_last_epoch():
    _, metrics = fit(5, evaluate=lambda model: {"training": float(model.training)}, evaluate_every=2)
    assert [row["epoch"] for row in metrics if "training" in row] == [2, 4, 5]
    assert all(row.get("training", 0) == 0 for row in metrics)


def test_a_diverging_loss_stops_the_run(tmp_path):
    model, optimizer = start()
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(
            model, shuffled(40, 8, seed=1), lambda m, i: loss(m, i) * torch.inf, optimizer, 2, run=Run(tmp_path), progress=False
        )
    assert Run(tmp_path).restore() is None


def test_every_epoch_has_all_samples_in_an_order_of_its_own():
    order = shuffled(10, 4, seed=0)
    first, second = torch.cat(list(order(0))), torch.cat(list(order(1)))
    assert [len(batch) for batch in order(0)] == [4, 4, 2]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(shuffled(10, 4, seed=0)(0))))
    assert not torch.equal(first, torch.cat(list(shuffled(10, 4, seed=1)(0))))
    assert torch.equal(first[8:], order(0, 2)[0])
