"""Trials side by side: all are done, failures are named, and whatever ends the parent ends them at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from stdcf_lib.experiments import command
from stdcf_lib.runs import Run

HERE = Path(__file__).parent
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it runs in the background without it
from pool_work import work
from stdcf_lib.experiments.pool import work_off
if __name__ == "__main__":
    print("failed:", work_off(work, sys.argv[1:], 2), flush=True)
"""
INTERRUPTED = """
    import psutil
    from multiprocessing.process import BaseProcess
    start, started = BaseProcess.start, []
    def interrupted(process):
        start(process)
        started.append(psutil.Process(process.pid))
        raise KeyboardInterrupt
    BaseProcess.start = interrupted
    try:
        work_off(work, ["sleeps-here"], 1)
    except KeyboardInterrupt:
        print("left:", len(psutil.wait_procs(started, 20)[1]))
"""


@pytest.fixture
def started(tmp_path):
    """Starts a pool of two over trials of `pool_work.py`, in a group of processes of its own, as a terminal does."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + INTERRUPTED)
    pools = []

    def start(*names):
        command = [sys.executable, script, *names]
        found = os.environ | {"PYTHONPATH": str(HERE)}  # `pool_work`, by the process too whose forks are the trials
        streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        pool = subprocess.Popen(command, cwd=tmp_path, env=found, start_new_session=True, **streams)
        pools.append(pool)
        return pool

    yield start
    for pool in pools:
        if pool.poll() is None:
            os.killpg(pool.pid, signal.SIGKILL)
        pool.wait()


def test_all_are_done_on_one_thread_and_failures_are_named(started):
    pool = started("a", "fails", "b", "dies")
    answer = pool.communicate()[0]
    assert sorted(line for line in answer.splitlines() if "thread" in line) == ["a: 1 thread", "b: 1 thread"]
    assert "failed: ['fails', 'dies']" in answer or "failed: ['dies', 'fails']" in answer
    assert "dies: killed by signal 9" in answer and "goes on from its last checkpoint" in answer
    assert "left: 0" in answer  # of a trial whose start was interrupted, in a process that goes on, as a notebook's does


@pytest.mark.parametrize(
    ("send", "to_all"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False), (signal.SIGTERM, False)]
)
def test_whatever_ends_the_parent_ends_the_trials_and_none_is_begun(started, tmp_path, send, to_all):
    pool = started("sleeps-1", "sleeps-2", "later")
    for name in ("sleeps-1", "sleeps-2"):
        while not (tmp_path / name).exists():
            assert pool.poll() is None
            time.sleep(0.05)
    children = psutil.Process(pool.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(pool.pid, send) if to_all else os.kill(pool.pid, send)
    pool.wait(20)
    psutil.wait_procs(children, 20)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert not (tmp_path / "later").exists()


def typed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["experiments", *words])
    command.main()


def test_the_command_names_what_it_does_not_know(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        typed(monkeypatch, "reconstruction/stdcf-seed99", "chess")
    assert "unknown reconstruction/stdcf-seed99, chess; known are" in capsys.readouterr().err


def test_the_command_leaves_finished_trials_alone(monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(command, "work_off", lambda work, todo, jobs: begun.extend(todo))  # a test must not train for hours
    typed(monkeypatch, "reconstruction", "tempo", "itsl", "--jobs", "1")
    assert begun == [] and capsys.readouterr().out.startswith("0 trials to train, 1 at a time: about 0.0 hours")


def test_the_command_hands_its_trials_to_processes_that_find_them(tmp_path):
    trial = "itsl/direct-seed0"
    with Run(tmp_path / trial).held():  # so that the trial is begun and left alone
        words = [sys.executable, "-m", "stdcf_lib.experiments", trial, "--jobs", "1"]
        done = subprocess.run(words, env=os.environ | {"STDCF_RUNS": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{trial}: left alone, as {tmp_path / trial} is in use by process {os.getpid()}" in done.stdout
