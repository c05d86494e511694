"""Ideas to hold in the hand: linked views that are drawn in the page, with and without a kernel."""

from stdcf_lib.explorables.base import Explorable, bring_to_life
from stdcf_lib.explorables.filter import Filter
from stdcf_lib.explorables.rank import Rank
from stdcf_lib.explorables.voxel import Voxel

__all__ = ["Explorable", "Filter", "Rank", "Voxel", "bring_to_life"]
