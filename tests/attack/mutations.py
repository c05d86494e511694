"""Do the tests notice when the library is wrong? Small faults, put into it one at a time, that some test must find.

`python -m tests.attack.mutations [MODULE …] [--each N] [--seconds S]` draws N faults a module (a comparison that includes its
bound, a sum for a difference, a number one too large, a condition reversed, a call left out, …), runs the module's tests with
each, and prints how many were found, and where those are that were not. `make attack` runs it for all modules, in bounded time.

A copy of the repository is what is changed. Each fault is tried by a fork of one process that has imported everything else.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

# Module → the tests that are to find its faults, the quickest first, as the first that fails ends a trial.
TARGETS = {
    "checks": ["test_checks.py"],
    "geometry": ["test_conv.py", "test_measure.py"],
    "capacity": ["test_capacity.py"],
    "atoms": ["test_atoms.py"],
    "decompose": ["test_decompose.py"],
    "measure": ["test_measure.py"],
    "fold": ["test_fold.py"],
    "forms": ["test_forms.py"],
    "conv": ["test_conv.py", "test_forms.py"],
    "rank1": ["test_conv.py", "models/test_kinds.py"],
    "train": ["test_train.py"],
    "runs": ["test_runs.py"],
    "convert.budget": ["convert/test_conversion.py"],
    "convert.conversion": ["convert/test_conversion.py"],
    "convert.saved": ["convert/test_saved.py"],
    "itsl.stages": ["itsl/test_run.py"],
    "itsl.swap": ["itsl/test_run.py"],
    "itsl.recipe": ["itsl/test_run.py"],
    "itsl.run": ["itsl/test_run.py"],
    "itsl.log": ["itsl/test_run.py"],
    "data.lists": ["data/test_lists.py"],
    "data.mnist": ["data/test_mnist.py"],
    "data.tr_mnist": ["data/test_tr_mnist.py"],
    "data.kth": ["data/test_kth.py"],
    "data.video": ["data/test_video.py"],
    "data.footage": ["data/test_footage.py"],
}

_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Fault(NamedTuple):
    """A change of one place: `make` puts it into a copy of that node."""

    line: int
    before: str
    after: str
    source: str


def faults(source: str) -> list[Fault]:
    """Every small change of a module, each as the whole changed source. What is only said is left alone: docstrings, messages
    of exceptions, annotations."""
    tree = ast.parse(source)
    found = []
    for node, parent, field, index in _places(tree):
        for changed in _changes(node):
            where = getattr(parent, field)
            if index is None:
                setattr(parent, field, changed)
            else:
                where[index] = changed
            ast.fix_missing_locations(tree)
            found.append(Fault(node.lineno, _short(node), _short(changed), ast.unparse(tree)))
            if index is None:
                setattr(parent, field, node)
            else:
                where[index] = node
    return found


def _short(node: ast.AST) -> str:
    line, *more = ast.unparse(node).splitlines()
    return line + (" …" if more else "")


def _places(tree: ast.AST) -> Iterator[tuple[Any, Any, str, int | None]]:
    """Each expression and statement with where it hangs."""
    for field, value in ast.iter_fields(tree):
        if isinstance(tree, ast.Raise | ast.JoinedStr) or field in ("annotation", "returns", "decorator_list"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.expr | ast.stmt):
                yield node, tree, field, index
            if isinstance(node, ast.AST):
                yield from _places(node)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    other: Any = copy.copy(node)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SWAPS:
        other.ops = [_SWAPS[type(node.ops[0])]()]
        yield other
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _SWAPS:
        other.op = _SWAPS[type(node.op)]()
        yield other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.copy_location(ast.Constant(not node.value), node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.copy_location(ast.Constant(node.value + 1), node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.copy_location(ast.Constant(1.5 * node.value), node)
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        other.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        yield other
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.copy_location(ast.Return(ast.Constant(None)), node)


def _copy(folder: Path) -> Path:
    """The repository, of which the library and the tests are copies, and the rest are links."""
    for path in ROOT.iterdir():
        if path.name in ("stdcf_lib", "tests"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name != ".git":
            (folder / path.name).symlink_to(path)
    return folder


def _warm() -> None:
    """Import what a trial needs, and nothing of the library."""
    import accelerate  # noqa: F401
    import hypothesis  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.special  # noqa: F401
    import torch._dynamo
    import torchvision  # noqa: F401

    assert not any(name.partition(".")[0] == "stdcf_lib" for name in sys.modules)
    torch.set_num_threads(1)


def _tests_pass(folder: Path, tests: list[str], seconds: float) -> bool | None:
    """Whether the tests of the copy pass, in a process of its own; None if they take longer."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.path.insert(0, str(folder))
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(folder)]
        os._exit(int(pytest.main([*options, *(f"tests/{name}" for name in tests)])))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def attack(folder: Path, module: str, count: int, chance: random.Random, say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Try so many faults of a module: how many, and those that no test found."""
    path = folder / "stdcf_lib" / (module.replace(".", "/") + ".py")
    original, tests = path.read_text(encoding="utf-8"), TARGETS[module]
    began = time.monotonic()
    if not _tests_pass(folder, tests, 600):
        raise SystemExit(f"{module}: its tests fail as it is")
    patience = 3 * (time.monotonic() - began) + 10  # a fault may make a loop endless: that is found, too
    every = faults(original)
    chosen = sorted(chance.sample(every, min(count, len(every))))
    survivors = []
    try:
        for fault in chosen:
            path.write_text(fault.source, encoding="utf-8")
            if _tests_pass(folder, tests, patience):
                survivors.append(
                    f"stdcf_lib/{path.relative_to(folder / 'stdcf_lib')}:{fault.line}: {fault.before} → {fault.after}"
                )
                say(f"  not found: {survivors[-1]}")
    finally:
        path.write_text(original, encoding="utf-8")
    return len(chosen), survivors


def main() -> None:
    parser = argparse.ArgumentParser(description="Put faults into the library, and see whether its tests find them.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as conv or itsl.run; all without any")
    parser.add_argument("--each", type=int, default=12, help="faults a module (12)")
    parser.add_argument("--seconds", type=float, default=1800, help="begin no module after so long (1800)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.modules) - set(TARGETS)):
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    os.environ |= {"STDCF_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    _warm()
    end, tried, missed = time.monotonic() + arguments.seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        copied = _copy(Path(folder))
        for module in arguments.modules or TARGETS:
            if time.monotonic() > end:
                print(f"{module}: left out, time is up")
                continue
            count, survivors = attack(copied, module, arguments.each, random.Random(arguments.seed), print)
            tried, missed = tried + count, missed + len(survivors)
            print(f"{module}: {count - len(survivors)} of {count} found", flush=True)
    print(f"{tried - missed} of {tried} faults found")


if __name__ == "__main__":
    main()
