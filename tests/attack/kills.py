"""Is anything lost where a process is killed? SIGKILL at random moments, and then the same again until it goes through.

`python -m tests.attack.kills [SCENARIO …] [--seconds S] [--seed N]` starts what the library does in processes of their own,
kills all of them or one after a random share of the time that they take, and looks at what is left: files that bear a final
name must be whole, and no process may stay. It is started again, and killed again, and in the end must have made what an
unbroken one makes, to the bit. Then it takes away the room on the disk, the right to write, the folder and the clock
(`starvations.py`), and interrupts training in a notebook's kernel.
"""

import argparse
import functools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.attack import jobs
from tests.attack.processes import ROOT, Child, differing, emptied, found, half_written
from tests.attack.starvations import STARVATIONS, own_mounts

IN_A_ROW = 4  # kills of one run before it may go through


class Scenario(NamedTuple):
    """What is killed. `job` is called in the folder in which it writes, and must go on where it was stopped."""

    job: Callable[[], object]
    kills: int
    one: bool = False
    """Whether a single process is killed, any of them; the others must end by themselves. Otherwise all at once."""
    before: Callable[[Path], object] = lambda folder: None
    """Makes what must be there first."""
    look: Callable[[Path], list[str]] = half_written
    result: Callable[[Path], dict[str, Any]] = found


SCENARIOS = {
    "ITSL, one process": Scenario(jobs.train_alone, 14),
    "ITSL, a loader of its own, the trainer killed": Scenario(lambda: jobs.train_alone(workers=1), 3, one=True),
    "ITSL, two processes, all killed": Scenario(jobs.train_together, 6),
    "ITSL, two processes, one killed": Scenario(jobs.train_together, 6, one=True),
    "ITSL, the command": Scenario(jobs.itsl_command, 3),
    "pool, all killed": Scenario(jobs.pool, 3),
    "pool, one killed": Scenario(jobs.pool, 4, one=True),
    "save": Scenario(jobs.keep_again_and_again, 8, look=jobs.kept_alike),
    "conversion, saved": Scenario(jobs.convert_again_and_again, 6),
    "conversion, the command": Scenario(jobs.convert_by_command, 3, before=jobs.write_network),
    "shrink": Scenario(jobs.shrink_videos, 5, before=jobs.write_videos, look=jobs.small_videos),
    "book": Scenario(jobs.build_book, 3, look=lambda folder: [], result=jobs.pages),
}


def attack_scenario(scenario: Scenario, folder: Path, end: float, chance: random.Random) -> tuple[int, list[str]]:
    """Kill until the scenario's number is reached or time is up: how many kills, and what was wrong after them."""
    killed, faults = 0, []

    def started(place: Path) -> Child:
        return Child(scenario.job, place, folder / "printed")

    def fresh(place: Path) -> Path:
        scenario.before(emptied(place))
        return place

    began = time.monotonic()
    first = started(fresh(folder / "unbroken"))
    first.ended()
    seconds = time.monotonic() - began
    if first.status:
        return 0, [f"unbroken, it fails: {first.said()[-500:]}"]
    expected = scenario.result(folder / "unbroken")
    place, in_a_row = fresh(folder / "killed"), 0
    while True:
        child = started(place)
        again = killed < scenario.kills and in_a_row < IN_A_ROW and time.monotonic() < end
        if again and not child.ended(chance.uniform(0, seconds)):
            victim = None
            if scenario.one:
                victim = chance.choice([process.pid for process in child.others()] or [child.pid])
            orphans = child.kill(victim)
            killed, in_a_row = killed + 1, in_a_row + 1
            faults += [f"orphan {orphan}" for orphan in orphans]
            faults += scenario.look(place)
            continue
        child.ended()
        if child.status:
            faults.append(f"started again, it fails: {child.said()[-500:]}")
        else:
            faults += differing(expected, scenario.result(place))
        if killed >= scenario.kills or time.monotonic() > end or child.status:
            break
        place, in_a_row = fresh(folder / "killed"), 0
    return killed, faults


def attack(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int | float | str]:
    """Kill and starve for about so many seconds."""
    return _attack([*STARVATIONS, *SCENARIOS], seconds, seed, say)


def _attack(names: list[str], seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int | float | str]:
    os.environ |= {"STDCF_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    os.environ["PYTHONDONTWRITEBYTECODE"], sys.dont_write_bytecode = "1", True  # what is compiled is no leftover of ours
    torch.set_num_threads(1)
    mounts = own_mounts()
    say("on mounts of its own" if mounts else "without the right to mount: full disks are limits, and read-only folders modes")
    end, kills, starved, wrong = time.monotonic() + seconds, 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="stdcf-kills-") as folder:
        for name in names:
            began, chance, place = time.monotonic(), random.Random(f"{seed} {name}"), emptied(Path(folder, "scenario"))
            if began > end:
                say(f"{name}: left out, time is up")
                continue
            place.mkdir()
            if name in STARVATIONS:
                faults, done = STARVATIONS[name](place, chance, mounts), "starved"
                starved += 1
            else:
                killed, faults = attack_scenario(SCENARIOS[name], place, end, chance)
                kills, done = kills + killed, f"{killed} kills"
            for fault in faults:
                say(f"  {fault}")
            wrong += len(faults)
            say(f"{name}: {done}, {len(faults)} faults, {time.monotonic() - began:.0f} s")
    return {"kills": kills, "starvations": starved, "faults": wrong}


def main() -> None:
    every = [*STARVATIONS, *SCENARIOS]
    parser = argparse.ArgumentParser(description="Kill what the library does at random moments, and see what is lost.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {'; '.join(every)}; all without any")
    parser.add_argument("--seconds", type=float, default=900, help="begin nothing after so long (900)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.scenarios) - set(every)):
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(every)}")
    say = functools.partial(print, flush=True)
    print(_attack(arguments.scenarios or every, arguments.seconds, arguments.seed, say))


if __name__ == "__main__":
    main()
