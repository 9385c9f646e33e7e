"""One model while it trains: early stopping, what is recorded, and standing still."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.training import answers
from hdnn.training.backends import TrainingBackend, warn_of_change
from hdnn.training.batches import Inputs, Loader, Rows, Source
from hdnn.training.circumstances import circumstances, differing
from hdnn.training.course import Stretch
from hdnn.training.diagnosis import stopped, where_states, where_weights
from hdnn.training.distributed import agreed
from hdnn.training.ensemble import ObjectiveOf, TogetherCallback
from hdnn.training.learners import Learner
from hdnn.training.models import first_parameter, head_of
from hdnn.training.objective import Objective, evaluated, mean_loss
from hdnn.training.pace import at_pace_of
from hdnn.training.progress import Callback, Progress, StartCallback
from hdnn.training.recipe import Recipe, warm_epochs
from hdnn.training.scores import Record, Scores, judged, judged_each, scores_of
from hdnn.training.starts import start_well
from hdnn.training.state import TrainingState
from hdnn.training.steps import NotFinite
from hdnn.training.tensors import Weights, copied, require_alike, require_history, set_order
from hdnn.training.together import TogetherProgress, TogetherState
from hdnn.training.trainer import Trainer

Validation = tuple[Inputs, Tensor] | Iterable[Any]


class Training(Trainer):
    """What changes from step to step while one model trains."""

    def __init__(
        self,
        objective: Objective,
        learner: Learner,
        source: Source,
        validation: Validation | None,
        score: Scores | None,
        callbacks: Sequence[Callback],
    ) -> None:
        super().__init__(learner, source, callbacks)
        self.objective, self.network = objective, objective.network
        self.validation, self.score = validation, score
        self.scores = scores_of(self.network, objective.loss, score)
        self.width = getattr(head_of(self.network), "out_features", 0)
        self.circumstances = circumstances(first_parameter(self.network).device)
        if isinstance(source, Loader):
            self.circumstances["order of the batches"] = "the loader's"
        self.best = Best(learner.recipe)
        self.first: Weights = {}
        self.search: tuple[Record, ...] = ()
        self.history: list[Record] = []
        # Summed up once an epoch: small steps are too short for more.
        self.losses: list[Tensor] = []  # (k,) each
        self.sizes: list[int] = []
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.shown: Record | None = None  # in their place, where epochs were seen together
        self.starts: TogetherState | None = None
        self.start = time.perf_counter()

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def is_stuck(self) -> bool:
        """Whether patience has run out."""
        return self.best.is_stuck

    def start_well(
        self,
        objective: ObjectiveOf,
        callbacks: Sequence[StartCallback],
        resume: TrainingState | None,
        backend: TrainingBackend,
    ) -> None:
        """Take the weights of the best of several starts."""

        def among_starts(callback: StartCallback) -> TogetherCallback:
            def tell(progress: TogetherProgress[TogetherState]) -> None:
                def state() -> TrainingState:
                    return dataclasses.replace(self.snapshot(), starts=progress.state())

                callback(dataclasses.replace(progress, state=state))  # type: ignore[arg-type]

            return at_pace_of(callback, tell)

        source: Rows = self.source  # type: ignore[assignment]  # a loader has one start
        [self.starts] = start_well(
            [self.network],
            source.data.each(lambda part: part[None]),
            self.recipe,
            objective,
            seeds=[self.recipe.seed],
            backend=backend,
            callbacks=[among_starts(callback) for callback in callbacks],
            resume=None if resume is None else resume.starts,
            ranks=source.ranks,
        )
        self.start = time.perf_counter()

    def unseen(self) -> int:
        """All that are left, if only the objective and the scores of the training are recorded."""
        watched = self.audience or self.validation is not None or self.best.is_kept
        return 0 if watched else self.recipe.epochs - self.epochs

    def failed(self, step: int, x: Inputs, error: Exception) -> None:
        """Raise where numbers went bad, if it is that."""
        if isinstance(error, RuntimeError):
            return
        where = where_weights(self.network)
        # A penalty refuses weights that are not finite in its own words.
        if isinstance(error, FloatingPointError) or where:
            when = f"is infinite or not a number in epoch {self.epoch}, step {step} of {self.batches}"
            where = where or where_states(self.network, x, self.objective.call)
            if self.source.ranks is not None and isinstance(error, NotFinite):  # which all have met, some in their rows
                where = min(self.source.ranks.told(where), key=lambda said: said.startswith("Weights and outputs"))
            raise FloatingPointError(stopped("objective", when, where)) from error

    def note(self, stretch: Stretch) -> None:
        """Keep what steps have shown; what they showed before a pause, the state has kept."""
        self.shown = stretch.record
        if self.shown is not None:
            return
        self.sizes.extend(stretch.sizes)
        if self.scores:
            self.targets.append(stretch.y)
        if stretch.losses is not None:
            self.losses.append(stretch.losses)
            if self.scores:
                self.outputs.append(stretch.output)

    def records(self, sizes: Sequence[int], losses: Tensor, outputs: Tensor, y: Tensor) -> list[Record]:
        """What the steps of `unseen` epochs have shown, the loss and scores of each."""
        means = (mean_loss(each, sizes) for each in losses.tolist())
        found = judged_each(self.scores, outputs, y)
        return [{"loss": mean, **_while_training(each)} for mean, each in zip(means, found, strict=True)]

    def record(self, epoch: int, rate: float) -> None:
        """End an epoch."""
        shown = self.shown
        loss = mean_loss(torch.cat(self.losses).tolist(), self.sizes) if shown is None else shown["loss"]
        record = {"epoch": float(epoch), "loss": loss, "learning_rate": rate}
        if not math.isfinite(loss):
            when = f"became infinite or not a number in epoch {epoch}"
            raise FloatingPointError(stopped("objective", when, where_weights(self.network)))
        self.require_finite()
        if shown is None:
            shown = _while_training(judged(self.network, self.scores, self.outputs, self.targets))
        record |= shown
        if self.validation is not None:
            record |= {f"validation_{name}": value for name, value in self.watch(self.validation).items()}
        if self.source.ranks is not None:
            record = agreed(self.source.ranks, record, first_parameter(self.network).device)
        self.best.note(self.watched, record, own_loss=self.objective.loss is None)
        now = time.perf_counter()
        record["seconds"], self.start = now - self.start, now
        self.history.append(record)
        self.losses, self.sizes, self.outputs, self.targets = [], [], [], []

    @property
    def watched(self) -> nn.Module:
        """What is scored, and kept at the end."""
        return self.network if self.learner.mean is None else self.learner.mean.network

    def watch(self, validation: Validation) -> Record:
        """Loss and scores on the validation data."""
        x, y = validation if isinstance(validation, tuple) else (validation, None)
        objective = self.objective
        return evaluated(self.watched, x, y, objective.loss, self.score, objective.call, self.source.ranks)

    def progress(self, step: int, losses: Tensor) -> Progress:
        """What callbacks are told after a step."""
        self.learner.show_gradient()
        record = self.history[-1] if step == self.batches else None
        epochs, refit = self.recipe.epochs, self.recipe.refit
        rows = self.source.count if isinstance(self.source, Rows) else 0
        return Progress(self.epoch, epochs, step, self.batches, losses, record, self.state, self.search, refit, rows)

    def state(self) -> TrainingState:
        """The state of the moment, which must be finite."""
        self.require_finite()
        return self.snapshot()

    def snapshot(self) -> TrainingState:
        """The state of the moment."""
        empty = first_parameter(self.network).detach().new_empty(0)
        said = answers.outputs_as_one(self.network, self.outputs) if self.outputs else empty.new_empty(0, self.width)
        order = self.orders[0] if self.orders else torch.Generator().manual_seed(self.recipe.seed).get_state()
        return TrainingState(
            network=copied(self.network.state_dict()),
            optimizer=self.learner.memory(),
            order=order.clone(),
            losses=torch.cat(self.losses) if self.losses else empty,
            outputs=said,
            history=tuple(dict(record) for record in self.history),
            seconds=time.perf_counter() - self.start,
            best=copied(self.best.weights),
            best_score=self.best.score,
            waited=self.best.waited,
            first=self.first,
            search=self.search,
            starts=self.starts,
            circumstances=self.circumstances,
            backend=self.learner.backend,
            mean=copied(self.learner.mean.state()) if self.learner.mean is not None else {},
        )

    def check(self, state: TrainingState) -> None:
        """See whether a state is of a training like this, and warn where it came about under other circumstances."""
        if state.is_starting and self.recipe.restarts == 1:
            raise ValueError("The training state stands among its `restarts`, and the recipe has none: it is another.")
        now = {"order of the batches": "drawn from the seed", **self.circumstances}
        if changed := differing(state.circumstances or {}, now):
            warnings.warn(
                f"The training state came about under other circumstances: {changed}. The last bits of the result may "
                f"differ from those of a training without the pause.",
                stacklevel=4,
            )

    def resume(self, state: TrainingState) -> None:
        """Go to a state."""
        mine = self.network.state_dict()
        require_alike("weights", state.network, mine)
        for name, weights in (("best weights", state.best), ("first weights", state.first)):
            if weights:
                require_alike(name, weights, mine)
        if state.batches:
            self._check_begun(state)
        require_history(state.history, self.scores)
        for generator in self.source.generators:
            set_order(generator, state.order)
        self.orders = [state.order.clone()]
        self.network.load_state_dict(state.network)
        self.learner.remember(state.optimizer)
        if self.learner.mean is not None and state.mean:
            require_alike("mean of the weights", state.mean, self.learner.mean.state())
            self.learner.mean.remember(state.mean)
        warn_of_change(state.backend, self.learner.backend)
        self.starts, self.first, self.search = state.starts, state.first, state.search
        self.best.weights = copied(state.best)
        self.best.score, self.best.waited = state.best_score, state.waited
        self.history = [dict(record) for record in state.history]
        device = first_parameter(self.network).device
        self.done = state.batches
        self.losses = [state.losses.to(device, copy=True)] if state.batches else []
        self.outputs = [state.outputs.to(device, copy=True)] if state.batches and self.scores else []
        self.start = time.perf_counter() - state.seconds

    def _check_begun(self, state: TrainingState) -> None:
        """See that an epoch that has begun can be gone on with."""
        if not isinstance(self.source, Rows):
            raise ValueError(
                f"The training state stands after {state.batches} batches of an epoch, and a loader has an order of "
                f"its own, so that nobody knows which are left. Take states where an epoch ends (where "
                f"`progress.record` is not None), or train on tensors."
            )
        told = tuple(state.outputs.shape)
        steps = self.source.data.y.shape[1:2] if answers.taught(self.objective) else ()
        seen = (state.batches * self.source.size, *([*steps, self.width] if self.objective.loss is None else told[1:]))
        fits = not self.scores or told == seen
        if state.batches >= self.batches or not fits:
            raise ValueError(
                f"The training state stands after {state.batches} batches with outputs of shape {told}, in an "
                f"epoch of {self.batches} batches of {self.source.size}: it belongs to other data or another recipe."
            )

    def require_finite(self) -> None:
        """Raise FloatingPointError if weights or the optimizer's memory are no numbers.

        A squared gradient may overflow where the gradient does not; Adam would then never move that weight again.
        """
        if self.learner.is_finite():
            return
        when = f"became infinite or not a number in epoch {len(self.history) + bool(self.losses)}"
        if where := where_weights(self.network):
            raise FloatingPointError(stopped("weights", when, where))
        where = "The weights are still finite, but gradients were so large that their squares overflowed."
        raise FloatingPointError(stopped("memory of the optimizer", when, where))


def _while_training(found: Record) -> Record:
    """Scores of the training part, as records name them."""
    return {f"train_{name}": value for name, value in found.items()}


class Best:
    """The best weights by validation score, or by the objective where nothing is held back, if training may stop.

    Args:
        recipe: whose `patience` says when.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.patience, self.warm = recipe.patience, warm_epochs(recipe)
        self.is_kept = recipe.patience is not None
        self.score = (-math.inf, -math.inf)
        self.waited = 0
        self.weights: Weights = {}

    @property
    def is_stuck(self) -> bool:
        """True when patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def note(self, network: nn.Module, record: Record, *, own_loss: bool) -> None:
        """Note an epoch."""
        if not self.is_kept:
            return
        score = score_of(record, own_loss=own_loss)
        if score > self.score:
            self.score, self.waited = score, 0
            self.weights = copied(network.state_dict())
        elif record["epoch"] > self.warm:
            self.waited += 1

    def restore(self, network: nn.Module) -> None:
        """Put the best weights back."""
        if self.weights:
            network.load_state_dict(self.weights)


def score_of(record: Record, *, own_loss: bool) -> tuple[float, float]:
    """What is compared of epochs; an accuracy counts where it is that of a `Network` with its own loss, never a user's.

    Args:
        record: of an epoch.
        own_loss: whether the loss is that of the network.
    """
    accuracy = record.get("validation_accuracy", 0.0) if own_loss else 0.0
    return accuracy, -record.get("validation_loss", record["loss"])
