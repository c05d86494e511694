"""`make attack`: the whole, attacked as others would, in bounded time. What was found is kept in `results.json`, and what that
promises is written into the README.

`python -m tests.attack [NAME …] [--seconds S]` makes all attacks, or those that are named; each is a module beside this one.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stdcf_lib import files
from stdcf_lib.runs import machine
from tests.attack import draws, inputs, kills, mutations, numbers, quiet

RECORD = Path(__file__).with_name("results.json")
README = Path(__file__).parents[2] / "README.md"


class Attack(NamedTuple):
    """What is called, with how much of the time, and what its figures mean to a reader."""

    attack: Callable[[float, int, Callable[[str], None]], dict[str, Any]]
    share: float
    words: str


ATTACKS = {
    "mutations": Attack(
        mutations.attack,
        0.45,
        "**Its tests bite.** {faults:,} small faults, drawn from {modules} modules and put in one at a time (a sum for a "
        "difference, a bound one off, a call left out): found by a test {found:,}, without effect {equivalent}, missed "
        "{missed}.",
    ),
    "draws": Attack(
        draws.attack,
        0.05,
        "**They hold for what they had not met.** {tests} tests draw their examples (options of a layer, clips, lists of "
        "videos), the same ones every day. With {examples:,} others, failed: {failed}.",
    ),
    "inputs": Attack(
        inputs.attack,
        0.12,
        "**What it is given may be broken.** {inputs:,} generated inputs of {kinds} kinds (videos, lists, weights, "
        "checkpoints, records, command lines, arguments; cut, bent and hostile): accepted, or refused by a documented "
        "error that names the place. Kinds of another answer: {findings}. Pickles executed: {pickles executed}.",
    ),
    "kills": Attack(
        kills.attack,
        0.27,
        "**It may be stopped at any moment.** {kills} times SIGKILL, at random moments of training in one process and in "
        "two, of a pool, of writing a run, a conversion, a data set or the book; and {starvations} other mishaps (a full "
        "disk, a read-only or a vanished folder, two runs in one, another number of processes, an interrupted cell). "
        "Something lost, half written or still running, or other weights than those of an unbroken run: {faults}.",
    ),
    "quiet": Attack(
        quiet.attack,
        0.08,
        "**It keeps to itself.** {modules imported} modules imported: changes to what a process has only one of, {changed"
        " by import}. {activities} notebooks and commands run where there is no network: failed {failed}; addresses "
        "called and files written that nobody asked for, {foreign addresses and unasked files}.",
    ),
    "numbers": Attack(
        numbers.attack,
        0.03,
        "**The same seed, the same numbers.** Answers, gradients and weights that differ in any bit when they are "
        "computed again or resumed on one machine: {not the same to the bit, and should be}. With other threads or other "
        "instructions of the processor, one layer in float32 differs by at most {float32, one layer, at most:g} of its "
        "largest value, and the losses of a short training by {float32, losses of a training, at most:g}.",
    ),
}


def promises(record: dict[str, Any]) -> str:
    """What the record says, as a list in Markdown."""
    lines = [f"- {attack.words.format(**record[name]['figures'])}" for name, attack in ATTACKS.items() if name in record]
    on = next(iter(record.values()))["machine"]
    return "\n".join([*lines, "", f"Measured on {on['device']}, Python {on['python']}, PyTorch {on['torch']}."])


def in_readme(text: str, record: dict[str, Any]) -> str:
    """The text of the README with its promises made anew."""
    return files.made_anew(text, "promises", promises(record))


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack the library, and keep what was found.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}; all without any")
    parser.add_argument("--seconds", type=float, default=3600, help="of all attacks together, if all are made (3600)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - {*ATTACKS}):
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(ATTACKS)}")
    for name in arguments.names or ATTACKS:
        print(f"{name}", flush=True)
        began = time.monotonic()
        seconds = ATTACKS[name].share * arguments.seconds
        figures = ATTACKS[name].attack(seconds, arguments.seed, functools.partial(print, " ", flush=True))
        print(f"{name}: {figures}", flush=True)
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        kept = {"figures": figures, "seed": arguments.seed, "seconds": round(time.monotonic() - began), "machine": machine()}
        record |= {name: kept}
        files.write(RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
        files.write(README, in_readme(README.read_text(encoding="utf-8"), record).encode())


if __name__ == "__main__":
    main()
