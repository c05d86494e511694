"""The book: the README, the notebooks with the outputs that they store, and the reference from docstrings, as pages that need
neither a kernel nor a network. `make book`.

The source folder is the root of the repository, so that every link leads where it leads on any other reader of these files.
"""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import imagesize
import nbformat
from docutils import nodes

from stdcf_lib.explorables import bring_to_life

ROOT = Path(__file__).parents[1]
BEGUN = ".begun"  # is in the folder of the site while it is built
# Stands at the end of the README, which is the first page.
NAVIGATION = """
```{toctree}
:hidden:
:glob:
:caption: Notebooks

notebooks/*
```

```{toctree}
:hidden:
:caption: To look up

book/notation
book/api/index
book/citing
CHANGELOG
```
"""

project, author = "stdcf-lib", "the stdcf-lib authors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "notebooks/*.ipynb", "book/*.md", "book/api/*"]
exclude_patterns = [".*", "book/_build", "benchmarks", "figures", "runs", "stdcf_lib", "tests"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
smartquotes = False
suppress_warnings = ["myst.mathjax"]

# One file of MathJax 3, glyphs included; Sphinx would take it from a network.
MATHJAX = Path(next(iter(find_spec("sphinx-mathjax-offline").submodule_search_locations)), "static/mathjax/tex-svg-full.js")
mathjax_path = MATHJAX.name
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
default_role = "literal"  # `code` in docstrings, as in Markdown
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "Joint space-time filters"
html_static_path = ["site.css", str(MATHJAX)]
html_css_files = ["site.css"]
# A page from disk may not read its neighbours: there, the search goes without excerpts.
html_js_files = [(None, {"body": 'DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:"'})]
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False  # search finds the same
html_theme_options = {
    "navbar_persistent": [],  # else there are two fields to search
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def _prepare(app, docname, source):
    """What a page needs beyond its file: the start its table of contents, a notebook its explorables, alive."""
    if docname == root_doc:
        source[0] += NAVIGATION
    elif docname.startswith("notebooks/"):
        source[0] = nbformat.writes(bring_to_life(nbformat.reads(source[0], as_version=4))[0])
    elif docname == "book/notation":
        start = nbformat.read(ROOT / "notebooks/00_start.ipynb", as_version=4)
        texts = "\n".join(cell.source for cell in start.cells)
        source[0] += re.search(r"^## Words and symbols\n(.*?)^## ", texts, re.MULTILINE | re.DOTALL)[1]


def _describe_pictures(app, doctree):
    """Say what an output's picture is, and mark those that a phone shows larger than its page is wide."""
    for picture in doctree.findall(nodes.image):
        picture.attributes.setdefault("alt", "the figure that the cell above draws")
        width, height = imagesize.get(ROOT / picture["uri"])
        if width > 1.75 * height:
            picture["classes"].append("wide")


def _open_at_the_start(app, exception):
    """A server and a reader look for index.html."""
    if exception is None and app.builder.format == "html":
        shutil.copyfile(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def _begin(app):
    """Begin anew after a build that was broken off: it may have left pages and copies that are half there, and Sphinx would
    take the ones for whole, and refuse to write over the others."""
    begun = Path(app.outdir, BEGUN)
    if begun.exists():
        shutil.rmtree(app.doctreedir)
        shutil.rmtree(app.outdir)
        Path(app.outdir).mkdir()
        Path(app.doctreedir).mkdir(parents=True)
    begun.touch()


def _end(app, exception):
    if exception is None:
        Path(app.outdir, BEGUN).unlink()


def setup(app):
    _begin(app)
    app.connect("source-read", _prepare)
    app.connect("doctree-read", _describe_pictures)
    app.connect("build-finished", _open_at_the_start)
    app.connect("build-finished", _end)
