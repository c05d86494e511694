"""What a run needs, before it begins."""

from typing import Any

from stdcf_lib.itsl.stages import Stage
from stdcf_lib.itsl.swap import AtomSwap
from stdcf_lib.measure import cost
from stdcf_lib.models import VideoResNet

GIB = 2**30


def plan(model: VideoResNet, planned: list[Stage], swap: str, batch_size: int) -> list[dict[str, Any]]:
    """What each stage needs: `gmacs` of one clip's forward pass, `batch_gib` that a batch keeps for backward in float32
    (bfloat16 keeps a little over half), and `fits`, the clips that fit into 80 GB beside weights and optimiser. Counted at
    that batch, as a layer's rebuilt filters are kept once for all of its clips."""
    rows = []
    swaps = AtomSwap(model, planned[0], swap)
    state = 3 * 4 * sum(p.numel() for p in model.parameters())  # weights, gradients and momentum
    batch_size = max(2, batch_size)  # BN has no statistics of one voxel
    for stage in planned:
        swaps.to(stage)
        one, two = (
            cost(model.train(), (count, 3, stage.frames, stage.size, stage.size)) for count in (batch_size, 2 * batch_size)
        )
        a_clip = (two.stored_bytes - one.stored_bytes) / batch_size
        rows.append(
            {
                "stage": stage.name,
                "clip": f"{stage.frames}×{stage.size}²",
                "frozen": stage.frozen or "nothing",
                "epochs": stage.epochs,
                "gmacs": one.macs / batch_size / 1e9,
                "batch_gib": one.stored_bytes / GIB,
                "fits": int((80e9 - state - (one.stored_bytes - batch_size * a_clip)) // a_clip),
            }
        )
    return rows


def print_plan(rows: list[dict[str, Any]]) -> None:
    print("stage   clip      frozen    epochs  GMAC/clip  GiB kept/batch  clips in 80 GB")
    for row in rows:
        print("{stage:8}{clip:10}{frozen:10}{epochs:6g}{gmacs:11.3f}{batch_gib:16.1f}{fits:16}".format(**row))
