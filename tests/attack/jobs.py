"""What is killed and starved: what the library does, in the folder in which it is called, going on where it was stopped."""

import os
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn
from torch.multiprocessing.spawn import start_processes

from stdcf_lib.convert import save, to_stdcf
from stdcf_lib.convert.command import main as convert
from stdcf_lib.data.shrink import main as shrink
from stdcf_lib.experiments.pool import work_off
from stdcf_lib.itsl.command import main as itsl
from stdcf_lib.runs import Run
from tests.attack.processes import ROOT, files, half_written
from tests.itsl import itsl_job


def train_alone(which: str = "with dropout", **options: Any) -> None:
    network = itsl_job.network(dropout=0.5) if which == "with dropout" else itsl_job.network(dropout=0.0, normalised=False)
    itsl_job.fit(network, Path("run"), **options)


def train_together(processes: int = 2, **options: Any) -> None:
    """As many processes train one network, all forks of this one. Where one fails the others are ended, as launchers do: they
    would wait half an hour for one that was to meet them."""
    start_processes(_one_of, (processes, itsl_job.free_port(), options), processes, start_method="fork")


def _one_of(rank: int, processes: int, port: int, options: dict[str, Any]) -> None:
    itsl_job.place(rank, processes, port)
    train_alone(**options)


def trial(name: str) -> str:
    """What the pool is given to do."""
    itsl_job.fit(itsl_job.network(), Path(name))
    return f"{name}: trained"


def pool() -> None:
    if failed := work_off(trial, ["a", "b", "c"], 2):
        sys.exit(f"failed: {', '.join(failed)}")


def keep_again_and_again() -> None:
    """Checkpoints and weights over those before, all of one number."""
    run, model = Run("run"), nn.Linear(300, 300)
    for number in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(number)
        run.save({"model": model.state_dict()}, [{"number": number}])
        run.finish(model, [{"number": number}])


def kept_alike(folder: Path) -> list[str]:
    """A file is of one number, or it is of two writings."""
    faults = half_written(folder)
    run = Run(folder / "run")
    state = run.restore()
    kept = [run.weights] if run.finished else []
    kept += [state[0]["model"] | {"metrics": torch.tensor(float(state[1][0]["number"]))}] if state else []
    return faults + [
        f"{one.keys()} are of several writings" for one in kept if len({float(x.amax()) for x in one.values()}) > 1
    ]


def convert_again_and_again() -> None:
    torch.manual_seed(0)
    network, _ = to_stdcf(nn.Sequential(nn.Conv3d(32, 128, 3), nn.Conv3d(128, 128, 3)), 4, 2)
    for _ in range(20):
        save(network, "net.safetensors")


NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv3d(64, 64, 3, padding=1), nn.ReLU())

def clips():
    return torch.rand(22, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
"""


def write_network(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(NETWORK)


def convert_by_command() -> None:
    if not Path("net.safetensors").exists():  # which the command refuses to write over, and says so
        convert("mine.py:net --input 1 1 4 8 8 --clips mine.py:clips --epochs 1 --output net.safetensors".split())


def write_videos(folder: Path) -> None:
    (folder / "videos" / "a").mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 12, 16, 3), np.uint8).repeat(10, 1).repeat(10, 2)
    for name in ("a/0", "a/1", "2", "3"):
        with av.open(str(folder / "videos" / f"{name}.avi"), "w") as container:
            stream: Any = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for number in range(96):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[number % 8], format="rgb24")))
            container.mux(stream.encode())
    (folder / "videos" / "train.txt").write_text("a/0.avi 0\n2.avi 1\n")


def shrink_videos() -> None:
    sys.argv = ["shrink", "videos", "small", "--short-side", "60", "--jobs", "2"]
    shrink()


def small_videos(folder: Path) -> list[str]:
    return half_written(folder / "small") if (folder / "small").exists() else []


def itsl_command() -> None:
    words = "noise --small --frames 4 --size 32 --batch-size 8 --epochs 1 --final-epochs 1 --workers 0 --quiet --save-minutes 0"
    itsl([*words.split(), "--folder", "run"])


def build_book() -> None:
    os.execv(sys.executable, [sys.executable, "-m", "sphinx", *BOOK, "-d", str(Path("doctrees").absolute()), str(ROOT), "html"])


BOOK = ["--fail-on-warning", "--quiet", "-c", str(ROOT / "book")]


def pages(folder: Path) -> dict[str, Any]:
    """What a reader is given."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder / "html") if path.name != ".buildinfo"}
