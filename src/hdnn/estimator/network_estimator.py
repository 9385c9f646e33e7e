"""What the estimators have in common: a table in, a network fitted to it, its outputs out.

Legend: s rows, d columns of X, n features of the state, N layers, T = N h horizon.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from hdnn.arguments import whole
from hdnn.estimator.fitted import Fitted
from hdnn.estimator.settings import (
    batch_rows,
    checked_weight,
    dtype_of,
    floating_point,
    horizon_of,
    state_size,
)
from hdnn.estimator.targets import Array, Targets
from hdnn.flow.settings import step_size
from hdnn.networks import Lift, Network, NetworkConfig, build_network
from hdnn.options import NetworkChoices, Optimizer, TrainingChoices, plain
from hdnn.renames import ESTIMATOR, told
from hdnn.training import Callback, Progress, Recipe, every
from hdnn.training.devices import require_device

_SHOWN = ("loss", "train_accuracy", "train_error", "validation_loss", "validation_accuracy", "validation_error")


@dataclass(eq=False, repr=False)
class NetworkEstimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator that fits a Hamiltonian network to a table: see its three kinds."""

    model: str = "h2"
    _: KW_ONLY
    layers: int = 8
    horizon: float | None = None
    features: int | None = None
    lift: Lift | None = None
    activation: str = "tanh"
    interconnection: str | None = None
    integrator: str | None = None
    width: int | None = None
    shared: bool = False
    init_std: float | None = None
    epochs: int = 40
    batch_size: int | None = None
    optimizer: Optimizer = "adamw"
    learning_rate: float = 0.02
    weight_decay: float = 0.1
    smoothness: float = 0.0
    head_decay: float = 0.0
    clip: float | None = None
    validation_fraction: float = 0.0
    n_iter_no_change: int | None = None
    standardize: bool = True
    warm_start: bool = False
    dtype: str | None = None
    device: str = "cpu"
    verbose: bool = False
    random_state: int | np.random.RandomState | None = None

    def set_params(self, **params: Any) -> Self:
        """Set arguments by name, as scikit-learn's searches do; old names are understood, too."""
        super().set_params(**told(params, ESTIMATOR))
        return self

    @abstractmethod
    def _new_targets(self, y: Array, weight: Array | None, classes: Array | None) -> Targets:
        """How targets are written for a network."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a network to a table.

        Args:
            X: (s, d), numbers: an array, a data frame or lists.
            y: (s,), targets; (s, outputs) for several quantities.
            sample_weight: (s,), not negative; None weighs all rows alike. Rows of weight 0 take no part.

        Returns:
            Itself.

        Raises:
            ValueError: if data or arguments make no sense; the message names them.
            TypeError: if X is sparse, or an argument is of the wrong kind.
            FloatingPointError: if training diverged; the message says what to do.
        """
        going_on = bool(self.warm_start) and hasattr(self, "network_")
        x, t, weight = self._read(X, y, sample_weight, reset=not going_on)
        fitted = copy.deepcopy(self._fitted) if going_on else self._start(x, t, weight, None)
        fitted.train(x, t, weight, self._recipe(len(x), fitted.seed), callbacks=self._callbacks())
        return self._finish(fitted)

    def _fit_more(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        """One epoch at a constant rate on more rows, with the optimizer's memory of the last call."""
        first = not hasattr(self, "network_")
        x, t, weight = self._read(X, y, sample_weight, reset=first)
        if first:
            fitted = self._start(x, t, weight, None if classes is None else np.unique(classes))
        else:
            fitted = copy.deepcopy(self._fitted)
            fitted.widen(x, t, weight)
        recipe = self._recipe(len(x), fitted.seed)
        one = dataclasses.replace(recipe, epochs=1, schedule="constant", validation_fraction=0.0, patience=None)
        fitted.train(x, t, weight, one, callbacks=self._callbacks(), remember=True)
        return self._finish(fitted)

    def _read(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Array, Array, Array | None]:
        """The rows that take part, their targets and their weights."""
        tags = self.__sklearn_tags__()
        x, t = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=[np.float64, np.float32],
            order="C",  # sums over rows in memory and over columns differ in their last bits
            multi_output=tags.target_tags.multi_output,
            y_numeric=tags.estimator_type == "regressor",
        )
        if sample_weight is None:
            return x, t, None
        weight = checked_weight(sample_weight, len(x))
        return x[weight > 0], t[weight > 0], weight[weight > 0]

    def _start(self, x: Array, t: Array, weight: Array | None, classes: Array | None) -> Fitted:
        """A fresh network for data of this size, and what stands before and after it."""
        device = require_device(self.device)
        targets = self._new_targets(t, weight, classes)
        config = self._config(len(x), x.shape[1], targets)
        dtype = floating_point(dtype_of(config.features, x.dtype) if self.dtype is None else self.dtype)
        scaler = StandardScaler().fit(x, sample_weight=targets.weights(t, weight)) if self.standardize else None
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(config, init_std=self.init_std)
        return Fitted(network.to(device, dtype), scaler, targets, seed)

    def _config(self, rows: int, inputs: int, targets: Targets) -> NetworkConfig:
        chosen = plain(NetworkChoices, self.get_params())
        del chosen["init_std"]
        layers, horizon = chosen["layers"], chosen.pop("horizon")
        features = chosen["features"] = state_size(inputs) if self.features is None else chosen["features"]
        chosen["step"] = step_size(layers, None, horizon_of(rows, inputs) if horizon is None else horizon)
        chosen["shared"] = bool(self.shared)
        chosen["lift"] = self.lift or ("zeros" if features >= inputs else "linear")
        return NetworkConfig(targets.task, (inputs,), targets.outputs, **chosen)

    def _recipe(self, rows: int, seed: int) -> Recipe:
        chosen = plain(TrainingChoices, self.get_params())
        chosen["batch_size"] = batch_rows(rows) if self.batch_size is None else chosen["batch_size"]
        patience = None if self.n_iter_no_change is None else whole("n_iter_no_change", self.n_iter_no_change)
        try:
            return Recipe(**chosen, patience=patience, seed=seed)
        except ValueError as error:
            raise ValueError(str(error).replace("`patience`", "`n_iter_no_change`")) from None

    def _callbacks(self) -> tuple[Callback, ...]:
        return (_show,) if self.verbose else ()

    def _finish(self, fitted: Fitted) -> Self:
        """Keep what was learned; only now, so that a fit that failed leaves the last one as it was."""
        self._fitted = fitted
        self.network_: Network = fitted.network
        self.history_ = fitted.history
        self.loss_curve_ = [record["loss"] for record in fitted.history]
        self.n_iter_ = len(fitted.history)
        return self

    def _table(self, X: Any) -> Array:
        """A table like the one of `fit`."""
        check_is_fitted(self)
        x: Array = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], order="C")
        return x

    def _outputs(self, X: Any) -> Array:
        """What the network says to the rows of a table, (s, outputs)."""
        x = self._table(X)
        return self._fitted.outputs(x)


@every(epochs=1)
def _show(progress: Progress) -> None:
    """One line an epoch."""
    if progress.record is not None:
        numbers = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in progress.record.items() if name in _SHOWN]
        print(f"Epoch {progress.epoch} of {progress.epochs}: {', '.join(numbers)}")
