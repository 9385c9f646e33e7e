"""The loop: epochs, batches, early stopping, callbacks.

Legend: s samples, x inputs, y targets. A step is one optimizer step on one batch.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hdnn import modes
from hdnn.networks import Network
from hdnn.training.checks import check_data, check_network, check_penalties, check_trainable, checked_weight
from hdnn.training.circumstances import circumstances, differing
from hdnn.training.diagnosis import stopped, where_states, where_weights
from hdnn.training.ensemble import start_well
from hdnn.training.objective import Objective, Penalty, Record, evaluate, mean_score, score_name, score_sum
from hdnn.training.progress import Callback, Progress, StartCallback
from hdnn.training.recipe import Recipe, make_optimizer, rate_factor
from hdnn.training.state import TrainingState, memory, remember
from hdnn.training.steps import alternating_step, joint_step, train_head
from hdnn.training.tensors import Weights, copied, require_alike, require_history, set_order
from hdnn.training.together import TogetherProgress, TogetherState


def fit(
    network: Network,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    sample_weight: Tensor | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    callbacks: Iterable[Callback] = (),
    start_callbacks: Iterable[StartCallback] = (),
    penalties: Sequence[Penalty] = (),
    resume: TrainingState | None = None,
) -> list[Record]:
    """Train a network in place.

    The order of the batches depends on `recipe.seed` alone; the initial weights are the caller's. With
    `recipe.restarts` they are one of several starts, of which the best is trained on; see `Recipe`. Whatever mode the
    modules have, they train in training mode, are validated in evaluation mode, and have their own again at the end.

    Args:
        network: trained in place, on the device where its parameters are.
        x: (s, ...), inputs.
        y: (s,) class indices, or (s, outputs) targets.
        recipe: how.
        sample_weight: (s,), w, not negative, in any unit: the loss of a batch is Σ w L / Σ w. Regularisers, and the
            scores in the records, training and validation, do not know them.
        validation: (inputs, targets) to watch instead of the share `recipe.validation_fraction` of x and y.
        callbacks: called with a `Progress` after every step, but for those of the starts.
        start_callbacks: called with a `TogetherProgress` after every step of the starts of `recipe.restarts`, which
            all step at once.
        penalties: (weight, function of the network) pairs to add to the objective, see `Objective`.
        resume: go on from here, towards `recipe.epochs` epochs in all. With data, recipe, device, number of threads
            and instruction set as before, weights and records get the bits that they would have had without the pause;
            where the state knows of others, a UserWarning says so. Other data or another recipe are accepted where an
            epoch has just ended.

    Returns:
        One record an epoch: "epoch", "loss" (mean objective), "train_accuracy" or "train_error" (root mean square)
        while training, the same with "validation_" where there is validation data, "learning_rate", "seconds".

    Raises:
        TypeError: if it is no `Network`, or x or y is no tensor.
        ValueError: if x and y do not fit each other or the network, or are too few for a validation part, if nothing
            can be trained (frozen, no gradients), if a penalty cannot be minimized, if starts cannot differ or
            train together, or if `resume` does not fit network, recipe and data.
        FloatingPointError: if objective, gradient or weights are no longer finite; the message says when, where and
            what to do.

    Example:
        >>> import torch, hdnn
        >>> x = torch.randn(200, 2)
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, horizon=1.0))
        >>> history = fit(network, x, (x[:, 0] > 0).long(), Recipe(epochs=3))
        >>> len(history)
        3
    """
    check_network(network, smoothness=recipe.smoothness)
    check_trainable(network, recipe)
    for part in ((x, y), *([validation] if validation is not None else [])):
        check_data(network, *part)
    device = network.head.weight.device
    x, y = (value.clone() if value.is_inference() else value.to(device) for value in (x, y))
    weight = None if sample_weight is None else checked_weight(sample_weight, y, x.dtype)
    if validation is None and recipe.validation_fraction:
        train, held = split(y, recipe.validation_fraction, recipe.seed, stratify=network.task == "classification")
        validation = (x[held], y[held])
        x, y = x[train], y[train]
        weight = None if weight is None else checked_weight(weight[train], y, x.dtype)
    with modes.training(network):
        objective = Objective(
            network,
            smoothness=recipe.smoothness,
            head_decay=recipe.head_decay,
            label_smoothing=recipe.label_smoothing,
            penalties=penalties,
        )
        check_penalties(objective)
        training = _Training(objective, recipe, len(x))
        if resume is not None:
            training.check(resume)
        if recipe.restarts > 1 and (resume is None or resume.is_starting):
            training.start_well(x, y, weight, tuple(start_callbacks), resume)
        elif resume is not None:
            training.resume(resume)
        training.run(x, y, weight, validation, tuple(callbacks))
        if recipe.method == "alternating":
            train_head(objective, x, y, recipe, weight)
        # The last step may diverge after the last objective was seen to be finite.
        training.require_finite()
    return training.history


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
    from sklearn.model_selection import train_test_split

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
    train, held = train_test_split(torch.arange(len(y)).numpy(), test_size=share, random_state=seed, stratify=classes)
    return torch.from_numpy(train), torch.from_numpy(held)


class _Training:
    """What changes from step to step while a network trains."""

    def __init__(self, objective: Objective, recipe: Recipe, rows: int) -> None:
        self.objective = objective
        self.network = objective.network
        self.recipe = recipe
        self.alternating = recipe.method == "alternating"
        self.size = rows if recipe.optimizer == "lbfgs" else recipe.batch_size
        self.batches = math.ceil(rows / self.size)
        head = {id(p) for p in self.network.head.parameters()} if self.alternating else set()
        trained = [p for p in self.network.parameters() if id(p) not in head]
        self.optimizer = make_optimizer(recipe, trained)
        self.rates = rate_factor(recipe, self.batches)
        self.circumstances = circumstances(self.network.head.weight.device)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.order = self.generator.get_state()
        self.best = _Best(recipe.patience)
        self.history: list[Record] = []
        # Summed up once an epoch: small steps are too short for more.
        self.losses: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.starts: TogetherState | None = None
        self.start = time.perf_counter()

    def start_well(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        callbacks: Sequence[StartCallback],
        resume: TrainingState | None,
    ) -> None:
        """Take the weights of the best of several starts."""

        def tell(progress: TogetherProgress[TogetherState]) -> None:
            told = TogetherProgress(
                progress.epoch,
                progress.epochs,
                progress.batch,
                progress.batches,
                progress.losses,
                progress.histories,
                lambda: dataclasses.replace(self.snapshot(), starts=progress.state()),
            )
            for callback in callbacks:
                callback(told)

        [self.starts] = start_well(
            [self.network],
            x[None],
            y[None],
            self.recipe,
            seeds=[self.recipe.seed],
            sample_weight=None if weight is None else weight[None],
            penalties=self.objective.penalties,
            callbacks=[tell] if callbacks else [],
            resume=None if resume is None else resume.starts,
        )
        self.start = time.perf_counter()

    def run(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        validation: tuple[Tensor, Tensor] | None,
        callbacks: Sequence[Callback],
    ) -> None:
        """Epoch after epoch, from where it stands to the end or until patience runs out."""
        for epoch in range(len(self.history) + 1, self.recipe.epochs + 1):
            if self.best.is_stuck:
                break
            permutation = torch.randperm(len(x), generator=self.generator).to(x.device)
            for batch, chosen in enumerate(torch.split(permutation, self.size), start=1):
                if batch <= len(self.losses):
                    continue
                loss = self.step(epoch, batch, x[chosen], y[chosen], None if weight is None else weight[chosen])
                if batch < self.batches and callbacks:
                    self.tell(callbacks, epoch, batch, loss, None)
            record = self.record(epoch, y[permutation], validation)
            self.tell(callbacks, epoch, self.batches, loss, record)
        self.best.restore(self.network)

    def step(self, epoch: int, batch: int, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """One step on one batch; its objective."""
        rate = self.rate((epoch - 1) * self.batches + batch - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        take_step = alternating_step if self.alternating else joint_step
        try:
            loss, output = take_step(self.objective, self.optimizer, x, y, self.recipe, weight)
        except (FloatingPointError, ValueError) as error:
            where = where_weights(self.network)
            # A penalty refuses weights that are not finite in its own words.
            if isinstance(error, FloatingPointError) or where:
                when = f"is infinite or not a number in epoch {epoch}, step {batch} of {self.batches}"
                where = where or where_states(self.network, x)
                raise FloatingPointError(stopped("objective", when, where)) from error
            raise
        self.losses.append(loss)
        self.outputs.append(output)
        return loss

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.recipe.learning_rate * self.rates(step)

    def record(self, epoch: int, y: Tensor, validation: tuple[Tensor, Tensor] | None) -> Record:
        """End an epoch. Its targets are in the order in which it saw them."""
        rate = self.rate((epoch - 1) * self.batches)
        record = {"epoch": float(epoch), "loss": _mean_loss(self.losses, self.outputs), "learning_rate": rate}
        if not math.isfinite(record["loss"]):
            when = f"became infinite or not a number in epoch {epoch}"
            raise FloatingPointError(stopped("objective", when, where_weights(self.network)))
        self.require_finite()
        scores = score_sum(self.network, torch.cat(self.outputs), y)
        record[f"train_{score_name(self.network)}"] = mean_score(self.network, float(scores), y)
        if validation is not None:
            watched = evaluate(self.network, *validation)
            record |= {f"validation_{name}": value for name, value in watched.items()}
        self.best.note(self.network, record)
        now = time.perf_counter()
        record["seconds"], self.start = now - self.start, now
        self.history.append(record)
        self.losses, self.outputs = [], []
        self.order = self.generator.get_state()
        return record

    def tell(self, callbacks: Sequence[Callback], epoch: int, batch: int, loss: Tensor, record: Record | None) -> None:
        """Tell callbacks of a step."""
        progress = Progress(epoch, self.recipe.epochs, batch, self.batches, loss, record, self.state)
        for callback in callbacks:
            callback(progress)

    def state(self) -> TrainingState:
        """The state of the moment, which must be finite."""
        self.require_finite()
        return self.snapshot()

    def snapshot(self) -> TrainingState:
        """The state of the moment."""
        head = self.network.head
        empty = head.weight.new_empty(0, head.out_features).detach()
        return TrainingState(
            network=copied(self.network.state_dict()),
            optimizer=memory(self.optimizer),
            order=self.order.clone(),
            losses=torch.stack(self.losses) if self.losses else empty.new_empty(0),
            outputs=torch.cat(self.outputs) if self.outputs else empty,
            history=tuple(dict(record) for record in self.history),
            seconds=time.perf_counter() - self.start,
            best=copied(self.best.weights),
            best_score=self.best.score,
            waited=self.best.waited,
            starts=self.starts,
            circumstances=self.circumstances,
        )

    def check(self, state: TrainingState) -> None:
        """See whether a state is of a training like this, and warn where it came about under other circumstances."""
        if state.is_starting and self.recipe.restarts == 1:
            raise ValueError("The training state stands among its `restarts`, and the recipe has none: it is another.")
        if changed := differing(state.circumstances or {}, self.circumstances):
            warnings.warn(
                f"The training state came about under other circumstances: {changed}. The last bits of the result may "
                f"differ from those of a training without the pause.",
                stacklevel=3,
            )

    def resume(self, state: TrainingState) -> None:
        """Go to a state."""
        mine = self.network.state_dict()
        require_alike("weights", state.network, mine)
        if state.best:
            require_alike("best weights", state.best, mine)
        seen = (state.batches * self.size, self.network.head.out_features)
        if state.batches and (state.batches >= self.batches or tuple(state.outputs.shape) != seen):
            raise ValueError(
                f"The training state stands after {state.batches} batches with outputs of shape "
                f"{tuple(state.outputs.shape)}, in an epoch of {self.batches} batches of {self.size}: it belongs to "
                f"other data or another recipe."
            )
        require_history(state.history, score_name(self.network))
        remember(self.optimizer, state.optimizer)
        set_order(self.generator, state.order)
        self.order = state.order.clone()
        self.network.load_state_dict(state.network)
        self.starts = state.starts
        self.best.weights = copied(state.best)
        self.best.score, self.best.waited = state.best_score, state.waited
        self.history = [dict(record) for record in state.history]
        device = self.network.head.weight.device
        self.losses = list(state.losses.to(device, copy=True).unbind())
        self.outputs = list(torch.split(state.outputs.to(device, copy=True), self.size)) if state.batches else []
        self.start = time.perf_counter() - state.seconds

    def require_finite(self) -> None:
        """Raise FloatingPointError if weights or the optimizer's memory are no numbers.

        A squared gradient may overflow where the gradient does not; Adam would then never move that weight again.
        """
        when = f"became infinite or not a number in epoch {len(self.history) + bool(self.losses)}"
        if where := where_weights(self.network):
            raise FloatingPointError(stopped("weights", when, where))
        kept = [value for each in self.optimizer.state.values() for value in each.values()]
        if not all(bool(value.isfinite().all()) for value in kept if isinstance(value, Tensor)):
            where = "The weights are still finite, but gradients were so large that their squares overflowed."
            raise FloatingPointError(stopped("memory of the optimizer", when, where))


class _Best:
    """The best weights by validation score, or by the objective where nothing is held back, if training may stop."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.score = (-math.inf, -math.inf)
        self.waited = 0
        self.weights: Weights = {}

    @property
    def is_stuck(self) -> bool:
        """True when patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def note(self, network: Network, record: Record) -> None:
        """Note an epoch."""
        if self.patience is None:
            return
        score = (record.get("validation_accuracy", 0.0), -record.get("validation_loss", record["loss"]))
        if score > self.score:
            self.score, self.waited = score, 0
            self.weights = copied(network.state_dict())
        else:
            self.waited += 1

    def restore(self, network: Network) -> None:
        """Put the best weights back."""
        if self.weights:
            network.load_state_dict(self.weights)


def _mean_loss(losses: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """The mean over samples of the losses of batches."""
    sizes = torch.tensor([len(output) for output in outputs], dtype=torch.float64)
    return float(torch.stack(list(losses)).to("cpu", torch.float64) @ sizes / sizes.sum())
