"""Importing the library changes nothing but what is imported."""

from tests.attack.quiet import changed_by_import, modules

# What each line changes.
LOUD = {
    "import torch; torch.manual_seed(0)": "random numbers",
    "import os; os.environ['STDCF_PROFILE'] = 'paper'": "environment",
    "import warnings; warnings.simplefilter('ignore')": "warnings",
    "import matplotlib; matplotlib.rcParams['font.size'] = 5": "matplotlib",
    "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()": "threads",
    "import tempfile; file = tempfile.TemporaryFile()": "open files",
}


def test_importing_changes_nothing():
    names = modules()
    assert len(names) > 90
    assert changed_by_import(names) == []


def test_a_module_that_changes_something_is_found(tmp_path, monkeypatch):
    (tmp_path / "loud.py").write_text("\n".join(LOUD))
    monkeypatch.syspath_prepend(tmp_path)
    assert {fault.partition(":")[0] for fault in changed_by_import(["loud"])} == set(LOUD.values())
