"""Arguments: what passes comes back as plain Python, and what does not is answered in words."""

import numpy as np
import pytest
import torch

from stdcf_lib.checks import choice, flag, number, whole, wholes


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_any_make_pass(value):
    found = whole("frames", value)
    assert found == 3 and type(found) is int
    assert wholes("size", [value, 4], 2) == (3, 4)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, np.float32(1), [1], np.bool_(True)])
def test_what_is_no_integer_of_at_least_1_is_refused(value):
    with pytest.raises(ValueError, match=r"^frames=.*: give an integer of at least 1$"):
        whole("frames", value)
    with pytest.raises(ValueError, match=r"^size=.*: give 2 integers of at least 1 \(height, width\)$"):
        wholes("size", (4, value), 2, meaning="(height, width)")


def test_bounds_are_named_and_included():
    assert whole("label", 0, 0, 9) == 0 and whole("label", 9, 0, 9) == 9
    with pytest.raises(ValueError, match="label=10: give an integer from 0 to 9"):
        whole("label", 10, 0, 9)


@pytest.mark.parametrize("values", [(), 3, "33", (1, 2, 3), None, np.array(2), torch.tensor(2)])
def test_another_number_of_integers_is_refused(values):
    with pytest.raises(ValueError, match=r"size=.*: give 2 integers"):
        wholes("size", values, 2)
    assert wholes("blocks", (3, 4, 6, 3)) == (3, 4, 6, 3)
    with pytest.raises(ValueError, match=r"blocks=\(\): give integers of at least 1"):
        wholes("blocks", ())


def test_numbers_are_finite_and_within_their_bounds():
    assert number("tempo", np.float32(0.5), above=0) == 0.5 and number("share", 1, 0, 1) == 1.0
    for value in (0, -1, float("nan"), float("inf"), True, "2", None, 10**400, torch.ones(2)):
        with pytest.raises(ValueError, match=r"tempo=.*: give a finite number above 0"):
            number("tempo", value, above=0)
    with pytest.raises(ValueError, match="dropout=1: give a finite number of at least 0 and below 1"):
        number("dropout", 1, 0, below=1)


def test_a_flag_is_true_or_false():
    assert flag("bias", True) is True and flag("bias", np.bool_(False)) is False
    for value in (1, None, "yes", np.zeros(2)):
        with pytest.raises(ValueError, match=r"bias=.*: choose True or False"):
            flag("bias", value)


def test_a_choice_is_one_of_the_options():
    assert choice("mode", None, ("a", None)) is None
    for value in ("b", 1, True, ["a"], np.zeros(2)):
        with pytest.raises(ValueError, match=r"mode=.*: choose 'a' or None"):
            choice("mode", value, ("a", None))
    with pytest.raises(ValueError, match=r"mode='x': choose 'a'$"):
        choice("mode", "x", ("a",))
