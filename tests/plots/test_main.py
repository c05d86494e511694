"""The figures kept in `figures/` are those that the code draws now."""

from pathlib import Path

import numpy as np
import pytest

from stdcf_lib.plots.__main__ import FIGURES, main

KEPT = Path(__file__).parents[2] / "figures"


@pytest.mark.parametrize("name", FIGURES)
def test_kept_arrays_are_drawn_again(name):
    drawn = FIGURES[name]().arrays
    with np.load(KEPT / f"{name}.npz") as kept:
        assert sorted(kept) == sorted(drawn)
        for key, array in drawn.items():
            if key.endswith("position"):  # of points in a map that t-SNE lays out: another machine's rounding leads elsewhere
                assert kept[key].shape == array.shape
                continue
            step = 1 if array.dtype == np.uint8 else 1e-6  # a picture is rounded, now and then to the next grey
            np.testing.assert_allclose(kept[key].astype(float), array, rtol=1e-4, atol=step, err_msg=f"{name}: {key}")


def test_kept_files_are_those_of_the_table():
    expected = {f"{name}{suffix}" for name in FIGURES for suffix in (".svg", ".png", ".npz")}
    assert {path.name for path in KEPT.iterdir()} == expected


def test_main_writes_a_figure_under_its_name(tmp_path, capsys):
    name = next(iter(FIGURES))
    main([name], tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([name, "99_chess"], tmp_path)
    assert "unknown 99_chess; known are 00_start, " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.npz", f"{name}.png", f"{name}.svg"]
