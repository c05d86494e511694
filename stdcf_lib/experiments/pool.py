"""Trials side by side, each in a process of its own, that stop when they are told to."""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from typing import Any

import torch


def work_off(work: Callable[[str], str], names: Iterable[str], jobs: int) -> list[str]:
    """Call `work` with each name, `jobs` at a time, each on one thread in a fresh process, and print what it answers.

    Two trials side by side end sooner than one on two threads, and one thread gives the same result on any number of cores.
    A trial that fails says why and the others go on. Ctrl-C, or any other end of this process, ends all of them at once.

    Args:
        work: name → a line about what was done; it must resume where it was stopped.
        names: of the trials, in the order in which they begin.
        jobs: how many at a time, at least 1.

    Returns:
        The names of the trials that failed.
    """
    # Each trial is a fork of a process that has imported what trials need, and done nothing else; where there are no forks, it
    # imports that itself.
    context: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload([work.__module__])
    waiting, failed = list(names), []
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                process = context.Process(target=_child, args=(work, waiting[0]), name=waiting.pop(0))
                process.start()
                running[process.sentinel] = process
            for sentinel in connection.wait(list(running)):
                process = running.pop(sentinel)
                process.join()
                failed += [process.name] if process.exitcode else []
    finally:
        for process in running.values():
            process.kill()  # at once: what a trial has kept is whole at any moment
        for process in running.values():
            process.join()
    return failed


def _child(work: Callable[[str], str], name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent answers it for all
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    print(work(name), flush=True)


def _die_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
