"""A file is written for all to read, and one of weights that cannot be read says why, in a line."""

import pytest
import torch

from stdcf_lib.files import read_weights, write


def test_what_is_written_may_be_read_by_others(tmp_path):
    write(tmp_path / "new/file", b"whole")
    assert (tmp_path / "new/file").read_bytes() == b"whole" and (tmp_path / "new/file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("error", "reason"), [(EOFError(), "EOFError"), (RuntimeError("it ends early\nsee there"), "it ends early")]
)
def test_why_weights_cannot_be_read_is_said_in_a_line(tmp_path, monkeypatch, error, reason):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(ValueError, match=f"net.pt holds no weights that torch can load: {reason}$"):
        read_weights(tmp_path / "net.pt")
