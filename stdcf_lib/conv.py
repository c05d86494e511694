"""The layer: a 3D convolution whose filters are decomposed over space and time, and its transposed twin.

`STDCFConv3d` writes each filter over shared atoms with free joint coefficients (Eqs. 1 and 2 of the paper). It takes the
arguments of `torch.nn.Conv3d` in their order, so that it drops in. What it is compared with is in `stdcf_lib.rank1`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib import forms
from stdcf_lib.atoms import spatial_atoms as make_spatial_atoms
from stdcf_lib.atoms import temporal_atoms as make_temporal_atoms
from stdcf_lib.checks import choice, flag, listed
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.geometry import (
    Size,
    Triple,
    channels_of,
    dtype_of,
    output_padding_of,
    padding_mode_of,
    padding_of,
    triple,
)

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
    bias: nn.Parameter | None
    transposed: bool
    _kept: Any = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size | str,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        spatial_atoms: int | None,
        temporal_atoms: int | None,
        atoms: str,
        evaluation: str,
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = channels_of(in_channels, out_channels, groups)
        kt, kh, kw = triple("kernel_size", kernel_size)
        self.stride, self._dilation = triple("stride", stride), triple("dilation", dilation)
        self.padding_mode = padding_mode_of(padding_mode, self.transposed)
        self.evaluation: str = choice("evaluation", evaluation, EVALUATIONS)
        # In torch 2.6, `torch.get_default_device` knows nothing of `with torch.device(…)`.
        options: dict[str, Any] = {"device": device or torch.empty(0).device, "dtype": dtype_of(dtype)}
        self._family = atoms
        psi, phi = make_spatial_atoms((kh, kw), spatial_atoms, atoms), make_temporal_atoms(kt, temporal_atoms, atoms)
        self.psi, self.phi = nn.Parameter(psi.to(**options)), nn.Parameter(phi.to(**options))
        pairs = (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        self.alpha = nn.Parameter(torch.empty(pairs[0], pairs[1] // self.groups, len(psi), len(phi), **options))
        self.register_parameter("bias", nn.Parameter(torch.empty(self.out_channels, **options)) if flag("bias", bias) else None)
        self.padding = padding
        self._draw()

    def reset_parameters(self) -> None:
        """Start again: atoms of the family that the layer was built with, on the kernel as it is, and fresh coefficients."""
        with torch.no_grad():
            self.psi.copy_(make_spatial_atoms(self.kernel_size[1:], len(self.psi), self._family))
            self.phi.copy_(make_temporal_atoms(self.kernel_size[0], len(self.phi), self._family))
        self._draw()

    def _draw(self) -> None:
        # [ours] With unit-norm atoms this gives filters the variance of Kaiming's rule, 2 / fan-in a tap (He et al., 2015).
        fan_in = self.in_channels // self.groups
        nn.init.normal_(self.alpha, std=math.sqrt(2 / (fan_in * len(self.psi) * len(self.phi))))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def kernel_size(self) -> Triple:
        """(kt, kh, kw), read off the atoms, so that it follows a swap."""
        return (self.phi.shape[1], self.psi.shape[1], self.psi.shape[2])

    @property
    def dilation(self) -> Triple:
        """(time, height, width). Setting it leaves the padding as it is; `dilate` scales it."""
        return self._dilation

    @dilation.setter
    def dilation(self, value: Size) -> None:
        padding, self._dilation = self.padding, triple("dilation", value)
        self._built = self.kernel_size, self._dilation, padding

    @property
    def padding(self) -> Any:
        """(time, height, width), `"same"` or `"valid"`. In numbers, the padding that was built or set last, scaled by as much
        as `dilate` and `swap` have changed the kernel's reach since: so it comes back whatever they did in between."""
        return self._padding_for(self.kernel_size, self._dilation)

    @padding.setter
    def padding(self, value: Size | str) -> None:
        padding = triple("padding", value, 0) if self.transposed else padding_of(value, self.stride)
        self._built = self.kernel_size, self._dilation, padding

    @property
    def temporal_filters(self) -> nn.Parameter:
        """φ, (N, kt), which looks along time."""
        return self.phi

    def set_temporal_filters(self, filters: nn.Parameter) -> None:
        """Put others, of any length, in the place of `temporal_filters`."""
        self.phi = filters

    def set_temporal_dilation(self, temporal: int) -> None:
        """Spread the temporal atoms alone; `dilate`, as the other families have it too."""
        self.dilate(temporal=temporal)

    def filters(self) -> Tensor:
        """The filters of Eq. 1, W = Σ_mn α^{mn} ψ_m ⊗ φ_n.

        Returns:
            (C_out, C_in/groups, kt, kh, kw); transposed layers have (C_in, C_out/groups, kt, kh, kw), as torch does.
        """
        return forms.filters(self.alpha, self.psi, self.phi)

    def freeze(self, what: str | None) -> None:
        """Fix the `"spatial"` atoms, the `"temporal"` ones or `"both"`, and let all else train; `None` lets everything train.

        These are the two stages of ITSL: stage-t fixes ψ, stage-s fixes φ. Frozen atoms have `requires_grad=False`;
        make the optimiser afterwards.
        """
        choice("what", what, ("spatial", "temporal", "both", None))
        self.psi.requires_grad_(what not in ("spatial", "both"))
        self.phi.requires_grad_(what not in ("temporal", "both"))

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
        now = self._dilation
        space = now[1:] if spatial is None else listed(spatial) or (spatial, spatial)
        new = triple("dilation", (now[0] if temporal is None else temporal, *space))
        self._padding_for(self.kernel_size, new)  # refuses what cannot be, before anything changes
        self._dilation = new
        return Change(self, _dilation=now)

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
        new: dict[str, nn.Parameter] = {}
        for name, atoms in (("psi", psi), ("phi", phi)):
            old: nn.Parameter = getattr(self, name)
            if atoms is None:
                new[name] = old
            elif not isinstance(atoms, Tensor):
                raise TypeError(f"{name} is {type(atoms).__name__}; give a torch.Tensor")
            elif atoms.dim() != old.dim() or len(atoms) != len(old) or not atoms.numel() or not atoms.is_floating_point():
                wanted = f"({len(old)}, {'kh, kw' if name == 'psi' else 'kt'})"
                raise ValueError(f"{name} of shape {tuple(atoms.shape)}, {atoms.dtype}: give floats of shape {wanted}")
            else:
                new[name] = nn.Parameter(atoms.detach().to(old, copy=True), requires_grad=old.requires_grad)
        _, kh, kw = new["psi"].shape
        self._padding_for((new["phi"].shape[1], kh, kw), self._dilation)  # as in `dilate`
        change = Change(self, psi=self.psi, phi=self.phi)
        self.psi, self.phi = new["psi"], new["phi"]
        return change

    def _padding_for(self, kernel_size: Triple, dilation: Triple) -> Any:
        built_size, built_dilation, built = self._built
        if isinstance(built, str):
            return built
        padding = []
        for p, *sizes in zip(built, built_size, built_dilation, kernel_size, dilation, strict=True):
            before, after = sizes[1] * (sizes[0] - 1), sizes[3] * (sizes[2] - 1)
            if p and before and p * after % before:
                raise ValueError(
                    f"padding={built} with kernels of {built_size} cannot follow to kernels of {kernel_size}, "
                    f"dilation {dilation}: it would be fractional; build the layer with padding='same'"
                )
            padding.append(p * after // before if before else p)
        return padding[0], padding[1], padding[2]

    @torch.no_grad()
    def take_image_filters(self, image: Tensor) -> float:
        """Start from the filters (C_out, C_in/groups, kh, kw) of an image network, inflated: repeated along time and divided by
        the number of frames. α becomes their least-squares projection onto the atoms as they are. [ours]

        Returns:
            The share of ‖W‖² that is kept, in [0, 1].
        """
        kt = self.kernel_size[0]
        inflated = image.double()[:, :, None].expand(-1, -1, kt, -1, -1) / kt
        products = torch.einsum("nt,mhw->mnthw", self.phi.double(), self.psi.double()).flatten(2).flatten(0, 1)
        alpha = torch.linalg.lstsq(products.T, inflated.flatten(0, 1).flatten(1).T).solution
        self.alpha.copy_(alpha.T.unflatten(0, image.shape[:2]).unflatten(2, (len(self.psi), len(self.phi))))
        return 1 - float((self.filters().double() - inflated).square().sum() / inflated.square().sum())

    def _by_atoms(self, x: Tensor, way: forms.Way) -> bool:
        """Whether x (B, C, T, H, W) is to meet the atoms; the filters otherwise."""
        if self.evaluation == "auto":
            return forms.quicker(x, self.alpha, self.psi, self.phi, way, self.transposed)
        return self.evaluation == "atoms"

    def _filters_for(self, x: Tensor) -> Tensor:
        """`filters()` in the memory order of x, kept where that can be."""
        last = x.shape[1] > 1 and x.stride(1) == 1
        make = partial(forms.filters, self.alpha, self.psi, self.phi, last=last)
        kept = self._keep(last, make)
        return make() if kept is None else kept

    def _keep(self, what: Any, make: Callable[[], Any]) -> Any:
        """What `make` makes of the parameters, and the same again where the same `what` is asked for next, until a parameter
        changes; None where that cannot be told, or it is to be differentiated."""
        parameters = (self.alpha, self.psi, self.phi)
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        # Within functional_call, or while compiling, parameters are not what they seem; off the CPU, comparing values means
        # waiting for them, or there are none.
        ours = all(type(p) is nn.Parameter and p.device.type == "cpu" for p in parameters)
        if self.training or differentiable or torch.compiler.is_compiling() or not ours:
            return None
        # What is written through `.data` counts no version, so that some values are compared as well.
        some = torch.cat([p.detach().flatten()[:: max(1, p.numel() // 1000)].double() for p in parameters])
        now = [(id(p), p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]
        if self._kept is None or self._kept[0] != (what, now) or not torch.equal(self._kept[1], some):
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (what, now), some, make()
        return self._kept[2]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._kept = None
        # Module.to(memory_format=torch.channels_last_3d) is meant for filters (5-D) and refuses 4-D parameters such as α.
        return super()._apply(lambda t: fn(t.unsqueeze(-1)).squeeze(-1).contiguous() if t.dim() == 4 else fn(t), recurse)

    def _check_input(self, x: Tensor, channels: int) -> None:
        if x.dim() not in (4, 5) or x.shape[-4] != channels:
            raise ValueError(f"input of shape {tuple(x.shape)}: give (B, {channels}, T, H, W) or ({channels}, T, H, W)")
        if not x.is_floating_point():
            raise TypeError(f"input of {x.dtype}: give floats, for 8-bit clips x.float() / 255")

    @classmethod
    def _from(cls, conv: Any, spatial_atoms: int, temporal_atoms: int, fit: bool, **options: Any) -> Self:
        w = conv.weight
        # Any family with room for the count serves as a place holder: the fitted atoms take its place below.
        layer: Any = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None, padding_mode=conv.padding_mode,
            device=w.device, dtype=w.dtype, spatial_atoms=spatial_atoms, temporal_atoms=temporal_atoms, atoms="dct", **options,
        )  # fmt: skip
        fitted = joint_decomposition(w, spatial_atoms, temporal_atoms) if fit else layer
        with torch.no_grad():
            for name in ("psi", "phi", "alpha"):
                getattr(layer, name).copy_(getattr(fitted, name)).requires_grad_(w.requires_grad)
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
    """3D convolution with filters W_{c,c'}(u, t) = Σ_mn α_{c,c'}^{mn} ψ_m(u) φ_n(t)  (Eq. 1).

    ::

        x (B, C_in, T, H, W)
        ── φ: N temporal atoms ── ψ: M spatial atoms ── α: 1×1×1 joint coefficients ── (B, C_out, T', H', W')

    The M spatial and N temporal atoms are shared by all channel pairs of the layer; the M·N coefficients of each pair are
    free. Positional and first keyword arguments are those of `torch.nn.Conv3d`, in its order.

    Args:
        spatial_atoms: M, by default 5, as in the paper for 3×3, or as many as a smaller kernel has room for.
        temporal_atoms: N, by default 3, as in the paper for 3 frames, or as many as a shorter kernel has room for.
        atoms: how they start: `"fourier-bessel"` (cosines in time), `"dct"` or `"random"`; see `stdcf_lib.atoms`. [ours]
        evaluation: `"filters"` rebuilds W and runs one convolution; `"atoms"` takes the three steps above, on a CPU in the
            order and the layout of `stdcf_lib.forms.by_atoms`, elsewhere as three layers, which takes many times as long on a
            GPU; `"auto"` takes the one that should be faster, by the rule of `stdcf_lib.forms.quicker`, and on a GPU the
            filters. They agree to rounding. Clips in `torch.channels_last_3d` spare copies. In evaluation mode on a CPU, where
            nothing is to be differentiated, the filters, or α in the order of its product (with N = 2 up to three times its
            size), are kept until a parameter changes.

    Attributes:
        psi: ψ, (M, kh, kw).
        phi: φ, (N, kt).
        alpha: α, (C_out, C_in/groups, M, N).
        bias: (C_out,) or None.
        dilation, padding: may be set; `dilate` and `swap` scale the padding with the kernel's reach, and put back what was
            built or set.

    Raises:
        ValueError: an argument that `torch.nn.Conv3d` would not take, or more atoms than the family offers.

    Example:
        >>> layer = STDCFConv3d(16, 32, kernel_size=3, padding=1)
        >>> layer(torch.zeros(2, 16, 8, 28, 28)).shape
        torch.Size([2, 32, 8, 28, 28])
    """

    transposed = False

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
        spatial_atoms: int | None = None,
        temporal_atoms: int | None = None,
        atoms: str = "fourier-bessel",
        evaluation: str = "auto",
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype,
            spatial_atoms, temporal_atoms, atoms, evaluation,
        )  # fmt: skip

    @classmethod
    def from_conv3d(cls, conv: nn.Conv3d, spatial_atoms: int = 5, temporal_atoms: int = 3, *, fit: bool = True) -> Self:
        """The layer nearest to a trained `nn.Conv3d` in the least-squares sense; exact at M = kh·kw, N = kt.

        Same options, dtype, device and bias, frozen where `conv` is; `conv` is left alone. The fit is `joint_decomposition`;
        with `fit=False` there is none, and atoms and coefficients wait for those that you load.
        """
        if not isinstance(conv, nn.Conv3d):
            raise TypeError(f"conv is {type(conv).__name__}; {cls.__name__}.from_conv3d takes a torch.nn.Conv3d")
        return cls._from(conv, spatial_atoms, temporal_atoms, fit)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) or (C_in, T, H, W), floats → the same with C_out and the sizes `torch.nn.Conv3d` gives."""
        self._check_input(x, self.in_channels)
        if x.dim() == 4:
            return self.forward(x[None])[0]
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._sides(), mode=self.padding_mode)
            padding = (0, 0, 0)
        way = forms.Way(self.stride, padding, self.dilation, self.groups)
        if self._by_atoms(x, way):
            parameters = self.alpha, self.psi, self.phi
            like = x.shape, x.dtype, way, torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
            kernels = self._keep(like, partial(forms.kernels_by_atoms, x, *parameters, way))
            return forms.by_atoms(x, *parameters, self.bias, way, kernels)
        return forms.convolve(x, self._filters_for(x), self.bias, way)

    def _sides(self) -> list[int]:
        """How much to pad before and after each axis, the last axis first, as `F.pad` counts."""
        padding = self.padding
        if padding == "same":
            reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [side for r in reversed(reach) for side in (r // 2, r - r // 2)]
        return [0] * 6 if isinstance(padding, str) else [p for p in reversed(padding) for _ in range(2)]


class STDCFConvTranspose3d(_STDCF):
    """The transpose of `STDCFConv3d`, with the arguments of `torch.nn.ConvTranspose3d` in its order.

    The three layers run backwards: α first, at the low resolution, then ψ and φ spread each map over space and time.
    `alpha` is (C_in, C_out/groups, M, N) and `filters()` (C_in, C_out/groups, kt, kh, kw), as torch stores transposed filters.
    Keyword arguments, attributes and errors are those of `STDCFConv3d`.
    """

    transposed = True

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
        spatial_atoms: int | None = None,
        temporal_atoms: int | None = None,
        atoms: str = "fourier-bessel",
        evaluation: str = "auto",
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype,
            spatial_atoms, temporal_atoms, atoms, evaluation,
        )  # fmt: skip
        self.output_padding = output_padding_of(output_padding, self.stride, self.dilation)

    @classmethod
    def from_conv3d(
        cls, conv: nn.ConvTranspose3d, spatial_atoms: int = 5, temporal_atoms: int = 3, *, fit: bool = True
    ) -> Self:
        """The layer nearest to a trained `nn.ConvTranspose3d`; as `STDCFConv3d.from_conv3d`."""
        if not isinstance(conv, nn.ConvTranspose3d):
            raise TypeError(f"conv is {type(conv).__name__}; {cls.__name__}.from_conv3d takes a torch.nn.ConvTranspose3d")
        return cls._from(conv, spatial_atoms, temporal_atoms, fit, output_padding=conv.output_padding)

    def forward(self, x: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """As `torch.nn.ConvTranspose3d`: `output_size` (T, H, W) chooses among the sizes that a stride makes possible."""
        self._check_input(x, self.in_channels)
        if x.dim() == 4:
            return self.forward(x[None], output_size)[0]
        extra = self.output_padding if output_size is None else self._extra_for(x, output_size)
        way = forms.Way(self.stride, self.padding, self.dilation, self.groups)
        if self._by_atoms(x, way):
            return forms.by_atoms_transposed(x, self.alpha, self.psi, self.phi, self.bias, way, extra)
        return forms.convolve_transposed(x, self._filters_for(x), self.bias, way, extra)

    def _extra_for(self, x: Tensor, output_size: tuple[int, ...]) -> tuple[int, ...]:
        wanted = tuple(output_size)[-3:]
        per_axis = zip(x.shape[-3:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in per_axis)
        most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
        if len(wanted) != 3 or not all(a <= n <= b for a, n, b in zip(least, wanted, most, strict=True)):
            raise ValueError(f"output_size={output_size}: from this input it can be {least} to {most}")
        return tuple(n - a for n, a in zip(wanted, least, strict=True))
