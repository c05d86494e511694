"""What a run keeps, and a conversion: rows, configurations, weights, checkpoints."""

import contextlib
import functools
import io
import json
import math
import random
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stdcf_lib.convert import load, save, to_stdcf
from stdcf_lib.files import read_weights
from stdcf_lib.itsl import AtomSwap, Stage, predict
from stdcf_lib.itsl.log import logged
from stdcf_lib.itsl.networks import build
from stdcf_lib.runs import Run
from stdcf_lib.train import Optimization, train
from tests.attack.bad_input.bent import JSON_VALUES, Case, bent, bent_tree, flipped, hostile, named

ROWS = [
    {"stage": "t-1", "epoch": 1, "step": 2, "train_loss": 1.5, "seconds": 0.25, "top1": 0.5, "full_top1": None},
    {"stage": "s-1", "epoch": 2, "step": 4, "train_loss": 1.25, "seconds": 0.5, "top1": 0.75, "test_top1": 0.5},
]
CONFIG = {
    "dataset": "folder", "num_classes": 2, "classes": ["juggle", "wave"], "kind": "stdcf", "small": True, "spatial_atoms": 3,
    "temporal_atoms": 2, "frames": 4, "stride": 2, "size": 16, "views": [1, 1], "swap": "resample", "grid": None,
    "precision": "no",
    "stages": [{"name": "t-1", "frames": 4, "size": 8, "frozen": "spatial", "epochs": 1.0, "batch": 1},
               {"name": "final", "frames": 4, "size": 16, "frozen": None, "epochs": 1.0, "batch": 1}],
    "machine": {"device": "cpu"},
}  # fmt: skip


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def rows(chance: random.Random, place: Path) -> Case:
    """metrics.jsonl and log.jsonl."""
    kept = [bent_tree(chance, row, JSON_VALUES) if chance.randrange(3) == 0 else row for row in ROWS]
    content = b"".join(_json(row) + b"\n" for row in kept)
    name = chance.choice(("metrics.jsonl", "log.jsonl"))
    (place / name).write_bytes(bent(chance, content) if chance.randrange(2) else content)
    found = Case(
        lambda: Run(place).metrics if name == "metrics.jsonl" else logged(place), rf"line \d+ of {re.escape(str(place / name))}"
    )
    return found._replace(read=lambda: _all(found.read(), dict))


def _all(values: Any, kind: type) -> None:
    assert isinstance(values, list) and all(isinstance(value, kind) for value in values), "taken as it is, and no such rows"


def config(chance: random.Random, place: Path) -> Case:
    file, content = place / "config.json", _json(bent_tree(chance, CONFIG, JSON_VALUES))
    file.write_bytes(bent(chance, content) if chance.randrange(2) else content)
    if chance.randrange(2):
        return Case(lambda: Run(place).check(CONFIG), named(file) + f"|{re.escape(str(place))} holds another run")
    return Case(lambda: _all([Run(place).config], dict), named(file))


WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16), "c": torch.tensor(3)}


@functools.cache
def _kept_weights() -> bytes:
    """weights.safetensors of a run, as the library writes it."""
    model = nn.Module()
    for name, tensor in WEIGHTS.items():
        model.register_buffer(name, tensor)
    with tempfile.TemporaryDirectory() as place:
        Run(place).finish(model, [])
        return Path(place, "weights.safetensors").read_bytes()


def _safetensors_bent(chance: random.Random, content: bytes) -> bytes:
    """Its header as a tree, and now and then its bytes."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    head = _json(bent_tree(chance, header, JSON_VALUES))
    content = len(head).to_bytes(8, "little") + head + data
    return bent(chance, content) if chance.randrange(4) == 0 else content


def _same(found: Any, wanted: dict[str, torch.Tensor]) -> None:
    same = found.keys() == wanted.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in wanted.items()
    )
    assert same, "taken though bits have changed"


def weights(chance: random.Random, place: Path) -> Case:
    """weights.safetensors of a run, whose flipped bits must be seen, whoever reads it."""
    file, content = place / "weights.safetensors", _kept_weights()

    def read() -> Any:
        return Run(place).weights if by_run else read_weights(file)

    by_run, how = chance.randrange(2), chance.randrange(6)
    if how < 3:
        file.write_bytes(flipped(chance, content))
        return Case(lambda: _same(read(), WEIGHTS), named(file))
    file.write_bytes((bent, _safetensors_bent, lambda *_: hostile(chance, place / "marker"))[how - 3](chance, content))
    return Case(read, named(file))


@functools.cache
def _torch_bomb() -> bytes:
    """A tensor of 512 MiB in half a megabyte: a zip that is compressed, as torch's own are not."""
    stored, packed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(2**29, dtype=torch.uint8)}, stored)
    with zipfile.ZipFile(stored) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as smaller:
        for name in parts.namelist():
            smaller.writestr(name, parts.read(name))
    return packed.getvalue()


def state_dicts(chance: random.Random, place: Path) -> Case:
    """A state_dict of torch, hostile ones among them."""
    file, content = place / "net.pt", io.BytesIO()
    how = chance.randrange(4)
    if chance.randrange(5000) == 0:
        file.write_bytes(_torch_bomb())
    elif how == 0:
        file.write_bytes(hostile(chance, place / "marker"))
    else:
        torch.save(
            WEIGHTS if how == 1 else bent_tree(chance, dict(WEIGHTS), TORCH_VALUES),
            content,
            _use_new_zipfile_serialization=bool(chance.randrange(3)),
        )
        file.write_bytes(content.getvalue() if how == 2 else bent(chance, content.getvalue()))
    return Case(lambda: read_weights(file), named(file))


TORCH_VALUES: list[Any] = [
    None, True, 0, -1, 3, 10**9, 10**30, 2.5, math.nan, "x", b"x", [], [1, "a"], {}, {"a": 1}, (1, 2), torch.zeros(3),
    torch.zeros(0), torch.full((1, 2), math.nan), torch.tensor(2), torch.zeros(1, 2, dtype=torch.int8),
    torch.ones(2, 2).to_sparse(), torch.float16,
]  # fmt: skip


def _tiny(adam: bool) -> tuple[nn.Module, Optimization]:
    model = nn.Linear(2, 1)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, 0.1) if adam else torch.optim.SGD(parameters, 0.1, momentum=0.9)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    return model, Optimization(optimizer, falling, average=0.9)


def _trained(place: Path, adam: bool, epochs: int, broken_off: bool = False) -> None:
    model, optimization = _tiny(adam)

    def batches(epoch: int, first: int = 0) -> Iterator[torch.Tensor]:
        return iter([torch.ones(1, 2)] * (3 - first))

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).square().mean()

    def stopped(seen: int) -> None:
        if broken_off and seen == 2:
            raise KeyboardInterrupt

    train(model, batches, loss, optimization, epochs, run=Run(place), save_minutes=0, progress=stopped)


@functools.cache
def _checkpoint(adam: bool) -> Any:
    """What a training that was stopped has left, as a tree."""
    with tempfile.TemporaryDirectory() as place:
        with contextlib.suppress(KeyboardInterrupt):
            _trained(Path(place), adam, 2, broken_off=True)
        return torch.load(Path(place, "checkpoint.pt"), weights_only=True)


def checkpoints(chance: random.Random, place: Path) -> Case:
    """checkpoint.pt, from which a training goes on: damaged, hostile, or of another training."""
    file, adam = place / "checkpoint.pt", bool(chance.randrange(2))
    how, content = chance.randrange(6), io.BytesIO()
    if how == 0:
        file.write_bytes(hostile(chance, place / "marker"))
    else:
        tree = _checkpoint(adam if how > 1 else not adam)
        torch.save(bent_tree(chance, tree, TORCH_VALUES) if how > 3 else tree, content)
        if how == 3:
            Run(place).save(**tree)
        whole = file.read_bytes() if how == 3 else content.getvalue()
        file.write_bytes(bent(chance, whole) if how == 2 else flipped(chance, whole) if how == 3 else whole)
        if how == 3:
            return Case(lambda: _same((Run(place).restore() or ({}, []))[0]["model"], tree["state"]["model"]), named(file))
    pattern = f"{named(file)}|became (nan|inf)"
    return Case(lambda: _trained(place, adam, 2) if chance.randrange(3) else Run(place).restore(), pattern)


@functools.cache
def _predicting() -> bytes:
    """Weights of the network that `CONFIG` describes."""
    names = ("kind", "small", "spatial_atoms", "temporal_atoms", "num_classes")
    model = build(**{name: CONFIG[name] for name in names})
    stages = [Stage(**stage) for stage in CONFIG["stages"]]
    swaps = AtomSwap(model, stages[0], CONFIG["swap"])
    for stage in stages:
        swaps.to(stage)
    with tempfile.TemporaryDirectory() as place:
        Run(place).finish(model, [])
        return Path(place, "weights.safetensors").read_bytes()


def predictions(chance: random.Random, place: Path) -> Case:
    """A finished run, of which the configuration or the weights are bent."""
    of_config = chance.randrange(4)
    (place / "config.json").write_bytes(_json(bent_tree(chance, CONFIG, JSON_VALUES) if of_config else CONFIG))
    (place / "weights.safetensors").write_bytes(_predicting() if of_config else bent(chance, _predicting()))
    return Case(lambda: predict.trained(place), named(place))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.ConvTranspose3d(2, 1, 3))


@functools.cache
def _converted() -> tuple[bytes, dict[str, torch.Tensor]]:
    network = to_stdcf(net(), 3, 2)[0]
    with tempfile.TemporaryDirectory() as place:
        save(network, Path(place, "net.safetensors"), "r3d_18")
        return Path(place, "net.safetensors").read_bytes(), network.state_dict()


def converted(chance: random.Random, place: Path) -> Case:
    """A converted network in one file."""
    file, (content, wanted), how = place / "net.safetensors", _converted(), chance.randrange(5)
    if how < 2:
        file.write_bytes(flipped(chance, content))
        return Case(lambda: _same(load(file, net()).state_dict(), wanted), named(file))
    if how == 2:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        about = bent_tree(chance, json.loads(header["__metadata__"]["stdcf"]), JSON_VALUES)
        header["__metadata__"] = {"stdcf": json.dumps(about)}
        head = _json(header)
        content = len(head).to_bytes(8, "little") + head + content[8 + length :]
    elif how == 3:
        content = _safetensors_bent(chance, content)
    else:
        content = bent(chance, content)
    file.write_bytes(content)
    return Case(lambda: load(file, net()), named(file))


_checkpoints = (functools.partial(_checkpoint, adam) for adam in (False, True))
PREPARED = _kept_weights, _torch_bomb, _predicting, _converted, *_checkpoints
