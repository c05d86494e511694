"""How a file is written, whole or not at all; how weights are written and read; and the parts of a text that are made."""

import errno
import glob
import hashlib
import json
import mmap
import os
import pickletools
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

try:
    import fcntl
except ImportError:  # not on Windows, where what another process writes cannot be removed anyway
    fcntl = None

# Whatever ends like this was being written by a process that died; nobody else names a file so.
HALF_WRITTEN = ".stdcf-half-written"
DIGEST = "stdcf sha256"
"""Under this key of a safetensors file's metadata is the digest of the rest."""


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file aside and then rename it, so that it is never half there; its folder is made. What a process that died was
    writing of the same file goes.

    Raises:
        OSError: it cannot be written; what was there before is whole.
    """
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path.parent, path.name)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=HALF_WRITTEN, dir=path.parent)
        try:
            with open(handle, "wb") as file:
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX)  # says that somebody is writing it, until that process ends
                file.write(content)
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            with suppress(FileNotFoundError):  # the folder may be gone
                os.unlink(aside)
            raise


def made_anew(text: str, name: str, part: str) -> str:
    """A text in Markdown with this part, of lines, between its marks `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: it has no such marks.
    """
    before, start, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise ValueError(f"the text has nothing between <!-- {name} --> and <!-- /{name} -->; write both, a line each")
    return f"{before}{start}{part}\n{end}{after}"


def tidy(folder: Path, name: str | None = None) -> None:
    """Remove from a folder what processes that died were writing, of the file of that name or of all."""
    for aside in folder.glob(f".*{HALF_WRITTEN}" if name is None else f".{glob.escape(name)}.*{HALF_WRITTEN}"):
        with suppress(OSError):  # a folder, or still being written
            with open(aside, "r+b") as file:
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside.unlink()


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Where the system refuses to write a file within a `with` block, say what would do.

    Raises:
        OSError: the system's, in words.
    """
    try:
        yield
    except OSError as error:
        reason = f"{path.name} ({os.strerror(error.errno or 0)}); what was kept before is whole"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            words = f"no room to write {reason}: free some room, start the same again, and it goes on from there"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            words = f"no right to write {reason}: get that right, or name another folder"
        else:
            raise
        raise OSError(error.errno, words, str(path.parent)) from error


def as_safetensors(weights: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of weights and metadata, with a digest of both, by which `read_safetensors` sees that bits changed."""
    weights, about = dict(weights), dict(about or {})
    content = save(weights, about | {DIGEST: _digest(weights, about)})
    # Safetensors writes the metadata in an order that it draws anew each time; the same weights are to be the same file.
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[begin:]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, the digest of `as_safetensors` left out. One without, as others write
    it, is read as it is.

    Raises:
        ValueError: a file that is none, or that was changed after it was written.
        OSError: it cannot be opened.
    """
    with open(path, "rb"):  # what is missing, a folder or not to be read is refused in the system's own words
        pass
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # safetensors raises what its parts raise: SafetensorError, KeyError, RuntimeError, …
        raise ValueError(f"{path} holds no weights that safetensors can load: {_reason(error)}") from error
    written = about.pop(DIGEST, None)
    if written is not None and written != _digest(weights, about):
        raise ValueError(f"{path} was changed after it was written: its digest is another; restore the file")
    return weights, about


def _digest(weights: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(sorted(about.items())).encode())
    for name, tensor in sorted(weights.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state_dict that `torch.save` or safetensors has written. Nothing in the file is run.

    Raises:
        ValueError: a file that holds none, or as `read_safetensors` does.
        OSError: it cannot be opened.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    with open(path, "rb"):  # as above
        pass
    try:
        weights = unpickled(path)
    except Exception as error:
        raise ValueError(f"{path} holds no weights that torch can load: {_reason(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} is no state_dict: give a dictionary of tensors, as `network.state_dict()` is one")
    return weights


def unpickled(path: Path) -> Any:
    """What `torch.save` has written, on the CPU, as it may be from another device. Nothing in the file is run.

    Raises:
        Exception: what torch's parts raise: UnpicklingError, RuntimeError, EOFError, OSError, …
    """
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(path) as parts:
                if any(part.compress_type for part in parts.infolist()):  # a few bytes may become any number
                    raise ValueError("it is compressed, and torch does not compress")
                for name in parts.namelist():
                    if name.endswith("/data.pkl"):
                        with parts.open(name) as pickled:
                            _see_names(pickled)
        else:  # as torch wrote until version 1.6: five pickles, and the numbers
            # A file makes room for as much as is announced, a map of it reads what is there.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for _ in range(5):
                    _see_names(content)
        file.seek(0)
        return torch.load(file, weights_only=True, map_location="cpu")


def _see_names(pickled: Any) -> None:
    """Refuse long names: torch takes the square of their length in time to say that it does not know one."""
    for code, argument, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL" and len(argument or "") > 1000:
            raise ValueError(f"it names something by {len(argument or ''):,} letters")


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
