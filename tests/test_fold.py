from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from stdcf_lib.fold import FoldedTime

sizes = st.tuples(*[st.integers(1, 4)] * 3)
small = st.tuples(*[st.integers(1, 2)] * 3)


def gradients(y, *inputs):
    return y, *torch.autograd.grad(y.sin().sum(), inputs)


@given(kernel=sizes, stride=small, padding=st.tuples(*[st.integers(0, 2)] * 3), dilation=small, bias=st.booleans())
def test_a_folded_convolution_is_the_convolution(kernel, stride, padding, dilation, bias):
    x = torch.randn(2, 3, 7, 8, 9, dtype=torch.float64, requires_grad=True)
    conv = nn.Conv3d(3, 2, kernel, stride, padding, dilation, bias=bias, dtype=torch.float64)
    expected = gradients(conv(x), x, *conv.parameters())
    with FoldedTime():
        y = conv(x)
    for a, b in zip(gradients(y, x, *conv.parameters()), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@given(kernel=sizes, stride=small, padding=small, extra=st.booleans(), bias=st.booleans())
def test_a_folded_transposed_convolution_is_the_transposed_convolution(kernel, stride, padding: Any, extra, bias):
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    output_padding: Any = tuple(s - 1 if extra else 0 for s in stride)
    padding = tuple(p if k > 1 else 0 for p, k in zip(padding, kernel, strict=True))
    conv = nn.ConvTranspose3d(3, 2, kernel, stride, padding, output_padding, bias=bias, dtype=torch.float64)
    expected = gradients(conv(x), x, *conv.parameters())
    with FoldedTime():
        y = conv(x)
    for a, b in zip(gradients(y, x, *conv.parameters()), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("convolve", [F.conv3d, F.conv_transpose3d])
def test_what_is_not_said_is_as_in_torch(convolve):
    x, weight = torch.randn(2, 2, 4, 5, 6), torch.randn(2, 2, 3, 2, 2)
    with FoldedTime():
        folded = convolve(x, weight)
    torch.testing.assert_close(folded, convolve(x, weight))


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_it_really_runs_two_dimensional_convolutions(name):
    with torch.profiler.profile() as profile, FoldedTime():
        getattr(F, f"{name}3d")(torch.randn(2, 1, 4, 8, 8), torch.randn(1, 1, 3, 3, 3), padding=1)
    names = {event.name.partition(".")[0] for event in profile.events() or []}
    assert f"aten::{name}2d" in names and f"aten::{name}3d" not in names


@pytest.mark.parametrize(
    "conv", [nn.Conv3d(3, 3, 3, groups=3), nn.Conv3d(3, 3, 3, padding="same"), nn.ConvTranspose3d(3, 3, 3, groups=3)]
)
def test_what_it_does_not_fold_runs_as_it_is(conv):
    x = torch.randn(2, 3, 5, 6, 7)
    with FoldedTime():
        batched, unbatched = conv(x), conv(x[0])
    assert torch.equal(batched, conv(x)) and torch.equal(unbatched, conv(x[0]))
