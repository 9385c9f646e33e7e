"""What the estimators have in common: a table in, a network fitted to it, its outputs out.

Legend: s rows, d columns of X, n features of the state, N layers, T = N h horizon.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from hdnn.arguments import whole
from hdnn.estimator.fitted import Fitted
from hdnn.estimator.pieces import PiecewiseLinearEncoder
from hdnn.estimator.settings import (
    check_truths,
    checked_weight,
    dtype_of,
    floating_point,
    in_own_words,
    naming_what_helps,
    unchanged_by_failure,
)
from hdnn.estimator.targets import Array, Targets, classes_in, plain_kind
from hdnn.flow.settings import step_size
from hdnn.networks import Lift, Network, NetworkConfig, build_network
from hdnn.options import NetworkChoices, Optimizer, TrainingChoices, plain
from hdnn.renames import ESTIMATOR, told
from hdnn.training import Callback, Progress, Recipe, every, tabular
from hdnn.training.devices import require_device

_SHOWN = ("loss", "train_accuracy", "train_error", "validation_loss", "validation_accuracy", "validation_error")
_TRUTHS = ("shared", "encode", "standardize", "warm_start")


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
    damping: float | None = None
    width: int | None = None
    shared: bool = False
    init_std: float | None = None
    bins: int = tabular.BINS
    encode: bool = True
    epochs: int = tabular.EPOCHS
    batch_size: int | None = None
    optimizer: Optimizer = "adamw"
    learning_rate: float = tabular.LEARNING_RATE
    weight_decay: float = tabular.WEIGHT_DECAY
    smoothness: float = 0.0
    head_decay: float = 0.0
    clip: float | None = None
    early_stopping: bool | Literal["auto"] = "auto"
    validation_fraction: float | None = None
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
        with unchanged_by_failure(self):
            check_truths(self, *_TRUTHS)
            going_on = bool(self.warm_start) and hasattr(self, "network_")
            x, t, weight = self._read(X, y, sample_weight, reset=not going_on)
            fitted = copy.deepcopy(self._fitted) if going_on else self._start(x, t, weight, None)
            fitted.train(x, t, weight, self._recipe(len(x), fitted.seed), callbacks=self._callbacks())
            return self._finish(fitted)

    def _fit_more(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        """One epoch at a constant rate on more rows, with the optimizer's memory of the last call."""
        first = not hasattr(self, "network_")
        with unchanged_by_failure(self):
            check_truths(self, *_TRUTHS)
            x, t, weight = self._read(X, y, sample_weight, reset=first)
            if first:
                fitted = self._start(x, t, weight, None if classes is None else classes_in(classes))
            else:
                self._fitted.targets.check_classes(classes)
                fitted = copy.deepcopy(self._fitted)
                fitted.widen(x, t, weight)
            recipe = self._recipe(len(x), fitted.seed)
            one = dataclasses.replace(
                recipe, epochs=1, schedule="constant", validation_fraction=0.0, patience=None, refit=False
            )
            fitted.train(x, t, weight, one, callbacks=self._callbacks(), remember=True)
            return self._finish(fitted)

    def _read(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Array, Array, Array | None]:
        """The rows that take part, their targets and their weights."""
        tags = self.__sklearn_tags__()
        with naming_what_helps(self):
            x, t = validate_data(
                self,
                X,
                plain_kind(y),
                reset=reset,
                dtype=[np.float64, np.float32],
                order="C",  # sums over rows in memory and over columns differ in their last bits
                multi_output=tags.target_tags.multi_output,
                y_numeric=tags.estimator_type == "regressor",
            )
        t = np.ascontiguousarray(t)
        if sample_weight is None:
            return x, t, None
        weight = checked_weight(sample_weight, len(x))
        return x[weight > 0], t[weight > 0], weight[weight > 0]

    def _start(self, x: Array, t: Array, weight: Array | None, classes: Array | None) -> Fitted:
        """A fresh network for data of this size, and what stands before and after it."""
        device = require_device(self.device)
        targets = self._new_targets(t, weight, classes)
        encoder = PiecewiseLinearEncoder(self.bins if self.encode else 0, standardize=self.encode and self.standardize)
        encoder.fit(x, sample_weight=targets.weights(t, weight))
        config = self._config(encoder.width, targets)
        dtype = floating_point(dtype_of(config.features, len(x), x.dtype) if self.dtype is None else self.dtype)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(config, init_std=self.init_std)
        return Fitted(network.to(device, dtype), encoder, targets, seed)

    def _config(self, inputs: int, targets: Targets) -> NetworkConfig:
        chosen = plain(NetworkChoices, self.get_params())
        del chosen["init_std"]
        layers, horizon = chosen["layers"], chosen.pop("horizon")
        features = tabular.features_for(inputs) if self.features is None else chosen["features"]
        chosen["features"] = features
        chosen["step"] = step_size(layers, None, tabular.HORIZON if horizon is None else horizon)
        chosen["shared"] = bool(self.shared)
        chosen["lift"] = self.lift or ("zeros" if features >= inputs else "linear")
        return NetworkConfig(targets.task, (inputs,), targets.outputs, **chosen)

    def _recipe(self, rows: int, seed: int) -> Recipe:
        chosen = plain(TrainingChoices, self.get_params())
        chosen["batch_size"] = tabular.batch_for(rows) if self.batch_size is None else chosen["batch_size"]
        patience = None if self.n_iter_no_change is None else whole("n_iter_no_change", self.n_iter_no_change)
        share, stops = chosen.pop("validation_fraction"), self._stops_early(rows)
        if share is None:
            share = tabular.VALIDATION_FRACTION if stops else 0.0
        if stops and patience is None:
            patience = tabular.PATIENCE
        with in_own_words():
            return Recipe(**chosen, validation_fraction=share, patience=patience, refit=stops, seed=seed)

    def _stops_early(self, rows: int) -> bool:
        """Whether the number of epochs is to be found on a part held back."""
        if isinstance(self.early_stopping, bool | np.bool_):
            return bool(self.early_stopping)
        if self.early_stopping != "auto":
            raise ValueError(f'`early_stopping` must be true, false or "auto"; got {self.early_stopping!r}.')
        # Who watches a part of the rows, or stops by it, keeps what that has meant all along.
        return self.validation_fraction is None and self.n_iter_no_change is None and tabular.is_searched(rows)

    def _callbacks(self) -> tuple[Callback, ...]:
        return (_show,) if self.verbose else ()

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a fit has succeeded."""
        return hasattr(self, "_fitted")

    def _finish(self, fitted: Fitted) -> Self:
        """Keep what was learned; only now, so that a fit that failed leaves the last one as it was."""
        self._fitted = fitted
        self.network_: Network = fitted.network
        self.history_ = fitted.history
        self.search_history_ = fitted.search
        self.loss_curve_ = [record["loss"] for record in fitted.history]
        self.n_iter_ = len(fitted.history)
        return self

    def _table(self, X: Any) -> Array:
        """A table like the one of `fit`."""
        check_is_fitted(self)
        with naming_what_helps(self):
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
        where = " (all rows)" if progress.search else ""
        print(f"Epoch {progress.epoch} of {progress.epochs}{where}: {', '.join(numbers)}")
