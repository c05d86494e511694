"""A few inputs of every kind: a miniature of `python -m tests.attack.inputs`."""

import os
import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from tests.attack import inputs
from tests.attack.bad_input.bent import Case, hostile
from tests.attack.inputs import KINDS, Finding, Kind, attack, tried

FEWER = {"convert": 8, "predict": 12}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_taken_or_refused_as_documented(name, tmp_path):
    found = [tried(name, number, 0, tmp_path) for number in range(FEWER.get(name, 25))]
    assert [finding for finding in found if isinstance(finding, Finding)] == [] and "refused" in found


def _raises(error: BaseException) -> Callable[[], None]:
    def read() -> None:
        raise error

    return read


FAULTS: dict[str, Any] = {
    "foreign": (_raises(KeyError("x")), "KeyError at"),
    "unnamed": (_raises(ValueError("no")), "ValueError that names nothing"),
    "memory": (lambda: bytearray(2**40), "too much memory asked for"),
    "growth": (lambda: len(bytes([1]) * 2**27), "memory at"),  # more than a worker has at hand
    "warning": (lambda: warnings.warn_explicit("old", UserWarning, "x.py", 1, "stdcf_lib.x"), "UserWarning at"),
    "hang": (lambda: [None for _ in iter(int, 1)], "hang at"),
    "crash": (lambda: os.abort(), "died (-6) at"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_attack_finds_what_is_wrong(name, monkeypatch):
    read, found = FAULTS[name]
    monkeypatch.setitem(inputs.KINDS, "faulty", Kind(lambda chance, place: Case(read, "names"), (ValueError,)))
    monkeypatch.setattr(inputs, "PATIENCE", 0.3)
    monkeypatch.setattr(inputs, "MOST_GROWTH", {"faulty": 2**24})
    said: list[str] = []
    figures = attack(0.06, 0, said.append, ["faulty"])
    assert said[0].startswith("faulty 0: ") and found in said[0]
    assert figures["findings"] == 1


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_the_hostile_pickles_would_be_executed(tmp_path):
    """By a reader that unpickles whatever it meets."""
    for number in range(20):
        marker, file = tmp_path / f"{number}", tmp_path / f"{number}.file"
        file.write_bytes(hostile(random.Random(number), marker))
        for careless in (lambda file: torch.load(file, weights_only=False), lambda file: np.load(file, allow_pickle=True)):
            with suppress(Exception):
                careless(file)
        assert marker.is_dir()
