"""`import hdnn` is light, and the lazy names, the checkers' imports and `__all__` are one list."""

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hdnn

ROOMS = sorted(path.name for path in pkgutil.iter_modules(hdnn.__path__) if not path.name.startswith("_"))
HEAVY = ("torch", "numpy", "matplotlib", "pandas", "sklearn", "pyarrow", "PIL", "pooch")


def test_import_is_light() -> None:
    code = f"import sys, hdnn; print([name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", hdnn.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(hdnn, name) is not None
    assert name in dir(hdnn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.parametrize(
    "rooms",
    [["networks", "training"], pytest.param(ROOMS, marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_every_module_is_reachable_after_import_hdnn(rooms: list[str]) -> None:
    """Each in a process in which nothing of hdnn was touched before."""
    code = f"""
import os, torch
for name in {rooms!r}:
    child = os.fork()
    if not child:
        try:
            import hdnn
            found = getattr(hdnn, name).__name__
        except BaseException as error:
            found = repr(error)
        os._exit(0 if found == f"hdnn.{{name}}" else print(name, found, flush=True) or 1)
    assert os.waitpid(child, 0)[1] == 0, name
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout + out.stderr


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
