"""What is said of the record of the measurements; the times themselves are no test's business."""

import copy
import json
from typing import Any

import pytest
import torch

from benchmarks.choices import drawn, measured
from benchmarks.layers import Case, judged
from benchmarks.networks import KEEPS
from benchmarks.readme import README, in_readme, table
from benchmarks.record import RECORD
from benchmarks.targets import Target, targets
from stdcf_lib.experiments import steps


@pytest.mark.parametrize(
    ("found", "bound", "least", "verdict"),
    [
        (0.5, 0.58, False, "0.50                 at most   0.58   met"),
        (0.584, 0.58, False, "met"),
        (0.68, 0.58, False, "missed by 0.10"),
        (7.0, 8, True, "7.00                 at least   8.00   missed by 1.00"),
        (9.0, 8, True, "met"),
    ],
)
def test_a_target_says_by_how_much_it_is_missed(found, bound, least, verdict):
    assert str(Target("one", found, bound, least)).endswith(verdict)
    assert "(0.40 to 9.50)" in str(Target("one", found, bound, least, (0.4, found, 9.5)))


def test_every_target_is_in_the_record_and_follows_it():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    on_gpu = steps.records()[0]
    found = targets(record, on_gpu)
    assert len({one.what for one in found}) == len(found) > 40 and all(one.found > 0 for one in found)
    slower = copy.deepcopy(record)
    passes = slower["Layers"]["C: res3, 2 threads"]["ms"]["STDCF N=2, atoms"]["passes"]
    passes["forward, ms"] = [2 * time for time in passes["forward, ms"]]
    (one,) = (pair for pair in zip(targets(slower, on_gpu), found, strict=True) if pair[0] != pair[1])
    assert one[0].found == pytest.approx(2 * one[1].found) and one[0].what.startswith("128 channels, N=2, atoms, forward, 2")


def test_the_readme_has_the_times_as_the_record_has_them():
    text = README.read_text(encoding="utf-8")
    assert in_readme(text) == text, "make it anew: python -m benchmarks.readme"
    record, on_gpu = json.loads(RECORD.read_text(encoding="utf-8")), steps.records()[0]
    before = table(record, on_gpu)
    for passes in (row["passes"] for row in record["Networks"]["R50, one clip of 8×224², 2 threads"].values()):
        passes["training step, ms"] = [1.0, 1.0, 9.0]
    after = table(record, on_gpu)
    assert before != after and after.splitlines()[2].endswith(" / 1.00 |")


def test_memory_is_kept_as_make_runs_keeps_it():
    makefile = README.with_name("Makefile").read_text(encoding="utf-8")
    assert all(f"runs: export {name} = {value}\n" in makefile for name, value in KEEPS.items())


@pytest.mark.parametrize("threads", [2, 1])
def test_the_record_has_what_auto_takes(monkeypatch, threads):
    """Of all its layers, by the rule as it is: otherwise they are to be measured again."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    layers = json.loads(RECORD.read_text(encoding="utf-8"))["Layers"]
    seen = 0
    for title, row in layers.items():
        if title.endswith(f", {threads} threads"):
            seen += len(row["auto"])
            case = Case(**{name: _tuples(value) for name, value in row["case"].items()})
            assert judged(row["ms"], case) == row["auto"], title
    assert seen > 100


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_layers_are_drawn_by_a_seed():
    assert drawn(1, 5) == drawn(1, 6)[:5] != drawn(2, 5)
    work = [27 * one.ins * one.outs * one.clips * one.frames * one.size**2 for one, *_ in drawn(1, 40) if one.stride == 1]
    assert len(work) > 20 and min(work) > 1e8 and max(work) < 4e9


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize(("channels", "expected"), [(8, "filters"), (128, "atoms")])
def test_what_auto_takes_is_told_of_both_forms(channels, expected, learning):
    found = measured(Case(channels, channels, 14, clips=1), 2, True, learning)
    assert found["auto"] == expected and min(found["ms"].values()) > 0
    assert found["over the better"] == pytest.approx(found["ms"][expected] / min(found["ms"].values()), abs=0.01)
