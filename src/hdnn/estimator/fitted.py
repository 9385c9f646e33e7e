"""A network with what stands before and after it: the scale of its inputs and the meaning of its outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdnn.estimator.pieces import PiecewiseLinearEncoder
from hdnn.estimator.targets import Array, Targets
from hdnn.modes import evaluating
from hdnn.networks import Network
from hdnn.training import Callback, Progress, Recipe, Record, TrainingState, every, fit
from hdnn.training.devices import using_threads, worthwhile_threads
from hdnn.training.objective import batches


@dataclass
class Fitted:
    """What an estimator has learned.

    Args:
        network: reads standardised inputs.
        encoder: of the rows.
        targets: what the outputs mean.
        seed: of the initial weights, the order of the batches and the validation part.
        state: the optimizer's memory, after `partial_fit`.
        history: one record an epoch.
        search: the same of the training that found the number of epochs.
        optimizer: whose memory it is.
    """

    network: Network
    encoder: PiecewiseLinearEncoder
    targets: Targets
    seed: int
    state: TrainingState | None = None
    history: list[Record] = field(default_factory=list)
    search: list[Record] = field(default_factory=list)
    optimizer: str | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also what earlier versions pickled: a scaler, or None, in place of the encoder."""
        if "encoder" not in state:
            scaler = state.pop("scaler")
            encoder = PiecewiseLinearEncoder(bins=0, standardize=scaler is not None)
            encoder.scaler_, encoder.edges_ = scaler, []
            state |= {"encoder": encoder, "search": []}
        vars(self).update(state)

    def widen(self, x: Array, y: Array, weight: Array | None) -> None:
        """Take more rows into the scale of the inputs and targets."""
        self.encoder.widen(x, self.targets.weights(y, weight))
        self.targets.update(y, weight)

    def train(
        self,
        x: Array,
        y: Array,
        weight: Array | None,
        recipe: Recipe,
        *,
        callbacks: Sequence[Callback],
        remember: bool = False,
    ) -> None:
        """Train the network.

        Args:
            x: (s, d), rows.
            y: their targets.
            weight: (s,), or None.
            recipe: how.
            callbacks: told while it trains.
            remember: go on with the optimizer's memory of the last call, and keep it for the next.

        Raises:
            ValueError: if that is the memory of another optimizer.
        """
        if remember and self.state and self.optimizer and _kind(self.optimizer) != _kind(recipe.optimizer):
            raise ValueError(
                f'`partial_fit` goes on with the memory of the optimizer, which was "{self.optimizer}" in the last '
                f'call and is "{recipe.optimizer}" now. Set it back, or begin anew with `fit`.'
            )
        inputs = self.inputs(x)
        targets = self.targets.encode(y, inputs.dtype)
        weight = self.targets.weights(y, weight)
        last: list[Progress] = []
        keeps = remember or recipe.refit

        @every(epochs=1)
        def note(progress: Progress) -> None:
            last[:] = [progress]

        rows = len(x) if recipe.optimizer == "lbfgs" else min(len(x), recipe.batch_size)
        with using_threads(worthwhile_threads(rows * self.network.head.in_features)):
            self.history += fit(
                self.network,
                inputs,
                targets,
                recipe,
                sample_weight=None if weight is None else torch.from_numpy(weight),
                callbacks=(*callbacks, note) if keeps else callbacks,
                resume=self.state if remember else None,
            )
        if recipe.refit:
            self.search = list(last[0].search)
        # Other rows come next: that threads may then be more or fewer is nothing to warn of.
        self.state = dataclasses.replace(last[0].state(), history=(), circumstances=None) if remember else None
        self.optimizer = recipe.optimizer if remember else None
        for epoch, record in enumerate(self.history, start=1):
            record["epoch"] = float(epoch)

    def inputs(self, x: Array) -> Tensor:
        """Rows as inputs of the network, (s, d).

        Raises:
            ValueError: if they are too large for its kind of numbers.
        """
        dtype = self.network.head.weight.dtype
        found = torch.from_numpy(np.ascontiguousarray(self.encoder.encode(x))).to(dtype)
        if not bool(found.isfinite().all()):
            raise ValueError(
                f"X has values that are too large for {dtype}: up to {np.abs(x).max():g}. Correct them, scale the "
                f'columns, or use dtype="float64".'
            )
        return found

    def features(self, x: Array) -> Tensor:
        """The state after the flow, (s, n)."""
        head = self.network.head
        parts = batches(self.inputs(x))
        threads = worthwhile_threads(len(parts[0]) * head.in_features)
        with torch.no_grad(), evaluating(self.network), using_threads(threads):
            return torch.cat([self.network.features(part.to(head.weight.device)) for part in parts])

    def outputs(self, x: Array) -> Array:
        """What the network says to rows, (s, outputs), float64."""
        features = self.features(x)
        with torch.no_grad(), evaluating(self.network):
            return np.asarray(self.network.head(features).cpu(), dtype=np.float64)


def _kind(optimizer: str) -> str:
    """Of an optimizer, what its memory is like."""
    return "adam" if optimizer == "adamw" else optimizer
