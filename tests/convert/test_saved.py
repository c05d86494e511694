import json
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from stdcf_lib.convert import load, save, to_stdcf
from stdcf_lib.convert.saved import KEY, _way

CLIP = torch.rand(2, 1, 6, 8, 8, generator=torch.Generator().manual_seed(0))


def network(seed=0, stride=1) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, stride, padding=1),
        nn.BatchNorm3d(4),
        nn.Conv3d(4, 6, 3, padding="same"),
        nn.ConvTranspose3d(6, 2, 3, stride=2),
        nn.Conv3d(2, 2, 1),
    )


@pytest.fixture
def converted():
    new, _ = to_stdcf(network(), 4, 2)
    new(CLIP)  # the norm has seen something
    return new.eval()


def test_what_was_saved_answers_the_same_in_a_fresh_network(converted, tmp_path):
    save(converted, tmp_path / "net.safetensors", "mine:net")
    fresh = network(seed=1).eval()
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    again = load(tmp_path / "net.safetensors", fresh)
    assert torch.equal(again(CLIP), converted(CLIP)) and not again.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())
    assert [type(module) for module in again] == [type(module) for module in converted]  # pyright: ignore
    with safe_open(tmp_path / "net.safetensors", "pt") as file:  # and it says what it is, to any reader
        about = json.loads(file.metadata()[KEY])
    assert about["source"] == "mine:net" and about["layers"]["2"]["atoms"] == [4, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_layers_that_a_budget_left_and_layers_that_were_stdcf_before_are_told_apart(tmp_path):
    start = to_stdcf(network(), 4, 2)[0]
    mixed = nn.Sequential(start, nn.Conv3d(2, 2, 3))
    new = to_stdcf(mixed, 2, 1)[0].eval()
    save(new, tmp_path / "net.safetensors")
    fresh = nn.Sequential(to_stdcf(network(seed=1), 4, 2)[0], nn.Conv3d(2, 2, 3))
    again = load(tmp_path / "net.safetensors", fresh).eval()
    assert torch.equal(again(CLIP), new(CLIP))


def test_what_was_shared_is_shared_again(tmp_path):
    def tied():
        conv, other = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
        other.weight = conv.weight
        return nn.Sequential(conv, conv, other)

    new = to_stdcf(tied(), 4, 2)[0]
    save(new, tmp_path / "net.safetensors")
    again: Any = load(tmp_path / "net.safetensors", tied())
    assert torch.equal(again(CLIP), new(CLIP))
    assert again[0] is again[1] and again[2].alpha is again[0].alpha


def test_a_network_of_torchvision_needs_no_other_source(tmp_path):
    from torchvision.models.video import mc3_18

    new = to_stdcf(mc3_18(weights=None), 3, 2)[0].eval()
    save(new, tmp_path / "net.safetensors", "mc3_18")
    clip = torch.rand(1, 3, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "net.safetensors").eval()(clip), new(clip))


def test_nothing_that_a_file_names_is_run(converted, tmp_path):
    save(converted, tmp_path / "net.safetensors", "os:abort")
    with pytest.raises(ValueError, match=r"is of os:abort; build it and give it: load\(path, network\)"):
        load(tmp_path / "net.safetensors")
    save(converted, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="is of a network without a name"):
        load(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (network(stride=2), "another network: its layer '0' is .*'stride': .1, 1, 1"),
        (nn.Sequential(nn.Linear(1, 1)), "its layer '0' is .*, and there is Linear"),
        (network()[:2], "its layer '2' is .*, and there is nothing of that name"),
        (nn.Sequential(*network(), nn.Linear(2, 2)), "of another network: .*Missing key"),
    ],
)
def test_another_network_is_refused(other, message, converted, tmp_path):
    save(converted, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "net.safetensors", other)


def test_a_dilated_network_is_not_loaded_as_if_it_were_not(converted, tmp_path):
    converted[0].dilate(temporal=2)
    save(converted, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"'dilation': .2, 1, 1"):
        load(tmp_path / "net.safetensors", network())


def test_files_that_are_none_are_refused(converted, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match=r"net.safetensors is no file"):
        load(path, network())
    save(converted, path)
    whole = path.read_bytes()
    for content in (whole[:100], whole[:-1], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read .*; save the network again"):
            load(path, network())
    save_file(network().state_dict(), path)
    with pytest.raises(ValueError, match=r"was not written by stdcf_lib\.convert\.save"):
        load(path, network())


def test_what_was_changed_is_refused(converted, tmp_path):
    path = tmp_path / "net.safetensors"
    save(converted, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"net.safetensors was changed after it was written: .*; save the network again"):
        load(path, network())


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ([], "was not written by"),
        ({"source": None, "layers": [1]}, "was not written by"),
        ({"source": None, "layers": {"0": {"atoms": [1], "way": "Linear"}}}, "was not written by"),
        (
            {"source": None, "layers": {"0": {"atoms": [99, 1], "way": _way(network()[0])}}},
            "is of another network: spatial_atoms=99",
        ),
    ],
)
def test_a_file_that_says_nonsense_of_its_layers_is_refused(about, message, converted, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(converted.state_dict(), path, {KEY: json.dumps(about)})
    with pytest.raises(ValueError, match=f"net.safetensors {message}"):
        load(path, network())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(converted, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save(converted, path)
    whole = path.read_bytes()

    def fails(*_):
        raise OSError("no")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="no"):
        save(to_stdcf(network(), 2, 1)[0], path)
    assert path.read_bytes() == whole and [found.name for found in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_network_without_stdcf_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="Sequential has no STDCF layer; convert it with to_stdcf first"):
        save(network(), tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())
