import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stdcf_lib import runs
from stdcf_lib.files import HALF_WRITTEN, write
from stdcf_lib.runs import DamagedRun, FolderInUse, Run, machine, runs_folder


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
    restored = run.restore()
    assert restored
    state, metrics = restored
    assert torch.equal(state["model"]["w"], torch.ones(2)) and metrics == [{"epoch": 1}]
    (tmp_path / f".checkpoint.pt.x9{HALF_WRITTEN}").write_text("half")  # what a killed process leaves
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
    for other in ({"seed": 0}, {"seed": 0, "epochs": (1, 2), "rate": 0.1}):  # what one of the two does not say differs, too
        with pytest.raises(ValueError, match="another run"):
            run.start(other)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.save({"model": 1}, [])

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(runs.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        run.save({"model": 2}, [])
    monkeypatch.undo()
    restored = run.restore()
    assert restored and restored[0] == {"model": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_a_missing_run_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make runs"):
        _ = Run(tmp_path / "never-trained").metrics


def test_what_was_found_out_is_kept_beside_a_run(tmp_path):
    run = Run(tmp_path / "run")
    run.keep("found.json", b"{}")
    run.keep("found.json", b"[1]")
    assert [path.name for path in run.folder.iterdir()] == ["found.json"] and (run.folder / "found.json").read_bytes() == b"[1]"


def test_a_finished_run_leaves_what_is_not_its_own(tmp_path):
    """A user may name a folder that holds other things, such as the one that they are in."""
    others = [".env.local.bak", ".notes.of.mine", ".a.b.c/.d.e.f", "sub/.env.local.bak", f"sub/.checkpoint.pt.x9{HALF_WRITTEN}"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    run = Run(tmp_path)
    run.finish(nn.Linear(1, 1), [])
    run.remove()
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_removed_run_takes_its_folder_along_only_if_that_is_empty(tmp_path):
    run = Run(tmp_path / "run")
    run.start({})
    run.finish(nn.Linear(1, 1), [])
    run.remove()
    assert not run.folder.exists()
    run.remove()  # nothing to remove is no fault


def test_weights_are_kept_at_half_the_size_if_asked(tmp_path):
    model = nn.BatchNorm3d(2)
    Run(tmp_path, dtype=torch.float16).finish(model, [])
    kept = Run(tmp_path).weights
    assert kept["weight"].dtype == torch.float16 and kept["num_batches_tracked"].dtype == torch.int64
    assert model.weight.dtype == torch.float32


def test_a_folder_whose_lock_somebody_removed_is_let_go(tmp_path):
    run = Run(tmp_path)
    with run.held():
        (tmp_path / ".lock").unlink()
    assert not list(tmp_path.iterdir())


HOLD = """
import sys, time
from stdcf_lib.runs import Run
with Run(sys.argv[1]).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_ends_or_dies(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for _ in range(2):  # being refused takes nothing away from the holder
            with pytest.raises(
                FolderInUse, match=rf"in use by process {holder.pid} on .*, since \d{{4}}-.*; wait until it ends"
            ):
                with Run(tmp_path).held():
                    pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Run(tmp_path).finish(nn.Linear(1, 1), [])
    for name in (f".checkpoint.pt.x9{HALF_WRITTEN}", "checkpoint.pt"):  # what one that is killed while it finishes leaves
        (tmp_path / name).write_text("half")
    (tmp_path / ".lock").write_text(999 * "of a process with a longer name")
    with Run(tmp_path).held():
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        assert "longer" not in (tmp_path / ".lock").read_text()
        assert sorted(os.listdir(tmp_path)) == [".lock", "metrics.jsonl", "weights.safetensors"]
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_is_removed_under_way_is_not_written_to_and_may_be_anothers(tmp_path):
    run = Run(tmp_path / "run")
    with run.held():
        run.save({}, [])
        shutil.rmtree(run.folder)
        with Run(run.folder).held():  # of another process, as it were
            for removed in (run, run.part("1_t-1")):
                with pytest.raises(FileNotFoundError, match=r"was removed while it trained; start the same again.*/run'"):
                    removed.save({}, [])
                with pytest.raises(FileNotFoundError, match="was removed while it trained"):
                    removed.rows("metrics.jsonl")
            (run.folder / "theirs").touch()
            assert sorted(os.listdir(run.folder)) == [".lock", "theirs"]


def test_the_end_of_a_run_whose_folder_was_removed_takes_nobody_elses_lock(tmp_path):
    run = Run(tmp_path / "run")
    with run.held():
        shutil.rmtree(run.folder)
        run.folder.mkdir()
        (run.folder / ".lock").write_text("of another process")
    assert (run.folder / ".lock").read_text() == "of another process"


def test_what_a_killed_process_was_writing_goes_with_the_next_writing_and_what_another_writes_stays(tmp_path):
    aside = [tmp_path / f".net.safetensors.{name}{HALF_WRITTEN}" for name in ("dead", "alive")]
    for path in (*aside, tmp_path / f".other.x{HALF_WRITTEN}"):
        path.write_text("half")
    with open(aside[1]) as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        write(tmp_path / "net.safetensors", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"net.safetensors", aside[1].name, f".other.x{HALF_WRITTEN}"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[1]"),
        ("config.json", b"[" * 100_000),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epo'),
        ("weights.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"),
        ("weights.safetensors", b""),
        ("checkpoint.pt", b"no zip"),
        ("checkpoint.pt", b""),
    ],
)
def test_damaged_files_are_named_with_a_remedy(tmp_path, name, content):
    run = Run(tmp_path)
    (tmp_path / name).write_bytes(content)
    read = {
        "config.json": lambda: run.config,
        "metrics.jsonl": lambda: run.metrics,
        "weights.safetensors": lambda: run.weights,
        "checkpoint.pt": run.restore,
    }
    with pytest.raises(DamagedRun, match=rf"{name} cannot be read .*; (restore|remove)"):
        read[name]()


def test_a_damaged_line_is_named(tmp_path):
    for content in (b'{"epoch": 1}\n{"epo', b'{"epoch": 1}\n3\n'):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        with pytest.raises(DamagedRun, match=r"^line 2 of .*metrics.jsonl cannot be read"):
            _ = Run(tmp_path).metrics


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pt"])
def test_bits_that_have_changed_are_seen(tmp_path, name):
    run, values = Run(tmp_path), nn.Linear(1, 1)
    nn.init.constant_(values.weight, 1.2345)
    run.save({"model": values.state_dict()}, []) if name == "checkpoint.pt" else run.finish(values, [])
    path = tmp_path / name
    whole = bytearray(path.read_bytes())
    whole[whole.index(values.weight.detach().numpy().tobytes())] ^= 4
    path.write_bytes(whole)
    with pytest.raises(DamagedRun, match=rf"{name} cannot be read .*was changed after it was written.*; (restore|remove)"):
        _ = run.restore() if name == "checkpoint.pt" else run.weights


def test_a_checkpoint_whose_list_of_parts_has_changed_is_refused(tmp_path):
    """Torch would find other numbers under the names, and no checksum of a part tells."""
    run = Run(tmp_path)
    run.save({"model": nn.Linear(2, 1).state_dict()}, [])
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    end = len(whole) - 73  # where the comment's length is, of which all that matters is that the comment is as it was
    for place in (*range(whole.index(b"PK\1\2"), end), *range(end + 2, len(whole))):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with pytest.raises(DamagedRun, match=r"checkpoint.pt cannot be read"):
            run.restore()


def test_a_checkpoint_without_a_digest_is_read(tmp_path):
    """As an older version wrote it."""
    torch.save({"state": {"done": 3}, "metrics": []}, tmp_path / "checkpoint.pt")
    assert Run(tmp_path).restore() == ({"done": 3}, [])


def test_weights_without_a_digest_are_read(tmp_path):
    """As others write them, and as runs of before have kept them."""
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert Run(tmp_path).weights.keys() == {"w"}


def test_a_checkpoint_of_something_else_is_damaged(tmp_path):
    torch.save({"weights": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(DamagedRun, match=r"checkpoint.pt cannot be read \('state'\)"):
        Run(tmp_path).restore()


def test_a_full_disk_is_named_and_the_last_checkpoint_is_whole(tmp_path):
    """A limit on the size of files, which the system answers as it answers a full disk."""
    run = Run(tmp_path)
    run.save({"model": torch.zeros(10)}, [])
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"no room to write checkpoint.pt .*; what was kept before is whole") as raised:
            run.save({"model": torch.zeros(100_000)}, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert raised.value.errno == errno.EFBIG
    restored = run.restore()
    assert restored and len(restored[0]["model"]) == 10
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "metrics.jsonl"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"no room to write .lock .*; what was kept before is whole: free some room, .*/run'"),
        (errno.EROFS, r"no right to write .lock .* is whole: get that right, or name another folder: .*/run'"),
    ],
)
def test_a_folder_that_cannot_be_held_says_why(tmp_path, monkeypatch, number, message):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(runs.os, "write", fails)
    with pytest.raises(OSError, match=message), Run(tmp_path / "run").held():
        pass
    monkeypatch.undo()
    assert os.listdir(tmp_path / "run") == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; name a folder"):
        Run(tmp_path / "file").start({})


def test_the_kept_runs_are_found_by_name_or_beside_the_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv("STDCF_RUNS", raising=False)
    assert runs_folder() == Path(__file__).parents[1] / "runs"
    monkeypatch.setenv("STDCF_RUNS", str(tmp_path))
    assert runs_folder() == tmp_path


def test_an_installed_library_knows_no_runs_and_no_commit(tmp_path):
    """Installed below a repository of the user's own, as an environment often is."""
    root = Path(__file__).parents[1]
    site = tmp_path / "site-packages"
    shutil.copytree(root / "stdcf_lib", site / "stdcf_lib", ignore=shutil.ignore_patterns("*.npz", "__pycache__"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    script = """
from stdcf_lib import runs
print(runs.__file__, runs.machine()["commit"])
runs.runs_folder()
"""
    environment = {key: value for key, value in os.environ.items() if key != "STDCF_RUNS"} | {"PYTHONPATH": str(site)}
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert answer.stdout.split() == [str(site / "stdcf_lib" / "runs.py"), "None"]
    assert "set STDCF_RUNS to a folder of runs" in answer.stderr
    assert machine()["commit"] and machine()["processes"] == 1


def test_a_checkout_without_a_commit_or_without_git_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_CHECKOUT", tmp_path)
    assert machine()["commit"] is None
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert machine()["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine()["commit"] is None
