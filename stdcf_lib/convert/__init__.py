"""A whole network's 3D convolutions turned into STDCF: converted, saved and loaded again.

`python -m stdcf_lib.convert` does it to a network that is named. What a conversion loses, `stdcf_lib.convert.recovery` brings
back.
"""

from stdcf_lib.convert.conversion import ConvertedLayer, to_stdcf
from stdcf_lib.convert.saved import load, save

__all__ = ["ConvertedLayer", "load", "save", "to_stdcf"]
