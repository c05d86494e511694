from typing import Any, cast

import pytest
import torch
from torch import nn

from stdcf_lib import Rank1Conv3d, STDCFConv3d
from stdcf_lib.measure import cost
from stdcf_lib.models import ReconstructionAutoencoder

VOXELS = 8 * 10 * 12


def test_a_convolution_costs_its_taps_and_keeps_its_input():
    counted = cost(nn.Conv3d(3, 4, 3, padding=1), (2, 3, 8, 10, 12))
    assert counted == (3 * 4 * 27 + 4, 2 * VOXELS * 3 * 4 * 27, 2 * VOXELS * 3 * 4)


def test_a_linear_layer_costs_its_weights_for_each_row():
    assert cost(nn.Linear(6, 4), (2, 5, 6))[:2] == (6 * 4 + 4, 2 * 5 * 6 * 4)


def test_stdcf_costs_one_convolution_or_three():
    shape = (1, 6, 8, 10, 12)
    options: dict[str, Any] = {"kernel_size": 3, "padding": 1}
    one = cost(STDCFConv3d(6, 4, **options, evaluation="filters"), shape)
    three = cost(STDCFConv3d(6, 4, **options, evaluation="atoms"), shape)
    assert one.parameters == three.parameters == 6 * 4 * 15 + 5 * 9 + 3 * 3 + 4
    assert one.macs == VOXELS * 6 * 4 * 27
    assert three.macs == VOXELS * (6 * 3 * 3 + 6 * 15 * 9 + 6 * 15 * 4)
    assert three.stored_bytes > one.stored_bytes


def test_rank1_costs_its_two_factors():
    counted = cost(Rank1Conv3d(6, 4, 3, padding=1, middle_channels=5), (1, 6, 8, 10, 12))
    assert counted.macs == VOXELS * (6 * 5 * 9 + 5 * 4 * 3)


@pytest.mark.parametrize(("kind", "weights"), [("stdcf", 1590), ("rank1", 1248), ("full", 2376)])
def test_table_a_has_the_independent_counts(kind, weights):
    biases = 4 + 8 + 4 + 4 + 1
    assert cost(ReconstructionAutoencoder(kind), (1, 1, 8, 28, 28)).parameters == weights + biases


def test_counting_allocates_nothing_and_leaves_the_model_alone():
    model = nn.Conv3d(3, 64, 7)
    before = model.weight.clone()
    assert cost(model, (1000, 3, 64, 1024, 1024)).macs > 10**15  # its input alone would take 0.8 TB
    assert torch.equal(model.weight, before) and model.weight.device.type == "cpu"


def test_a_module_used_twice_costs_twice_and_keeps_its_weights():
    conv = nn.Conv3d(2, 2, 3, padding=1)
    weight, before = conv.weight, conv.weight.clone()
    once, twice = (cost(nn.Sequential(*layers), (1, 2, 4, 5, 6)) for layers in ([conv], [conv, conv]))
    assert (twice.parameters, twice.macs) == (once.parameters, 2 * once.macs)
    assert conv.weight is weight and torch.equal(weight, before)


def test_statistics_of_a_network_in_training_stay_as_they_are():
    norm = nn.BatchNorm3d(2)
    cost(nn.Sequential(nn.Conv3d(1, 2, 3), norm), (1, 1, 4, 5, 6))
    assert norm.num_batches_tracked == 0 and norm.training


def test_a_network_is_counted_in_its_own_precision():
    conv = nn.Conv3d(1, 2, 3, bias=False)
    assert cost(conv.double(), (1, 1, 4, 5, 6)).stored_bytes == 2 * cost(conv.float(), (1, 1, 4, 5, 6)).stored_bytes
    assert cost(nn.ReLU(), (1, 1)).macs == 0


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="model is function"):
        cost(cast(Any, lambda x: x), (1,))
    with pytest.raises(ValueError, match="input_size="):
        cost(nn.ReLU(), (1, 0))
    for size in ((2, 3), (10**30, 1)):
        with pytest.raises(ValueError, match=r"input_size=\(.*\): the model does not take it"):
            cost(nn.Linear(4, 1), size)
