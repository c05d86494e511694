"""Is all here that the notebooks need? What this package asks for, what is installed, and what to type where they differ."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stdcf_lib.effort import by_profile

PACKAGE = "stdcf-lib"
READY = "Everything that the notebooks need is here."
REMEDY = "In the folder of this repository type: pip install '.[lab]' (or make lab), then restart the kernel."


class Need(NamedTuple):
    """Python or a package: its name, the versions that will do, and the one that is here (None if it is missing)."""

    name: str
    wanted: SpecifierSet
    found: str | None

    @property
    def met(self) -> bool:
        return self.found is not None and self.wanted.contains(self.found, prereleases=True)

    def __str__(self) -> str:
        if self.met:
            state = ""
        elif self.found is None:
            state = "   MISSING"
        else:
            shunned = [one for one in self.wanted if one.operator == "!=" and not one.contains(self.found, prereleases=True)]
            state = "   NOT THIS ONE" if shunned else "   TOO OLD"
        return f"{self.name:15}{self.found or '-':16}needs {self.wanted}{state}"


def needs() -> list[Need]:
    """Python and each package that the library and its extra `lab` declare, beside what is installed.

    Raises:
        RuntimeError: if the library itself is not installed, and so declares nothing.
    """
    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        raise RuntimeError(f"{PACKAGE} is not installed for this kernel. {REMEDY}") from None
    python = Need("Python", SpecifierSet(about["Requires-Python"]), ".".join(map(str, sys.version_info[:3])))
    declared = map(Requirement, about.get_all("Requires-Dist") or [])
    here = [need for need in declared if need.marker is None or need.marker.evaluate({"extra": "lab"})]
    return [python, *(Need(need.name, need.specifier, _version(need.name)) for need in here)]


def check() -> str:
    """One line if all needs are met; otherwise a line for each that is not, and what to type."""
    lacking = [str(need) for need in needs() if not need.met]
    return "\n".join([*lacking, REMEDY]) if lacking else READY


def report() -> str:
    """A line for each need, then what the machine and its user's settings offer; it names no path."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    settings = {
        "threads": f"{torch.get_num_threads()}, for sums on the CPU",
        "GPU": f"{device.type}" if device else "none, and none is needed in the default profile",
        "STDCF_PROFILE": by_profile(
            smoke="smoke: seconds, for tests", laptop="laptop: minutes, the default", paper="paper: its own sizes, for a GPU"
        ),
        "STDCF_DATA": _data(),
    }
    return "\n".join([*map(str, needs()), *(f"{name:15}{words}" for name, words in settings.items())])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _data() -> str:
    root = os.environ.get("STDCF_DATA")
    if not root:
        return "not set: the notebooks go on with what lies in this repository"
    if not Path(root).is_dir():
        return "names no folder that exists: export STDCF_DATA=FOLDER, the one that holds kth/ or kinetics400/"
    folders = sorted(path.name for path in Path(root).iterdir() if path.is_dir())
    return "has " + ", ".join(folders) if folders else "is an empty folder"
