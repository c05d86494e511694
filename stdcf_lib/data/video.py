"""Video into arrays, the one place that decodes: AVI, MP4, QuickTime, Matroska and WebM by PyAV (FFmpeg); folders of JPEGs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

# Without a list FFmpeg takes a text file for a video of text, and follows a playlist to other files and hosts.
CONTAINERS = "avi,mov,matroska"


class VideoError(ValueError):
    """A video file that is damaged, truncated, too short, or no video; the message names it."""


class _Opened(NamedTuple):
    path: str | Path
    container: av.container.InputContainer
    stream: av.VideoStream


def decode_gray(path: str | Path) -> np.ndarray:
    """All frames of a video as gray: uint8 (T, H, W), black 0 and white 255.

    Raises VideoError for a file that is no video, damaged, or holds fewer frames than its header promises (a Matroska
    file promises none, and may end early unseen); FileNotFoundError for a missing one. Both name the file.
    """
    with _open(path) as video:
        return np.stack([frame.to_ndarray(format="gray") for frame in _frames(video)])


def decode(
    path: str | Path,
    start: int = 0,
    frames: int | None = None,
    stride: int = 1,
    short_side: int | None = None,
    hold: bool = False,
) -> np.ndarray:
    """Frames start, start + stride, … of a video in RGB: uint8 (frames, H, W, 3).

    Frame i is what is on show i periods of the average frame rate after the first frame, so that a stride is the same
    time everywhere in a video of varying rate. Decoding begins at the key frame before `start`; an AVI stores no
    times, so there the frames are counted from the first one.

    path: the file.
    start: the first frame, counted from 0.
    frames: how many; None for all to the end.
    stride: in frames, at least 1.
    short_side: pixels of the shorter side after resizing at the same aspect ratio (bilinear over the area that a
        pixel covers); None for the size in the file.
    hold: whether a video that ends before the last frame asked for goes on showing its own last one.

    Raises VideoError as `decode_gray` does (but a fault outside the frames needed goes unseen), and where the video
    ends before the last frame asked for, or if it is to hold, before the first; ValueError for an argument out of range.
    """
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    for name, value in (("frames", frames), ("stride", stride), ("short_side", short_side)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    with _open(path) as video:
        size = _size(video.stream, short_side)
        chosen: list[np.ndarray] = []
        shown, last = None, -1
        for last, frame in _numbered(video, start):
            # More than one falls due at once where a frame stays on show for longer than a period.
            while (due := start + stride * len(chosen)) <= last and len(chosen) != frames:
                now = frame if due == last or shown is None else shown
                chosen.append(now.to_ndarray(format="rgb24", interpolation="BILINEAR", **size))
            if len(chosen) == frames:
                break
            shown = frame
        if hold and chosen and frames is not None:
            while len(chosen) < frames:
                chosen.append(shown.to_ndarray(format="rgb24", interpolation="BILINEAR", **size))
    if not chosen or (frames is not None and len(chosen) < frames):
        wanted = start if frames is None else start + stride * (frames - 1)
        raise VideoError(f"{path} is too short: it ends with frame {last}, counted from 0, and frame {wanted} is asked for")
    return np.stack(chosen)


def frame_count(path: str | Path) -> int:
    """How many frames a video promises, without decoding it: by its header, or by its duration and rate.

    Raises VideoError for a file that is no video or says neither; FileNotFoundError for a missing one.
    """
    with _open(path) as video:
        stream, container = video.stream, video.container
        if stream.frames:
            return stream.frames
        if container.duration and stream.average_rate:
            return max(1, round(container.duration / av.time_base * stream.average_rate))
        raise VideoError(f"{path} says neither how many frames it has nor how long it is")


def jpeg_count(folder: str | Path) -> int:
    """How many frames a folder of `00001.jpg`, `00002.jpg`, … has. Raises VideoError if none, or if it is no folder."""
    count = sum(name.endswith(".jpg") for name in os.listdir(folder)) if os.path.isdir(folder) else 0
    if not count:
        raise VideoError(f"{folder} is no folder with frames 00001.jpg, 00002.jpg, …")
    return count


def decode_jpegs(folder: str | Path, numbers: Sequence[int], short_side: int | None = None) -> np.ndarray:
    """Frames of a folder of `00001.jpg`, `00002.jpg`, … in RGB: uint8 (frames, H, W, 3).

    numbers: which, counted from 0.
    short_side: as for `decode`.

    Raises VideoError for a frame that is missing, damaged, or of another size than the first; it names the file.
    """
    frames: list[np.ndarray] = []
    for number in numbers:
        path = Path(folder, f"{number + 1:05d}.jpg")
        try:
            with Image.open(path, formats=["JPEG"]) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError) as error:  # Pillow raises either for a damaged file
            raise VideoError(f"{path} is missing, or no whole JPEG: {error}") from error
        if short_side is not None:
            scale = short_side / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        frames.append(np.asarray(image))
        if frames[-1].shape != frames[0].shape:
            raise VideoError(f"{path} is of another size than the frames before it")
    return np.stack(frames)


@contextmanager
def _open(path: str | Path) -> Iterator[_Opened]:
    try:
        with av.open(str(path), options={"format_whitelist": CONTAINERS}) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video stream; it has {[stream.type for stream in container.streams]}")
            stream = container.streams.video[0]
            # FFmpeg hides damage by inventing what is missing, unless it is told to stop.
            stream.codec_context.options = {"err_detect": "explode"}
            yield _Opened(path, container, stream)
    except (FileNotFoundError, IsADirectoryError, PermissionError):  # the system's own words, which name the file
        raise
    except av.FFmpegError as error:
        raise VideoError(f"{path} is no video that can be decoded, or it is damaged: {error.strerror}") from error


def _frames(video: _Opened, whole: bool = True) -> Iterator[av.VideoFrame]:
    """From where the container stands; if `whole`, that is the beginning, and the header's count is held against it."""
    packets = reached = 0
    for packet in video.container.demux(video.stream):
        if packet.size:
            packets += 1
            # In an AVI time stamps count frames, those too that are left out because they would repeat the one before.
            reached = packet.dts + 1 if _counted(video) else packets
        if packet.is_corrupt:
            raise VideoError(f"{video.path} is truncated in or after its frame {packets}, counted from 1; fetch it again")
        yield from packet.decode()
    # Packets, not frames: an MPEG-4 file with packed B-frames has a packet that shows nothing, and is sound.
    promised = video.stream.frames
    if whole and (reached < promised or not packets):
        raise VideoError(f"{video.path} is truncated: its header promises {promised} frames, it has {reached}; fetch it again")


def _numbered(video: _Opened, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their number, from the key frame at or before `start`."""
    stream = video.stream
    if _counted(video):
        yield from enumerate(_frames(video))
        return
    if not stream.average_rate:
        raise VideoError(f"{video.path} does not say its frame rate, so its frames cannot be numbered")
    origin, period = stream.start_time or 0, 1 / (stream.average_rate * stream.time_base)
    # A key frame may be stored before frames that are shown before it but hang on earlier ones, or follow a long gap:
    # decoding from there starts too late, and has to start over from the beginning.
    for begin in (start, 0):
        if start:
            video.container.seek(origin + int(begin * period), stream=stream)
        for position, frame in enumerate(_frames(video, whole=start == 0)):
            number = round((frame.pts - origin) / period)
            if position == 0 and number > start and begin > 0:
                break
            yield number, frame
        else:
            return


def _counted(video: _Opened) -> bool:
    return video.container.format.name == "avi"


def _size(stream: av.VideoStream, short_side: int | None) -> dict[str, int]:
    width, height = stream.codec_context.width, stream.codec_context.height
    scale = 1 if short_side is None else short_side / min(width, height)
    return {"width": round(width * scale), "height": round(height * scale)}
