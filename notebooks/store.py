"""Run the notebooks again, in reading order, and keep their outputs: `make notebooks`.

Each gets the links to its neighbours, made of the notebooks' names and titles. Equal outputs give equal files, byte for byte,
so that a diff shows only what changed. `times.json` keeps what each notebook took, and the table that the start page makes of
it goes into the README as well.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import sys
from collections import Counter
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from stdcf_lib.files import made_anew

FOLDER = Path(__file__).parent
TIMES = FOLDER / "times.json"
WIDGET = "application/vnd.jupyter.widget-view+json"
# "# 02 · The joint convolution, taken apart" is called "02 The joint convolution" where others speak of it.
TITLE = re.compile(r"# (\d\d) · ([^:,\n]+)")
THREAD = re.compile(r"^(?:← \[.*\) · )?\*\*\d\d [^*\n]+\*\*(?: · \[.*\) →)?$", re.MULTILINE)


def store(path: Path) -> None:
    """Execute the notebook at `path` and replace it by itself with the new outputs.

    Raises CellExecutionError, and leaves the file as it was, if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    if line := thread(path.parent).get(path.name):
        connect(notebook, line)
    # One thread, as under test: sums keep their order, and two cores busy with other things do not stall each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = {"record_timing": False, "store_widget_state": False, "coalesce_streams": True, "timeout": None}
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": path.parent}}, **options)
    client.execute()
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(nbformat.writes(tidy(notebook)) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def thread(folder: Path) -> dict[str, str]:
    """For each file name, the line that tells a reader where he is: the notebook before, this one, and the next."""
    titles = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        opening = nbformat.read(path, as_version=4).cells[0].source
        if (title := TITLE.match(opening)) is None:
            raise ValueError(f"{path.name} opens with {opening[:40]!r}; give it a title such as '# {path.name[:2]} · Capacity'")
        titles[path.name] = f"{title[1]} {title[2].strip()}"
    links = [f"[{title}]({name})" for name, title in titles.items()]
    before, after = ["", *(f"← {link} · " for link in links)], [*(f" · {link} →" for link in links[1:]), ""]
    return {name: f"{b}**{title}**{a}" for (name, title), b, a in zip(titles.items(), before, after, strict=False)}


def connect(notebook: nbformat.NotebookNode, line: str) -> None:
    """Put the line under the title and at the end, in the place of an older one."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = rest.strip("\n")
    if (older := THREAD.match(rest)) is not None:
        rest = rest[older.end() :].strip("\n")
    notebook.cells[0].source = f"{title}\n\n{line}\n\n{rest}"
    if not THREAD.fullmatch(notebook.cells[-1].source):
        notebook.cells.append(nbformat.v4.new_markdown_cell())
    notebook.cells[-1].source = line


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove from an executed notebook, in place, what differs between two equal executions."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:12]
        cell.id = f"{digest}-{seen[digest]}"
        seen[digest] += 1
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            # Without a kernel a widget's view shows only an error; readers get the picture that comes with it.
            output.get("data", {}).pop(WIDGET, None)
    return notebook


def keep_time(name: str, seconds: float, machine: str, path: Path = TIMES) -> None:
    """Note in the file at `path` what a notebook took, to five seconds; a time that is much like the one kept stays out."""
    times = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = times.get(name)
    if kept is None or kept["machine"] != machine or abs(seconds - kept["seconds"]) > max(5, kept["seconds"] / 3):
        times[name] = {"seconds": max(5, 5 * round(seconds / 5)), "machine": machine}
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(json.dumps(dict(sorted(times.items())), indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)


def in_readme(text: str, start_page: nbformat.NotebookNode) -> str:
    """The text of the README with the start page's map of the notebooks."""
    outputs = (output for cell in start_page.cells for output in cell.get("outputs", []))
    texts = (output.get("data", {}).get("text/markdown", "") for output in outputs)
    table = next(text for text in texts if text.startswith("| notebook"))
    return made_anew(text, "notebooks", re.sub(r"[(](?=[0-9]{2}_)", "(notebooks/", table))


def _processor() -> str:
    about = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the name
    model = re.search("^model name[^:]*: *(.*)$", about.read_text(), re.MULTILINE) if about.exists() else None
    return (model[1] if model else platform.processor()) or platform.machine()


def _seconds() -> float:
    # Of the processor, by kernels that have ended: on one thread the time a reader waits, however busy this machine is.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all, in reading order")
    # The start page last, as it tells what the others took.
    everything = sorted(FOLDER.glob("*.ipynb"), key=lambda path: (path.name.startswith("00"), path.name))
    for path in parser.parse_args().notebooks or everything:
        before = _seconds()
        try:
            store(path)
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} was left as it was: a cell failed")
        took = _seconds() - before
        print(f"{path.name}: {took:.0f} s", flush=True)
        if os.environ.get("STDCF_PROFILE", "laptop") == "laptop":
            keep_time(path.stem, took, _processor())
        if path.name.startswith("00"):
            readme = FOLDER.parent / "README.md"
            text = in_readme(readme.read_text(encoding="utf-8"), nbformat.read(path, as_version=4))
            readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
