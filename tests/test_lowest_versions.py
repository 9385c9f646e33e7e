"""Lower bounds that earlier versions did not keep: each with what failed below it, which is tried on the version here.

`make test-lowest` runs the tests with the lowest versions themselves.
"""

import io
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from hdnn.data import table_parts

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = dict(
    re.match(r"([\w-]+)>=([\d.]+)", each).groups()
    for each in [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]
)


@pytest.mark.parametrize(
    ("package", "least", "below"),
    [
        ("torch", "2.9", "flows whose layers are computed again or undone cannot be compiled"),
        ("typer", "0.29", "help pages lack the help of arguments, or end in a traceback beside today's click"),
        ("rich", "14.3", "an empty line stands before errors and after interrupts"),
        ("pandas", "3.1", "a row with too many fields is cut where a part of a file begins with it"),
        ("matplotlib", "3.10", "a name that begins with an underscore is missing in legends"),
        ("numpy", "2.0.2", "pandas 3.1 asks for it"),
        ("scipy", "1.13", "it has no NumPy 2"),
        ("pyarrow", "17", "it has no NumPy 2"),
        ("safetensors", "0.7", "complex numbers cannot be written"),
        ("onnxscript", "0.6", "what PyTorch's export asks for is not there"),
        ("tensorboard", "2.17", "it asks for a pre-release of another package"),
    ],
)
def test_a_bound_is_not_below_what_failed(package, least, below):
    def number(version):
        return tuple(int(part) for part in version.split("."))

    assert number(DECLARED[package]) >= number(least), below


def test_every_extra_that_repeats_a_package_repeats_its_bound():
    for extra in EXTRAS.values():
        for each in extra:
            package, bound = re.match(r"([\w-]+)>=([\d.]+)", each).groups()
            assert DECLARED[package] == bound, package


@pytest.mark.parametrize("part", [1, 4, 9, 2**20])
@pytest.mark.parametrize("row", ["1,2,3", ",,", ",,x"])
def test_pandas_refuses_a_long_row_wherever_a_part_begins(tmp_path, row, part):
    path = tmp_path / "rows.csv"
    path.write_text(f"n,t\na\nb\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Expected 2 fields in line 4, saw 3"):
        list(table_parts(path, text=["n", "t"], part=part))


@pytest.mark.parametrize("number", ["0.1", "2.2250738585072011e-308", "9007199254740993.0", "1e-320"])
def test_pandas_takes_the_nearest_number(number):
    assert pd.read_csv(io.StringIO(f"x\n{number}\n"), engine="c", dtype="float64")["x"][0] == float(number)


def test_safetensors_writes_complex_numbers(tmp_path):
    weights = {"a": torch.tensor([1 + 2j, -0.5j])}
    save_file(weights, tmp_path / "a.safetensors")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], weights["a"])


def test_typer_shows_the_help_of_arguments(hdnn):
    code, out, _ = hdnn("predict --help")
    assert code == 0
    assert "Folder that `hdnn train` wrote" in re.sub(r"\s+", " ", out)
