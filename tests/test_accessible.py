"""Pages of the documentation and reports have no serious fault that axe knows of, in light and dark, by keyboard alone.

The documentation is looked at where it is built: `make docs`.
"""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hdnn.cli.application import app

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "docs" / "html"
# One of each kind.
PAGES = (
    "index",
    "tutorial",
    "theory",
    "speed",
    "command-line",
    "api/flow",
    "gallery/index",
    "gallery/swiss_roll",
    "notebooks/lesson",
    "search",
)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def faults(browser):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed.")

    def of(path, scheme):
        context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
        try:
            page = context.new_page()
            page.goto(Path(path).as_uri())
            found = axe.Axe().run(page)["violations"]
            return [
                (fault["id"], fault["nodes"][0]["html"][:200])
                for fault in found
                if fault["impact"] in ("serious", "critical")
            ]
        finally:
            context.close()

    return of


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_documentation_is_for_everyone(page, scheme, faults):
    path = BUILT / f"{page}.html"
    if not path.exists():
        pytest.skip("The documentation is not built here (make docs).")
    assert faults(path, scheme) == []


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    run = folder / "run"
    options = ["double-moons", "--layers", "2", "--epochs", "2", "--output", str(run)]
    assert CliRunner().invoke(app, ["train", *options]).exit_code == 0
    assert CliRunner().invoke(app, ["analyze", str(run), "--samples", "10"]).exit_code == 0
    return {"training": run / "report.html", "analysis": run / "analysis" / "report.html"}


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("report", ["training", "analysis"])
def test_a_report_is_for_everyone(report, scheme, reports, faults):
    assert faults(reports[report], scheme) == []


def test_what_sphinx_leaves_out_is_mended_once():
    sys.path.insert(0, str(ROOT / "docs" / "_extensions"))
    try:
        import accessible
    finally:
        sys.path.pop(0)
    page = (
        '<p class="caption" role="heading">Start</p>'
        '<dl>\n<dd><em class="sig-param">a</em>,</dd>\n<dd><em class="sig-param">b</em></dd>\n</dl>'
        '<p><a class="reference internal" href="a.html"><span class="doc">A</span></a></p>\n  <div class="sphx-glr">'
    )
    mended = accessible.mended(page)
    assert 'role="heading" aria-level="2"' in mended
    assert "<dd>" not in mended
    assert mended.count('class="sig-line"') == 2
    assert '<a class="reference internal" aria-label="A" href="a.html">' in mended
    assert accessible.mended(mended) == mended
