"""Imports go strictly downward: a module uses floors below its own, and its own package."""

import ast
from pathlib import Path

import pytest

import hdnn

FLOORS = (
    "entries activations linear kernels data files locks names",
    "structures interconnections",
    "hamiltonian",
    "integrators",
    "flow",
    "presets analysis",
    "networks",
    "training plots runs export",
    "report estimator checkpoints hub",
    "experiments bench info jobs display",
    "cli",
)
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names.split()}
SOURCE = Path(hdnn.__file__).parent
MODULES = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py"]


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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downward(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in imported(path) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"
