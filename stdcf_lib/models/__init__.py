"""The networks of the paper's tables; the convolution is injected as `kind="full"`, `"rank1"` or `"stdcf"`."""

from stdcf_lib.models.autoencoder import ReconstructionAutoencoder

__all__ = ["ReconstructionAutoencoder"]
