"""Video into arrays, the one place that decodes: AVI, MP4, QuickTime, Matroska and WebM by PyAV (FFmpeg); folders of JPEGs.

Whatever the bytes of a file are, what is raised is VideoError, or the system's own FileNotFoundError, IsADirectoryError or
PermissionError. What a damaged header promises is never allocated: a frame has at most `MOST_PIXELS`, and all that one call
returns has at most `MOST_BYTES`; what is larger is a VideoError too.

That a file ends early is seen, as soon as its end is reached, where the file itself says how far it goes:

- MP4 and QuickTime list every frame. Fragments, as a live stream has them, do not: cut between two of them, a file is whole.
- An AVI's header has the number of frames, which a recorder that was stopped may have left at 0: then it cannot be seen.
- Matroska and WebM have no number of frames, but the size of what follows the header. A live recording leaves that open:
  then it cannot be seen. Nor can it in any Matroska file that lost frames in its middle and goes on after them.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import av.container
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from stdcf_lib.checks import whole, wholes

# Titles and the like may be in any encoding, and are not read; from PyAV 19 on that goes without saying.
TITLES: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
# Without a list FFmpeg takes a text file for a video of text, and follows a playlist to other files and hosts.
CONTAINERS = "avi,mov,matroska"

MOST_PIXELS = 36_000_000
"""Of one frame, as stored (with the margins that FFmpeg adds) and as returned; 8K, 7680 × 4320, passes. [ours]"""
MOST_BYTES = 2**32
"""Of all frames that one call returns, 4 GiB, eleven minutes of 256 × 340 pixels at 25 frames a second. [ours]
While they are put together, twice as much is held."""


class VideoError(ValueError):
    """A video file that is damaged, truncated, too short, too large, or no video; the message names it."""


class _PassedOver(Exception):
    """A frame that was not decoded may be the one to show."""


class _Opened(NamedTuple):
    path: str | Path
    container: av.container.InputContainer
    stream: av.VideoStream


def decode_gray(path: str | Path) -> np.ndarray:
    """All frames of a video as gray, black 0 and white 255.

    Args:
        path: the file.

    Returns:
        uint8 (T, H, W).

    Raises:
        VideoError: for a file that is no video, damaged, truncated (as far as that can be seen, see above), too large, or
            whose frames change their size; it names the file.
        FileNotFoundError: for a missing one, naming it.
    """
    with _open(path) as video:
        return _stacked(path, _pictures(_frames(video), format="gray"))


def decode(
    path: str | Path,
    start: int = 0,
    frames: int | None = None,
    stride: int = 1,
    short_side: int | None = None,
    hold: bool = False,
) -> np.ndarray:
    """Frames start, start + stride, … of a video in RGB.

    Frame i is what is on show i periods of the average frame rate after the first frame, so that a stride is the same
    time everywhere in a video of varying rate. Decoding begins at the key frame before `start`; an AVI stores no
    times, so there the frames are counted from the first one.

    Args:
        path: the file.
        start: the first frame, counted from 0.
        frames: how many; None for all to the end.
        stride: in frames, at least 1.
        short_side: pixels of the shorter side after resizing at the same aspect ratio (bilinear over the area that a
            pixel covers); None for the size in the file.
        hold: whether a video that ends before the last frame asked for goes on showing its own last one.

    Returns:
        uint8 (frames, H, W, 3).

    Raises:
        VideoError: as `decode_gray` does (but a fault outside the frames needed goes unseen), and where the video ends
            before the last frame asked for, or if it is to hold, before the first.
        ValueError: for an argument out of range.
    """
    start, stride = whole("start", start, 0), whole("stride", stride)
    frames = None if frames is None else whole("frames", frames)
    numbers = range(start, 2**62 if frames is None else start + stride * frames, stride)
    return _decoded(path, numbers, frames is None, short_side, hold)


def decode_numbers(path: str | Path, numbers: Sequence[int], short_side: int | None = None, hold: bool = False) -> np.ndarray:
    """Some frames of a video in RGB, in one pass.

    Args:
        path: the file.
        numbers: which, counted from 0 as `decode` counts them, in ascending order; the same may come several times.
        short_side, hold: as for `decode`.

    Returns:
        uint8 (frames, H, W, 3).

    Raises:
        VideoError: as `decode` does.
        ValueError: for numbers below 0, out of order, or none.
    """
    numbers = wholes("numbers", numbers, least=0)
    if list(numbers) != sorted(numbers):
        raise ValueError(f"numbers={numbers}: give them in ascending order")
    return _decoded(path, numbers, False, short_side, hold)


def _decoded(path: str | Path, numbers: Sequence[int], entire: bool, short_side: int | None, hold: bool) -> np.ndarray:
    short_side = None if short_side is None else whole("short_side", short_side)
    try:
        return _in_one_pass(path, numbers, entire, short_side, hold, sparing=not entire)
    except _PassedOver:
        return _in_one_pass(path, numbers, entire, short_side, hold, sparing=False)


def _in_one_pass(
    path: str | Path, numbers: Sequence[int], entire: bool, short_side: int | None, hold: bool, sparing: bool
) -> np.ndarray:
    """If `sparing`, a frame that no other hangs on is decoded only if it has one of these numbers, which changes no other
    frame. That is for H.264, which says it of each frame (HEVC only for the layer that the frame is in), and not in an AVI,
    where a frame has no number before it is decoded.

    Raises:
        _PassedOver: what is on show at one of the numbers is an earlier frame, and that may be one that was not decoded.
    """
    with _open(path) as video:
        width, height = video.stream.codec_context.width, video.stream.codec_context.height
        width, height = _scaled(path, width, height, short_side)
        look = {"width": width, "height": height, "format": "rgb24", "interpolation": "BILINEAR"}
        sparing = sparing and video.stream.codec_context.name == "h264" and not _counted(video)
        chosen = _chosen(video, numbers, entire, hold, MOST_BYTES // (3 * width * height), sparing)
        return _stacked(path, _pictures(chosen, **look))


def _pictures(frames: Iterable[av.VideoFrame], **look: Any) -> Iterator[np.ndarray]:
    """Frames as arrays of that look, by a scaler of their own and without threads: the one that PyAV shares from version 19 on
    is there in a fork, such as a loader's worker, but its threads are not, and it would wait for them for ever."""
    scaler = VideoReformatter()
    return (scaler.reformat(frame, **look, threads=1).to_ndarray() for frame in frames)


@contextmanager
def timed_frames(path: str | Path) -> Iterator[tuple[av.VideoStream, Iterator[av.VideoFrame]]]:
    """All of a video for what writes it anew: its stream, and its frames in the order of time, the first at 0.

    A frame that is not later than the one before is left out. In an AVI, which stores no times, each lasts one period.

    Raises:
        VideoError: as `decode_gray` does, and for a video without a frame, or whose frames have no times.
        FileNotFoundError: for a missing one.
    """
    with _open(path) as video:
        yield video.stream, _timed(video)


def _timed(video: _Opened) -> Iterator[av.VideoFrame]:
    first = last = None
    if not video.stream.average_rate:
        raise VideoError(f"{video.path} does not say its frame rate, so its frames have no times")
    for number, frame in enumerate(_frames(video)):
        if _counted(video):
            frame.pts, frame.time_base = number, 1 / video.stream.average_rate
        if frame.pts is None:
            raise _untimed(video)
        first = frame.pts if first is None else first
        frame.pts -= first
        if last is None or frame.pts > last:
            last = frame.pts
            yield frame
    if last is None:
        raise VideoError(f"{video.path} is damaged: it shows not one frame")


def _untimed(video: _Opened) -> VideoError:
    return VideoError(f"{video.path} is damaged: it does not say when one of its frames is shown")


def frame_count(path: str | Path) -> int:
    """How many frames a video promises, without decoding it: by its header, or by its duration and rate.

    Args:
        path: the file.

    Returns:
        At least 1. A damaged or truncated file may promise anything.

    Raises:
        VideoError: for a file that is no video, or says neither.
        FileNotFoundError: for a missing one.
    """
    with _open(path) as video:
        count, duration, rate = video.stream.frames, video.container.duration, video.stream.average_rate
        if not count and duration and duration > 0 and rate:
            count = max(1, round(duration / av.time_base * rate))
        if not 0 < count < 2**31:
            raise VideoError(f"{path} says neither how many frames it has nor how long it is, or nonsense: {count} frames")
        return count


def jpeg_count(folder: str | Path) -> int:
    """How many frames a folder of `00001.jpg`, `00002.jpg`, … has.

    Raises:
        VideoError: if it has none, or is no folder.
    """
    count = sum(name.endswith(".jpg") for name in os.listdir(folder)) if os.path.isdir(folder) else 0
    if not count:
        raise VideoError(f"{folder} is no folder with frames 00001.jpg, 00002.jpg, …")
    return count


def decode_jpegs(folder: str | Path, numbers: Sequence[int], short_side: int | None = None) -> np.ndarray:
    """Frames of a folder of `00001.jpg`, `00002.jpg`, … in RGB.

    Args:
        folder: where they are.
        numbers: which, counted from 0.
        short_side: as for `decode`.

    Returns:
        uint8 (frames, H, W, 3).

    Raises:
        VideoError: for a frame that is missing, damaged, too large, or of another size than the first; it names the
            file or the folder.
        ValueError: for numbers below 0, or none.
    """
    numbers = wholes("numbers", numbers, least=0)
    short_side = None if short_side is None else whole("short_side", short_side)
    return _stacked(folder, (_jpeg(Path(folder, f"{number + 1:05d}.jpg"), short_side) for number in numbers))


def _jpeg(path: Path, short_side: int | None) -> np.ndarray:
    try:
        with Image.open(path, formats=["JPEG"]) as opened:
            width, height = _scaled(path, *opened.size, short_side)
            image = opened.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises these for a damaged file
        raise VideoError(f"{path} is missing, or no whole JPEG: {error}") from error
    return np.asarray(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR))


def _stacked(path: str | Path, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames as one array, if they are of one size and not more than `MOST_BYTES`."""
    found: list[np.ndarray] = []
    for frame in frames:
        found.append(frame)
        if frame.shape != found[0].shape:
            raise VideoError(f"{path} has a frame of another size, {frame.shape[:2]}, than the first, {found[0].shape[:2]}")
        if frame.nbytes * len(found) > MOST_BYTES:
            raise _too_large(path)
    return np.stack(found)


def _too_large(path: str | Path) -> VideoError:
    return VideoError(f"{path} needs more than {MOST_BYTES:,} bytes when decoded; ask for fewer frames, or smaller ones")


def _scaled(path: str | Path, width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Width and height of a frame as asked for."""
    if min(width, height) < 1:
        raise VideoError(f"{path} is damaged: its frames are {width} × {height} pixels")
    scale = 1 if short_side is None else short_side / min(width, height)
    width, height = round(width * scale), round(height * scale)
    if width * height > MOST_PIXELS:
        raise VideoError(f"{path} has frames of {width} × {height} pixels as asked for; at most {MOST_PIXELS:,} pixels will do")
    return width, height


@contextmanager
def _open(path: str | Path) -> Iterator[_Opened]:
    limit = {"max_pixels": str(MOST_PIXELS)}
    with open(path, "rb"):  # what is missing, a folder or not to be read is refused in the system's own words
        pass
    try:
        with av.open(str(path), options={"format_whitelist": CONTAINERS, **limit}, **TITLES) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video stream; it has {[stream.type for stream in container.streams]}")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(f"{path} is damaged, or of a codec that cannot be decoded here")
            # FFmpeg hides damage by inventing what is missing, unless it is told to stop.
            stream.codec_context.options = {"err_detect": "explode", **limit}
            yield _Opened(path, container, stream)
    except av.error.FFmpegError as error:
        raise VideoError(f"{path} is no video that can be decoded, or it is damaged: {error.strerror}") from error


def _frames(video: _Opened, entire: bool = True, needed: Callable[[av.Packet], bool] | None = None) -> Iterator[av.VideoFrame]:
    """From where the container stands; if `entire`, that is the beginning, and the header's count is held against it.

    Frames that are not `needed`, by their packets, are left out if no other hangs on them.
    """
    packets = reached = 0
    for packet in video.container.demux(video.stream):
        if packet.size:
            packets += 1
            # In an AVI time stamps count frames, those too that are left out because they would repeat the one before.
            reached = packet.dts + 1 if _counted(video) and packet.dts is not None else packets
        if packet.is_corrupt:
            raise VideoError(f"{video.path} is truncated in or after its frame {packets}, counted from 1; fetch it again")
        if needed:
            video.stream.codec_context.skip_frame = "DEFAULT" if needed(packet) else "NONREF"
        yield from packet.decode()
    if lacking := _lacking(video):
        raise VideoError(f"{video.path} is truncated: it lacks {lacking:,} bytes at its end; fetch it again")
    # Packets, not frames: an MPEG-4 file with packed B-frames has a packet that shows nothing, and is sound.
    promised = video.stream.frames
    if entire and (reached < promised or not packets):
        raise VideoError(f"{video.path} is truncated: its header promises {promised} frames, it has {reached}; fetch it again")


def _lacking(video: _Opened) -> int:
    """By how many bytes a Matroska file is shorter than its segment, which holds all but the header, is said to be."""
    if "matroska" not in video.container.format.name:
        return 0
    with open(video.path, "rb") as file:
        file.seek(_length(file, b"\x1a\x45\xdf\xa3") or 0, os.SEEK_CUR)
        size = _length(file, b"\x18\x53\x80\x67")
        return 0 if size is None else max(0, file.tell() + size - os.path.getsize(video.path))


def _length(file: BinaryIO, name: bytes) -> int | None:
    """How long the content of the EBML element that begins here is; None if that is left open, or it is not of this name."""
    head = file.read(5)
    if head[:-1] != name or not head[4]:
        return None
    more = 8 - head[4].bit_length()  # as many bytes follow as zeros lead
    size = int.from_bytes(bytes([head[4] & (127 >> more)]) + file.read(more), "big")
    return None if size == 2 ** (7 * more + 7) - 1 else size


def _chosen(
    video: _Opened, numbers: Sequence[int], entire: bool, hold: bool, most: int, sparing: bool
) -> Iterator[av.VideoFrame]:
    """The frames of ascending numbers, or if `entire` as many of them as there are, if they are not more than `most`."""
    count, last, shown = 0, -1, None
    for last, frame in _numbered(video, numbers[0], numbers if sparing else None):
        # Told at once: a damaged time stamp far ahead would be filled with millions of copies of one frame.
        if (bisect_right(numbers, last) if entire else len(numbers)) > most:
            raise _too_large(video.path)
        # More than one falls due at once where a frame stays on show for longer than a period.
        while count < len(numbers) and (due := numbers[count]) <= last:
            if sparing and due != last:
                raise _PassedOver
            yield frame if due == last or shown is None else shown
            count += 1
        if count == len(numbers):
            return
        shown = frame
    if sparing:
        raise _PassedOver
    if entire and count:
        return
    while hold and count and shown is not None and count < len(numbers):
        yield shown
        count += 1
    if count < len(numbers):
        raise VideoError(
            f"{video.path} is too short: it ends with frame {last}, counted from 0, and frame "
            f"{numbers[0] if entire else numbers[-1]} is asked for"
        )


def _numbered(video: _Opened, start: int, wanted: Container[int | None] | None) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their number, from the key frame at or before `start`: all, or at least those `wanted`."""
    stream = video.stream
    if _counted(video):
        yield from enumerate(_frames(video))
        return
    if not stream.average_rate or not stream.time_base:
        raise VideoError(f"{video.path} does not say its frame rate, so its frames cannot be numbered")
    origin, period = stream.start_time or 0, Fraction(1) / stream.average_rate / stream.time_base

    def number_of(shown: av.VideoFrame | av.Packet) -> int | None:
        return None if shown.pts is None else round((shown.pts - origin) / period)

    needed = None if wanted is None else lambda packet: number_of(packet) in wanted
    # A key frame may be stored before frames that are shown before it but hang on earlier ones, or follow a long gap:
    # decoding from there starts too late, and has to start over from the beginning.
    for begin in (start, 0):
        if start:
            video.container.seek(min(origin + int(begin * period), 2**63 - 1), stream=stream)
        for position, frame in enumerate(_frames(video, start == 0, needed)):
            number = number_of(frame)
            if number is None:
                raise _untimed(video)
            if position == 0 and number > start and begin > 0:
                break
            yield number, frame
        else:
            return


def _counted(video: _Opened) -> bool:
    return video.container.format.name == "avi"
