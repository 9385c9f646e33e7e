"""The notebooks run from the first cell to the last, and hold the outputs of all their cells."""

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def execute():
    sys.path.insert(0, str(FOLDER))
    try:
        import execute
    finally:
        sys.path.pop(0)
    return execute


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code" and "install" not in cell.metadata.get("tags", ())]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # those of the client; what is run is another process
def test_a_notebook_runs(path, execute):
    ran, kept = code(execute.executed(path)), code(nbformat.read(path, as_version=4))
    assert [cell.source for cell in ran] == [cell.source for cell in kept]
    for now, before in zip(ran, kept, strict=True):  # what is printed may come in several parts
        assert {each.output_type for each in now.outputs} == {each.output_type for each in before.outputs}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_first_and_says_for_whom_it_is(path):
    book = nbformat.read(path, as_version=4)
    assert book.cells[0].source.startswith("# For ")
    assert book.cells[1].source == "%pip install hdnn"
    assert book.cells[1].metadata["tags"] == ["install"]
    assert not [output for cell in code(book) for output in cell.outputs if output.output_type == "error"]


def test_there_is_one_for_each_reader():
    assert [path.stem for path in NOTEBOOKS] == ["depth", "dynamics", "lesson", "tables"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_says_what_is_seen(path):
    for cell in code(nbformat.read(path, as_version=4)):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) >= 25
