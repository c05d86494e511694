"""What tests need and a machine may lack. `STDCF_REQUIRE=data,browser,book` makes such a lack a failure instead of a skip."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# What is drawn is the same each time, and no test is of time: a machine may be busy. `tests.attack.draws` draws anew.
drawn = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("drawn", drawn)
settings.register_profile("anew", drawn, derandomize=False, max_examples=1000)
settings.load_profile("drawn")


def _absent(what: str, reason: str) -> NoReturn:
    if what in os.environ.get("STDCF_REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and STDCF_REQUIRE asks for {what}")
    pytest.skip(reason)


def _shared(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one session have in common."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


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
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the book as `make book` makes it, brought up to date once where anything is newer than it is; skipped where
    what makes it is absent."""
    if find_spec("myst_nb") is None:
        _absent("book", "the book's packages are not installed (make book)")
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-c", "book", "-d", "book/_build/doctrees"]
    shared = _shared(tmp_path_factory)
    with (shared / "book.lock").open("w") as lock:  # processes that test side by side wait for the first of them
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = root / "book/_build/made"
        sources = [*(path for name in ("notebooks", "stdcf_lib", "figures", "book") for path in (root / name).rglob("*"))]
        sources += root.glob("*.md")
        changed = max(
            path.stat().st_mtime for path in sources if path.is_file() and not {"_build", "__pycache__"} & {*path.parts}
        )
        if not (shared / "book.made").exists() and not (stamp.exists() and stamp.stat().st_mtime > changed):
            made = subprocess.run([*command, ".", "book/_build/html"], cwd=root, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            stamp.touch()
        (shared / "book.made").touch()
    return root / "book/_build/html"


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the real KTH clips are kept decoded, shared by the processes that test side by side: it takes seconds."""
    folder = _shared(tmp_path_factory) / "kth"
    folder.mkdir(exist_ok=True)
    return folder
