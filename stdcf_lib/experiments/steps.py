"""What training R50 costs on the machine at hand, and whether it is right there: `make gpu` measures and keeps it.

One record a device in `runs/itsl_steps/`, made through the code that trains, on clips of noise: time, clips a second and peak
memory of a step at full size, in stage-t and in stage-s, for each family, with as many clips at a time as fit on a GPU (on a
CPU one of full size, or as many of a stage's as have its voxels); the hours that ITSL and full-size training would take on
Kinetics-400; how far each form of a layer is from float64; what a layer takes beside its peers; whether a run that is killed
ends as an unbroken one; and what `torch.compile` makes of a step. On a GPU in bfloat16.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from math import fsum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.experiments.layers import measured
from stdcf_lib.itsl import Recipe, Stage, schedule
from stdcf_lib.itsl.command import parse, training_of
from stdcf_lib.itsl.log import logged
from stdcf_lib.itsl.plan import StandIn, hours, plan
from stdcf_lib.itsl.run import Training
from stdcf_lib.models import stdcf_r50
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.runs import Run, machine, runs_folder
from stdcf_lib.train import peak_bytes

GIB = 2**30


def measure_step(kind: str, stage: Stage, batch: int, steps: int = 2, compile: bool = False) -> dict[str, Any]:
    """Train R50 for a few steps, after one that is not counted: seconds a step, clips a second, peak memory.

    On a GPU the peak is that of the tensors; on a CPU that of the whole process, which must be a fresh one.
    """
    on_gpu = torch.cuda.is_available()
    clips = StandIn(batch, stage.frames, stage.size)
    training = Training(
        stdcf_r50(kind=kind), [stage], lambda _: (clips, clips), None, Recipe(batch), prepare=torch.Tensor.float,
        accelerator=Accelerator(mixed_precision="bf16" if on_gpu else "no"), log_every=None, progress=False,
        compile=compile,
    )  # fmt: skip
    found = training.rehearse(0, steps=steps)
    peak = found["memory_gib"] if on_gpu else peak_bytes() / GIB
    return {
        "kind": kind, "stage": stage.name, "batch": batch, "seconds": round(found["seconds"], 4),
        "clips_per_second": round(batch / found["seconds"], 4), "peak_gib": round(peak, 3),
    }  # fmt: skip


def largest_batch(kind: str, stage: Stage, on_cpu: int = 1) -> dict[str, Any]:
    """`measure_step` with as many clips as fit on the GPU, tried downwards from what is counted; on a CPU with so many, in a
    fresh process. `counted_gib` is what the plan says of that batch: what is kept for backward, and weights with optimiser."""
    on_gpu = torch.cuda.is_available()
    model = stdcf_r50(kind=kind)

    def counted(batch: int) -> dict[str, Any]:
        return plan(model, [stage], "keep", batch, "bf16" if on_gpu else "no")[0]

    if not on_gpu:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(measure_step, kind, stage, on_cpu).result()
    else:
        room = torch.cuda.get_device_properties(0).total_memory
        # Workspaces are not counted. And cuDNN searches anew for every number of clips, which takes longer than the steps: so
        # the first is to fit, and families of nearly the same needs are to have the same.
        batch = _rounded(0.94 * counted(64)["fits"] * room / 80e9)
        while True:
            try:
                found = measure_step(kind, stage, batch)
                break
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch = _rounded(batch * 15 / 16)
            torch.cuda.empty_cache()
        torch.cuda.empty_cache()
    state = 3 * 4 * sum(p.numel() for p in model.parameters()) / GIB
    return found | {"counted_gib": round(counted(found["batch"])["batch_gib"] + state, 3)}


def _rounded(clips: float) -> int:
    return max(1, int(clips) // 16 * 16 if clips >= 32 else int(clips))


def schedules(frames: int, size: int) -> list[dict[str, Any]]:
    """How long Kinetics-400 would take by ITSL, its batches enlarged and as they are, and at full size for as much compute;
    with the atoms of Table C, 3×3×3 throughout."""
    rows = []
    for title, words in {"ITSL": "", "ITSL, batches as they are": "--enlarge 1", "full size": "--direct"}.items():
        precision = "bf16" if torch.cuda.is_available() else "no"
        line = f"kinetics400 --plan --swap keep --frames {frames} --size {size} --precision {precision} {words}"
        training = training_of(parse(line.split())[0])
        found = hours(training)
        clips = sum(
            training.steps(s, pair[0]) * training.batch(s) for s, pair in zip(training.stages, training.sets, strict=True)
        )
        spent = {name: fsum(row[name] for row in found) for name in ("training_hours", "validation_hours")}
        rows.append({"title": title, "clips_per_second": clips / spent["training_hours"] / 3600, **spent, "stages": found})
    return rows


def forms() -> dict[str, float]:
    """How far each form of a layer is from float64 on a CPU, at this device in float32: the largest error of the output and of
    all gradients, over their largest value."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    errors: dict[str, float] = {}
    precise = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        for evaluation in ("filters", "atoms"):
            cases: list[dict[str, Any]] = [
                {},
                {"stride": (1, 2, 2)},
                {"dilation": (2, 1, 1), "padding": (2, 1, 1)},
                {"groups": 4},
            ]
            for options in cases:
                torch.manual_seed(0)
                options = {"padding": 1, "evaluation": evaluation} | options
                layer = STDCFConv3d(8, 16, 3, **options).double()
                x, found = torch.randn(2, 8, 6, 14, 14, dtype=torch.float64), []
                for where, dtype in (("cpu", torch.float64), (device, torch.float32)):
                    layer, y = layer.to(where, dtype), x.to(where, dtype).requires_grad_()
                    output = layer(y)
                    gradients = torch.autograd.grad((output**2).sum(), (y, *layer.parameters()))
                    found.append([part.detach().cpu().double() for part in (output, *gradients)])
                error = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*found, strict=True))
                errors[evaluation] = max(errors.get(evaluation, 0.0), error)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = precise
    return errors


def killed_and_resumed() -> dict[str, Any]:
    """Kill a small run in its middle and take it up again: how far its weights are from those of an unbroken one, over their
    largest, and at which step it was killed."""
    words = "noise --small --frames 4 --size 32 --batch-size 4 --workers 0 --epochs 2 --final-epochs 2 --dropout 0".split()
    words += ["--save-minutes", "0", "--log-every", "1"]
    reached = 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch, name) for name in ("unbroken", "killed")}
        for name, folder in folders.items():
            command = [sys.executable, "-m", "stdcf_lib.itsl", *words, "--folder", str(folder)]
            if name == "killed":
                going = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                while going.poll() is None and (reached := len(logged(folder))) < 20:
                    time.sleep(0.01)
                going.send_signal(signal.SIGKILL)
                going.wait()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        a, b = (Run(folder).weights for folder in folders.values())
        difference = max(((a[name] - b[name]).abs().max() / a[name].abs().max().clamp_min(1e-12)).item() for name in a)
    return {"killed_after_lines": reached, "largest_difference": difference}


def records() -> list[dict]:
    """The kept records, those of GPUs first."""
    found = [json.loads(path.read_text()) for path in sorted((runs_folder() / "itsl_steps").glob("*.json"))]
    return sorted(found, key=lambda record: record["machine"]["device"].startswith(("AMD", "Intel")))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the training of R50 on this machine and keep the record.")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    t, s, full = schedule(1, arguments.frames, arguments.size)
    stages = (Stage("full", full.frames, full.size), Stage("stage-t", t.frames, t.size, t.frozen),
              Stage("stage-s", s.frames, s.size, s.frozen))  # fmt: skip
    about = machine()
    record: dict[str, Any] = {
        "frames": arguments.frames, "size": arguments.size, "precision": "bf16" if torch.cuda.is_available() else "float32",
        "machine": about, "steps": [],
    }  # fmt: skip
    name = re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")

    def keep(**more: Any) -> None:
        """After every part, as a machine may be taken away."""
        record.update(more)
        Run(runs_folder() / "itsl_steps").keep(f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
        print({name: value[-1] if isinstance(value, list) else value for name, value in more.items()}, flush=True)

    keep(forms=forms())
    keep(layers=measured(32 if torch.cuda.is_available() else 1))
    keep(resumed=killed_and_resumed())
    keep(schedules=schedules(arguments.frames, arguments.size))
    for kind in KINDS:
        for stage in stages:
            same_voxels = full.frames * full.size**2 // (stage.frames * stage.size**2)
            keep(steps=[*record["steps"], largest_batch(kind, stage, same_voxels)])
    if torch.cuda.is_available():
        keep(compiled=[measure_step(kind, stages[0], 64, compile=True) for kind in ("full", "stdcf")])


if __name__ == "__main__":
    main()
