import pytest

from stdcf_lib.effort import by_profile

SIZES = {"smoke": 1, "laptop": 2, "paper": 3}


@pytest.mark.parametrize("name", SIZES)
def test_the_variable_names_the_size(name, monkeypatch):
    monkeypatch.setenv("STDCF_PROFILE", name)
    assert by_profile(**SIZES) == SIZES[name]


def test_a_reader_who_sets_nothing_has_a_laptop(monkeypatch):
    monkeypatch.delenv("STDCF_PROFILE")
    assert by_profile(**SIZES) == 2
    monkeypatch.setenv("STDCF_PROFILE", "")
    assert by_profile(**SIZES) == 2


def test_an_unknown_size_is_refused_with_what_would_do(monkeypatch):
    monkeypatch.setenv("STDCF_PROFILE", "huge")
    with pytest.raises(ValueError, match="STDCF_PROFILE is 'huge'; set it to one of smoke, laptop, paper"):
        by_profile(**SIZES)
