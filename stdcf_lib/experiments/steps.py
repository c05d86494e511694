"""What a training step of R50 costs on the machine at hand: `python -m stdcf_lib.experiments.steps` measures and keeps it.

One record a device in `runs/itsl_steps/`: time, clips a second and peak memory of a step at full size, in stage-t and in
stage-s, for each family. On a GPU with as many clips at a time as fit, in bfloat16; on a CPU with one, in float32.
"""

import argparse
import json
import re
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch.nn import functional as F

from stdcf_lib.itsl import AtomSwap, Stage, schedule
from stdcf_lib.models import stdcf_r50
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.runs import Run, machine, runs_folder

GIB = 2**30


def measure_step(kind: str, stage: Stage, batch: int, steps: int = 2) -> dict[str, float | str | int]:
    """Train R50 for a few steps on noise, after one that is not counted: seconds a step, clips a second, peak memory.

    On a GPU the peak is that of the tensors; on a CPU that of the whole process, which must be a fresh one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = stdcf_r50(kind=kind).to(device).to(memory_format=torch.channels_last_3d)
    AtomSwap(model, stage).to(stage)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    clips = torch.rand(batch, 3, stage.frames, stage.size, stage.size, device=device)
    clips, labels = clips.contiguous(memory_format=torch.channels_last_3d), torch.arange(batch, device=device)
    seconds = []
    for _ in range(1 + steps):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(clips)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    step = sorted(seconds[1:])[steps // 2]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes, on Linux
    return {
        "kind": kind, "stage": stage.name, "batch": batch, "seconds": round(step, 4),
        "clips_per_second": round(batch / step, 4), "peak_gib": round(peak / GIB, 3),
    }  # fmt: skip


def largest_batch(kind: str, stage: Stage) -> dict[str, float | str | int]:
    """`measure_step` with as many clips as fit on the GPU, to within a sixteenth; with one on a CPU."""
    best = alone(kind, stage, 1)
    if not torch.cuda.is_available():
        return best
    fits, fails = 1, None
    while fails is None or fails - fits > max(1, fits // 16):
        batch = 2 * fits if fails is None else (fits + fails) // 2
        try:
            best, fits = alone(kind, stage, batch), batch
        except torch.OutOfMemoryError:
            fails = batch
    return best


def alone(kind: str, stage: Stage, batch: int) -> dict[str, float | str | int]:
    """`measure_step` in a process of its own. Raises torch.OutOfMemoryError where the GPU's memory is too small."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_step, kind, stage, batch).result()


def records() -> list[dict]:
    """The kept records, those of GPUs first."""
    found = [json.loads(path.read_text()) for path in sorted((runs_folder() / "itsl_steps").glob("*.json"))]
    return sorted(found, key=lambda record: record["machine"]["device"].startswith(("AMD", "Intel")))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training steps of R50 on this machine and keep the record.")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    t, s, full = schedule(1, arguments.frames, arguments.size)
    stages = (Stage("full", full.frames, full.size), Stage("stage-t", t.frames, t.size, t.frozen),
              Stage("stage-s", s.frames, s.size, s.frozen))  # fmt: skip
    rows = []
    for kind in KINDS:
        for stage in stages:
            rows.append(largest_batch(kind, stage))
            print(rows[-1], flush=True)
    about = machine()
    record = {
        "frames": arguments.frames, "size": arguments.size, "precision": "bf16" if torch.cuda.is_available() else "float32",
        "machine": about, "steps": rows,
    }  # fmt: skip
    name = re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")
    Run(runs_folder() / "itsl_steps").keep(f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
