"""The notebooks as files. Their outputs are compared by `pytest --nbval notebooks/`."""

import json
import re
import runpy
from pathlib import Path
from statistics import median

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MEGABYTE = 2**20

# A path into somebody's disk, wherever the folder names look like one.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:work|tmp|root|opt|usr|var|home|Users)/\w|[A-Z]:\\\w")


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What keeps a notebook out of the repository, in words; empty for a good one."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [*_faults_of_execution(notebook, code), *_faults_of_telling(notebook, code, prose)]


def _faults_of_execution(notebook, code):
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "cells are unexecuted, or were executed out of order"
    if "widgets" in notebook.metadata:
        yield "widget state in the metadata"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    for number, cell in enumerate(code, 1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell [{number}] ended in {output.ename}"
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                yield f"cell [{number}] keeps the view of a widget that is gone"
        if path := MACHINE_PATH.search("\n".join([cell.source, *map(_text, cell.outputs)])):
            yield f"cell [{number}] holds a path of one machine: {path.group()}"


def _faults_of_telling(notebook, code, prose):
    first_code = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), 0)
    opening = "\n".join(cell.source for cell in notebook.cells[:first_code])
    if not opening.startswith("# "):
        yield "it does not open with a title"
    promises = re.search(r"what you will learn.*?\n((?:\s*[-*] .*\n?(?:  .*\n?)*)+)", opening, re.IGNORECASE)
    if promises is None or not 3 <= len(re.findall(r"^\s*[-*] ", promises.group(1), re.MULTILINE)) <= 5:
        yield "the opening lacks 'What you will learn' with 3 to 5 points"
    if not re.search(r"\b(second|minute)s?\b", opening) or not re.search(r"\b(cores?|CPU|GPU|laptop)\b", opening):
        yield "the opening lacks time and hardware"
    headings = [line.lstrip("# ").lower() for text in prose for line in text.splitlines() if line.startswith("#")]
    start_page = opening.startswith("# 00 ")  # of five minutes: it sums nothing up and sets no exercises
    for heading in ("summary", "exercises"):
        if not start_page and not any(heading in line for line in headings):
            yield f"there is no heading '{heading.title()}'"
    if not start_page and not 3 <= sum("<summary>Solution</summary>" in text for text in prose) <= 5:
        yield "there are not 3 to 5 exercises with their solutions folded"
    for number, cell in enumerate(notebook.cells):
        open_text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL)
        for asked in re.findall(r"(?:\*\*Predict|\bTry)\b.*", open_text) if cell.cell_type == "markdown" else []:
            # A prediction's answer comes after what computes it; what to try may have its answer in the same cell.
            nearby = notebook.cells[number + ("**Predict" in asked) : number + 4]
            if not any("<summary>Answer</summary>" in other.source for other in nearby):
                yield f"no folded answer within three cells of: {asked[:60]}"
    if code and median(len(cell.source.splitlines()) for cell in code) > 8:
        yield "the median code cell is longer than 8 lines"
    if len(nbformat.writes(notebook).encode()) > 2 * MEGABYTE:
        yield "it is larger than 2 MB"


def _text(output):
    data = [text for mime, text in output.get("data", {}).items() if not mime.startswith("image/")]
    return "\n".join(map(str, [output.get("text", ""), *data]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_whole(path):
    assert faults(nbformat.read(path, as_version=4)) == []


def test_notebooks_are_numbered_in_reading_order():
    assert NOTEBOOKS
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02}_" for number in range(len(NOTEBOOKS))]


def good_notebook() -> nbformat.NotebookNode:
    opening = "# Title\n\n## What you will learn\n- one\n- two\n- three\n\nTakes 2 minutes on two cores."
    cells = [
        new_markdown_cell(opening),
        new_code_cell("1 + 1", execution_count=1, outputs=[new_output("execute_result", {"text/plain": "2"})]),
        new_code_cell("print()", execution_count=2, outputs=[new_output("stream", text="\n")]),
        new_markdown_cell("**Predict.** How much?\n\n## Summary\n\n## Exercises"),
        new_markdown_cell("<details><summary>Answer</summary>\n\nTwo.\n</details>"),
        *(new_markdown_cell("<details><summary>Solution</summary>\n\n`2`\n</details>") for _ in range(3)),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def test_a_good_notebook_has_no_faults():
    assert faults(good_notebook()) == []


def unexecuted(notebook):
    notebook.cells[2].execution_count = None


def executed_out_of_order(notebook):
    notebook.cells[1].execution_count = 3


def raises(notebook):
    notebook.cells[2].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]


def keeps_widget_state(notebook):
    notebook.metadata["widgets"] = {}


def keeps_widget_view(notebook):
    notebook.cells[1].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "1"}


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-kernel"


def path_in_output(notebook):
    notebook.cells[2].outputs[0].text = "saved to " + "/".join(["", "home", "me", "runs"])


def path_in_source(notebook):
    notebook.cells[1].source = f"open('{'/'.join(['', 'tmp', 'x'])}')"


def no_title(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("# Title", "Title", 1)


def two_promises(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("- one\n", "")


def no_hardware(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("cores", "things")


def no_summary(notebook):
    notebook.cells[3].source = notebook.cells[3].source.replace("## Summary", "")


def no_exercises(notebook):
    notebook.cells[3].source = notebook.cells[3].source.replace("## Exercises", "")


def two_solutions(notebook):
    del notebook.cells[-1]


def unanswered(notebook):
    notebook.cells[4].source = "Two."


def tried_in_vain(notebook):
    notebook.cells[5].source = "Try: what happens at 3?\n\n" + notebook.cells[5].source


def long_cells(notebook):
    for cell in notebook.cells[1:3]:
        cell.source = "1\n" * 9


def too_large(notebook):
    notebook.cells[1].outputs[0].data["image/png"] = "a" * 3 * MEGABYTE


BREAKS = {
    unexecuted: "unexecuted",
    executed_out_of_order: "out of order",
    raises: "ended in ValueError",
    keeps_widget_state: "widget state",
    keeps_widget_view: "view of a widget",
    other_kernel: "not python3",
    path_in_output: "path of one machine",
    path_in_source: "path of one machine",
    no_title: "title",
    two_promises: "What you will learn",
    no_hardware: "time and hardware",
    no_summary: "Summary",
    no_exercises: "Exercises",
    two_solutions: "3 to 5 exercises",
    unanswered: "no folded answer within three cells of: **Predict.** How much?",
    tried_in_vain: "no folded answer within three cells of: Try: what happens",
    long_cells: "longer than 8 lines",
    too_large: "larger than 2 MB",
}


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda break_it: break_it.__name__)
def test_a_broken_notebook_is_refused(break_it):
    notebook = good_notebook()
    break_it(notebook)
    (fault,) = faults(notebook)
    assert BREAKS[break_it] in fault


@pytest.fixture(scope="module")
def storing():
    return runpy.run_path(str(FOLDER / "store.py"))


@pytest.fixture(scope="module")
def store(storing):
    return storing["store"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_reader_is_told_where_he_is_and_what_comes_before_and_next(path, storing):
    line = storing["thread"](FOLDER)[path.name]
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.splitlines()[:4:2] == [cells[0].source.splitlines()[0], line]
    assert cells[-1].source == line
    neighbours = [other.name for other in NOTEBOOKS[max(0, NOTEBOOKS.index(path) - 1) :][:3] if other != path]
    assert set(re.findall(r"\]\((.*?)\)", line)) <= set(neighbours)


def test_the_links_follow_names_and_titles(tmp_path, storing):
    def write(name, title):
        nbformat.write(new_notebook(cells=[new_markdown_cell(f"{title}\n\nText."), new_code_cell("1")]), tmp_path / name)

    write("00_start.ipynb", "# 00 · Start here")
    write("01_b.ipynb", "# 01 · Bees, and how they fly")
    write("02_c.ipynb", "# 02 · Clouds: a story")
    lines = storing["thread"](tmp_path)
    assert lines["00_start.ipynb"] == "**00 Start here** · [01 Bees](01_b.ipynb) →"
    assert lines["01_b.ipynb"] == "← [00 Start here](00_start.ipynb) · **01 Bees** · [02 Clouds](02_c.ipynb) →"
    assert lines["02_c.ipynb"] == "← [01 Bees](01_b.ipynb) · **02 Clouds**"

    notebook = nbformat.read(tmp_path / "01_b.ipynb", as_version=4)
    for line in (lines["01_b.ipynb"], lines["00_start.ipynb"], lines["02_c.ipynb"]):  # each takes the older one's place
        storing["connect"](notebook, line)
        assert [cell.source for cell in notebook.cells] == [f"# 01 · Bees, and how they fly\n\n{line}\n\nText.", "1", line]
    write("02_c.ipynb", "Clouds")
    with pytest.raises(ValueError, match=r"02_c\.ipynb opens with 'Clouds"):
        storing["thread"](tmp_path)


def test_stored_outputs_are_the_same_bytes_each_time(tmp_path, store):
    cells = [
        new_markdown_cell("# Toy"),
        new_code_cell("import ipywidgets", metadata={"collapsed": True, "tags": ["nbval-ignore-output"]}),
        new_code_cell("print(1)\nprint(2)"),
        new_code_cell("ipywidgets.IntSlider()"),
        new_code_cell("print(1)\nprint(2)"),
    ]
    path = tmp_path / "toy.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"widgets": {}}), path)
    store(path)
    once = path.read_bytes()
    store(path)
    assert path.read_bytes() == once
    assert [item.name for item in tmp_path.iterdir()] == ["toy.ipynb"]

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)  # and so no two cells have one id
    assert notebook.cells[1].metadata == {"tags": ["nbval-ignore-output"]}
    assert notebook.cells[2].outputs[0].text == "1\n2\n"
    assert list(_faults_of_execution(notebook, notebook.cells[1:])) == []


def test_a_failing_notebook_is_left_as_it_was(tmp_path, store):
    path = tmp_path / "toy.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="division by zero"):
        store(path)
    assert path.read_bytes() == before


def test_a_time_is_kept_until_another_is_clearly_different(tmp_path, storing):
    path = tmp_path / "times.json"

    def kept(seconds, machine="one"):
        storing["keep_time"]("01_toy", seconds, machine, path)
        return json.loads(path.read_text())["01_toy"]["seconds"]

    assert [kept(1.2), kept(9), kept(62), kept(50), kept(80), kept(90), kept(30)] == [5, 5, 60, 60, 60, 90, 30]
    assert kept(33, machine="two") == 35
    storing["keep_time"]("00_other", 7, "one", path)
    assert list(json.loads(path.read_text())) == ["00_other", "01_toy"]
    assert [item.name for item in tmp_path.iterdir()] == ["times.json"]


def test_the_map_tells_the_time_of_every_notebook_and_stands_in_the_readme(storing):
    start_page = nbformat.read(FOLDER / "00_start.ipynb", as_version=4)
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert storing["in_readme"](text, start_page) == text, "make it anew: python notebooks/store.py notebooks/00_start.ipynb"
    times = json.loads((FOLDER / "times.json").read_text())
    assert list(times) == [path.stem for path in NOTEBOOKS]
    for name, kept in times.items():
        (row,) = re.findall(rf"^\| .*\(notebooks/{name}\.ipynb\).*$", text, re.MULTILINE)
        assert row.endswith(f"| {kept['seconds']} s |")
        assert f"on one core ({kept['machine']})" in text


def test_lab_opens_the_start_page():
    assert "jupyter lab notebooks/00_start.ipynb" in (FOLDER.parent / "Makefile").read_text()
