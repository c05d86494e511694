"""What every convolution here is asked for: sizes, strides and paddings along (time, height, width), and channels.

Each function checks an argument of `torch.nn.Conv3d` under the name that it has there and returns it in one form, or raises
ValueError. (`torch` itself leaves some of them until the first input.)
"""

from typing import Any

import torch

from stdcf_lib.checks import choice, listed, whole, wholes

Triple = tuple[int, int, int]
Size = int | Triple
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
MOST = 2**20
"""Of channels, taps, or voxels of a stride. [ours] torch fails at more in words of its own, some of them at the first input."""


def triple(name: str, value: Any, least: int = 1) -> Triple:
    """One integer for all three axes, or one for each."""
    given = listed(value)
    try:
        time, height, width = wholes(name, (value,) * 3 if given is None else given, 3, least)
        for size in (time, height, width):
            whole(name, size, least, MOST)
    except ValueError:
        raise ValueError(
            f"{name}={value!r}: give an integer of at least {least} (at most {MOST:,}), or three of them (time, height, width)"
        ) from None
    return time, height, width


def padding_of(value: Any, stride: Triple) -> str | Triple:
    """Numbers, `"valid"`, or `"same"` where no stride changes the size."""
    if not isinstance(value, str):
        return triple("padding", value, 0)
    if value not in ("same", "valid"):
        raise ValueError(f"padding={value!r}: give 'same', 'valid', an integer, or three integers (time, height, width)")
    if value == "same" and stride != (1, 1, 1):
        raise ValueError(f"padding='same' keeps the size, stride={stride} changes it; give the padding in numbers")
    return value


def output_padding_of(value: Any, stride: Triple, dilation: Triple) -> Triple:
    """Of a transposed convolution: below its stride or its dilation on each axis."""
    extra = triple("output_padding", value, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(f"output_padding={value}: stay below stride={stride} or dilation={dilation}, whichever is larger")
    return extra


def padding_mode_of(value: Any, transposed: bool) -> str:
    """One of `PADDING_MODES`; transposed convolutions know zeros alone, as in torch."""
    return choice("padding_mode", value, PADDING_MODES[:1] if transposed else PADDING_MODES)


def channels_of(in_channels: Any, out_channels: Any, groups: Any, out_name: str = "out_channels") -> Triple:
    """Channels in and out, and the number of groups that divides both."""
    groups = whole("groups", groups)
    found = [whole(name, value, 1, MOST) for name, value in (("in_channels", in_channels), (out_name, out_channels))]
    for name, value in zip(("in_channels", out_name), found, strict=True):
        if value % groups:
            raise ValueError(f"{name}={value} does not divide into groups={groups}; choose a divisor of {value} for groups")
    return found[0], found[1], groups


def dtype_of(value: Any) -> torch.dtype:
    """A floating-point type; torch's default if None."""
    if value is None:
        return torch.get_default_dtype()
    if not (isinstance(value, torch.dtype) and value.is_floating_point):
        raise ValueError(f"dtype={value}: filters are real numbers; give a floating-point dtype such as torch.float32")
    return value


def along_time(size: str | Triple, rest: int) -> Any:
    """The part of a size that a kernel of kt×1×1 has, and `rest` across it."""
    return size if isinstance(size, str) else (size[0], rest, rest)


def along_space(size: str | Triple, rest: int) -> Any:
    """The part of a size that a kernel of 1×kh×kw has, and `rest` along time."""
    return size if isinstance(size, str) else (rest, size[1], size[2])
