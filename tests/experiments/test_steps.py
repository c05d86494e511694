import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stdcf_lib.experiments import layers, steps
from stdcf_lib.itsl import Stage, networks
from stdcf_lib.itsl.plan import plan
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


def test_the_largest_batch_is_searched_for_downwards(monkeypatch):
    tried = []

    def measure(kind, stage, batch):
        tried.append(batch)
        if batch > 0.9 * tried[0]:
            raise torch.OutOfMemoryError
        return {"batch": batch}

    monkeypatch.setattr(steps, "measure_step", measure)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=8e9))
    found = steps.largest_batch("full", Stage("full", 4, 16))
    (counted,) = plan(steps.stdcf_r50(kind="full"), [Stage("full", 4, 16)], "keep", 64, "bf16")
    assert (
        0.94 * counted["fits"] / 10 - 16 < tried[0] <= 0.94 * counted["fits"] / 10
        and found["batch"] == tried[-1]
        and len(tried) == 3
    )
    assert all(batch % 16 == 0 for batch in tried) and tried[0] > 64
    assert 0.5 * 8e9 < found["counted_gib"] * 2**30 < 8e9


def test_few_clips_are_tried_down_to_one(monkeypatch):
    tried = []

    def measure(kind, stage, batch):
        tried.append(batch)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(steps, "measure_step", measure)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=2e8))
    with pytest.raises(torch.OutOfMemoryError):
        steps.largest_batch("full", Stage("full", 4, 16))
    assert tried == sorted(set(tried), reverse=True) and tried[-1] == 1


def test_every_form_is_right_here():
    errors = steps.forms()
    assert set(errors) == {"filters", "atoms"} and all(0 < error < 1e-4 for error in errors.values())


def test_a_killed_run_is_taken_up(monkeypatch):
    found = steps.killed_and_resumed()
    assert 20 <= found["killed_after_lines"] < 60 and found["largest_difference"] == 0


def test_the_record_names_its_device(tmp_path, monkeypatch):
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    monkeypatch.setattr(steps, "largest_batch", lambda kind, stage, on_cpu: steps.measure_step(kind, stage, 2 * on_cpu, 1))
    monkeypatch.setattr(steps, "killed_and_resumed", dict)
    monkeypatch.setattr(layers, "LAYERS", {8: 6})
    monkeypatch.setattr(networks, "stdcf_r50", lambda classes, kind, **_: steps.stdcf_r50(kind=kind))
    monkeypatch.setattr("sys.argv", ["steps", "--frames", "4", "--size", "16"])
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
    assert [row["batch"] for row in record["steps"]] == 3 * [2, 8, 8]
    assert [row["title"] for row in record["schedules"]] == ["ITSL", "ITSL, batches as they are", "full size"]
    assert [row["layer"] for row in record["layers"]][:2] == ["Conv3d", "STDCF N=2, filters"]
    for row in record["schedules"]:
        assert row["clips_per_second"] > 0 and row["training_hours"] > 0 and row["stages"][-1]["stage"] == "test"
