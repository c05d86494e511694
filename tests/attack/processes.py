"""Jobs in processes that can be killed at any moment, and what is then left: of processes, and of files."""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load

from stdcf_lib.data.shrink import HALF_WRITTEN as HALF_SHRUNK
from stdcf_lib.data.video import decode_gray, frame_count
from stdcf_lib.files import HALF_WRITTEN
from stdcf_lib.runs import Run

ROOT = Path(__file__).parents[2]
# Seconds in which processes that nobody killed must end: loader workers look for their parent every five, a pool that lost a
# trial ends with the others, and a server of forks that is importing looks up when it has imported.
GRACE = 60.0
CLOCK = {"seconds", "data_seconds", "evaluation_seconds", "clips_per_second", "memory_gib"}


class Child:
    """A job in a fork of this process, which has imported what it needs: in a session of its own, as a terminal would start it.

    Args:
        job: is called in `folder`, which is made.
        folder: what it writes goes here.
        printed: what it prints goes here, the words of `sys.exit` and tracebacks included.
    """

    def __init__(self, job: Callable[[], object], folder: Path, printed: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.printed, self.status = printed, None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                status = _done(job, folder, printed)
            finally:  # whatever happens: what is further up the stack is another's
                os._exit(status)

    def ended(self, seconds: float | None = None) -> bool:
        """Whether it ends by itself within so many seconds; `status` is then its exit status, negative for a signal."""
        end = time.monotonic() + (3600 if seconds is None else seconds)
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif (left := end - time.monotonic()) <= 0:
                return False
            else:
                time.sleep(min(left, 0.002))
        return True

    def others(self) -> list[psutil.Process]:
        """The processes that it has started, and theirs."""
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self, pid: int | None = None) -> list[str]:
        """SIGKILL to all of its group, or to one process of it; those that are left after a while, by their command lines."""
        if self.ended(0):
            return []
        others = self.others()
        os.kill(pid, signal.SIGKILL) if pid else os.killpg(self.pid, signal.SIGKILL)
        return self.left(others)

    def left(self, others: list[psutil.Process]) -> list[str]:
        """Wait for it, and for the processes that it has started; those that are still there are named, and killed."""
        end = time.monotonic() + GRACE
        over = self.ended(GRACE)
        orphans = []
        while (orphans := [*running(others), *in_session(self.pid)]) and time.monotonic() < end:
            time.sleep(0.01)
        names = [] if over else ["the process itself"]
        for process in orphans:
            try:
                names.append(f"{process.pid}: {' '.join(process.cmdline())[:80]}")
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.ended()
        return names

    def said(self) -> str:
        return self.printed.read_text(encoding="utf-8", errors="replace")


def _done(job: Callable[[], object], folder: Path, printed: Path) -> int:
    os.setsid()
    # What runs in the background of a shell ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sink = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.chdir(folder)
    status = 0
    try:
        job()
    except SystemExit as end:
        status = 0 if end.code is None else 1
        print(end.code, file=sys.stderr)
    except BaseException:
        status = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are not over."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def in_session(session: int) -> list[psutil.Process]:
    """The processes of a session that are not over, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state not in "ZX":
                found.append(psutil.Process(int(path.name)))
        except (OSError, psutil.NoSuchProcess):  # it has just ended
            pass
    return found


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def half_written(folder: Path) -> list[str]:
    """Every file that bears a final name and cannot be read whole, with the reason. Those that were being written by a killed
    process have a name that nobody else gives."""
    faults = []
    for path in files(folder):
        if path.name.endswith((HALF_WRITTEN, HALF_SHRUNK)) or path.name == ".lock":
            continue
        try:
            _read(path)
        except Exception as error:  # of whatever reads it
            faults.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return faults


def _read(path: Path) -> Any:
    match path.suffix:
        case ".json":
            return json.loads(path.read_text())
        case ".jsonl":
            text = path.read_text()
            if text and not text.endswith("\n"):
                raise ValueError("the last line has no end")
            return [json.loads(line) for line in text.splitlines()]
        case ".safetensors":
            return load(path.read_bytes())
        case ".pt":
            return Run(path.parent).restore()
        case ".mp4":
            frames = decode_gray(path)
            if not 0 < len(frames) == frame_count(path):
                raise ValueError("frames are missing")
            return frames
        case ".txt" | ".py":
            return path.read_text()
    raise ValueError("nobody writes such a file")


def found(folder: Path) -> dict[str, Any]:
    """What there is in the end, by file name: weights to the bit, metrics and lines of a log but for what a clock says, and of
    videos the shape, as an encoder does not always give the same."""
    return {str(path.relative_to(folder)): _timeless(path) for path in files(folder) if path.suffix != ".py"}


def _timeless(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [{name: value for name, value in row.items() if name not in CLOCK} for row in _read(path)]
    if path.name == "config.json":
        return {name: value for name, value in _read(path).items() if name != "machine"}
    if path.suffix == ".mp4":
        return _read(path).shape
    return path.read_bytes()


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of files that only one has, or that differ, with the first line that does."""
    names = []
    for name in sorted(one.keys() | other.keys()):
        a, b = one.get(name), other.get(name)
        if a is None or b is None:
            names.append(f"{name} is {'left over' if a is None else 'missing'}")
        elif a != b:
            rows = [(x, y) for x, y in zip(a, b, strict=False) if x != y] if isinstance(a, list) else []
            names.append(f"{name} differs" + (f": {rows[0][0]} became {rows[0][1]}" if rows else ""))
    return names


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
