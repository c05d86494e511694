"""MNIST digits: from the asset in this package, or from a folder of the original idx files.

The asset holds 20,000 digits drawn from MNIST's training set and its whole test set, made by
`python -m stdcf_lib.data.make_digits FOLDER`. MNIST is by Yann LeCun and Corinna Cortes,
under CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/); the asset keeps that licence.
"""

import gzip
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stdcf_lib.checks import choice

ASSET = Path(__file__).with_name("digits.npz")
MOST_BYTES = 2**28
"""That a gzipped file may unpack to, five times MNIST's largest. [ours]"""
PREFIX = {"train": "train", "test": "t10k"}


def mnist(split: str, folder: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Images (n, 28, 28), uint8 with ink bright on 0, and labels (n,), int64 from 0 to 9.

    Args:
        split: "train" or "test".
        folder: None for the asset (20,000 and 10,000 digits); or a folder with MNIST's own four files, such as
            `train-images-idx3-ubyte`, plain or .gz, which is read in full (60,000 and 10,000 digits).

    Raises:
        ValueError: for an unknown split, and for a file that is damaged or not MNIST's, naming it.
        FileNotFoundError: for a missing one, naming it.

    Example:
        >>> images, labels = mnist("test")
        >>> images.shape
        torch.Size([10000, 28, 28])
    """
    choice("split", split, PREFIX)
    if folder is None:
        images, labels = (array.copy() for array in _asset(split))  # torch wants to own, and a caller may write
    else:
        image_file = _find(folder, f"{PREFIX[split]}-images-idx3-ubyte")
        label_file = _find(folder, f"{PREFIX[split]}-labels-idx1-ubyte")
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
            raise ValueError(f"{image_file} holds an array of shape {images.shape}; MNIST's images are (n, 28, 28)")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{label_file} has shape {labels.shape}, but {image_file} has {len(images)} images")
        if labels.max() > 9:
            raise ValueError(f"{label_file} has the label {labels.max()}; MNIST's labels are 0 to 9")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


@cache
def _asset(split: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(ASSET) as asset:
        return asset[f"{split}_images"], asset[f"{split}_labels"]


def read_idx(path: str | Path) -> np.ndarray:
    """The uint8 array in an idx file, plain or gzipped (told by its first bytes, not by its name).

    The format: two zero bytes, 0x08 for uint8, the number of axes, a big-endian 32-bit length per axis, the data.

    Raises:
        ValueError: where the file is anything else, too short or too long; it names the file.
    """
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as packed:
                content = packed.read(MOST_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged or truncated gzip file ({error}); fetch it again") from error
        if len(content) > MOST_BYTES:
            raise ValueError(f"{path} unpacks to more than {MOST_BYTES:,} bytes; unpack it yourself if it is what you expect")
    if content[:3] != b"\x00\x00\x08" or len(content) < 4:
        raise ValueError(f"{path} is not an idx file of uint8: it starts with {content[:4]!r}, not 0, 0, 8, axes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    size = start + math.prod(shape)
    if len(content) != size:
        fault = "truncated" if len(content) < size else "too long"
        raise ValueError(f"{path} is {fault}: its header promises {size} bytes, it has {len(content)}; fetch it again")
    try:
        # A copy, because an array over bytes is read-only and torch wants to own what it is given.
        return np.frombuffer(content[start:], np.uint8).reshape(shape).copy()
    except ValueError as error:
        raise ValueError(f"{path} promises {len(shape)} axes that no array can have: {error}; fetch it again") from None


def _find(folder: str | Path, name: str) -> Path:
    for path in (Path(folder, name), Path(folder, name + ".gz")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"neither {name} nor {name}.gz is in {folder}; folder must hold MNIST's idx files")
