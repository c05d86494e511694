"""The layers: 3D convolutions whose filters are decomposed over space and time.

`STDCFConv3d` writes each filter over shared atoms with free joint coefficients (Eqs. 1 and 2 of the paper);
`Rank1Conv3d` is what it is compared with, first space and then time (Eq. 3). Each has a transposed twin, and all four take
the arguments of `torch.nn.Conv3d` or `torch.nn.ConvTranspose3d` in their order, so that they drop in.
"""

import math
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib.atoms import spatial_atoms as make_spatial_atoms
from stdcf_lib.atoms import temporal_atoms as make_temporal_atoms
from stdcf_lib.decompose import joint_decomposition

Size = int | tuple[int, int, int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
EVALUATIONS = ("auto", "filters", "atoms")


class Change:
    """What `dilate` or `swap` replaced. `undo()`, or leaving a `with` block, puts it back."""

    def __init__(self, layer: nn.Module, **before: Any):
        self.layer, self.before = layer, before

    def undo(self) -> None:
        for name, value in self.before.items():
            setattr(self.layer, name, value)

    def __enter__(self) -> nn.Module:
        return self.layer

    def __exit__(self, *_: object) -> None:
        self.undo()


class _STDCF(nn.Module):
    """Atoms, coefficients and what can be done to them; the two convolutions below add how they meet the input."""

    psi: nn.Parameter
    phi: nn.Parameter
    alpha: nn.Parameter

    def __init__(
        self,
        channels: tuple[int, int],
        kernel_size: Size,
        fan_in: int,
        bias: int,
        groups: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        spatial_atoms: int,
        temporal_atoms: int,
        atoms: str,
        evaluation: str,
    ):
        super().__init__()
        _check_dtype(dtype)
        if evaluation not in EVALUATIONS:
            raise ValueError(f"evaluation={evaluation!r} is unknown; choose one of {', '.join(map(repr, EVALUATIONS))}")
        kt, kh, kw = _triple("kernel_size", kernel_size, 1)
        self.groups, self.evaluation = groups, evaluation
        psi = make_spatial_atoms((kh, kw), spatial_atoms, atoms)
        phi = make_temporal_atoms(kt, temporal_atoms, atoms)
        options = {"device": device or torch.get_default_device(), "dtype": dtype or torch.get_default_dtype()}
        self.psi = nn.Parameter(psi.to(**options))
        self.phi = nn.Parameter(phi.to(**options))
        self.alpha = nn.Parameter(torch.empty(channels[0], channels[1] // groups, spatial_atoms, temporal_atoms, **options))
        self.register_parameter("bias", nn.Parameter(torch.zeros(bias, **options)) if bias else None)
        # [ours] With unit-norm atoms this gives filters the variance of Kaiming's rule, 2 / fan-in a tap (He et al., 2015).
        nn.init.normal_(self.alpha, std=math.sqrt(2 / (fan_in * spatial_atoms * temporal_atoms)))

    @property
    def kernel_size(self) -> tuple[int, int, int]:
        """(kt, kh, kw), read off the atoms, so that it follows a swap."""
        return (self.phi.shape[1], *self.psi.shape[1:])

    def filters(self) -> Tensor:
        """The filters of Eq. 1, W = Σ_mn α^{mn} ψ_m ⊗ φ_n.

        Returns:
            (C_out, C_in/groups, kt, kh, kw); transposed layers have (C_in, C_out/groups, kt, kh, kw), as torch does.
        """
        # Filters are few and outputs many: building them in full precision costs nothing and keeps autocast's rounding to one.
        device = self.alpha.device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):  # meta has no autocast to switch off
            products = torch.einsum("mhw,nt->mnthw", self.psi, self.phi)
            return (self.alpha.flatten(2).flatten(0, 1) @ products.flatten(2).flatten(0, 1)).view(
                *self.alpha.shape[:2], *self.kernel_size
            )

    def freeze(self, what: str | None) -> None:
        """Fix the `"spatial"` or the `"temporal"` atoms and let all else train; `None` lets everything train.

        These are the two stages of ITSL: stage-t fixes ψ, stage-s fixes φ. Frozen atoms have `requires_grad=False`;
        make the optimiser afterwards.
        """
        if what not in ("spatial", "temporal", None):
            raise ValueError(f"freeze({what!r}): choose 'spatial', 'temporal' or None")
        self.psi.requires_grad_(what != "spatial")
        self.phi.requires_grad_(what != "temporal")

    def dilate(self, temporal: int | None = None, spatial: int | tuple[int, int] | None = None) -> Change:
        """Set the dilation of the atoms; α stays. Dilating the temporal atoms alone makes the layer see another tempo.

        Padding keeps its proportion to the kernel's reach, dilation · (size - 1), so that a layer which kept the number
        of frames still does.

        Args:
            temporal: new dilation in frames, at least 1; unchanged if None.
            spatial: new dilation in pixels, one number or (height, width); unchanged if None.

        Returns:
            The change, to `undo()` or to use in a `with` block.

        Raises:
            ValueError: a dilation below 1, or a padding that would have to be fractional (use `padding="same"`).
        """
        now = self.dilation
        spatial = now[1:] if spatial is None else spatial if isinstance(spatial, Iterable) else (spatial, spatial)
        new = _triple("dilation", (now[0] if temporal is None else temporal, *spatial), 1)
        change = Change(self, dilation=now, padding=self.padding)
        self.padding = self._scaled_padding(self.kernel_size, new)
        self.dilation = new
        return change

    def swap(self, psi: Tensor | None = None, phi: Tensor | None = None) -> Change:
        """Put other atoms of the same number, and any size, under the same coefficients.

        Padding follows as for `dilate`. The new atoms are new parameters: make a fresh optimiser, as undoing brings
        back the old parameters themselves.

        Args:
            psi: spatial atoms (M, kh, kw); unchanged if None.
            phi: temporal atoms (N, kt); unchanged if None.

        Returns:
            The change, to `undo()` or to use in a `with` block.

        Raises:
            TypeError: atoms that are not a tensor.
            ValueError: another number of atoms, or a padding that would have to be fractional (use `padding="same"`).
        """
        new = {"psi": psi, "phi": phi}
        for name, atoms in new.items():
            old = getattr(self, name)
            if atoms is None:
                new[name] = old
            elif not isinstance(atoms, Tensor):
                raise TypeError(f"{name} is {type(atoms).__name__}; give a torch.Tensor")
            elif atoms.dim() != old.dim() or len(atoms) != len(old) or not atoms.numel() or not atoms.is_floating_point():
                wanted = f"({len(old)}, {'kh, kw' if name == 'psi' else 'kt'})"
                raise ValueError(f"{name} of shape {tuple(atoms.shape)}, {atoms.dtype}: give floats of shape {wanted}")
            else:
                new[name] = nn.Parameter(atoms.detach().to(old, copy=True), requires_grad=old.requires_grad)
        change = Change(self, psi=self.psi, phi=self.phi, padding=self.padding)
        self.padding = self._scaled_padding((new["phi"].shape[1], *new["psi"].shape[1:]), self.dilation)
        self.psi, self.phi = new["psi"], new["phi"]
        return change

    def _scaled_padding(self, kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(self.padding, str):
            return self.padding
        padding = []
        for p, *sizes in zip(self.padding, self.kernel_size, self.dilation, kernel_size, dilation, strict=True):
            before, after = sizes[1] * (sizes[0] - 1), sizes[3] * (sizes[2] - 1)
            if p and before and p * after % before:
                raise ValueError(
                    f"padding={self.padding} with kernels of {self.kernel_size} cannot follow to kernels of {kernel_size}, "
                    f"dilation {dilation}: it would be fractional; build the layer with padding='same'"
                )
            padding.append(p * after // before if before else p)
        return tuple(padding)

    def _evaluated_by_atoms(self, x: Tensor) -> bool:
        """`evaluation="auto"`: the faster form where that was measured, see `benchmarks/`; otherwise one convolution."""
        if self.evaluation != "auto":
            return self.evaluation == "atoms"
        return False

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # Module.to(memory_format=torch.channels_last_3d) is meant for filters (5-D) and refuses 4-D parameters such as α.
        return super()._apply(lambda t: fn(t.unsqueeze(-1)).squeeze(-1).contiguous() if t.dim() == 4 else fn(t), recurse)

    def _check_input(self, x: Tensor, channels: int) -> None:
        if x.dim() not in (4, 5) or x.shape[-4] != channels:
            raise ValueError(f"input of shape {tuple(x.shape)}: give (B, {channels}, T, H, W) or ({channels}, T, H, W)")
        if not x.is_floating_point():
            raise TypeError(f"input of {x.dtype}: give floats, for 8-bit clips x.float() / 255")

    @classmethod
    def _from(cls, conv: nn.Module, spatial_atoms: int, temporal_atoms: int, **options: Any) -> Self:
        w = conv.weight
        # Any family with room for the count serves as a place holder: the fitted atoms take its place below.
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None, padding_mode=conv.padding_mode,
            device=w.device, dtype=w.dtype, spatial_atoms=spatial_atoms, temporal_atoms=temporal_atoms, atoms="dct", **options,
        )  # fmt: skip
        fit = joint_decomposition(w, spatial_atoms, temporal_atoms)
        with torch.no_grad():
            for name in ("psi", "phi", "alpha"):
                getattr(layer, name).copy_(getattr(fit, name)).requires_grad_(w.requires_grad)
            if conv.bias is not None:
                layer.bias.copy_(conv.bias).requires_grad_(conv.bias.requires_grad)
        return layer.train(conv.training)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding!r}"] if self.padding not in ((0, 0, 0), "valid") else []
        parts += [f"dilation={self.dilation}"] if self.dilation != (1, 1, 1) else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join([*parts, f"spatial_atoms={len(self.psi)}, temporal_atoms={len(self.phi)}"])


class STDCFConv3d(_STDCF):
    """3D convolution with filters W_{c',c}(u, t) = Σ_mn α_{c',c}^{mn} ψ_m(u) φ_n(t)  (Eq. 1).

    ```
    x (B, C_in, T, H, W) ── φ: N temporal atoms ── ψ: M spatial atoms ── α: 1×1×1 joint coefficients ── (B, C_out, T', H', W')
    ```

    The M spatial and N temporal atoms are shared by all channel pairs of the layer; the M·N coefficients of each pair are
    free. Positional and first keyword arguments are those of `torch.nn.Conv3d`, in its order.

    Args:
        spatial_atoms: M. The paper uses 5 for 3×3.
        temporal_atoms: N. The paper uses 3 for 3 frames.
        atoms: how they start: `"fourier-bessel"` (cosines in time), `"dct"` or `"random"`; see `stdcf_lib.atoms`. [ours]
        evaluation: `"filters"` rebuilds W and runs one convolution; `"atoms"` runs the three layers above; `"auto"` takes the
            faster one. They agree to rounding; `"atoms"` keeps many times the maps for backward (`make bench`).

    Attributes:
        psi: ψ, (M, kh, kw).  phi: φ, (N, kt).  alpha: α, (C_out, C_in/groups, M, N).  bias: (C_out,) or None.

    Raises:
        ValueError: an argument that `torch.nn.Conv3d` would not take, or more atoms than the family offers.

    Example:
        >>> layer = STDCFConv3d(16, 32, kernel_size=3, padding=1)
        >>> layer(torch.zeros(2, 16, 8, 28, 28)).shape
        torch.Size([2, 32, 8, 28, 28])
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
        spatial_atoms: int = 5,
        temporal_atoms: int = 3,
        atoms: str = "fourier-bessel",
        evaluation: str = "auto",
    ):
        _check_channels(in_channels, out_channels, groups)
        super().__init__(
            (out_channels, in_channels), kernel_size, in_channels // groups, out_channels if bias else 0, groups,
            device, dtype, spatial_atoms, temporal_atoms, atoms, evaluation,
        )  # fmt: skip
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = _triple("stride", stride, 1)
        self.dilation = _triple("dilation", dilation, 1)
        self.padding = _padding(padding, self.stride)
        _check_padding_mode(padding_mode)
        self.padding_mode = padding_mode

    @classmethod
    def from_conv3d(cls, conv: nn.Conv3d, spatial_atoms: int = 5, temporal_atoms: int = 3) -> Self:
        """The layer nearest to a trained `nn.Conv3d` in the least-squares sense; exact at M = kh·kw, N = kt.

        Same options, dtype, device and bias, frozen where `conv` is; `conv` is left alone. The fit is `joint_decomposition`.
        """
        if not isinstance(conv, nn.Conv3d):
            raise TypeError(f"conv is {type(conv).__name__}; {cls.__name__}.from_conv3d takes a torch.nn.Conv3d")
        return cls._from(conv, spatial_atoms, temporal_atoms)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) or (C_in, T, H, W), floats → the same with C_out and the sizes `torch.nn.Conv3d` gives."""
        self._check_input(x, self.in_channels)
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._sides(), mode=self.padding_mode)
            padding = (0, 0, 0)
        if self._evaluated_by_atoms(x):
            return self._by_atoms(x, padding)
        return F.conv3d(x, self.filters(), self.bias, self.stride, padding, self.dilation, self.groups)

    def _sides(self) -> list[int]:
        """How much to pad before and after each axis, the last axis first, as `F.pad` counts."""
        if self.padding == "same":
            reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [side for r in reversed(reach) for side in (r // 2, r - r // 2)]
        return [0] * 6 if self.padding == "valid" else [p for p in reversed(self.padding) for _ in range(2)]

    def _by_atoms(self, x: Tensor, padding: str | tuple[int, ...]) -> Tensor:
        """Eq. 2 as written: temporal atoms, spatial atoms, joint coefficients."""
        if x.dim() == 4:
            return self._by_atoms(x[None], padding)[0]
        (st, *s), (dt, *d) = self.stride, self.dilation
        in_time, in_space = _along_time(padding, 0), _along_space(padding, 0)
        maps = x.flatten(0, 1).unsqueeze(1)  # atoms are shared by all channels, so channels join the batch
        maps = F.conv3d(maps, self.phi[:, None, :, None, None], None, (st, 1, 1), in_time, (dt, 1, 1))
        maps = F.conv3d(maps.flatten(0, 1).unsqueeze(1), self.psi[:, None, None], None, (1, *s), in_space, (1, *d))
        maps = maps.view(len(x), -1, *maps.shape[2:])  # (B, C_in · N · M, T', H', W')
        joint = self.alpha.transpose(2, 3).flatten(1)[:, :, None, None, None]
        return F.conv3d(maps, joint, self.bias, groups=self.groups)


class STDCFConvTranspose3d(_STDCF):
    """The transpose of `STDCFConv3d`, with the arguments of `torch.nn.ConvTranspose3d` in its order.

    The three layers run backwards: α first, at the low resolution, then ψ and φ spread each map over space and time.
    `alpha` is (C_in, C_out/groups, M, N) and `filters()` (C_in, C_out/groups, kt, kh, kw), as torch stores transposed filters.
    Keyword arguments, attributes and errors are those of `STDCFConv3d`.
    """

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
        spatial_atoms: int = 5,
        temporal_atoms: int = 3,
        atoms: str = "fourier-bessel",
        evaluation: str = "auto",
    ):
        _check_channels(in_channels, out_channels, groups)
        super().__init__(
            (in_channels, out_channels), kernel_size, in_channels // groups, out_channels if bias else 0, groups,
            device, dtype, spatial_atoms, temporal_atoms, atoms, evaluation,
        )  # fmt: skip
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = _triple("stride", stride, 1)
        self.dilation = _triple("dilation", dilation, 1)
        self.padding = _triple("padding", padding, 0)
        self.output_padding = _output_padding(output_padding, self.stride, self.dilation)
        _check_padding_mode(padding_mode, ("zeros",))  # as in torch
        self.padding_mode = padding_mode

    @classmethod
    def from_conv3d(cls, conv: nn.ConvTranspose3d, spatial_atoms: int = 5, temporal_atoms: int = 3) -> Self:
        """The layer nearest to a trained `nn.ConvTranspose3d`; as `STDCFConv3d.from_conv3d`."""
        if not isinstance(conv, nn.ConvTranspose3d):
            raise TypeError(f"conv is {type(conv).__name__}; {cls.__name__}.from_conv3d takes a torch.nn.ConvTranspose3d")
        return cls._from(conv, spatial_atoms, temporal_atoms, output_padding=conv.output_padding)

    def forward(self, x: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """As `torch.nn.ConvTranspose3d`: `output_size` (T, H, W) chooses among the sizes that a stride makes possible."""
        self._check_input(x, self.in_channels)
        extra = self.output_padding if output_size is None else self._output_padding(x, output_size)
        if self._evaluated_by_atoms(x):
            return self._by_atoms(x, extra)
        return F.conv_transpose3d(x, self.filters(), self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _by_atoms(self, x: Tensor, extra: tuple[int, ...]) -> Tensor:
        if x.dim() == 4:
            return self._by_atoms(x[None], extra)[0]
        (st, *s), (dt, *d), (et, *e) = self.stride, self.dilation, extra
        in_time, in_space = _along_time(self.padding, 0), _along_space(self.padding, 0)
        joint = self.alpha.transpose(2, 3).flatten(1)[:, :, None, None, None]
        maps = F.conv_transpose3d(x, joint, groups=self.groups)  # (B, C_out · N · M, T, H, W)
        maps = maps.view(-1, len(self.psi), *maps.shape[2:])
        maps = F.conv_transpose3d(maps, self.psi[:, None, None], None, (1, *s), in_space, (0, *e), 1, (1, *d))
        maps = maps.view(-1, len(self.phi), *maps.shape[2:])
        maps = F.conv_transpose3d(maps, self.phi[:, None, :, None, None], None, (st, 1, 1), in_time, (et, 0, 0), 1, (dt, 1, 1))
        maps = maps.view(len(x), self.out_channels, *maps.shape[2:])
        return maps if self.bias is None else maps + self.bias.to(maps.dtype).view(-1, 1, 1, 1)  # autocast lowers maps alone

    def _output_padding(self, x: Tensor, output_size: tuple[int, ...]) -> tuple[int, ...]:
        wanted = tuple(output_size)[-3:]
        per_axis = zip(x.shape[-3:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in per_axis)
        most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
        if len(wanted) != 3 or not all(a <= n <= b for a, n, b in zip(least, wanted, most, strict=True)):
            raise ValueError(f"output_size={output_size}: from this input it can be {least} to {most}")
        return tuple(n - a for n, a in zip(wanted, least, strict=True))


class _Rank1(nn.Module):
    def __init__(self, spatial: nn.Module, between: nn.Module | None, temporal: nn.Module):
        super().__init__()
        if between is not None and not isinstance(between, nn.Module):
            raise TypeError(f"between={between!r}: give a module, such as torch.nn.ReLU(), or None")
        self.spatial, self.between, self.temporal = spatial, between, temporal
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's variance for the composed filters [ours]: the factor 2 for the ReLU that follows is spent once when the
        two factors meet linearly, and on each when something stands between them."""
        for factor, gain in ((self.spatial, 1 if self.between is None else 2), (self.temporal, 2)):
            initialise(factor, gain)

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
        middle = _check_middle(in_channels, out_channels, groups, middle_channels)
        kernel, stride = _triple("kernel_size", kernel_size, 1), _triple("stride", stride, 1)
        padding, dilation = _padding(padding, stride), _triple("dilation", dilation, 1)
        _check_padding_mode(padding_mode)
        _check_dtype(dtype)
        factors = (
            nn.Conv3d(*channels, along(kernel, 1), along(stride, 1), along(padding, 0), along(dilation, 1),
                      groups, with_bias, padding_mode, device, dtype)
            for along, channels, with_bias in (
                (_along_space, (in_channels, middle), bias and between is not None),
                (_along_time, (middle, out_channels), bias),
            )
        )  # fmt: skip
        super().__init__(next(factors), between, next(factors))

    def filters(self) -> Tensor:
        """The composed filters Σ_λ'' m_λ''(u) n_λ''(t), (C_out, C_in/groups, kt, kh, kw); with `between`, there are none."""
        return self._composed("gzihw,gozt->goithw")

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as for `torch.nn.Conv3d`."""
        middle = self.spatial(x)
        return self.temporal(middle if self.between is None else self.between(middle))


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
        middle = _check_middle(in_channels, out_channels, groups, middle_channels)
        kernel, stride = _triple("kernel_size", kernel_size, 1), _triple("stride", stride, 1)
        padding, dilation = _triple("padding", padding, 0), _triple("dilation", dilation, 1)
        extra = _output_padding(output_padding, stride, dilation)
        _check_padding_mode(padding_mode, ("zeros",))
        _check_dtype(dtype)
        factors = (
            nn.ConvTranspose3d(*channels, along(kernel, 1), along(stride, 1), along(padding, 0), along(extra, 0),
                               groups, with_bias, along(dilation, 1), padding_mode, device, dtype)
            for along, channels, with_bias in (
                (_along_space, (in_channels, middle), bias and between is not None),
                (_along_time, (middle, out_channels), bias),
            )
        )  # fmt: skip
        super().__init__(next(factors), between, next(factors))

    def filters(self) -> Tensor:
        """The composed filters, (C_in, C_out/groups, kt, kh, kw) as torch stores transposed ones."""
        return self._composed("gizhw,gzot->giothw")

    def forward(self, x: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """Shapes as for `torch.nn.ConvTranspose3d`."""
        middle_size = None if output_size is None else (x.shape[-3], *tuple(output_size)[-2:])
        middle = self.spatial(x, middle_size)
        return self.temporal(middle if self.between is None else self.between(middle), output_size)


def initialise(conv: nn.Module, gain: float = 2.0) -> None:
    """Give an `nn.Conv3d` or `nn.ConvTranspose3d` the variance rule of the layers here, gain / fan-in a tap, and zero bias.

    Kaiming's rule (He et al., 2015) with the fan-in C_in/groups · kt · kh · kw for both. [ours] A strided transposed
    convolution reaches each output voxel with fewer taps, but starting larger to make up for it trains worse
    (measured in notebook 04). Comparing families is fair only when all start by one rule.
    """
    fan_in = conv.in_channels / conv.groups * math.prod(conv.kernel_size)
    nn.init.normal_(conv.weight, std=math.sqrt(gain / fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _along_time(size: str | tuple[int, ...], rest: int) -> str | tuple[int, ...]:
    return size if isinstance(size, str) else (size[0], rest, rest)


def _along_space(size: str | tuple[int, ...], rest: int) -> str | tuple[int, ...]:
    return size if isinstance(size, str) else (rest, *size[1:])


def _triple(name: str, value: Size, least: int) -> tuple[int, int, int]:
    three = (value,) * 3 if isinstance(value, int) else tuple(value) if isinstance(value, Iterable) else ()
    if len(three) != 3 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in three):
        raise ValueError(f"{name}={value!r}: give an integer of at least {least}, or three of them (time, height, width)")
    return three


def _padding(padding: Size | str, stride: tuple[int, int, int]) -> str | tuple[int, int, int]:
    if not isinstance(padding, str):
        return _triple("padding", padding, 0)
    if padding not in ("same", "valid"):
        raise ValueError(f"padding={padding!r}: give 'same', 'valid', an integer, or three integers (time, height, width)")
    if padding == "same" and stride != (1, 1, 1):
        raise ValueError(f"padding='same' keeps the size, stride={stride} changes it; give the padding in numbers")
    return padding


def _output_padding(value: Size, stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, int, int]:
    extra = _triple("output_padding", value, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(f"output_padding={value}: stay below stride={stride} or dilation={dilation}, whichever is larger")
    return extra


def _check_dtype(dtype: torch.dtype | None) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype}: filters are real numbers; give a floating-point dtype such as torch.float32")


def _check_padding_mode(mode: str, modes: tuple[str, ...] = PADDING_MODES) -> None:
    if mode not in modes:
        raise ValueError(f"padding_mode={mode!r}; choose {' or '.join(map(repr, modes))}")


def _check_channels(in_channels: int, out_channels: int, groups: int, out_name: str = "out_channels") -> None:
    for name, value in (("in_channels", in_channels), (out_name, out_channels), ("groups", groups)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: give an integer of at least 1")
    for name, value in (("in_channels", in_channels), (out_name, out_channels)):
        if value % groups:
            raise ValueError(f"{name}={value} does not divide into groups={groups}; choose a divisor of {value} for groups")


def _check_middle(in_channels: int, out_channels: int, groups: int, middle_channels: int | None) -> int:
    _check_channels(in_channels, out_channels, groups)
    middle = out_channels if middle_channels is None else middle_channels
    _check_channels(in_channels, middle, groups, "middle_channels")
    return middle
