import json

import pytest
import torch
from torch import nn

from stdcf_lib import runs
from stdcf_lib.runs import Run


def test_a_run_reads_back_what_was_kept(tmp_path):
    run, model = Run(tmp_path / "a"), nn.Linear(2, 3)
    metrics = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]
    run.start({"seed": 3})
    assert not run.finished
    run.finish(model, metrics)
    assert run.finished and run.metrics == metrics and run.config["seed"] == 3
    assert run.config["machine"]["torch"] == torch.__version__
    for name, tensor in model.state_dict().items():
        assert torch.equal(run.weights[name], tensor)


def test_a_checkpoint_goes_when_the_run_is_finished(tmp_path):
    run = Run(tmp_path)
    assert run.restore() is None
    run.save({"model": {"w": torch.ones(2)}}, [{"epoch": 1}])
    state, metrics = run.restore()
    assert torch.equal(state["model"]["w"], torch.ones(2)) and metrics == [{"epoch": 1}]
    (tmp_path / ".checkpoint.pt.x9").write_text("half")  # what a killed process leaves
    run.finish(nn.Linear(1, 1), metrics)
    assert run.restore() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "weights.safetensors"]


def test_metrics_can_be_read_while_a_run_goes_on(tmp_path):
    run = Run(tmp_path)
    run.save({}, [{"epoch": 1}])
    assert run.metrics == [{"epoch": 1}]


def test_another_configuration_does_not_overwrite_a_run(tmp_path):
    run = Run(tmp_path)
    run.start({"seed": 0, "epochs": (1, 2)})
    run.start({"seed": 0, "epochs": (1, 2)})
    with pytest.raises(ValueError, match=r"another run \(\{'seed': 0\} there\)"):
        run.start({"seed": 1, "epochs": (1, 2)})
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.save({"model": 1}, [])

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(runs.torch, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        run.save({"model": 2}, [])
    monkeypatch.undo()
    assert run.restore()[0] == {"model": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_a_missing_run_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make runs"):
        _ = Run(tmp_path / "never-trained").metrics


def test_what_was_found_out_is_kept_beside_a_run(tmp_path):
    run = Run(tmp_path / "run")
    run.keep("found.json", b"{}")
    run.keep("found.json", b"[1]")
    assert [path.name for path in run.folder.iterdir()] == ["found.json"] and (run.folder / "found.json").read_bytes() == b"[1]"
