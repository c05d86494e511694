"""Stages: what each shows the network, what it fixes, and for how long; and how a clip looks in one."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from stdcf_lib.checks import choice, number, whole

MOST_ITERATIONS = 1000
"""Of stage-t and stage-s. [ours]"""


@dataclass(frozen=True)
class Stage:
    """What one stage of training shows the network, what it fixes, and for how long.

    Args:
        name: such as "t-1".
        frames, size: of the clips, T and H = W.
        frozen: the atoms that do not train, "spatial", "temporal" or "both"; None for none.
        epochs: passes over the training clips, a fraction allowed.
        batch: batches are this many times as large as `run` is told, and so is the learning rate (Adam's by the root of it).
    """

    name: str
    frames: int
    size: int
    frozen: str | None = None
    epochs: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        try:
            for name in ("frames", "size", "batch"):
                whole(name, getattr(self, name))
            choice("frozen", self.frozen, ("spatial", "temporal", "both", None))
            number("epochs", self.epochs, above=0)
        except ValueError as error:
            raise ValueError(f"stage {self.name!r}: {error}") from None


def schedule(
    iterations: int,
    frames: int,
    size: int,
    reduction: int = 4,
    *,
    epochs: float = 1.0,
    final_epochs: float = 1.0,
    enlarge: int = 1,
) -> list[Stage]:
    """The stages of ITSL: t-1, s-1, t-2, s-2, …, and last `final`, full-size fine-tuning of everything.

    Args:
        iterations: of stage-t and stage-s, at most `MOST_ITERATIONS`. The paper has 3 for Kinetics-400 and 2 for
            Something-Something V1.
        frames, size: of the full clip, T and H = W.
        reduction: how many times fewer voxels both stages show. [ours] 4: half the height and width, or a
            quarter of the frames.
        epochs: of each stage.
        final_epochs: of the last one; 0 leaves it out.
        enlarge: how many times larger the batches of stage-t and stage-s are, at most: no larger than fills what a batch of
            full clips does, which is `reduction` times. It is where their saving turns into time on a GPU, which small work
            does not fill; and they make as many times fewer steps, at a higher rate, see `Stage`. [ours]

    Raises:
        ValueError: no iteration or too many, or a size or length that cannot be reduced by as much.

    Example:
        >>> [(s.name, s.frames, s.size, s.frozen) for s in schedule(1, frames=8, size=224)]
        [('t-1', 8, 112, 'spatial'), ('s-1', 2, 224, 'temporal'), ('final', 8, 224, None)]
    """
    iterations, frames, size = whole("iterations", iterations), whole("frames", frames), whole("size", size)
    if iterations > MOST_ITERATIONS:
        raise ValueError(f"iterations={iterations}: give at most {MOST_ITERATIONS}")
    side = math.isqrt(whole("reduction", reduction))
    if side**2 != reduction:
        raise ValueError(f"reduction={reduction!r}: give a square, such as 4 or 16, so that height and width shrink alike")
    if frames % reduction or size % side:
        raise ValueError(
            f"frames={frames} and size={size} cannot be reduced by {reduction}: "
            f"give a multiple of {reduction} frames and a multiple of {side} pixels"
        )
    number("final_epochs", final_epochs, least=0)
    batch, stages = min(whole("enlarge", enlarge), reduction), []
    for i in range(1, iterations + 1):
        stages.append(Stage(f"t-{i}", frames, size // side, "spatial", epochs, batch))
        stages.append(Stage(f"s-{i}", frames // reduction, size, "temporal", epochs, batch))
    return stages + ([Stage("final", frames, size, None, final_epochs)] if final_epochs else [])


def view(clips: Tensor, stage: Stage) -> Tensor:
    """Clips as a stage shows them: all of the scene and all of the time, on a coarser grid. [ours]

    Of every k frames the first is shown, for all their time; pixels are averages over areas.

    Args:
        clips: floats (B, C, T, H, W) with H = W, at least as long and large as the stage's; T a multiple of its frames.

    Returns:
        (B, C, stage.frames, stage.size, stage.size); `clips` themselves if they are that already.
    """
    frames, *sizes = clips.shape[2:]
    if sizes == [stage.size] * 2 and frames == stage.frames:
        return clips
    if frames % stage.frames or min(sizes) < stage.size or sizes[0] != sizes[1]:
        raise ValueError(
            f"clips of shape {tuple(clips.shape)} have no view of {stage.frames} frames of {stage.size}×{stage.size} "
            f"(stage {stage.name!r}): give square frames, no smaller, and a multiple of as many"
        )
    clips = clips[:, :, :: frames // stage.frames]
    return clips if sizes[0] == stage.size else F.adaptive_avg_pool3d(clips, (None, stage.size, stage.size))
