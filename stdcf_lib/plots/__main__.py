"""Draw every figure of the story, with the arrays it shows: `python -m stdcf_lib.plots` fills `figures/`."""

from collections.abc import Callable
from pathlib import Path

from stdcf_lib.plots.style import Drawing

# A name starts with the number of the notebook that explains the figure.
FIGURES: dict[str, Callable[[], Drawing]] = {}


def main(folder: Path = Path("figures")) -> None:
    """Write every figure of `FIGURES` into `folder`, as SVG, PNG and the arrays drawn."""
    for name, draw in FIGURES.items():
        draw().save(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
