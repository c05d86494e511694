"""A tree of videos made cheap to decode, once: `python -m stdcf_lib.data.shrink FROM TO`.

Training decodes a video anew for every clip, and scales it down to about 256 pixels each time; and it has to begin at a key
frame, of which a video of ten seconds may have one. Here all that is done beforehand.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import av
from av.video.reformatter import VideoReformatter
from tqdm.auto import tqdm

from stdcf_lib.checks import whole
from stdcf_lib.data.lists import Folders
from stdcf_lib.data.video import VideoError, timed_frames
from stdcf_lib.files import in_words

VIDEOS = ("avi", "m4v", "mkv", "mov", "mp4", "webm")
LISTS = ("csv", "txt")

ENCODER = "libx264"
KEY_FRAMES_EVERY = 32
"""Frames, half of which are decoded in vain before a clip that begins anywhere. [ours]"""
CODING = {"crf": "20", "tune": "fastdecode", "mbtree": "0"}
"""Finer than the encoder's own 23; the tune, for a tenth more bytes, takes 40% off the time to decode. Without "mbtree", which
was seen to make other bytes of the same frames each time, a video becomes the same file always. [ours]"""

HALF_WRITTEN = ".half-shrunk"  # whatever ends like this was being written by a process that died

# A row `path label`, but for the suffix.
_ROW = re.compile(rb"^(.*)\.(?:%b)(?= \d{1,9}\s*$)" % "|".join(VIDEOS).encode(), re.IGNORECASE | re.MULTILINE)


def shrink(path: str | Path, to: str | Path, short_side: int = 256) -> None:
    """Write a video anew, as H.264 in MP4, without sound: the same frames at the same times, with fewer pixels.

    Args:
        path: the video.
        to: the new file; it is whole, or not there. Its folder is made.
        short_side: pixels of the shorter side, even; a smaller video keeps its size. The longer one follows, to 2 pixels.

    Raises:
        VideoError: as `stdcf_lib.data.video.decode_gray` does, naming the video.
        ValueError: for a short side out of range, or if PyAV cannot encode H.264.
        OSError: for a video that cannot be opened, or a file that cannot be written.
    """
    short_side = _possible("short_side", short_side)
    with timed_frames(path) as (stream, frames), _aside(Path(to)) as file, av.open(file, "w", format="mp4") as container:
        source = stream.codec_context
        made: Any = container.add_stream(ENCODER, rate=stream.average_rate, options=CODING)
        made.width, made.height = size = _scaled(path, source.width, source.height, short_side)
        made.pix_fmt, made.codec_context.gop_size = "yuv420p", KEY_FRAMES_EVERY
        made.codec_context.thread_count = 1  # many videos are encoded side by side
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(made.codec_context, name, getattr(source, name))
        if stream.sample_aspect_ratio:
            made.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
        scaler = VideoReformatter()  # not PyAV's shared one, whose threads are no help where many videos are encoded
        for number, frame in enumerate(frames):
            if number == 0:
                made.codec_context.time_base = frame.time_base
            picture = scaler.reformat(frame, *size, format="yuv420p", interpolation="BILINEAR", threads=1)
            picture.pict_type = 0  # which frames are key frames is for the encoder to say
            container.mux(made.encode(picture))
        container.mux(made.encode())


def _possible(name: str, short_side: int) -> int:
    if whole(name, short_side, 2) % 2:
        raise ValueError(f"{name}={short_side}: give an even integer, as H.264 needs")
    if ENCODER not in av.codecs_available:
        raise ValueError(f"this PyAV has no encoder {ENCODER} for H.264: install PyAV as pip brings it")
    return int(short_side)


def _scaled(path: str | Path, width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height of even numbers, near the aspect ratio and not above what they were."""
    if min(width, height) < 2:
        raise VideoError(f"{path} has frames of {width} × {height} pixels; H.264 needs 2 × 2")
    scale = short_side / min(width, height)
    width, height = (min(2 * round(side * scale / 2), side // 2 * 2) for side in (width, height))
    return width, height


@contextmanager
def _aside(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which has its name only when it is whole."""
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".", suffix=HALF_WRITTEN, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            yield file
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(
        "stdcf_lib.data.shrink",
        description="Write a tree of videos anew, small and cheap to decode: H.264 in .mp4, without sound, in the same folders "
        "under the same names. What is finished is left alone, so the same command goes on where it was stopped. Lists (.txt, "
        ".csv) are copied each time; the suffix of a path in a row `path label` becomes .mp4.",
    )
    words.add_argument("source", metavar="FROM", type=Path, help="folder of videos")
    words.add_argument("target", metavar="TO", type=Path, help="folder for the small ones, outside FROM")
    words.add_argument("--short-side", type=int, default=256, metavar="PIXELS", help="even; no video is enlarged; default 256")
    words.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="videos at a time; default one a core")
    return words


def main() -> None:
    words = parser()
    arguments = words.parse_args()
    try:  # everything that can be refused is refused here, before anything is written
        jobs, short_side = whole("--jobs", arguments.jobs), _possible("--short-side", arguments.short_side)
        videos, lists = _planned(arguments.source, arguments.target)
        _check_alike(videos, short_side)
        with in_words(arguments.target):
            arguments.target.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        words.error(str(error))
    try:
        for aside in arguments.target.rglob(f".*{HALF_WRITTEN}"):
            aside.unlink()
        for copy, content in lists.items():
            with _aside(copy) as file:
                file.write(content)
        faults = _work_off(videos, short_side, jobs)
    except OSError as error:
        sys.exit(f"stdcf_lib.data.shrink: {error}; what is finished is whole, and the same command goes on from there")
    except KeyboardInterrupt:
        sys.exit("stdcf_lib.data.shrink: stopped; the same command goes on from here")
    if faults:
        sys.exit("\n".join([f"stdcf_lib.data.shrink: {len(faults)} of {len(videos)} videos cannot be read:", *faults]))


def _planned(source: Path, target: Path) -> tuple[dict[Path, Path], dict[Path, bytes]]:
    """Where each video below a folder goes, in order, and where the lists go and what they say there."""
    if not source.is_dir():
        raise ValueError(f"FROM={str(source)!r} is no folder; name a folder of videos")
    if target.exists() and not target.is_dir():
        raise ValueError(f"TO={str(target)!r} is a file; name a folder")
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(f"TO={str(target)!r} and FROM={str(source)!r} are within each other; name two separate folders")
    videos, lists, taken = {}, {}, {}
    for path in _files(source):
        copy, kind = target / path.relative_to(source), path.suffix.lower()[1:]
        if kind in LISTS:
            lists[copy] = _adapted(path)
        elif kind in VIDEOS:
            videos[path] = copy = copy.with_suffix(".mp4")
            if (other := taken.setdefault(copy, path)) is not path:
                raise ValueError(f"{other} and {path} would both become {copy}; rename one of them")
    if not videos:
        raise ValueError(f"FROM={str(source)!r} has no videos in it: no file that ends in .{', .'.join(VIDEOS)}")
    return videos, lists


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders.sort()
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _adapted(file: Path) -> bytes:
    """What a list says of the small videos."""
    content = file.read_bytes()
    for row in _ROW.finditer(content):
        if os.path.isabs(path := os.fsdecode(row[1].strip())):
            line = content.count(b"\n", 0, row.start()) + 1
            raise ValueError(f"line {line} of {file} has the absolute path {path}…, not of a copy; make it relative")
    return _ROW.sub(rb"\1.mp4", content)


def _check_alike(videos: dict[Path, Path], short_side: int) -> None:
    """See that a video that is there already has this size; what made one made all."""
    there = Folders()
    for path, copy in videos.items():
        if copy in there:
            try:
                wanted, found = _scaled(path, *_size(path), short_side), _size(copy)
            except VideoError:  # a file that is faulty now; the next will tell
                continue
            if wanted != found:
                (width, height), (w, h) = found, wanted
                raise ValueError(
                    f"{copy} is there with {width} × {height} pixels, and --short-side={short_side} makes {w} × {h}; "
                    "name another folder TO, or give what it was made with"
                )
            return


def _size(path: Path) -> tuple[int, int]:
    with timed_frames(path) as (stream, _):
        return stream.codec_context.width, stream.codec_context.height


def _work_off(videos: dict[Path, Path], short_side: int, jobs: int) -> list[str]:
    """Shrink what is not there yet, and say what is faulty; threads will do, as FFmpeg runs beside Python."""
    there = Folders()
    todo = {path: copy for path, copy in videos.items() if copy not in there}
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(todo), desc="shrink", unit="video", disable=None) as bar:
        faults = {}
        try:
            waiting = {pool.submit(shrink, path, copy, short_side): path for path, copy in todo.items()}
            for done in as_completed(waiting):
                bar.update()
                path = waiting[done]
                try:
                    done.result()
                except VideoError as error:
                    faults[path] = str(error)
                except OSError as error:
                    if error.filename != str(path):  # it is not the video's fault: no room, or no right to write
                        raise
                    faults[path] = str(error)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [faults[path] for path in sorted(faults)]


if __name__ == "__main__":
    main()
