"""What trained: one folder a run, with its configuration, its metrics and its weights.

```
runs/reconstruction/stdcf-seed0/
    config.json          what was trained, on what, with which versions
    metrics.jsonl        one line an epoch, as they come
    weights.safetensors  the trained weights, once it is finished
    checkpoint.pt        the way back in, while it is not
```
"""

import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

RUNS = Path(__file__).parents[1] / "runs"


class Run:
    """One training run and its folder. Every file is written aside and then renamed, so none is ever half there.

    Args:
        folder: where it is kept, such as `RUNS / "reconstruction" / "stdcf-seed0"`.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @property
    def finished(self) -> bool:
        return (self.folder / "weights.safetensors").exists()

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(self._existing("config.json").read_text())

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One dictionary an epoch, as `stdcf_lib.train.train` returns them."""
        return [json.loads(line) for line in self._existing("metrics.jsonl").read_text().splitlines()]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The trained weights, for `load_state_dict`."""
        return load_file(self._existing("weights.safetensors"))

    def start(self, config: dict[str, Any]) -> None:
        """Write what is to be trained, or check that it is what this folder began with.

        Raises:
            ValueError: the folder holds a run of another configuration.
        """
        config = json.loads(json.dumps(config))  # as it will be read back
        if (self.folder / "config.json").exists():
            before = {key: value for key, value in self.config.items() if key != "machine"}
            differing = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
            if differing:
                was = {key: before.get(key) for key in differing}
                raise ValueError(f"{self.folder} holds another run ({was} there); remove it or choose another name")
        else:
            self._write("config.json", json.dumps(config | {"machine": machine()}, indent=2) + "\n")

    def save(self, state: dict[str, Any], metrics: list[dict[str, float]]) -> None:
        """Keep a point to resume from. The checkpoint carries its metrics, so the two can never disagree; metrics.jsonl is
        for readers until the run is finished."""
        self._write_with("checkpoint.pt", lambda path: torch.save({"state": state, "metrics": metrics}, path))
        self._write_metrics(metrics)

    def restore(self) -> tuple[dict[str, Any], list[dict[str, float]]] | None:
        """The state and metrics of the last `save`, or None if there is none."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        kept = torch.load(path, weights_only=True, map_location="cpu")  # it may have been written on another device
        return kept["state"], kept["metrics"]

    def finish(self, model: nn.Module, metrics: list[dict[str, float]]) -> None:
        """Keep metrics and weights; the checkpoint goes, and what killed processes have left half written."""
        self._write_metrics(metrics)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        self._write_with("weights.safetensors", lambda path: path.write_bytes(save(weights)))
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)
        for aside in self.folder.rglob(".*.*.*"):  # of a process that was killed while it wrote
            aside.unlink()

    def keep(self, name: str, content: bytes) -> None:
        """Keep what was found out about a run beside it, under a file name such as `"tempo.json"`."""
        self._write_with(name, lambda path: path.write_bytes(content))

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(f"no {name} in {self.folder.name!r}; train it first, with `make runs`")
        return path

    def _write_metrics(self, metrics: list[dict[str, float]]) -> None:
        self._write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in metrics))

    def _write(self, name: str, text: str) -> None:
        self._write_with(name, lambda path: path.write_text(text, encoding="utf-8"))

    def _write_with(self, name: str, write: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)
        os.close(handle)
        try:
            write(Path(aside))
            os.chmod(aside, 0o644)
            os.replace(aside, self.folder / name)
        except BaseException:
            os.unlink(aside)
            raise


def machine() -> dict[str, Any]:
    """What a measurement was made on: processor or GPU, processes, threads, versions, the commit of this repository."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return {
        "device": name,
        "processes": torch.distributed.get_world_size() if together else 1,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(RUNS.parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: the library was installed from a package
        return None
