"""Run the notebooks and keep their outputs: python notebooks/execute.py [FILE ...].

Cells with the tag `install` are left out: what is to be tried is installed already.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))


def executed(path: Path) -> Any:
    """The notebook with the outputs of its cells; the first cell that fails raises."""
    book = nbformat.read(path, as_version=4)
    book.cells = [cell for cell in book.cells if "install" not in cell.metadata.get("tags", ())]
    client = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(HERE)}})
    client.execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times differ from run to run
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return book


def main() -> None:
    """Write outputs into the files, beside the cells that are left out."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else NOTEBOOKS:
        began = time.monotonic()
        book, done = nbformat.read(path, as_version=4), {cell.id: cell for cell in executed(path).cells}
        for cell in book.cells:
            if cell.cell_type == "code" and cell.id in done:
                cell.outputs = done[cell.id].outputs
                cell.execution_count = done[cell.id].execution_count
        nbformat.write(book, path)
        print(f"{path.name}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
