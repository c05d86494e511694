"""The digits: the asset is MNIST's, and a user's folder is read or refused in words."""

import gzip
import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from stdcf_lib.data import mnist
from stdcf_lib.data.make_digits import select_digits, write_digits
from stdcf_lib.data.mnist import ASSET, read_idx

SHA256 = {
    "train_images": "0e0dec42297e44f76f3295b114a73458bb1b541d17f0afed3ca183aa14d91b26",
    "train_labels": "2e5671093ef6b405b5cd792e196a8c7bf3f094178add899bdfc152700622ca07",
    "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_folder(folder, images, labels, split="train", suffix=""):
    prefix = {"train": "train", "test": "t10k"}[split]
    pack = gzip.compress if suffix else bytes
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))


@pytest.fixture
def digits():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (7, 28, 28), np.uint8), rng.integers(0, 10, 7, np.uint8)


def test_asset_has_the_recorded_checksums():
    with np.load(ASSET) as asset:
        assert {name: hashlib.sha256(asset[name].tobytes()).hexdigest() for name in asset.files} == SHA256


@pytest.mark.parametrize(("split", "count"), [("train", 20_000), ("test", 10_000)])
def test_asset_holds_what_the_protocol_needs(split, count):
    images, labels = mnist(split)
    assert (images.shape, images.dtype) == ((count, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((count,), torch.int64)
    # MNIST's rarest and commonest class, 5 and 1, are 9.0% and 11.2% of it.
    assert labels.bincount().min() > 0.085 * count and labels.bincount().max() < 0.12 * count


def test_remaking_the_asset_gives_the_same(user_data):
    remade = select_digits(user_data("mnist"))
    assert {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in remade.items()} == SHA256


def test_training_digits_are_distinct_digits_of_the_training_set(user_data):
    def rows(images):
        return images.flatten(1).numpy().view("V784").ravel()

    every, _ = mnist("train", user_data("mnist"))
    chosen, _ = mnist("train")
    assert len(every) == 60_000
    assert np.isin(rows(chosen), rows(every)).all()
    # MNIST repeats no training image, so neither may a choice without replacement.
    assert len(np.unique(rows(every))) == 60_000 and len(np.unique(rows(chosen))) == 20_000


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_folder_is_read_plain_and_gzipped(tmp_path, digits: tuple[np.ndarray, np.ndarray], split, suffix):
    write_folder(tmp_path, *digits, split, suffix)
    images, labels = mnist(split, tmp_path)
    assert (images.numpy() == digits[0]).all() and (labels.numpy() == digits[1]).all()
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


def test_gzip_is_unpacked_no_further_than_to_what_may_be_mnist(tmp_path, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(5000)))
    monkeypatch.setattr(sys.modules[read_idx.__module__], "MOST_BYTES", 4999)
    with pytest.raises(ValueError, match="bomb unpacks to more than 4,999 bytes"):
        read_idx(path)


def test_gzip_is_told_by_content(tmp_path, digits):
    path = tmp_path / "unpacked by name only"
    path.write_bytes(gzip.compress(idx(digits[0])))
    assert (read_idx(path) == digits[0]).all()


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='validation': choose 'train' or 'test'"):
        mnist("validation")


def test_missing_file_is_named(tmp_path, digits):
    with pytest.raises(FileNotFoundError, match=r"neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"):
        mnist("train", tmp_path / "absent")
    write_folder(tmp_path, *digits)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        mnist("train", tmp_path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda raw: b"", "not an idx file"),
        (lambda raw: raw[:3], "not an idx file"),
        (lambda raw: b"<!DOCTYPE html>", "not an idx file"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "not an idx file of uint8"),
        (lambda raw: raw[:10], "truncated"),
        (lambda raw: raw[:-1], "truncated: its header promises 5504 bytes, it has 5503"),
        (lambda raw: raw + b"\0", "too long"),
        (lambda raw: gzip.compress(raw)[:-9], "damaged or truncated gzip"),
        (lambda raw: gzip.compress(raw)[:5], "damaged or truncated gzip"),
        (lambda raw: gzip.compress(raw)[:40] + b"damage" + gzip.compress(raw)[46:], "damaged or truncated gzip"),
        (lambda raw: gzip.compress(raw) + b"tail", "damaged or truncated gzip"),
        (lambda raw: gzip.compress(raw[:-1]), "truncated: its header promises 5504 bytes, it has 5503"),
        (lambda raw: idx(np.zeros((7, 32, 32), np.uint8)), "MNIST's images are"),
        (lambda raw: idx(np.zeros((7, 784), np.uint8)), "MNIST's images are"),
        (lambda raw: idx(np.zeros((0, 28, 28), np.uint8)), "MNIST's images are"),
        (lambda raw: idx(np.zeros((6, 28, 28), np.uint8)), "train-labels-idx1-ubyte has shape .7,., but .* 6 images"),
    ],
)
def test_faulty_image_file_is_named(tmp_path, digits, fault, message):
    write_folder(tmp_path, *digits)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(fault(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as raised:
        mnist("train", tmp_path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("labels", [np.arange(4, 11), np.zeros((7, 1)), np.zeros((7, 28, 28))])
def test_faulty_label_file_is_named(tmp_path, digits, labels):
    write_folder(tmp_path, digits[0], labels.astype(np.uint8))
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte has"):
        mnist("train", tmp_path)


def test_script_makes_the_same_bytes_each_time(tmp_path):
    labels = (np.arange(20_003) % 10).astype(np.uint8)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    write_folder(tmp_path, images, labels, "train")
    write_folder(tmp_path, images[:9], labels[:9], "test")
    write_digits(select_digits(tmp_path), tmp_path / "first.npz")
    command = [sys.executable, "-m", "stdcf_lib.data.make_digits", str(tmp_path), str(tmp_path / "second.npz")]
    assert "wrote second.npz" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()

    with np.load(tmp_path / "second.npz") as made:
        high, low = made["train_images"][:, 0, :2].T.astype(int)
        source = 256 * high + low
        assert len(source) == 20_000 and (np.diff(source) > 0).all()
        assert (made["train_labels"] == source % 10).all()
        assert (made["test_images"] == images[:9]).all() and (made["test_labels"] == labels[:9]).all()
    assert {path.name for path in tmp_path.glob("*npz*")} == {"first.npz", "second.npz"}


def test_script_refuses_too_few_digits(tmp_path, digits: tuple[np.ndarray, np.ndarray]):
    write_folder(tmp_path, *digits, "train")
    write_folder(tmp_path, *digits, "test")
    with pytest.raises(ValueError, match="has 7 training digits; 20000 are needed"):
        select_digits(tmp_path)
