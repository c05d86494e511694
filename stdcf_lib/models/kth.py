"""The action network of Table B, whose temporal atoms can follow another tempo."""

from typing import Any

from torch import Tensor, nn

from stdcf_lib.atoms import stretch
from stdcf_lib.checks import whole, wholes
from stdcf_lib.conv import Change
from stdcf_lib.models.kinds import convolutions, of_kind


class KTHNet(nn.Module):
    """Three convolutions and their max-pools (Table B), for gray clips such as KTH's.

    ::

        x (B, 1, T, H, W)
        ── conv1: 5×3², 16 ── pool1: 1,2,2 ── conv2: 5×3², 32 ── pool2: 2,2,2 ── conv3: 3×3², 64 ── pool3: 2,2,2
        ── global average: features (B, 64) ── fc: logits (B, num_classes)

    [ours] Padding that keeps the size (`"same"`), bias, a ReLU after each convolution.

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`.
        num_classes: KTH has 6.
        temporal_atoms: for `"stdcf"`, N of the three layers; Table B's by default.
        **options: of the family's layers, see `stdcf_lib.models.kinds.convolutions`.

    Attributes:
        timing: temporal dilations of conv1, conv2 and conv3, and the frames that pool2 joins; (1, 1, 1, 2) is Table B.

    Raises:
        ValueError: an unknown kind, an option that the kind does not have, or a clip too small for the pools.
    """

    def __init__(
        self,
        kind: str = "stdcf",
        num_classes: int = 6,
        temporal_atoms: tuple[int, int, int] = (3, 3, 2),
        **options: Any,
    ):
        super().__init__()
        self.kind = kind
        conv, _ = convolutions(kind, **options)
        atoms = [of_kind(kind, temporal_atoms=n) for n in temporal_atoms]
        self.conv1: Any = conv(1, 16, (5, 3, 3), padding="same", **atoms[0])
        self.conv2: Any = conv(16, 32, (5, 3, 3), padding="same", **atoms[1])
        self.conv3: Any = conv(32, 64, (3, 3, 3), padding="same", **atoms[2])
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.pool2 = nn.MaxPool3d((2, 2, 2))
        self.pool3 = nn.MaxPool3d((2, 2, 2))
        self.fc = nn.Linear(64, whole("num_classes", num_classes))

    def features(self, x: Tensor) -> Tensor:
        """Clips (B, 1, T, H, W) → their representation after conv3, pooled, (B, 64)."""
        frames = 2 * self.timing[-1]
        if x.dim() != 5 or x.shape[1] != 1 or x.shape[2] < frames or min(x.shape[3:]) < 8:
            raise ValueError(f"clips of shape {tuple(x.shape)}: give (B, 1, T, H, W), at least {frames} frames of 8×8")
        x = self.pool1(self.conv1(x).relu())
        x = self.pool2(self.conv2(x).relu())
        x = self.pool3(self.conv3(x).relu())
        return x.mean(dim=(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 1, T, H, W) → logits (B, num_classes)."""
        return self.fc(self.features(x))

    def dilate(self, temporal: int, exact: bool = False) -> Change:
        """Look for the same motion `temporal` times slower: spread the temporal filters, keep every weight.

        The paper's way dilates all three layers in time. On a clip of repeated frames each layer alone then answers as on
        the original, but pool2 does not: it joins 2 frames, which are now one and the same, so that conv3 meets other
        frames than before. [ours] The exact way lets pool2 undo the repetition, by joining 2 · `temporal` frames, and
        leaves conv3 as it is; the features of repeated frames are then those of the original, to rounding.

        Args:
            temporal: temporal dilation, at least 1. It counts from the network as built, not from an earlier `dilate`.
            exact: the exact way instead of the paper's.

        Returns:
            The change, to `undo()` or to use in a `with` block.
        """
        temporal = whole("temporal", temporal)
        return self.retime(temporal, temporal, 1, 2 * temporal) if exact else self.retime(temporal, temporal, temporal)

    def retime(self, conv1: int, conv2: int, conv3: int, pool2: int = 2) -> Change:
        """Set `timing`, layer by layer: the temporal dilations of the convolutions, and the frames that pool2 joins.

        Returns:
            The change, to `undo()` or to use in a `with` block.
        """
        timing = wholes("timing", (conv1, conv2, conv3, pool2), 4, meaning="(conv1, conv2, conv3, pool2)")
        change = Change(self, timing=self.timing)
        self.timing = timing
        return change

    def stretch(self, factor: float) -> Change:
        """Look for the same motion `factor` times slower, any factor: stretch the temporal filters of all three layers. [ours]

        STDCF stretches its temporal atoms, N short sequences a layer; rank-1 its temporal factors and full 3D its filters,
        along time. Dilation leaves gaps between taps, stretching fills them (`stdcf_lib.atoms.stretch`). The pools stay.

        Returns:
            The change, to `undo()` or to use in a `with` block.
        """
        change = Change(self, temporal_filters=self.temporal_filters)
        self.temporal_filters = [nn.Parameter(stretch(taps, _in_time(taps, factor))) for taps in self.temporal_filters]
        return change

    @property
    def temporal_filters(self) -> list[nn.Parameter]:
        """What the three layers look along time with, φ (N, kt), or the weight (C_out, C_in, kt, kh, kw) that holds it."""
        return [conv.temporal_filters for conv in (self.conv1, self.conv2, self.conv3)]

    @temporal_filters.setter
    def temporal_filters(self, filters: list[nn.Parameter]) -> None:
        for conv, taps in zip((self.conv1, self.conv2, self.conv3), filters, strict=True):
            conv.set_temporal_filters(taps)

    @property
    def timing(self) -> tuple[int, ...]:
        dilations = (conv.dilation[0] for conv in (self.conv1, self.conv2, self.conv3))
        pool: Any = self.pool2.kernel_size
        return (*dilations, pool[0])

    @timing.setter
    def timing(self, timing: tuple[int, ...]) -> None:
        *dilations, frames = timing
        for conv, dilation in zip((self.conv1, self.conv2, self.conv3), dilations, strict=True):
            conv.dilation = (dilation, 1, 1)  # and padding="same" follows
        self.pool2.kernel_size = self.pool2.stride = (frames, 2, 2)


def _in_time(taps: Tensor, factor: float) -> tuple[float, ...]:
    """The factor along each axis but the first: time is axis 1 of φ, and axis 2 of a weight."""
    return (factor,) if taps.dim() == 2 else (1, factor, 1, 1)
