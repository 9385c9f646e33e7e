"""The documentation covers every public name, its links lead somewhere, and what its pages compute is true.

`make docs` builds it, strictly; here is what can be seen without Sphinx.
"""

import doctest
import importlib
import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import hdnn
import hdnn.training

DOCS = Path(__file__).parents[1] / "docs"
MADE = {"commands.md"}  # by conf.py, when the documentation is built
PAGES = sorted(page for page in [*DOCS.glob("*.md"), *DOCS.glob("api/*.rst")] if page.name not in MADE)
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
MODULES = {"hdnn": hdnn, **{f"hdnn.{name}": getattr(hdnn, name) for name in (*hdnn._SUBMODULES, "training")}}


def documented():
    """The full names that the reference describes."""
    names = set()
    for page in DOCS.glob("api/*.rst"):
        module = ""
        for directive, name in re.findall(r"^\.\. ([\w:]+):: *([\w.]+)", page.read_text(encoding="utf-8"), re.M):
            if directive in ("currentmodule", "py:module"):
                module = name
            elif directive in ("autoclass", "autofunction", "py:data"):
                names.add(name if name.startswith("hdnn.") else f"{module}.{name}")
    return names


def resolve(name):
    """What a full name means; fails where it means nothing."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module):
    known = documented() | {f"hdnn.{name}" for name in hdnn._SUBMODULES}
    names = getattr(MODULES[module], "__all__", ())  # what is public of the other modules is public of hdnn
    missing = {name for name in names if not {f"{module}.{name}", f"hdnn.{name}"} & known}
    assert not missing, f"Describe them in docs/api: {sorted(missing)}."


@pytest.mark.parametrize("name", sorted(documented()))
def test_every_documented_name_exists(name):
    assert resolve(name) is not None


def lead_to(page, target):
    """The file that a link of a page names, without its ending as Sphinx wants it, or with it."""
    if target.split("/")[0] == "gallery":
        return DOCS / "examples" / ("GALLERY_HEADER.rst" if target.endswith("index") else f"{Path(target).name}.py")
    if target.startswith("notebooks/"):  # copied there when the documentation is built, as are results
        return DOCS.parent / target
    if target.startswith("results/"):
        kept = DOCS.parent / ("results" if "/papers/" in target else "benchmarks/results")
        return kept / f"{Path(target).stem}.md"
    base = DOCS / target.lstrip("/") if target.startswith("/") else page.parent / target
    found = [base, *(base.with_name(base.name + ending) for ending in (".md", ".rst"))]
    return next((path for path in found if path.is_file()), base)


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: page.stem)
def test_links_lead_to_pages(page):
    text = page.read_text(encoding="utf-8")
    folder = DOCS / "index" if page in EXAMPLES else page  # examples become pages of the gallery
    links = re.findall(r"(?:\{doc\}|:doc:)`(?:[^`<]*<)?([^`>]+)>?`", text)
    if page.suffix == ".md":
        links += [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match("[a-z]+:", link)]
    for tree in re.findall(r"(?:```\{toctree\}|\.\. toctree::)\n(.*?)(?:```|\n\S|\Z)", text, re.S):
        links += [line.strip() for line in tree.splitlines() if line.strip() and not re.match(r"\s*:|.*\*", line)]
    for link in links:
        assert lead_to(folder, link).is_file(), link


def test_all_pages_are_in_a_table_of_contents():
    listed = {name for page in PAGES for name in re.findall(r"^ *([\w-]+)$", page.read_text(encoding="utf-8"), re.M)}
    assert {page.stem for page in PAGES} - {"index"} <= listed


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.stem)
def test_what_pages_include_is_there(page):
    included = re.findall(r"```\{include\} (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for file, options in included:
        if file not in MADE:
            text = (page.parent / file).read_text(encoding="utf-8")
            marks = re.findall(r':(?:start-after|end-before): "(.+)"', options)
            assert all(text.count(mark) == 1 for mark in marks), marks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_roles_name_what_exists(page):
    for name in re.findall(r"\{py:\w+\}`~?([\w.]+)`", page.read_text(encoding="utf-8")):
        assert resolve(name) is not None


def test_the_gallery_has_an_order():
    source = (DOCS / "_extensions" / "examples.py").read_text(encoding="utf-8")
    order = re.findall(r'"(\w+)"', re.search(r"ORDER = \((.*?)\)", source, re.S)[1])
    assert sorted(order) == [path.stem for path in EXAMPLES]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("theory", marks=pytest.mark.long),
        "tables",
        "choosing",
        "fast-training",
        "recipe",
        pytest.param("scikit-learn", marks=pytest.mark.long),
        pytest.param("tuning", marks=pytest.mark.long),
        "surviving-runs",
        "bad-numbers",
        pytest.param("exporting", marks=pytest.mark.long),
        "hub",
        "safe-files",
        "sequences",
    ],
)
def test_what_a_page_computes_is_true(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\{doctest\}\n(.*?)^ *```", text, re.S | re.M)
    assert len(blocks) > 1
    source = "\n".join(textwrap.dedent(block) for block in blocks)
    with torch.random.fork_rng():
        examples = doctest.DocTestParser().get_doctest(source, {}, page, f"{page}.md", 0)
        assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.long
@pytest.mark.parametrize("page", ["general"])
def test_what_a_page_asserts_is_true(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) > 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec("\n".join(blocks), {})


WRITTEN = [path for path in DOCS.parent.rglob("*.md") if not {".venv", "build", "docs"} & set(path.parts)]


@pytest.mark.parametrize("page", [*WRITTEN, *PAGES], ids=lambda page: page.stem)
def test_every_picture_of_a_page_says_what_is_seen(page):
    text = page.read_text(encoding="utf-8")
    texts = re.findall(r"!\[([^\]]*)\]\(", text)
    for tag in re.findall(r"<img\b[^>]*>", text):
        texts.append((re.findall(r'alt="([^"]*)"', tag) or [""])[0])
    for block in re.findall(r"^(?:\.\. |```\{)(?:image|figure)(?:::|\}).*\n((?:\s*:.*\n)*)", text, re.M):
        texts.append((re.findall(r":alt: *(.*)", block) or [""])[0])
    assert all(len(said) >= 25 for said in texts), texts


def test_no_two_pages_share_a_title():
    titles = {}
    for page in [page for page in [*WRITTEN, *PAGES] if page.name != "README.md"]:
        heads = re.search(r"^# (.*)$|^(.*)\n=+$", page.read_text(encoding="utf-8"), re.M)
        if heads is not None:
            titles.setdefault(heads[1] or heads[2], []).append(page.name)
    assert not {title: pages for title, pages in titles.items() if len(pages) > 1}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda page: page.stem)
def test_every_figure_of_an_example_has_a_text(example):
    pytest.importorskip("sphinx_gallery")
    sys.path.insert(0, str(DOCS / "_extensions"))
    try:
        said = importlib.import_module("examples").SEEN[example.stem]
    finally:
        sys.path.pop(0)
    assert len(said) == len(re.findall(r"^figure = ", example.read_text(encoding="utf-8"), re.M))
    assert len(set(said)) == len(said)
