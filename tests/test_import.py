"""`import hdnn` is light, what is done imports no more than it needs, and each list of lazy names is one list."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hdnn

ROOMS = sorted(path.name for path in pkgutil.iter_modules(hdnn.__path__) if not path.name.startswith("_"))
LAZY = ("analysis", "plots")
HEAVY = ("torch", "numpy", "matplotlib", "pandas", "sklearn", "scipy", "pyarrow", "PIL", "pooch", "torch._dynamo")


def imported(code: str, folder: Path | None = None) -> set[str]:
    """Which of the heavy packages a fresh process has imported after this."""
    code += f"; import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    return set(out.stdout.splitlines()[-1].split())


def test_import_is_light() -> None:
    assert imported("import hdnn") == set()


def test_only_who_draws_imports_what_draws() -> None:
    assert imported("import hdnn.jobs, hdnn.plots") <= {"torch", "numpy"}


# Simple methods beside the network are scikit-learn's.
TABLE = {"pandas", "pyarrow", "scipy", "sklearn"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("data", "needed"),
    [
        ("swiss-roll --size 40", set()),
        ("digits", set()),
        ("table.csv --target y", TABLE),
        ("table.csv --target y --validation-fraction 0.25", TABLE),
        ("table.csv --target x", TABLE),
    ],
)
def test_training_imports_what_its_data_and_its_figures_need(data: str, needed: set[str], tmp_path: Path) -> None:
    rows = [f"{i / 7},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["x,y", *rows]))
    line = ["train", *data.split(), "--epochs", "1", "--layers", "2", "--output", "run"]
    code = f"import contextlib, hdnn.cli.application as cli; cli.app(args={line}, standalone_mode=False)"
    assert imported(code, tmp_path) <= {"torch", "numpy", "matplotlib", "PIL"} | needed
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.long
def test_a_first_fit_imports_no_compiler_and_nothing_that_draws() -> None:
    code = """
from sklearn.datasets import load_wine
from hdnn import HamiltonianClassifier
HamiltonianClassifier(epochs=1).fit(*load_wine(return_X_y=True))
""".strip().replace("\n", "; ")
    before = imported("import torch; from sklearn.datasets import load_wine")
    assert imported(code) == before


@pytest.mark.parametrize("name", hdnn.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(hdnn, name) is not None
    assert name in dir(hdnn)


@pytest.mark.long
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


@pytest.mark.parametrize("part", LAZY)
def test_every_lazy_name_of_a_part_is_what_it_says_also_the_second_time(part: str) -> None:
    """Importing a submodule binds its name to the package, which must not hide a function of the same name."""
    package = importlib.import_module(f"hdnn.{part}")
    for name in package.__all__:
        first = getattr(package, name)
        assert callable(first)
        assert getattr(package, name) is first
        assert name in dir(package)
        assert not Path(package.__file__ or "").with_name(f"{name}.py").exists()


@pytest.mark.parametrize("part", LAZY)
def test_checkers_and_the_lazy_table_of_a_part_agree(part: str) -> None:
    package = importlib.import_module(f"hdnn.{part}")
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {alias.name: node.module for node in checked.body for alias in node.names}  # type: ignore[attr-defined]
    assert shown == {name: f"hdnn.{part}.{module}" for name, module in package._MODULE_OF.items()}
    assert sorted(package.__all__) == sorted(shown)


@pytest.mark.parametrize("part", LAZY)
def test_unknown_names_of_a_part_raise(part: str) -> None:
    with pytest.raises(AttributeError, match=rf"module 'hdnn\.{part}' has no attribute 'jacobian'"):
        _ = importlib.import_module(f"hdnn.{part}").jacobian
