import json
from typing import Any

import pytest
import torch

from stdcf_lib.experiments import steps
from stdcf_lib.itsl import Stage
from stdcf_lib.models import VideoResNet


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(steps, "stdcf_r50", lambda kind: VideoResNet(kind, 3, blocks=(1,), width=4, stem=(3, 3, 3)))


@pytest.mark.parametrize("kind", ["full", "rank1", "stdcf"])
def test_a_step_is_timed(kind):
    found: dict[str, Any] = steps.measure_step(kind, Stage("stage-t", 4, 16, "spatial"), 2, steps=1)
    assert (found["kind"], found["stage"], found["batch"]) == (kind, "stage-t", 2)
    assert found["seconds"] > 0 and found["clips_per_second"] == pytest.approx(2 / found["seconds"], rel=0.05)
    assert found["peak_gib"] > 0.05


def test_the_largest_batch_is_searched_for(monkeypatch):
    tried = []

    def alone(kind, stage, batch):
        tried.append(batch)
        if batch > 45:
            raise torch.OutOfMemoryError
        return {"batch": batch}

    monkeypatch.setattr(steps, "alone", alone)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    best: Any = steps.largest_batch("full", Stage("full", 4, 16))["batch"]
    assert 45 - 45 // 16 <= best <= 45 and tried[:7] == [1, 2, 4, 8, 16, 32, 64] and len(tried) < 12


def test_the_record_names_its_device(tmp_path, monkeypatch):
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    monkeypatch.setattr(steps, "alone", lambda kind, stage, batch: steps.measure_step(kind, stage, batch, 1))
    monkeypatch.setattr("sys.argv", ["itsl_steps", "--frames", "4", "--size", "16"])
    steps.main()
    (path,) = (tmp_path / "itsl_steps").iterdir()
    record = json.loads(path.read_text())
    assert record == steps.records()[0] and record["machine"]["device"] and record["machine"]["torch"]
    assert [(row["kind"], row["stage"]) for row in record["steps"]][:4] == [
        ("full", "full"),
        ("full", "stage-t"),
        ("full", "stage-s"),
        ("rank1", "full"),
    ]
