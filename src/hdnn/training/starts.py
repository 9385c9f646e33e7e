"""Several starts: short trainings from fresh weights, of which the best is trained on.

Legend: E models, s samples.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import nn

from hdnn.ranks import Ranks
from hdnn.training.backends import TrainingBackend
from hdnn.training.batches import Batch
from hdnn.training.ensemble import ObjectiveOf, TogetherCallback, train_together
from hdnn.training.models import has_objective
from hdnn.training.pace import every
from hdnn.training.recipe import Recipe
from hdnn.training.scores import Record
from hdnn.training.spread import Spread
from hdnn.training.together import TogetherProgress, TogetherState, best_of


def start_well(
    networks: Sequence[nn.Module],
    data: Batch,
    recipe: Recipe,
    objective: ObjectiveOf,
    *,
    seeds: Sequence[int],
    backend: TrainingBackend = "auto",
    callbacks: Iterable[TogetherCallback] = (),
    resume: TogetherState | None = None,
    ranks: Ranks | None = None,
) -> list[TogetherState]:
    """Give each network the weights of the best of `recipe.restarts` short trainings, its own weights being one start.

    The best has the smallest objective over the last epoch, on the training data; no other data is looked at. Frozen
    parameters keep their values in every start. An interrupt leaves the best start so far; under ranks, of those of
    this one.

    Args:
        networks: E of them; their weights are replaced.
        data: (E, s, ...), of each.
        recipe: of which `restarts`, `restart_epochs` and `restart_learning_rate` say how long and how fast.
        objective: makes that of a network.
        seeds: of each network, for the fresh weights and the order of the batches.
        backend: as in `fit`.
        callbacks: called after the steps of all starts, each at its pace.
        resume: go on from here; of one network alone.
        ranks: over which the starts of one network are spread; all have the same network, data and recipe, and all end
            with the weights of the best.

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
        refit=False,
        patience=None,
        average=0.0,
        precision="full",
    )
    count = recipe.restarts
    spread = None if ranks is None else Spread(ranks, count, callbacks, () if resume is None else resume.history)
    own: Sequence[int] = range(count) if spread is None else spread.own
    draws = [[int(n) for n in np.random.SeedSequence(seed).generate_state(count)] for seed in seeds]
    starts = [
        copy.deepcopy(network) if k == 0 else _fresh(network, row[k])
        for network, row in zip(networks, draws, strict=True)
        for k in own
    ]
    member = torch.arange(len(networks), device=data.y.device).repeat_interleave(count)
    # The only member as often as asked for, without a copy.
    repeated = data.each(
        itemgetter(member) if len(networks) > 1 else lambda part: part.expand(len(own), *part.shape[1:])
    )
    if spread is not None:
        callbacks = [spread] if spread.listening else []
        resume = None if resume is None else spread.part(resume)
    histories: list[list[Record]] = [list(history) for history in resume.history] if resume is not None else []

    @every(epochs=1)
    def note(progress: TogetherProgress[TogetherState]) -> None:
        histories[:] = [list(history) for history in progress.histories]

    try:
        orders = [row[k] for row in draws for k in own]
        told = (note, *callbacks)
        histories = train_together(
            starts, repeated, short, objective, seeds=orders, backend=backend, callbacks=told, resume=resume
        )
    except KeyboardInterrupt:
        _take_best(networks, starts, histories)
        raise
    chosen = _take_best(networks, starts, histories)
    if spread is not None:
        histories = spread.hear(histories)
        chosen = [spread.take_best(networks[0], starts)]
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
    networks: Sequence[nn.Module], starts: Sequence[nn.Module], histories: Sequence[Sequence[Record]]
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


def _fresh(network: nn.Module, seed: int) -> nn.Module:
    """A copy with weights of its own; what is frozen stays, and a `Network`'s output layer, for it begins at zero.

    Raises:
        ValueError: if something that learns is not reached by the `reset_parameters` of a module, or nothing learns.
    """
    made = copy.deepcopy(network)
    kept = "head" if has_objective(network) else ""
    modules = {name: module for name, module in made.named_modules() if not kept or name.partition(".")[0] != kept}
    learning = {
        name: p for name, p in made.named_parameters() if p.requires_grad and not (kept and name.startswith("head."))
    }
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for p in learning.values():
            p.fill_(math.nan)  # what a reset leaves so was not reached by it
        torch.manual_seed(seed)
        for module in modules.values():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        missed = [name for name, p in learning.items() if bool(p.isnan().any())]
        if missed or not learning:
            what, remedy = "has nothing to draw: all of lift and flow is frozen", "Use restarts=1."
            if missed:
                owner = type(made.get_submodule(missed[0].rpartition(".")[0])).__name__
                what = f"does not reach {missed[0]}"
                remedy = f"Give {owner} such a method that draws them, or use restarts=1."
            raise ValueError(
                f"`restarts` begin from fresh weights, but `reset_parameters` {what}, so all starts would be one. "
                f"{remedy}"
            )
        for name, own in network.named_parameters():
            if name not in learning:
                made.get_parameter(name).copy_(own)
    return made
