"""The environment of every test, and of the kernels in which `pytest --nbval` runs the notebooks."""

import gc
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("STDCF_PROFILE", "smoke")
# One thread: sums come in the same order whatever the number of cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A backend that shows nothing, as some machines export, would hide the notebooks' figures.
os.environ.pop("MPLBACKEND", None)


def pytest_collection_finish() -> None:
    # What has been imported and collected stays to the end: a collection of garbage, as each stage of a run ends with one, need
    # not look through all of it again.
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _look_through_it_once() -> Iterator[None]:
    yield
    gc.collect()
    gc.freeze()  # the same for what is imported, and cached, later
