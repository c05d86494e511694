"""The one way to check an argument: what was given, and what would do.

Every function returns the value as plain Python, so that a numpy integer is as good as an int, and raises ValueError with a
sentence that begins with the argument's name. (TypeError is for objects of another kind, such as an array where a module
is needed.)
"""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer from `least` to `most`; True and False are none.

    Example:
        >>> whole("frames", 0)
        Traceback (most recent call last):
        ValueError: frames=0: give an integer of at least 1
    """
    found = _index(value)
    if found is None or found < least or (most is not None and found > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r}: give an integer {bounds}")
    return found


def wholes(name: str, values: Any, count: int | None = None, least: int = 1, meaning: str = "") -> tuple[int, ...]:
    """`count` integers of at least `least`, or any number of them but none if `count` is None.

    Args:
        meaning: of the places, for the message, such as "(time, height, width)".
    """
    found = [_index(value) for value in listed(values) or ()]
    if not found or len(found) != (count or len(found)) or any(value is None or value < least for value in found):
        wanted = f"{count} integers" if count else "integers"
        raise ValueError(f"{name}={values!r}: give {wanted} of at least {least}{meaning and ' '}{meaning}")
    return tuple(value for value in found if value is not None)


def listed(values: Any) -> list[Any] | None:
    """The values of whatever has some; None of what has none, of a text, and of an array or tensor without axes."""
    try:
        return None if isinstance(values, str) else list(values)
    except TypeError:
        return None


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A finite number from `least` to `most`, above `above` and below `below`.

    Example:
        >>> number("epochs", 0, above=0)
        Traceback (most recent call last):
        ValueError: epochs=0: give a finite number above 0
    """
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last of a tensor of several
        found = math.nan
    if not (math.isfinite(found) and least <= found <= most and above < found < below):
        limits = (("of at least", least), ("of at most", most), ("above", above), ("below", below))
        bounds = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
        raise ValueError(f"{name}={value!r}: give a finite number {bounds}".rstrip())
    return found


def choice(name: str, value: Any, options: Iterable[Any]) -> Any:
    """One of some values.

    Example:
        >>> choice("split", "dev", ("train", "test"))
        Traceback (most recent call last):
        ValueError: split='dev': choose 'train' or 'test'
    """
    options = tuple(options)
    if not any(value is option or (type(value) is type(option) and value == option) for option in options):
        *others, last = map(repr, options)
        raise ValueError(f"{name}={value!r}: choose {', '.join(others)}{' or ' if others else ''}{last}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False, numpy's among them.

    Example:
        >>> flag("bias", "no")
        Traceback (most recent call last):
        ValueError: bias='no': choose True or False
    """
    return choice(name, bool(value) if isinstance(value, np.bool_) else value, (True, False))


def _index(value: Any) -> int | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
