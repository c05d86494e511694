"""Trials side by side, each in a process of its own, that stop when they are told to."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing import connection, get_all_start_methods, get_context
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
        from multiprocessing import forkserver  # which there is not everywhere

        context.set_forkserver_preload([work.__module__])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # Ctrl-C would end that process while it imports
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    waiting, failed = list(names), []
    running = {}
    alive, end = context.Pipe(duplex=False)  # trials wait for its end: it comes with that of this call, or of this process
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                process = context.Process(target=_child, args=(work, waiting[0], alive), name=waiting.pop(0))
                process.start()
                running[process.sentinel] = process
            for sentinel in connection.wait(list(running)):
                process = running.pop(sentinel)
                process.join()
                failed += [process.name] if process.exitcode else []
                if process.exitcode < 0:  # it could not say why itself
                    reason = f"killed by signal {-process.exitcode}, as by a system that runs out of memory"
                    print(f"{process.name}: {reason}; the same again goes on from its last checkpoint", file=sys.stderr)
    finally:
        end.close()  # the end also of a trial whose start was interrupted before it was counted among those that run
        for process in running.values():
            process.kill()  # at once: what a trial has kept is whole at any moment
        for process in running.values():
            process.join()
        alive.close()
    return failed


def _child(work: Callable[[str], str], name: str, alive: connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent answers it for all
    threading.Thread(target=_die_at_the_end, args=(alive,), daemon=True).start()
    torch.set_num_threads(1)
    print(f"{work(name)}\n", end="", flush=True)  # at once, or another trial's words may come before the end of the line


def _die_at_the_end(alive: connection.Connection) -> None:
    alive.poll(None)  # nothing is ever sent
    os._exit(1)
