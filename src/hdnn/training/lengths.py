"""How long to train: a number of epochs that is found on rows held back, for a training on all of them.

The rows held back are not lost: a second training begins from the same weights and takes all rows for as many epochs as
were best. Its schedule is that of its own length, so that its rate falls to zero as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hdnn.training.backends import TrainingBackend, chosen_backend
from hdnn.training.batches import Batch, Rows, Source
from hdnn.training.distributed import Team, begin, digest
from hdnn.training.ensemble import ObjectiveOf
from hdnn.training.learners import Headed, Learner, Single
from hdnn.training.native import Native
from hdnn.training.objective import Objective
from hdnn.training.progress import Callback, StartCallback
from hdnn.training.recipe import Recipe
from hdnn.training.scores import Record, Scores
from hdnn.training.single import Training, Validation, score_of
from hdnn.training.sloped import sloped_of
from hdnn.training.state import TrainingState
from hdnn.training.steps import train_head
from hdnn.training.tensors import copied

SECOND: dict[str, Any] = {"refit": False, "validation_fraction": 0.0, "patience": None, "restarts": 1}
"""What the recipe of the training on all rows has in place of its own."""


@dataclass(frozen=True)
class Trainings:
    """Trainings of one model.

    Args:
        objective: of the model.
        make: the objective of another model.
        score: functions for the records.
        callbacks: told while it trains.
        start_callbacks: told of the starts.
        backend: that is wanted.
    """

    objective: Objective
    make: ObjectiveOf
    score: Scores | None
    callbacks: Sequence[Callback]
    start_callbacks: Sequence[StartCallback]
    backend: TrainingBackend

    def once(
        self,
        recipe: Recipe,
        source: Source,
        validation: Validation | None,
        resume: TrainingState | None,
        search: tuple[Record, ...] = (),
    ) -> Training:
        """Train the model to the end.

        Args:
            recipe: how.
            source: from what.
            validation: what to watch.
            resume: go on from here.
            search: records of the training that found the number of epochs.
        """
        network, objective, ranks = self.objective.network, self.objective, source.ranks
        if ranks is not None:
            watched = {"validation": _said_of(validation), "list of scores": sorted(self.score or {})}
            begin(ranks, objective, recipe, source, resume, watched)
        written_by = None if resume is None else resume.backend
        chosen = chosen_backend([network], objective, recipe, source, self.backend, written_by)
        learner: Learner
        if chosen == "native":
            learner = Native([network], recipe, source, objective.loss)
        else:
            team = None if ranks is None else Team(objective, ranks)
            learner = Single(objective, recipe, sloped_of(objective, recipe), team)
        try:
            training = Training(objective, learner, source, validation, self.score, self.callbacks)
            training.search = search
            if resume is not None:
                training.check(resume)
            if recipe.restarts > 1 and (resume is None or resume.is_starting):
                training.start_well(self.make, self.start_callbacks, resume, self.backend)
            elif resume is not None:
                training.resume(resume)
            if recipe.refit and not training.first:
                training.first = copied(network.state_dict())
            training.run()
            learner.settle()
            training.best.restore(network)
            if isinstance(learner, Headed) and recipe.method == "alternating":
                train_head(learner, source, [torch.Generator().manual_seed(recipe.seed)], stacked=False)
            # The last step may diverge after the last objective was seen to be finite.
            training.require_finite()
        finally:  # also what an interrupt leaves can be used
            learner.close()
        return training

    def twice(
        self,
        recipe: Recipe,
        source: Source,
        validation: Validation | None,
        every_row: Rows,
        resume: TrainingState | None,
    ) -> list[Record]:
        """Find the number of epochs, then train on all rows.

        Args:
            recipe: how.
            source: the rows of the search.
            validation: those that it holds back.
            every_row: all.
            resume: go on from here, in one of the two.

        Returns:
            The records of the second training.
        """
        search = () if resume is None else resume.search
        if not search:
            first = self.once(recipe, source, validation, resume)
            search, resume = tuple(first.history), None
            self.objective.network.load_state_dict(first.first)
        second = dataclasses.replace(recipe, **SECOND, epochs=self._best_of(search))
        return self.once(second, every_row, None, resume, search).history

    def _best_of(self, search: Sequence[Record]) -> int:
        """The number of epochs that was best."""
        scores = [score_of(record, own_loss=self.objective.loss is None) for record in search]
        return 1 + scores.index(max(scores))


def _said_of(validation: Validation | None) -> str:
    """What tells data to watch apart from others, in a word."""
    if isinstance(validation, tuple):
        return digest(Batch(*validation))
    return "none" if validation is None else "a loader"
