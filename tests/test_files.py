"""Files are written for all to read. Those of weights that others wrote are taken whole, or refused by name in a line, and
nothing in them is run."""

import io
import os
import pickle
import zipfile

import pytest
import torch

from stdcf_lib.files import as_safetensors, made_anew, read_safetensors, read_weights, write

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.zeros(0, dtype=torch.bfloat16)}


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def compressed(weights):
    stored, packed = io.BytesIO(), io.BytesIO()
    torch.save(weights, stored)
    with zipfile.ZipFile(stored) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as smaller:
        for name in parts.namelist():
            smaller.writestr(name, parts.read(name))
    return packed.getvalue()


@pytest.mark.parametrize("modern", [True, False])
def test_a_state_dict_of_torch_new_or_old_is_read(tmp_path, modern):
    torch.save(WEIGHTS, tmp_path / "net.pt", _use_new_zipfile_serialization=modern)
    found = read_weights(tmp_path / "net.pt")
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_what_was_written_with_a_digest_comes_back_and_a_change_is_seen(tmp_path):
    path, content = tmp_path / "net.safetensors", as_safetensors(WEIGHTS, {"source": "mine"})
    path.write_bytes(content)
    found, about = read_safetensors(path)
    assert about == {"source": "mine"} and all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())
    for old, new in ((b"mine", b"mind"), (b'"a"', b'"q"'), (b"BF16", b"F16 "[:3] + b'"'), (b"\x00@", b"\x01@")):
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"net.safetensors (was changed after it was written|holds no weights)"):
            read_weights(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda marker: pickle.dumps(Trap(marker)), "holds no weights that torch can load"),
        (lambda marker: compressed({"a": torch.zeros(3)}), "it is compressed, and torch does not compress"),
        (lambda marker: b"c" + b"x" * 100_000 + b"\nx\n.", "it names something by 100,002 letters"),
        (lambda marker: b"\x80\x05\x96" + (1 << 50).to_bytes(8, "little"), "expected 1125899906842624 bytes in a bytearray8"),
    ],
)
def test_hostile_files_are_refused_at_once(tmp_path, content, reason):
    path, marker = tmp_path / "net.pt", tmp_path / "marker"
    path.write_bytes(content(marker))
    with pytest.raises(ValueError, match=rf"net.pt .*{reason}"):
        read_weights(path)
    assert not marker.exists()


def test_what_is_written_may_be_read_by_others(tmp_path):
    write(tmp_path / "new/file", b"whole")
    assert (tmp_path / "new/file").read_bytes() == b"whole" and (tmp_path / "new/file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("error", "reason"), [(EOFError(), "EOFError"), (RuntimeError("it ends early\nsee there"), "it ends early")]
)
def test_why_weights_cannot_be_read_is_said_in_a_line(tmp_path, monkeypatch, error, reason):
    def fails(*_, **__):
        raise error

    torch.save({}, tmp_path / "net.pt")
    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(ValueError, match=f"net.pt holds no weights that torch can load: {reason}$"):
        read_weights(tmp_path / "net.pt")


def test_the_same_weights_are_the_same_file():
    about = {name: name for name in "abcdef"}
    files = {as_safetensors(WEIGHTS, dict(reversed(about.items()))) for _ in range(20)} | {as_safetensors(WEIGHTS, about)}
    assert len(files) == 1 and len(files.pop()) % 8 == 0


def test_a_part_of_a_text_is_made_anew_between_its_marks():
    text = "before\n<!-- rows -->\nold\n<!-- /rows -->\nafter\n"
    assert made_anew(text, "rows", "one\ntwo") == "before\n<!-- rows -->\none\ntwo\n<!-- /rows -->\nafter\n"
    for wrong in (text.replace("/rows", "/row"), "before"):
        with pytest.raises(ValueError, match="nothing between <!-- rows --> and <!-- /rows -->; write both"):
            made_anew(wrong, "rows", "one")
