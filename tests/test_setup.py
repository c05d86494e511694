"""The tree around the library: environments, targets, licence, and what no file may contain."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# A module imports from its own floor and those below.
FLOORS = {
    "checks": 0,
    "files": 0,
    "effort": 1,
    "capacity": 1,
    "atoms": 1,
    "decompose": 1,
    "measure": 1,
    "environment": 1,
    "geometry": 2,
    "forms": 2,
    "conv": 2,
    "rank1": 2,
    "fold": 2,
    "roofline": 2,
    "models": 3,
    "data": 3,
    "train": 4,
    "runs": 4,
    "itsl": 5,
    "convert": 5,
    "experiments": 6,
    "plots": 7,
    "explore": 7,
    "exercises": 7,
    "explorables": 7,
}
# Neighbours on one floor that know nothing of each other.
STRANGERS = [{"models", "data"}, {"decompose", "capacity"}, {"conv", "rank1"}]

# Built so that this file does not match its own patterns.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|tmp|root|opt|home/\w+|Users/\w+)/"),
    "a package registry": re.compile(r"(?:pypi|pythonhosted)\.(?:org|io)|conda\.anaconda\.org"),
}
BINARY = {".png", ".npz", ".safetensors"}


def kept_files() -> list[Path]:
    """The texts of the repository."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for name in names if (path := ROOT / name).is_file() and path.suffix not in BINARY]


def forbidden(text: str) -> list[str]:
    return [f"{what}: {match.group()}" for what, pattern in FORBIDDEN.items() for match in pattern.finditer(text)]


def imported(source: str) -> set[str]:
    """The library's modules that a source imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("stdcf_lib.")} & set(FLOORS)


def trespasses(module: str, source: str) -> set[str]:
    """The modules that `module` imports and must not know."""
    return {
        other
        for other in imported(source)
        if FLOORS[other] > FLOORS[module] or ({module, other} in STRANGERS and module != other)
    }


def test_conda_and_pip_agree():
    conda_names = {"torch": "pytorch", "playwright": "playwright-python", "openTSNE": "opentsne"}
    pip = [Requirement(line) for line in PYPROJECT["dependencies"]]
    # The book's packages come from pip alone, by `make book`.
    extras = [PYPROJECT["optional-dependencies"][name] for name in ("lab", "test")]
    pip += [Requirement(line) for extra in extras for line in extra]
    expected = {conda_names.get(need.name, need.name): need.specifier for need in pip}
    expected["python"] = Requirement(f"python {PYPROJECT['requires-python']}").specifier

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *packages, own = [package for package in environment["dependencies"] if package != "pip"]
    assert {need.name: need.specifier for need in map(Requirement, packages)} == expected
    assert own == {"pip": ["--editable ."]}


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = phony[1].split()
    expected = "help setup lab test lint notebooks figures book runs bench gpu attack"
    assert set(targets) == set(expected.split())
    for command in (["make"], ["make", "help"]):
        lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        listed = {line.split()[1] for line in lines if re.fullmatch(r"make \w+ +\S.*", line)}
        assert listed == set(targets)


def test_an_old_python_is_refused_clearly(tmp_path):
    old = tmp_path / "python3"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 8); exec(sys.argv[1])" "$2"\n')
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "pyproject.toml").touch()
    result = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert "3.11 or newer is needed" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_license_and_citation():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert PYPROJECT["license"] == "MIT"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # all that the format requires
    assert (citation["license"], citation["version"]) == ("MIT", PYPROJECT["version"])
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Miao", "Wang", "Cheng", "Qiu"]
    assert (paper["type"], paper["year"]) == ("conference-paper", 2021)


@pytest.mark.parametrize("path", kept_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_name_no_machine_and_no_registry(path):
    # Bytes of pictures and arrays are random letters to a pattern, and so are pictures inside notebooks.
    text = path.read_text(encoding="utf-8")
    assert forbidden(re.sub(r'"image/\w+": "[^"]*"', "", text)) == []


# Written with | for / and _ for a dot, so that this file passes its own test.
@pytest.mark.parametrize("text", ["cd |work|main", 'open("|root|x")', "https:||pypi_org|simple", "|home|me|x"])
def test_forbidden_text_is_found(text):
    assert forbidden(text.replace("|", "/").replace("_", "."))


def test_ordinary_text_is_not_forbidden():
    assert forbidden("../shared/data, notebooks/work/x, https://openreview.net/forum, n/root/2") == []


@pytest.mark.parametrize("path", sorted((ROOT / "stdcf_lib").rglob("*.py")), ids=lambda path: path.stem)
def test_modules_import_only_floors_below(path):
    module = path.relative_to(ROOT / "stdcf_lib").parts[0].removesuffix(".py")
    if module != "__init__":
        assert module in FLOORS, f"give {module} a floor"
        assert trespasses(module, path.read_text()) == set()


def private_imports(source: str) -> set[str]:
    """Names that begin with an underscore, taken from another file of the library."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stdcf_lib")
        for alias in node.names
        if alias.name.startswith("_")
    }


@pytest.mark.parametrize("path", sorted((ROOT / "stdcf_lib").rglob("*.py")), ids=lambda path: path.stem)
def test_no_private_name_leaves_its_file(path):
    assert private_imports(path.read_text()) == set()


def test_a_private_import_is_found():
    assert private_imports("from stdcf_lib.data.kth import KTH, _find") == {"stdcf_lib.data.kth._find"}


def edges(path: Path) -> set[str]:
    """The files of the library that a file imports when it is itself imported."""
    found = set()
    for node in ast.parse(path.read_text()).body:  # what stands within a function is imported when it runs
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stdcf_lib."):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.ImportFrom) and node.module == "stdcf_lib":
            found |= {f"stdcf_lib.{alias.name}" for alias in node.names}
    return found


def test_no_file_imports_itself_by_way_of_others():
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "stdcf_lib").rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph = {name: edges(path) & set(files) - {name} for name, path in files.items()}
    # A package's door imports its rooms, and a room may name its package by its path; that is no circle.
    graph = {name: {other for other in others if not name.startswith(f"{other}.")} for name, others in graph.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_a_trespass_is_found():
    assert trespasses("conv", "from stdcf_lib.plots.style import Drawing") == {"plots"}
    assert trespasses("atoms", "def f():\n    import stdcf_lib.conv") == {"conv"}
    assert trespasses("models", "from stdcf_lib import data") == {"data"}
    assert trespasses("explore", "from stdcf_lib.plots import style, conv") == set()
    assert trespasses("itsl", "from stdcf_lib.experiments.turning import PLANS") == {"experiments"}
    assert trespasses("conv", "from stdcf_lib.rank1 import initialise") == {"rank1"}
