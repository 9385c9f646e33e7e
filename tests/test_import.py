"""`import hdnn` is light, and the lazy names, the checkers' imports and `__all__` are one list."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hdnn

HEAVY = ("torch", "numpy", "matplotlib", "pandas", "sklearn", "pyarrow", "PIL", "pooch")


def test_import_is_light() -> None:
    code = f"import sys, hdnn; print([name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", hdnn.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(hdnn, name) is not None
    assert name in dir(hdnn)


def test_checkers_and_the_lazy_table_agree() -> None:
    tree = ast.parse(Path(hdnn.__file__).read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown: dict[str, str] = {}
    for node in checked.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        shown |= {alias.name: node.module for alias in node.names}
    lazy = {name: f"hdnn.{module}" for name, module in hdnn._MODULE_OF.items()}
    assert shown == lazy | dict.fromkeys(hdnn._SUBMODULES, "hdnn")
    assert sorted(hdnn.__all__) == sorted([*shown, "__version__"])


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="module 'hdnn' has no attribute 'h3'"):
        _ = hdnn.h3  # type: ignore[attr-defined]
