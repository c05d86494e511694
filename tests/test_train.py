import itertools
import multiprocessing
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.runs import DamagedRun, Run
from stdcf_lib.train import READ_EVERY, Optimization, _Loop, peak_bytes, shuffled, train

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
    metrics = train(model, shuffled(40, 8, seed=1), loss, Optimization(optimizer), epochs, progress=False, **options)
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
        train(model, shuffled(40, 8, seed=1), dies, Optimization(optimizer), 5, run=Run(tmp_path), progress=False)
    resumed, metrics = fit(5, run=Run(tmp_path))
    assert torch.equal(resumed.weight, unbroken.weight) and losses(metrics) == losses(expected)
    assert torch.equal(Run(tmp_path).weights["weight"], unbroken.weight)


@pytest.mark.parametrize("stopped_at", [3, 7, 12])
def test_a_run_stopped_within_an_epoch_goes_on_from_its_last_step(tmp_path, stopped_at):
    def fit(loss, run=None):
        model, optimizer = start()
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=20)
        order = shuffled(40, 8, seed=1)
        options = {"save_minutes": 0, "run": run, "progress": False}
        return model, train(model, order, loss, Optimization(optimizer, scheduler), 4, **options)

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
        options = {"accelerator": accelerator if size == 4 else None, "progress": False}
        train(wrapped, shuffled(40, size, seed=1), loss, Optimization(optimizer, clip_norm=1.0), 3, **options)
        weights.append(model.weight.detach().clone())
    torch.testing.assert_close(*weights)


def test_gradients_are_clipped():
    model, _ = start()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(model, lambda _: [torch.arange(40)], loss, Optimization(optimizer, clip_norm=0.01), 1, progress=False)
    assert 0 < (model.weight - before).norm() <= 0.01 + 1e-6


def test_progress_of_your_own_is_told_of_every_step():
    seen = []
    model, optimizer = start()
    train(model, shuffled(40, 8, seed=1), loss, Optimization(optimizer), 2, progress=seen.append)
    assert seen == list(range(11))


def with_error(model, index):
    value = loss(model, index)
    return value, {"error": value.detach().sqrt()}


def test_what_a_loss_gives_besides_is_recorded_and_logged(monkeypatch, capsys):
    lines, each, waits, measured = [], [], [], []
    norm = nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *arguments: measured.append(len(each)) or norm(*arguments))

    def watched(model, index):
        value, figures = with_error(model, index)
        each.append((value.item(), figures["error"].item()))
        return value, figures

    def slow(epoch):
        for batch in shuffled(40, 4, seed=1)(epoch):
            time.sleep(0.01)
            waits.append(0.01)
            yield batch

    model, optimizer = start()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    options: Any = {"log": lines.append, "log_every": 4, "progress": False, "evaluate": lambda model, epoch: {"top1": 0.5}}
    began = time.perf_counter()
    rows = train(model, slow, watched, Optimization(optimizer, scheduler), 2, **options)
    assert sum(row["seconds"] for row in rows) <= time.perf_counter() - began + 0.001 * len(rows)  # each second in one epoch
    assert [(line["step"], "train_loss" in line) for line in lines] == [
        (4, False), (8, False), (10, True), (12, False), (16, False), (20, False), (20, True)
    ]  # fmt: skip
    windows = [(0, 4), (4, 8), None, (10, 12), (12, 16), (16, 20), None]  # a line begins with its epoch
    for line, window in zip(lines, windows, strict=True):
        values = each[slice(*window)] if window else each[10 * line["epoch"] - 10 : 10 * line["epoch"]]
        for name, column in (("loss", 0), ("error", 1)):
            found = line[name if window else f"train_{name}"]
            assert found == pytest.approx(sum(value[column] for value in values) / len(values), rel=1e-5)
        assert line["learning_rate"] == pytest.approx(0.05 / (1 + line["step"]))
        assert line["gradient_norm"] > 0 and 1000 > line["memory_gib"] > 0
        assert line["seconds"] > line["data_seconds"] > (0.01 if window else 0.1)
    assert [{name: value for name, value in line.items() if name != "step"} for line in lines if "train_loss" in line] == rows
    assert all(row["top1"] == 0.5 and row["evaluation_seconds"] >= 0 for row in rows)
    clock = [row[name] for row in rows for name in ("seconds", "data_seconds", "evaluation_seconds")]
    assert capsys.readouterr() == ("", "")  # no progress is asked for
    assert measured == [4, 8, 12, 16, 20]  # the gradient, where a line tells it
    assert clock == [round(seconds, 3) for seconds in clock]


def test_no_line_of_a_log_is_lost_with_a_process_that_dies_at_it(tmp_path):
    lines, unbroken = [], []
    options = {"log_every": 4, "evaluate": lambda model, epoch: {}}
    fit(2, log=unbroken.append, **options)

    def dies(line):
        lines.append(line)
        if len(lines) in (2, 4):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(2, run=Run(tmp_path), log=dies, **options)
    fit(2, run=Run(tmp_path), log=lines.append, **options)
    assert [line["step"] for line in unbroken] == [4, 5, 8, 10]
    assert [line["step"] for line in lines] == [4, 5, 5, 8, 8, 10]


def test_a_log_changes_nothing():
    (a, plain), (b, logged) = fit(3), fit(3, log=lambda line: None, log_every=2)
    assert torch.equal(a.weight, b.weight) and losses(plain) == losses(logged)


def test_the_logged_norm_is_that_of_the_gradient_before_it_is_clipped():
    lines, model = [], start()[0]
    value = loss(model, torch.arange(40))
    value.backward()
    norm = torch.cat([cast(Tensor, p.grad).flatten() for p in model.parameters()]).norm().item()
    model.zero_grad()
    for clip_norm in (None, 0.01):
        optimization = Optimization(torch.optim.SGD(model.parameters(), lr=0.0), clip_norm=clip_norm)
        train(model, lambda _: [torch.arange(40)], loss, optimization, 1, log=lines.append, log_every=1, progress=False)
        assert lines[-1]["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_an_average_of_the_weights_is_evaluated_kept_and_resumed(tmp_path):
    """By hand: the average begins as the first step's weights, and keeps nine tenths at each step after it."""
    by_hand, evaluated = None, []

    def watched(model, index):
        nonlocal by_hand
        if seen:  # the weights that the step before has left
            weight = model.weight.detach()
            by_hand = weight.clone() if by_hand is None else 0.9 * by_hand + 0.1 * weight
        seen.append(index)
        if len(seen) == stop_after:
            raise KeyboardInterrupt
        return loss(model, index)

    def go(run=None):
        model, optimizer = start()
        options: Any = {"evaluate": lambda model, epoch: evaluated.append(model.weight.clone()) or {}, "save_minutes": 0}
        options |= {"run": run, "progress": False}
        train(model, shuffled(40, 8, seed=1), watched, Optimization(optimizer, average=0.9), 2, **options)
        return model

    seen, stop_after = [], 0
    model = go()
    assert by_hand is not None
    last = evaluated[-1]
    assert torch.equal(model.weight, last) and len(seen) == 10
    seen.append(None)
    trained, optimizer = start()
    train(trained, shuffled(40, 8, seed=1), loss, Optimization(optimizer), 2, progress=False)
    torch.testing.assert_close(last, 0.9 * by_hand + 0.1 * trained.weight.detach(), atol=1e-6, rtol=1e-5)
    seen, stop_after = [], 8
    with pytest.raises(KeyboardInterrupt):
        go(Run(tmp_path))
    stop_after = 0
    assert torch.equal(go(Run(tmp_path)).weight, model.weight)
    assert torch.equal(Run(tmp_path).weights["weight"], model.weight)


def test_it_evaluates_after_every_epoch():
    _, metrics = fit(3, evaluate=lambda model, epoch: {"training": float(model.training), "of": epoch})
    assert [(row["epoch"], row["of"], row["training"]) for row in metrics] == [(1, 1, 0), (2, 2, 0), (3, 3, 0)]


def test_an_evaluation_that_fails_costs_no_step(tmp_path):
    """The epoch is kept before it is evaluated: the same call tries the evaluation again, and nothing else."""
    unbroken, expected = fit(3, evaluate=lambda model, epoch: {"of": epoch})
    seen, failing = [], [2]

    def watched(model, index):
        seen.append(index)
        return loss(model, index)

    def evaluate(model, epoch):
        if epoch in failing:
            raise MemoryError("too many clips at once")
        return {"of": epoch}

    def go():
        model, optimizer = start()
        options = {"evaluate": evaluate, "run": Run(tmp_path), "progress": False}
        return model, train(model, shuffled(40, 8, seed=1), watched, Optimization(optimizer), 3, **options)

    for _ in range(2):
        with pytest.raises(MemoryError):
            go()
    assert len(seen) == 2 * 5
    failing.clear()
    resumed, metrics = go()
    assert len(seen) == 3 * 5 and torch.equal(resumed.weight, unbroken.weight)
    assert [row["of"] for row in metrics] == [1, 2, 3] and losses(metrics) == losses(expected)


def test_checkpoints_are_written_beside_the_training(tmp_path, monkeypatch):
    """A slow disk holds up no step; what is written is what was there when it was handed over; a failure is told."""
    threads, kept, steps = [], [], []
    save = Run.save

    def slowly(run, state, metrics):
        threads.append(threading.current_thread())
        while len(steps) < 3:
            time.sleep(0.01)
        kept.append((state["seen"], state["model"]["weight"].clone()))
        save(run, state, metrics)

    monkeypatch.setattr(Run, "save", slowly)
    monkeypatch.setattr(_Loop, "due", lambda loop, minutes: loop.seen == 2)
    weights = {}

    def watched(model, index):
        weights[len(steps)] = model.weight.detach().clone()
        steps.append(index)
        return loss(model, index)

    model, optimizer = start()
    options: Any = {"run": Run(tmp_path), "save_minutes": 1, "progress": False}
    train(model, shuffled(40, 8, seed=1), watched, Optimization(optimizer), 1, **options)
    assert threading.main_thread() not in threads
    assert kept[0][0] == 2 and torch.equal(kept[0][1], weights[2])

    def full(run, state, metrics):
        raise OSError("no room")

    monkeypatch.setattr(Run, "save", full)
    with pytest.raises(OSError, match="no room"):
        train(start()[0], shuffled(40, 8, seed=1), loss, Optimization(start()[1]), 1, run=Run(tmp_path / "x"), progress=False)


def test_a_checkpoint_is_due_by_the_clock(monkeypatch):
    model, optimizer = start()
    loop = _Loop(model, Optimization(optimizer), None, None, None)
    monkeypatch.setattr(time, "monotonic", lambda: loop.saved + 90)
    assert loop.due(1) and not loop.due(2) and loop.due(0)
    asked = []  # of several processes the first one says, and is asked at intervals only
    asks: Any = SimpleNamespace(num_processes=2, device="cpu", gather=lambda late: asked.append(bool(late)) or ~late)
    loop.accelerator = asks
    assert [loop.due(1) for loop.done in range(2 * READ_EVERY)] == [False] * 2 * READ_EVERY and asked == [True] * 2
    assert [loop.due(2) for loop.done in (READ_EVERY, READ_EVERY + 1)] == [True, False] and asked == [True] * 2 + [False]
    assert loop.due(0) and len(asked) == 3


def test_the_loss_is_read_at_intervals_and_none_is_lost(monkeypatch):
    """Reading waits for the device, so it is done once in a while; the mean is over all batches all the same."""
    read = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda values: read.append(len(values)) or stack(values))
    model, optimizer = start()
    seen = []

    def watched(model, index):
        value = loss(model, index)
        seen.append(value.detach())
        return value

    (row,) = train(model, shuffled(40, 1, seed=1), watched, Optimization(optimizer), 1, progress=False)
    assert read == [READ_EVERY] * 4
    assert row["train_loss"] == pytest.approx(sum(value.item() for value in seen) / 40)


def test_a_diverging_loss_stops_the_run(tmp_path):
    model, optimizer = start()
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(
            model, shuffled(40, 8, seed=1), lambda m, i: loss(m, i) * torch.inf, Optimization(optimizer), 2, run=Run(tmp_path),
            save_minutes=0, progress=False,
        )  # fmt: skip
    assert Run(tmp_path).restore() is None


def _without(state, *names):
    return {name: part for name, part in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"model": nn.Linear(3, 3).state_dict()}, "model .* is no tensor of shape"),
        (lambda state: state | {"optimizer": torch.optim.RMSprop(start()[0].parameters()).state_dict()}, "has not the parts"),
        (lambda state: state | {"optimizer": {"state": {0: {"step": torch.ones(2)}}, "param_groups": None}}, "."),
        (lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.ones(2)) or state, "exp_avg is no tensor of shape"),
        (lambda state: [one.update(exp_avg=3) for one in state["optimizer"]["state"].values()] and state, "exp_avg is int"),
        (lambda state: _without(state, "norm"), "norm"),
        (lambda state: state["optimizer"]["param_groups"][0]["params"].reverse() or state, "optimizer has other parameters"),
        (lambda state: state["optimizer"]["param_groups"][0].update(lr=10**30) or state, "0 lr is too large a number"),
        (lambda state: state | {"done": -1}, "done=-1: give an integer of at least 0"),
        (lambda state: state | {"totals": {"loss": 1.0}}, "its totals are of no step"),
        (lambda state: None, "not subscriptable"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, reason):
    model, optimizer = start()
    with pytest.raises(FloatingPointError):  # in the second epoch
        bad = itertools.chain([1.0] * 5, [torch.inf] * 5)
        train(
            model, shuffled(40, 8, seed=1), lambda m, i: loss(m, i) * next(bad), Optimization(optimizer), 2, run=Run(tmp_path),
            progress=False,
        )  # fmt: skip
    kept = Run(tmp_path).restore()
    assert kept
    Run(tmp_path).save(change(kept[0]), kept[1])
    with pytest.raises(DamagedRun, match=rf"checkpoint.pt is of another training \(.*{reason}.*; remove it"):
        train(model, shuffled(40, 8, seed=1), loss, Optimization(optimizer), 2, run=Run(tmp_path), progress=False)


def test_a_checkpoint_of_an_older_version_is_gone_on_with(tmp_path):
    """Which kept none of the line of the log that it was in."""
    unbroken, metrics = fit(2)
    model, optimizer = start()
    calls: list[int] = []

    def breaks(model, index):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return loss(model, index)

    with pytest.raises(KeyboardInterrupt):
        train(model, shuffled(40, 8, seed=1), breaks, Optimization(optimizer), 2, run=Run(tmp_path), progress=False)
    kept = Run(tmp_path).restore()
    assert kept
    Run(tmp_path).save(_without(kept[0], "window", "batches"), kept[1])
    again, metrics_again = fit(2, run=Run(tmp_path))
    assert torch.equal(again.weight, unbroken.weight) and losses(metrics_again) == losses(metrics)


def test_a_model_is_trained_in_training_mode_whatever_it_was_in():
    model, optimizer = start()
    seen = []

    def watched(model, index):
        seen.append(model.training)
        return loss(model, index)

    train(model.eval(), shuffled(40, 8, seed=1), watched, Optimization(optimizer), 1, progress=False)
    assert seen == [True] * 5


def test_every_epoch_has_all_samples_in_an_order_of_its_own():
    order = shuffled(10, 4, seed=0)
    first, second = torch.cat(list(order(0))), torch.cat(list(order(1)))
    assert [len(batch) for batch in order(0)] == [4, 4, 2]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(shuffled(10, 4, seed=0)(0))))
    assert not torch.equal(first, torch.cat(list(shuffled(10, 4, seed=1)(0))))
    assert torch.equal(first[8:], next(iter(order(0, 2))))


def accumulated_fit(accumulation, run=None, stop_after=None):
    """Steps of 8 samples in as many parts as asked for; broken off after so many steps."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    model, optimizer = start()
    model, optimizer = accelerator.prepare(model, optimizer)
    order, calls = shuffled(40, 8, seed=1), 0

    def batches(epoch, first=0):
        return (part for step in order(epoch, first) for part in step.split(8 // accumulation))

    def dies(model, index):
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after * accumulation:
            raise KeyboardInterrupt
        return loss(model, index)

    options = {"accelerator": accelerator, "run": run, "save_minutes": 0, "progress": False}
    return model, train(model, batches, dies, Optimization(optimizer), 3, **options)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 4)])
def test_a_run_goes_on_with_another_accumulation(tmp_path, before, after):
    """The loop counts in steps, so a step has the same samples, in however many parts."""
    unbroken, expected = accumulated_fit(1)
    with pytest.raises(KeyboardInterrupt):
        accumulated_fit(before, Run(tmp_path), stop_after=8)  # in the second of three epochs of 5 steps
    resumed, metrics = accumulated_fit(after, Run(tmp_path))
    torch.testing.assert_close(resumed.weight, unbroken.weight, atol=1e-6, rtol=1e-5)
    assert losses(metrics) == pytest.approx(losses(expected), rel=1e-5)


def test_an_interrupted_step_does_not_shift_the_next_ones(tmp_path):
    """In a notebook the same accelerator is used again after an interruption between two parts of a step."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    weights = []
    for interrupted in (False, True):
        model, optimizer = start()
        wrapped, optimizer = accelerator.prepare(model, optimizer)
        if interrupted:
            with accelerator.accumulate(wrapped):
                pass
        options = {"accelerator": accelerator, "progress": False}
        train(wrapped, shuffled(40, 4, seed=1), loss, Optimization(optimizer), 1, **options)
        weights.append(model.weight.detach().clone())
    assert torch.equal(*weights)


def _held_for_a_moment(sending):
    before = peak_bytes()
    held = b"x" * 80_000_000
    del held
    sending.send(peak_bytes() - before)


def test_the_peak_is_what_a_process_has_held_and_not_what_its_parent_has():
    held = b"x" * 300_000_000
    del held
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_held_for_a_moment, args=(sending,))
    child.start()
    child.join()
    assert receiving.recv() == pytest.approx(80e6, rel=0.1)
