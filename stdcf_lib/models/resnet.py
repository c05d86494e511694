"""The residual network of Table C."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stdcf_lib.checks import number, whole, wholes
from stdcf_lib.geometry import triple
from stdcf_lib.models.kinds import convolutions, of_kind
from stdcf_lib.rank1 import FullConv3d


class Bottleneck(nn.Module):
    """A residual block around one spatiotemporal convolution, with a stride in space alone.

    ::

        x ─┬─ 1×1×1, C ─ BN ─ ReLU ─ 3×3×3, C ─ BN ─ ReLU ─ 1×1×1, 4C ─ BN ─(+)─ ReLU
           └────────────── nothing, or 1×1×1, 4C ─ BN where sizes change ────┘

    Args:
        in_channels: of x.
        channels: C; the block returns 4C channels.
        stride: in space, taken by the middle convolution [ours] and by the shortcut.
        conv: makes the middle convolution, called like `nn.Conv3d`.
        checkpointing: whether to keep only x for the backward pass, and compute the rest once more there.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        conv: Callable[..., nn.Module],
        checkpointing: bool = False,
    ):
        super().__init__()
        self.checkpointing = checkpointing
        strides = (1, stride, stride)
        self.residual = nn.Sequential(
            *_normalised(_plain(in_channels, channels, 1)),
            nn.ReLU(inplace=True),
            *_normalised(conv(channels, channels, 3, stride=strides, padding=1, bias=False)),
            nn.ReLU(inplace=True),
            *_normalised(_plain(channels, 4 * channels, 1)),
        )
        same = strides == (1, 1, 1) and in_channels == 4 * channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normalised(_plain(in_channels, 4 * channels, 1, strides)))
        last: Any = self.residual[-1]
        nn.init.zeros_(last.weight)  # so that a deep network begins as a shallow one [ours, as is usual]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) → (B, 4C, T, H/stride, W/stride)."""
        if self.checkpointing and torch.is_grad_enabled():

            def contexts() -> tuple[Any, Any]:
                return nullcontext(), _statistics_kept(self)

            return cast(Tensor, checkpoint(self._compute, x, use_reentrant=False, context_fn=contexts))
        return self._compute(x)

    def _compute(self, x: Tensor) -> Tensor:
        # In place, as BN keeps its input for the backward pass and not its output: fresh memory would cost more than the sum.
        return self.residual(x).add_(self.shortcut(x)).relu_()


class VideoResNet(nn.Module):
    """A ResNet of bottlenecks over clips, without any stride in time (Table C).

    ::

        x (B, 3, T, H, W) ── stem: 5×7×7, 64, ÷1,2,2 ── pool: max 1×3×3, ÷1,2,2 ── res2: 3 × Bottleneck, 256
        ── res3: 4 ×, 512, ÷1,2,2 ── res4: 6 ×, 1024, ÷1,2,2 ── res5: 3 ×, 2048, ÷1,2,2 ── global average ── fc

    [ours] The stem and all 1×1×1 convolutions are plain; a BN follows every convolution, between the factors of rank-1 too.

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`, of the middle convolutions.
        num_classes: outputs of fc.
        blocks: bottlenecks in each stage; Table C's by default. Each stage after the first halves the size and doubles C.
        width: C of the stem and of the first stage.
        stem: kernel of the first convolution, odd sizes (time, height, width).
        dropout: share of features dropped before fc in training.
        checkpointing: whether to keep only each bottleneck's input for the backward pass, and compute the rest once more
            there: a third more time for a fraction of the memory, and the same result.
        **options: of the family's layers, such as `spatial_atoms`; see `stdcf_lib.models.kinds.convolutions`.

    Raises:
        ValueError: an argument out of range, an unknown kind, an option that the kind does not have, or clips of another shape.
    """

    def __init__(
        self,
        kind: str = "stdcf",
        num_classes: int = 400,
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        width: int = 64,
        stem: tuple[int, int, int] = (5, 7, 7),
        dropout: float = 0.0,
        checkpointing: bool = False,
        **options: Any,
    ):
        super().__init__()
        num_classes, width = whole("num_classes", num_classes), whole("width", width)
        blocks = wholes("blocks", blocks)
        if any(size % 2 == 0 for size in triple("stem", stem)):
            raise ValueError(f"stem={stem}: give three odd sizes (time, height, width), which a padding can centre")
        conv, _ = convolutions(kind, **(of_kind(kind, between=nn.BatchNorm3d) | options))
        self.kind = kind
        self.stem = nn.Sequential(*_normalised(_plain(3, width, stem, (1, 2, 2))), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))
        self.stages = nn.Sequential()
        in_channels = width
        for i, depth in enumerate(blocks):
            stage = nn.Sequential()
            for first in [True] + [False] * (depth - 1):
                stage.append(Bottleneck(in_channels, width * 2**i, 2 if first and i else 1, conv, checkpointing))
                in_channels = 4 * width * 2**i
            self.stages.add_module(f"res{i + 2}", stage)
        self.dropout = nn.Dropout(number("dropout", dropout, 0, below=1))
        self.fc = nn.Linear(in_channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), normalised → (B, 4C) of the last stage, averaged over all it sees."""
        if x.dim() != 5 or x.shape[1] != 3:
            raise ValueError(f"clips of shape {tuple(x.shape)}: give (B, 3, T, H, W)")
        return self.stages(self.pool(self.stem(x))).mean(dim=(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), normalised → logits (B, num_classes)."""
        return self.fc(self.dropout(self.features(x)))


def stdcf_r50(
    num_classes: int = 400, kind: str = "stdcf", spatial_atoms: int = 5, temporal_atoms: int = 3, **options: Any
) -> VideoResNet:
    """The network of Table C, STDCF-R50; or its peer of another `kind`, to which the counts of atoms mean nothing. [ours] M, N.

    `options` are those of `VideoResNet`, such as `dropout` and `checkpointing`.

    31.9 million parameters and 66.1 GMAC for a clip of 8×224² with filters rebuilt, 48.0 GMAC as three layers; 47.0 million
    and 66.1 GMAC as `"full"`, 28.1 million and 41.4 GMAC as `"rank1"`.
    """
    atoms = of_kind(kind, spatial_atoms=spatial_atoms, temporal_atoms=temporal_atoms)
    return VideoResNet(kind, num_classes, **atoms, **options)


@torch.no_grad()
def start_from_image(model: VideoResNet, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Start a network from the weights of an image ResNet, and keep what its filters can express of them. [ours]

    Each image filter is inflated: repeated along time and divided by the number of frames, so that a still clip is answered as
    the image is, borders in time aside. Plain convolutions take the inflated filter; STDCF takes its least-squares projection
    onto the atoms as they are; rank-1 takes the image filter as its spatial factor and the mean over time as its temporal
    one, which is exact. BN is copied; fc is left alone.

    Args:
        model: of the image network's depth and width, such as `stdcf_r50()` for a ResNet-50.
        weights: the image network's `state_dict()`, with torchvision's names, such as that of `torchvision.models.resnet50`.

    Returns:
        By the name of each spatiotemporal convolution, the share of ‖W‖² of the inflated filters that it keeps, in [0, 1].

    Raises:
        ValueError: a weight that is missing, or of another shape.
    """
    energy = {}
    for ours, theirs in _image_names(model).items():
        module: Any = model.get_submodule(ours)
        if isinstance(module, nn.BatchNorm3d):
            for name, value in module.state_dict().items():
                found = _found(weights, f"{theirs}.{name}")
                _fits(tuple(value.shape), found, f"{theirs}.{name}")
                value.copy_(found)  # the module's own memory
            continue
        image = _found(weights, f"{theirs}.weight")
        needed = (module.out_channels, module.in_channels // module.groups, *module.kernel_size[1:])
        _fits(needed, image, f"{theirs}.weight")
        kept = module.take_image_filters(image)
        if module.kernel_size[0] > 1:
            energy[ours] = kept
    return energy


def _image_names(model: VideoResNet) -> dict[str, str]:
    """Our modules with weights → the names they have in torchvision's ResNet."""
    names = {"stem.0": "conv1", "stem.1": "bn1"}
    stages: Any = model.stages
    for i, stage in enumerate(stages):
        for j, block in enumerate(stage):
            ours, theirs = f"stages.res{i + 2}.{j}", f"layer{i + 1}.{j}"
            for k, place in enumerate((0, 3, 6), 1):
                names |= {f"{ours}.residual.{place}": f"{theirs}.conv{k}", f"{ours}.residual.{place + 1}": f"{theirs}.bn{k}"}
            if len(list(block.shortcut.children())):
                names |= {f"{ours}.shortcut.{k}": f"{theirs}.downsample.{k}" for k in (0, 1)}
    return names


def _found(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"weights have no {name}; give the state_dict of an image ResNet of the same depth")
    return weights[name]


def _fits(needed: tuple[int, ...], theirs: Tensor, name: str) -> None:
    if tuple(theirs.shape) != needed:
        raise ValueError(f"{name} is {tuple(theirs.shape)}, and this network needs {needed}; give the same width")


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """BN has counted these clips once; computing them again for the backward pass must not count them twice."""
    norms: list[Any] = [module for module in block.modules() if isinstance(module, nn.BatchNorm3d)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def _plain(in_channels: int, out_channels: int, kernel: int | tuple[int, ...], stride: int | tuple[int, ...] = 1) -> FullConv3d:
    time, height, width = triple("kernel", kernel)
    padding = (time // 2, height // 2, width // 2)
    return FullConv3d(in_channels, out_channels, (time, height, width), triple("stride", stride), padding, bias=False)


def _normalised(conv: Any) -> tuple[nn.Module, nn.Module]:
    return conv, nn.BatchNorm3d(conv.out_channels)
