"""A video whose every frame says its number."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

BITS = 10


def numbered_frame(number: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Stripes, black for 0 and white for 1: the number's bits, the highest on the left. They survive compression."""
    bits = [number >> i & 1 for i in reversed(range(BITS))]
    return np.tile(np.repeat(np.array(bits, np.uint8) * 255, width // BITS), (height, 1))


@pytest.fixture(scope="session")
def numbers() -> Callable[[np.ndarray], list[int]]:
    """The numbers of decoded frames (T, H, W)."""

    def read(frames: np.ndarray) -> list[int]:
        width = frames.shape[2] // BITS
        bits = frames[:, frames.shape[1] // 2, width // 2 :: width][:, :BITS] > 127
        return [int("".join("01"[bit] for bit in row), 2) for row in bits.astype(int)]

    return read


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Writes `count` frames, as MPEG-4 if no other, at 25 a second, or each at its own time (in periods) if times are given."""

    def write(
        path: Path,
        count: int,
        times: Iterable[int] | None = None,
        first: int = 0,
        height: int = 120,
        width: int = 160,
        key_frames_every: int = 12,
        b_frames: int = 0,
        codec: str = "mpeg4",
        title: str = "",
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            container.metadata["title"] = title
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 2_000_000
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = key_frames_every, b_frames
            for number, time in enumerate(range(count) if times is None else times):
                frame = av.VideoFrame.from_ndarray(numbered_frame(first + number, height, width), format="gray")
                frame.pts, frame.time_base = time, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
