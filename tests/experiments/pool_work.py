"""What the pool is given to do by test_pool.py."""

import os
import signal
import time
from pathlib import Path

import torch


def work(name):
    Path(name).touch()
    if name == "fails":
        raise ValueError("as it was told to")
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("sleeps"):
        time.sleep(300)
    return f"{name}: {torch.get_num_threads()} thread"
