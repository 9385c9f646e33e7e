"""Choices that are known already: those of a run, or of a file of choices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hdnn import options
from hdnn.data import documents
from hdnn.jobs.beginnings import deviation, started
from hdnn.jobs.choices import Choices, given
from hdnn.jobs.setups import Setup
from hdnn.jobs.sources import Source, source_of
from hdnn.names import few, unknown
from hdnn.recurrent import OSCILLATORS
from hdnn.renames import RECIPE, told
from hdnn.runs import Run
from hdnn.training import Recipe

_LARGEST_FILE = 2**20
# What the flow of a set-up does not say; each but the activation is for the model it was chosen for.
_OF_FLOW = ("activation", "width", "shared", "integrator", "damping")
_OF_MODEL = ("width", "integrator", "interconnection", "damping")


@dataclass(frozen=True)
class Precedent:
    """What a training starts from where its user says nothing else.

    Args:
        said: what was taken, a sentence.
        data: of `Source`, by name; empty takes no data.
        setup: in place of that of the data; None leaves it to them.
        choices: that lie over the set-up.
        seed: None leaves it.
        step: that of the set-up to the last bit, which its layers and its integration time need not give.
    """

    said: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    setup: Setup | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    step: float | None = None

    def with_choices(self, chosen: Mapping[str, Any]) -> Choices:
        """These choices with those of a user over them.

        Another depth keeps the integration time, as with the set-ups; what was chosen for one model is not for another.
        """
        found = self._under(chosen)
        if self.step is not None and not found.keys() & {"layers", "step", "horizon"}:
            found["step"] = self.step
        return cast(Choices, found)

    def under(self, other: Precedent) -> Precedent:
        """This one with another over it."""
        return Precedent(
            " ".join(filter(None, (self.said, other.said))),
            {**({} if "data" in other.data else self.data), **other.data},
            other.setup or self.setup,
            self._under(other.choices),
            self.seed if other.seed is None else other.seed,
            other.step if other.setup else self.step,
        )

    def _under(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        known = dict(self.choices)
        if chosen.keys() & {"step", "horizon"}:
            known = {name: value for name, value in known.items() if name not in ("step", "horizon")}
        model = known.get("model", self.setup.model if self.setup else None)
        if chosen.get("model", model) != model:
            known = {name: value for name, value in known.items() if name not in _OF_MODEL}
        if chosen.get("model", model) in OSCILLATORS:  # have their own; early runs of them name one
            known.pop("activation", None)
        return {**known, **chosen}


def as_run(folder: Path, *, data: bool = True) -> Precedent:
    """Do as a run did: its network, recipe, seed and, unless others are given, its data.

    Args:
        folder: of the run, of any format; it need not be finished.
        data: whether to take its data.

    Raises:
        FileNotFoundError: if there is no run, or its data are gone.
        ValueError: if it is damaged, or does not say where its data came from.
    """
    run = Run.open(folder)
    network, recipe = run.config.network, documents.record(Recipe, dict(run.config.recipe), f"the recipe of {folder}")
    setup = Setup(
        network.model,
        network.features,
        network.layers,
        network.horizon,
        recipe,
        network.interconnection,
        network.lift,
        network.kernel_size,
        deviation(run, started(run)) if network.units is None else None,
        **{name: getattr(network, name) for name in ("step", "activation", "units", "channels", "normalization")},
    )
    taken = dataclasses.asdict(_read(run)) if data else {}
    whose = f"its data ({taken['data']}), " if data else ""
    own = {name: value for name in _OF_FLOW if (value := getattr(network, name)) is not None}
    if (start := started(run)) is not None and start.class_weight is not None:
        own["class_weight"] = start.class_weight
    return Precedent(
        f"As {folder}: {whose}network, recipe and seed {run.config.seed}, where nothing else is given.",
        taken,
        setup,
        own,
        run.config.seed,
        network.step,
    )


def _read(run: Run) -> Source:
    if "data" not in run.config.data or run.config.data.get("own"):
        raise ValueError(f"The run {run.folder} does not say from which file its data came. Give `data` as well.")
    return cast(Source, source_of(run))


def as_file(path: Path) -> Precedent:
    """Read choices from a JSON file: an object with the names that options have, as in {"layers": 8, "target": "y"}.

    Args:
        path: the file. It may name "data" and "seed" as well; null, or a name that is not there, leaves a choice open.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no such object, or a name or a value is none that there is.
    """
    document = documents.read(path, _LARGEST_FILE, "an object of choices")
    if not isinstance(document, dict):
        raise ValueError(
            f'{path} must hold an object of choices, as in {{"layers": 8}}; got {documents.shown(document)}.'
        )
    if {"format", "network", "recipe"} <= document.keys():
        raise ValueError(
            f"{path} is the configuration of a run, no file of choices. To do as that run did, give "
            f"`like={str(path.parent)!r}`."
        )
    try:
        values = _typed(told(document, RECIPE))
        choices = {name: value for name, value in values.items() if name in options.names(Choices)}
        given(choices)
    except (ValueError, TypeError) as error:
        error.args = (f"In {path}: {error}",)
        raise
    data = {name: value for name, value in values.items() if name not in choices and name != "seed"}
    return Precedent(f"From {path}: {few(values, 40) or 'nothing'}.", data, None, choices, values.get("seed"))


def _typed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are there, each of the type of its option."""
    entries = [*options.entries(Choices), *options.entries(options.SourceChoices)]
    kinds = {"data": str, "seed": int, **{entry.name: entry.kind for entry in entries}}
    for name in document:
        if name not in kinds:
            raise ValueError(unknown("choice", name, kinds))
    # JSON has no infinite numbers.
    infinite = {name: math.inf for name, value in document.items() if value == "inf" and kinds[name] is float}
    fields = [(name, kind | None, None) for name, kind in kinds.items()]
    record: Any = documents.record(
        dataclasses.make_dataclass("Record", fields),
        {name: value for name, value in document.items() if name not in infinite},
        "the choices",
    )
    typed = {**vars(record), **infinite}
    return {name: typed[name] for name in document if typed[name] is not None}
