"""The features after the flow, as a transformer with scikit-learn's interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from hdnn.estimator.network_estimator import NetworkEstimator
from hdnn.estimator.targets import Array, Labels, Quantities, Targets, classes_in
from hdnn.networks import Task
from hdnn.renames import ESTIMATOR, renamed


@renamed(ESTIMATOR)
@dataclass(eq=False, repr=False, kw_only=True)
class HamiltonianFeatures(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    NetworkEstimator,
):
    """The state after the flow of a network that was fitted to targets: learned features for another model.

    y_N = flow(lift(z)), z = x scaled and in pieces. The network is the one that `HamiltonianClassifier` or
    `HamiltonianRegressor` would fit; its output layer, which sees y_N alone, makes classes linearly separable there.

    Args:
        model: "ms1", "ms2", "ms3", "h1" or "h2".
        layers: N.
        horizon: T = N h, kept when another depth is asked for; None takes 0.8.
        features: n; None takes twice the numbers of an encoded row, at least 16 and at most 128.
        lift: "zeros" appends zeros to a row, "linear" learns a linear map to n; None takes zeros where they suffice.
        activation: σ: "tanh", "relu", "leaky_relu", "sigmoid", "softplus" or "identity".
        interconnection: J of h1 and h2, "canonical" or "upper_ones"; None is canonical.
        integrator: the method, where it fits the model: "forward_euler", "symplectic_euler", "stormer_verlet",
            "yoshida4", "suzuki4", "implicit_midpoint", "runge_kutta4", "gauss_legendre" or "discrete_gradient"; None is
            the model's own.
        damping: rate at which the momenta decay, for h2, ms1 and ms3; None damps nothing.
        width: hidden units a layer, for h1 and h2; None means n.
        shared: one K and b for all layers.
        init_std: standard deviation of the initial weights; None means that of `Flow`.
        bins: of every column, whose pieces stand beside it, see `PiecewiseLinearEncoder`; 0 takes the numbers alone.
            `partial_fit` keeps those of its first rows.
        encode: scale every column, and set its pieces beside it; False takes X as it is, from an encoder before it
            such as `DataFrameEncoder`, and leaves `bins` and the columns' part of `standardize` without meaning.
        epochs: passes over the table, at most.
        batch_size: rows a step; None takes a sixteenth of the rows, at least 32 and at most 128. L-BFGS takes all.
        optimizer: "adamw", "adam", "sgd" or "lbfgs"; the defaults of the next two suit "adamw".
        learning_rate: the largest rate; it warms up and falls along a cosine, and is constant in `partial_fit`.
        weight_decay: of all weights; must be 0 for "lbfgs".
        smoothness: weight of how much K and b differ over depth, α of the papers.
        head_decay: weight of the squares of the output layer, α_c of the papers.
        label_smoothing: share of probability spread evenly over the classes; without meaning for a regression.
        clip: largest norm of the gradient; None leaves it alone.
        early_stopping: find the number of epochs on rows held back, then train anew on all rows for as many. "auto"
            does so from 1000 rows on, where neither of the next two is given.
        validation_fraction: share of the rows held back to watch, and to stop by with `n_iter_no_change`; None takes
            0.15 with `early_stopping`, else none.
        n_iter_no_change: epochs without a better validation score, or a smaller objective where nothing is held back,
            before training stops, counted once the learning rate has risen; without `early_stopping` the best weights
            return. None takes 8 with `early_stopping`, else never stops.
        task: "classification" or "regression"; "auto" takes regression for targets that are decimal numbers
            (their kind, not their values) or have several columns, else classification.
        standardize: scale every column, and every quantity, to mean 0 and standard deviation 1 first.
        warm_start: let `fit` go on from the weights of the last fit, for `epochs` epochs more. The network stays as it
            is, whatever other sizes were set since; so do the scales.
        dtype: "float32" or "float64"; None takes that of X (float64 where X is neither) for states of at most 64
            features or less than 100 rows, and float32 for larger ones.
        device: "cpu", "cuda" or another that PyTorch knows.
        verbose: print a line an epoch.
        random_state: of the initial weights, the order of the batches and the validation part. The same number gives
            the same bits on the same machine.

    Attributes:
        task_: what the network was fitted for.
        network_: the `hdnn.Network`; it reads encoded rows.
        history_: one record an epoch, as `hdnn.fit` returns them.
        search_history_: the same of the training that found the number of epochs; empty without `early_stopping`.
        loss_curve_: the mean objective of every epoch.
        n_iter_: epochs behind the weights, those of earlier calls with `warm_start` and `partial_fit` too.
        n_features_in_: d.
        feature_names_in_: names of the columns, if X had names that are text.

    Raises:
        ValueError: in `fit`, if an argument makes no sense; so that scikit-learn can clone, nothing is checked before.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> X, y = load_iris(return_X_y=True)
        >>> features = HamiltonianFeatures(features=8, random_state=0).fit(X, y)
        >>> features.transform(X).shape, features.task_, features.get_feature_names_out()[0]
        ((150, 8), 'classification', 'hamiltonianfeatures0')
        >>> make_pipeline(HamiltonianFeatures(random_state=0), LogisticRegression()).fit(X, y).score(X, y) > 0.95
        True
    """

    label_smoothing: float = 0.1
    task: Task | Literal["auto"] = "auto"

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One more epoch, on these rows, at the constant rate `learning_rate`.

        The optimizer's memory is kept from call to call. The scale of the columns follows all rows seen so far.

        Args:
            X: (s, d), rows.
            y: (s,) labels, or (s,) or (s, outputs) quantities.
            classes: all labels that will come, for the first call; None takes those of y.
            sample_weight: (s,), not negative, or None.

        Raises:
            ValueError: if classes change.
        """
        return self._fit_more(X, y, classes, sample_weight)

    def transform(self, X: Any) -> Array:
        """The state after the flow, (s, n), in the kind of numbers of X."""
        x = self._table(X)
        return self._fitted.features(x).cpu().numpy().astype(x.dtype)

    @property
    def task_(self) -> Task:
        """What the network was fitted for."""
        return self._fitted.targets.task

    @property
    def _n_features_out(self) -> int:
        return self.network_.flow.features

    def _new_targets(self, y: Array, weight: Array | None, classes: Array | None) -> Targets:
        if self.task not in ("auto", "classification", "regression"):
            raise ValueError(f'`task` must be "classification", "regression" or "auto"; got {self.task!r}.')
        decimal = y.dtype.kind == "f" or (y.ndim == 2 and y.shape[1] > 1)
        if self.task == "regression" or (self.task == "auto" and decimal and classes is None):
            return Quantities(y.astype(np.float64), weight, standardize=bool(self.standardize))
        labels = column_or_1d(y)
        found = classes_in(labels)
        check_classification_targets(labels)
        return Labels(found if classes is None else classes)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of estimators: this one needs targets, and may take several quantities."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
