"""What must hold of the repository as a whole, beyond what ruff and mypy see."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import hdnn

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "hdnn").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "file", ["README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "CONTRIBUTING.md", "Makefile", ".ci/run"]
)
def test_the_papers_of_a_project_are_there(file):
    assert (ROOT / file).read_text(encoding="utf-8").strip()


def test_contributing_is_read_in_two_minutes():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_one_version_everywhere():
    assert PROJECT["version"] == hdnn.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{hdnn.__version__}]" in changes or "[Unreleased]" in changes
    assert re.search(rf"^version: ['\"]?{re.escape(hdnn.__version__)}", (ROOT / "CITATION.cff").read_text(), re.M)


def test_the_licence_is_the_one_that_is_declared():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_have_a_bearable_length(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_are_named_by_what_they_hold(path):
    assert not {*path.relative_to(ROOT).with_suffix("").parts} & {"utils", "helpers", "common", "core", "base", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_command_line_prints_and_nothing_asserts(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            # Estimators print what `verbose` asks for, as those of scikit-learn do.
            assert path.parent.name in ("cli", "estimator"), node.lineno


def test_the_wheel_carries_the_type_marker():
    assert (ROOT / "src" / "hdnn" / "py.typed").is_file()


def test_test_files_have_different_names():
    files = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(files) == len(set(files))


def test_what_constraints_pin_covers_what_is_required():
    pinned = {
        re.split(r"==", line)[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    needed = {re.match(r"[A-Za-z0-9._-]+", text)[0].lower().replace("_", "-") for text in wanted}
    assert needed <= pinned


def test_links_of_the_readme_lead_to_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", link):
            assert (ROOT / link).exists(), link


def test_docstrings_keep_the_letters_of_the_mathematics():
    # y and Y, p and P, u and U are different letters; the linter's D403 capitalised them.
    for path in SOURCES:
        wrong = re.findall(r'"""(?:[YUPQX]\'?|Tanh|Log) [^"\n]*', path.read_text(encoding="utf-8"))
        assert not wrong, f"{path}: {wrong}"


def test_papers_have_one_date():
    """Haber and Ruthotto's paper appeared in volume 34 of Inverse Problems, 2018; online in December 2017."""
    files = [
        path
        for pattern in ("src/**/*.py", "docs/*.md", "benchmarks/**/*.md", "results/**/*.md", "README.md")
        for path in ROOT.glob(pattern)
    ]
    dated = r"Haber,? (?:and )?Ruthotto[^|]{0,120}?Inverse Problems[^|]{0,12}?\b(20\d\d)\b"
    years = [re.findall(dated, path.read_text(encoding="utf-8"), re.DOTALL) for path in files]
    assert {year for found in years for year in found} == {"2018"}
    assert sum(map(len, years)) >= 3
