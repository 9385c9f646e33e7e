"""A regressor with scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self, cast

from sklearn.base import RegressorMixin

from hdnn.estimator.network_estimator import NetworkEstimator
from hdnn.estimator.targets import Array, Quantities
from hdnn.renames import ESTIMATOR, renamed


@renamed(ESTIMATOR)
class HamiltonianRegressor(RegressorMixin, NetworkEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A Hamiltonian network for quantities of the rows of a table.

    ŷ = mean_y + scale_y (W y_N + μ), y_N = flow(lift(z)), z = x scaled and in pieces. Minimizes the mean square error,
    in units of the standard deviation of each quantity. The defaults are for tables of tens to thousands of rows.

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
        clip: largest norm of the gradient; None leaves it alone.
        early_stopping: find the number of epochs on rows held back, then train anew on all rows for as many. "auto"
            does so from 1000 rows on, where neither of the next two is given.
        validation_fraction: share of the rows held back to watch, and to stop by with `n_iter_no_change`; None takes
            0.15 with `early_stopping`, else none.
        n_iter_no_change: epochs without a better validation score, or a smaller objective where nothing is held back,
            before training stops, counted once the learning rate has risen; without `early_stopping` the best weights
            return. None takes 8 with `early_stopping`, else never stops.
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
        network_: the `hdnn.Network`; it reads encoded rows and predicts standardised quantities.
        history_: one record an epoch, as `hdnn.fit` returns them.
        search_history_: the same of the training that found the number of epochs; empty without `early_stopping`.
        loss_curve_: the mean objective of every epoch.
        n_iter_: epochs behind the weights, those of earlier calls with `warm_start` and `partial_fit` too.
        n_features_in_: d.
        feature_names_in_: names of the columns, if X had names that are text.

    Raises:
        ValueError: in `fit`, if an argument makes no sense; so that scikit-learn can clone, nothing is checked before.

    Example:
        >>> from sklearn.datasets import make_friedman1
        >>> X, y = make_friedman1(400, random_state=0)
        >>> model = HamiltonianRegressor(random_state=0).fit(X[::2], y[::2])
        >>> model.score(X[1::2], y[1::2]) > 0.7
        True
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One more epoch, on these rows, at the constant rate `learning_rate`.

        The optimizer's memory is kept from call to call. The scales of columns and quantities follow all rows seen so
        far.

        Args:
            X: (s, d), rows.
            y: (s,) or (s, outputs), quantities.
            sample_weight: (s,), not negative, or None.
        """
        return self._fit_more(X, y, None, sample_weight)

    def predict(self, X: Any) -> Array:
        """The quantities of each row: (s,) if those of `fit` were, else (s, outputs)."""
        outputs = self._outputs(X)
        return cast(Quantities, self._fitted.targets).decode(outputs)

    def _new_targets(self, y: Array, weight: Array | None, classes: Array | None) -> Quantities:
        return Quantities(y, weight, standardize=bool(self.standardize))

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of estimators: this one takes several quantities."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
