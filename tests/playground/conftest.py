"""A real browser with the built page; tests that need one say why they are skipped where there is none."""

import pytest

from hdnn.playground.page import page as built
from visits import Visit


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture
def visit(browser, folder):
    """Opens the page, or another text, from disk."""
    opened = []

    def visited(link="", text=None, **options):
        path = folder / f"page{len(list(folder.iterdir()))}.html" if text else folder / "playground.html"
        if text or not path.exists():
            path.write_text(text or built(), encoding="utf-8")
        opened.append(Visit(browser, path, link, **options))
        return opened[-1]

    yield visited
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def laboratory(browser, folder):
    """One page for questions to its kernels."""
    path = folder / "laboratory.html"
    path.write_text(built(), encoding="utf-8")
    found = Visit(browser, path, "#points=200&layers=2").ready()
    yield found.ask
    found.close()
