"""One layer at a time against its peers: the 3D convolutions of Tables B and C, two of Table A, and others
that are strided, dilated, transposed, thin or small.

`python -m benchmarks.layers [CASE …]` prints and records milliseconds by form, of all cases or of those named, and what
`evaluation="auto"` makes of all.
"""

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import Conv2Plus1D

from benchmarks.record import RECORD, keep
from stdcf_lib import Rank1Conv3d, STDCFConv3d, STDCFConvTranspose3d, forms
from stdcf_lib.runs import machine

ROUNDS, PASSES = 20, 5
LAST = torch.channels_last_3d


class Case(NamedTuple):
    """A convolution and what it meets: clips × frames × size²."""

    ins: int
    outs: int
    size: int
    stride: Any = 1
    kernel: tuple[int, int, int] = (3, 3, 3)
    dilation: Any = 1
    clips: int = 2
    frames: int = 8
    transposed: bool = False

    @property
    def options(self) -> dict[str, Any]:
        dilation = self.dilation if isinstance(self.dilation, tuple) else (self.dilation,) * 3
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, self.kernel, strict=True))
        return {"kernel_size": self.kernel, "stride": self.stride, "padding": padding, "dilation": self.dilation, "bias": False}

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.clips, self.ins, self.frames, self.size, self.size)


CASES = {
    "C: res2": Case(64, 64, 56),
    "C: res3, first": Case(128, 128, 56, (1, 2, 2)),
    "C: res3": Case(128, 128, 28),
    "C: res4, first": Case(256, 256, 28, (1, 2, 2)),
    "C: res4": Case(256, 256, 14),
    "C: res5, first": Case(512, 512, 14, (1, 2, 2)),
    "C: res5": Case(512, 512, 7),
    "B: conv1": Case(1, 16, 70, kernel=(5, 3, 3), frames=16),
    "B: conv2": Case(16, 32, 35, kernel=(5, 3, 3), frames=16),
    "B: conv3": Case(32, 64, 17, clips=8),
    "A: conv2": Case(4, 8, 14, 2, clips=64, frames=4),
    "A: deconv1": Case(8, 4, 7, 2, clips=64, frames=2, transposed=True),
    "32 to 32": Case(32, 32, 56),
    "48 to 48": Case(48, 48, 28),
    "32 to 64, halved": Case(32, 64, 14, (1, 2, 2), clips=16, frames=16),
    "64 to 64, halved": Case(64, 64, 7, (1, 2, 2), clips=64, frames=16),
    "64 to 128": Case(64, 128, 28),
    "64, one clip": Case(64, 64, 56, clips=1),
    "64, small": Case(64, 64, 7),
    "128, tempo 2": Case(128, 128, 28, dilation=(2, 1, 1)),
    "128, half the frames": Case(128, 128, 28, (2, 1, 1)),
    "96, 5×3×3": Case(96, 96, 28, kernel=(5, 3, 3)),
    "128, 1×3×3": Case(128, 128, 28, kernel=(1, 3, 3)),
    "128, odd frames": Case(128, 128, 28, frames=7),
    "128, transposed": Case(128, 128, 28, transposed=True),
    "256, one frame left": Case(256, 256, 14, frames=2, clips=8),
}


_ORDER = random.Random(0)


def medians(ways: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds each way takes, round after round, as a machine's speed drifts; the first round is not counted. Each round
    has an order of its own, as one way leaves caches and memory to the next."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name in _ORDER.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(seen[1:]), 2) for name, seen in times.items()}


def in_passes(
    titles: Iterable[str], measured: Callable[[str], dict[str, dict[str, float]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """What `measured` finds by name, for each title with two threads and with one.

    All are visited in each of `PASSES`, as where a machine is shared its speed drifts within minutes by more than two ways may
    differ. Milliseconds are the medians of the passes, of which each is kept under "passes".
    """
    seen: dict[str, list[dict[str, dict[str, float]]]] = defaultdict(list)
    for number in range(PASSES):
        for threads in (2, 1):
            torch.set_num_threads(threads)
            for title in titles:
                torch.manual_seed(0)
                seen[f"{title}, {threads} threads"].append(measured(title))
                print(f"pass {number + 1} of {PASSES}, {title}, {threads} threads", flush=True)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for title, passes in seen.items():
        rows = found[title] = {}
        for name, row in passes[-1].items():
            times = {what: [one[name][what] for one in passes] for what in row if what.endswith("ms")}
            rows[name] = row | {what: statistics.median(times[what]) for what in times} | {"passes": times}
    return found


def peers(case: Case) -> dict[str, nn.Module]:
    """What a case is computed by, by name; `last` says that channels are last in memory."""
    options = case.options
    conv, joint = (nn.ConvTranspose3d, STDCFConvTranspose3d) if case.transposed else (nn.Conv3d, STDCFConv3d)
    found: dict[str, nn.Module] = {
        "Conv3d": conv(case.ins, case.outs, **options),
        "Conv3d, last": conv(case.ins, case.outs, **options).to(memory_format=LAST),
    }
    for count in range(min(2, case.kernel[0]), min(3, case.kernel[0]) + 1):
        for form in ("filters", "atoms"):
            found[f"STDCF N={count}, {form}"] = joint(case.ins, case.outs, **options, temporal_atoms=count, evaluation=form)
    if not case.transposed and case.kernel[0] > 1:
        frozen = joint(case.ins, case.outs, **options, temporal_atoms=2, evaluation="atoms")
        frozen.freeze("temporal")
        found["STDCF N=2, atoms, φ frozen"] = frozen
        found["rank-1"] = Rank1Conv3d(case.ins, case.outs, **options).to(memory_format=LAST)
    if case.kernel == (3, 3, 3) and case.dilation == 1 and case.stride == 1 and not case.transposed:
        middle = Conv2Plus1D(case.ins, case.outs, (case.ins * case.outs * 27) // (case.ins * 9 + 3 * case.outs))
        found["Conv2Plus1D"] = middle.to(memory_format=LAST)
    return found


def kept(module: nn.Module, x: Tensor) -> int:
    """Bytes kept for the backward pass, parameters left out: of a real pass, as `cost` counts Eq. 2 as written."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = module(x.clone(memory_format=torch.preserve_format).requires_grad_())
    del y
    return sum(size for place, size in found.items() if place not in own)


def measured(case: Case) -> dict[str, Any]:
    """Milliseconds forward, and forward and backward, of each peer; and the bytes it keeps."""
    modules = peers(case)
    x = torch.rand(case.shape)
    inputs = {name: x if name == "Conv3d" else x.to(memory_format=LAST) for name in modules}

    def forward(name: str) -> Callable[[], Any]:
        module, x = modules[name].eval(), inputs[name]

        def run() -> None:
            with torch.no_grad():
                module(x)

        return run

    def both(name: str) -> Callable[[], Any]:
        module, x = modules[name], inputs[name].clone(memory_format=torch.preserve_format).requires_grad_()
        learning: list[Tensor] = [x, *(p for p in module.parameters() if p.requires_grad)]
        gradient = torch.ones_like(module(x))

        def run() -> None:
            torch.autograd.grad(module(x), learning, gradient)

        return run

    rounds = ROUNDS // PASSES
    one = medians({name: forward(name) for name in modules}, rounds)
    two = medians({name: both(name) for name in modules}, rounds)
    return {
        name: {"forward, ms": one[name], "both, ms": two[name], "kept, MB": round(kept(m, inputs[name]) / 1e6, 1)}
        for name, m in modules.items()
    }


def chosen(module: Any, x: Tensor) -> str:
    """The form that "auto" takes for a layer and its input."""
    way = forms.Way(module.stride, module.padding, module.dilation)
    return "atoms" if forms.quicker(x, module.alpha, module.psi, module.phi, way, module.transposed) else "filters"


def judged(found: dict[str, Any], case: Case) -> list[dict[str, Any]]:
    """What "auto" chooses, and how much longer that takes than the better form; "in every pass" at least so much."""
    rows = []
    module: Any
    for name, module in peers(case).items():
        if "atoms" not in name:
            continue
        frozen = "frozen" in name  # its forward pass is that of the free one, and judged there
        for what, learning in (("both, ms", True),) if frozen else (("forward, ms", False), ("both, ms", True)):
            x = torch.empty(case.shape).to(memory_format=LAST).requires_grad_(learning)
            module.requires_grad_(learning)
            if frozen:
                module.freeze("temporal")
            taken = chosen(module, x)
            filters = name.replace("atoms", "filters").removesuffix(", φ frozen")
            times = {"atoms": found[name][what], "filters": found[filters][what]}
            passes = zip(found[name]["passes"][what], found[filters]["passes"][what], strict=True)
            least = min((one if taken == "atoms" else two) / min(one, two) for one, two in passes)
            rows.append({"layer": name.replace(", atoms", ""), "what": what, "auto": taken,
                         "ratio": round(times["atoms"] / times["filters"], 2),
                         "over the better": round(times[taken] / min(times.values()), 2),
                         "in every pass": round(least, 2)})  # fmt: skip
    return rows


def main(names: Sequence[str] = tuple(CASES)) -> None:
    """Measure cases by name; what is known of the others stays."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))["Layers"]
    times = {title: row["ms"] for title, row in record.items() if title != "machine"}
    times |= in_passes(names, lambda title: measured(CASES[title]))
    results: dict[str, Any] = {"machine": machine()}
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for name, case in CASES.items():
            found = times[title := f"{name}, {threads} threads"]
            results[title] = {"case": case._asdict(), "ms": found, "auto": judged(found, case)}
            base = min(found[name]["both, ms"] for name in ("Conv3d", "Conv3d, last"))
            first = min(found[name]["forward, ms"] for name in ("Conv3d", "Conv3d, last"))
            print(f"{title}: Conv3d {first} / {base} ms; ", "; ".join(
                f"{name} {row['forward, ms'] / first:.2f} / {row['both, ms'] / base:.2f}" for name, row in found.items()
                if not name.startswith("Conv3d")), flush=True)  # fmt: skip
    keep({"Layers": results})


if __name__ == "__main__":
    words = argparse.ArgumentParser("benchmarks.layers", description=__doc__)
    words.add_argument("cases", nargs="*", metavar="CASE", help=f"of {'; '.join(CASES)}; all without any")
    cases = words.parse_args().cases
    if unknown := sorted(set(cases) - set(CASES)):
        words.error(f"unknown {'; '.join(unknown)}; known are {'; '.join(CASES)}")
    main(cases or tuple(CASES))
