"""What a layer costs beside the one that it replaces: `python -m benchmarks.readme` writes the table of the README from the
records of `benchmarks` and, for a GPU, of `stdcf_lib.experiments.steps`.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.networks import ALONE, AS_IS, KEEPS, KEPT, R50
from benchmarks.record import RECORD
from benchmarks.targets import TABLE_C, ratios
from stdcf_lib.experiments import steps
from stdcf_lib.files import made_anew

DENSE = "Conv3d", "Conv3d, last"
README, THREADS = Path(__file__).parents[1] / "README.md", 2

SLOWER = "On a slower processor"
"""What a record keeps of one, beside its own, as what a layer saves differs from processor to processor."""


def table(record: dict[str, Any], on_gpu: dict[str, Any]) -> str:
    """Time as a share of a full 3D convolution's, of the quicker layout; forward / forward and backward."""
    sizes = ["{ins} channels, {size}²".format(**case["case"]) for case in _cases(record)]
    rows = [["time, as a share of full 3D's", *sizes, "R50"], ["---"] * (len(sizes) + 2)]
    for name, found in (("CPU", record), ("slower CPU", record[SLOWER])):
        whole = found["Networks"][f"{R50}, {THREADS} threads"]
        for count, network in ((2, "STDCF, N=2"), (3, "STDCF")):
            form, passes = f"STDCF N={count}, atoms", ("forward, ms", "both, ms")
            shares = [_both(case["ms"], passes, form, *DENSE) for case in _cases(found)]
            shares.append(_both(whole, ("evaluation, ms", "training step, ms"), network, "full 3D"))
            rows.append([f"{name}, N = {count}", *shares])
    alone = {(row["layer"], row["channels"]): row for row in on_gpu["layers"]}
    pairs = [(alone["STDCF N=3, filters", channels], alone["Conv3d", channels]) for channels in TABLE_C.values()]
    shares = [
        "{:.2f} / {:.2f}".format(*(one[what] / other[what] for what in ("forward_ms", "both_ms"))) for one, other in pairs
    ]
    rates = {row["kind"]: row["clips_per_second"] for row in on_gpu["steps"] if row["stage"] == "full"}
    rows.append(["GPU, N = 3", *shares, f"– / {rates['full'] / rates['stdcf']:.2f}"])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", _made_on(record, on_gpu), "", _alone(record["Networks"][ALONE])])


def _made_on(record: dict[str, Any], on_gpu: dict[str, Any]) -> str:
    slower = record[SLOWER]
    cpu, other, gpu = record["Layers"]["machine"], slower["Layers"]["machine"], on_gpu["machine"]
    here, there = (sum(min(case["ms"][name]["both, ms"] for name in DENSE) for case in _cases(one)) for one in (record, slower))
    return (
        f"Forward / forward and backward. CPU: {cpu['device']}, {THREADS} threads, float32, PyTorch {cpu['torch']}; "
        f"slower CPU: another {other['device']}, on which `nn.Conv3d` takes {there / here:.1f} times as long (measured at "
        f"{other['commit']}); GPU: {gpu['device']}, bf16, PyTorch {gpu['torch']}."
    )


def _alone(steps_of: dict[str, Any]) -> str:
    as_is, kept = ([f"{steps_of[name][what]:.0f}" for name in ("full 3D", "STDCF, N=2", "STDCF")] for what in (AS_IS, KEPT))
    export = " ".join(f"{name}={value}" for name, value in KEEPS.items())
    return (
        f"With a process to itself, a training step of R50 takes {as_is[0]} ms as full 3D, {as_is[1]} with N = 2 and "
        f"{as_is[2]} with N = 3; and {kept[0]}, {kept[1]} and {kept[2]} after `export {export}`, which has glibc keep the "
        "memory that a step frees, where the next would get it from the kernel anew."
    )


def _cases(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [record["Layers"][f"{title}, {THREADS} threads"] for title in TABLE_C]


def _both(times: dict[str, Any], what: tuple[str, str], one: str, *others: str) -> str:
    return " / ".join(f"{statistics.median(ratios(times, name, one, *others)):.2f}" for name in what)


def in_readme(text: str) -> str:
    """The text of the README with its table made anew."""
    return made_anew(text, "speed", table(json.loads(RECORD.read_text(encoding="utf-8")), steps.records()[0]))


def main() -> None:
    README.write_text(in_readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
