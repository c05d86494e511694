"""What a record of `benchmarks.layers` says of each layer is what is drawn."""

import numpy as np
import pytest

from stdcf_lib.plots.roofline import layers_on_gpu, measured_layers


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


def test_on_a_gpu_too_and_what_was_not_measured_is_left_out():
    def rows(channels, **times):
        named = {
            "Conv3d": "Conv3d",
            "filters": "STDCF N=2, filters",
            "atoms": "STDCF N=2, atoms",
            "staged": "STDCF N=2, Triton, staged",
        }
        return [
            {"channels": channels, "size": 7, "clips": 2, "layer": named[name], "forward_ms": time, "both_ms": both}
            for name, (time, both) in times.items()
        ]

    record = {
        "machine": {"device": "a GPU", "torch": "2"},
        "precision": "bf16",
        "layers": rows(64, Conv3d=(1.0, 3.0), filters=(1.1, 3.6), atoms=(40.0, 90.0), staged=(1.5, None))
        + rows(512, Conv3d=(2.0, 6.0), filters=(2.4, 6.0), atoms=(18.0, 30.0), staged=(1.0, None)),
    }
    drawing = layers_on_gpu(record)
    np.testing.assert_allclose(drawing.arrays["STDCF, filters, forward"], [1.1, 1.2])
    np.testing.assert_allclose(drawing.arrays["STDCF, staged, forward"], [1.5, 0.5])
    np.testing.assert_allclose(drawing.arrays["STDCF, three layers, forward and backward"], [30, 5])
    assert np.isnan(drawing.arrays["STDCF, staged, forward and backward"]).all() and "rank-1, forward" not in drawing.arrays
    title = drawing.figure.get_suptitle()
    assert "1.10 to 1.20 of Conv3d's time forward" in title and "at least 9 times" in title and "a GPU" in title
