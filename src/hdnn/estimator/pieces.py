"""A piecewise linear encoding of numbers, as a transformer with scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from hdnn.arguments import whole
from hdnn.data.columns import MOST_BINS
from hdnn.data.pieces import edges_of, pieces
from hdnn.estimator.settings import check_truths, checked_weight, unchanged_by_failure
from hdnn.names import different
from hdnn.training.tabular import BINS

Array = NDArray[Any]


class PiecewiseLinearEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Each number beside its pieces over quantile bins, which lets what follows bend at every edge.

    A column x becomes (x − mean) / scale and, for each of its bins, min(max((x − b_t) / (b_{t+1} − b_t), 0), 1). A
    column with two values stays one number, for a piece would say the same. The estimators of this package do so by
    themselves; this is for other models.

    Args:
        bins: T, bins of each column, fewer where many of its numbers are equal; 0 leaves the numbers alone.
        standardize: scale each number to mean 0 and standard deviation 1.

    Attributes:
        edges_: T + 1 edges of each column; none where it has no pieces.
        scaler_: the `StandardScaler` of the numbers; None where they are left as they are.
        n_features_in_: d.
        feature_names_in_: names of the columns, if X had names that are text.

    References:
        Gorishniy, Rubachev, Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
        section 3.2, https://arxiv.org/abs/2203.05556

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> X = np.linspace(-3, 3, 200)[:, None]
        >>> y = np.sin(2 * X[:, 0])
        >>> PiecewiseLinearEncoder(bins=2).fit(X).get_feature_names_out().tolist()
        ['x0', 'x0_1', 'x0_2']
        >>> make_pipeline(PiecewiseLinearEncoder(), Ridge()).fit(X, y).score(X, y) > 0.8 > Ridge().fit(X, y).score(X, y)
        True
    """

    def __init__(self, bins: int = BINS, *, standardize: bool = True) -> None:
        self.bins = bins
        self.standardize = standardize

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take means, scales and edges from a table.

        Args:
            X: (s, d), numbers.
            y: not used.
            sample_weight: (s,), how often each row counts; None counts each once.

        Raises:
            ValueError: if data or arguments make no sense; the message names them.
        """
        check_truths(self, "standardize")
        bins = whole("bins", self.bins)
        if not 0 <= bins <= MOST_BINS:
            raise ValueError(f"`bins` must be from 0 to {MOST_BINS}; got {bins}.")
        with unchanged_by_failure(self):
            x = self._numbers(X, reset=True)
            weight = None if sample_weight is None else checked_weight(sample_weight, len(x))
            self.edges_ = [edges_of(column.astype(np.float64), bins, weight) for column in x.T]
            self.scaler_ = StandardScaler().fit(x, sample_weight=weight) if self.standardize else None
        return self

    def widen(self, X: Any, sample_weight: Any = None) -> None:
        """Take more rows into means and scales; edges stay, as what follows was made for so many pieces."""
        if self.scaler_ is not None:
            self.scaler_.partial_fit(X, sample_weight=sample_weight)

    def transform(self, X: Any) -> Array:
        """The numbers of a table and their pieces, column by column: (s, d + pieces)."""
        check_is_fitted(self)
        return self.encode(self._numbers(X, reset=False))

    def encode(self, x: Array) -> Array:
        """The same of an array that is known to be such a table."""
        scaled = x if self.scaler_ is None else self.scaler_.transform(x)
        if not any(self.edges_):
            return scaled
        found = np.empty((len(x), self.width), dtype=x.dtype)
        place = 0
        for k, edges in enumerate(self.edges_):
            found[:, place] = scaled[:, k]
            width = max(0, len(edges) - 1)
            if width:
                found[:, place + 1 : place + 1 + width] = pieces(x[:, k].astype(np.float64), edges)
            place += 1 + width
        return found

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns, each followed by those of its pieces, counted from 1."""
        from sklearn.utils.validation import _check_feature_names_in

        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        parts = zip(names, self.edges_, strict=True)
        every = [each for name, edges in parts for each in (name, *(f"{name}_{t}" for t in range(1, len(edges))))]
        return np.array(different(every), dtype=object)

    @property
    def width(self) -> int:
        """Numbers and pieces of a row."""
        return sum(1 + max(0, len(edges) - 1) for edges in self.edges_)

    def _numbers(self, X: Any, *, reset: bool) -> Array:
        x: Array = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], order="C")
        return x

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of transformers."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
