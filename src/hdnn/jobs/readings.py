"""The data of a study, by the encoding of numbers that a trial tries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdnn.data import Dataset
from hdnn.jobs.setups import Setup
from hdnn.jobs.sources import DataSource, Source
from hdnn.jobs.trials import Rows, held_back

_KEPT = 2  # besides the first: readings of a large table fill the memory


@dataclass(frozen=True)
class Reading:
    """Data as they were read, the set-up that suits them, and their training rows in two parts."""

    dataset: Dataset
    setup: Setup
    rows: Rows


class Readings:
    """Reads data as each trial asks for them, those of late from memory.

    Args:
        source: where they come from.
        dataset: read already, as the source says.
        share: of the training rows that are held back, the same whatever the encoding.
        seed: of what is held back.
        class_weight: as for `hdnn.jobs.train`.
    """

    def __init__(
        self,
        source: DataSource,
        dataset: Dataset,
        share: float,
        seed: int,
        class_weight: tuple[str, ...] | None,
    ) -> None:
        self._source, self._split = source, (share, seed, class_weight)
        self.first = self._read(source, dataset)
        self._others: dict[object, Reading] = {}

    def of(self, values: Mapping[str, Any]) -> Reading:
        """The data of a trial.

        Args:
            values: that it tries.
        """
        source = encoded(self._source, values)
        if source == self._source:
            return self.first
        if values["bins"] not in self._others:
            while len(self._others) >= _KEPT:
                del self._others[next(iter(self._others))]
            self._others[values["bins"]] = self._read(source, source.load())
        return self._others[values["bins"]]

    def _read(self, source: DataSource, dataset: Dataset) -> Reading:
        return Reading(dataset, source.setup(dataset), held_back(dataset, *self._split))


def encoded(source: DataSource, values: Mapping[str, Any]) -> DataSource:
    """A source with the encoding among some values, if there is one."""
    if "bins" not in values or not isinstance(source, Source):
        return source
    return dataclasses.replace(source, bins=values["bins"])
