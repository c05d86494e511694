"""How inputs are bent, whatever they are.

Beside this module are the inputs themselves, by what they are given to: a function for each kind draws a `Case`, and `PREPARED`
makes once what takes long to make.
"""

import copy
import io
import math
import os
import pickle
import random
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn


class Case(NamedTuple):
    """A bent input: what reads it, and a pattern of what must be in the message of a refusal."""

    read: Callable[[], object]
    named: str


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


def named(*paths: Path, line: bool = False, whole: str = "") -> str:
    """The pattern of a message that names one of the files, and its line unless the fault is of the `whole` file."""
    names = "|".join(re.escape(str(path)) for path in paths)
    return rf"(?s)(line \d+ of ({names})|({names}).*({whole})|({whole}).*({names}))" if line else names
