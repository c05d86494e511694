"""Do the tests that draw their examples hold for others than those that they draw every day?

`python -m tests.attack.draws [--seconds S] [--seed K]` runs them with a thousand examples each, drawn anew from seed K, K + 1,
and so on, and says which failed, with what hypothesis made of the example.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIGN = "tests and examples: "


class Counter:
    """A plugin of pytest that counts tests and examples."""

    tests = examples = 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        drawn = {item.obj for item in items if hasattr(getattr(item, "obj", None), "hypothesis")}
        self.tests = len(drawn)
        for test in drawn:
            test.hypothesis.inner_test = self.counted(test.hypothesis.inner_test)

    def counted(self, test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        def one(*arguments: Any, **named: Any) -> Any:
            self.examples += 1
            return test(*arguments, **named)

        return one


def attack(seconds: float, seed: int, say: Callable[[str], None], folder: Path = ROOT / "tests") -> dict[str, int]:
    """The command below; `say` is called with what fails.

    Returns:
        How many tests there are, how many examples they had, and how many of them failed.

    Raises:
        ChildProcessError: the tests cannot be run.
    """
    end, tests, examples, failed = time.monotonic() + seconds, 0, 0, set()
    while not examples or time.monotonic() < end:
        command = [sys.executable, "-m", __name__, "--once", str(folder), "--seed", str(seed)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        *lines, last = done.stdout.splitlines() or [""]
        if done.returncode not in (0, 1) or not last.startswith(SIGN):
            raise ChildProcessError(f"{__name__} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        tests, new = map(int, last.removeprefix(SIGN).split())
        examples += new
        failed |= {line.split(" - ")[0] for line in lines if line.startswith("FAILED")}
        if done.returncode:
            say("\n".join(lines))
        seed += 1
    return {"tests": tests, "examples": examples, "failed": len(failed)}


def once(folder: str, seed: int) -> int:
    """All drawn tests of a folder, a thousand examples each; pytest's exit code."""
    import pytest

    counter = Counter()
    options = ["-q", "-m", "hypothesis", "--hypothesis-profile=anew", f"--hypothesis-seed={seed}", "-p", "no:cacheprovider"]
    code = int(pytest.main([*options, folder], [counter]))
    print(f"{SIGN}{counter.tests} {counter.examples}")
    return code


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the tests that draw their examples with others.")
    parser.add_argument("--seconds", type=float, default=180, help="begin no round after so long (180)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (0)")
    parser.add_argument("--once", metavar="FOLDER", help="one round of the tests of a folder, in this process")
    arguments = parser.parse_args()
    if arguments.once:
        sys.exit(once(arguments.once, arguments.seed))
    print(json.dumps(attack(arguments.seconds, arguments.seed, functools.partial(print, flush=True))))


if __name__ == "__main__":
    main()
