"""Many models of one shape, trained as one: a step moves them all, and one kernel call runs all their flows.

Legend: E members; a stacked tensor has a leading axis E. Members share the recipe and nothing else: each has its own
weights, data and order of batches, so each ends where a training of its own would, up to rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.modes import evaluating
from hdnn.training.answers import count, scored, taught
from hdnn.training.backends import TrainingBackend, chosen_backend, warn_of_change
from hdnn.training.batches import Batch, Inputs, Rows, called, each, tensors_of
from hdnn.training.checks import check_data, check_trainable, checked_weight
from hdnn.training.course import Stretch
from hdnn.training.devices import is_out_of_memory
from hdnn.training.learners import Learner
from hdnn.training.models import first_parameter
from hdnn.training.native import Native
from hdnn.training.objective import Objective
from hdnn.training.positions import check_rows
from hdnn.training.recipe import Recipe
from hdnn.training.scores import Record, mean_score, score_name, scores_of
from hdnn.training.stacked import Stacked
from hdnn.training.steps import train_head
from hdnn.training.tensors import copied, require_alike, require_history, set_order
from hdnn.training.together import TogetherProgress, TogetherState
from hdnn.training.trainer import Trainer

TogetherCallback = Callable[[TogetherProgress[TogetherState]], None]
ObjectiveOf = Callable[[nn.Module], Objective]


def train_together(
    networks: Sequence[nn.Module],
    data: Batch,
    recipe: Recipe,
    objective: ObjectiveOf,
    *,
    seeds: Sequence[int],
    backend: TrainingBackend = "auto",
    callbacks: Iterable[TogetherCallback] = (),
    resume: TogetherState | None = None,
) -> list[list[Record]]:
    """`fit_together` from the weights that are there, whatever `recipe.restarts` says."""
    check_together(networks, data, recipe, objective, seeds)
    place = first_parameter(networks[0]).device
    x, y, weight, _ = data.each(lambda part: part.to(place))
    if weight is not None:
        weight = torch.stack([checked_weight(w, own, networks[0]) for w, own in zip(weight, y, strict=True)])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    source = Rows(Batch(x, y, weight), recipe.batch_size, generators, stacked=True)
    one = objective(copy.deepcopy(networks[0]).train())
    learner: Learner
    if chosen_backend(networks, one, recipe, source, backend, None if resume is None else resume.backend) == "native":
        learner = Native(networks, recipe, source, one.loss)
    else:
        learner = Stacked(networks, one, recipe)
    try:
        together = _Together(learner, networks[0], one, source, tuple(callbacks))
        if resume is not None:
            together.resume(resume)
        together.run()
        if recipe.method == "alternating" and isinstance(learner, Stacked):
            train_head(learner, source, [torch.Generator().manual_seed(seed) for seed in seeds], stacked=True)
    finally:  # also what an interrupt leaves can be used
        learner.close()
    return together.histories


class _Together(Trainer):
    """What changes from step to step while members train."""

    def __init__(
        self,
        learner: Learner,
        network: Any,
        objective: Objective,
        source: Rows,
        callbacks: Sequence[TogetherCallback],
    ) -> None:
        super().__init__(learner, source, callbacks)
        self.rows, self.network, self.call = source, network, objective.call
        self.scores_of = scores_of(network, objective.loss, None)
        self.by_answers = taught(objective)
        self.histories: list[list[Record]] = [[] for _ in source.generators]
        self.has_stepped = False
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.losses = torch.zeros(len(self.histories), dtype=torch.float64)
        self.scores = torch.zeros(len(self.histories), dtype=torch.float64)
        self.start = time.perf_counter()

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.histories[0])

    def failed(self, step: int, x: Inputs, error: Exception) -> None:
        """The first step shows whether the networks can train together at all."""
        if not isinstance(error, RuntimeError) or self.has_stepped or is_out_of_memory(error):
            return
        with torch.no_grad(), evaluating(self.network):
            # raises where it is not the stacking that is to blame
            called(self.network, each(lambda part: part[0], x), self.call)
        raise ValueError(
            f"These networks cannot train together, nor with `restarts` > 1: a step runs one network for the stacked "
            f"weights of all (torch.vmap), and a module of it does not allow that, as BatchNorm, which keeps running "
            f"statistics, and Dropout, which draws random numbers. Use restarts=1 and `fit` for each, or take that "
            f"module out (LayerNorm works). PyTorch says: {str(error).splitlines()[0]}"
        ) from error

    def note(self, stretch: Stretch) -> None:
        """Add what steps have shown, in an order that does not depend on how many there are."""
        if stretch.losses is None:
            return
        self.has_stepped = True
        self.losses = _added(self.losses, stretch.losses.double().cpu() * torch.tensor(stretch.sizes))
        if self.scores_of:
            self.scores = _added(self.scores, _row_scores(self.network, stretch.output, stretch.y).double().cpu())

    def record(self, epoch: int, rate: float) -> None:
        """End an epoch."""
        seconds = time.perf_counter() - self.start
        members = zip(self.histories, self.losses, self.scores, self.rows.data.y, strict=True)
        for history, loss, score, y in members:
            size = count(self.network, y) if self.by_answers else self.rows.count
            record = {"epoch": float(epoch), "loss": float(loss) / size, "learning_rate": rate}
            if self.scores_of:
                value = mean_score(self.network, float(score), y)
                record[f"train_{score_name(self.network)}"] = value
            history.append({**record, "seconds": seconds})
        self._begin_epoch()

    def progress(self, step: int, losses: Tensor) -> TogetherProgress[TogetherState]:
        """What callbacks are told after a step."""
        return TogetherProgress(self.epoch, self.recipe.epochs, step, self.batches, losses, self.histories, self.state)

    def state(self) -> TogetherState:
        """The state of the moment."""
        return TogetherState(
            history=tuple(map(tuple, self.histories)),
            weights=copied(self.learner.weights()),
            optimizer=self.learner.memory(),
            orders=torch.stack(self.orders),
            losses=self.losses.clone(),
            scores=self.scores.clone(),
            batches=self.done,
            seconds=time.perf_counter() - self.start,
            backend=self.learner.backend,
        )

    def resume(self, state: TogetherState) -> None:
        """Go to a state."""
        if state.members != len(self.histories) or state.is_over or state.batches >= self.batches:
            raise ValueError(
                f"The training state stands after {state.batches} batches of {state.members} members; it belongs to "
                f"other data or another recipe than these {self.batches} batches of {len(self.histories)}."
            )
        weights = self.learner.weights()
        require_alike("weights", state.weights, weights)
        require_history([record for history in state.history for record in history], self.scores_of)
        self.learner.remember(state.optimizer)
        warn_of_change(state.backend, self.learner.backend)
        for generator, order in zip(self.rows.generators, state.orders, strict=True):
            set_order(generator, order)
        self.orders = list(state.orders.clone())
        with torch.no_grad():
            for name, p in weights.items():
                p.copy_(state.weights[name])
        self.histories = [[dict(record) for record in history] for history in state.history]
        self.has_stepped = bool(state.epochs or state.batches)
        self.losses, self.scores, self.done = state.losses.clone(), state.scores.clone(), state.batches
        seen = zip(state.losses.tolist(), self.histories, strict=True)
        ends = [(loss, *(record["loss"] for record in history[-1:])) for loss, history in seen]
        self.learner.lose([e for e, losses in enumerate(ends) if not all(map(math.isfinite, losses))])
        self.start = time.perf_counter() - state.seconds


def _row_scores(network: Any, outputs: Tensor, y: Tensor) -> Tensor:
    """(E, rows), how many predictions are correct, or squared errors."""
    found = scored(network, outputs, y)
    return found.flatten(2).sum(2) if found.dim() > 2 else found


def _added(sums: Tensor, terms: Tensor) -> Tensor:
    """(E,), sums to which (E, k) terms are added one after the other."""
    return torch.cat([sums[:, None], terms], 1).cumsum(1)[:, -1]


def check_together(
    networks: Sequence[nn.Module], data: Batch, recipe: Recipe, objective: ObjectiveOf, seeds: Sequence[int]
) -> None:
    """See that networks, data and recipe allow training together.

    Raises:
        TypeError: if there is no loss.
        ValueError: if not.
    """
    inputs = {len(part) for part in tensors_of(data.x)}
    if not {len(networks), len(data.y), len(seeds)} == inputs != {0}:
        raise ValueError(
            f"Every network needs its own inputs, targets and seed, stacked along the first axis; got "
            f"{len(networks)} networks, {', '.join(map(str, inputs))} inputs, {len(data.y)} targets, {len(seeds)} "
            f"seeds."
        )
    for refused, what in (
        (recipe.optimizer == "lbfgs", '`optimizer="lbfgs"`, whose line search takes its own time for each'),
        (
            recipe.validation_fraction > 0 or recipe.patience is not None,
            "`validation_fraction`, as each would stop at its own time",
        ),
        (recipe.average > 0, "`average`, which is the mean of the weights of one"),
        (recipe.precision != "full", "`precision`, as their stacked products know their own kind of numbers alone"),
    ):
        if refused:
            raise ValueError(f"Networks cannot be trained together with {what}. Train them one by one with `fit`.")
    first = networks[0]
    losses = [objective(network).loss for network in networks]
    check_trainable(first, recipe)
    for network in networks[1:]:
        if repr(network) != repr(first) or _shapes(network) != _shapes(first):
            raise ValueError("Networks that train together must be alike but for their weights; these are not.")
        if not all(torch.equal(a, b) for a, b in zip(network.buffers(), first.buffers(), strict=True)):
            raise ValueError("Networks that train together must have the same buffers, such as J; these do not.")
        if not _alike(_constants(network), _constants(first)):
            raise ValueError(
                "Networks that train together must have the same graphs and masks in their flows, for a step runs "
                "those of one with the stacked weights of all; these do not. Train them one by one with `fit`."
            )
    for i, (network, loss) in enumerate(zip(networks, losses, strict=True)):
        check_data(network, data._replace(weight=None).each(itemgetter(i)), loss)
    check_rows(first, each(itemgetter(0), data.x), objective(first).call, recipe.batch_size)


def _constants(network: nn.Module) -> list[Tensor | None]:
    """What flows keep beside parameters and buffers: the places of their weights, and the edges of a graph."""
    flows = [module for module in network.modules() if isinstance(module, Flow)]
    cpu = torch.device("cpu")
    return [x for flow in flows for x in (*flow.places(cpu), *flow.space.bind(None).numbers)]


def _alike(ours: list[Tensor | None], others: list[Tensor | None]) -> bool:
    pairs = list(zip(ours, others, strict=False))
    same = [a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs]
    return len(ours) == len(others) and all(same)


def _shapes(network: nn.Module) -> list[tuple[str, torch.Size, bool]]:
    return [(name, p.shape, p.requires_grad) for name, p in network.named_parameters()]
