"""Is bad input refused as it is documented? A million inputs of all kinds, bent at random, for the readers of the library.

`python -m tests.attack.inputs [KIND …] [--seconds S] [--seed N]` draws valid inputs, bends them, and gives them to what reads
them. It is well if an input is taken, or refused by a documented exception that names the file, and its line where it has
lines, or the argument. All else is printed, once a kind and place, with the number that `--again KIND NUMBER` makes it from:
another exception, a refusal that names nothing, a warning of our own, ten seconds without an answer, much memory, a crash,
weights that were changed and are taken all the same, and above all a pickle that was executed.

Inputs are tried in forks of one process that has imported everything, so that the worst of them ends a fork. Kinds share the
time as `KINDS` says: what is cheap to read is read by the hundred thousand.
"""

import argparse
import contextlib
import copy
import faulthandler
import functools
import gzip
import io
import itertools
import json
import logging
import math
import mmap
import os
import pickle
import random
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import av
import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn

from stdcf_lib import atoms, conv, rank1
from stdcf_lib.convert import command as convert_command
from stdcf_lib.convert import load, save, to_stdcf
from stdcf_lib.data import folder, kinetics, kth, lists, mnist, something, video
from stdcf_lib.data.mnist import read_idx
from stdcf_lib.data.video_clips import VideoClips
from stdcf_lib.decompose import energies, joint_decomposition
from stdcf_lib.effort import by_profile
from stdcf_lib.explorables import Filter, Rank, Voxel
from stdcf_lib.files import read_weights
from stdcf_lib.itsl import AtomSwap, Recipe, Stage, predict, schedule
from stdcf_lib.itsl import command as itsl_command
from stdcf_lib.itsl.log import logged
from stdcf_lib.itsl.networks import build
from stdcf_lib.runs import Run
from stdcf_lib.train import Optimization, train

LIBRARY = Path(video.__file__).parents[1]
PATIENCE = 10.0
"""Seconds of processor time that one input may take."""
GIB = 2**30
MOST_SPACE = 4 * GIB
"""Of address space, above what a fork begins with; more is refused by the system, and found as a MemoryError."""
MOST_GROWTH = {"video": GIB, "idx": GIB}
"""Of memory, by which one input may make a fork grow; 256 MiB for the kinds that are not here."""


class Case(NamedTuple):
    """A bent input: what reads it, and a pattern of what must be in the message of a refusal."""

    read: Callable[[], object]
    named: str


class Kind(NamedTuple):
    """`draw` makes an input of this kind in a folder; `documented` exceptions refuse it; `share` is of the time."""

    draw: Callable[[random.Random, Path], Case]
    documented: tuple[type[BaseException], ...] = (ValueError, OSError)
    share: float = 1.0


class Finding(NamedTuple):
    """What went wrong, and where in the library."""

    what: str
    place: str
    message: str


# How inputs are bent ------------------------------------------------------------------------------------------------------

TOKENS = [
    *(bytes([byte]) for byte in b"\0\n\r\t\v\f\x1c\x85\xff\"'`,;:-_/\\.#%{}[]() 0123456789aZ\xc3"),
    *(
        text.encode()
        for text in ("\u2028", "\ufeff", "٣", "é", "🎬", "\r\n", "..", "../..", "//", "%s%n", "-1", "1e999", "NaN")
    ),
    *(text.encode() for text in ("null", "true", "Infinity", "9" * 30, "9" * 5000, "x" * 5000, "[" * 5000, '{"a":' * 5000)),
]
NUMBERS = (0, 1, 2, 3, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, 5, -1, 2.5, -0.0, 1e308, math.nan, math.inf, 2**31, -(2**63), 10**30, 1j, Fraction(1, 2),
    "", "3", "same", "zeros", "x" * 3000, "\ud800", "{0}\n", b"3", bytearray(b"x"), (), (1,), (1, 2), (1, 2, 3), (3, 3, 3, 3),
    (0, 1, 1), (1, -1, 1), [2, 2, 2], [1, "2", 3], [[1], 2, 3], {}, {"a": 1}, {1, 2, 3}, frozenset(), range(3), iter((1, 2, 3)),
    object(), type, len, int, float, Path("x"), nn.ReLU, nn.ReLU(), np.int64(2), np.uint8(3), np.float32("nan"), np.bool_(True),
    np.array(2), np.array([1, 2, 3]), np.array(["a"]), np.zeros((2, 2)), torch.tensor(2), torch.tensor([2, 2, 2]),
    torch.tensor(0.5), torch.zeros(0), torch.zeros(1, 1, 3, 3, 3), torch.full((2, 3), math.nan),
    torch.zeros(2, 3, dtype=torch.int8), torch.float16, torch.int8, torch.device("cpu"),
]  # fmt: skip
JSON_VALUES = [
    None, True, False, 0, 1, -1, 3, 2.5, math.nan, math.inf, 2**31, 10**30, "", "x", "3", "F32", "r3d_18", "\ud800", [], [1],
    [1, 2, 3], [[1]], ["a", "b"], {}, {"a": 1}, {"shape": [1]}, "x" * 3000,
]  # fmt: skip


def bent(chance: random.Random, whole: bytes) -> bytes:
    """Some bytes, damaged in a few places; now and then whole."""
    content = bytearray(whole)
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 3, 8))):
        place, length = chance.randrange(len(content) + 1), 1 + int(chance.expovariate(0.1))
        match chance.randrange(9):
            case 0:
                del content[place:]
            case 1:
                del content[place : place + length]
            case 2:
                content[place:place] = chance.choice(TOKENS)
            case 3:
                content[place : place + length] = chance.choice(TOKENS)
            case 4:
                size = chance.choice((1, 2, 4, 8))
                number = chance.choice(NUMBERS) & (2 ** (8 * size) - 1)
                content[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
            case 5:
                if content:
                    content[place % len(content)] ^= 1 << chance.randrange(8)
            case 6:  # blocks change places
                other = chance.randrange(len(content) + 1)
                content[place : place + length], content[other : other + length] = (
                    content[other : other + length], content[place : place + length],
                )  # fmt: skip
            case 7:  # a line, or what there is of one, comes again
                rows = bytes(content).splitlines(keepends=True) or [b""]
                content[place:place] = chance.choice(rows)
            case 8:
                rows = bytes(content).splitlines(keepends=True)
                if rows:
                    del rows[chance.randrange(len(rows))]
                content = bytearray(b"".join(rows))
    return bytes(content)


def flipped(chance: random.Random, content: bytes) -> bytes:
    """Some bytes, of which one to three bits have changed, within eight bytes."""
    changed, place = bytearray(content), chance.randrange(len(content) - 7)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        changed[place + chance.randrange(8)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def bent_tree(chance: random.Random, tree: Any, values: Sequence[Any]) -> Any:
    """Dictionaries and lists in each other, of which a part is gone, has another name, or is another value."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return chance.choice(values)
        parent, key = chance.choice(places)
        what = chance.randrange(6)
        if what == 0:
            del parent[key]
        elif what == 1 and isinstance(parent, dict):
            parent[f"{key}2"] = parent.pop(key)
        elif what == 2:
            parent[key] = copy.deepcopy(parent[chance.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))])
        else:
            parent[key] = copy.deepcopy(chance.choice(values))
    return tree if chance.randrange(30) else chance.choice(values)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []:
        yield tree, key
        yield from _places(value)


class Trap:
    """What a pickle of it does when it is loaded: a file appears that must never be there."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def hostile(chance: random.Random, marker: Path) -> bytes:
    """A pickle that would be executed, as torch's file or bare, or in the array of a numpy file."""
    trap, content = Trap(marker), io.BytesIO()
    inside = chance.choice((trap, {"state": trap, "metrics": []}, {"weight": trap}, [trap], {trap.marker.name: [{"a": trap}]}))
    match chance.randrange(4):
        case 0:
            torch.save(inside, content)
        case 1:
            torch.save(inside, content, _use_new_zipfile_serialization=False)
        case 2:
            content.write(pickle.dumps(inside, chance.randrange(6)))
        case 3:
            np.save(content, np.array([trap], dtype=object), allow_pickle=True)
    return content.getvalue()


# Files of data ------------------------------------------------------------------------------------------------------------


def _named(*paths: Path, line: bool = False, whole: str = "") -> str:
    """The pattern of a message that names one of the files, and its line unless the fault is of the `whole` file."""
    names = "|".join(re.escape(str(path)) for path in paths)
    return rf"(?s)(line \d+ of ({names})|({names}).*({whole})|({whole}).*({names}))" if line else names


@functools.cache
def _bomb() -> bytes:
    """Gzip, 2 MB that become 2 GB."""
    return gzip.compress(bytes(2**27), 9) * 16


def idx(chance: random.Random, place: Path) -> Case:
    count = chance.choice((1, 2, 3))
    images = b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + chance.randbytes(count * 784)
    labels = b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(chance.randrange(10) for _ in range(count))
    header = chance.randrange(4) == 0
    if header:  # lengths that no file has
        axes = chance.choice((0, 1, 2, 3, 4, 32, 64, 65, 255))
        images = b"\0\0\x08" + bytes([axes]) + struct.pack(f">{axes}I", *(chance.choice(NUMBERS[:12]) for _ in range(axes)))
    files = [place / "t10k-images-idx3-ubyte", place / "t10k-labels-idx1-ubyte"]
    for file, content in zip(files, (images, labels), strict=True):
        packed = chance.randrange(3) == 0
        if packed and chance.randrange(2):
            content, packed = bent(chance, content), True
        content = gzip.compress(content, 1, mtime=0) if packed else content
        file.write_bytes(content if chance.randrange(3) == 0 else bent(chance, content))
    if chance.randrange(20000) == 0:
        files[0].write_bytes(_bomb())
    return Case(lambda: mnist("test", place) if chance.randrange(2) else read_idx(files[0]), _named(*files))


SEQUENCES = """Training: person11, 12, 13
person01_boxing_d1\t\tframes\t1-95, 96-185, 186-245, 246-360
person01_boxing_d2\t\tframes\t1-106, 107-195, 196-265, 266-370
person13_handclapping_d3\t*missing*
person17_walking_d4\tframes\t1-200, 445-56
person25_jogging_d1 frames 1-80, 150-230
"""


def sequences(chance: random.Random, place: Path) -> Case:
    file = place / "00sequences.txt"
    file.write_bytes(bent(chance, SEQUENCES.encode()))
    return Case(lambda: kth.sequences(file), _named(file, line=True, whole="no row like"))


KINETICS = """label,youtube_id,time_start,time_end,split,is_cc
abseiling,_4YTwq0-73Y,19,29,train,0
"eating cake",0wR5jVB-WPk,417,427,train,0
eating cake,3caPS4FHFF8,36,46,train,0
"""


def kinetics_csv(chance: random.Random, place: Path) -> Case:
    file = place / "train.csv"
    file.write_bytes(bent(chance, KINETICS.encode()))
    classes = chance.choice((None, None, ["abseiling", "eating cake"], ["abseiling"]))
    count = chance.choice((None, 1, 2, 400))
    if chance.randrange(10) == 0:
        return Case(lambda: kinetics.Kinetics(file, place, True), f"{_named(file)}|no samples")
    return Case(
        lambda: kinetics.kinetics_csv(file, place, classes, count),
        _named(file, line=True, whole="no column|num_classes") + "|num_classes",
    )


def something_csv(chance: random.Random, place: Path) -> Case:
    file, labels = place / "train.csv", place / "labels.csv"
    file.write_bytes(bent(chance, b"100218;Turning something upside down\n24413;Holding something\n24414;Holding something\n"))
    names = b"Holding something\nTurning something upside down\nApproaching something with your camera\n"
    labels.write_bytes(names if chance.randrange(2) else bent(chance, names))
    count = chance.choice((None, None, 2, 174))
    return Case(
        lambda: something.something_csv(file, place, labels, count), _named(file, labels, line=True, whole="num_classes")
    )


def path_lists(chance: random.Random, place: Path) -> Case:
    file, count = place / "train.txt", chance.choice((None, 2, 400))
    if chance.randrange(4) == 0:
        file.write_bytes(bent(chance, b"juggle\nwave\ndive into water\n"))
        return Case(lambda: lists.class_names(file), _named(file, line=True))
    file.write_bytes(bent(chance, b"juggle/a b.mp4 0\nwave/c.avi 1\n\nsub/folder/d.webm 1\n"))
    return Case(lambda: lists.path_label_list(file, place, count), _named(file, line=True))


def own_folder(chance: random.Random, place: Path) -> Case:
    """Lists of one's own videos, or one that names those held out of a tree."""
    root = place / "videos"
    for name in ("juggle/a b.mp4", "juggle/b.mp4", "wave/c.avi", "wave/d.mkv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if chance.randrange(3) == 0:
        file = place / "held-out.txt"
        file.write_bytes(bent(chance, b"juggle/b.mp4\nwave/c.avi\n"))
        of_all = "no video is held out|has no video to train on"
        return Case(lambda: folder.video_folder(root, file), _named(file, line=True) + f"|{of_all}")
    files = [root / "train.txt", root / "val.txt", root / "classes.txt"]
    texts = b"juggle/a b.mp4 0\nwave/c.avi 1\n", b"juggle/b.mp4 0\nwave/d.mkv 1\n", b"juggle\nwave\n"
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text if chance.randrange(2) else bent(chance, text))
    if chance.randrange(3) == 0:
        files[2].unlink()
    whole = "is in both|has no video of class|has too few classes|has no video to train on|no video is held out"
    return Case(lambda: folder.video_folder(root), _named(*files, line=True, whole=whole) + f"|{whole}")


# Videos -------------------------------------------------------------------------------------------------------------------


@functools.cache
def _videos() -> list[tuple[str, bytes]]:
    """Small videos of each container and of what codecs there are, in bytes: ten frames of 48 × 32 pixels."""
    made = []
    codecs = {
        ".mp4": ("libx264", "mpeg4"), ".mov": ("mjpeg",), ".avi": ("mpeg4", "mjpeg", "rawvideo"), ".mkv": ("libx264", "ffv1"),
        ".webm": ("libvpx", "libvpx-vp9"),
    }  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 255, (10, 4, 6, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    for suffix, names in codecs.items():
        for name in names:
            if name not in av.codecs_available:
                continue
            with tempfile.TemporaryDirectory() as place:
                path = Path(place, f"clip{suffix}")
                with av.open(str(path), "w") as container:
                    stream: Any = container.add_stream(name, rate=25)
                    stream.width, stream.height = 48, 32
                    stream.pix_fmt = {"mjpeg": "yuvj420p"}.get(name, "yuv420p")
                    stream.codec_context.gop_size = 4
                    for picture in pictures:
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    container.mux(stream.encode())
                made.append((suffix, path.read_bytes()))
    return made


def videos(chance: random.Random, place: Path) -> Case:
    suffix, content = chance.choice(_videos())
    file = place / f"clip{suffix}"
    if chance.randrange(3) == 0:  # where the header is
        cut = min(len(content), chance.choice((64, 512, 2048)))
        content = bent(chance, content[:cut]) + content[cut:]
    elif chance.randrange(3) == 0:
        cut = max(0, len(content) - chance.choice((64, 1024)))
        content = content[:cut] + bent(chance, content[cut:])
    else:
        content = bent(chance, content)
    if chance.randrange(20) == 0:
        file = file.with_suffix(chance.choice((".mp4", ".avi", ".mkv")))
    file.write_bytes(content)
    start, frames, stride, side = chance.randrange(4), chance.randrange(1, 8), chance.randrange(1, 4), chance.choice((None, 16))
    numbers = sorted(chance.randrange(12) for _ in range(3))

    def rewritten() -> None:
        with video.timed_frames(file) as (_, shown):
            for _ in shown:
                pass

    read = chance.choice(
        (
            lambda: video.decode_gray(file),
            lambda: video.decode(file, short_side=side),
            lambda: video.decode(file, start, frames, stride, side, True),
            lambda: video.decode_numbers(file, numbers, side, True),
            lambda: video.frame_count(file),
            rewritten,
            lambda: VideoClips([(file, 0)], False, 2, 2, 8, (2, 1)).clip(file),
        )
    )
    return Case(read, _named(file))


@functools.cache
def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(
        content, "JPEG", exif=b"Exif\0\0II*\0"
    )
    return content.getvalue()


def pictures(chance: random.Random, place: Path) -> Case:
    for number in (1, 2):
        (place / f"{number:05d}.jpg").write_bytes(_jpeg() if chance.randrange(2) else bent(chance, _jpeg()))
    return Case(lambda: video.decode_jpegs(place, [0, 1], chance.choice((None, 8))), _named(place))


# Files of runs ------------------------------------------------------------------------------------------------------------

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
        return Case(lambda: Run(place).check(CONFIG), _named(file) + f"|{re.escape(str(place))} holds another run")
    return Case(lambda: _all([Run(place).config], dict), _named(file))


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
        return Case(lambda: _same(read(), WEIGHTS), _named(file))
    file.write_bytes((bent, _safetensors_bent, lambda *_: hostile(chance, place / "marker"))[how - 3](chance, content))
    return Case(read, _named(file))


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
    return Case(lambda: read_weights(file), _named(file))


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
        whole = content.getvalue()
        file.write_bytes(bent(chance, whole) if how == 2 else flipped(chance, whole) if how == 3 else whole)
        if how == 3:
            return Case(lambda: _same((Run(place).restore() or ({}, []))[0]["model"], tree["state"]["model"]), _named(file))
    named = f"{_named(file)}|became (nan|inf)"
    return Case(lambda: _trained(place, adam, 2) if chance.randrange(3) else Run(place).restore(), named)


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
    return Case(lambda: predict.trained(place), _named(place))


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.ConvTranspose3d(2, 1, 3))


@functools.cache
def _converted() -> tuple[bytes, dict[str, torch.Tensor]]:
    network = to_stdcf(_net(), 3, 2)[0]
    with tempfile.TemporaryDirectory() as place:
        save(network, Path(place, "net.safetensors"), "r3d_18")
        return Path(place, "net.safetensors").read_bytes(), network.state_dict()


def converted(chance: random.Random, place: Path) -> Case:
    """A converted network in one file."""
    file, (content, wanted), how = place / "net.safetensors", _converted(), chance.randrange(5)
    if how < 2:
        file.write_bytes(flipped(chance, content))
        return Case(lambda: _same(load(file, _net()).state_dict(), wanted), _named(file))
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
    return Case(lambda: load(file, _net()), _named(file))


# Command lines ------------------------------------------------------------------------------------------------------------


def _words(chance: random.Random, parser: argparse.ArgumentParser, begin: list[str], never: tuple[str, ...] = ()) -> list[str]:
    """A command line of a parser's own options, with values good and bad."""
    words = list(begin)
    for action in chance.sample(parser._actions, min(len(parser._actions), chance.randrange(5))):
        if not action.option_strings or action.option_strings[0] in (*never, "-h"):
            continue
        words.append(action.option_strings[-1])
        count = action.nargs if isinstance(action.nargs, int) else chance.randrange(3) if action.nargs else 1
        for _ in range(count + chance.choice((-1, 0, 0, 0, 0, 0, 1))):
            good = [*map(str, action.choices)] if action.choices else ["1", "2", "4", "8", "16", "0.5"]
            words.append(chance.choice(good) if chance.randrange(2) else _word(chance))
    for _ in range(chance.choice((0, 0, 1, 2))):
        words.insert(chance.randrange(len(words) + 1), _word(chance))
    if words and chance.randrange(4) == 0:
        del words[chance.randrange(len(words))]
    return words


def _word(chance: random.Random) -> str:
    return chance.choice(
        ("", "-", "--", "-1", "0", "3", "nan", "inf", "1e999", "9" * 30, "9" * 5000, "٣", "1_0", " 3", "0x10", "--seed=x", "@x",
         "\ud800", "x" * 3000, "--frames", "noise", "folder", "%", "{}", "/", "a:b", ":", "x.py:f", "..", "é\n", "🎬", "True",
         "None", "2**31")
    )  # fmt: skip


def _typed(main: Callable[[], None], *words: str) -> None:
    with mock.patch.object(sys, "argv", ["stdcf_lib.itsl", *words]):
        main()


def _said(call: Callable[[], object], prog: str) -> None:
    """Run a command; its refusal becomes what it has said."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            call()
    except SystemExit as error:
        if error.code == 2 and f"{prog}: error: " in said.getvalue():
            raise ValueError(f"command: {said.getvalue()}") from None
        if isinstance(error.code, str) and error.code.startswith(prog):
            raise ValueError(f"command: {error.code}") from None
        if error.code not in (0, None):
            raise AssertionError(f"ended with {error.code!r} and {said.getvalue()!r}") from error


def commands(chance: random.Random, place: Path) -> Case:
    """The words of `python -m stdcf_lib.itsl`, of its `predict`, and of `python -m stdcf_lib.convert`; they are parsed only."""
    match chance.randrange(3):
        case 0:
            begin = chance.choice((["noise", "--folder", "x"], ["folder", "--data", "x", "--plan"], ["kinetics400", "--plan"]))
            words = _words(chance, _parsers()["itsl"], begin, ("--direct",))
            return Case(lambda: _said(lambda: itsl_command.parse(words), "stdcf_lib.itsl"), "command: ")
        case 1:
            words = _words(chance, _parsers()["predict"], ["--weights", str(place), "clip.mp4"])
            return Case(lambda: _said(lambda: _typed(predict.main, "predict", *words), "stdcf_lib.itsl predict"), "command: ")
        case _:
            words = _words(chance, _parsers()["convert"], ["mine.py:net"])
            return Case(lambda: _said(lambda: convert_command.parser().parse_args(words), "stdcf_lib.convert"), "command: ")


@functools.cache
def _parsers() -> dict[str, argparse.ArgumentParser]:
    return {"itsl": itsl_command.parser(), "predict": predict.parser(), "convert": convert_command.parser()}


def conversions(chance: random.Random, place: Path) -> Case:
    """The whole command that converts, for a small network of a file."""
    file = place / "mine.py"
    file.write_text("from torch import nn\n\ndef net():\n    return nn.Conv3d(1, 2, 3, padding=1)\n")
    weights = place / "net.pt"
    torch.save(nn.Conv3d(1, 2, 3).state_dict() if chance.randrange(2) else _net().state_dict(), weights)
    words = [f"{file}:net", "--input", "1", "1", "4", "8", "8"]
    words += ["--weights", str(weights)] if chance.randrange(3) == 0 else []
    words = _words(chance, _parsers()["convert"], words, ("--clips", "--epochs", "--weights", "--output"))
    return Case(lambda: _said(lambda: convert_command.main(words), "stdcf_lib.convert"), "command: ")


def profiles(chance: random.Random, place: Path) -> Case:
    text = bent(chance, chance.choice((b"smoke", b"laptop", b"paper"))).replace(b"\0", b"").decode(errors="surrogateescape")

    def read() -> Any:
        before = os.environ.get("STDCF_PROFILE")
        os.environ["STDCF_PROFILE"] = text
        try:
            return by_profile(smoke=1, laptop=2, paper=3)
        finally:
            os.environ.pop("STDCF_PROFILE")
            os.environ |= {} if before is None else {"STDCF_PROFILE": before}

    return Case(read, "STDCF_PROFILE")


# Arguments ----------------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """Something to call, arguments that it takes, and further names that a refusal may have for them."""

    function: Callable[..., object]
    arguments: dict[str, Any]
    also: tuple[str, ...] = ()


def _bent_call(chance: random.Random, call: Call) -> Case:
    arguments = dict(call.arguments)
    changed = chance.sample(sorted(arguments), min(len(arguments), chance.choice((1, 1, 1, 2))))
    for name in changed:
        value = chance.choice(VALUES)
        arguments[name] = iter((1, 2, 3)) if type(value) is type(iter(())) else value
    # Where two do not fit together, either will do.
    return Case(lambda: call.function(**arguments), rf"\b({'|'.join((*sorted(arguments), *call.also))})\b")


LAYER = {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
         "bias": True, "padding_mode": "zeros", "dtype": None}  # fmt: skip
OURS = {"spatial_atoms": 3, "temporal_atoms": 2, "atoms": "dct", "evaluation": "auto"}
TRANSPOSED = LAYER | {"output_padding": 0}


def _layer(**options: Any) -> Any:
    return conv.STDCFConv3d(1, 1, 3, spatial_atoms=3, temporal_atoms=2, **options)


def _swapped(**atoms: Any) -> None:
    _layer(padding=1).swap(**atoms)


def _dilated(**options: Any) -> None:
    _layer(padding=1).dilate(**options)


def _frozen(what: Any) -> None:
    _layer().freeze(what)


def _followed(model: Any, first: Any, rule: Any, stage: Any) -> None:
    AtomSwap(model, first, rule).to(stage)


def _converted_with(**options: Any) -> None:
    to_stdcf(nn.Conv3d(1, 2, 3, padding=1), **options)


@functools.cache
def _layer_calls() -> list[Call]:
    stage, factors = Stage("final", 4, 16), {"middle_channels": None, "between": None}
    return [
        Call(conv.STDCFConv3d, LAYER | OURS),
        Call(conv.STDCFConvTranspose3d, TRANSPOSED | OURS),
        Call(rank1.Rank1Conv3d, LAYER | factors),
        Call(rank1.Rank1ConvTranspose3d, TRANSPOSED | factors),
        Call(_swapped, {"psi": torch.ones(3, 5, 5), "phi": torch.ones(2, 3)}),
        Call(_dilated, {"temporal": 2, "spatial": (1, 2)}, ("dilation",)),
        Call(_frozen, {"what": "both"}),
        Call(atoms.spatial_atoms, {"size": (3, 3), "count": 3, "family": "dct"}, ("atoms", "spatial_atoms")),
        Call(atoms.temporal_atoms, {"size": 3, "count": 2, "family": "dct"}, ("atoms", "temporal_atoms")),
        Call(atoms.stretch, {"atoms": torch.ones(2, 3), "factor": 1.5}),
        Call(joint_decomposition, {"filters": torch.ones(2, 1, 3, 3, 3), "spatial_atoms": 2, "temporal_atoms": 2}),
        Call(energies, {"filters": torch.ones(2, 1, 3, 3, 3)}),
        Call(_converted_with, {"spatial_atoms": 3, "temporal_atoms": 2, "input_size": (1, 1, 4, 8, 8)}),
        Call(_converted_with, {"keep": 0.9, "spatial_atoms": None}),
        Call(_converted_with, {"macs": 0.9, "input_size": (1, 1, 4, 8, 8)}),
        Call(Stage, {"name": "t-1", "frames": 4, "size": 16, "frozen": "spatial", "epochs": 1.0, "batch": 1}),
        Call(schedule, {"iterations": 2, "frames": 8, "size": 32, "reduction": 4, "epochs": 1.0, "final_epochs": 1.0,
                        "enlarge": 1}),
        Call(Recipe, {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "clip_norm": None, "swap": "keep", "seed": 0,
                      "adam": False, "grid": None, "average": None}),
        Call(_followed, {"model": _layer(), "first": Stage("t-1", 4, 8), "rule": "resample", "stage": stage}, ("swap",)),
    ]  # fmt: skip


def layers(chance: random.Random, place: Path) -> Case:
    return _bent_call(chance, chance.choice(_layer_calls()))


def _changed(make: Callable[..., Any], **options: Any) -> None:
    """An explorable, as its Python object is made, drawn upon by its page, and asked for a page of its own."""
    make(**options).page()


@functools.cache
def _explorable_calls() -> list[Call]:
    layer, clip = _layer(), torch.rand(1, 1, 4, 5, 6)
    seen = {"probe": "bar", "speed": 1.0, "wavelength": 8.0, "direction": 45, "tempo": 1.5, "dilation": 2}
    return [
        Call(functools.partial(_changed, Filter), {"layer": layer, "output": 0, "input": 0, **seen}),
        Call(
            functools.partial(_changed, Voxel), {"layer": layer, "clip": clip, "output": 0, "input": 0, "t": 0, "y": 1, "x": 2}
        ),
        Call(functools.partial(_changed, Rank), {"alpha": torch.rand(2, 2, 2, 2), "middle": 1, "gauge": 0.5}),
        Call(functools.partial(_changed, Rank), {"alpha": layer, "middle": 1, "gauge": 0.5}),
    ]


def explorables(chance: random.Random, place: Path) -> Case:
    return _bent_call(chance, chance.choice(_explorable_calls()))


KINDS = {
    "idx": Kind(idx, share=3),
    "00sequences": Kind(sequences, share=4),
    "kinetics": Kind(kinetics_csv, share=4),
    "something": Kind(something_csv, share=4),
    "lists": Kind(path_lists, share=4),
    "folder": Kind(own_folder, share=3),
    "video": Kind(videos, (video.VideoError, OSError), share=5),
    "jpeg": Kind(pictures, (video.VideoError,), share=1),
    "rows": Kind(rows, share=4),
    "config": Kind(config, share=3),
    "weights": Kind(weights, share=3),
    "state_dict": Kind(state_dicts, share=2),
    "checkpoint": Kind(checkpoints, (ValueError, OSError, FloatingPointError), share=3),
    "predict": Kind(predictions, share=2),
    "converted": Kind(converted, share=3),
    "command": Kind(commands, share=2),
    "convert": Kind(conversions, share=2),
    "profile": Kind(profiles, (ValueError,), share=0.5),
    "layer": Kind(layers, (ValueError, TypeError), share=5),
    "explorable": Kind(explorables, (ValueError, TypeError), share=3),
}


# The attack ---------------------------------------------------------------------------------------------------------------


def tried(name: str, number: int, seed: int, place: Path) -> Finding | str:
    """Give one input to its reader: "taken", "refused", or what is wrong. The folder is emptied before it."""
    for entry in os.scandir(place):
        shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
    kind, chance = KINDS[name], random.Random(f"{seed} {name} {number}")
    case = kind.draw(chance, place)
    began = time.process_time()
    try:
        case.read()
        found: Finding | str = "taken"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        found = _judged(error, kind, case)
    if (place / "marker").exists():
        return Finding("a pickle was executed", name, "")
    if (took := time.process_time() - began) > PATIENCE:
        return Finding("slow", name, f"{took:.0f} s of processor time")
    return found


def _judged(error: BaseException, kind: Kind, case: Case) -> Finding | str:
    chain: BaseException | None = error
    while chain is not None:
        if type(chain) is MemoryError or (type(chain) is RuntimeError and "allocate memory" in str(chain)):
            return _finding("too much memory asked for", error)
        chain = chain.__cause__ or chain.__context__
    if not isinstance(error, kind.documented) or type(error) in (UnicodeDecodeError, json.JSONDecodeError):
        return _finding(type(error).__name__, error)
    if not re.search(case.named, str(error)):
        return _finding(f"{type(error).__name__} that names nothing", error)
    return "refused"


def _finding(what: str, error: BaseException) -> Finding:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(LIBRARY)]
    place = (
        f"stdcf_lib/{Path(frames[-1].filename).relative_to(LIBRARY)}:{frames[-1].lineno}" if frames else "outside the library"
    )
    return Finding(what, place, f"{type(error).__name__}: {error}"[:300])


class _Slice(NamedTuple):
    """What a fork has come to: how many it tried, what it found, and its peak of memory above where it began."""

    tried: int
    findings: list[tuple[int, Finding]]
    outcomes: Counter[str]
    growth: int


def _fork(name: str, first: int, seed: int, seconds: float, known: set[tuple[str, str]], place: Path) -> _Slice:
    """Try inputs from number `first` on in a fork, for so long, or until it dies of one."""
    # What the fork is at: the number of the input, and its own processor time when it began with it.
    at = mmap.mmap(-1, 16)
    at[:] = struct.pack("qd", first, 0.0)
    reading, writing = os.pipe()
    stacks = tempfile.TemporaryFile("w+")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(name, first, seed, seconds, known, place, at, writing, stacks)
    os.close(writing)
    findings: list[tuple[int, Finding]] = []
    outcomes: Counter[str] = Counter()
    growth, received, end, ended = 0, b"", time.monotonic() + 60 + 4 * seconds, ""
    process = psutil.Process(child)
    while True:
        ready, _, _ = select.select([reading], [], [], 0.5)
        if ready:
            part = os.read(reading, 65536)
            if not part:
                break
            received += part
        number, since = struct.unpack("qd", at[:])
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            if (since and times.user + times.system - since > PATIENCE) or time.monotonic() > end:
                ended = "hang"
                os.kill(child, signal.SIGUSR1)  # it writes where it is
                time.sleep(0.5)
                os.kill(child, signal.SIGKILL)
                break
    os.close(reading)
    _, status = os.waitpid(child, 0)
    number, _ = struct.unpack("qd", at[:])
    for line in received.decode().splitlines():
        value = json.loads(line)
        if isinstance(value, dict):
            outcomes.update(value["outcomes"])
            growth = value["growth"]
        else:
            findings.append((value[0], Finding(*value[1:])))
    if ended or status:
        stacks.seek(0)
        places = re.findall(rf'File "{re.escape(str(LIBRARY))}/(.*?)", line (\d+)', stacks.read())
        where = "stdcf_lib/" + ":".join(places[0]) if places else "?"
        findings.append((number, Finding(ended or f"died ({os.waitstatus_to_exitcode(status)})", where, "")))
    return _Slice(number + 1 - first, findings, outcomes, growth)


def _work(
    name: str, first: int, seed: int, seconds: float, known: set[tuple[str, str]], place: Path, at: mmap.mmap, writing: int,
    stacks: Any,
) -> None:  # fmt: skip
    """The fork. It does not return."""
    try:
        faulthandler.enable(stacks)
        faulthandler.register(signal.SIGUSR1, stacks)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        logging.disable()
        warnings.filterwarnings("error", module="stdcf_lib")
        torch.set_num_threads(1)  # a fork has not its parent's threads, and would wait for them
        space = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (space + MOST_SPACE, space + MOST_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        before, outcomes, end, number = _peak(), Counter(), time.monotonic() + seconds, first
        most = MOST_GROWTH.get(name, GIB // 4)
        with os.fdopen(writing, "w") as answers:
            while True:
                at[:] = struct.pack("qd", number, time.process_time())
                found = tried(name, number, seed, place)
                if _peak() - before > most and isinstance(found, str):
                    found = Finding("memory", name, f"{(_peak() - before) / GIB:.2f} GiB more")
                outcomes[found if isinstance(found, str) else "found"] += 1
                if isinstance(found, Finding) and (key := (found.what, found.place)) not in known:
                    known.add(key)
                    answers.write(json.dumps([number, *found]) + "\n")
                if time.monotonic() > end or _peak() - before > most:
                    break
                number += 1
            answers.write(json.dumps({"outcomes": outcomes, "growth": _peak() - before}) + "\n")
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=stacks)
        os._exit(9)


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def attack(
    seconds: float, seed: int, say: Callable[[str], None], names: Sequence[str] = tuple(KINDS)
) -> dict[str, int | float | str]:
    """Try inputs for so long, and say what is found, and of each kind how many were tried."""
    prepared = (_videos, _bomb, _torch_bomb, _jpeg, _kept_weights, _predicting, _converted, _parsers, _layer_calls)
    for prepare in (*prepared, _explorable_calls, *(functools.partial(_checkpoint, adam) for adam in (False, True))):
        prepare()
    began, shares = time.monotonic(), sum(KINDS[name].share for name in names)
    rounds, memory = max(1, round(seconds / 150)), "/dev/shm" if os.path.isdir("/dev/shm") else None
    counts: Counter[str] = Counter()
    peaks: Counter[str] = Counter()
    spent = dict.fromkeys(names, 0.0)
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    known: dict[str, set[tuple[str, str]]] = {name: set() for name in names}
    for _, name in itertools.product(range(rounds), names):
        start = time.monotonic()
        end = start + seconds / rounds * KINDS[name].share / shares
        while (left := end - time.monotonic()) > 0.05:  # a fork may have died of an input
            with tempfile.TemporaryDirectory(dir=memory) as place:
                part = _fork(name, counts[name], seed, left, known[name], Path(place))
            counts[name] += part.tried
            outcomes[name] += part.outcomes
            peaks[name] = max(peaks[name], part.growth)
            for number, finding in part.findings:
                if (key := (finding.what, finding.place)) not in known[name]:
                    known[name].add(key)
                    say(f"{name} {number}: {finding.what} at {finding.place}: {finding.message}")
        spent[name] += time.monotonic() - start
    for name in names:
        of_them = ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes[name].items()))
        say(f"{name:12}{counts[name]:9,} in {spent[name]:4.0f} s, {peaks[name] / 2**20:4.0f} MiB at most: {of_them}")
    return {
        "inputs": counts.total(),
        "kinds": len(names),
        "findings": sum(map(len, known.values())),
        "pickles executed": sum(what == "a pickle was executed" for found in known.values() for what, _ in found),
        "peak MiB": round(max(peaks.values()) / 2**20),
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Give bent inputs to what reads them, and print what is not refused as documented."
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all without any")
    parser.add_argument("--seconds", type=float, default=1200, help="in all (1200)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--again", nargs=2, metavar=("KIND", "NUMBER"), help="one input once more, with its traceback")
    arguments = parser.parse_args()
    if unknown := {*arguments.kinds, *(arguments.again or [])[:1]} - set(KINDS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
    if arguments.again:
        name, number = arguments.again[0], int(arguments.again[1])
        with tempfile.TemporaryDirectory() as place:
            case = KINDS[name].draw(random.Random(f"{arguments.seed} {name} {number}"), Path(place))
            print(f"taken: {case.read()!r}")
        return
    print(
        attack(arguments.seconds, arguments.seed, lambda line: print(line, flush=True), tuple(arguments.kinds) or tuple(KINDS))
    )


if __name__ == "__main__":
    main()
