"""What STDCF is compared with: rank-1 filters, first space and then time, and full 3D ones; and how all three start alike.

All take the arguments of `torch.nn.Conv3d` or `torch.nn.ConvTranspose3d` in their order, and answer to the names of
`STDCFConv3d`: `in_channels`, `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `reset_parameters()`,
`temporal_filters`, `set_temporal_filters()` and, unless transposed, `take_image_filters()`. So a network is built of any of
them without asking which.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.checks import flag, whole
from stdcf_lib.forms import Way, for_onednn
from stdcf_lib.geometry import (
    Size,
    Triple,
    along_space,
    along_time,
    channels_of,
    dtype_of,
    output_padding_of,
    padding_mode_of,
    padding_of,
    triple,
)


class _Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, as quick with one thread where its kernels are of one pixel."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv: Any = self  # torch has its sizes as tuples of any length
        way = Way(conv.stride, conv.padding, conv.dilation, conv.groups)
        other = for_onednn(input, weight.shape[2:], way)
        if other is way or self.padding_mode != "zeros":
            return super()._conv_forward(input, weight, bias)
        return F.conv3d(input, weight, bias, *other)


class _Rank1(nn.Module):
    """Two factors, and what can be asked of both together."""

    def __init__(
        self,
        factor: type[nn.Conv3d] | type[nn.ConvTranspose3d],
        channels: Triple,
        kernel_size: Triple,
        stride: Triple,
        padding: str | Triple,
        dilation: Triple,
        bias: bool,
        middle_channels: int | None,
        between: nn.Module | None,
        output_padding: Triple | None = None,
        **options: Any,
    ):
        super().__init__()
        if between is not None and not isinstance(between, nn.Module):
            raise TypeError(f"between={between!r}: give a module, such as torch.nn.ReLU(), or None")
        in_channels, out_channels, groups = channels
        bias = flag("bias", bias)
        middle = (
            out_channels if middle_channels is None else channels_of(in_channels, middle_channels, groups, "middle_channels")[1]
        )

        def made(along: Any, from_channels: int, to_channels: int, with_bias: bool) -> Any:
            extra = {} if output_padding is None else {"output_padding": along(output_padding, 0)}
            return factor(
                from_channels, to_channels, along(kernel_size, 1), along(stride, 1), along(padding, 0),
                dilation=along(dilation, 1), groups=groups, bias=with_bias, **options, **extra,
            )  # fmt: skip

        self.spatial = made(along_space, in_channels, middle, bias and between is not None)
        self.between = between
        self.temporal = made(along_time, middle, out_channels, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's variance for the composed filters [ours]: the factor 2 for the ReLU that follows is spent once when the
        two factors meet linearly, and on each when something stands between them."""
        for factor, gain in ((self.spatial, 1 if self.between is None else 2), (self.temporal, 2)):
            initialise(factor, gain)

    @property
    def in_channels(self) -> int:
        return self.spatial.in_channels

    @property
    def out_channels(self) -> int:
        return self.temporal.out_channels

    @property
    def groups(self) -> int:
        return self.temporal.groups

    @property
    def kernel_size(self) -> Triple:
        return self._joined("kernel_size")

    @property
    def stride(self) -> Triple:
        return self._joined("stride")

    @property
    def padding(self) -> str | Triple:
        return self.temporal.padding if isinstance(self.temporal.padding, str) else self._joined("padding")

    @property
    def dilation(self) -> Triple:
        """(time, height, width); may be set."""
        return self._joined("dilation")

    @dilation.setter
    def dilation(self, value: Size) -> None:
        dilation = triple("dilation", value)
        self.spatial.dilation, self.temporal.dilation = along_space(dilation, 1), along_time(dilation, 1)

    @property
    def temporal_filters(self) -> Tensor:
        """The second factor's weight, which looks along time, its axis 2."""
        return self.temporal.weight

    def set_temporal_filters(self, filters: nn.Parameter) -> None:
        """Put others, of any length, in the place of `temporal_filters`."""
        self.temporal.weight = filters

    def set_temporal_dilation(self, temporal: int) -> None:
        """Spread the temporal factor alone; padding keeps its proportion to the reach."""
        _spread(self.temporal, temporal)

    def _joined(self, name: str) -> Triple:
        (_, height, width), (time, _, _) = getattr(self.spatial, name), getattr(self.temporal, name)
        return time, height, width

    def _composed(self, equation: str) -> Tensor:
        if self.between is not None:
            raise ValueError(f"there is no composed filter: {type(self.between).__name__} stands between the two factors")
        m, n = self.spatial.weight[:, :, 0], self.temporal.weight[:, :, :, 0, 0]
        m, n = (factor.unflatten(0, (self.spatial.groups, -1)) for factor in (m, n))
        return torch.einsum(equation, m, n).flatten(0, 1)


class Rank1Conv3d(_Rank1):
    """First space, then time (Eq. 3): a 1×kh×kw convolution to C'' middle channels, then kt×1×1.

    Positional and first keyword arguments are those of `torch.nn.Conv3d`, in its order; strides, padding and dilation act
    along the axes of each factor.

    Args:
        middle_channels: C''; `out_channels` by default, as in the paper's tables.
        between: a module between the factors, such as `nn.ReLU()` or `nn.BatchNorm3d(C'')`. None, as in Eq. 3, keeps the layer
            linear. [ours] With one, the first factor has a bias too.

    Attributes:
        spatial, temporal: the two `nn.Conv3d`.

    Raises:
        TypeError: a `between` that is not a module.
        ValueError: an argument that `torch.nn.Conv3d` would not take.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        middle_channels: int | None = None,
        between: nn.Module | None = None,
    ):
        strides = triple("stride", stride)
        super().__init__(
            _Conv3d, channels_of(in_channels, out_channels, groups), triple("kernel_size", kernel_size), strides,
            padding_of(padding, strides), triple("dilation", dilation), bias, middle_channels, between,
            padding_mode=padding_mode_of(padding_mode, False), device=device, dtype=dtype_of(dtype),
        )  # fmt: skip

    def filters(self) -> Tensor:
        """The composed filters Σ_λ'' m_λ''(u) n_λ''(t), (C_out, C_in/groups, kt, kh, kw); with `between`, there are none."""
        return self._composed("gzihw,gozt->goithw")

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as for `torch.nn.Conv3d`."""
        middle = self.spatial(x)
        return self.temporal(middle if self.between is None else self.between(middle))

    @torch.no_grad()
    def take_image_filters(self, image: Tensor) -> float:
        """Start from the filters (C_out, C_in/groups, kh, kw) of an image network: they become the spatial factor, and the mean
        over time the temporal one, which is exact. [ours]

        Returns:
            1.0, the share of ‖W‖² that is kept.
        """
        self.spatial.weight.copy_(image[:, :, None])
        self.temporal.weight.zero_()
        middle = range(self.temporal.weight.shape[1])
        self.temporal.weight[middle, middle] = 1 / self.temporal.weight.shape[2]
        return 1.0


class Rank1ConvTranspose3d(_Rank1):
    """The transposed twin of `Rank1Conv3d`, first space and then time, with the arguments of `torch.nn.ConvTranspose3d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        middle_channels: int | None = None,
        between: nn.Module | None = None,
    ):
        strides, dilations = triple("stride", stride), triple("dilation", dilation)
        super().__init__(
            nn.ConvTranspose3d, channels_of(in_channels, out_channels, groups), triple("kernel_size", kernel_size), strides,
            triple("padding", padding, 0), dilations, bias, middle_channels, between,
            output_padding_of(output_padding, strides, dilations),
            padding_mode=padding_mode_of(padding_mode, True), device=device, dtype=dtype_of(dtype),
        )  # fmt: skip

    def filters(self) -> Tensor:
        """The composed filters, (C_in, C_out/groups, kt, kh, kw) as torch stores transposed ones."""
        return self._composed("gizhw,gzot->giothw")

    def forward(self, x: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """Shapes as for `torch.nn.ConvTranspose3d`."""
        middle_size = None if output_size is None else (x.shape[-3], *tuple(output_size)[-2:])
        middle = self.spatial(x, middle_size)
        return self.temporal(middle if self.between is None else self.between(middle), output_size)


class _Full:
    """What the two full convolutions add to torch's."""

    weight: Tensor

    def reset_parameters(self) -> None:
        """Kaiming's variance, as `initialise` gives it."""
        conv: Any = self
        nn.Conv3d.reset_parameters(conv)  # draws as many numbers as ever, so that what follows a seed stays the same
        initialise(conv)

    @property
    def temporal_filters(self) -> Tensor:
        """The weight, which looks along time, its axis 2."""
        return self.weight

    def set_temporal_filters(self, filters: nn.Parameter) -> None:
        """Put others, of any length, in the place of `temporal_filters`."""
        self.weight = filters

    def set_temporal_dilation(self, temporal: int) -> None:
        """Spread the filters along time alone; padding keeps its proportion to the reach."""
        conv: Any = self
        _spread(conv, temporal)


class FullConv3d(_Full, _Conv3d):
    """`torch.nn.Conv3d` that starts as the other families do, and answers to the same names."""

    @torch.no_grad()
    def take_image_filters(self, image: Tensor) -> float:
        """Start from the filters (C_out, C_in/groups, kh, kw) of an image network, inflated: repeated along time and divided by
        the number of frames. [ours] Returns 1.0, the share of ‖W‖² that is kept."""
        self.weight.copy_(image[:, :, None].expand_as(self.weight) / self.weight.shape[2])
        return 1.0


class FullConvTranspose3d(_Full, nn.ConvTranspose3d):
    """The transposed twin of `FullConv3d`."""


def initialise(conv: nn.Conv3d | nn.ConvTranspose3d, gain: float = 2.0) -> None:
    """Give an `nn.Conv3d` or `nn.ConvTranspose3d` the variance rule of the layers here, gain / fan-in a tap, and zero bias.

    Kaiming's rule (He et al., 2015) with the fan-in C_in/groups · kt · kh · kw for both. [ours] A strided transposed
    convolution reaches each output voxel with fewer taps, but starting larger to make up for it trains worse
    (measured in notebook 04). Comparing families is fair only when all start by one rule.
    """
    fan_in = conv.in_channels / conv.groups * math.prod(conv.kernel_size)
    nn.init.normal_(conv.weight, std=math.sqrt(gain / fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _spread(conv: nn.Conv3d | nn.ConvTranspose3d, temporal: int) -> None:
    before, temporal = conv.dilation[0], whole("temporal", temporal)
    if not isinstance(conv.padding, str):
        padding, rest = divmod(conv.padding[0] * temporal, before)
        if rest:
            raise ValueError(
                f"padding={conv.padding} cannot follow from a dilation of {before} to {temporal}: it would be fractional"
            )
        conv.padding = (padding, *conv.padding[1:])
    conv.dilation = (temporal, *conv.dilation[1:])
