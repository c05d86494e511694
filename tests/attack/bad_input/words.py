"""What is typed: command lines, and the profile."""

import argparse
import contextlib
import functools
import io
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from stdcf_lib.convert import command as convert_command
from stdcf_lib.effort import by_profile
from stdcf_lib.itsl import command as itsl_command
from stdcf_lib.itsl import predict
from tests.attack.bad_input.bent import Case, bent
from tests.attack.bad_input.runs import net


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
    torch.save(nn.Conv3d(1, 2, 3).state_dict() if chance.randrange(2) else net().state_dict(), weights)
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


PREPARED = (_parsers,)
