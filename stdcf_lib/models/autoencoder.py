"""The reconstruction autoencoder of Table A."""

from typing import Any

from torch import Tensor, nn

from stdcf_lib.models.kinds import convolutions, of_kind


class ReconstructionAutoencoder(nn.Module):
    """Two convolutions down, three back up (Table A), all with kernels of 3×3×3.

    ::

        x (B, 1, T, H, W) ── conv1: 4, ÷2 ── conv2: 8, ÷2 ── deconv1: 4, ×2 ── deconv2: 4, ×2 ── conv3: 1 ── (B, 1, T, H, W)

    [ours] Padding 1, output padding 1 where resolution grows, bias, ReLU between layers and none after the last, no batch
    norm. T, H and W must be multiples of 4.

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`.
        middle: for `"rank1"`, the middle channels C'' of the five layers; Table A's by default.
        **options: of the family's layers, see `stdcf_lib.models.kinds.convolutions`.

    Raises:
        ValueError: an unknown kind, an option that the kind does not have, or sizes that are not multiples of 4.
    """

    def __init__(self, kind: str = "stdcf", middle: tuple[int, int, int, int, int] = (4, 8, 4, 4, 4), **options: Any):
        super().__init__()
        self.kind = kind
        conv, deconv = convolutions(kind, **options)
        wide = [of_kind(kind, middle_channels=m) for m in middle]
        self.conv1 = conv(1, 4, 3, stride=2, padding=1, **wide[0])
        self.conv2 = conv(4, 8, 3, stride=2, padding=1, **wide[1])
        self.deconv1 = deconv(8, 4, 3, stride=2, padding=1, output_padding=1, **wide[2])
        self.deconv2 = deconv(4, 4, 3, stride=2, padding=1, output_padding=1, **wide[3])
        self.conv3 = conv(4, 1, 3, padding=1, **wide[4])

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 1, T, H, W) in [0, 1] → their reconstruction, of the same shape."""
        if x.dim() != 5 or x.shape[1] != 1 or any(n % 4 for n in x.shape[2:]):
            raise ValueError(f"clips of shape {tuple(x.shape)}: give (B, 1, T, H, W) with T, H and W multiples of 4")
        for layer in (self.conv1, self.conv2, self.deconv1, self.deconv2):
            x = layer(x).relu()
        return self.conv3(x)
