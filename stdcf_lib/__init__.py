"""Filters of 3D convolutions, decomposed over space and time (STDCF): the layer, its baseline, and what they cost."""

from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.convert import to_stdcf
from stdcf_lib.measure import cost
from stdcf_lib.rank1 import Rank1Conv3d, Rank1ConvTranspose3d

__all__ = ["Rank1Conv3d", "Rank1ConvTranspose3d", "STDCFConv3d", "STDCFConvTranspose3d", "cost", "to_stdcf"]
