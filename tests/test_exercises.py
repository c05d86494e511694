"""The notebooks' exercises: unsolved they are not answered, their folded solutions are right, and typical mistakes are not."""

import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from stdcf_lib.exercises import CHECKS, check

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
CALL = re.compile(r'^check\("(\d\d\.\d)", \w+\)$', re.MULTILINE)
SOLUTION = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```", re.DOTALL)


def exercises() -> dict[str, tuple[Path, str, str]]:
    """Each exercise's notebook, the text above its cell, and the cell."""
    found = {}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        for text, cell in itertools.pairwise(cells):
            if cell.cell_type == "code" and (call := CALL.search(cell.source)):
                found[call[1]] = path, text.source, cell.source
    return found


EXERCISES = exercises()


@pytest.fixture(scope="module")
def namespaces():
    """What a reader has who ran the first cell of a notebook, the imports, and no other."""
    made: dict[Path, dict[str, Any]] = {}

    def of(path: Path) -> dict[str, Any]:
        if path not in made:
            made[path] = {}
            cells = nbformat.read(path, as_version=4).cells
            exec(next(cell.source for cell in cells if cell.cell_type == "code"), made[path])
        return dict(made[path])

    return of


def test_every_check_has_its_exercise_in_order():
    assert list(EXERCISES) == list(CHECKS)
    for name, (path, text, cell) in EXERCISES.items():
        assert name.startswith(path.name[:2])
        assert text.startswith(f"**{int(name[3:])}.** ")
        assert cell.endswith(CALL.search(cell)[0])  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_come_in_steps_and_then_the_solution(name):
    folds = re.findall(r"<details><summary>(.*?)</summary>", EXERCISES[name][1])
    assert folds == [*(f"Hint {k}" for k in range(1, len(folds))), "Solution"] and len(folds) in (3, 4)


@pytest.mark.parametrize("name", EXERCISES)
def test_unsolved_is_not_answered_and_the_folded_solution_is_right(name, namespaces, capsys):
    path, text, cell = EXERCISES[name]
    (solution,) = SOLUTION.findall(text)
    namespace = namespaces(path)
    exec(cell, namespace)
    assert capsys.readouterr().out == f"{name}: not answered yet.\n"
    call = CALL.search(cell)
    assert call
    exec(f"{solution}\n{call[0]}", namespace)
    assert capsys.readouterr().out.startswith(f"{name}: right. ")


def tall(m: np.ndarray) -> np.ndarray:
    return m.reshape(len(m), -1).T


# What readers try, and a word of what they are told.
MISTAKES: list[tuple[str, Any, str]] = [
    ("01.1", 3, "a function is asked for"),
    ("01.1", lambda m_1, m_2: m_1 @ m_2, "your function raised ValueError"),
    ("01.1", lambda m_1, m_2: np.linalg.pinv(tall(m_2)) @ tall(m_1), "leads back"),
    ("01.1", lambda m_1, m_2: (np.linalg.pinv(tall(m_1)) @ tall(m_2)).T, "rows and columns are exchanged"),
    ("01.1", lambda m_1, m_2: np.eye(3), "differs"),
    ("01.1", lambda m_1, m_2: np.eye(2), r"should be \(3, 3\)"),
    ("01.2", 8, "dimension is 448"),
    ("01.2", 40, "nor with one less"),
    ("01.2", 0, "counts no channels"),
    ("01.2", "many", "finite number"),
    ("01.3", lambda matrix, o, c, k_u, k_t: matrix[:k_u, :k_t], "another block"),
    ("01.3", lambda matrix, o, c, k_u, k_t: matrix[o * k_u : (o + 1) * k_u, c * k_t : (c + 1) * k_t], "should be|another"),
    ("01.4", 8, "are allowed"),
    ("01.4", 4, "one more"),
    ("01.5", lambda c_in, c_out, k_u, k_t, k: k * (c_in * k_u + c_out * k_t - k), "conv3"),
    ("01.5", lambda c_in, c_out, k_u, k_t, k: c_in * c_out * (k_u + k_t - 1), "conv1"),
    ("02.1", 64 * 32 * 15, "coefficients alone"),
    ("02.1", 64 * 32 * 27, "too many"),
    ("02.2", [[0, 0, 1], [0, 0, 0], [0, 0.535, 0]], "the other way"),
    ("02.2", [[0, 0, 1], [0, 0.535, 0], [0, 0, 0]], "to up"),
    ("02.2", [[0, 0, 0], [0, 0, 0], [0, 1, 0]], "rank below two"),
    ("02.2", [1, 2, 3], r"should be \(3, 3\)"),
    ("02.3", lambda phi, d: phi, r"should be"),
    ("02.3", lambda phi, d: phi.repeat_interleave(d, 1)[:, : d * (phi.shape[1] - 1) + 1], "differ"),
    ("02.4", 12, "as much or more"),
    ("02.4", 64, "with 63"),
    ("02.4", 10_000, "fewer will do"),
    ("02.5", lambda alpha: alpha, "its rank is 3"),
    ("02.5", lambda alpha: np.outer(alpha[:, 0], alpha[0]), "there is one at"),
    ("03.1", lambda height, width: max(height, width) / 2, "too much"),
    ("03.1", lambda height, width: (np.hypot(height, width) - max(height, width)) / 2, "too little"),
    ("03.2", lambda x, span: x % span, "in another place"),
    ("03.2", lambda x, span: x, "outside the room"),
    ("03.3", lambda clip, psi, phi: torch.einsum("thw, mhw, nt -> nm", clip, psi, phi), "should be"),
    ("03.3", lambda clip, psi, phi: torch.einsum("thw, mhw, nt -> mn", clip, psi, phi), "still holds"),
    ("03.4", lambda clip: (0.0, 0.0), "pixels a frame"),
    ("03.4", lambda clip: 1.0, r"should be \(2,\)"),
    ("04.1", lambda c_in, c_out, M, N: c_in * c_out * M * N, "too few"),
    ("04.1", lambda c_in, c_out, M, N: c_in * c_out * (9 * M + 3 * N + M * N), "too many"),
    ("04.2", 5, "too few"),
    ("04.2", 1e-4, "less than one seed"),
    ("04.2", 1e6, "too many"),
    ("04.3", 27, "too many"),
    ("04.3", 27 / 2, "too many"),
    ("04.3", 1, "too few"),
    ("04.4", "stdcf", "dictionary"),
    ("04.4", {1_300: "full", 1_600: "stdcf", 2_400: "full"}, "more than 1,300"),
    ("04.4", {1_300: "joint", 1_600: "stdcf", 2_400: "full"}, "is no family"),
    ("04.4", {1_300: "rank1-relu", 1_600: "stdcf", 2_400: "full"}, "another family"),
    ("05.1", lambda a, b, c: 1 + 4 * a + 4 * b + 2 * c, "too few"),
    ("05.1", lambda a, b, c: 5 * a * 5 * b * 3 * c, "too many"),
    ("05.2", (1, 1, 1), "a better one"),
    ("05.2", 3, "three dilations"),
    ("05.3", [0] * 8, "does not change"),
    ("05.3", [0, 0, 1, 1, 0, 0, 1, 1], "does not change"),
    ("05.3", [0, 0.5] * 4, "changes the result by 0.250"),
    ("05.3", [0, 5] * 4, "from 0 to 1"),
    ("06.1", 4, "keeps"),
    ("06.1", 8, "choose 4 or 16"),
    ("06.2", {90}, "not all"),
    ("06.2", {45, 90, 180}, "has turned by 180"),
    ("06.2", 90, "a set"),
    ("06.3", "keep", "another rule"),
    ("06.3", "t-2", "choose"),
    ("07.1", 64, "one more still fits"),
    ("07.1", 81, "the joint layer has"),
    ("07.2", lambda kept, keep: (9, 3), "fewer coefficients"),
    ("07.2", lambda kept, keep: (1, 1), "was asked for"),
    ("07.2", lambda kept, keep: np.argwhere(kept >= keep)[0], "count from 0|fewer|was asked for"),
    ("07.2", lambda kept, keep: 3, "a pair"),
    ("07.3", "brain", "keep less"),
    ("07.3", "actions", "choose one of"),
]


@pytest.mark.parametrize(("name", "answer", "word"), MISTAKES, ids=[f"{name}-{word}" for name, _, word in MISTAKES])
def test_mistakes_are_told_by_what_fails(name, answer, word, capsys):
    check(name, answer)
    told = capsys.readouterr().out
    assert told.startswith(f"{name}: not yet. ")
    assert re.search(word, told, re.IGNORECASE), told


NONSENSE = ["text", "", [], {}, object(), float("nan"), True, -1e9, np.zeros(3), torch.zeros(2, 0), print, {1: 2}]


@pytest.mark.parametrize("name", CHECKS)
def test_no_answer_ends_in_a_traceback(name, capsys):
    for value in NONSENSE:
        for answer in (value, lambda *_, value=value: value):
            check(name, answer)
            assert re.search(rf"^{name}: not (yet|answered)", capsys.readouterr().out, re.MULTILINE), (name, value)


def test_every_exercise_has_its_mistakes():
    assert {name for name, _, _ in MISTAKES} == set(CHECKS)


def test_a_function_that_returns_nothing_is_not_answered(capsys):
    check("03.2", lambda x, span: None)
    assert capsys.readouterr().out == "03.2: not answered yet.\n"


def test_an_unknown_exercise_is_refused():
    with pytest.raises(ValueError, match=r"name='02\.9': choose '01\.1'"):
        check("02.9", 1)
