"""A small network for small clips, made like Table C's: space shrinks on the way, time never does."""

from typing import Any

from torch import Tensor, nn

from stdcf_lib.checks import whole
from stdcf_lib.conv import Change
from stdcf_lib.models.kinds import convolutions


class SmallVideoNet(nn.Module):
    """Four 3×3×3 convolutions with BN and ReLU, for gray clips that a laptop can train on. [ours]

    ::

        x (B, 1, T, H, W) ── 16 ── 32, ÷1,2,2 ── 64, ÷1,2,2 ── 64, ÷1,2,2 ── global average: features (B, 64) ── fc

    It takes clips of any length and size: the same weights serve every stage of ITSL.

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`.
        num_classes: outputs of fc.
        channels: of the four layers.
        strides: in space, of the four layers.
        **options: of the family's layers, see `stdcf_lib.models.kinds.convolutions`.

    Raises:
        ValueError: an unknown kind, an option that the kind does not have, or clips of another shape.
    """

    def __init__(
        self,
        kind: str = "stdcf",
        num_classes: int = 40,
        channels: tuple[int, ...] = (16, 32, 64, 64),
        strides: tuple[int, ...] = (1, 2, 2, 2),
        **options: Any,
    ):
        super().__init__()
        self.kind = kind
        conv, _ = convolutions(kind, **options)
        self.layers = nn.Sequential()
        for c_in, c_out, stride in zip((1, *channels), channels, strides, strict=False):
            self.layers.append(conv(c_in, c_out, 3, stride=(1, stride, stride), padding=1, bias=False))
            self.layers.append(nn.BatchNorm3d(c_out))
            self.layers.append(nn.ReLU(inplace=True))
        self.fc = nn.Linear(channels[-1], whole("num_classes", num_classes))

    def dilate(self, temporal: int) -> Change:
        """Look for the same motion `temporal` times slower: spread the temporal filters of all four layers, keep every weight.

        Args:
            temporal: temporal dilation, at least 1. It counts from the network as built, not from an earlier `dilate`.

        Returns:
            The change, to `undo()` or to use in a `with` block.
        """
        change = Change(self, timing=self.timing)
        self.timing = (whole("temporal", temporal),) * len(self.timing)
        return change

    @property
    def timing(self) -> tuple[int, ...]:
        """The temporal dilation of each layer; may be set."""
        return tuple(conv.dilation[0] for conv in self._convolutions())

    @timing.setter
    def timing(self, timing: tuple[int, ...]) -> None:
        for conv, dilation in zip(self._convolutions(), timing, strict=True):
            conv.set_temporal_dilation(dilation)

    def _convolutions(self) -> list[Any]:
        return list(self.layers)[::3]

    def features(self, x: Tensor) -> Tensor:
        """Clips (B, 1, T, H, W) → the last layer's maps, averaged over all they see, (B, 64)."""
        if x.dim() != 5 or x.shape[1] != 1:
            raise ValueError(f"clips of shape {tuple(x.shape)}: give (B, 1, T, H, W)")
        return self.layers(x).mean(dim=(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 1, T, H, W) → logits (B, num_classes)."""
        return self.fc(self.features(x))
