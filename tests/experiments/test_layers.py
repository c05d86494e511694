import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import conv3d

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.experiments import layers


def test_every_way_is_timed_and_right(monkeypatch):
    monkeypatch.setattr(layers, "LAYERS", {8: 6})
    rows = {row["layer"]: row for row in layers.measured(clips=2)}
    assert {"Conv3d", "STDCF N=2, filters", "STDCF N=3, filters", "STDCF N=2, atoms", "rank-1", "Conv2Plus1D"} < set(rows)
    for name, row in rows.items():
        assert (row["channels"], row["size"], row["clips"]) == (8, 6, 2) and row["forward_ms"] > 0
        assert (row["both_ms"] is None) == (name.endswith("public operators")) and (row["both_ms"] or 1) > 0
        assert row["error"] is None or 0 < row["error"] < 1e-5
    assert {name for name, row in rows.items() if row["error"] is None} == {"rank-1", "Conv2Plus1D"}


def test_an_error_shows(monkeypatch):
    layer, x = STDCFConv3d(4, 4, 3, padding=1, bias=False), torch.randn(2, 4, 3, 5, 5)
    assert layers._error(1.01 * layer(x), x, layer) == pytest.approx(0.01, rel=1e-3)


def test_public_operators_give_the_convolution():
    layer, x = STDCFConv3d(6, 4, 3, padding=1, bias=False).double(), torch.randn(2, 6, 4, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(layers.by_public_operators(x, layer), conv3d(x, layer.filters(), padding=1))


SCRIPT = """
import torch
from stdcf_lib.experiments.triton_forms import coefficients, fused, staged

for count, ins, outs in ((2, 40, 16), (3, 64, 48)):  # fewer than a block has, and a block and a part
    torch.manual_seed(count)
    x, alpha = torch.randn(2, 4, 5, 6, ins), torch.randn(outs, ins, 5, count)
    psi, phi = torch.randn(5, 3, 3), torch.randn(count, 3)
    filters = torch.einsum("ocmn,mhw,nt->octhw", alpha, psi, phi)
    exact = torch.nn.functional.conv3d(x.movedim(-1, 1), filters, padding=1).movedim(1, -1)
    for form in (staged, fused):
        y = form(x, coefficients(alpha, x.dtype), psi, phi)
        assert y.shape == exact.shape and (y - exact).norm() < 1e-5 * exact.norm(), (form.__name__, count)
"""


def test_triton_forms_give_the_convolution():
    """Interpreted, as there is no GPU."""
    pytest.importorskip("triton", reason="Triton comes with torch for Linux alone")
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # read when Triton is imported, so in a process of its own
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
