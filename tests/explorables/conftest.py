"""Chromium for the explorables, and the ones that tests look at."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

from stdcf_lib import STDCFConv3d, explorables
from stdcf_lib.data.probes import moving_bar

QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="session")
def browser(chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as in a container.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET.split()])
        yield browser
        browser.close()


@pytest.fixture
def layer() -> STDCFConv3d:
    torch.manual_seed(0)
    return STDCFConv3d(1, 2, kernel_size=3, dtype=torch.float64)


@pytest.fixture
def make(layer) -> dict[str, Callable[[], explorables.Explorable]]:
    """Each explorable by its name."""
    alpha = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    return {
        "voxel": lambda: explorables.Voxel(layer, moving_bar(8, 12, length=7), t=2, y=4, x=4),
        "filter": lambda: explorables.Filter(layer),
        "rank": lambda: explorables.Rank(alpha, middle=2),
    }
