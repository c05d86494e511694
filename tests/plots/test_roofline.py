"""What a record of `benchmarks.layers` says of each layer is what is drawn."""

import numpy as np
import pytest

from stdcf_lib.plots.roofline import measured_layers


def row(conv3d, **others):
    times = {"Conv3d": conv3d + 1, "Conv3d, last": conv3d} | others
    case = {"ins": 3, "outs": 4, "size": 5}
    return {"case": case, "ms": {name: {"forward, ms": time, "both, ms": 3 * time} for name, time in times.items()}}


def test_times_are_shares_of_the_faster_layout_of_conv3d():
    record = {
        "machine": {"device": "a machine", "torch": "2"},
        "wide, 2 threads": row(10.0, **{"STDCF N=2, atoms": 5.0, "STDCF N=3, filters": 10.0, "rank-1": 4.0}),
        "thin, 2 threads": row(2.0, **{"STDCF N=2, atoms": 3.0}),
        "none, 2 threads": row(2.0, **{"STDCF N=1, atoms": 3.0}),
        "wide, 1 threads": row(20.0, **{"STDCF N=2, atoms": 40.0}),
    }
    drawing = measured_layers(record)
    np.testing.assert_array_equal(drawing.arrays["STDCF in tiles, N=2, forward"], [0.5, 1.5])
    np.testing.assert_array_equal(drawing.arrays["STDCF in tiles, N=2, forward and backward"], [0.5, 1.5])
    np.testing.assert_array_equal(drawing.arrays["rank-1, forward"], [0.4, np.nan])
    title = drawing.figure.get_suptitle()
    assert [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()] == ["wide (3→4, 5²)", "thin (3→4, 5²)"]
    assert "1 of 2 layers are quicker than Conv3d forward, and 1 both ways" in title and "a machine, 2 threads" in title
    alone = measured_layers(record, threads=1)
    assert alone.arrays["STDCF in tiles, N=2, forward"] == pytest.approx([2.0])
    assert "(a machine, 1 thread, PyTorch 2)" in alone.figure.get_suptitle()
