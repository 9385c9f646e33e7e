"""The doors to training: one model, from tensors or a loader, and many at once.

Legend: s samples, x inputs, y targets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hdnn import modes
from hdnn.data.pixels import Pixels
from hdnn.ranks import present
from hdnn.training import answers
from hdnn.training.augmentation import Augmentation
from hdnn.training.backends import TrainingBackend
from hdnn.training.batches import Batch, Call, Inputs, Loader, Rows, Source, check_lengths, each, some
from hdnn.training.checks import (
    batch_weight,
    check_data,
    check_fit,
    check_penalties,
    check_trainable,
    checked_recipe,
    checked_weight,
)
from hdnn.training.distributed import refusing_together
from hdnn.training.ensemble import TogetherCallback, check_together, train_together
from hdnn.training.lengths import SECOND, Trainings
from hdnn.training.models import first_parameter
from hdnn.training.objective import Loss, Objective, Penalty, objective_of
from hdnn.training.positions import check_rows
from hdnn.training.progress import Callback, StartCallback
from hdnn.training.recipe import Recipe
from hdnn.training.scores import Record, Scores
from hdnn.training.single import Validation
from hdnn.training.starts import start_well
from hdnn.training.state import TrainingState
from hdnn.training.together import TogetherState


def fit(
    network: nn.Module,
    x: Inputs | Iterable[Any],
    y: Tensor | None = None,
    recipe: Recipe | None = None,
    loss: Loss | None = None,
    *,
    sample_weight: Tensor | None = None,
    validation: Validation | None = None,
    score: Scores | None = None,
    call: Call | None = None,
    callbacks: Iterable[Callback] = (),
    start_callbacks: Iterable[StartCallback] = (),
    penalties: Sequence[Penalty] = (),
    backend: TrainingBackend = "auto",
    resume: TrainingState | None = None,
) -> list[Record]:
    """Train a model in place: a `Network`, or any module with a loss.

    The order of the batches of tensors depends on `recipe.seed` alone; the initial weights are the caller's. With
    `recipe.restarts` they are one of several starts, of which the best is trained on; see `Recipe`. Whatever mode the
    modules have, they train in training mode, are validated in evaluation mode, and have their own again at the end.

    A loader gives its batches in its own order and sizes, so the same bits come again only if it gives the same batches
    again, for which its own generator must be seeded before.

    Under an initialised process group of `torch.distributed`, all its processes train one model, and the result is that
    of one process up to rounding, with the same bits for the same number of them. Each is given the same tensors, of
    which it takes its own piece of every batch; or a loader of rows of its own, as long as those of the others, whose
    batches together are one; what does not fit together, or one of them refuses, all refuse. The weights are those of
    the first process. Objectives and scores are of whole batches, moments of batches too, of stages and of PyTorch's
    batch norms; dropout draws for whole batches. Tensors to watch are divided, too; a loader to watch is read by each
    process whole. What the first finds decides. Starts are dealt out: each process trains whole ones, as one process
    would, and all go on with the best of all; its callbacks ask for `progress.state()` while they are told, not later.
    Callbacks are told in every process: let one alone write. Steps are taken by PyTorch, not natively, but those of
    starts. What one process trains without the others stands under `with hdnn.ranks.alone():`.

    Args:
        network: trained in place, on the device where its parameters are.
        x: (s, ...), inputs; a tuple of tensors becomes `network(*x)`, a mapping `network(**x)`. Or, without y, a loader
            of batches (x, y) or (x, y, weight) that has a length, such as a `torch.utils.data.DataLoader`. Its batches
            need not be of one length: of graphs, x may be (nodes, edge_index, graph of every node), y one per graph.
            Images may be `hdnn.data.Pixels`, which become a tensor batch by batch.
        y: (s,) class indices, or (s, outputs) targets; what the loss asks for. Of a network of sequences that says
            `every` step (s, T) or (s, T, outputs); with inputs (x, lengths) its own loss and scores count the steps
            that sequences have, whatever stands at their padding, where scores of yours find -100, or nan for numbers.
        recipe: how; of a loader `batch_size` is not used.
        loss: from outputs and targets to their mean loss, such as `torch.nn.functional.cross_entropy`, or to one loss a
            sample, which weights of samples ask for; None takes that of a `Network`.
        sample_weight: (s,), w, not negative, in any unit: the loss of a batch is Σ w L / Σ w. Regularisers, and the
            scores in the records, training and validation, do not know them.
        validation: (inputs, targets), or a loader, to watch instead of the share `recipe.validation_fraction` of x and
            y.
        score: functions of outputs and targets of all samples, by the name of what they find, as in
            `{"accuracy": lambda output, y: (output.argmax(-1) == y).float().mean()}`, for the records. Outputs are then
            kept for an epoch.
        call: what every call of the network gets beside its inputs, by name; such as a graph that all samples share.
        callbacks: called with a `Progress` after every step, or as often as they ask for (see `hdnn.every`), but for
            the steps of the starts.
        start_callbacks: the same, with a `TogetherProgress`, of the starts of `recipe.restarts`, which all step at
            once.
        penalties: (weight, function of the network) pairs to add to the objective, see `Objective`.
        backend: "native" takes whole epochs of steps in one compiled call, for a `Network` with its own
            loss, on the CPU; "torch" takes each through PyTorch, for everything; "auto" is "native" where that serves
            (see `hdnn.training_backend`), and what took the steps before the pause where there was one. They agree up
            to rounding.
        resume: go on from here, towards `recipe.epochs` epochs in all. With data, recipe, device, number of threads
            and instruction set as before, weights and records get the bits that they would have had without the pause;
            where the state knows of others, a UserWarning says so. Other data or another recipe are accepted where an
            epoch has just ended; with a loader, whose order is not ours, training goes on from there alone.

    Returns:
        One record an epoch: "epoch", "loss" (mean objective), of a `Network` with its own loss "train_accuracy" or
        "train_error" (root mean square), what `score` asks for with "train_" before it, all while training, the same
        with "validation_" where there is validation data, "learning_rate", "seconds".

    Raises:
        TypeError: if there is no loss or no recipe, x and y are neither tensors nor a loader, or `score` or `call`
            have no names.
        ValueError: if x and y do not fit each other or the network, or are too few for a validation part, if nothing
            can be trained (frozen, no gradients), if the rows of x are the nodes of one graph, if a penalty or
            regulariser cannot be minimized, if starts cannot differ or train together, or if `resume` does not fit
            network, recipe and data.
        FloatingPointError: if objective, gradient or weights are no longer finite; the message says when, where and
            what to do.
        ConnectionError: if another of the processes that train together has ended.

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(200, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0))
        >>> history = fit(network, x, (x[:, 0] > 0).long(), Recipe(epochs=3))
        >>> len(history)
        3
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), hdnn.h2(4, layers=4, step=0.1), torch.nn.Linear(4, 1))
        >>> history = fit(model, x, x.prod(1, keepdim=True), Recipe(epochs=3), torch.nn.functional.mse_loss)
        >>> list(history[0])
        ['epoch', 'loss', 'learning_rate', 'seconds']
    """
    with refusing_together():
        recipe = checked_recipe(recipe, y)
        make = partial(objective_of, recipe=recipe, loss=loss, penalties=penalties, call=call)
        objective = make(network)
        check_trainable(network, recipe)
        if recipe.refit and (validation is not None or y is None):
            raise ValueError(
                "`refit` trains on what `fit` itself has held back of x and y, and "
                + ("a loader holds nothing back" if y is None else "`validation` names data to watch instead")
                + ". Leave one of them out."
            )
        if isinstance(validation, tuple):
            check_data(network, answers.marked(objective, Batch(*validation)), loss)
        elif validation is not None:
            Loader(validation, first_parameter(network).device)  # refuses what is none, before an epoch is trained
        source: Source
        if y is None:
            source = _of_loader(objective, x, recipe, sample_weight, validation)
        else:
            data = Batch(x, y, sample_weight)  # type: ignore[arg-type]
            source, validation = _of_tensors(objective, data, recipe, validation)
    trainings = Trainings(objective, make, score, tuple(callbacks), tuple(start_callbacks), backend)
    with modes.training(network):
        check_penalties(objective)
        if not recipe.refit:
            return trainings.once(recipe, source, validation, resume).history
        every_row, _ = _of_tensors(objective, data, dataclasses.replace(recipe, **SECOND), None)
        return trainings.twice(recipe, source, validation, every_row, resume)


def fit_together(
    networks: Sequence[nn.Module],
    x: Inputs,
    y: Tensor,
    recipe: Recipe,
    loss: Loss | None = None,
    *,
    seeds: Sequence[int],
    sample_weight: Tensor | None = None,
    penalties: Sequence[Penalty] = (),
    call: Call | None = None,
    callbacks: Iterable[TogetherCallback] = (),
    backend: TrainingBackend = "auto",
    resume: TogetherState | None = None,
) -> list[list[Record]]:
    """Train networks of one shape in place, all in one: as `fit` for each of them, and many times faster.

    A step of a small network is a hundred short operations, whose cost hardly depends on how many networks it serves.
    A member that diverges does not disturb the others: its records say nan from then on.

    Args:
        networks: E of them, alike but for their weights: each a `Network`, or any module with a loss.
        x: (E, s, ...), the inputs of each, as in `fit`; `x.expand(E, *x.shape)` gives all the same without copying.
        y: (E, s) class indices, or (E, s, outputs) targets; what the loss asks for.
        recipe: how; its own seed is not used. All but `validation_fraction`, `patience` and L-BFGS can be done
            together.
        loss: as in `fit`.
        seeds: of the order of the batches of each.
        sample_weight: (E, s), as in `fit`.
        penalties: as in `fit`.
        call: as in `fit`; the same for all.
        callbacks: called with a `TogetherProgress` after every step, or as often as they ask for; not during the starts
            of `recipe.restarts`.
        backend: as in `fit`.
        resume: go on from here, as in `fit`.

    Returns:
        For each member one record an epoch, as `fit` gives them; "seconds" is the time that all took together.

    Raises:
        TypeError: if there is no loss.
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
    recipe = checked_recipe(recipe)
    if recipe.augment:
        raise ValueError(
            "Networks that train together see their images as they are, and `augment` changes them. Leave it out, or "
            "train one after the other by `fit`."
        )
    data = Batch(x, y, sample_weight)
    objective = partial(objective_of, recipe=recipe, loss=loss, penalties=penalties, call=call)
    if networks:
        data = answers.marked(objective(networks[0]), data)
    if recipe.restarts > 1 and resume is None:
        check_together(networks, data, recipe, objective, seeds)
        start_well(networks, data, recipe, objective, seeds=seeds, backend=backend)
    return train_together(
        networks, data, recipe, objective, seeds=seeds, backend=backend, callbacks=callbacks, resume=resume
    )


def _of_tensors(
    objective: Objective, data: Batch, recipe: Recipe, validation: Validation | None
) -> tuple[Rows, Validation | None]:
    """Batches of tensors, and what is held back of them."""
    network: Any = objective.network
    check_lengths(data)
    data = answers.marked(objective, data)
    check_data(network, data._replace(weight=None), objective.loss)
    place = first_parameter(network).device
    x, y = each(lambda part: _usable(part, place), data.x), _usable(data.y, place)
    check_rows(network, x, objective.call, recipe.batch_size)
    weight = None if data.weight is None else checked_weight(data.weight, y, network)
    if validation is None and recipe.validation_fraction:
        stratify = objective.loss is None and network.task == "classification" and not answers.taught(objective)
        train, held = split(y, recipe.validation_fraction, recipe.seed, stratify=stratify)
        validation = (some(x, held), y[held])
        x, y = some(x, train), y[train]
        weight = None if weight is None else checked_weight(weight[train], y, network)
    size = len(y) if recipe.optimizer == "lbfgs" else recipe.batch_size
    if isinstance(x, Pixels) and (recipe.restarts > 1 or size == len(y)):
        x = torch.from_numpy(x[:]).to(place)  # of which all are asked for at once
    augmentation = Augmentation(recipe.augment, recipe.seed) if recipe.augment else None
    order = [torch.Generator().manual_seed(recipe.seed)]
    return Rows(Batch(x, y, weight), size, order, augmentation=augmentation, ranks=present()), validation


def _usable(value: Tensor, place: torch.device) -> Tensor:
    """A tensor where the model is, from which gradients can flow."""
    return (value.clone() if value.is_inference() else value).to(place)


def _of_loader(
    objective: Objective,
    loader: Iterable[Any] | Pixels,
    recipe: Recipe,
    sample_weight: Tensor | None,
    validation: Validation | None,
) -> Loader:
    """Batches of a loader, for a recipe that can be followed with one."""
    network = objective.network

    def checked(batch: Batch) -> Batch:
        batch = answers.marked(objective, batch)
        check_fit(network, batch._replace(weight=None), objective.loss)
        return batch

    def weighed(batch: Batch) -> Batch:
        weight = batch.weight
        return batch if weight is None else batch._replace(weight=batch_weight(weight, batch.y, network))

    source = Loader(loader, first_parameter(network).device, checked, weighed, present())
    for refused, what in (
        (sample_weight is not None, "takes weights of samples from the loader, as batches (x, y, weight)"),
        (
            recipe.validation_fraction > 0 and validation is None,
            "holds nothing back: use validation_fraction=0, or name data to watch by `validation`",
        ),
        (bool(recipe.augment), "takes images as the loader gives them: change them there, and leave `augment` out"),
        (recipe.restarts > 1, "has one start: `restarts` train together on tensors, each in its own order"),
        (recipe.optimizer == "lbfgs" and source.batches > 1, "cannot use L-BFGS, which takes all samples at once"),
    ):
        if refused:
            raise ValueError(f"Training from a loader {what}. Change that, or give tensors, fit(model, x, y, recipe).")
    return source


def split(y: Tensor, share: float, seed: int, *, stratify: bool) -> tuple[Tensor, Tensor]:
    """Indices of a training part and of a held-out part.

    Args:
        y: (s,) class indices, or (s, outputs) targets.
        share: of the held-out part.
        seed: of the split.
        stratify: keep the shares of the classes, unless one has a single row or a part cannot hold them all.

    Raises:
        ValueError: if no row is left to train on.
    """
    from hdnn.data.shares import drawn

    held_rows = math.ceil(share * len(y))
    if held_rows >= len(y):
        raise ValueError(
            f"Of {len(y)} rows, `validation_fraction={share:g}` leaves none to train on. Lower it, or add rows."
        )
    classes = None
    if stratify:
        counts = y.bincount()
        counts = counts[counts > 0]
        if int(counts.min()) > 1 and len(counts) <= min(held_rows, len(y) - held_rows):
            classes = y.cpu().numpy()
    train, held = drawn(len(y) - held_rows, held_rows, seed, classes)
    return torch.from_numpy(train), torch.from_numpy(held)
