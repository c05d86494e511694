"""What the README and the notebooks' prose say to type: snippets that run, commands that are understood, targets that exist."""

import importlib
import re
import shlex
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Module → where its command line is understood.
PARSERS = {
    "stdcf_lib.convert": "stdcf_lib.convert.command",
    "stdcf_lib.data.shrink": "stdcf_lib.data.shrink",
    "stdcf_lib.itsl": "stdcf_lib.itsl.command",
    "stdcf_lib.itsl predict": "stdcf_lib.itsl.predict",
}


def prose(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


TEXTS = {path.stem: prose(path) for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *NOTEBOOKS]}


def typed(text: str) -> list[str]:
    """What a text gives to be typed into a shell: the lines of its blocks, and what is set as code within a sentence."""
    blocks = re.findall(r"^ *```(?:sh)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in lines if line] + re.findall(r"`([^`\n]+)`", rest)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of the library that is typed with arguments, with those."""
    found = re.findall(
        r"^(?:python|accelerate launch\b.*?) -m (stdcf_lib[\w.]*(?: predict)?) (?!predict$)(.+)$", "\n".join(typed(text)), re.M
    )
    return [(module, shlex.split(words)) for module, words in found]


COMMANDS = [(name, module, words) for name, text in TEXTS.items() for module, words in commands(text)]


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", TEXTS["README"], re.DOTALL))
def test_snippets_of_the_readme_run(snippet):
    exec(snippet, {})


@pytest.mark.parametrize(("name", "module", "words"), COMMANDS, ids=[f"{name}: {words[0]}" for name, _, words in COMMANDS])
def test_commands_are_understood(name, module, words):
    assert vars(importlib.import_module(PARSERS[module]).parser().parse_args(words))


def test_a_command_that_is_not_understood_is_found():
    text = "`python -m stdcf_lib.itsl noise --plan` and\n```sh\npython -m stdcf_lib.convert net \\\n  --kept 1  # no such\n```"
    assert commands(text) == [("stdcf_lib.convert", ["net", "--kept", "1"]), ("stdcf_lib.itsl", ["noise", "--plan"])]
    with pytest.raises(SystemExit):
        test_commands_are_understood("", *commands(text)[0])


def test_targets_of_make_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(name, line.split()[1]) for name, text in TEXTS.items() for line in typed(text) if line.startswith("make ")}
    assert {target for _, target in named} <= targets and len(named) > 10
