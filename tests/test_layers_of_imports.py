"""Imports go strictly downward: a module uses floors below its own, and its own package.

The floors are those that CONTRIBUTING.md shows, from the top to what is below everything.
"""

import ast
import re
from pathlib import Path

import pytest

import hdnn

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
FLOORS = re.findall(r"^ {4,}(?:\d+ +|   )([a-z]+(?: · [a-z]+)*)", PAGE, re.MULTILINE)[::-1]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names.split(" · ")}
SOURCE = Path(hdnn.__file__).parent
MODULES = [path for path in SOURCE.rglob("*.py") if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py")]


def imported(path: Path) -> set[str]:
    """The parts of hdnn that a file imports, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "hdnn":
                found |= {hdnn._MODULE_OF.get(alias.name, alias.name) for alias in node.names} - {"__version__"}
            elif node.module is not None and node.module.startswith("hdnn."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hdnn.")}
    return found


def test_contributing_shows_every_part_once():
    parts = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert sorted(" · ".join(FLOORS).split(" · ")) == sorted(parts - {"py.typed"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downward(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in imported(path) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"
