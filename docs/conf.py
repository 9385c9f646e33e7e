"""How the documentation is built: `make docs`, strict and without the network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hdnn
from hdnn.playground.page import page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads share the small tensors of examples badly
# Reports of benchmarks and verdicts of reproductions are pages, too.
shutil.rmtree(HERE / "results", ignore_errors=True)
shutil.copytree(HERE.parent / "benchmarks" / "results", HERE / "results")
shutil.copytree(HERE.parent / "results", HERE / "results" / "papers")
# So are the notebooks, with the outputs that they hold: tests run them.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(
    HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns("*.py", "__pycache__", ".*")
)
# The playground is a page of its own.
(HERE / "extra" / "playground").mkdir(parents=True, exist_ok=True)
(HERE / "extra" / "playground" / "index.html").write_text(page(), encoding="utf-8")
# The commands say themselves what they do. Before the first of them stands a list of them, cut short.
DESCRIBE = [sys.executable, "-m", "typer", "hdnn.cli.application", "utils", "docs", "--name", "hdnn"]
commands = subprocess.run(DESCRIBE, check=True, capture_output=True, encoding="utf-8").stdout
commands = re.sub(r"(?<= )(--[a-z-]+)(?![^`\n]*`)", r"`\1`", commands[commands.index("## ") :])  # options in sentences
(HERE / "commands.md").write_text(commands, encoding="utf-8")

project = "hdnn"
author = "The hdnn authors"
project_copyright = author
version = release = hdnn.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "docstrings",
    "links",
    "accessible",
    "pages",
]
exclude_patterns = ["commands.md", "examples/*", "extra/*", "gallery/*.ipynb"]  # pages of the gallery are its .rst

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
smartquotes_action = "D"  # dashes, which Sphinx writes as --; quotes and (..., n) stay what they are

# What stands in single backticks is code, and a link where it names something public.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 96
napoleon_numpy_docstring = False
# The examples of docstrings are run by pytest, in the names of their own modules; here, those of the pages.
doctest_test_doctest_blocks = ""

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "examples.InOrder",
    "image_scrapers": ("examples.figures",),
    "reset_modules": ("examples.strictly",),
    "reset_modules_order": "both",
    "abort_on_example_error": True,
    "capture_repr": (),
    "remove_config_comments": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "show_memory": False,
}

html_theme = "furo"
html_title = f"hdnn {release}"
html_static_path = ["_static"]
html_extra_path = ["extra"]
html_css_files = ["hdnn.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
