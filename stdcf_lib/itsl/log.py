"""What a person sees of a run while it goes: lines on the screen, and the same in `log.jsonl`."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from stdcf_lib.runs import DamagedRun, Run

FILE = "log.jsonl"


def logged(folder: Path | str) -> list[dict[str, Any]]:
    """The lines that a run has logged so far, those of its epochs among them; none if there are none.

    Raises:
        DamagedRun: a line that cannot be read, or that says of no step.
    """
    path = Path(folder, FILE)
    lines = Run(folder).rows(FILE) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if type(line.get("step")) is not int:
            raise DamagedRun(f"line {number} of {path} has no step; restore the file, or remove it")
    return lines


class Log:
    """Keeps the lines of a run, prints them, and hands them on. A line that a resumed run comes to once more is replaced.

    Args:
        run: the folder.
        watch: is called with every line.
        tensorboard: whether to write for TensorBoard too.
        print_lines: whether to print them, to stderr, above a bar if there is one.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """

    def __init__(self, run: Run, watch: Callable[[dict[str, Any]], None] | None, tensorboard: bool, print_lines: bool):
        self.run, self.watch, self.print_lines = run, watch, print_lines
        self.board_type, self.board = _tensorboard() if tensorboard else None, None
        self.lines: list[dict[str, Any]] | None = None

    def __call__(self, line: dict[str, Any], seconds_left: float) -> None:
        """Add a line, of a step or of an epoch (which has `train_loss`)."""
        if self.lines is None:
            self.lines = logged(self.run.folder)
            if self.board_type:
                self.board = self.board_type(self.run.folder / "tensorboard", purge_step=line["step"])
        while self.lines and _place(self.lines[-1]) >= _place(line):
            self.lines.pop()
        self.lines.append(line)
        self.run.keep(FILE, "".join(json.dumps(row) + "\n" for row in self.lines).encode())
        if self.board:
            group = "epochs" if "train_loss" in line else "steps"  # `top1` is of validation clips in the one, not in the other
            for name, value in line.items():
                if name not in ("stage", "step"):
                    self.board.add_scalar(f"{group}/{name}", value, line["step"])
            self.board.flush()
        if self.print_lines:
            tqdm.write(in_words(line, seconds_left), file=sys.stderr)
        if self.watch:
            self.watch(line)


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("tensorboard=True: the package tensorboard is not installed; install it, or leave it out") from None
    return SummaryWriter


def _place(line: dict[str, Any]) -> tuple[int, bool]:
    return line["step"], "train_loss" in line


def in_words(line: dict[str, Any], seconds_left: float) -> str:
    """A line of the log for the screen."""
    if "train_loss" in line:
        scores = {name: value for name, value in line.items() if name in ("top1", "top5")}
        found = ", ".join(f"{name} {value:.3f}" for name, value in scores.items()) or "not validated"
        return (
            f"{line['stage']:6} epoch {line['epoch']} over: loss {line['train_loss']:.4g}, top1 {line['train_top1']:.3f}; "
            f"validation: {found}"
        )
    waiting = line["data_seconds"] / line["seconds"]
    return (
        f"{line['stage']:6} epoch {line['epoch']} step {line['step']}: loss {line['loss']:.4g}, top1 {line['top1']:.3f}, "
        f"rate {line['learning_rate']:.3g}, |gradient| {line['gradient_norm']:.3g}, {line['clips_per_second']:.3g} clips/s "
        f"({waiting:.0%} of the time waiting for data), {line['memory_gib']:.1f} GiB; "
        f"{timedelta(seconds=round(seconds_left))} left"
    )
