"""How a file is written, whole or not at all, and how weights are read."""

import errno
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Whatever ends like this was being written by a process that died; nobody else names a file so.
HALF_WRITTEN = ".stdcf-half-written"


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file aside and then rename it, so that it is never half there; its folder is made.

    Raises:
        OSError: it cannot be written; what was there before is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=HALF_WRITTEN, dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"no room to write {path.name} ({os.strerror(error.errno)}); what was kept before is whole: free some room, start "
            "the same again, and it goes on from there",
            str(path.parent),
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state_dict that `torch.save` or safetensors has written. Nothing in the file is run.

    Raises:
        ValueError: a file that holds none.
        OSError: it cannot be opened.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # torch raises what its parts raise: UnpicklingError, RuntimeError, EOFError, …
        kind = "safetensors" if isinstance(error, SafetensorError) else "torch"
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} holds no weights that {kind} can load: {reason}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} is no state_dict: give a dictionary of tensors, as `network.state_dict()` is one")
    return weights
