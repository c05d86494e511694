"""What the notebooks conclude, each claim with the measurements behind it; `table` is what notebooks 04 to 06 end with.

Every text is made from what `runs/` holds, so that it changes if a run does; tests/test_claims.py holds the notebooks' own
sentences against the same numbers. `python -m stdcf_lib.experiments.claims` writes all rows into the README.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stdcf_lib.experiments import interactions, reconstruction, tempo, turning
from stdcf_lib.experiments.compare import Difference, difference
from stdcf_lib.files import made_anew
from stdcf_lib.models.kinds import KINDS


class Claim(NamedTuple):
    """One row: what is claimed, what the paper says of it, what was found here, and on how much that rests."""

    notebook: str
    claim: str
    paper: str
    here: str
    sure: str


def verdict(found: Difference, low: str = "lower", high: str = "higher") -> str:
    """In a word, by the interval of a difference: one of two words, or that none is shown."""
    if not found.decided:
        return "no difference shown"
    return high if found.mean > 0 else low


def errors(family: str) -> list[float]:
    """The test error that each seed of a reconstruction family ended with."""
    return [reconstruction.kept(family, seed).metrics[-1]["test_mse"] for seed in reconstruction.SEEDS]


def share_of_error(family: str, of: Callable[[str], list[float]] = errors) -> Difference:
    """By which share of STDCF's error the error of another family is above it; `of` says the errors of a family."""
    return Difference(*(part / float(np.mean(of("stdcf"))) for part in difference(of(family), of("stdcf"))))


def at_tempo(kind: str, way: str, tau: float, what: str = "accuracy") -> list[float]:
    """What each seed of a family measured at a tempo, met in one way."""
    return [tempo.measured(kind, seed)[way][str(tau)][what] for seed in tempo.SEEDS]


def reconstruction_claims() -> list[Claim]:
    """Those of notebook 04."""
    sure = f"{len(reconstruction.SEEDS)} seeds each, the paper's protocol; 95% interval"
    papers = {"rank1": "lower (Table A, Figure A)", "rank1-wide": "not compared", "full": "not compared"}
    rows = []
    for family, paper in papers.items():
        title = reconstruction.FAMILIES[family].title
        here = _in_shares(share_of_error(family))
        rows.append(Claim("04", f"STDCF's reconstruction error against {title}", paper, here, sure))
    sure = f"{len(reconstruction.TUNED_SEEDS)} seeds each, start and rate chosen for each; 95% interval"
    for family in ("rank1-wide", "full"):
        title = reconstruction.FAMILIES[family].title
        found, joint = (reconstruction.tuned_errors(name) for name in (family, "stdcf"))
        above = sum(error > max(joint) for error in found)
        here = f"{_in_shares(share_of_error(family, reconstruction.tuned_errors))}; {above} of its runs above all of STDCF's"
        rows.append(Claim("04", f"… with a start and a rate of its own for each, against {title}", "not compared", here, sure))
    return rows


def _in_shares(found: Difference) -> str:
    word = verdict(found, "higher", "lower")
    return f"{word}: the other's is {found.mean:+.0%} [{found.low:+.0%}, {found.high:+.0%}]"


def tempo_claims() -> list[Claim]:
    """Those of notebook 05."""
    sure = f"{len(tempo.SEEDS)} seeds, rendered actions; 95% interval"
    rows = []
    for kind, title in zip(KINDS, ("full 3D", "rank-1", "STDCF"), strict=True):
        found = difference(at_tempo(kind, "dilated", 2.0), at_tempo(kind, "plain", 2.0))
        paper = "yes (Figure 3)" if kind == "stdcf" else "not tried"
        rows.append(
            Claim("05", f"at half speed, dilation restores accuracy: {title}", paper, f"{verdict(found)}: {found}", sure)
        )
    moved, lost = (
        difference(at_tempo("stdcf", "dilated", 2.0, what), at_tempo("stdcf", "plain", 2.0, what))
        for what in ("change", "neighbours")
    )
    here = f"change {verdict(moved)}: {moved}; neighbours kept {verdict(lost)}: {lost}"
    rows.append(Claim("05", "… and holds STDCF's representation in place", "yes (Figure 3)", here, sure))
    return rows


SURE_OF_REAL = f"60 real clips, {len(interactions.SEEDS)} seeds; 95% interval over ten recordings"


def on_real(first: str, second: str, what: str = "accuracy", ways: tuple[str, str] = ("1", "1")) -> Difference:
    """By how much one contestant of `interactions` is above another, paired by the recordings, each met in one way."""
    found = (interactions.by_recording(name, what, way) for name, way in zip((first, second), ways, strict=True))
    return difference(*found, paired=True)


def real_tempo_claims() -> list[Claim]:
    """Those of notebook 05 on real clips that networks were trained on."""
    rows = []
    for kind in KINDS:
        title = interactions.TITLES[kind]
        found = [on_real(kind, kind, ways=(f"{slower}, dilated", f"{slower}")) for slower in (2, 4)]
        paper = "yes (Figure 3, KTH)" if kind == "stdcf" else "not tried"
        here = f"half: {verdict(found[0])}, {found[0]}; a quarter: {verdict(found[1])}, {found[1]}"
        rows.append(
            Claim("05", f"real clips, half and quarter speed: dilation restores accuracy: {title}", paper, here, SURE_OF_REAL)
        )
    for kind in ("full", "rank1"):
        found = on_real("stdcf", kind)
        claim = f"real clips at their own speed: STDCF against {interactions.TITLES[kind]}"
        rows.append(Claim("05", claim, "not compared", f"accuracy {verdict(found)}: {found}", SURE_OF_REAL))
    return rows


def real_itsl_claims() -> list[Claim]:
    """Those of notebook 06 on real clips: log-likelihood, which tells more than accuracy where few clips are wrong."""
    rows = []
    others = {
        "stdcf": "the same compute",
        "direct-updates": "the same compute and updates",
        "direct-seconds": "as many seconds",
    }
    for plan, atoms in (("itsl-resample", "resampled"), ("itsl", "kept")):
        for name, against in others.items():
            claim = f"real clips: ITSL, atoms {atoms}, against full-size training for {against}"
            loss, right = (on_real(plan, name, what) for what in ("nll", "accuracy"))
            here = f"negative log-likelihood {verdict(loss)}: {loss}; accuracy {verdict(right)}: {right}"
            rows.append(Claim("06", claim, "not compared", here, SURE_OF_REAL))
    return rows


def itsl_claims() -> list[Claim]:
    """Those of notebook 06."""
    rows = []
    for name, claim, paper in (
        ("direct", "ITSL, atoms resampled, against full-size training at the same compute and minutes", "not compared"),
        ("direct-updates", "… at the same compute and number of updates", "not compared"),
        ("direct-large", "… with the 5×5 atoms that resampling ends with", "not compared"),
        ("itsl", "resampling against keeping the atoms", "atoms of “different sizes”"),
        ("unfrozen-restored", "freezing by turns against nothing frozen, φ restored", "not compared"),
        ("atoms-never-train", "training atoms at all, against coefficients alone", "not compared"),
        ("t-only", "both kinds of stages against stage-t alone", "not compared"),
    ):
        found = difference(turning.final("itsl-resample"), turning.final(name))
        sure = f"{len(turning.SEEDS['itsl-resample'])} and {len(turning.SEEDS[name])} seeds, one small task; 95% interval"
        rows.append(Claim("06", claim, paper, f"{verdict(found)}: {found}", sure))
    sure = f"{len(turning.SEEDS['t-only-longer'])} seeds each, one small task; 95% interval"
    for first, second, claim in (
        ("itsl-resample", "direct-updates", "ITSL, atoms resampled, against full-size training at as many updates"),
        ("itsl-resample", "t-only", "both kinds of stages against stage-t alone"),
        ("t-only", "direct-updates", "stage-t alone against full-size training at as many updates"),
    ):
        found = difference(*(turning.final(f"{name}-longer") for name in (first, second)))
        words = f"with {turning.TIMES} times the compute: {claim}"
        rows.append(Claim("06", words, "not compared", f"{verdict(found)}: {found}", sure))
    return rows


def claims() -> list[Claim]:
    """All of them, in the order of the notebooks."""
    return reconstruction_claims() + tempo_claims() + real_tempo_claims() + itsl_claims() + real_itsl_claims()


def table(rows: Sequence[Claim]) -> str:
    """The rows as a Markdown table."""
    lines = ["| claim | paper | here | how sure |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.claim} | {row.paper} | {row.here} | {row.sure} |" for row in rows])


def in_readme(text: str) -> str:
    """The text of the README with its table of claims made anew."""
    return made_anew(text, "claims", table([row._replace(claim=f"{row.notebook}: {row.claim}") for row in claims()]))


def main() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
