"""Estimators of sequences: arrays of three axes, or sequences of several lengths, with scikit-learn's interface.

Legend: s sequences, T steps of the longest, d numbers a step, n hidden features, h step of the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from hdnn.estimator.settings import check_truths, checked_weight, floating_point, in_own_words, unchanged_by_failure
from hdnn.estimator.targets import Array, ClassWeight, Labels, Quantities, Targets, classes_in, plain_kind
from hdnn.flow.settings import step_size
from hdnn.modes import evaluating
from hdnn.networks import SequenceNetwork, class_probabilities, sequence_classifier, sequence_regressor
from hdnn.options import Optimizer
from hdnn.recurrent import HamiltonianRNN
from hdnn.training import Recipe, fit
from hdnn.training.devices import require_device

HORIZON = 20.0  # T h, of the longest sequence that was learned from
_AT_ONCE = 256  # sequences that are predicted together


class Padded:
    """Sequences of one length, zeros behind the shorter ones.

    Args:
        X: (s, T, d) or (s, T), or a list of arrays (T_i, d) or (T_i,).

    Attributes:
        names: of the d numbers, where sequences are data frames, else None.

    Raises:
        ValueError: if they are not sequences of numbers, all finite, of one d, or data frames whose columns differ.
    """

    def __init__(self, X: Any) -> None:
        if hasattr(X, "columns"):
            raise ValueError(
                "X is a data frame, whose rows may be sequences or steps. If each row is a sequence of one number a "
                "step, give X.to_numpy(). If each row is a step, give a list of arrays: [rows[columns].to_numpy() for "
                "_, rows in X.groupby(name)]."
            )
        self.names: list[Any] | None = None
        rows, first = [], 0
        for i, row in enumerate(X):
            rows.append(_numbers(row, i))
            names = [*row.columns] if hasattr(row, "columns") else self.names
            if self.names is None:
                self.names, first = names, i
            elif names != self.names:
                raise ValueError(
                    f"All sequences have the same columns in one order; those of sequence {first} are {self.names}, "
                    f"those of sequence {i} {names}. Choose them, as in [sequence[columns] for sequence in X]."
                )
        if not rows:
            raise ValueError("There are no sequences; got an empty X.")
        if len(sizes := {row.shape[1] for row in rows}) > 1:
            raise ValueError(f"All sequences have as many numbers a step; got {sorted(sizes)}.")
        self.lengths = np.array([len(row) for row in rows])
        self.values = np.zeros((len(rows), int(self.lengths.max()), rows[0].shape[1]))
        for place, row in zip(self.values, rows, strict=True):
            place[: len(row)] = row

    def inside(self) -> NDArray[np.bool_]:
        """Which steps are there, (s, T)."""
        there: NDArray[np.bool_] = np.arange(self.values.shape[1]) < self.lengths[:, None]
        return there


def _numbers(row: Any, place: int) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(row)
        if numbers.dtype.kind == "c":
            raise TypeError("complex numbers")
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Sequence {place} of X holds what is no number: {str(error).splitlines()[0]}.") from error
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or 0 in numbers.shape:
        raise ValueError(
            f"X holds sequences of shape (T, d), at least one step and one number each; sequence {place} has "
            f"{numbers.shape}. Arrays are (s, T, d): those of aeon and sktime, (s, d, T), need X.transpose(0, 2, 1)."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"Sequence {place} of X has missing or infinite numbers. Fill them in first.")
    return numbers


@dataclass(eq=False, repr=False)
class SequenceEstimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator that fits a recurrent Hamiltonian network to sequences: see its two kinds."""

    model: str = "h2"
    _: KW_ONLY
    hidden_size: int = 64
    num_layers: int = 1
    horizon: float | None = None
    damping: float | None = None
    epochs: int = 100
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    learning_rate: float = 0.005
    weight_decay: float = 0.01
    clip: float | None = 1.0
    validation_fraction: float = 0.0
    n_iter_no_change: int | None = None
    standardize: bool = True
    dtype: str = "float32"
    device: str = "cpu"
    random_state: int | np.random.RandomState | None = None

    @abstractmethod
    def _targets_of(self, y: Array, weight: Array | None) -> Targets:
        """How targets are written for a network."""

    @abstractmethod
    def _network(self, rnn: HamiltonianRNN, outputs: int) -> SequenceNetwork:
        """The network of so many outputs."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a network to sequences.

        Args:
            X: (s, T, d), or (s, T) of one number a step, or a list of arrays (T_i, d).
            y: (s,), targets.
            sample_weight: (s,), not negative; None weighs all sequences alike. Those of weight 0 take no part.

        Returns:
            Itself.

        Raises:
            ValueError: if data or arguments make no sense; the message names them.
            FloatingPointError: if training diverged.
        """
        with unchanged_by_failure(self):
            check_truths(self, "standardize")
            return self._learn(*self._read(X, y, sample_weight))

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Padded, Array, Array | None]:
        """The sequences that take part, their targets and their weights."""
        rows = X if hasattr(X, "columns") else [*X]
        padded, t = Padded(rows), column_or_1d(plain_kind(y))
        if len(t) != len(rows):
            raise ValueError(f"X holds {len(rows)} sequences, and y {len(t)} targets.")
        assert_all_finite(t, input_name="y")
        if sample_weight is None:
            return padded, t, None
        weight = checked_weight(sample_weight, len(t))
        there = weight > 0
        if not there.all():
            padded = Padded([row for row, some in zip(rows, there, strict=True) if some])
        return padded, t[there], weight[there]

    def _learn(self, padded: Padded, t: Array, given: Array | None) -> Self:
        targets = self._targets_of(t, given)
        weight = targets.weights(t, given)
        inside = padded.values[padded.inside()]
        T, d = padded.values.shape[1:]
        if self.standardize:
            some = None if weight is None or not weight.any() else weight  # training refuses those that are all zero
            of_steps = None if some is None else np.repeat(some, padded.lengths)
            scaler = StandardScaler().fit(inside, sample_weight=of_steps)
            self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        else:
            self.mean_, self.scale_ = np.zeros(d), np.ones(d)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        dtype, device = floating_point(self.dtype), require_device(self.device)
        horizon = HORIZON if self.horizon is None else self.horizon
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rnn = HamiltonianRNN(
                d, self.hidden_size, self.num_layers, model=self.model,  # type: ignore[arg-type]
                step=step_size(T, None, horizon), damping=self.damping, dtype=dtype,
            )  # fmt: skip
            network = self._network(rnn, targets.outputs).to(device)
        with in_own_words():
            recipe = Recipe(
                epochs=self.epochs, batch_size=self.batch_size, optimizer=self.optimizer, clip=self.clip,
                learning_rate=self.learning_rate, weight_decay=self.weight_decay, seed=seed,
                patience=self.n_iter_no_change, validation_fraction=self.validation_fraction, **self._more(),
            )  # fmt: skip
        self.network_, self._dtype, self._targets = network, dtype, targets
        self.history_ = fit(
            network, self._inputs(padded), targets.encode(t, dtype), recipe,
            sample_weight=None if weight is None else torch.from_numpy(weight),
        )  # fmt: skip
        self.n_features_in_, self._names = d, padded.names
        self.n_iter_ = len(self.history_)
        return self

    def _more(self) -> dict[str, Any]:
        """What else is said of the recipe."""
        return {}

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a fit has succeeded."""
        return hasattr(self, "n_iter_")

    def _inputs(self, padded: Padded) -> tuple[Tensor, Tensor]:
        values = (padded.values - self.mean_) / self.scale_
        return torch.from_numpy(values).to(self._dtype), torch.from_numpy(padded.lengths)

    def _outputs(self, X: Any) -> Array:
        """What the network says to sequences, (s, outputs)."""
        check_is_fitted(self)
        padded = Padded(X)
        if padded.values.shape[2] != self.n_features_in_:
            raise ValueError(
                f"The sequences had {self.n_features_in_} numbers a step in `fit`; got {padded.values.shape[2]}."
            )
        before = getattr(self, "_names", None)  # pickles of earlier versions have none
        if before and padded.names and padded.names != before:
            raise ValueError(f"The columns of the sequences were {before} in `fit`; got {padded.names}. Reorder them.")
        x, lengths = self._inputs(padded)
        device = self.network_.head.weight.device
        with torch.no_grad(), evaluating(self.network_):
            parts = [
                self.network_(part.to(device), length.to(device)).cpu()
                for part, length in zip(torch.split(x, _AT_ONCE), torch.split(lengths, _AT_ONCE), strict=True)
            ]
        return np.asarray(torch.cat(parts), dtype=np.float64)


@dataclass(eq=False, repr=False, kw_only=True)
class HamiltonianSequenceClassifier(ClassifierMixin, SequenceEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A recurrent Hamiltonian network for the classes of sequences.

    P(c | u) = softmax(W y_T + μ)_c, y_t = step(y_{t−1}; b + V u_t); two classes share one logit.

    Args:
        model: as for `HamiltonianRNN`: "h2", "ms2", "unicornn", ...
        hidden_size: n.
        num_layers: L.
        horizon: T h, T the steps of the longest sequence; None takes 20.
        damping: of the momenta, see `HamiltonianRNN`.
        epochs: passes over the sequences, at most.
        batch_size: sequences a step.
        optimizer: "adamw", "adam", "sgd" or "lbfgs".
        learning_rate: the largest rate.
        weight_decay: of all weights.
        clip: largest norm of the gradient; None leaves it alone.
        validation_fraction: share of the sequences held back to watch.
        n_iter_no_change: epochs without a better validation score before training stops; None never stops.
        standardize: scale every number of a step to mean 0 and standard deviation 1 first.
        dtype: "float32" or "float64".
        device: "cpu", "cuda" or another that PyTorch knows.
        random_state: of weights, order and validation part.
        label_smoothing: share of probability spread evenly over the classes in training.
        class_weight: as for `HamiltonianClassifier`.

    Attributes:
        classes_: the labels in order.
        network_: the `hdnn.SequenceNetwork`; it reads scaled sequences.
        history_: one record an epoch.
        n_features_in_: d.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 12, 2))
        >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
        >>> model = HamiltonianSequenceClassifier(hidden_size=8, epochs=30, random_state=0).fit(X, y)
        >>> model.predict_proba(X).shape
        (40, 2)
    """

    label_smoothing: float = 0.0
    class_weight: ClassWeight = None

    @property
    def classes_(self) -> Array:
        """The labels in order."""
        found: Array = cast(Labels, self._targets).classes
        return found

    def predict(self, X: Any) -> Array:
        """The most probable label of each sequence, (s,)."""
        scores = self.decision_function(X)
        return np.asarray(self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)])

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (s, classes)."""
        return class_probabilities(torch.from_numpy(self._outputs(X))).numpy()

    def decision_function(self, X: Any) -> Array:
        """Logits: (s,) for two classes, positive for the second; (s, classes) for more."""
        logits = self._outputs(X)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def _targets_of(self, y: Array, weight: Array | None) -> Labels:
        found = classes_in(y)
        check_classification_targets(y)
        return Labels(found, self.class_weight)

    def _network(self, rnn: HamiltonianRNN, outputs: int) -> SequenceNetwork:
        return sequence_classifier(rnn, outputs)

    def _more(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing}


@dataclass(eq=False, repr=False, kw_only=True)
class HamiltonianSequenceRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A recurrent Hamiltonian network for a number of each sequence: W y_T + μ.

    Its arguments are those of `HamiltonianSequenceClassifier` but for classes; targets are scaled as inputs are.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 12, 2))
        >>> model = HamiltonianSequenceRegressor(hidden_size=8, epochs=30, random_state=0)
        >>> model.fit(X, X[:, :, 0].sum(1)).predict(X).shape
        (40,)
    """

    def predict(self, X: Any) -> Array:
        """The number of each sequence, (s,)."""
        outputs = self._outputs(X)
        found: Array = cast(Quantities, self._targets).decode(outputs)
        return found

    def _targets_of(self, y: Array, weight: Array | None) -> Quantities:
        return Quantities(np.asarray(y, dtype=np.float64), weight, standardize=self.standardize)

    def _network(self, rnn: HamiltonianRNN, outputs: int) -> SequenceNetwork:
        return sequence_regressor(rnn, outputs)
