"""A classifier with scikit-learn's interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from hdnn.estimator.network_estimator import NetworkEstimator
from hdnn.estimator.targets import Array, ClassWeight, Labels, classes_in
from hdnn.networks import class_probabilities
from hdnn.renames import ESTIMATOR, renamed


@renamed(ESTIMATOR)
@dataclass(eq=False, repr=False, kw_only=True)
class HamiltonianClassifier(ClassifierMixin, NetworkEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A Hamiltonian network for the classes of the rows of a table.

    P(c | x) = softmax(W y_N + μ)_c, y_N = flow(lift(z)), z = x scaled and in pieces; two classes share one logit.
    Minimizes the cross-entropy. The defaults are for tables of tens to thousands of rows.

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
        label_smoothing: share of probability spread evenly over the classes in training. It makes for better classes,
            and for probabilities that are less sure of themselves; 0 where those must be calibrated.
        clip: largest norm of the gradient; None leaves it alone.
        early_stopping: find the number of epochs on rows held back, then train anew on all rows for as many. "auto"
            does so from 1000 rows on, where neither of the next two is given.
        validation_fraction: share of the rows held back to watch, and to stop by with `n_iter_no_change`; None takes
            0.15 with `early_stopping`, else none.
        n_iter_no_change: epochs without a better validation score, or a smaller objective where nothing is held back,
            before training stops, counted once the learning rate has risen; without `early_stopping` the best weights
            return. None takes 8 with `early_stopping`, else never stops.
        class_weight: weight for each label (1 for those not named), "balanced" for classes of the same weight in sum,
            or None. `warm_start` and `partial_fit` keep those of their first call.
        standardize: scale every column to mean 0 and standard deviation 1 first.
        warm_start: let `fit` go on from the weights of the last fit, for `epochs` epochs more. The network stays as it
            is, whatever other sizes were set since; so do the scales.
        dtype: "float32" or "float64"; None takes that of X (float64 where X is neither) for states of at most 64
            features or less than 100 rows, and float32 for larger ones.
        device: "cpu", "cuda" or another that PyTorch knows.
        verbose: print a line an epoch.
        random_state: of the initial weights, the order of the batches and the validation part. The same number gives
            the same bits on the same machine.

    Attributes:
        classes_: (classes,), the labels in order.
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
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HamiltonianClassifier(random_state=0).fit(X[::2], y[::2])
        >>> model.score(X[1::2], y[1::2]) > 0.9
        True
        >>> model.predict_proba(X[:2]).shape
        (2, 3)
    """

    label_smoothing: float = 0.1
    class_weight: ClassWeight = None

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One more epoch, on these rows, at the constant rate `learning_rate`.

        The optimizer's memory is kept from call to call. The scale of the columns follows all rows seen so far.

        Args:
            X: (s, d), rows.
            y: (s,), labels.
            classes: all labels that will come; the first call needs them, later ones do not.
            sample_weight: (s,), not negative, or None.

        Raises:
            ValueError: if classes are missing or change, or the weights are to be "balanced", for which all rows would
                have to be known.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" counts the rows of all classes, which `partial_fit` does not see together. '
                "Give the weights as a dictionary, or use `fit`."
            )
        if classes is None and not hasattr(self, "network_"):
            raise ValueError("The first call of `partial_fit` needs `classes`, all labels that will come.")
        return self._fit_more(X, y, classes, sample_weight)

    def predict(self, X: Any) -> Array:
        """The most probable label of each row, (s,)."""
        scores = self.decision_function(X)
        indices = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return np.asarray(self.classes_[indices])

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (s, classes), in the order of `classes_`."""
        return class_probabilities(torch.from_numpy(self._outputs(X))).numpy()

    def decision_function(self, X: Any) -> Array:
        """Logits: (s,) for two classes, positive for the second; (s, classes) for more."""
        logits = self._outputs(X)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    @property
    def classes_(self) -> Array:
        """The labels in order."""
        return cast(Labels, self._fitted.targets).classes

    def _new_targets(self, y: Array, weight: Array | None, classes: Array | None) -> Labels:
        found = classes_in(y)
        check_classification_targets(y)
        return Labels(found if classes is None else classes, self.class_weight)
