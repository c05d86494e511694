"""Processes that are forks of one that has imported the library, as a test would mostly wait for that."""

import gc
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

import stdcf_lib.itsl.command  # noqa: F401
from stdcf_lib.measure import cost
from stdcf_lib.models import SmallVideoNet

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["warm"])

cost(SmallVideoNet(), (4, 1, 4, 8, 8))  # the first one imports much
gc.freeze()  # no fork need look through all that for garbage, as a run does after each stage


def process(function: Callable[..., Any], *args: Any) -> BaseProcess:
    """A fork that will call this function; it is yet to be started."""
    places = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    with patch.dict(os.environ, PYTHONPATH=places):  # by which alone the server finds `warm` (CPython's issue 117378)
        forkserver.ensure_running()
    return _FORKS.Process(target=function, args=args)


def answered(function: Callable[..., Any], *args: Any, **variables: str) -> "CompletedProcess[str]":
    """What a function prints, and how it ends, in a process of its own with these environment variables."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        fork = process(_spoken, out, err, variables, function, args)
        fork.start()
        fork.join()
        assert fork.exitcode is not None
        return CompletedProcess([], fork.exitcode, out.read_text(), err.read_text())


def _spoken(out: Path, err: Path, variables: dict[str, str], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ |= variables
    function(*args)
