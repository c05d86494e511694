"""A few inputs of every kind: a miniature of `python -m tests.attack.inputs`."""

import io
import os
import pickle
import random
import warnings

import pytest

from tests.attack import inputs
from tests.attack.inputs import KINDS, Case, Finding, Kind, attack, hostile, tried

COSTLY = {"video": 12, "checkpoint": 8, "predict": 6, "convert": 3}


@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_taken_or_refused_as_documented(name, tmp_path):
    found = [tried(name, number, 0, tmp_path) for number in range(COSTLY.get(name, 25))]
    assert [finding for finding in found if isinstance(finding, Finding)] == [] and len(set(found)) == 2


def _raises(error: BaseException):
    def read() -> None:
        raise error

    return read


FAULTS = {
    "foreign": (_raises(KeyError("x")), "KeyError at"),
    "unnamed": (_raises(ValueError("no")), "ValueError that names nothing"),
    "memory": (lambda: bytearray(2**40), "too much memory asked for"),
    "growth": (lambda: len(bytes(2**29).replace(bytes(1), bytes([1]))), "memory at"),
    "warning": (lambda: warnings.warn_explicit("old", UserWarning, "x.py", 1, "stdcf_lib.x"), "UserWarning at"),
    "hang": (lambda: [None for _ in iter(int, 1)], "hang at"),
    "crash": (lambda: os.abort(), "died (-6) at"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_attack_finds_what_is_wrong(name, monkeypatch):
    read, found = FAULTS[name]
    monkeypatch.setitem(inputs.KINDS, "faulty", Kind(lambda chance, place: Case(read, "names"), (ValueError,)))
    monkeypatch.setattr(inputs, "PATIENCE", 0.3)
    said: list[str] = []
    figures = attack(0.06, 0, said.append, ["faulty"])
    assert said[0].startswith("faulty 0: ") and found in said[0]
    assert figures["findings"] == 1


def test_the_hostile_pickles_would_be_executed(tmp_path):
    """By who unpickles them, which the library must not."""
    for number in range(40):
        content, marker = hostile(random.Random(number), tmp_path / f"{number}"), tmp_path / f"{number}"
        if content[:1] == b"\x80":  # bare, or of old torch
            pickle.Unpickler(io.BytesIO(content)).load()
            assert marker.is_dir()
