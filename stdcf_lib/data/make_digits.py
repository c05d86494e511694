"""Makes digits.npz from MNIST's own idx files: `python -m stdcf_lib.data.make_digits FOLDER`.

The paper (appendix B) selects 20,000 training digits at random; which, it does not say, so the seed is ours.
The test set is kept whole. Digits stay in MNIST's order. Same input, same arrays, and the same bytes wherever the
LZMA library is of the same version.
"""

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np

from stdcf_lib.data.mnist import ASSET, mnist

TRAINING_DIGITS = 20_000
SEED = 0


def select_digits(folder: str | Path) -> dict[str, np.ndarray]:
    """The asset's four uint8 arrays, from MNIST's idx files in folder.

    Raises:
        ValueError: for fewer training digits than needed, and as `mnist` does.
        FileNotFoundError: as `mnist` does.
    """
    train_images, train_labels = mnist("train", folder)
    test_images, test_labels = mnist("test", folder)
    if len(train_images) < TRAINING_DIGITS:
        raise ValueError(f"folder {folder} has {len(train_images)} training digits; {TRAINING_DIGITS} are needed")
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(train_images))[:TRAINING_DIGITS])
    return {
        "train_images": train_images.numpy()[chosen],
        "train_labels": train_labels.numpy()[chosen].astype(np.uint8),
        "test_images": test_images.numpy(),
        "test_labels": test_labels.numpy().astype(np.uint8),
    }


def write_digits(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    """Write arrays as an .npz without dates, a sixth smaller than np.savez_compressed's; np.load reads it."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_LZMA
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array)
    os.replace(unfinished, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stdcf_lib.data.make_digits", description="Make digits.npz.")
    parser.add_argument("folder", help="folder with MNIST's four idx files, plain or .gz")
    parser.add_argument("path", nargs="?", type=Path, default=ASSET, help="where to write; default: into the package")
    arguments = parser.parse_args()
    write_digits(select_digits(arguments.folder), arguments.path)
    print(f"wrote {arguments.path.name}: {arguments.path.stat().st_size / 1e6:.2f} MB")
