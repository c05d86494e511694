"""A small ITSL run, to be killed: `job(folder, network, test_clips, *attempts)`, in a process of its own (see test_run.py).

An attempt is written as `2x4:30`: 2 processes, 4 batches accumulated, killed (SIGKILL, by itself) when 30 clips have been
loaded and files renamed; or `2x4`, which goes through. The processes of an attempt are forks, so that they need not import
everything anew. A network is `"plain"`, `"with BN"`, or `"with dropout"`, which has both.
"""

import os
import signal
import socket
import sys
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from stdcf_lib.itsl import Recipe, run, schedule
from stdcf_lib.models import SmallVideoNet


class Clips(Dataset):
    """Clips whose brightness is their class, with noise drawn anew each time; a `tick` is called for each."""

    def __init__(self, count=20, tick=None):
        generator = torch.Generator().manual_seed(count)
        self.labels = torch.randint(3, (count,), generator=generator).tolist()
        self.clips = torch.rand(count, 1, 4, 8, 8, generator=generator) + torch.tensor(self.labels).view(-1, 1, 1, 1, 1)
        self.tick = tick

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        if self.tick:
            self.tick()
        return self.clips[index] + 0.1 * torch.rand(1, 4, 8, 8), self.labels[index]


def network(dropout=0.5, normalised=True) -> SmallVideoNet:
    torch.manual_seed(0)
    net: Any = SmallVideoNet(num_classes=3, channels=(2, 3), strides=(1, 2), spatial_atoms=3, temporal_atoms=2)
    if not normalised:
        net.layers[1] = net.layers[4] = nn.Identity()
    net.fc = nn.Sequential(nn.Dropout(dropout), net.fc)
    return net


def fit(net, folder, swap="resample", tick=None, accumulation=1, rate=0.05, test_clips=6, **options):
    torch.set_num_threads(1)
    stages = [replace(stage, epochs=1.4) for stage in schedule(2, frames=4, size=8)]
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    recipe = Recipe(batch_size=4, learning_rate=rate, swap=swap, seed=3)
    data = Clips(20, tick), Clips(test_clips, tick)
    options = {"log_every": 3, "save_minutes": 0, "progress": False} | options
    return run(net, stages, lambda _: data, folder, recipe, accelerator=accelerator, **options)


def free_port():
    """One of this machine for processes to meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def place(rank, processes, port):
    """Make this process one of so many."""
    if processes > 1:
        addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
        os.environ |= {name: str(value) for name, value in (addresses | {"WORLD_SIZE": processes}).items()}


def attempt(folder, test_clips, processes, accumulation, kill_after, which):
    """Whether it went through."""
    port, ranks = free_port(), []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            place(rank, processes, port)
            ticks = 0

            def tick(rank=rank):
                nonlocal ticks
                ticks += 1
                if ticks == kill_after and rank == (ticks + 1) % processes:  # now one process, now the other
                    os.kill(os.getpid(), signal.SIGKILL)

            def renamed(*names, replace=os.replace):
                tick()
                replace(*names)
                tick()

            os.replace = renamed
            net = network(normalised=which != "plain", dropout=0.5 if which == "with dropout" else 0.0)
            fit(net, folder, tick=tick, accumulation=accumulation, test_clips=test_clips)
            os._exit(0)
        ranks.append(child)
    # The one that is to be killed decides, as others may fail, and be seen to, as soon as it is gone.
    dead, status = os.waitpid(ranks[(kill_after + 1) % processes] if kill_after else -1, 0)
    if status:  # the others wait for the dead
        for rank in ranks:
            if rank != dead:
                os.kill(rank, signal.SIGKILL)
    for rank in ranks:
        if rank != dead:
            os.waitpid(rank, 0)
    if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        sys.exit("an attempt failed by itself")
    return status == 0


def job(folder, which, test_clips, *attempts):
    for words in attempts:
        how, _, kill_after = words.partition(":")
        processes, accumulation = map(int, how.split("x"))
        went_through = attempt(folder, test_clips, processes, accumulation, int(kill_after or 0), which)
        assert went_through == (not kill_after), f"attempt {words} did not end as it should"
