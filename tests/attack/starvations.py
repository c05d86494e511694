"""What is taken from a process under way: room on the disk, the right to write, its folder, the clock, its turn in a notebook.

Each must be answered in words, lose nothing, and go on to the end of an unbroken one. Part of `kills.py`.
"""

import ctypes
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from stdcf_lib.runs import Run
from tests.attack.jobs import (
    convert_again_and_again,
    convert_by_command,
    keep_again_and_again,
    pool,
    shrink_videos,
    train_alone,
    train_together,
    write_network,
    write_videos,
)
from tests.attack.processes import Child, differing, emptied, files, found, half_written, running

NO_ROOM = "no room to write", "free some room"
NO_RIGHT = "no right to write", "name another folder"


def own_mounts() -> bool:
    """Keep what is mounted from now on to this process and its children; False where one may not mount."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000):  # CLONE_NEWNS
        return False
    return not subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode


@contextmanager
def mounted(folder: Path, *words: str | Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *words, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def unbroken(job: Callable[[], object], folder: Path, before: Callable[[Path], object]) -> dict[str, Any]:
    before(emptied(folder / "unbroken"))
    child = Child(job, folder / "unbroken", folder / "printed")
    child.ended()
    if child.status:
        raise RuntimeError(f"unbroken, it fails: {child.said()[-500:]}")
    return found(folder / "unbroken")


def refused(child: Child, words: tuple[str, ...], where: str) -> list[str]:
    """Whether it has ended and said in words what and where, and what would do."""
    if not child.ended(60):
        os.killpg(child.pid, signal.SIGKILL)
        child.ended()
        return ["it goes on, and says nothing"]
    if child.status == 0:
        return ["it ends as if nothing were wrong"]
    said = child.said()
    return [f"not said: {word!r}, but {said[-300:]!r}" for word in (*words, where) if word not in said]


JOBS: dict[str, tuple[Callable[[], object], Callable[[Path], object]]] = {
    "ITSL": (train_alone, lambda folder: folder.mkdir()),
    "pool": (pool, lambda folder: folder.mkdir()),
    "save": (keep_again_and_again, lambda folder: folder.mkdir()),
    "conversion": (convert_again_and_again, lambda folder: folder.mkdir()),
    "conversion, the command": (convert_by_command, write_network),
    "shrink": (shrink_videos, write_videos),
}


def full_disk(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """A tmpfs of 3 MB, of which a random part is free; without the right to mount, a limit on the size of files."""
    faults = []
    needs = {"ITSL": 70_000, "pool": 70_000, "save": 600_000, "conversion": 40_000, "conversion, the command": 60_000}
    for name, need in needs.items():
        job, before = JOBS[name]
        expected = unbroken(job, folder, before)
        for _ in range(3 if name == "ITSL" else 1):
            place = emptied(folder / "full")
            if not mounts:
                before(place)
                child = Child(lambda job=job: _limited(job, 8_000), place, folder / "printed")
                faults += [f"{name}: {fault}" for fault in refused(child, NO_ROOM, "")]
                faults += _ends(job, place, folder, expected, name)
                continue
            with mounted(place, "-t", "tmpfs", "-o", "size=3m", "none"):
                before(place / "in")
                ballast, free = place / "ballast", chance.randrange(need)
                with open(ballast, "wb", buffering=0) as file:
                    try:
                        while file.write(bytes(4096)):
                            pass
                    except OSError:
                        pass
                    file.truncate(max(0, file.tell() - free // 4096 * 4096))
                child = Child(job, place / "in", folder / "printed")
                faults += [f"{name}, {free} bytes free: {fault}" for fault in refused(child, NO_ROOM, "")]
                ballast.unlink()
                faults += _ends(job, place / "in", folder, expected, name)
    return faults


def _limited(job: Callable[[], object], size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        job()
    finally:  # for what it has to say
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _ends(job: Callable[[], object], place: Path, folder: Path, expected: dict[str, Any], name: str) -> list[str]:
    """What is left is whole; and the same again ends as if nothing had been."""
    faults = [] if name == "shrink" else half_written(place)
    child = Child(job, place, folder / "printed")
    child.ended()
    faults += [f"afterwards it fails: {child.said()[-300:]}"] if child.status else differing(expected, found(place))
    return [f"{name}: {fault}" for fault in faults]


def read_only(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """A read-only mount of the folder, at the start and after some of the work; without the right to mount, its permissions."""
    faults = []
    for name in ("ITSL", "save", "conversion", "conversion, the command", "shrink"):
        job, before = JOBS[name]
        expected = unbroken(job, folder, before)
        place = emptied(folder / "writable")
        before(place)
        if name == "ITSL":
            child = Child(job, place, folder / "printed")
            child.ended(chance.uniform(0.1, 0.5))
            child.kill()
        if mounts:
            with mounted(folder / "read-only", "--bind", "-o", "ro", place):
                child = Child(job, folder / "read-only", folder / "printed")
                faults += [f"{name}: {fault}" for fault in refused(child, NO_RIGHT, "")]
        else:
            modes = {path: path.stat().st_mode for path in (place, *place.rglob("*")) if path.is_dir()}
            for path in modes:
                path.chmod(0o555)
            child = Child(job, place, folder / "printed")
            faults += [f"{name}: {fault}" for fault in refused(child, NO_RIGHT, "")]
            for path, mode in modes.items():
                path.chmod(mode)
        faults += _ends(job, place, folder, expected, name)
    return faults


def folder_removed(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """Removed at a random moment, and in a second round another run begins in its place at once."""
    faults, (job, before) = [], JOBS["ITSL"]
    expected = unbroken(job, folder, before)
    for taken in (False, True):
        place = emptied(folder / "removed")
        child = Child(lambda: train_alone(tick=lambda: time.sleep(0.002)), place, folder / "printed")
        while not (place / "run" / ".lock").exists():
            time.sleep(0.001)
        child.ended(chance.uniform(0, 0.5))
        emptied(place / "run")
        emptied(place / "run")  # a file may have come while others went
        if taken:
            other = Child(lambda: train_alone(tick=lambda: time.sleep(0.001)), place, folder / "printed too")
            faults += refused(child, ("was removed", "start the same again"), "run")
            other.ended()
            faults += [f"the one after it fails: {other.said()[-300:]}"] if other.status else differing(expected, found(place))
        else:
            faults += refused(child, ("was removed", "start the same again"), "run")
            faults += _ends(job, place, folder, expected, "afterwards")
    return faults


def clock_set_back(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """To the last century, while the files that are there are from the next."""
    faults = []
    for name in ("ITSL", "pool", "save", "shrink"):
        job, before = JOBS[name]
        expected = unbroken(job, folder, before)
        place = emptied(folder / "clock")
        before(place)
        began = time.monotonic()
        child = Child(job, place, folder / "printed")
        child.ended(chance.uniform(0.1, 0.6) + (2 if name == "pool" else 0))
        child.kill()
        for path in files(place):
            os.utime(path, (4e9, 4e9))
        faults += _ends(lambda job=job, began=began: _last_century(job, began), place, folder, expected, name)
    return faults


def _last_century(job: Callable[[], object], began: float) -> None:
    time.time = lambda: 9e8 + time.monotonic() - began
    time.time_ns = lambda: int(time.time() * 1e9)
    job()


def two_in_one_folder(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """The same run twice, and another one, while the first is at it."""
    faults, (job, before) = [], JOBS["ITSL"]
    expected = unbroken(job, folder, before)
    place = emptied(folder / "two")
    first = Child(lambda: train_alone(tick=lambda: time.sleep(0.01)), place, folder / "printed")
    while not (place / "run" / "config.json").exists():
        time.sleep(0.001)
    others = {"in use by process": {}, "holds another run": {"rate": 0.1}}
    for number, (words, options) in enumerate(others.items()):
        time.sleep(chance.uniform(0, 0.2))
        other = Child(lambda options=options: train_alone(**options), place, folder / f"printed {number}")
        faults += refused(other, (words, "choose another"), "run")
    first.ended()
    faults += [f"the first fails: {first.said()[-300:]}"] if first.status else differing(expected, found(place))
    return faults


def others_go_on(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """Killed again and again, and taken up by other numbers of processes, with another accumulation."""

    def shared(processes: int, accumulation: int) -> Callable[[], None]:
        return lambda: train_together(processes, accumulation=accumulation, which="plain")

    unbroken(shared(1, 1), folder, lambda folder: folder.mkdir())
    place, faults, ways = emptied(folder / "others"), [], [(1, 2), (2, 1), (2, 2), (4, 1), (1, 4), (2, 1)]
    for number, way in enumerate(ways):
        child = Child(shared(*way), place, folder / "printed")
        if number + 1 < len(ways):
            child.ended(chance.uniform(0.2, 0.8))
            faults += [f"orphan {name}" for name in child.kill()] if child.status is None else []
        elif child.ended() and child.status:
            return [*faults, f"at the end it fails: {child.said()[-300:]}"]
    one, other = (Run(folder / name / "run").weights for name in ("unbroken", "others"))
    return faults + [name for name in one if not torch.allclose(one[name], other[name], atol=1e-5, rtol=1e-4)]


# In a notebook

CELLS = {
    "ITSL": ("net = itsl_job.network()", 'itsl_job.fit(net, "run", progress=True)'),
    "ITSL, a loader of its own": ("net = itsl_job.network()", 'itsl_job.fit(net, "run", workers=1)'),
    "pool": ("from tests.attack.jobs import trial", 'assert not work_off(trial, ["a", "b", "c"], 2)'),
}
# All that torch imports as late as when a network is first counted, too: Python cannot take up an import that was broken off.
IMPORTS = """
import torch
from stdcf_lib.experiments.pool import work_off
from stdcf_lib.measure import cost
from tests.itsl import itsl_job
torch.set_num_threads(1)
cost(itsl_job.network(), (4, 1, 4, 8, 8))
"""


def ctrl_c_in_a_notebook(folder: Path, chance: random.Random, mounts: bool) -> list[str]:
    """The cell that trains is interrupted and run again: the kernel answers, nobody else trains, and nothing is lost."""
    faults = []
    for name, (before, cell) in CELLS.items():
        expected = unbroken(JOBS[name.partition(",")[0]][0], folder, lambda folder: folder.mkdir())
        place = emptied(folder / "notebook")
        place.mkdir()
        with kernel(place) as (manager, client):
            run(client, IMPORTS)
            run(client, before)
            for moment in (chance.uniform(0, 0.5), chance.uniform(0.2, 1), chance.uniform(1, 3 if name == "pool" else 1.5)):
                client.execute(cell, stop_on_error=False)  # or the next cell may be passed over, as it was asked for too soon
                time.sleep(moment)
                manager.interrupt_kernel()
                reply = client.get_shell_msg(timeout=60)["content"]
                while reply.get("status") is None:
                    reply = client.get_shell_msg(timeout=60)["content"]
                if reply["status"] == "ok":  # it was over before, or the interruption came where Python passes over it
                    break
                # A loader worker hears of Ctrl-C too, and torch may tell of its end first.
                if reply["ename"] != "KeyboardInterrupt" and "DataLoader worker" not in reply["evalue"]:
                    faults.append(f"{name}: {reply['ename']}: {reply['evalue']}")
                faults += [f"{name}: {fault}" for fault in _children(manager)]
                if run(client, "assert 6 * 7 == 42") != "ok":
                    faults.append(f"{name}: the kernel does not compute any more")
            if reply["status"] != "ok" and (ended := run(client, cell)) != "ok":
                faults.append(f"{name}: run again, the cell ends with {ended}")
            else:
                faults += [f"{name}: {fault}" for fault in differing(expected, found(place))]
    return faults


@contextmanager
def kernel(folder: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, cell: str) -> str:
    """How a cell ends: "ok", or the error."""
    content = client.execute_interactive(cell, timeout=300, output_hook=lambda message: None)["content"]
    return "ok" if content["status"] == "ok" else f"{content['ename']}: {content['evalue']}"


def _children(manager: KernelManager) -> list[str]:
    """Processes that a cell has left behind. Python keeps two servers, of forks and of what is shared, for the next pool."""
    process: Any = manager.provisioner
    of_kernel, end = psutil.Process(process.pid), time.monotonic() + 5
    while True:
        children = running(of_kernel.children())
        servers = [one for one in children if "multiprocessing." in " ".join(one.cmdline())]
        left = [one for one in running(of_kernel.children(recursive=True)) if one not in servers]
        if not left or time.monotonic() > end:
            return [f"process {one} is left" for one in left]
        time.sleep(0.02)


STARVATIONS: dict[str, Callable[[Path, random.Random, bool], list[str]]] = {
    "full disk": full_disk,
    "read-only folder": read_only,
    "folder removed": folder_removed,
    "clock set back": clock_set_back,
    "two runs in one folder": two_in_one_folder,
    "other processes and accumulation": others_go_on,
    "Ctrl-C in a notebook": ctrl_c_in_a_notebook,
}
