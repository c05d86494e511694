"""What the check of the environment says on machines that lack something."""

import sys
from email.message import Message
from importlib import metadata

import pytest
import torch

from stdcf_lib import environment


@pytest.fixture
def machine(monkeypatch):
    """`machine({"name": "version", …}, "requirement", …)` is where these are installed and the library declares those."""

    def pretend(installed: dict[str, str], *declared: str, python: str = ">=3.11") -> None:
        about = Message()
        about["Requires-Python"] = python
        for requirement in declared:
            about["Requires-Dist"] = requirement

        def version(name: str) -> str:
            if name not in installed:
                raise metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(metadata, "metadata", lambda name: about)
        monkeypatch.setattr(metadata, "version", version)

    return pretend


def test_this_environment_is_complete():
    assert environment.check() == environment.READY
    names = [need.name for need in environment.needs()]
    assert names[0] == "Python" and {"torch", "matplotlib", "jupyterlab"} <= set(names)
    assert "pytest" not in names  # a reader needs no tests


def test_all_that_is_needed_and_no_more(machine):
    machine({"torch": "2.6", "av": "14.0.1"}, "torch>=2.6", 'av>=14; extra == "lab"', 'ruff>=0.8; extra == "test"')
    assert environment.check() == environment.READY
    assert [need.name for need in environment.needs()] == ["Python", "torch", "av"]


@pytest.mark.parametrize(
    ("installed", "word"),
    [
        ({}, "MISSING"),
        ({"torch": "2.5.1"}, "TOO OLD"),
        ({"torch": "2.9.1+cu130"}, "NOT THIS ONE"),
        ({"torch": "2.10.0rc1+cu130"}, None),
    ],
)
def test_what_is_lacking_is_named_with_the_command_that_helps(machine, installed, word):
    machine({"numpy": "2.0"} | installed, "numpy>=1.26", "torch>=2.6,!=2.9.*")
    lines = environment.check().splitlines()
    if word is None:
        assert lines == [environment.READY]
    else:
        line, remedy = lines
        assert line.startswith("torch") and line.endswith(word) and ">=2.6" in line
        assert "pip install '.[lab]'" in remedy
        assert line in environment.report()


def test_an_old_python_is_too_old(machine):
    machine({}, python=f">={sys.version_info.major + 1}")
    line, _ = environment.check().splitlines()
    assert line.startswith("Python") and line.endswith("TOO OLD")


def test_a_library_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGE", "stdcf-lib-of-nobody")
    with pytest.raises(RuntimeError, match=r"is not installed for this kernel.*make lab"):
        environment.check()


def test_the_report_says_what_there_is_and_names_no_path(tmp_path, monkeypatch):
    monkeypatch.delenv("STDCF_DATA", raising=False)
    assert "STDCF_DATA     not set" in environment.report()
    monkeypatch.setenv("STDCF_DATA", str(tmp_path / "nowhere"))
    assert "names no folder that exists" in environment.report()
    monkeypatch.setenv("STDCF_DATA", str(tmp_path))
    assert "is an empty folder" in environment.report()
    for name in ("mnist", "kth"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("STDCF_PROFILE", "smoke")
    report = environment.report()
    assert "STDCF_DATA     has kth, mnist" in report and str(tmp_path) not in report
    for name in ("Python", "torch", "threads", "GPU", "STDCF_PROFILE  smoke"):
        assert f"\n{name}" in f"\n{report}"


@pytest.mark.parametrize(("there", "words"), [(True, "cuda"), (False, "none, and none is needed")])
def test_a_gpu_is_named_where_it_can_be_used(monkeypatch, there, words):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert f"\nGPU            {words}" in environment.report()
