"""Many networks of one shape, trained as one: a step moves them all, and one kernel call runs all their flows.

Legend: E members; a stacked tensor has a leading axis E. Members share the recipe and nothing else: each has its own
weights, data and order of batches, so each ends where a training of its own would, up to rounding.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from hdnn.flow import Flow
from hdnn.modes import evaluating
from hdnn.networks import Network, predicted_classes
from hdnn.training.checks import check_data, check_network, check_trainable, checked_weight
from hdnn.training.devices import is_out_of_memory
from hdnn.training.members import Members, member_batches
from hdnn.training.objective import Penalty, Record, mean_score, score_name
from hdnn.training.recipe import Recipe
from hdnn.training.state import memory, remember
from hdnn.training.tensors import copied, require_alike, require_history, set_order
from hdnn.training.together import TogetherProgress, TogetherState, best_of


def fit_together(
    networks: Sequence[Network],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    sample_weight: Tensor | None = None,
    penalties: Sequence[Penalty] = (),
    callbacks: Iterable[Callable[[TogetherProgress[TogetherState]], None]] = (),
    resume: TogetherState | None = None,
) -> list[list[Record]]:
    """Train networks of one shape in place, all in one: as `fit` for each of them, and many times faster.

    A step of a small network is a hundred short operations, whose cost hardly depends on how many networks it serves.
    A member that diverges does not disturb the others: its records say nan from then on.

    Args:
        networks: E of them, alike but for their weights.
        x: (E, s, ...), the inputs of each; `x.expand(E, *x.shape)` gives all the same without copying.
        y: (E, s) class indices, or (E, s, outputs) targets.
        recipe: how; its own seed is not used. All but `validation_fraction`, `patience` and L-BFGS can be done
            together.
        seeds: of the order of the batches of each.
        sample_weight: (E, s), as in `fit`.
        penalties: as in `fit`.
        callbacks: called with a `TogetherProgress` after every step; not during the starts of `recipe.restarts`.
        resume: go on from here, as in `fit`.

    Returns:
        For each member one record an epoch, as `fit` gives them; "seconds" is the time that all took together.

    Raises:
        TypeError: if one of them is no `Network`.
        ValueError: if the networks differ in more than their weights, if data or seeds do not fit them, if the
            recipe cannot be followed together, or if they hold modules that cannot train together, such as BatchNorm
            and Dropout.

    Example:
        >>> import torch, hdnn
        >>> networks = [hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0)) for _ in range(5)]
        >>> x, y = torch.randn(200, 2), torch.randint(2, (200,))
        >>> histories = fit_together(networks, x.expand(5, 200, 2), y.expand(5, 200), Recipe(epochs=3), seeds=range(5))
        >>> len(histories), len(histories[0])
        (5, 3)
    """
    _check(networks, x, y, recipe, seeds)
    device = networks[0].head.weight.device
    x, y = x.to(device), y.to(device)
    weight = None
    if sample_weight is not None:
        weight = torch.stack([checked_weight(w, targets, x.dtype) for w, targets in zip(sample_weight, y, strict=True)])
    if recipe.restarts > 1 and resume is None:
        start_well(networks, x, y, recipe, seeds=seeds, sample_weight=sample_weight, penalties=penalties)
    together = _Together(networks, recipe, penalties, seeds, x.shape[1])
    if resume is not None:
        together.resume(resume)
    try:
        together.run(x, y, weight, tuple(callbacks))
        if recipe.method == "alternating":
            together.members.train_heads(x, y, weight, [torch.Generator().manual_seed(seed) for seed in seeds])
    finally:  # also what an interrupt leaves can be used
        together.members.unstack()
    return together.histories


def start_well(
    networks: Sequence[Network],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    sample_weight: Tensor | None = None,
    penalties: Sequence[Penalty] = (),
    callbacks: Iterable[Callable[[TogetherProgress[TogetherState]], None]] = (),
    resume: TogetherState | None = None,
) -> list[TogetherState]:
    """Give each network the weights of the best of `recipe.restarts` short trainings, its own weights being one start.

    The best has the smallest objective over the last epoch, on the training data; no other data is looked at. Frozen
    parameters keep their values in every start. An interrupt leaves the best start so far.

    Args:
        networks: E of them; their weights are replaced.
        x: (E, s, ...), inputs.
        y: (E, s), (E, s, outputs), targets.
        recipe: of which `restarts`, `restart_epochs` and `restart_learning_rate` say how long and how fast.
        seeds: of each network, for the fresh weights and the order of the batches.
        sample_weight: (E, s), as in `fit`.
        penalties: as in `fit`.
        callbacks: called after every step of all starts.
        resume: go on from here; of one network alone.

    Returns:
        For each network the histories of its starts, and which was chosen.

    Raises:
        ValueError: if starts cannot differ, as no module with fresh weights to draw learns.
        FloatingPointError: if all starts of a network diverge.
    """
    short = dataclasses.replace(
        recipe,
        restarts=1,
        epochs=recipe.restart_epochs,
        learning_rate=recipe.restart_learning_rate or recipe.learning_rate,
        validation_fraction=0.0,
        patience=None,
    )
    count = recipe.restarts
    draws = [[int(n) for n in np.random.SeedSequence(seed).generate_state(count)] for seed in seeds]
    starts = [
        copy.deepcopy(network) if k == 0 else _fresh(network, draw)
        for network, row in zip(networks, draws, strict=True)
        for k, draw in enumerate(row)
    ]
    member = torch.arange(len(networks), device=x.device).repeat_interleave(count)
    orders = [draw for row in draws for draw in row]
    weight = None if sample_weight is None else sample_weight[member]
    data = (x[member], y[member]) if len(networks) > 1 else (_repeated(x, count), _repeated(y, count))
    histories: list[list[Record]] = [list(history) for history in resume.history] if resume is not None else []

    def note(progress: TogetherProgress[TogetherState]) -> None:
        histories[:] = [list(history) for history in progress.histories]

    try:
        histories = fit_together(
            starts,
            *data,
            short,
            seeds=orders,
            sample_weight=weight,
            penalties=penalties,
            callbacks=(note, *callbacks),
            resume=resume,
        )
    except KeyboardInterrupt:
        _take_best(networks, starts, histories)
        raise
    chosen = _take_best(networks, starts, histories)
    if None in chosen:
        raise FloatingPointError(
            f"All {count} starts diverged within {recipe.restart_epochs} epochs. Use a smaller learning rate or "
            f"step, or clip the gradient (`clip=1.0`)."
        )
    parts = [histories[i * count : (i + 1) * count] for i in range(len(networks))]
    return [
        TogetherState(tuple(map(tuple, part)), chosen=best)
        for part, best in zip(parts, chosen, strict=True)
        if best is not None
    ]


def _take_best(
    networks: Sequence[Network], starts: Sequence[Network], histories: Sequence[Sequence[Record]]
) -> list[int | None]:
    """Give each network the weights of the best of its starts; which it is, None where none is finite."""
    count = len(starts) // len(networks)
    chosen: list[int | None] = []
    for i, network in enumerate(networks):
        best = best_of(histories[i * count : (i + 1) * count])
        chosen.append(None if best is None else best[0])
        if best is not None:
            network.load_state_dict(starts[i * count + best[0]].state_dict())
    return chosen


def _repeated(x: Tensor, count: int) -> Tensor:
    """The only member as often as asked for, without a copy."""
    return x.expand(count, *x.shape[1:])


def _fresh(network: Network, seed: int) -> Network:
    """A copy with weights of its own; the output layer stays, for it begins at zero, and so does what is frozen.

    Raises:
        ValueError: if `reset_parameters` does not reach what learns in a flow, or nothing that learns at all.
    """
    made = copy.deepcopy(network)
    learning = {name: p for name, p in made.named_parameters() if p.requires_grad and not name.startswith("head.")}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for p in learning.values():
            p.fill_(math.nan)  # what a reset leaves so was not reached by it
        torch.manual_seed(seed)
        for part in (made.lift, made.flow):
            for module in part.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        missed = [name for name, p in learning.items() if bool(p.isnan().any())]
        in_flows = {id(p) for module in made.modules() if isinstance(module, Flow) for p in module.parameters()}
        if len(missed) == len(learning) or any(id(learning[name]) in in_flows for name in missed):
            what = f"does not reach {missed[0]}" if missed else "has nothing to draw: all of lift and flow is frozen"
            raise ValueError(
                f"`restarts` begin from fresh weights, but `reset_parameters` {what}, so all starts would be one. Use "
                f"restarts=1."
            )
        for name, own in network.named_parameters():
            if name in missed or name not in learning:
                made.get_parameter(name).copy_(own)
    return made


class _Together:
    """What changes from step to step while members train."""

    def __init__(
        self, networks: Sequence[Network], recipe: Recipe, penalties: Sequence[Penalty], seeds: Sequence[int], rows: int
    ) -> None:
        self.network, self.recipe, self.rows = networks[0], recipe, rows
        self.batches = math.ceil(rows / recipe.batch_size)
        self.members = Members(networks, recipe, penalties, batches=self.batches)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.histories: list[list[Record]] = [[] for _ in networks]
        self.batch = 0
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.orders = torch.stack([generator.get_state() for generator in self.generators])
        self.losses = torch.zeros(len(self.generators), dtype=torch.float64)
        self.scores = torch.zeros(len(self.generators), dtype=torch.float64)
        self.batch = 0
        self.start = time.perf_counter()

    def run(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        callbacks: Sequence[Callable[[TogetherProgress[TogetherState]], None]],
    ) -> None:
        """Epoch after epoch, from where it stands to the end."""
        for epoch in range(len(self.histories[0]) + 1, self.recipe.epochs + 1):
            rows = member_batches(x, y, weight, self.generators, self.recipe.batch_size)
            for batch, (inputs, targets, weights) in enumerate(rows, start=1):
                if batch <= self.batch:
                    continue
                loss, output = self.step(inputs, targets, weights)
                self.losses += loss.double().cpu() * inputs.shape[1]
                self.scores += _score_sums(self.network, output, targets).double().cpu()
                self.batch = batch
                if batch == self.batches:
                    self.record(epoch, y)
                for callback in callbacks:
                    told = self.recipe.epochs, batch, self.batches, loss, self.histories, self.state
                    callback(TogetherProgress(epoch, *told))

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step of all; the first shows whether the networks can train together at all."""
        try:
            return self.members.step(x, y, weight)
        except RuntimeError as error:
            if self.members.steps or is_out_of_memory(error):
                raise
            with torch.no_grad(), evaluating(self.network):
                self.network(x[0])  # raises where it is not the stacking that is to blame
            raise ValueError(
                f"These networks cannot train together, nor with `restarts` > 1: a step runs one network for the "
                f"stacked weights of all (torch.vmap), and a module of it does not allow that, as BatchNorm, which "
                f"keeps running statistics, and Dropout, which draws random numbers. Use restarts=1 and `fit` for "
                f"each, or take that module out (LayerNorm works). PyTorch says: {str(error).splitlines()[0]}"
            ) from error

    def record(self, epoch: int, y: Tensor) -> None:
        """End an epoch."""
        seconds = time.perf_counter() - self.start
        rate = self.recipe.learning_rate * self.members.factor((epoch - 1) * self.batches)
        for history, loss, score in zip(self.histories, self.losses / self.rows, self.scores, strict=True):
            value = mean_score(self.network, float(score), y[0])
            record = {"epoch": float(epoch), "loss": float(loss), "learning_rate": rate}
            history.append({**record, f"train_{score_name(self.network)}": value, "seconds": seconds})
        self._begin_epoch()

    def state(self) -> TogetherState:
        """The state of the moment."""
        return TogetherState(
            history=tuple(map(tuple, self.histories)),
            weights=copied(self.members.parameters),
            optimizer=memory(self.members.optimizer),
            orders=self.orders.clone(),
            losses=self.losses.clone(),
            scores=self.scores.clone(),
            batches=self.batch,
            seconds=time.perf_counter() - self.start,
        )

    def resume(self, state: TogetherState) -> None:
        """Go to a state."""
        if state.members != len(self.histories) or state.is_over or state.batches >= self.batches:
            raise ValueError(
                f"The training state stands after {state.batches} batches of {state.members} members; it belongs to "
                f"other data or another recipe than these {self.batches} batches of {len(self.histories)}."
            )
        require_alike("weights", state.weights, self.members.parameters)
        require_history([record for history in state.history for record in history], score_name(self.network))
        remember(self.members.optimizer, state.optimizer)
        for generator, order in zip(self.generators, state.orders, strict=True):
            set_order(generator, order)
        self.orders = state.orders.clone()
        with torch.no_grad():
            for name, p in self.members.parameters.items():
                p.copy_(state.weights[name])
        self.histories = [[dict(record) for record in history] for history in state.history]
        self.members.steps = state.epochs * self.batches + state.batches
        self.losses, self.scores, self.batch = state.losses.clone(), state.scores.clone(), state.batches
        self.start = time.perf_counter() - state.seconds


def _score_sums(network: Network, outputs: Tensor, y: Tensor) -> Tensor:
    """(E,), correct predictions, or sums of squared errors."""
    if network.task == "classification":
        return (predicted_classes(outputs) == y).sum(1)
    return (outputs - y).square().flatten(1).sum(1)


def _check(networks: Sequence[Network], x: Tensor, y: Tensor, recipe: Recipe, seeds: Sequence[int]) -> None:
    if not len(networks) == len(x) == len(y) == len(seeds) > 0:
        raise ValueError(
            f"Every network needs its own inputs, targets and seed, stacked along the first axis; got "
            f"{len(networks)} networks, {len(x)} inputs, {len(y)} targets, {len(seeds)} seeds."
        )
    for refused, what in (
        (recipe.optimizer == "lbfgs", '`optimizer="lbfgs"`, whose line search takes its own time for each'),
        (
            recipe.validation_fraction > 0 or recipe.patience is not None,
            "`validation_fraction`, as each would stop at its own time",
        ),
    ):
        if refused:
            raise ValueError(f"Networks cannot be trained together with {what}. Train them one by one with `fit`.")
    for network in networks:
        check_network(network, smoothness=recipe.smoothness)
    first = networks[0]
    check_trainable(first, recipe)
    for network in networks[1:]:
        if repr(network) != repr(first) or _shapes(network) != _shapes(first):
            raise ValueError("Networks that train together must be alike but for their weights; these are not.")
        if not all(torch.equal(a, b) for a, b in zip(network.buffers(), first.buffers(), strict=True)):
            raise ValueError("Networks that train together must have the same buffers (J, masks); these do not.")
    for network, inputs, targets in zip(networks, x, y, strict=True):
        check_data(network, inputs, targets)


def _shapes(network: Network) -> list[tuple[str, torch.Size, bool]]:
    return [(name, p.shape, p.requires_grad) for name, p in network.named_parameters()]
