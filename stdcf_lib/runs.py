"""What trained: one folder a run, with its configuration, its metrics and its weights.

::

    runs/reconstruction/stdcf-seed0/
        config.json          what was trained, on what, with which versions
        metrics.jsonl        one line an epoch, as they come
        weights.safetensors  the trained weights, once it is finished
        checkpoint.pt        the way back in, while it is not
"""

import errno
import hashlib
import io
import json
import os
import platform
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from stdcf_lib.files import as_safetensors, in_words, read_safetensors, tidy, unpickled, write

try:
    import fcntl
except ImportError:  # not on Windows, where a folder is not locked
    fcntl = None

_CHECKOUT = Path(__file__).parents[1]


class FolderInUse(RuntimeError):
    """Another process trains in this folder; the message says which."""


class DamagedRun(ValueError):
    """A file of a run that cannot be read; the message names it and says what to do."""


def runs_folder() -> Path:
    """Where the runs of the experiments are kept: `$STDCF_RUNS`, or else `runs/` of the checkout that this library is part of.

    Raises:
        FileNotFoundError: neither is there, as the library was installed without its repository.
    """
    if named := os.environ.get("STDCF_RUNS"):
        return Path(named)
    if not (_CHECKOUT / "pyproject.toml").exists():
        raise FileNotFoundError(
            "stdcf_lib is installed without its repository, and so without the kept runs; set STDCF_RUNS to a folder of runs"
        )
    return _CHECKOUT / "runs"


class Run:
    """One training run and its folder. Every file is written aside and then renamed, so none is ever half there.

    Args:
        folder: where it is kept, such as `runs_folder() / "reconstruction" / "stdcf-seed0"`.
        dtype: of the weights that are kept in the end, such as `torch.float16` for half the size; as they are if None.
    """

    def __init__(self, folder: Path | str, dtype: torch.dtype | None = None):
        self.folder, self.dtype = Path(folder), dtype
        self._lock: IO[str] | None = None  # while this process holds the folder
        self._whole: Run | None = None

    def part(self, name: str) -> "Run":
        """A run in a folder of this one's, such as a stage of it; it writes only while this one's folder is there."""
        part = Run(self.folder / name)
        part._whole = self
        return part

    @property
    def finished(self) -> bool:
        return (self.folder / "weights.safetensors").exists()

    @property
    def config(self) -> dict[str, Any]:
        """What `start` wrote. Raises FileNotFoundError if nothing, DamagedRun if it cannot be read."""
        path = self._there("config.json")
        return _dictionary(path.read_bytes(), str(path))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One dictionary an epoch, as `stdcf_lib.train.train` returns them. Raises as `config` does."""
        return self.rows("metrics.jsonl")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A file with a dictionary in each line. Raises as `config` does, and names the line."""
        path = self._there(name)
        return [_dictionary(line, f"line {n} of {path}") for n, line in enumerate(path.read_bytes().splitlines(), 1)]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The trained weights, for `load_state_dict`. Raises as `config` does, and where bits have changed since."""
        path = self._there("weights.safetensors")
        try:
            return read_safetensors(path)[0]
        except ValueError as error:
            raise _damaged(path, error) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out of the folder within a `with` block. The system lets go where this process is killed; what
        such processes have left goes now.

        Raises:
            FolderInUse: another process, on this machine or on one that shares the folder, is at it.
            OSError: the folder cannot be written to.
        """
        path = self.folder / ".lock"
        with _locked(path) as self._lock:
            try:
                with in_words(path):
                    self._lock.truncate(0)
                    since = time.strftime("%Y-%m-%d %H:%M:%S")
                    os.write(self._lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())
                self._tidy()
                yield
            finally:
                if _is(self._lock, path):  # while it is held, so that nobody else's goes
                    path.unlink()
                self._lock = None

    def check(self, config: dict[str, Any]) -> None:
        """See that the folder is free for a run of this configuration, or began with it; nothing is written.

        Raises:
            ValueError: the folder holds a run of another configuration, or is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"folder={str(self.folder)!r} is a file; name a folder for the run")
        if not (self.folder / "config.json").exists():
            return
        config = _as_read_back(config)
        before = {key: value for key, value in self.config.items() if key != "machine"}
        differing = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
        if differing:
            was = {key: before.get(key) for key in differing}
            raise ValueError(f"{self.folder} holds another run ({was} there); remove it or choose another name")

    def start(self, config: dict[str, Any]) -> None:
        """`check`, and write what is to be trained where nothing is written yet."""
        self.check(config)
        if not (self.folder / "config.json").exists():
            self._write("config.json", json.dumps(_as_read_back(config) | {"machine": machine()}, indent=2) + "\n")

    def save(self, state: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        """Keep a point to resume from. The checkpoint carries its metrics, so the two can never disagree; metrics.jsonl is
        for readers until the run is finished."""
        content = io.BytesIO()  # torch, writing a file itself, would answer a full disk with an error of its own format
        torch.save({"state": state, "metrics": metrics}, content)
        self.keep("checkpoint.pt", _sealed(content))
        self._write_metrics(metrics)

    def restore(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The state and metrics of the last `save`, or None if there is none.

        Raises:
            DamagedRun: the checkpoint cannot be read, or bits of it have changed.
        """
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            _see_unchanged(path)
            kept = unpickled(path)
            return kept["state"], kept["metrics"]
        except Exception as error:  # torch raises what its parts raise: RuntimeError, UnpicklingError, EOFError, KeyError, …
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DamagedRun(f"{path} cannot be read ({reason}); remove it, and the run begins anew") from error

    def finish(self, model: nn.Module, metrics: list[dict[str, Any]]) -> None:
        """Keep metrics and weights; the checkpoint goes, and what killed processes have left half written."""
        self._write_metrics(metrics)
        weights = {
            name: tensor.to(self.dtype if self.dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in model.state_dict().items()
        }
        self.keep("weights.safetensors", as_safetensors(weights))
        self._tidy()

    def keep(self, name: str, content: bytes | memoryview) -> None:
        """Keep what was found out about a run beside it, under a file name such as `"tempo.json"`.

        Raises:
            OSError: it cannot be written, and what was there before is whole; or the folder that this process holds was
                removed, and may be another's by now.
        """
        self._see_that_nobody_removed_it()
        write(self.folder / name, content)

    def _see_that_nobody_removed_it(self) -> None:
        for run in (self, self._whole):
            if run and run._lock and not _is(run._lock, run.folder / ".lock"):
                raise FileNotFoundError(
                    errno.ENOENT,
                    "the folder of a run, or .lock in it, was removed while it trained; start the same again, and it goes on "
                    "from what is there, or begins anew",
                    str(run.folder),
                )

    def forget_weights(self) -> None:
        """Keep no weights of a finished run, only that it is finished: for trials of which nothing but the scores counts."""
        self.keep("weights.safetensors", save({}))

    def remove(self) -> None:
        """Remove the run's own files, and its folder if there is nothing else in it."""
        for name in ("config.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"):
            (self.folder / name).unlink(missing_ok=True)
        if self.folder.is_dir():
            self._tidy()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _tidy(self) -> None:
        tidy(self.folder)
        if self.finished:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def _there(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            self._see_that_nobody_removed_it()
            raise FileNotFoundError(f"no {name} in {str(self.folder)!r}; train it first (`make runs` for a kept run)")
        return path

    def _write_metrics(self, metrics: list[dict[str, Any]]) -> None:
        self._write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in metrics))

    def _write(self, name: str, text: str) -> None:
        self.keep(name, text.encode())


def _dictionary(content: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}, no dictionary")
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error) from error
    return found


def _damaged(where: Path | str, error: Exception) -> DamagedRun:
    return DamagedRun(f"{where} cannot be read ({error}); restore it, or remove the run's folder and train it again")


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """The file, opened, and locked until the block ends or the process dies."""
    while True:
        with in_words(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")
        try:
            if fcntl:  # of this process alone: loader workers, which are forks, do not hold on to it
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise FolderInUse(
                f"{path.parent} is in use by {holder}; wait until it ends, stop it, or choose another folder"
            ) from None
        # Between opening and locking, the holder before may have removed the file, and then this lock is worth nothing.
        if _is(file, path):
            break
        file.close()
    with file:
        yield file


def _is(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def digest(clips: Tensor) -> str:
    """What ties a run to its data: the count and checksum of the clips."""
    return f"{len(clips)} clips, sha256 {hashlib.sha256(clips.numpy().tobytes()).hexdigest()[:16]}"


def machine() -> dict[str, Any]:
    """What a measurement was made on: processor or GPU, processes, threads, versions, the commit of this repository."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return {
        "device": name,
        "processes": torch.distributed.get_world_size() if together else 1,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _sealed(content: io.BytesIO) -> memoryview:
    """A zip whose comment is a digest of it as it was without; the length of the comment is what it ended with."""
    digest = _digest(content.getbuffer())
    content.seek(-2, os.SEEK_END)
    content.write(len(digest).to_bytes(2, "little") + digest)
    return content.getbuffer()


def _digest(content: memoryview) -> bytes:
    return f"sha256 {hashlib.sha256(content).hexdigest()}".encode()


def _see_unchanged(path: Path) -> None:
    """Look at the checksums of a checkpoint's parts, as torch does not, and at the digest of the whole, which one of an older
    version has not."""
    with zipfile.ZipFile(path) as parts:
        if changed := parts.testzip():
            raise ValueError(f"{changed} in it was changed after it was written")
        digest = parts.comment
    if digest:
        whole = bytearray(path.read_bytes())
        whole[-len(digest) - 2 :] = bytes(2)
        if _digest(memoryview(whole)) != digest:
            raise ValueError("it was changed after it was written")


def _as_read_back(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config))


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of the checkout that this library is part of; None where it was installed, whatever repository that place is in."""
    if not (_CHECKOUT / ".git").exists():
        return None
    command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit yet
        return None
