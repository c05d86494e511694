"""Does it keep to itself? The library without a network, in folders in which every write is seen.

`python -m tests.attack.quiet [--seconds S] [--seed N]` imports every module of the library and compares the state of the
process before and after; then it runs a snippet and commands of the README, notebooks and the book, as many as there is time
for, with fresh folders as home, as temporary and as working folder. An address that is not this machine's own is refused and
counted, be it only looked up, and where the system permits, there is no network to begin with. What changes in any of these
folders or in the repository, and was not told to, is counted.
"""

import argparse
import contextlib
import gc
import importlib
import json
import logging
import os
import pkgutil
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Runs first in every Python below the folders of `Room`, kernels of notebooks included.
GUARD = """
import ipaddress, os, sys

def own(host):
    if isinstance(host, bytes):
        host = host.decode()
    try:
        return not host or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

def guard(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not own(host):
        with open(os.environ["QUIET_LOG"], "a") as log:
            log.write(f"{event} {host}\\n")
        raise OSError(101, "Network is unreachable")

sys.addaudithook(guard)
"""

# In a network namespace of its own: only the loopback device, raised, then the command.
ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""


def no_network() -> list[str]:
    """What to put before a command so that it has no network at all; nothing where the system does not permit it."""
    prefix = ["unshare", "--map-root-user", "--net", sys.executable, "-S", "-c", ALONE]
    with contextlib.suppress(OSError):
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return []


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below, but for what Python and git keep for themselves."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache")]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                about = os.lstat(os.path.join(place, name))
                found[os.path.relpath(os.path.join(place, name), folder)] = about.st_size, about.st_mtime_ns
    return found


class Room:
    """Fresh folders to run in, and who was called from there."""

    def __init__(self, folder: Path, prefix: list[str]):
        self.folder, self.prefix, self.log = folder, prefix, folder / "calls"
        (folder / "guard").mkdir()
        (folder / "guard/sitecustomize.py").write_text(GUARD)
        self.places = {name: folder / name for name in ("home", "temporary", "working")}
        for place in self.places.values():
            place.mkdir()
        self.log.touch()

    def run(self, *command: str, told: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
        """Its exit code, what it said, and what it called or left behind; `told` are the beginnings of names it may write."""
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
        environment |= {
            "HOME": str(self.places["home"]),
            "TMPDIR": str(self.places["temporary"]),
            "PYTHONPATH": os.pathsep.join([str(self.folder / "guard"), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "STDCF_PROFILE": "smoke",
            "QUIET_LOG": str(self.log),
        }
        watched = {"repository": ROOT} | self.places
        before = {name: files(place) for name, place in watched.items()}
        calls = len(self.log.read_text())
        done = subprocess.run(
            [*self.prefix, *command], cwd=self.places["working"], env=environment, capture_output=True, text=True, timeout=900
        )
        faults = self.log.read_text()[calls:].splitlines()
        for name, place in watched.items():
            now = files(place)
            changed = sorted(path for path in before[name].keys() | now.keys() if before[name].get(path) != now.get(path))
            faults += [f"{name}/{path}" for path in changed if not f"{name}/{path}".startswith((*CACHES, *told))]
        return done.returncode, done.stdout + done.stderr, faults


# What others keep in a home: fonts found by matplotlib, a kernel's history and security files.
CACHES = ("home/.cache/", "home/.config/", "home/.ipython/", "home/.local/share/jupyter/")


def modules() -> list[str]:
    """Of the library, all that can be imported; a `__main__` is a command."""
    import stdcf_lib

    found = pkgutil.walk_packages(stdcf_lib.__path__, "stdcf_lib.")
    return ["stdcf_lib", *(one.name for one in found if not one.name.endswith("__main__"))]


def state() -> dict[str, Any]:
    """What a process has only one of, and its user may rely on."""
    import matplotlib
    import numpy
    import psutil
    import torch

    legacy: Any = numpy.random.get_state()  # noqa: NPY002
    signals = [one for one in signal.valid_signals() if one not in (signal.SIGKILL, signal.SIGSTOP)]
    rest = logging.getLogger()
    return {
        "default dtype": torch.get_default_dtype(),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_anomaly_enabled()),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "precision": (torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled),
        "random numbers": (torch.get_rng_state().tolist(), random.getstate(), [*map(str, legacy), legacy[1].tolist()]),
        "errors of numpy": numpy.geterr(),
        "printing": (numpy.get_printoptions(), str(torch.tensor([1 / 3, 1e-9]))),
        "warnings": list(warnings.filters),
        "matplotlib": (dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)),
        "environment": dict(os.environ),
        "logging": (rest.level, list(rest.handlers), logging.root.manager.disable),
        "signals": [signal.getsignal(one) for one in signals],
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "place": (os.getcwd(), list(sys.path)),
        "hooks": (sys.excepthook, sys.displayhook, sys.gettrace(), threading.excepthook, sys.stdout, sys.stderr),
        "threads": [thread.name for thread in threading.enumerate()],
        "processes": [child.pid for child in psutil.Process().children()],
        "open files": psutil.Process().num_fds(),
    }


def changed_by_import(names: list[str]) -> list[str]:
    """The parts of `state` that change when these modules are imported where all is there that they import of others."""
    own = {name.partition(".")[0] for name in names}

    def others() -> list[str]:
        _import(names)
        return [name for name in sys.modules if name.partition(".")[0] not in own]

    def changes() -> list[str]:
        for name in needed:
            with contextlib.suppress(Exception):  # some are parts of others, and not to be imported by themselves
                importlib.import_module(name)
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        before = state()
        _import(names)
        after = state()
        return [f"{name}: {before[name]} → {after[name]}"[:500] for name in before if before[name] != after[name]]

    needed = _in_a_fork(others)
    return _in_a_fork(changes)


def _import(names: list[str]) -> None:
    for name in names:
        importlib.import_module(name)


def _in_a_fork(work: Callable[[], list[str]]) -> list[str]:
    """What `work` answers in a copy of this process, of which nothing stays."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = work()
        except BaseException as error:
            answer = [f"{type(error).__name__}: {error}"]
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer


RUN_NOTEBOOK = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
"""
MINE = """
from torch import nn
def net():
    return nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 16, 3, padding=1))
"""


def activities(working: Path, seed: int) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """What to do, what to type for it, and the beginnings of the names that it is told to write; notebooks in drawn order."""
    (working / "mine.py").write_text(MINE)
    python, *snippets = sys.executable, *re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found: list[tuple[str, list[str], tuple[str, ...]]] = [
        ("a snippet of the README", [python, "-c", snippet], ()) for snippet in snippets
    ]
    convert = "-m stdcf_lib.convert mine.py:net --input 1 1 8 28 28 --keep 0.5 --output mine.safetensors"
    train = "-m stdcf_lib.itsl noise --small --frames 4 --size 16 --batch-size 8 --workers 1 --iterations 1 --folder RUN"
    found.append(("stdcf_lib.convert", [python, *convert.split()], ("working/mine.safetensors",)))
    found.append(("stdcf_lib.itsl", [python, *train.split()], ("working/RUN/",)))
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in random.Random(seed).sample(notebooks, len(notebooks)):
        found.append((f"notebook {path.stem}", [python, "-c", RUN_NOTEBOOK, str(path), str(path.parent)], ()))
    book = [python, "-m", "sphinx", "-q", "-c", str(ROOT / "book"), "-d", "doctrees", str(ROOT), "html"]
    found.append(
        ("the book", book, ("working/doctrees/", "working/html/", "working/jupyter_execute/", "repository/book/_build/"))
    )
    return found


def attack(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int | float | str]:
    """As many activities as there is time for; `seed` draws the order of the notebooks."""
    end = time.monotonic() + seconds
    faults = changed_by_import(modules())
    for fault in faults:
        say(f"  import changes {fault}")
    figures: dict[str, int | float | str] = {"modules imported": len(modules()), "changed by import": len(faults)}
    prefix = no_network()
    figures["network"] = "none" if prefix else "refused in Python"
    tried, failed, found = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder), prefix)
        for what, command, told in activities(room.places["working"], seed):
            left = end - time.monotonic()
            if left < 0:
                say(f"{what}: left out, time is up")
                continue
            code, text, faults = room.run(*command, told=told)
            tried, failed, found = tried + 1, failed + (code != 0), found + len(faults)
            say(f"{what}: {'went through' if code == 0 else text[-2000:]}")
            for fault in faults:
                say(f"  {fault}")
    return figures | {"activities": tried, "failed": failed, "foreign addresses and unasked files": found}


def main() -> None:
    parser = argparse.ArgumentParser(description="See that the library needs no network and writes only where it is told.")
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after so long (600)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the notebooks (0)")
    arguments = parser.parse_args()
    print(attack(arguments.seconds, arguments.seed, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
