"""Numbers as `stdcf_lib.train` says: to the bit again and resumed, and up to rounding where sums come in another order."""

from contextlib import contextmanager

import pytest
import torch

from tests.attack.numbers import DTYPES, difference, layer, training

ROUNDING = {"float32": 1e-5, "bf16": 0.02}


@contextmanager
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def other_kernels():
    return torch.backends.mkldnn.flags(enabled=False)


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("elsewhere", [two_threads, other_kernels])
@pytest.mark.parametrize("evaluation", ["filters", "atoms"])
@pytest.mark.parametrize("precision", DTYPES)
def test_a_layer_is_the_same_again_and_agrees_elsewhere(precision, evaluation, elsewhere):
    expected = layer(evaluation, DTYPES[precision], channels=16)
    assert difference(layer(evaluation, DTYPES[precision], channels=16), expected) == 0
    with elsewhere():
        assert difference(layer(evaluation, DTYPES[precision], channels=16), expected) < ROUNDING[precision]


def test_a_training_in_bf16_is_the_same_resumed(tmp_path):
    expected = training(torch.bfloat16)
    assert difference(training(torch.bfloat16, folder=tmp_path, stop=6), expected) == 0
