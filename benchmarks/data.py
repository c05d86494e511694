"""What stands before a network: TR-MNIST against scipy, videos against bare PyAV, and the import of the library.

`python -m benchmarks.data` prints and records them.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from scipy import ndimage

from benchmarks.layers import medians
from benchmarks.record import keep
from stdcf_lib.data import TRMNIST
from stdcf_lib.data.kinetics import Kinetics
from stdcf_lib.data.mnist import mnist
from stdcf_lib.runs import machine

CLIPS, FRAMES, SIZE = 500, 8, 28
VIDEOS, LENGTH, HEIGHT, WIDTH = 6, 90, 256, 340


def by_scipy() -> np.ndarray:
    """As many clips of two digits as `TRMNIST` makes for the comparison, rotated, shifted and pasted one by one by scipy."""
    images, _ = mnist("test")
    pictures, random = images.numpy().astype(np.float32), np.random.default_rng(0)
    clips = np.zeros((CLIPS, FRAMES, SIZE, SIZE), np.float32)
    for clip in clips:
        for picture in pictures[random.integers(0, len(pictures), 2)]:
            place, step, turn = random.uniform(-4, 4, 2), random.uniform(-3, 3, 2), random.choice((-45, 45))
            for t, frame in enumerate(clip):
                turned = ndimage.rotate(picture, turn * t, reshape=False, order=1)
                frame[:] = np.maximum(frame, ndimage.shift(turned, place + t * step, order=1))
    return clips.round().astype(np.uint8)


def rendering() -> dict[str, float]:
    """Milliseconds that so many clips of TR-MNIST take."""
    TRMNIST("test", clips=CLIPS)  # reads MNIST
    return medians({"scipy": by_scipy, "TRMNIST": lambda: TRMNIST("test", clips=CLIPS)}, rounds=5)


def _write(path: Path, seed: int) -> None:
    """A video of moving noise that looks to a decoder like one of Kinetics, with a short side of 256."""
    random = np.random.default_rng(seed)
    still = ndimage.gaussian_filter(random.normal(size=(HEIGHT + LENGTH, WIDTH + LENGTH, 3)), (6, 6, 0))
    still = (128 + 60 * still / still.std()).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(LENGTH):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(still[k : k + HEIGHT, k // 2 : k // 2 + WIDTH]), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def bare(path: Path, numbers: list[int]) -> np.ndarray:
    """What one would write: decode from the beginning, keep the frames that are asked for, at full size, on one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        found = []
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                found.append(frame.to_ndarray(format="rgb24"))
            if number == numbers[-1]:
                return np.stack(found)
    raise ValueError(f"{path} has fewer frames than {numbers[-1] + 1}")


def loading() -> dict[str, float]:
    """Clips a second, the middle 8 frames with a stride of 8, in one process: as `Kinetics` loads them at two sizes, and as
    PyAV alone decodes the very same frames."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.mp4") for number in range(VIDEOS)]
        for seed, path in enumerate(paths):
            _write(path, seed)
        listed = Path(folder, "list.txt")
        listed.write_text("".join(f"{path.name} 0\n" for path in paths))
        start = (LENGTH - 57) // 2
        numbers = list(range(start, start + 57, 8))

        def loaded(size: int) -> Callable[[], list]:
            data = Kinetics(listed, folder, training=False, views=(1, 1), size=size).as_bytes()
            return lambda: [data[i] for i in range(VIDEOS)]

        ways: dict[str, Callable[[], Any]] = {"PyAV alone": lambda: [bare(path, numbers) for path in paths]}
        times = medians(ways | {f"Kinetics, {size}²": loaded(size) for size in (224, 112)})
    return {name: round(1e3 * VIDEOS / milliseconds, 1) for name, milliseconds in times.items()}


def imports() -> dict[str, float]:
    """Seconds of a process that imports, in turn."""
    times: dict[str, list[float]] = {"torch": [], "stdcf_lib": []}
    for _ in range(5):
        for name, seen in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
            seen.append(time.perf_counter() - start)
    return {name: round(statistics.median(seen), 2) for name, seen in times.items()}


def main() -> None:
    torch.manual_seed(0)
    results: dict[str, Any] = {"machine": machine()}
    results[f"{CLIPS} clips of TR-MNIST, ms"] = rendering()
    results["clips a second from videos of 340×256"] = loading()
    results["import, s"] = imports()
    keep({"Data": results})


if __name__ == "__main__":
    main()
