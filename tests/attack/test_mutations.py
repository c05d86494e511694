"""Of the tool that tries the tests: it tells a fault that they find from one that they cannot, and from one that never ends."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.attack.mutations import faults, judged

ROOT = Path(__file__).parents[2]
JUDGED = tomllib.loads(Path(__file__).with_name("equivalent.toml").read_text(encoding="utf-8"))

LIBRARY = """
def least(values):
    found = values[0]
    for value in values:
        if value < found:
            found = value
    return found

def over(count):
    while count:
        count -= 1
"""
TESTS = """
import pytest
from stdcf_lib.tiny import least, over

@pytest.fixture(scope="module")
def one():
    return least([2, 1, 3])

def test_nothing(one):
    pass

def test_least(one):
    assert one == 1

def test_over():
    over(4)

def test_broken():
    assert least([1]) == 2
"""
SCRIPT = """
import sys
import tomllib
from pathlib import Path
from tests.attack.mutations import Copy, faults

copied = Copy(Path(sys.argv[1], "tiny"), Path(sys.argv[1]), patience=0.5)
print(*copied.record("tests/test_tiny.py"))
path = "stdcf_lib/tiny.py"
for fault in faults((copied.root / path).read_text()):
    print(fault.line, fault, "found" if copied.finds(path, fault, ["tests/test_tiny.py"]) else "missed", sep=" | ")
"""


def test_faults_are_found_by_tests_that_can(tmp_path):
    for name, content in {"stdcf_lib/__init__.py": "", "stdcf_lib/tiny.py": LIBRARY, "tests/test_tiny.py": TESTS}.items():
        (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / name).write_text(content)
    command = [sys.executable, "-c", SCRIPT, tmp_path]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "_hypothesis_pytestplugin"}
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "tests/test_tiny.py::test_broken",
        "3 | least: found = values[[0 → 1]] | missed",
        "5 | least: if [value < found → value <= found]: | missed",
        "7 | least: [return found → return None] | found",
        "10 | over: [while count: → while not count:] | missed",
        "11 | over: [count -= 1 → count += 1] | found",
        "11 | over: count -= [1 → 2] | missed",
    ]
    assert (tmp_path / "tiny/stdcf_lib/tiny.py").read_text() == LIBRARY


@pytest.mark.parametrize("module", JUDGED)
def test_faults_that_were_judged_still_occur(module):
    source = (ROOT / "stdcf_lib" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert judged(module, faults(source)) == set(JUDGED[module])
    with pytest.raises(ValueError, match=f"equivalent.toml, {module}: .* does not occur any longer"):
        judged(module, [])
