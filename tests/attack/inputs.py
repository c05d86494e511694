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
import faulthandler
import itertools
import json
import logging
import mmap
import os
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
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from stdcf_lib.data import video
from tests.attack.bad_input import arguments, data, runs, words
from tests.attack.bad_input.bent import Case

LIBRARY = Path(video.__file__).parents[1]
PATIENCE = 10.0
"""Seconds of processor time that one input may take."""
GIB = 2**30
MOST_SPACE = 4 * GIB
"""Of address space, above what a fork begins with; more is refused by the system, and found as a MemoryError."""
MOST_GROWTH = {"video": GIB, "idx": GIB}
"""Of memory, by which one input may make a fork grow; 256 MiB for the kinds that are not here."""


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


KINDS = {
    "idx": Kind(data.idx, share=3),
    "00sequences": Kind(data.sequences, share=4),
    "kinetics": Kind(data.kinetics_csv, share=4),
    "something": Kind(data.something_csv, share=4),
    "lists": Kind(data.path_lists, share=4),
    "folder": Kind(data.own_folder, share=3),
    "video": Kind(data.videos, (video.VideoError, OSError), share=5),
    "jpeg": Kind(data.pictures, (video.VideoError,), share=1),
    "rows": Kind(runs.rows, share=4),
    "config": Kind(runs.config, share=3),
    "weights": Kind(runs.weights, share=3),
    "state_dict": Kind(runs.state_dicts, share=2),
    "checkpoint": Kind(runs.checkpoints, (ValueError, OSError, FloatingPointError), share=3),
    "predict": Kind(runs.predictions, share=2),
    "converted": Kind(runs.converted, share=3),
    "command": Kind(words.commands, share=2),
    "convert": Kind(words.conversions, share=2),
    "profile": Kind(words.profiles, (ValueError,), share=0.5),
    "layer": Kind(arguments.layers, (ValueError, TypeError), share=5),
    "explorable": Kind(arguments.explorables, (ValueError, TypeError), share=3),
}


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
    for prepare in (*data.PREPARED, *runs.PREPARED, *words.PREPARED, *arguments.PREPARED):
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
    given = parser.parse_args()
    if unknown := {*given.kinds, *(given.again or [])[:1]} - set(KINDS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
    if given.again:
        name, number = given.again[0], int(given.again[1])
        with tempfile.TemporaryDirectory() as place:
            case = KINDS[name].draw(random.Random(f"{given.seed} {name} {number}"), Path(place))
            print(f"taken: {case.read()!r}")
        return
    print(attack(given.seconds, given.seed, lambda line: print(line, flush=True), tuple(given.kinds) or tuple(KINDS)))


if __name__ == "__main__":
    main()
