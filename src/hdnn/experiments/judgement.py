"""What was found of a cell, and how it stands beside what was published."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from hdnn.experiments.experiment import Measure
from hdnn.experiments.laboratory import Reproduction

MET, WITHIN, MISSED = "met", "within its standard error", "missed"


@dataclass(frozen=True)
class Finding:
    """One measure of one cell, over the seeds.

    Attributes:
        cell: its name.
        measure: which number.
        values: of the seeds that did not diverge.
        published: what stands in the paper; None: nothing.
        seeds: how many were run.
        diverged: how many of them did.
        judged: whether there is a verdict.
    """

    cell: str
    measure: Measure
    values: list[float]
    published: float | None
    seeds: int
    diverged: int
    judged: bool

    @property
    def standard_error(self) -> float | None:
        """Standard deviation / √seeds, of the mean; None for a single seed."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else None

    @property
    def verdict(self) -> str:
        """Met, within its standard error of being met, or missed; empty where nothing is judged."""
        if not self.judged or self.measure.meets is None or self.published is None:
            return ""
        if self.diverged:
            return f"{MISSED} ({self.diverged} of {self.seeds} diverged)"
        mean = statistics.fmean(self.values)
        if self.measure.meets(mean, self.published):
            return MET
        towards = -1 if self.measure.better is min else 1
        nearly = self.measure.meets(mean + towards * (self.standard_error or 0.0), self.published)
        return WITHIN if nearly else MISSED

    @property
    def mean(self) -> str:
        """Mean ± standard deviation."""
        if not self.values:
            return "–"
        spread = f" ± {statistics.stdev(self.values):{self.measure.format}}" if len(self.values) > 1 else ""
        return f"{statistics.fmean(self.values):{self.measure.format}}{spread}"

    @property
    def paper(self) -> str:
        """The published number, as it is printed."""
        return "–" if self.published is None else f"{self.published:.6g}"


def finding(reproduction: Reproduction, cell: str, measure: Measure) -> Finding:
    """What was found of a measure of a cell."""
    outcomes = [record.outcome for record in reproduction.records[cell].values()]
    return Finding(
        cell,
        measure,
        [one.metrics[measure.name] for one in outcomes if one is not None and measure.name in one.metrics],
        reproduction.experiment.paper.numbers.get(cell, {}).get(measure.name),
        len(outcomes),
        sum(one is None for one in outcomes),
        not reproduction.smoke,
    )


def findings(reproduction: Reproduction) -> Iterator[Finding]:
    """All of them: cells in order, and of every cell the measures in order."""
    for cell in reproduction.records:
        for measure in reproduction.experiment.measures:
            yield finding(reproduction, cell, measure)
