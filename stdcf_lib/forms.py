"""The forms of a decomposed convolution: three ways to compute the same y = W * x with W = Σ_mn α^{mn} ψ_m ⊗ φ_n.

`filters` rebuilds W, for one convolution; `by_layers` is Eq. 2 of the paper as written, and the readable one. `by_atoms` is
the same sum in the order, and in the layout, in which a CPU is quick about it::

    x ─── ψ ──▶ Z ─── α ──▶ G ─── φ ──▶ y          with C maps in, O out, M spatial and N temporal atoms
    frames      M·C maps    N·O maps    sums over
    of C maps   a frame     a frame     n and taps

        depthwise   one matrix     depthwise           M·kh·kw·C + M·N·C·O + N·kt·O multiplications a voxel,
                    product                            of which the middle ones are nearly all; a filter takes kt·kh·kw·C·O

Three things make that order pay. Channels are last in memory, so that each step reads and writes whole vectors and none copies.
Z, the large one, only ever exists for a tile of frames that fits the cache, in a buffer that stays allocated: fresh pages cost
more than the arithmetic. And little but x and the parameters is kept for the backward pass, which computes Z again, and of G
needs what φ learns from; or, where Z is large beside the work that it saves, has the parameters learn from the gradient of W.

With N ≥ kt, φ is folded into α, which leaves kt maps. And with kernels of 3 frames, stride 1 and enough to do, time runs by
Winograd's F(m, 3), where m = 4 or 2 divides the number of frames: (m + 2) / m products a frame for any N, so 1.5 where the
kernel has 3 and φ has 2 (Winograd, 1980; Lavin and Gray, CVPR 2016)::

    x ─── Bᵀ ──▶ X_i ─── ψ ──▶ Z ─── Gφα ──▶ Y_i ─── Aᵀ ──▶ y        for i = 1 … m + 2, at an m-th of the frames each
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stdcf_lib.geometry import Triple, along_space, along_time

TILE = 4 << 20
"""Bytes of Z at a time, a thread. [ours] The best of 1 to 16 MB; it must hold in the cache together with what it becomes."""

MOST = 256 << 20
"""Bytes that the N·O maps of a clip may take, for "auto" to choose the atoms; W needs no such maps."""

MUCH = 50_000_000
"""Multiplications a product of α takes, from which on Winograd pays. [ours]"""

WITHOUT_ONEDNN = 20480
"""Channels × frames × rows of a single clip up to which PyTorch convolves without oneDNN, 2 to 28 times as slowly: the bound is
`ConvParams::use_mkldnn`'s, in its Convolution.cpp."""

MANY_CHANNELS, MANY_VOXELS = 64, 1024
"""From how many on, of so much to do, F(4, 3) pays. [ours]"""


class Way(NamedTuple):
    """How a filter moves: the arguments of `torch.nn.functional.conv3d` that are no tensors, in its order."""

    stride: Triple
    padding: Any
    dilation: Triple
    groups: int = 1

    def in_numbers(self, kernel: tuple[int, ...]) -> "Way":
        """With a padding of "valid" or "same" in numbers, where it is alike on both sides."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
        if self.padding == "valid":
            return self._replace(padding=(0, 0, 0))
        if self.padding == "same" and not any(r % 2 for r in reach):
            return self._replace(padding=tuple(r // 2 for r in reach))
        return self

    @property
    def in_time(self) -> "Way":
        """The part of kernels (kt, 1, 1)."""
        return Way(along_time(self.stride, 1), along_time(self.padding, 0), along_time(self.dilation, 1))

    @property
    def in_space(self) -> "Way":
        """The part of kernels (1, kh, kw)."""
        return Way(along_space(self.stride, 1), along_space(self.padding, 0), along_space(self.dilation, 1))


def filters(alpha: Tensor, psi: Tensor, phi: Tensor, *, last: bool = False) -> Tensor:
    """W of Eq. 1: α (P, Q, M, N), ψ (M, kh, kw), φ (N, kt) → (P, Q, kt, kh, kw), where `last` with Q last in memory, as a
    convolution of clips with channels last reads it."""
    # Filters are few and outputs many: building them in full precision costs nothing and keeps autocast's rounding to one.
    device = alpha.device.type
    with torch.autocast("cpu" if device == "meta" else device, enabled=False):  # meta has no autocast to switch off
        products = torch.einsum("mhw,nt->thwmn", psi, phi)
        kernel, products = products.shape[:3], products.flatten(3).flatten(0, 2)
        coefficients = alpha.flatten(2)
        if last:  # a product for each of P, as the one that broadcasts would copy α
            built = torch.bmm(products.expand(len(alpha), -1, -1), coefficients.transpose(1, 2))
            return built.unflatten(1, kernel).movedim(-1, 1)
        return (coefficients.flatten(0, 1) @ products.T).view(*alpha.shape[:2], *kernel)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, way: Way) -> Tensor:
    """`torch.nn.functional.conv3d`, but on a CPU right where torch is not: with some strides over a single channel
    (`_told_apart`), and in what the weight learns where it reaches far beyond x (`_padded`)."""
    stride, padding, dilation, groups = for_onednn(x, weight.shape[2:], way)
    last = False
    if x.device.type == "cpu":
        kernel = weight.shape[2:]
        if torch.is_grad_enabled() and weight.requires_grad:
            x, padding = _padded(x, kernel, stride, padding, dilation)
        columns = _steps(x.shape[-1], kernel[-1], stride[-1], _sides(kernel, padding, dilation)[-1], dilation[-1])
        first, weight = _told_apart(x.shape[1], stride, (x.shape[-1], columns), x, weight)
        last = first is not x and not torch.compiler.is_compiling() and not _transformed()
        x = first
    y = F.conv3d(x, weight, bias, stride, padding, dilation, groups)
    return y.contiguous(memory_format=torch.channels_last_3d) if last else y  # as torch would have answered


def for_onednn(x: Tensor, kernel: Sequence[int], way: Way) -> Way:
    """The same way, said so that PyTorch leaves it to oneDNN. With one thread and fewer than 16 clips it convolves by kernels
    of one pixel itself, unless they are dilated (`ConvParams::use_mkldnn`, in its Convolution.cpp): where channels are last in
    memory it then copies to and fro, and takes up to six times as long (AMD EPYC). A dilation means nothing along an axis
    with a single tap."""
    plain = (1, 1, 1)
    slow = (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not _transformed()
        and torch.get_num_threads() == 1
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and x.dim() == 5
        and _is_last(x)
        and tuple(kernel[1:]) == plain[1:]
        and way.stride == way.dilation == plain
        and (1 < len(x) < 16 or (len(x) == 1 and math.prod(x.shape[:4]) > WITHOUT_ONEDNN))
        and _trusted(x.shape[2:], kernel, *way[:3])
    )
    return way._replace(dilation=(1, 1, 2)) if slow else way


def convolve_transposed(x: Tensor, weight: Tensor, bias: Tensor | None, way: Way, extra: tuple[int, ...]) -> Tensor:
    """`torch.nn.functional.conv_transpose3d`, but on a CPU right where torch is not, as `convolve`."""
    stride, padding, dilation, groups = way
    kept = None
    if x.device.type == "cpu":
        kernel = weight.shape[2:]
        size = _size_back(x.shape[2:], kernel, way, extra)
        if torch.is_grad_enabled() and weight.requires_grad and not _trusted(size, kernel, stride, padding, dilation):
            kept = (..., *(slice(p, p + n) for p, n in zip(padding, size, strict=True)))
            padding = (0, 0, 0)
        x, weight = _told_apart(weight.shape[1] * groups, stride, (x.shape[-1], size[-1]), x, weight)
    y = F.conv_transpose3d(x, weight, bias, stride, padding, extra, groups, dilation)
    return y if kept is None else y[kept]


def by_layers(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, bias: Tensor | None, way: Way) -> Tensor:
    """Eq. 2 as written: temporal atoms, spatial atoms, joint coefficients. x (B, C, T, H, W) → (B, O, T', H', W')."""
    maps = x.flatten(0, 1).unsqueeze(1)  # atoms are shared by all channels, so channels join the batch
    maps = convolve(maps, phi[:, None, :, None, None], None, way.in_time)
    maps = convolve(maps.flatten(0, 1).unsqueeze(1), psi[:, None, None], None, way.in_space)
    maps = maps.reshape(len(x), -1, *maps.shape[2:])  # (B, C · N · M, T', H', W')
    return F.conv3d(maps, alpha.transpose(2, 3).flatten(1)[:, :, None, None, None], bias, groups=way.groups)


def by_layers_transposed(
    x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, bias: Tensor | None, way: Way, extra: tuple[int, ...]
) -> Tensor:
    """The layers of Eq. 2 backwards: α at the low resolution, then ψ and φ spread each map over space and time."""
    mixed, (et, *e) = Way((1, 1, 1), (0, 0, 0), (1, 1, 1), way.groups), extra
    maps = convolve_transposed(x, alpha.transpose(2, 3).flatten(1)[:, :, None, None, None], None, mixed, (0, 0, 0))
    maps = maps.reshape(-1, len(psi), *maps.shape[2:])  # (B · O · N, M, T, H, W)
    maps = convolve_transposed(maps, psi[:, None, None], None, way.in_space, (0, *e))
    maps = maps.reshape(-1, len(phi), *maps.shape[2:])
    maps = convolve_transposed(maps, phi[:, None, :, None, None], None, way.in_time, (et, 0, 0))
    maps = maps.reshape(len(x), -1, *maps.shape[2:])
    return maps if bias is None else maps + bias.to(maps.dtype).view(-1, 1, 1, 1)  # autocast lowers maps alone


def by_atoms(
    x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, bias: Tensor | None, way: Way, kernels: list[Tensor] | None = None
) -> Tensor:
    """Space, coefficients, time, as drawn above, where `quick` has them; by the layers of Eq. 2 everywhere else.

    kernels: what `kernels_by_atoms` gave for clips of this shape and type, and these parameters, if it was kept.
    """
    way = way.in_numbers((phi.shape[1], *psi.shape[1:]))
    if not quick(x, alpha, psi, phi, way):
        return by_layers(x, alpha, psi, phi, bias, way)
    x = _as_autocast_has_it(x)
    last = _is_last(x)
    learns = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (alpha, psi, phi)]
    y = _Atoms.apply(x, alpha, psi, phi, bias, way, kernels, learns)
    return y if last else y.contiguous()


def kernels_by_atoms(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, way: Way) -> list[Tensor] | None:
    """α as `by_atoms` multiplies with it, reordered and mixed with φ; None where that is not quick. With many channels and few
    pixels this takes as long as a quarter of the rest."""
    way = way.in_numbers((phi.shape[1], *psi.shape[1:]))
    if not quick(x, alpha, psi, phi, way):
        return None
    x = _as_autocast_has_it(x)
    with torch.autocast("cpu", enabled=False):
        size = _size_out(x.shape[2:], psi, phi, way)
        winograd = winograd_frames(len(x) * math.prod(size), alpha, phi, x.shape[2], way, x.dtype)
        return list(_kernels(alpha, phi, winograd, x.dtype, size, kept=True))


def by_atoms_transposed(
    x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, bias: Tensor | None, way: Way, extra: tuple[int, ...]
) -> Tensor:
    """As `by_atoms`: what a convolution does backwards to the gradient of its input is what its transpose does forwards."""
    # An output padding of a stride or more would make room for one more step of the convolution.
    if not (quick(x, alpha, psi, phi, way) and all(e < s for e, s in zip(extra, way.stride, strict=True))):
        return by_layers_transposed(x, alpha, psi, phi, bias, way, extra)
    x = _as_autocast_has_it(x)
    last = _is_last(x)
    y = _AtomsTransposed.apply(x, alpha, psi, phi, bias, way, extra)
    return y if last else y.contiguous()


def quick(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, way: Way) -> bool:
    """Whether `by_atoms` has a quick way: floats on a CPU, one group, paddings in numbers and below the kernel's reach, and
    nothing that looks into the operations (tracing, compiling, `torch.func`, forward-mode gradients)."""
    reach = [d * (k - 1) for d, k in zip(way.dilation, (phi.shape[1], *psi.shape[1:]), strict=True)]
    return (
        all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in (x, alpha, psi, phi))
        and x.device.type == alpha.device.type == "cpu"
        and alpha.dtype == psi.dtype == phi.dtype
        and (x.dtype == alpha.dtype or torch.is_autocast_enabled("cpu"))
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and x.dim() == 5
        and x.numel() > 0
        and way.groups == 1
        and not isinstance(way.padding, str)
        and all(p <= r for p, r in zip(way.padding, reach, strict=True))
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not _transformed()
    )


def quicker(x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, way: Way, transposed: bool = False) -> bool:
    """Whether `by_atoms` takes less time than a convolution with `filters`: what "auto" goes by. [ours]

    A multiplication in the matrix product of α takes 1.3 times as long as one in oneDNN's convolution. With t threads,
    touching a map of Z or G once takes as long as z = 13 + 6 t or g = 28 + 60 t of these, as threads share memory, and a
    call as long as 10 million of one thread. So, for one voxel and one pair of channels, the atoms take 1.3 · (products) +
    z · (times Z is touched) · M / O + g · (times G is touched) · N / C + the calls, and the filters kt·kh·kw, three times
    as many with gradients; and where PyTorch does without oneDNN, twice that or 1 + 100 / O times, as it copies the input
    for each tap. Products of either go by blocks of 16 channels, of which 40 take three and fill two and a half. Winograd
    touches its X_i too, of the size of the input; and with a stride the larger input weighs, the more with gradients. To
    that comes what it takes the parameters to learn, from the maps or from the gradient of the filters (`_learning`). The
    atoms are chosen where they are expected to take less than .98 of that. Fitted to `make bench` and to drawn shapes on
    two processors, of which one multiplies twice as fast as the other: what suits both is a little beside the best for
    either. `python -m benchmarks.choices` records what the rule costs with others. Below 16 channels or a tenth of a
    billion multiplications, in anything but float32 and on anything but a CPU, the filters are chosen.
    """
    outs, ins, atoms, count = alpha.shape
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or min(ins, outs) < 16:
        return False
    way = way.in_numbers((phi.shape[1], *psi.shape[1:]))
    if not quick(x, alpha, psi, phi, way):
        return False
    length, height, width = phi.shape[1], *psi.shape[1:]
    frames, *size = x.shape[2:]
    steps = [n if transposed else n / s for n, s in zip(size, way.stride[1:], strict=True)]
    voxels = len(x) * frames * math.prod(steps)
    kept = 1 / way.stride[0]  # of the frames, the others are mapped in vain
    winograd = winograd_frames(voxels, alpha, phi, frames, way, x.dtype)
    maps = (winograd + 2) / winograd if winograd else min(count, length)
    learns = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (x, alpha, psi, phi)]
    threads = torch.get_num_threads()
    tiles = _tile_count(ins * atoms, voxels, winograd)
    made, read = (_in_blocks(n) for n in ((ins, outs) if transposed else (outs, ins)))
    products, by_filters, touched, calls, learning = made, made, 1, 2 * tiles, 0.0
    if any(learns):
        products += read
        by_filters += read + made * read * _skipping(way)
        touched = 3
        calls += 4 * tiles
    if any(learns[1:]):
        from_maps, from_kept, from_filters = _learning(alpha, psi, phi, way, winograd, voxels, learns[1:])
        from_maps = from_maps if transposed else min(from_maps, from_kept)
        learning = min(from_maps, from_filters)
        if transposed and learns[2] and from_maps < from_filters:
            learning += 1.4 * maps * atoms
    by_filters *= length * height * width * kept
    if len(x) == 1 and x[:, :, :, :, 0].numel() <= WITHOUT_ONEDNN and min(height, width) <= 3:
        by_filters *= max(2, 1 + 100 / outs)
    pixels = way.stride[1] * way.stride[2]
    planes = touched * (maps * (atoms + pixels) if winograd else atoms)
    if pixels > 1:
        planes += (15 if any(learns) else 2) * pixels * (maps if winograd else 1)
    by_atoms = 1.3 * products * maps * atoms + (13 + 6 * threads) * planes / outs
    by_atoms += (28 + 60 * threads) * touched * maps / ins + learning + 1e7 * threads * calls / (ins * outs * voxels)
    large = length * height * width * ins * outs * voxels * kept >= 1e8
    return large and by_atoms < 0.98 * by_filters and 4 * maps * outs * voxels / len(x) <= MOST


def _learning(
    alpha: Tensor, psi: Tensor, phi: Tensor, way: Way, winograd: int, voxels: float, learns: Sequence[bool]
) -> tuple[float, float, float]:
    """What it takes those of α, ψ and φ that `learns` names to learn from the maps Z; from these and G, if it was kept; and
    from the gradient of the filters. In the units of `quicker`: a product with the maps 1.4, touching one of Z 40 for each
    thread, multiplying one of G with a frame 45, a tile's share of calls 6 million, and a filter's number 350."""
    (outs, ins), atoms, (count, length), taps = alpha.shape[:2], len(psi), phi.shape, psi[0].numel()
    threads = torch.get_num_threads()
    windows = (winograd + 2) / winograd if winograd else 1
    # φ learns from G, or from how α's gradient differs from frame to frame of the kernel.
    products = windows if winograd else length if learns[2] or count >= length else count
    touched = 40 * threads * windows * atoms * (2 + learns[1]) / outs
    touched += 6e6 * threads * atoms * _tile_count(ins * atoms, voxels, winograd) / (ins * outs * voxels)
    from_kept = math.inf
    if learns[2] and not winograd and count < length:
        from_kept = 1.4 * count * atoms * learns[0] + touched + 45 * count * length / ins
    from_filters = taps * (windows if winograd else length / way.stride[0]) * _in_blocks(outs) * _in_blocks(ins)
    from_filters = _skipping(way) * from_filters + 350 * taps * (winograd + 2 if winograd else length) / voxels
    return 1.4 * products * atoms + touched, from_kept, from_filters


def _tile_count(numbers: int, voxels: float, winograd: int) -> float:
    """How many tiles (`_tiles`) the Z of so many `numbers` a voxel comes in, about."""
    rows = winograd + 2 if winograd else 1
    return rows * max(1, 4 * numbers * voxels / (winograd or 1) / (TILE * torch.get_num_threads()))


def _skipping(way: Way) -> float:
    """How much longer the gradient of filters takes where they skip pixels, for as many multiplications."""
    return 1.25 if way.stride[1] * way.stride[2] > 1 else 1.0


def _in_blocks(channels: int) -> float:
    """How many channels oneDNN's convolutions work on, which take them 16 at a time, for each of so many."""
    return math.ceil(channels / 16) * 16 / channels


def _transformed() -> bool:
    """Whether `torch.func` or forward-mode gradients are at work, which a `Function` of ours knows nothing of."""
    func = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
    return func() or torch.autograd.forward_ad._current_level >= 0


def _as_autocast_has_it(x: Tensor) -> Tensor:
    lowered = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    return x.to(torch.get_autocast_dtype("cpu")) if lowered else x


def _is_last(x: Tensor) -> bool:
    """Whether torch's own convolution would answer with channels last in memory too."""
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    return last and (x.stride(1) == 1 if x.shape[1] == 1 else not x.is_contiguous())  # a single channel may be first as well


class _Atoms(torch.autograd.Function):
    """`_forward` and `_backward` as a function that autograd knows. It keeps x, the parameters, and sometimes G."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        alpha: Tensor,
        psi: Tensor,
        phi: Tensor,
        bias: Tensor | None,
        way: Way,
        kernels: list[Tensor] | None,
        learns: Sequence[bool],
    ) -> Tensor:
        y, maps = _forward(_memory(x), alpha, psi, phi, bias, way, kernels, learns)
        ctx.save_for_backward(x, alpha, psi, phi, bias, maps)
        ctx.way = way
        return _logical(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, alpha, psi, phi, bias, maps = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone will differentiate this in turn
            start = None if bias is None else bias.to(x.dtype)
            y = convolve(x, filters(alpha, psi, phi).to(x.dtype), start, ctx.way)
            return *_differentiable(y, grads[0], (x, alpha, psi, phi, bias), ctx.needs_input_grad), None, None, None
        needs = ctx.needs_input_grad
        gy = _memory(grads[0].to(x.dtype))
        found = _backward(_memory(x) if any(needs[1:4]) else None, gy, x.shape[2:], alpha, psi, phi, ctx.way, needs[:4], maps)
        return _logical(found[0]), *found[1:], gy.sum((0, 1, 2, 3), dtype=bias.dtype) if needs[4] else None, None, None, None


class _AtomsTransposed(torch.autograd.Function):
    """The same two the other way round."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor, bias: Tensor | None, way: Way, extra: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, alpha, psi, phi, bias)
        ctx.way, ctx.extra = way, extra
        size = _size_back(x.shape[2:], (phi.shape[1], *psi.shape[1:]), way, extra)
        y: Any = _backward(None, _memory(x), size, alpha, psi, phi, way, (True, False, False, False))[0]
        return _logical(y if bias is None else y.add_(bias.to(y.dtype)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, alpha, psi, phi, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            weight, start = filters(alpha, psi, phi).to(x.dtype), None if bias is None else bias.to(x.dtype)
            y = convolve_transposed(x, weight, start, ctx.way, ctx.extra)
            return *_differentiable(y, grads[0], (x, alpha, psi, phi, bias), ctx.needs_input_grad), None, None
        needs = ctx.needs_input_grad
        gy = _memory(grads[0].to(x.dtype))
        gx = _logical(_forward(gy, alpha, psi, phi, None, ctx.way)[0]) if needs[0] else None
        found = _backward(gy, _memory(x), gy.shape[1:4], alpha, psi, phi, ctx.way, (False, *needs[1:4]))
        return gx, *found[1:], gy.sum((0, 1, 2, 3), dtype=bias.dtype) if needs[4] else None, None, None


def _differentiable(y: Tensor, gy: Tensor, inputs: tuple, needs: tuple[bool, ...]) -> list[Tensor | None]:
    found = iter(torch.autograd.grad(y, [x for x, need in zip(inputs, needs, strict=False) if need], gy, create_graph=True))
    return [next(found) if need else None for need in needs[: len(inputs)]]


def _memory(x: Tensor) -> Tensor:
    """(B, C, T, H, W) → (B, T, H, W, C), contiguous; no copy where channels are last in memory already."""
    return x.movedim(1, -1).contiguous()


def _logical(x: Any) -> Any:
    """The way back, a view; None stays None."""
    return None if x is None else x.movedim(-1, 1)


# How it is done. All tensors below are memory: channels come last, and each is contiguous.


def _size_out(size: Any, psi: Tensor, phi: Tensor, way: Way) -> list[int]:
    """(T', H', W') of (T, H, W)."""
    per_axis = zip(size, way.stride, way.padding, way.dilation, (phi.shape[1], *psi.shape[1:]), strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, s, p, d, k in per_axis]


def _size_back(size: Any, kernel: Sequence[int], way: Way, extra: tuple[int, ...]) -> list[int]:
    """(T, H, W) of what a transposed convolution makes of (T', H', W')."""
    per_axis = zip(size, way.stride, way.padding, way.dilation, kernel, extra, strict=True)
    return [(n - 1) * s - 2 * p + d * (k - 1) + 1 + e for n, s, p, d, k, e in per_axis]


def _forward(
    x: Tensor,
    alpha: Tensor,
    psi: Tensor,
    phi: Tensor,
    bias: Tensor | None,
    way: Way,
    kernels: list[Tensor] | None = None,
    learns: Sequence[bool] = (False, False, False),
) -> tuple[Tensor, Tensor | None]:
    """x (B, T, H, W, C) → y (B, T', H', W', O), and the maps G (B, T, H'·W', N, O) if φ is to learn from them, where `learns`
    names those of α, ψ and φ that learn: they are few where maps teach more cheaply than the gradient of W, and save a product
    for a third frame."""
    size = _size_out(x.shape[1:4], psi, phi, way)
    y = x.new_empty(len(x), *size, len(alpha))
    start = x.new_zeros(()) if bias is None else bias.detach().to(y.dtype)
    space = _Space(psi, way, x.shape[2:4], size[1:], alpha.shape[1], x.dtype)
    voxels = len(y) * math.prod(size)
    winograd = winograd_frames(voxels, alpha, phi, x.shape[1], way, x.dtype)
    from_maps, from_kept, from_filters = _learning(alpha, psi, phi, way, winograd, voxels, learns)
    maps = None
    if from_kept < min(from_maps, from_filters):
        maps = x.new_empty(*x.shape[:2], math.prod(size[1:]), len(phi), len(alpha))
    with torch.autocast("cpu", enabled=False):
        make = (lambda: kernels) if kernels else partial(_kernels, alpha, phi, winograd, x.dtype, size)
        layer = _Layer(alpha, phi, way, space, winograd, make)
        if winograd:
            _winograd(x, y, start, layer)
        else:
            _direct(x, y, start, layer, maps)
    return y, maps


def _backward(
    x: Tensor | None,
    gy: Tensor,
    size: Any,
    alpha: Tensor,
    psi: Tensor,
    phi: Tensor,
    way: Way,
    needs: tuple[bool, ...],
    maps: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, of which (T, H, W) is `size`, of α, ψ and φ, as far as they are needed; x may be None for its own.
    maps: what `_forward` kept."""
    voxels = math.prod(gy.shape[:4])
    winograd = winograd_frames(voxels, alpha, phi, size[0], way, gy.dtype)
    from_maps, _, from_filters = _learning(alpha, psi, phi, way, winograd, voxels, needs[1:])
    found = _Gradients(
        gy.new_empty(len(gy), *size, alpha.shape[1]) if needs[0] else None,
        torch.zeros_like(psi) if needs[2] else None,
        needs[1],
        needs[3],
        # A gradient in bfloat16 would lose what α in float32 adds up.
        maps is None and any(needs[1:]) and alpha.dtype == gy.dtype != torch.bfloat16 and from_filters < from_maps,
    )
    space = _Space(psi, way, size[1:], gy.shape[2:4], alpha.shape[1], gy.dtype)
    with torch.autocast("cpu", enabled=False):
        make = partial(_kernels, alpha, phi, winograd, gy.dtype, gy.shape[1:4], back=True)
        layer = _Layer(alpha, phi, way, space, winograd, make)
        if winograd:
            _winograd_backward(x, gy, found, layer, size[0])
        else:
            _direct_backward(x, gy, found, layer, size[0], maps)
    return found.x, found.alpha, found.psi, found.phi


class _Space:
    """ψ: from the C maps of a frame to M·C, back, and what ψ learns from it."""

    def __init__(self, psi: Tensor, way: Way, size_in: Any, size_out: Any, channels: int, dtype: torch.dtype):
        self.psi, self.channels = psi.to(dtype), channels
        self.size_in, self.size_out = tuple(size_in), tuple(size_out)
        (_, *self.stride), (_, *self.padding), (_, *self.dilation), _ = way

    @cached_property
    def forth(self) -> "_Depthwise":
        """The M atoms are the depth of one kernel, that slides over a single image."""
        move = (1, *self.stride), (len(self.psi) - 1, *self.padding), (1, *self.dilation)
        return _Depthwise(self.psi.flip(0), self.channels, *move, (1, *self.size_in))

    @cached_property
    def forth_beside(self) -> "_Depthwise":
        """The same with the atoms as its width."""
        move = (*self.stride, 1), (*self.padding, len(self.psi) - 1), (*self.dilation, 1)
        return _Depthwise(self.psi.flip(0).permute(1, 2, 0), self.channels, *move, (*self.size_in, 1))

    @cached_property
    def phases(self) -> "list[_Phase]":
        """What leads back, by the pixels that a stride treats alike: each sums over all atoms by taps of its own."""
        axes = zip(self.size_in, self.size_out, self.psi.shape[1:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (_lines(*axis) for axis in axes)
        return [_Phase(self, row, column) for row in rows for column in columns]

    def maps(self, x: Tensor) -> Tensor:
        """Frames (F, H, W, C) → (F, M, H'·W', C)."""
        z = _buffer("Z", x, len(x), len(self.psi), *self.size_out, self.channels)
        return self.forth.add(z.zero_(), x[:, None]).flatten(2, 3)

    def maps_beside(self, x: Tensor) -> Tensor:
        """Frames (F, H, W, C) → (F, H'·W', M·C), as the gradient of α wants them."""
        z = _buffer("Z", x, len(x), *self.size_out, len(self.psi), self.channels)
        return self.forth_beside.add(z.zero_(), x[:, :, :, None]).flatten(3).flatten(1, 2)

    def backward(
        self,
        x: Tensor | None,
        g: Tensor,
        each: Tensor,
        kernel: Tensor,
        gx: Tensor | None,
        gpsi: Tensor | None,
        d: Tensor | None,
    ) -> None:
        """From the gradient g (F, H'·W', P) of what `kernel` (C, P, M, 1) makes of the maps of frames x, what is asked for:
        gpsi is added to, so is d (Q, M·C), from `each` (F, H'·W', Q) and the maps, and gx is written, at last: it may be x."""
        if d is not None and x is not None:
            _outer(d, each.flatten(0, 1), self.maps_beside(x).flatten(0, 1))
        if gx is not None or (gpsi is not None and x is not None):
            gz = _buffer("Z", g, len(g), len(self.psi), g.shape[1], kernel.shape[0])
            _add(gz.zero_(), g.unsqueeze(1), kernel, padding=(len(self.psi) - 1, 0))
            if gpsi is not None and x is not None:
                self.learn(gz, x, gpsi)
            if gx is not None:
                self.back(gz, gx)

    def back(self, gz: Tensor, gx: Tensor) -> None:
        """Writes into frames gx (F, H, W, C) what comes from their maps gz (F, M, H'·W', C), whose atoms come in reverse."""
        for phase in self.phases:
            phase.back(gz.unflatten(2, self.size_out), gx)

    def learn(self, gz: Tensor, x: Tensor, gpsi: Tensor) -> None:
        """Adds to gpsi (M, kh, kw) what frames x (F, H, W, C) and the gradient of their maps gz, in reverse, say."""
        like = self.psi.new_empty(x.shape[-1], *self.psi.shape[1:], 1)
        for one, into in zip(gz.unflatten(2, self.size_out).unbind(1), gpsi.unbind()[::-1], strict=True):
            into += _gradient(one, x, like, self.stride, self.padding, self.dilation, x.shape[-1]).sum((0, 3))

    def filters(self, g: Tensor, x: Tensor) -> Tensor:
        """The gradient (O, kh·kw·C) of filters that make maps with gradient g (F, H'·W', O) of frames x (F, H, W, C)."""
        like = self.psi.new_empty(g.shape[-1], *self.psi.shape[1:], x.shape[-1])
        return _gradient(g.unflatten(1, self.size_out), x, like, self.stride, self.padding, self.dilation).flatten(1)


class _Line(NamedTuple):
    """One axis of a phase: its pixels; the taps that fall on them, in a convolution's order, and how far apart; the padding
    that it takes, and the size that it gives, in which `of` are the pixels."""

    pixels: slice
    taps: list[int]
    dilation: int
    padding: int
    size: int
    of: slice


def _lines(size_in: int, size_out: int, kernel: int, stride: int, padding: int, dilation: int) -> list[_Line]:
    """An axis of all phases: tap t leads from pixel (i + padding − dilation · t) / stride of the maps to pixel i."""
    apart = dilation // math.gcd(stride, dilation)
    found = []
    for i in range(min(stride, size_in)):
        taps = [t for t in reversed(range(kernel)) if (i + padding - dilation * t) % stride == 0]
        count, reach = len(range(i, size_in, stride)), apart * (len(taps) - 1)
        first = (i + padding - dilation * taps[0]) // stride if taps else 0
        pad = max(0, -first, first + reach + count - size_out)  # of both sides, as torch has no other
        of = slice(first + pad, first + pad + count)
        found.append(_Line(slice(i, None, stride), taps, apart, pad, size_out + 2 * pad - reach, of))
    return found


class _Phase:
    """The way back from M maps of a frame to those of its pixels that lie a stride apart: one convolution with the taps that
    fall on them. To all pixels at once, each tap would meet the zeros that a stride leaves between."""

    def __init__(self, space: _Space, row: _Line, column: _Line):
        self.row, self.column = row, column
        psi = space.psi.flip(0)[:, row.taps][:, :, column.taps]
        move = (1, 1, 1), (0, row.padding, column.padding), (1, row.dilation, column.dilation)
        self.sum = _Depthwise(psi, space.channels, *move, (len(psi), *space.size_out)) if psi.numel() else None

    def back(self, gz: Tensor, gx: Tensor) -> None:
        """Writes these pixels of gx (F, H, W, C) from gz (F, M, H', W', C)."""
        into, size = gx[:, self.row.pixels, self.column.pixels], (self.row.size, self.column.size)
        if self.sum is None:
            into.zero_()
        elif into.shape == gx.shape and size == gx.shape[1:3]:
            self.sum.add(gx.zero_()[:, None], gz)
        else:
            found = self.sum.add(_buffer("G", gx, len(gx), 1, *size, gx.shape[-1]).zero_(), gz)
            into.copy_(found[:, 0, self.row.of, self.column.of])


class _Layer(NamedTuple):
    """What the passes below work with."""

    alpha: Tensor
    phi: Tensor
    way: Way
    space: _Space
    winograd: int
    kernels: Callable[[], Iterable[Tensor]]


class _Gradients:
    """What the backward pass fills."""

    def __init__(self, x: Tensor | None, psi: Tensor | None, need_alpha: bool, need_phi: bool, from_filters: bool):
        self.x, self.psi, self.need_alpha, self.need_phi, self.from_filters = x, psi, need_alpha, need_phi, from_filters
        self.alpha: Tensor | None = None
        self.phi: Tensor | None = None

    @property
    def learns(self) -> bool:
        """Whether the gradient of the coefficients is needed."""
        return self.need_alpha or self.need_phi

    def of_filters(self, d: Tensor, alpha: Tensor, psi: Tensor, phi: Tensor) -> None:
        """From the gradient d (kt, O·kh·kw·C) of the filters."""
        (outs, channels, *_), (count, length), mixed = alpha.shape, phi.shape, phi.detach()
        by_frame = self.need_phi or count >= length  # otherwise only what comes of the N maps is asked for
        if not by_frame:
            d = torch.mm(mixed, d, out=_buffer("X", d, count, d.shape[1]))
        d, atoms = d.view(len(d) * outs, -1, channels), psi.to(d.dtype).flatten(1)
        if self.psi is not None:
            maps = _coefficients(alpha).flatten(1)
            if by_frame:
                maps = torch.mm(mixed.T, maps, out=_buffer("X", alpha, length, maps.shape[1]))
            self.psi += torch.bmm(maps.view(len(d), len(atoms), channels), d.transpose(1, 2)).sum(0).view_as(self.psi)
        if self.learns:
            maps = torch.bmm(atoms.expand(len(d), -1, -1), d, out=_buffer("Z", d, len(d), len(atoms), channels))
            eye = torch.eye(length, dtype=d.dtype) if by_frame else None
            self.of_coefficients(maps.view(length if by_frame else count, -1), alpha, phi, eye)

    def of_coefficients(self, d: Tensor, alpha: Tensor, phi: Tensor, mix: Tensor | None) -> None:
        """From the gradient d (R, O·M·C) of the coefficients of R maps, which are mix · φᵀ α, or α where `mix` is None."""
        if self.need_phi and mix is not None:
            self.phi = _coefficients(alpha).to(d.dtype).flatten(1) @ d.T @ mix
        if self.need_alpha:
            outs, channels, atoms, _ = alpha.shape
            if mix is not None:
                d = torch.mm(phi.detach() @ mix.T, d, out=_buffer("α", alpha, len(phi), d.shape[1]))
            self.alpha = torch.empty_like(alpha, memory_format=torch.contiguous_format)
            for into, one in zip(self.alpha.unbind(3), d, strict=True):
                into.copy_(one.view(outs, atoms, channels).transpose(1, 2))


def _coefficients(alpha: Tensor, back: bool = False) -> Tensor:
    """α (O, C, M, N) as (N, O, M, C), or (N, C, M, O), in a buffer."""
    outs, channels, atoms, count = alpha.shape
    if back:  # torch transposes matrices quickly, and nothing else
        across = _buffer("Z", alpha, channels * atoms * count, outs)
        across.copy_(alpha.detach().reshape(outs, -1).T)
        return _buffer("α", alpha, count, channels, atoms, outs).copy_(across.view(channels, atoms, count, outs).movedim(2, 0))
    parts = [one.transpose(1, 2) for one in alpha.detach().unbind(3)]
    return torch.stack(parts, out=_buffer("α", alpha, count, outs, atoms, channels))


def _kernels(
    alpha: Tensor, phi: Tensor, winograd: int, dtype: torch.dtype, size: Any, back: bool = False, kept: bool = False
) -> Iterator[Tensor]:
    """The kernels (P, C, M, 1) that make P maps of the M·C of Z, for output of `size` (T', H', W'); with `back` those
    (C, P, M, 1) that make the gradient of Z of theirs. By Winograd they are m + 2, with P = O; otherwise one.

    Those of Winograd, if they are not to be kept, are there until the next is asked for. They hardly serve twice, and oneDNN
    brings them into its order as it multiplies."""
    maps = _coefficients(alpha, back)
    mix = _winograd_mix(phi, winograd) if winograd else _in_time(phi, dtype)[0]
    for rows in mix.detach().split(1 if winograd else len(mix)) if mix is not None else [None]:
        some = maps
        if rows is not None:
            some = _buffer("W", alpha, len(rows), *maps.shape[1:])
            torch.mm(rows, maps.flatten(1), out=some.flatten(1))
        kernel = some.permute(1, 2, 0, 3).flatten(2) if back else some.flatten(0, 1)
        kernel = kernel.to(dtype).unsqueeze(2).contiguous().movedim(-1, 1)
        if kept or not winograd:
            atoms = kernel.shape[2]
            height, padding = (1, atoms - 1) if back else (atoms, 0)
            kernel = _ordered(kernel, (1, 1), (padding, 0), (1, 1), 1, (height, math.prod(size[1:])))
        yield kernel


def _in_time(phi: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    """(mix, taps): time sums over the maps of the N temporal atoms by their taps, (N, kt); or over the kt frames of the kernel,
    where these are not more, with φ mixed into α."""
    few = len(phi) < phi.shape[1]
    return (None, phi.detach().to(dtype)) if few else (phi.T, torch.eye(phi.shape[1], dtype=dtype))


def _interleaved(way: Way, frames: int) -> int:
    """Dilated frames that fall into as many sequences, each with dilation 1, are looked at as these side by side: their number.
    oneDNN is several times slower with dilated frames than with more pixels."""
    stride, padding, dilation = way.stride[0], way.padding[0], way.dilation[0]
    return dilation if stride == 1 and not frames % dilation and not padding % dilation else 1


def _direct(x: Tensor, y: Tensor, start: Tensor, layer: _Layer, maps: Tensor | None) -> None:
    """Space, coefficients, time; y begins as `start`, its bias. G is left in `maps`, if there are."""
    _, phi, way, space, _, kernels = layer
    stride, padding, dilation = way.stride[0], way.padding[0], way.dilation[0]
    _, taps = _in_time(phi, x.dtype)
    count, outs, atoms, channels = len(taps), y.shape[-1], len(space.psi), x.shape[-1]
    (kernel,) = kernels()
    frames, pixels, beside = x.shape[1], math.prod(space.size_out), _interleaved(way, x.shape[1])
    move = (stride, 1, 1), (padding // beside, 0, 0), (dilation // beside, 1, 1)
    in_time = _Depthwise(taps.T[:, None], outs, *move, (frames // beside, beside * pixels, count))
    y = y.view(len(y), -1, beside * pixels, 1, outs)
    for b, e, tiles in _tiles(len(x), frames, x, atoms * channels * pixels):
        shape = ((e - b) * frames, 1, pixels, count * outs)
        g = _buffer("G", x, *shape) if maps is None else maps[b:e].view(shape)
        for first, last in tiles:
            z = space.maps(x[b:e, first:last].flatten(0, 1))
            _add((g if len(tiles) == 1 else g[first:last]).zero_(), z, kernel)
        in_time.add(y[b:e].copy_(start), g.view(e - b, -1, beside * pixels, count, outs))


def _direct_backward(x: Tensor | None, gy: Tensor, found: _Gradients, layer: _Layer, frames: int, maps: Tensor | None) -> None:
    alpha, phi, way, space, _, kernels = layer
    stride, padding, dilation = way.stride[0], way.padding[0], way.dilation[0]
    length, pixels = phi.shape[1], math.prod(space.size_out)
    _, taps = _in_time(phi, gy.dtype)
    count, (outs, channels, atoms, _) = len(taps), alpha.shape
    if x is not None and found.from_filters:
        found.of_filters(_gradient_of_filters(gy, x, space, way, length), alpha, space.psi, phi)
        x = None  # it has taught what it can
        if found.x is None:
            return
    (kernel,) = kernels()
    spread = frames + 2 * padding - dilation * (length - 1)
    gy = gy.view(len(gy), -1, pixels, outs)
    if spread != gy.shape[1]:  # a stride: zeros in between
        whole = gy.new_zeros(len(gy), spread, pixels, outs)
        whole[:, : stride * (gy.shape[1] - 1) + 1 : stride] = gy
        gy = whole
    if found.need_phi and maps is not None:
        found.phi = torch.zeros_like(phi)
    # Without maps φ learns from how α's gradient differs from frame to frame of the kernel: from its kt frames rather than N.
    phi_by_frame = found.need_phi and maps is None
    by_frame = count == length or phi_by_frame
    shifts = length if by_frame else count
    learns = x is not None and (found.need_alpha or phi_by_frame)
    d = _buffer("D", alpha, shifts * outs, atoms * channels).zero_() if learns else None
    for b, e, tiles in _tiles(len(gy), frames, gy, atoms * channels * pixels):
        for first, last in tiles:
            r = _buffer("G", gy, e - b, last - first, pixels, length, outs)
            for tau in range(length):
                _shifted(gy[b:e], first + padding - tau * dilation, r[..., tau, :])
            r = r.flatten(0, 1)
            if found.phi is not None and maps is not None:
                some = maps[b:e, first:last].flatten(0, 1)
                product = _buffer("X", some, *some.shape)
                for into, frame in zip(found.phi.unbind(1), r.unbind(2), strict=True):
                    into += torch.mul(some, frame.unsqueeze(2), out=product).sum((0, 1, 3), dtype=phi.dtype)
            g = r if count == length else _mixed(taps, r)
            part = None if x is None else x[b:e, first:last].flatten(0, 1)
            gx = None if found.x is None else found.x[b:e, first:last].flatten(0, 1)
            space.backward(part, g.flatten(2), (r if by_frame else g).flatten(2), kernel, gx, found.psi, d)
    if d is not None:
        found.of_coefficients(d.view(shifts, -1), alpha, phi, torch.eye(length, dtype=d.dtype) if by_frame else None)


def _gradient_of_filters(gy: Tensor, x: Tensor, space: _Space, way: Way, length: int) -> Tensor:
    """The gradient (kt, O·kh·kw·C) of the filters that make y, with gradient gy, of clips x."""
    few = len(x) == 1 and min(gy.shape[-1], x.shape[-1]) <= 64
    if len(x) >= torch.get_num_threads() and not few:
        like = x.new_empty(gy.shape[-1], length, *space.psi.shape[1:], x.shape[-1])
        # Where a size is 1, what torch answers may be in any order, and flattened without a copy.
        return _gradient(gy, x, like, way.stride, way.padding, way.dilation).movedim(1, 0).flatten(1).contiguous()
    # oneDNN's threads share out what is in a batch: where clips are too few, let it be their frames. And of one clip with few
    # channels the whole takes it several times as long as its parts.
    stride, found = way.stride[0], gy.new_zeros(length, gy.shape[-1], space.psi[0].numel() * x.shape[-1])
    for tau, into in enumerate(found):
        shift = tau * way.dilation[0] - way.padding[0]
        first, end = max(0, -(shift // stride)), min(gy.shape[1], (x.shape[1] - 1 - shift) // stride + 1)
        for g, frames in zip(gy[:, first:end], x[:, first * stride + shift :: stride], strict=True):
            if len(g):
                into += space.filters(g.flatten(1, 2), frames[: len(g)].contiguous())
    return found.flatten(1)


def _shifted(x: Tensor, start: int, into: Tensor) -> None:
    """Writes the frames of x (B, T, …) from `start` on, with zeros for those that it has not."""
    begin = min(max(0, -start), into.shape[1])
    end = max(begin, min(into.shape[1], x.shape[1] - start))
    into[:, :begin].zero_()
    into[:, begin:end].copy_(x[:, start + begin : start + end])
    into[:, end:].zero_()


def _mixed(taps: Tensor, r: Tensor) -> Tensor:
    """The N maps (F, S, N, O) that taps (N, kt) make of r (F, S, kt, O)."""
    g = _buffer("X", r, *r.shape[:2], len(taps), r.shape[3])
    for into, row in zip(g.unbind(2), taps.tolist(), strict=True):  # a product of many small matrices is ten times slower
        first, *others = r.unbind(2)
        torch.mul(first, row[0], out=into)
        for frame, tap in zip(others, row[1:], strict=True):
            into.add_(frame, alpha=tap)
    return g


def _tiles(clips: int, frames: int, like: Tensor, numbers: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(first clip, end, [(first frame, end), …]) such that Z, of so many `numbers` a frame, is about `TILE` bytes a thread:
    some clips at a time with all their frames, or one clip in equal parts."""
    together = max(1, round(TILE * torch.get_num_threads() / (numbers * like.element_size())))
    clips_at_once = max(1, together // frames)
    parts = max(1, math.ceil(frames / together))
    length = math.ceil(frames / parts)
    for b in range(0, clips, clips_at_once):
        yield b, min(clips, b + clips_at_once), [(t, min(frames, t + length)) for t in range(0, frames, length)]


def _gradient(gy: Tensor, x: Tensor, like: Tensor, stride: Any, padding: Any, dilation: Any, groups: int = 1) -> Tensor:
    """The gradient, as `like` (O, …, C/groups), of the kernel of a convolution that makes y (…, O), with gradient gy, of
    x (…, C)."""
    x, gy, like = (tensor.movedim(-1, 1) for tensor in (x, gy, like))
    x, padding = _padded(x, like.shape[2:], stride, padding, dilation)
    x, gy, like = _told_apart(x.shape[1], stride, (x.shape[-1], gy.shape[-1]), x, gy, like)
    found = torch.ops.aten.convolution_backward(
        gy, x, like, None, list(stride), list(padding), list(dilation), False, [0] * len(stride), groups, [False, True, False]
    )
    return found[1].movedim(1, -1)


def _padded(x: Tensor, kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> tuple[Tensor, Any]:
    """x (B, C, …) and its padding as they are, or where torch could not be trusted x with its padding around it, and none."""
    if _trusted(x.shape[2:], kernel, stride, padding, dilation):
        return x, padding
    sides = _sides(kernel, padding, dilation)
    return F.pad(x, [side for pair in reversed(sides) for side in pair]), [0] * len(kernel)


def _trusted(size: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> bool:
    """Whether torch can be trusted with the gradient of a kernel that moves over clips of that size. On a CPU it may leave in
    it what was there before, or write beside it, where a kernel is longer than those, or has taps that meet padding alone."""
    sides = _sides(kernel, padding, dilation)
    axes = zip(size, kernel, stride, sides, dilation, strict=True)
    return not any(map(any, sides)) or all(_fits(*axis) for axis in axes)


def _sides(kernel: Sequence[int], padding: Any, dilation: Any) -> list[tuple[int, int]]:
    """The padding before and after, by axis."""
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(r // 2, r - r // 2) for r in reach]
    return [(p, p) for p in (padding if padding != "valid" else [0] * len(kernel))]


def _steps(size: int, kernel: int, stride: int, sides: tuple[int, int], dilation: int) -> int:
    """How many steps a kernel takes along an axis."""
    return (size + sum(sides) - dilation * (kernel - 1) - 1) // stride + 1


def _fits(size: int, kernel: int, stride: int, sides: tuple[int, int], dilation: int) -> bool:
    """Whether along an axis a kernel is no longer than the input, half of it beyond at most, and each tap meets some of it."""
    reach, before = dilation * (kernel - 1), sides[0]
    if reach >= size or 2 * before > reach:
        return False
    steps = _steps(size, kernel, stride, sides, dilation)
    firsts = range(-before, reach - before + 1, dilation)  # where each tap begins
    return stride == 1 or all(any(0 <= first + i * stride < size for i in range(steps)) for first in firsts)


def _outer(d: Tensor, g: Tensor, z: Tensor) -> None:
    """d += gᵀ z, for d (P, Q), g (rows, P), z (rows, Q)."""
    if d.dtype == g.dtype and _by_onednn(d.dtype):
        # Torch's own product is MKL's, which takes twice as long on some processors.
        d += torch.ops.mkldnn._linear_pointwise(g.T, z.T, None, "none", [], "")
    elif d.dtype == g.dtype:
        d.addmm_(g.T, z)
    else:
        d += g.T @ z


class _Buffers(threading.local):
    """Memory that stays allocated, for each thread its own. What is named after one thing holds others before and after it."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}


_buffers = _Buffers()


def _buffer(name: str, like: Tensor, *shape: int) -> Tensor:
    """A tensor of that shape and the type of `like`, with anything in it, until the next that is asked for by this name."""
    numbers, kept = math.prod(shape), _buffers.kept.get((name, like.dtype))
    if kept is None or len(kept) < numbers:
        with torch.inference_mode(False):  # a tensor made in it could not be written to outside
            kept = _buffers.kept[name, like.dtype] = torch.empty(numbers, dtype=like.dtype, device="cpu")
    return kept[:numbers].view(shape)


_PRIVATE = ("_convolution_pointwise_", "_reorder_convolution_weight", "_linear_pointwise")
_ONEDNN = all(hasattr(torch.ops.mkldnn, name) for name in _PRIVATE)


def _by_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN's operators that torch keeps to itself can be used: in bfloat16, many processors have not the
    instructions for it."""
    able = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return _ONEDNN and torch.backends.mkldnn.enabled and able


def _add(
    y: Tensor,
    x: Tensor,
    kernel: Tensor,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """y (…, O) += the convolution of x (…, C) with `kernel` (O, C/groups, …), over two or three axes; returns y."""
    into, x = y.movedim(-1, 1), x.movedim(-1, 1)
    if x.shape[1] > 1 and _by_onednn(y.dtype):
        # Torch's public convolutions give fresh memory each time, which costs more than they do.
        torch.ops.mkldnn._convolution_pointwise_.binary(
            into, x, kernel, None, padding, stride, dilation, groups, "add", 1.0, None, [], None
        )
    else:
        convolution: Any = F.conv3d if x.dim() == 5 else F.conv2d
        x, kernel = _told_apart(x.shape[1], stride, (x.shape[-1], into.shape[-1]), x, kernel)
        into += convolution(x, kernel, None, stride, padding, dilation, groups)
    return y


def _told_apart(channels: int, stride: Sequence[int], columns: tuple[int, int], *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors of a convolution as they are, unless clips of a single channel come or go by a stride, or in frames of one
    column: that channel is first and last in memory at once, and with strides of the last torch gets some of these wrong, or
    writes beside them. They get those of the first."""
    if channels > 1 or (1 not in columns and all(step == 1 for step in stride)):
        return tensors
    return tuple(one.clone(memory_format=torch.contiguous_format) if one.stride(1) == 1 else one for one in tensors)


def _ordered(kernel: Tensor, stride: Any, padding: Any, dilation: Any, groups: int, size: Sequence[int]) -> Tensor:
    """A kernel (O, C/groups, …) of its own memory, in the order in which oneDNN wants it for images of that size, and would
    otherwise bring it again for each tile."""
    channels = groups * kernel.shape[1]
    if channels == 1 or not _by_onednn(kernel.dtype):  # as `_add` wants it
        return kernel.clone()
    like = [2, channels, *size]  # the order does not depend on the number of images
    return torch.ops.mkldnn._reorder_convolution_weight(kernel, padding, stride, dilation, groups, like)


def _each(taps: Tensor, channels: int) -> Tensor:
    """The same kernel for each channel: (kt, kh, kw) → (channels, 1, kt, kh, kw)."""
    return taps.expand(channels, 1, *taps.shape).contiguous()


class _Depthwise:
    """A convolution of all channels with the same taps (kt, kh, kw), of images of that size, made ready for many of them."""

    def __init__(self, taps: Tensor, channels: int, stride: Any, padding: Any, dilation: Any, size: Sequence[int]):
        self.channels, self.move = channels, (stride, padding, dilation)
        self.kernel = _ordered(_each(taps, channels), *self.move, channels, size)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """`_add` with it."""
        return _add(y, x, self.kernel, *self.move, self.channels)


# Winograd along time: y = Aᵀ [(G w) ⊙ (Bᵀ x)], m frames y from a window of m + 2, with a product for each frame of the window.


class _Winograd(NamedTuple):
    """F(m, 3), as of Lavin and Gray (CVPR 2016)."""

    data: tuple[tuple[float, ...], ...]  # Bᵀ, (m + 2, m + 2); only its first row reads the first frame, only its last the last
    filter: tuple[tuple[float, ...], ...]  # G, (m + 2, 3)
    out: tuple[tuple[float, ...], ...]  # Aᵀ, (m, m + 2)


_WINOGRAD = {
    2: _Winograd(
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: _Winograd(
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}


def winograd_frames(voxels: float, alpha: Tensor, phi: Tensor, frames: int, way: Way, dtype: torch.dtype) -> int:
    """m of the F(m, 3) that fits, 4 or 2 frames at a time, for so many voxels of output; 0 where none does."""
    stride, padding, dilation = way.stride[0], way.padding[0], way.dilation[0]
    # Its sums and differences cost more digits than bfloat16 has.
    if stride != 1 or padding != dilation or phi.shape[1] != 3 or dtype == torch.bfloat16:
        return 0
    # Where there is little to do, more kernels and calls cost more than the products that they save.
    outs, ins = alpha.shape[:2]
    if voxels * outs * ins < MUCH:
        return 0
    sizes = (4, 2) if min(outs, ins) >= MANY_CHANNELS and voxels >= MANY_VOXELS else (2,)
    return next((m for m in sizes if not frames % (m * dilation) and len(phi) > (m + 2) / m), 0)


def _winograd_mix(phi: Tensor, m: int) -> Tensor:
    """Gφ, (m + 2, N)."""
    return phi.new_tensor(_WINOGRAD[m].filter) @ phi.detach().T


def _winograd_data(x: Tensor, m: int, beside: int) -> Tensor:
    """Bᵀ x for clips x (B, T, H, W, C): (m + 2, B · T/m, H, W, C)."""
    clips, frames, *size = x.shape
    table = x.new_tensor(_WINOGRAD[m].data)
    found = _buffer("X", x, m + 2, clips * frames // m, *size)
    windows = frames // (m * beside)
    x, into = x.view(clips, windows, m, -1), found.view(m + 2, clips, windows, -1)
    _each_window(table[:, 1:-1], x.flatten(0, 1).transpose(0, 1), into.flatten(1, 2).transpose(0, 1))
    # The outermost frames of a window are of its neighbours.
    into[0, :, 1:].add_(x[:, :-1, -1], alpha=_WINOGRAD[m].data[0][0])
    into[-1, :, :-1].add_(x[:, 1:, 0], alpha=_WINOGRAD[m].data[-1][-1])
    return found


def _each_window(matrix: Tensor, x: Tensor, into: Tensor) -> None:
    """Writes matrix (P, Q) times x (Q, windows, n) into (windows, P, n)."""
    torch.bmm(matrix.expand(x.shape[1], -1, -1), x.transpose(0, 1), out=into)


def _winograd(x: Tensor, y: Tensor, start: Tensor, layer: _Layer) -> None:
    _, _, way, space, m, kernels = layer
    outs, atoms, channels = y.shape[-1], len(space.psi), x.shape[-1]
    part, pixels, beside = x.shape[1] // m, math.prod(space.size_out), way.dilation[0]
    out = y.new_tensor(_WINOGRAD[m].out)
    for b, e, tiles in _tiles(len(x), part, x, atoms * channels * pixels):
        windows, shape = (e - b) * part // beside, (m + 2, (e - b) * part, 1, pixels, outs)
        data = _winograd_data(x[b:e], m, beside)
        # What comes of a tile may take its place, as it is not needed again.
        g = data.view(shape) if data.numel() == math.prod(shape) else _buffer("G", x, *shape)
        for frames, into, kernel in zip(data, g, kernels(), strict=True):
            for first, last in tiles:
                some = slice(first, last) if len(tiles) > 1 else slice(None)
                z = space.maps(frames[some])
                _add(into[some].zero_(), z, kernel)
        _each_window(out, g.view(m + 2, windows, -1), y[b:e].view(windows, m, -1))
        if start.dim():  # a bias
            y[b:e] += start


def _winograd_backward(x: Tensor | None, gy: Tensor, found: _Gradients, layer: _Layer, frames: int) -> None:
    alpha, phi, way, space, m, kernels = layer
    table = _WINOGRAD[m]
    outs, channels, atoms, _ = alpha.shape
    part, pixels, beside = frames // m, math.prod(space.size_out), way.dilation[0]
    a, data_t = gy.new_tensor(table.out).T, gy.new_tensor(table.data).T
    d = None  # the gradient of the three frames of the filters, or of the coefficients in each row
    if x is not None and (found.from_filters or found.learns):
        rows, each = (len(table.filter[0]), space.psi[0].numel()) if found.from_filters else (m + 2, atoms)
        d = _buffer("D", alpha, rows, outs, each * channels).zero_()
    for b, e, tiles in _tiles(len(gy), part, gy, atoms * channels * pixels):
        windows = (e - b) * part // beside
        every = gy[b:e].view(windows, m, -1).transpose(0, 1)
        q = _buffer("Q", gy, windows, 1, beside * pixels * outs)
        data = None if x is None else _winograd_data(x[b:e], m, beside)
        r = data  # the gradient of a tile takes its place, when it has taught what it can
        if r is None:
            r = _buffer("X", gy, m + 2, (e - b) * part, *space.size_in, channels)
        for i, kernel in enumerate(kernels()):
            _each_window(a[i : i + 1], every, q)
            g = q.view(-1, pixels, outs)
            if data is not None and d is not None and found.from_filters:
                learned = space.filters(g, data[i])
                for into, weight in zip(d, table.filter[i], strict=True):
                    into.add_(learned, alpha=weight)
            for first, last in tiles:
                some = slice(first, last) if len(tiles) > 1 else slice(None)
                space.backward(
                    None if data is None or found.from_filters else data[i, some], g[some], g[some], kernel,
                    None if found.x is None else r[i, some], found.psi, None if d is None or found.from_filters else d[i],
                )  # fmt: skip
        if found.x is not None:
            gx = found.x[b:e].view(e - b, windows // (e - b), m, -1)
            _each_window(data_t[1:-1], r.view(m + 2, windows, -1), gx.flatten(0, 1))
            r = r.view(m + 2, e - b, windows // (e - b), -1)
            gx[:, 1:, 0].add_(r[-1, :, :-1], alpha=table.data[-1][-1])
            gx[:, :-1, -1].add_(r[0, :, 1:], alpha=table.data[0][0])
    if d is not None and found.from_filters:
        found.of_filters(d.flatten(1), alpha, space.psi, phi)
    elif d is not None:
        found.of_coefficients(d.flatten(1), alpha, phi, d.new_tensor(table.filter))
