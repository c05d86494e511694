"""What tests need and a machine may lack. `STDCF_REQUIRE=data,browser` makes such a lack a failure instead of a skip."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest


def _absent(what: str, reason: str) -> NoReturn:
    if what in os.environ.get("STDCF_REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and STDCF_REQUIRE asks for {what}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def user_data() -> Callable[[str], Path]:
    """`user_data("mnist")` is that folder of the user's own data, under STDCF_DATA; where absent, the test is skipped."""

    def folder(name: str) -> Path:
        root = os.environ.get("STDCF_DATA")
        if not root:
            _absent("data", "STDCF_DATA is not set: no real data to test with")
        path = Path(root, name)
        if not path.is_dir():
            _absent("data", f"STDCF_DATA has no folder {name}: no real data to test with")
        return path

    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the chromium executable; where absent, the test is skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        _absent("browser", "chromium is not installed: nothing to test the notebooks in")
    return path


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the real KTH clips are kept decoded, shared by the processes that test side by side: it takes seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kth"
    folder.mkdir(exist_ok=True)
    return folder
