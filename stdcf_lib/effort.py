"""How much work to do: one environment variable, `STDCF_PROFILE`, read wherever a size depends on it."""

import os
from typing import TypeVar

Value = TypeVar("Value")


def by_profile(*, smoke: Value, laptop: Value, paper: Value) -> Value:
    """Return the value meant for the profile named by the environment variable `STDCF_PROFILE`.

    `smoke` walks the same code within seconds (tests), `laptop` (the default) takes minutes on two cores, `paper` is
    the paper's own protocol. Raises ValueError for any other name.
    """
    values = {"smoke": smoke, "laptop": laptop, "paper": paper}
    name = os.environ.get("STDCF_PROFILE") or "laptop"
    if name not in values:
        raise ValueError(f"STDCF_PROFILE is {name!r}; set it to one of {', '.join(values)}, or leave it unset")
    return values[name]
