"""What a result of the papers is to the laboratory: its cells, how one is run, and what counts as reached.

A module of this package makes one `EXPERIMENT` of the following, all of them module-level names of its own:

- `Config`, a frozen dataclass of plain values (numbers, texts, None, tuples, frozen dataclasses such as `Recipe`):
  everything that a result depends on but the seed. Stored results belong to exactly one Config.
- `CELLS: dict[str, Config]`, in the order of the table. A key names a cell, as "swiss-roll/4/ms1"; the same key with
  "@published" (or any other word) behind it is a variant of the cell with another recipe, shown beside it in its row.
- `SMOKE: dict[str, Config]`, the same kind of thing in seconds, for tests. Its keys are keys of CELLS.
- `PAPER: Paper`, what was published: `numbers[cell][measure]`, for keys of CELLS without variants and for measures that
  `run` returns; in the units of the paper.
- `run(config, seed, folder) -> Outcome`. It depends on its arguments alone: it seeds what it draws and leaves PyTorch's
  generator as it was (`with torch.random.fork_rng(): torch.manual_seed(seed)`). It never chooses on test data.
  `folder` is where data files are, None where the experiment needs none. A `FloatingPointError`, or a metric that is
  not finite, means: diverged; the seed is kept as such and the cell counts as missed.
- `run_together(config, seeds, folder) -> list[Outcome]`, where the seeds of a cell train best as one; then it is used.
- `layout(cell) -> (row, column)`: where a cell stands in the table of the page, in words that a reader of the paper
  knows; figures and lists name it by the same words.

The laboratory sets PyTorch to one thread, measures times, stores and resumes, and writes the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdnn.report import Picture

Numbers = float | Sequence["Numbers"]
"""A number, or a list of such lists: what `ndarray.tolist()` gives."""


@dataclass(frozen=True)
class Outcome:
    """What one run found.

    Attributes:
        metrics: by name of the measure, plain numbers.
        arrays: what figures are drawn from, as nested lists of plain numbers. They are stored with five digits.
    """

    metrics: Mapping[str, float]
    arrays: Mapping[str, Numbers] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A number that a run returns, and how it is shown and judged.

    Attributes:
        name: its key in `Outcome.metrics` and `Paper.numbers`.
        title: head of its column, with the unit.
        format: of the number.
        meets: whether a mean over the seeds reaches a published number, (mean, published) -> bool; None judges nothing.
        better: max or min, which of two numbers is the better one, for the best of the seeds and for the verdict of
            means that fall short by less than their standard error; None shows no best.
    """

    name: str
    title: str
    format: str = ".2f"
    meets: Callable[[float, float], bool] | None = None
    better: Callable[[list[float]], float] | None = None


@dataclass(frozen=True)
class Paper:
    """What was published.

    Attributes:
        source: authors, year, where in the paper.
        url: of the paper.
        numbers: by cell, then by measure.
        note: what the paper does not say, and how its numbers are to be read.
    """

    source: str
    url: str
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""


Run = Callable[[Any, int, Path | None], Outcome]
RunTogether = Callable[[Any, Sequence[int], Path | None], Sequence[Outcome]]
Found = Mapping[str, Mapping[int, Outcome]]
"""The outcomes by cell and seed, without those that diverged; cells in the order of CELLS, absent ones left out."""


@dataclass(frozen=True)
class Experiment:
    """One result of the papers, and how it is made again.

    Attributes:
        name: of its module and of the argument of `hdnn reproduce`; its title stands in `hdnn.experiments.TITLES`.
        paper: what was published.
        cells: what is run, by name.
        smoke: the same in seconds.
        run: one seed of one cell.
        measures: what is shown, the first first.
        method: how it was done: the recipe, what was chosen how, what was tried; short paragraphs.
        seeds: how many seeds, from 0 on, when the user does not say.
        run_together: all seeds of one cell.
        needs: which data files the cells (not those of `smoke`) need in the folder; empty: none.
        draw: figures of what was found.
        layout: row and column of a cell; see above.
        variants: what the words behind the "@" of cells mean.
        conclusions: what the published run says, paragraphs.
    """

    name: str
    paper: Paper
    cells: Mapping[str, Any]
    smoke: Mapping[str, Any]
    run: Run
    measures: Sequence[Measure]
    method: str
    seeds: int = 3
    run_together: RunTogether | None = None
    needs: str = ""
    draw: Callable[[Found], Sequence[Picture]] | None = None
    layout: Callable[[str], tuple[str, str]] = lambda cell: (cell, "")
    variants: Mapping[str, str] = field(default_factory=lambda: {"published": "the published recipe"})
    conclusions: str = ""

    @property
    def title(self) -> str:
        """One line."""
        from hdnn.experiments import TITLES

        return TITLES[self.name]

    def called(self, cell: str) -> str:
        """A cell in a reader's words."""
        cell, _, variant = cell.partition("@")
        words = [*self.layout(cell), self.variants.get(variant, variant)]
        return ", ".join(word for word in words if word)


def at_least(mean: float, published: float) -> bool:
    """The mean is not below the published number."""
    return mean >= published
