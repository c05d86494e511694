"""Files of data: images, lists and videos."""

import functools
import gzip
import io
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from stdcf_lib.data import folder, kinetics, kth, lists, mnist, something, video
from stdcf_lib.data.mnist import read_idx
from stdcf_lib.data.video_clips import VideoClips
from tests.attack.bad_input.bent import NUMBERS, Case, bent, named


@functools.cache
def _bomb() -> bytes:
    """Gzip, 2 MB that become 2 GB."""
    return gzip.compress(bytes(2**27), 9) * 16


def idx(chance: random.Random, place: Path) -> Case:
    count = chance.choice((1, 2, 3))
    images = b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + chance.randbytes(count * 784)
    labels = b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(chance.randrange(10) for _ in range(count))
    header = chance.randrange(4) == 0
    if header:  # lengths that no file has
        axes = chance.choice((0, 1, 2, 3, 4, 32, 64, 65, 255))
        images = b"\0\0\x08" + bytes([axes]) + struct.pack(f">{axes}I", *(chance.choice(NUMBERS[:12]) for _ in range(axes)))
    files = [place / "t10k-images-idx3-ubyte", place / "t10k-labels-idx1-ubyte"]
    for file, content in zip(files, (images, labels), strict=True):
        packed = chance.randrange(3) == 0
        if packed and chance.randrange(2):
            content, packed = bent(chance, content), True
        content = gzip.compress(content, 1, mtime=0) if packed else content
        file.write_bytes(content if chance.randrange(3) == 0 else bent(chance, content))
    if chance.randrange(20000) == 0:
        files[0].write_bytes(_bomb())
    return Case(lambda: mnist("test", place) if chance.randrange(2) else read_idx(files[0]), named(*files))


SEQUENCES = """Training: person11, 12, 13
person01_boxing_d1\t\tframes\t1-95, 96-185, 186-245, 246-360
person01_boxing_d2\t\tframes\t1-106, 107-195, 196-265, 266-370
person13_handclapping_d3\t*missing*
person17_walking_d4\tframes\t1-200, 445-56
person25_jogging_d1 frames 1-80, 150-230
"""


def sequences(chance: random.Random, place: Path) -> Case:
    file = place / "00sequences.txt"
    file.write_bytes(bent(chance, SEQUENCES.encode()))
    return Case(lambda: kth.sequences(file), named(file, line=True, whole="no row like"))


KINETICS = """label,youtube_id,time_start,time_end,split,is_cc
abseiling,_4YTwq0-73Y,19,29,train,0
"eating cake",0wR5jVB-WPk,417,427,train,0
eating cake,3caPS4FHFF8,36,46,train,0
"""


def kinetics_csv(chance: random.Random, place: Path) -> Case:
    file = place / "train.csv"
    file.write_bytes(bent(chance, KINETICS.encode()))
    classes = chance.choice((None, None, ["abseiling", "eating cake"], ["abseiling"]))
    count = chance.choice((None, 1, 2, 400))
    if chance.randrange(10) == 0:
        return Case(lambda: kinetics.Kinetics(file, place, True), f"{named(file)}|no samples")
    return Case(
        lambda: kinetics.kinetics_csv(file, place, classes, count),
        named(file, line=True, whole="no column|num_classes") + "|num_classes",
    )


def something_csv(chance: random.Random, place: Path) -> Case:
    file, labels = place / "train.csv", place / "labels.csv"
    file.write_bytes(bent(chance, b"100218;Turning something upside down\n24413;Holding something\n24414;Holding something\n"))
    names = b"Holding something\nTurning something upside down\nApproaching something with your camera\n"
    labels.write_bytes(names if chance.randrange(2) else bent(chance, names))
    count = chance.choice((None, None, 2, 174))
    return Case(
        lambda: something.something_csv(file, place, labels, count), named(file, labels, line=True, whole="num_classes")
    )


def path_lists(chance: random.Random, place: Path) -> Case:
    file, count = place / "train.txt", chance.choice((None, 2, 400))
    if chance.randrange(4) == 0:
        file.write_bytes(bent(chance, b"juggle\nwave\ndive into water\n"))
        return Case(lambda: lists.class_names(file), named(file, line=True))
    file.write_bytes(bent(chance, b"juggle/a b.mp4 0\nwave/c.avi 1\n\nsub/folder/d.webm 1\n"))
    return Case(lambda: lists.path_label_list(file, place, count), named(file, line=True))


def own_folder(chance: random.Random, place: Path) -> Case:
    """Lists of one's own videos, or one that names those held out of a tree."""
    root = place / "videos"
    for name in ("juggle/a b.mp4", "juggle/b.mp4", "wave/c.avi", "wave/d.mkv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if chance.randrange(3) == 0:
        file = place / "held-out.txt"
        file.write_bytes(bent(chance, b"juggle/b.mp4\nwave/c.avi\n"))
        of_all = "no video is held out|has no video to train on"
        return Case(lambda: folder.video_folder(root, file), named(file, line=True) + f"|{of_all}")
    files = [root / "train.txt", root / "val.txt", root / "classes.txt"]
    texts = b"juggle/a b.mp4 0\nwave/c.avi 1\n", b"juggle/b.mp4 0\nwave/d.mkv 1\n", b"juggle\nwave\n"
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text if chance.randrange(2) else bent(chance, text))
    if chance.randrange(3) == 0:
        files[2].unlink()
    whole = "is in both|has no video of class|has too few classes|has no video to train on|no video is held out"
    return Case(lambda: folder.video_folder(root), named(*files, line=True, whole=whole) + f"|{whole}")


@functools.cache
def _videos() -> list[tuple[str, bytes]]:
    """Small videos of each container and of what codecs there are, in bytes: ten frames of 48 × 32 pixels."""
    made = []
    codecs = {
        ".mp4": ("libx264", "mpeg4"), ".mov": ("mjpeg",), ".avi": ("mpeg4", "mjpeg", "rawvideo"), ".mkv": ("libx264", "ffv1"),
        ".webm": ("libvpx", "libvpx-vp9"),
    }  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 255, (10, 4, 6, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    for suffix, names in codecs.items():
        for name in names:
            if name not in av.codecs_available:
                continue
            with tempfile.TemporaryDirectory() as place:
                path = Path(place, f"clip{suffix}")
                with av.open(str(path), "w") as container:
                    stream: Any = container.add_stream(name, rate=25)
                    stream.width, stream.height = 48, 32
                    stream.pix_fmt = {"mjpeg": "yuvj420p"}.get(name, "yuv420p")
                    stream.codec_context.gop_size = 4
                    for picture in pictures:
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    container.mux(stream.encode())
                made.append((suffix, path.read_bytes()))
    return made


def videos(chance: random.Random, place: Path) -> Case:
    suffix, content = chance.choice(_videos())
    file = place / f"clip{suffix}"
    if chance.randrange(3) == 0:  # where the header is
        cut = min(len(content), chance.choice((64, 512, 2048)))
        content = bent(chance, content[:cut]) + content[cut:]
    elif chance.randrange(3) == 0:
        cut = max(0, len(content) - chance.choice((64, 1024)))
        content = content[:cut] + bent(chance, content[cut:])
    else:
        content = bent(chance, content)
    if chance.randrange(20) == 0:
        file = file.with_suffix(chance.choice((".mp4", ".avi", ".mkv")))
    file.write_bytes(content)
    start, frames, stride, side = chance.randrange(4), chance.randrange(1, 8), chance.randrange(1, 4), chance.choice((None, 16))
    numbers = sorted(chance.randrange(12) for _ in range(3))

    def rewritten() -> None:
        with video.timed_frames(file) as (_, shown):
            for _ in shown:
                pass

    read = chance.choice(
        (
            lambda: video.decode_gray(file),
            lambda: video.decode(file, short_side=side),
            lambda: video.decode(file, start, frames, stride, side, True),
            lambda: video.decode_numbers(file, numbers, side, True),
            lambda: video.frame_count(file),
            rewritten,
            lambda: VideoClips([(file, 0)], False, 2, 2, 8, (2, 1)).clip(file),
        )
    )
    return Case(read, named(file))


@functools.cache
def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(
        content, "JPEG", exif=b"Exif\0\0II*\0"
    )
    return content.getvalue()


def pictures(chance: random.Random, place: Path) -> Case:
    for number in (1, 2):
        (place / f"{number:05d}.jpg").write_bytes(_jpeg() if chance.randrange(2) else bent(chance, _jpeg()))
    return Case(lambda: video.decode_jpegs(place, [0, 1], chance.choice((None, 8))), named(place))


PREPARED = _bomb, _videos, _jpeg
