"""`python -m stdcf_lib.experiments` (`make runs`): trains everything that `runs/` keeps and is not there yet."""

import argparse
import os
import sys

from stdcf_lib.checks import whole
from stdcf_lib.experiments import filters, interactions, reconstruction, recovery, tempo, turning
from stdcf_lib.experiments.pool import work_off
from stdcf_lib.runs import FolderInUse

EXPERIMENTS = {
    "reconstruction": reconstruction,
    "tempo": tempo,
    "itsl": turning,
    "interactions": interactions,
    "recovery": recovery,
    "filters": filters,
}


def train(name: str) -> str:
    """Train one trial, such as `"reconstruction/stdcf-seed0"`, and say what came of it."""
    experiment, trial = name.split("/")
    try:
        return f"{experiment}/{EXPERIMENTS[experiment].run_trial(trial)}"
    except FolderInUse as error:
        return f"{name}: left alone, as {error}"


def main() -> None:
    words = argparse.ArgumentParser(
        "stdcf_lib.experiments",
        description="Train what runs/ keeps. Finished trials are left alone, and one that was stopped goes on where it was.",
    )
    words.add_argument(
        "names", nargs="*", help="an experiment, such as tempo, or a trial, such as itsl/direct-seed0; all by default"
    )
    words.add_argument("--jobs", default=os.cpu_count(), help="trials at a time, one thread each (default: as many as cores)")
    arguments = words.parse_args()
    every = {f"{name}/{trial}": name for name, experiment in EXPERIMENTS.items() for trial in experiment.trials()}
    chosen = [trial for name in arguments.names or EXPERIMENTS for trial in every if name in (trial, every[trial])]
    unknown = [name for name in arguments.names if name not in every and name not in EXPERIMENTS]
    if unknown:
        words.error(f"unknown {', '.join(unknown)}; known are {', '.join(EXPERIMENTS)} and their trials {', '.join(every)}")
    try:
        jobs = whole("--jobs", int(arguments.jobs))
    except ValueError:
        words.error(f"--jobs {arguments.jobs}: give an integer of at least 1")
    minutes = {name: EXPERIMENTS[every[name]].minutes_missing(name.split("/")[1]) for name in dict.fromkeys(chosen)}
    todo = [name for name, needed in minutes.items() if needed]
    hours = sum(minutes.values()) / 60 / jobs
    print(
        f"{len(todo)} trials to train, {jobs} at a time: about {hours:.1f} hours on idle cores like an AMD EPYC's", flush=True
    )
    try:
        failed = work_off(train, todo, jobs)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
    if failed:
        sys.exit(f"failed, for reasons above: {', '.join(failed)}")
