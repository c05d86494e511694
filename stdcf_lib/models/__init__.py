"""The networks of the paper's tables; the convolution is injected as `kind="full"`, `"rank1"` or `"stdcf"`."""

from stdcf_lib.models.autoencoder import ReconstructionAutoencoder
from stdcf_lib.models.kth import KTHNet
from stdcf_lib.models.resnet import VideoResNet, stdcf_r50
from stdcf_lib.models.small import SmallVideoNet

__all__ = ["KTHNet", "ReconstructionAutoencoder", "SmallVideoNet", "VideoResNet", "stdcf_r50"]
