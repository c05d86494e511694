"""The networks that the command trains, built to be trained and built again to be used."""

from typing import Any

from stdcf_lib.models import VideoResNet, stdcf_r50


def build(kind: str, num_classes: int, small: bool, **options: Any) -> VideoResNet:
    """STDCF-R50 or its peer of another kind; if `small`, one of the same class for a laptop, of 4 blocks and 8 channels.

    Args:
        kind, num_classes, **options: of `VideoResNet`.

    Raises:
        ValueError: as `VideoResNet` does.
    """
    if small:
        return VideoResNet(kind, num_classes, blocks=(1, 1, 1, 1), width=8, stem=(3, 7, 7), **options)
    return stdcf_r50(num_classes, kind, **options)
