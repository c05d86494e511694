"""STDCF: 3D convolution filters as joint combinations of spatial and temporal atoms."""

from stdcf_lib.conv import Rank1Conv3d, Rank1ConvTranspose3d, STDCFConv3d, STDCFConvTranspose3d

__all__ = ["Rank1Conv3d", "Rank1ConvTranspose3d", "STDCFConv3d", "STDCFConvTranspose3d"]
