"""Little videos of two gestures: a bright bar that goes up, or down."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))  # for `warm` and `itsl_job`

GESTURES = ("down", "up")


@pytest.fixture(scope="session")
def own_videos() -> Callable[[Path, int], Path]:
    """Writes `down/0.mp4`, … and `up/0.mp4`, …, so many of each, 10 and more frames of 64 × 48, into a folder."""

    def write(folder: Path, count: int) -> Path:
        for way in GESTURES:
            (folder / way).mkdir(parents=True)
            for number in range(count):
                with av.open(str(folder / way / f"{number}.mp4"), "w") as container:
                    stream: Any = container.add_stream("mpeg4", rate=25)
                    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                    for time in range(10 + number):
                        picture = np.full((48, 64), 16 * number, np.uint8)
                        top = 4 * time % 40
                        picture[top : top + 8] = 255
                        picture = picture if way == "down" else np.ascontiguousarray(picture[::-1])
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
                    container.mux(stream.encode())
        return folder

    return write
