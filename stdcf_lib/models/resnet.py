"""The residual network of Table C."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stdcf_lib.conv import initialise
from stdcf_lib.models.kinds import convolutions


class Bottleneck(nn.Module):
    """A residual block around one spatiotemporal convolution, with a stride in space alone.

    ```
    x ─┬─ 1×1×1, C ─ BN ─ ReLU ─ 3×3×3, C ─ BN ─ ReLU ─ 1×1×1, 4C ─ BN ─(+)─ ReLU
       └────────────── nothing, or 1×1×1, 4C ─ BN where sizes change ────┘
    ```

    Args:
        in_channels: of x.
        channels: C. The block returns 4C channels.
        stride: in space, taken by the middle convolution [ours] and by the shortcut.
        conv: makes the middle convolution, called like `nn.Conv3d`.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, conv: Callable[..., nn.Module]):
        super().__init__()
        stride = (1, stride, stride)
        self.residual = nn.Sequential(
            *_normalised(_plain(in_channels, channels, 1)),
            nn.ReLU(inplace=True),
            *_normalised(conv(channels, channels, 3, stride=stride, padding=1, bias=False)),
            nn.ReLU(inplace=True),
            *_normalised(_plain(channels, 4 * channels, 1)),
        )
        same = stride == (1, 1, 1) and in_channels == 4 * channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normalised(_plain(in_channels, 4 * channels, 1, stride)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) → (B, 4C, T, H/stride, W/stride)."""
        return (self.residual(x) + self.shortcut(x)).relu_()


class VideoResNet(nn.Module):
    """A ResNet of bottlenecks over clips, without any stride in time (Table C).

    ```
    x (B, 3, T, H, W) ── stem: 5×7×7, 64, ÷1,2,2 ── pool: max 1×3×3, ÷1,2,2 ── res2: 3 × Bottleneck, 256
    ── res3: 4 ×, 512, ÷1,2,2 ── res4: 6 ×, 1024, ÷1,2,2 ── res5: 3 ×, 2048, ÷1,2,2 ── global average ── fc
    ```

    [ours] The stem and all 1×1×1 convolutions are plain; a BN follows every convolution, between the factors of rank-1 too.

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`, of the middle convolutions.
        num_classes: outputs of fc.
        blocks: bottlenecks in each stage; Table C's by default. Each stage after the first halves the size and doubles C.
        width: C of the stem and of the first stage.
        stem: kernel of the first convolution, odd sizes (time, height, width).
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
        **options: Any,
    ):
        super().__init__()
        for name, values in (("num_classes", [num_classes]), ("blocks", blocks), ("width", [width]), ("stem", stem)):
            if not values or any(type(value) is not int or value < 1 for value in values):
                given = values if name in ("blocks", "stem") else values[0]
                raise ValueError(f"{name}={given!r}: give integers of at least 1")
        if len(stem) != 3 or any(size % 2 == 0 for size in stem):
            raise ValueError(f"stem={stem}: give three odd sizes (time, height, width), which a padding can centre")
        if kind == "rank1":
            options = {"between": nn.BatchNorm3d, **options}
        conv, _ = convolutions(kind, **options)
        self.kind = kind
        self.stem = nn.Sequential(*_normalised(_plain(3, width, stem, (1, 2, 2))), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))
        self.stages = nn.Sequential()
        in_channels = width
        for i, depth in enumerate(blocks):
            stage = nn.Sequential()
            for first in [True] + [False] * (depth - 1):
                stage.append(Bottleneck(in_channels, width * 2**i, 2 if first and i else 1, conv))
                in_channels = 4 * width * 2**i
            self.stages.add_module(f"res{i + 2}", stage)
        self.fc = nn.Linear(in_channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), normalised → (B, 4C) of the last stage, averaged over all it sees."""
        if x.dim() != 5 or x.shape[1] != 3:
            raise ValueError(f"clips of shape {tuple(x.shape)}: give (B, 3, T, H, W)")
        return self.stages(self.pool(self.stem(x))).mean(dim=(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), normalised → logits (B, num_classes)."""
        return self.fc(self.features(x))


def stdcf_r50(num_classes: int = 400, kind: str = "stdcf", spatial_atoms: int = 5, temporal_atoms: int = 3) -> VideoResNet:
    """The network of Table C, STDCF-R50; or its peer of another `kind`, to which the counts of atoms mean nothing. [ours] M, N.

    31.9 million parameters and 66.1 GMAC for a clip of 8×224² with filters rebuilt, 48.0 GMAC as three layers; 47.0 million
    and 66.1 GMAC as `"full"`, 28.1 million and 41.4 GMAC as `"rank1"`.
    """
    options = {"spatial_atoms": spatial_atoms, "temporal_atoms": temporal_atoms} if kind == "stdcf" else {}
    return VideoResNet(kind, num_classes, **options)


def _plain(
    in_channels: int, out_channels: int, kernel: int | tuple[int, int, int], stride: int | tuple[int, int, int] = 1
) -> nn.Conv3d:
    padding = 0 if kernel == 1 else tuple(size // 2 for size in kernel)
    conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
    initialise(conv)
    return conv


def _normalised(conv: nn.Module) -> tuple[nn.Module, nn.Module]:
    out_channels = conv.temporal.out_channels if hasattr(conv, "temporal") else conv.out_channels
    return conv, nn.BatchNorm3d(out_channels)
