"""The lazy names of `hdnn.analysis`: one list for users, checkers and the table of homes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hdnn import analysis


@pytest.mark.parametrize("name", analysis.__all__)
def test_every_name_is_what_it_says_also_the_second_time(name: str) -> None:
    """Importing a submodule binds its name to the package, which must not hide a function of the same name."""
    first = getattr(analysis, name)
    assert callable(first)
    assert getattr(analysis, name) is first
    assert name in dir(analysis)
    assert not Path(analysis.__file__).with_name(f"{name}.py").exists()


def test_checkers_and_the_lazy_table_agree() -> None:
    tree = ast.parse(Path(analysis.__file__).read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {alias.name: node.module for node in checked.body for alias in node.names}  # type: ignore[attr-defined]
    assert shown == {name: f"hdnn.analysis.{module}" for name, module in analysis._MODULE_OF.items()}
    assert sorted(analysis.__all__) == sorted(shown)


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match=r"module 'hdnn\.analysis' has no attribute 'jacobian'"):
        _ = analysis.jacobian  # type: ignore[attr-defined]
