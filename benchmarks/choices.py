"""What the rule of `evaluation="auto"` costs with layers that it was not fitted to: drawn ones, of 16 to 384 channels.

`python -m benchmarks.choices` prints and records the milliseconds of both forms, and what the rule takes.
"""

import random
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.layers import LAST, Case, chosen, medians
from benchmarks.record import keep
from stdcf_lib import STDCFConv3d
from stdcf_lib.runs import machine

SEED, COUNT, ROUNDS = 12, 60, 7


def drawn(seed: int, count: int) -> list[tuple[Case, int, bool]]:
    """So many layers, with N and whether φ is frozen, that take 0.1 to 4 billion multiplications forward."""
    one = random.Random(seed)
    found = []
    while len(found) < count:
        ins = one.choice((16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 256, 384))
        case = Case(
            ins,
            one.choice((ins, ins, ins, 2 * ins, max(16, ins // 2))),
            one.choice((7, 10, 14, 20, 28, 40, 56)),
            one.choice((1, 1, 1, (1, 2, 2))),
            clips=one.choice((1, 1, 2, 4, 8)),
            frames=one.choice((4, 7, 8, 8, 16)),
        )
        multiplications = 27 * case.ins * case.outs * case.clips * case.frames * case.size**2 / (1 if case.stride == 1 else 4)
        if 1e8 < multiplications < 4e9:
            found.append((case, one.choice((1, 2, 2, 3, 3)), one.random() < 1 / 3))
    return found


def measured(case: Case, count: int, frozen: bool, learning: bool) -> dict[str, Any]:
    """Milliseconds of both forms, forward or both ways; which of them "auto" takes, and how much longer than the better."""
    module = STDCFConv3d(case.ins, case.outs, **case.options, temporal_atoms=count).to(memory_format=LAST).train(learning)
    module.requires_grad_(learning)
    if learning and frozen:
        module.freeze("temporal")
    x = torch.rand(case.shape).to(memory_format=LAST).requires_grad_(learning)
    learned = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)] if learning else []
    taken = chosen(module, x)
    gradient = torch.ones_like(module(x))

    def by(form: str) -> Callable[[], None]:
        def run() -> None:
            module.evaluation = form
            y = module(x)
            if learning:
                torch.autograd.grad(y, learned, gradient)

        return run

    times = medians({form: by(form) for form in ("atoms", "filters")}, ROUNDS)
    return {"ms": times, "auto": taken, "over the better": round(times[taken] / min(times.values()), 2)}


def main() -> None:
    results: dict[str, Any] = {"machine": machine()}
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for case, count, frozen in drawn(SEED, COUNT):
            torch.manual_seed(0)
            stride = "" if case.stride == 1 else ", halved"
            title = f"{case.ins} to {case.outs}{stride}, {case.clips}×{case.frames}×{case.size}², N={count}"
            for learning in (False, True):
                what = "both, φ frozen" if learning and frozen else "both" if learning else "forward"
                results[f"{title}, {what}, {threads} threads"] = measured(case, count, frozen, learning)
    keep({"Choices": results})


if __name__ == "__main__":
    main()
