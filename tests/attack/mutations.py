"""Do the tests notice when the library is wrong? Small faults, put into it one at a time, that some test must find.

`python -m tests.attack.mutations [MODULE …] [--each N] [--seconds S] [--seed K]` draws faults (a comparison that includes its
bound, a sum for a difference, a number one too large, a condition reversed, a call left out, …), as many in each module,
and says where those are that no test found. What is only said is left alone: docstrings, messages of exceptions, annotations;
and so are `strict=True`, which checks the library itself, and what other profiles compute than that of the tests.

A copy of the repository is what is changed, and each fault is tried by a fork of one process that has imported everything else.
First run are the tests that come by the changed line, then all of the module's unless they take long, as what is kept from one
test to the next, such as a fixture, was come by only once. Faults that change nothing that anyone could see are listed, with
why, in `equivalent.toml`.
"""

import argparse
import ast
import copy
import importlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LONG = 30.0  # seconds

# Module → the tests that are to find its faults, besides the examples in its docstrings.
TARGETS = {
    "checks": ["test_checks.py"],
    "files": ["test_files.py", "test_runs.py", "convert/test_saved.py", "convert/test_command.py"],
    "capacity": ["test_capacity.py"],
    "atoms": ["test_atoms.py"],
    "decompose": ["test_decompose.py"],
    "measure": ["test_measure.py"],
    "effort": ["test_effort.py"],
    "environment": ["test_environment.py"],
    "geometry": ["test_conv.py", "test_measure.py"],
    "forms": ["test_forms.py", "test_conv.py", "test_benchmarks.py"],
    "conv": ["test_conv.py", "test_forms.py"],
    "rank1": ["test_conv.py", "models/test_kinds.py"],
    "fold": ["test_fold.py"],
    "roofline": ["test_roofline.py"],
    "models.autoencoder": ["models/test_autoencoder.py"],
    "models.kinds": ["models/test_kinds.py", "models/test_small.py"],
    "models.kth": ["models/test_kth.py"],
    "models.small": ["models/test_small.py"],
    "models.resnet": ["models/test_resnet.py"],
    "train": ["test_train.py"],
    "runs": ["test_runs.py"],
    "itsl.stages": ["itsl/test_run.py"],
    "itsl.swap": ["itsl/test_run.py"],
    "itsl.shared_bn": ["itsl/test_run.py", "itsl/test_predict.py"],
    "itsl.recipe": ["itsl/test_run.py", "itsl/test_command.py"],
    "itsl.presets": ["itsl/test_run.py", "itsl/test_command.py"],
    "itsl.run": ["itsl/test_run.py"],
    "itsl.log": ["itsl/test_run.py", "itsl/test_command.py"],
    "itsl.plan": ["itsl/test_command.py"],
    "itsl.networks": ["itsl/test_command.py"],
    "itsl.command": ["itsl/test_command.py"],
    "itsl.predict": ["itsl/test_predict.py"],
    "convert.named": ["convert/test_conversion.py", "convert/test_command.py"],
    "convert.layers": ["convert/test_conversion.py"],
    "convert.budget": ["convert/test_conversion.py"],
    "convert.conversion": ["convert/test_conversion.py"],
    "convert.saved": ["convert/test_saved.py"],
    "convert.recovery": ["convert/test_recovery.py"],
    "convert.command": ["convert/test_command.py"],
    "convert.timing": ["convert/test_command.py"],
    "convert.clips": ["convert/test_command.py", "convert/test_recovery.py"],
    "data.lists": ["data/test_lists.py"],
    "data.mnist": ["data/test_mnist.py"],
    "data.tr_mnist": ["data/test_tr_mnist.py"],
    "data.turning": ["data/test_turning.py"],
    "data.interactions": ["data/test_interactions.py"],
    "data.kth": ["data/test_kth.py"],
    "data.video": ["data/test_video.py"],
    "data.video_clips": ["data/test_footage.py"],
    "data.footage": ["data/test_footage.py"],
    "data.folder": ["data/test_folder.py"],
    "data.kinetics": ["data/test_lists.py", "data/test_footage.py"],
    "data.something": ["data/test_lists.py", "data/test_footage.py"],
    "data.shrink": ["data/test_shrink.py"],
    "data.noise": ["data/test_noise.py"],
    "data.probes": ["data/test_probes.py"],
    "data.actions.clips": ["data/test_actions.py"],
    "data.actions.motion": ["data/test_actions.py"],
    "data.actions.cast": ["data/test_actions.py"],
    "data.actions.pixels": ["data/test_actions.py"],
    "explorables.base": ["explorables/test_python.py"],
    "explorables.parts": ["explorables/test_python.py"],
    "explorables.rank": ["explorables/test_python.py"],
    "explorables.voxel": ["explorables/test_python.py"],
    "explorables.filter": ["explorables/test_python.py"],
}

_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Fault(NamedTuple):
    """`changed` in place of what is `place` in the tree: (node that holds it, its field, the index there or None)."""

    tree: ast.Module
    place: tuple[Any, str, int | None]
    changed: Any
    within: tuple[Any, ...]  # the definitions and, last, the statement that it is in

    @property
    def node(self) -> Any:
        parent, field, index = self.place
        return getattr(parent, field) if index is None else getattr(parent, field)[index]

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def lines(self) -> range:
        """Of the statement, without the statements that it holds."""
        statement = self.within[-1]
        body = getattr(statement, "body", None)
        return range(statement.lineno, max(statement.lineno + 1, body[0].lineno if body else statement.end_lineno + 1))

    def source(self) -> str:
        """Of the module with this fault."""
        return self._with(ast.fix_missing_locations(ast.copy_location(self.changed, self.node)), lambda: ast.unparse(self.tree))

    def __str__(self) -> str:
        """Where it is and what it does, in words that stay the same when other lines change."""
        names = ".".join(part.name for part in self.within if hasattr(part, "name"))
        both = ast.Name(f"[{_header(self.node)} → {_header(self.changed)}]")
        statement = self.within[-1]
        text = both.id if statement is self.node else self._with(both, lambda: _header(statement))
        return f"{names}: {text}" if names else text

    def _with(self, other: Any, found: Callable[[], str]) -> str:
        (parent, field, index), node = self.place, self.node
        where: Any = parent.__dict__ if index is None else getattr(parent, field)
        key = field if index is None else index
        where[key] = other
        try:
            return found()
        finally:
            where[key] = node


def _header(node: Any) -> str:
    if hasattr(node, "decorator_list"):
        node = copy.copy(node)
        node.decorator_list = []
    return ast.unparse(node).splitlines()[0]


def faults(source: str) -> list[Fault]:
    """Every small change of a module."""
    tree = ast.parse(source)
    return [
        Fault(tree, place, changed, within)
        for node, place, within in _places(tree, ())
        for changed in _changes(node)
    ]  # fmt: skip


def _places(tree: Any, within: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, str, int | None], tuple[Any, ...]]]:
    """Each expression and statement, where it hangs, and what it is in."""
    for field, value in ast.iter_fields(tree):
        if isinstance(tree, ast.Raise | ast.JoinedStr) or field in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(tree, ast.keyword) and tree.arg in ("strict", "laptop", "paper"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST):
                continue
            inside = within
            if isinstance(node, ast.stmt):
                inside = (*(part for part in within if isinstance(part, ast.FunctionDef | ast.ClassDef)), node)
            if isinstance(node, ast.expr | ast.stmt):
                yield node, (tree, field, index), inside
            yield from _places(node, inside)


def _changes(node: Any) -> Iterator[ast.AST]:
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
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.Constant(1.5 * node.value or 1.0)
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        other.test = ast.UnaryOp(ast.Not(), node.test)
        yield other
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(ast.Constant(None))


class _Recorder:
    """Of a run of pytest: how long each test took, which failed, and what was imported from elsewhere than the copy."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder, self.seconds, self.failed = path, str(folder), {}, []

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        places = {name: getattr(module, "__file__", None) or self.folder for name, module in [*sys.modules.items()]}
        imported = [name for name, place in places.items() if not place.startswith(self.folder)]
        self.path.write_text(json.dumps([self.seconds, self.failed, imported]), encoding="utf-8")


class Copy:
    """A copy of a repository, in which files are changed and tests run, each for thrice its time and `patience` seconds."""

    def __init__(self, root: Path, folder: Path, patience: float = 10) -> None:
        self.root = folder / "copy"
        left_out = shutil.ignore_patterns(".*", "__pycache__", "_build")
        shutil.copytree(root, self.root, ignore=left_out)
        if (root / ".git").exists():
            (self.root / ".git").symlink_to(root / ".git")  # a run says which commit it is of
        self.work, self.patience = folder / "work", patience
        self.seconds: dict[str, float] = {}  # of each test, by its name
        self.failed: list[str] = []
        self.tests: dict[tuple[str, int], set[str]] = {}  # that come by a line of a file

    def record(self, file: str) -> list[str]:
        """Run a file of tests as it is, and remember what they come by; those that fail, which are left out from now on.

        Raises:
            ChildProcessError: it cannot be run.
        """
        import coverage

        began = time.monotonic()
        report, lines = self.work / "report", self.work / "lines"
        options = ["-p", "pytest_cov", "--cov", "stdcf_lib", "--cov-context", "test", "--cov-report", "", file]
        code = self.run(options, 1200, COVERAGE_FILE=str(lines), REPORT=str(report))
        if code not in (0, 1, 5):
            raise ChildProcessError(f"{file} cannot be run:\n{(self.work / 'output').read_text(encoding='utf-8')}")
        failed: list[str] = []
        if code != 5:  # a module without examples: no tests are in it
            seconds, failed, imported = json.loads(report.read_text(encoding="utf-8"))
            self.seconds |= seconds
            self.failed += failed
            for name in imported:  # here once, rather than in each trial
                with suppress(Exception):
                    importlib.import_module(name)
            data = coverage.CoverageData(str(lines))
            data.read()
            for path in data.measured_files():
                for line, contexts in data.contexts_by_lineno(path).items():
                    names = {name.partition("|")[0] for name in contexts if name}
                    self.tests.setdefault((str(Path(path).relative_to(self.root)), line), set()).update(names)
        self.seconds[file] = time.monotonic() - began
        return failed

    def finds(self, path: str, fault: Fault, files: Sequence[str]) -> bool:
        """Whether a test fails, or never ends, with this fault."""
        module = self.root / path
        aside = module.rename(module.with_suffix(".aside"))
        module.write_text(fault.source(), encoding="utf-8")
        try:
            names = {name for line in fault.lines for name in self.tests.get((path, line), ())}
            near = sorted((name for name in names if name.startswith(tuple(files))), key=self.seconds.__getitem__)
            code = self.run(["-x", *near], self._seconds(near)) if near else 4
            if code in (0, 5) and sum(self.seconds[name] for name in files) > LONG:
                return False
            # 4: the fault has changed the names of tests, or nothing can be imported any longer. 5: all of them are left out.
            return code not in (0, 4, 5) or self.run(["-x", *files], self._seconds(files)) not in (0, 5)
        finally:
            aside.replace(module)  # as old as it was, so that its bytecode is good

    def _seconds(self, tests: Sequence[str]) -> float:
        return self.patience + 3 * sum(self.seconds[name] for name in tests)

    def run(self, options: Sequence[str], seconds: float, **environment: str) -> int | None:
        """pytest's exit code, in a process of its own, that is killed if it takes so many seconds of the processor; None if it
        waits for long, and is killed."""
        shutil.rmtree(self.work / "tmp", ignore_errors=True)
        (self.work / "tmp").mkdir(parents=True)
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
                resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # an endless loop may fill the memory
                os._exit(self._pytest(options, environment))
            finally:
                os._exit(3)
        end, code = time.monotonic() + 3 * seconds, None  # others may need the processor, too
        try:
            while code is None and time.monotonic() < end:
                pid, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if pid else None
                time.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with what it may have left behind
            if code is None:
                os.waitpid(child, 0)
        return code

    def _pytest(self, options: Sequence[str], environment: dict[str, str]) -> int:
        os.setsid()
        os.chdir(self.root)
        sink = os.open(self.work / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.path[:] = [str(self.root), *(path for path in sys.path if path not in ("", str(ROOT)))]
        scratch = str(self.work / "tmp")
        # The reader's own data stay out of it: a fault may write.
        os.environ.pop("STDCF_DATA", None)
        os.environ |= {"PYTHONPATH": str(self.root), "TMPDIR": scratch, "XDG_CACHE_HOME": scratch}
        if not environment:  # bytecode is of what is right
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ |= environment
        tempfile.tempdir = None
        import hypothesis
        import pytest

        phases = [phase for phase in hypothesis.Phase if phase.name not in ("shrink", "explain")]
        # What is drawn is the same each time: otherwise a test may fail of itself.
        hypothesis.settings.register_profile("attack", phases=phases, database=None, deadline=None, derandomize=True)
        plugins = [_Recorder(Path(environment["REPORT"]), self.root)] if "REPORT" in environment else []
        folders = ["--rootdir", str(self.root), "--basetemp", f"{scratch}/pytest", "--hypothesis-profile=attack"]
        left_out = [f"--deselect={name}" for name in self.failed]
        return int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *folders, *left_out, *options], plugins))


def judged(module: str, every: Sequence[Fault]) -> set[str]:
    """The faults of a module that are listed as equivalent.

    Raises:
        ValueError: one is listed that does not occur any longer.
    """
    listed = tomllib.loads(Path(__file__).with_name("equivalent.toml").read_text(encoding="utf-8")).get(module, {})
    if listed and (gone := sorted(set(listed) - {*map(str, every)})):
        raise ValueError(f"equivalent.toml, {module}: {gone[0]!r} does not occur any longer; take it out, or write it anew")
    return set(listed)


def attack(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int | float | str]:
    """The command below, in a process that has not imported the library; `say` is called with its lines.

    Returns:
        How many modules and faults there were, and how many of these were found, are equivalent, and were missed.
    """
    options = ["--seconds", str(seconds), "--seed", str(seed)]
    with subprocess.Popen([sys.executable, "-m", __name__, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        last = ""
        for line in process.stdout:
            say(line.rstrip())
            last = line
    if process.returncode:
        raise ChildProcessError(f"{__name__} ended with {process.returncode}")
    return json.loads(last)


def trials(seconds: float, seed: int, say: Callable[[str], None], modules: Sequence[str], each: int) -> dict[str, int]:
    """Try one fault of each module after the other, again and again, at most `each` in a module, until the time is over."""
    os.environ |= {"STDCF_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    end, chance = time.monotonic() + seconds, random.Random(seed)
    figures = {"modules": len(modules), "faults": 0, "found": 0, "equivalent": 0, "missed": 0}
    drawn, excused, files, score = {}, {}, {}, {module: [0, 0] for module in modules}
    for module in modules:
        path = f"stdcf_lib/{module.replace('.', '/')}.py"
        every = faults((ROOT / path).read_text(encoding="utf-8"))
        drawn[module] = iter(chance.sample(every, min(each, len(every))))
        excused[module] = judged(module, every)
        files[module] = [path, *(f"tests/{name}" for name in TARGETS[module])]
    with tempfile.TemporaryDirectory() as folder:
        copied = Copy(ROOT, Path(folder))
        while drawn and time.monotonic() < end:
            for module in [*drawn]:
                fault = next(drawn[module], None)
                if fault is None or time.monotonic() > end:
                    del drawn[module]
                    continue
                for file in files[module]:
                    if file not in copied.seconds:
                        for name in copied.record(file):
                            say(f"left out, as it fails as it is: {name}")
                found = "equivalent" if str(fault) in excused[module] else None
                found = found or ("found" if copied.finds(files[module][0], fault, files[module]) else "missed")
                figures["faults"] += 1
                figures[found] += 1
                score[module][0] += found != "missed"
                score[module][1] += 1
                if found == "missed":
                    say(f"missed: {files[module][0]}:{fault.line}: {fault}")
    for module, (found, tried) in score.items():
        say(f"{module}: {found} of {tried}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Put faults into the library, and see whether its tests find them.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as conv or itsl.run; all without any")
    parser.add_argument("--each", type=int, default=sys.maxsize, help="faults a module at most (as many as there is time for)")
    parser.add_argument("--seconds", type=float, default=1800, help="begin no trial after so long (1800)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.modules) - set(TARGETS)):
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    modules = tuple(arguments.modules) or tuple(TARGETS)
    say = partial(print, flush=True)
    say(json.dumps(trials(arguments.seconds, arguments.seed, say, modules, arguments.each)))


if __name__ == "__main__":
    main()
