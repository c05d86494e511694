"""ITSL, iterative training of space and time: a video network learns on clips that are small or short, by turns.

Stage-t shows all frames at a reduced size and fixes the spatial atoms; stage-s shows full frames, few of them, and fixes
the temporal atoms. Each costs a fraction of the memory and the compute of the full clip (paper, abstract and appendix D).

`stages` says what each stage shows and fixes, `swap` fits atoms to its grid, `run` trains through all of them, `command` is
`python -m stdcf_lib.itsl`, and `predict` says what a finished run sees in a clip.
"""

from stdcf_lib.itsl.recipe import Recipe
from stdcf_lib.itsl.run import run, top
from stdcf_lib.itsl.stages import Stage, schedule, view
from stdcf_lib.itsl.swap import AtomSwap

__all__ = ["AtomSwap", "Recipe", "Stage", "run", "schedule", "top", "view"]
