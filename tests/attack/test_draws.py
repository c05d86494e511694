"""Of the tool that draws anew: it finds what the draws of every day do not, and counts."""

from tests.attack.draws import attack

CONFTEST = """
from hypothesis import settings

settings.register_profile("anew", derandomize=False, database=None, max_examples=500)
settings.register_profile("drawn", derandomize=True, database=None, max_examples=5)
settings.load_profile("drawn")
"""
TESTS = """
import pytest
from hypothesis import given
from hypothesis import strategies as st

@given(st.integers(0, 1_000_000))
def test_right(number):
    assert number >= 0

@pytest.mark.parametrize("bound", [800_000, 2_000_000])
@given(number=st.integers(0, 1_000_000))
def test_wrong_for_few(bound, number):
    assert number < bound

def test_that_draws_nothing():
    assert False
"""


def test_what_is_drawn_anew_finds_more_and_is_counted(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_tiny.py").write_text(TESTS)
    said = []
    found = attack(0, 1, said.append, tmp_path)
    assert (found["tests"], found["failed"]) == (2, 1)
    assert 1000 < found["examples"] < 3000
    assert len(said) == 1 and "test_wrong_for_few[800000]" in said[0] and "test_that_draws_nothing" not in said[0]
