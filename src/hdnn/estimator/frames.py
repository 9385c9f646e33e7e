"""Data frames as `hdnn train` reads tables, as a transformer with scikit-learn's interface."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from hdnn.arguments import whole
from hdnn.data import absent
from hdnn.data.dialect import Dialect
from hdnn.data.encoders import Report
from hdnn.data.frames import as_read
from hdnn.data.inputs import inputs, without_columns
from hdnn.data.kinds import kinds
from hdnn.data.suspicions import cautions
from hdnn.estimator.settings import unchanged_by_failure
from hdnn.names import count
from hdnn.training.tabular import BINS

if TYPE_CHECKING:
    import pandas as pd


class DataFrameEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Any table as the inputs of a network: what `hdnn train` does with the same table in a file.

    A number becomes (x − mean) / scale and its pieces over quantile bins, with one more input where values are missing,
    whose place the median takes; a date elapsed time, and sine and cosine of the day, the week and the year; a category
    one input each, zeros where it is missing or new. Numbers and dates may be written as texts, in any way that is
    beyond doubt. Columns that cannot help are left out, with a warning that names them.

    The estimators of this package are told to take such inputs as they are: `encode=False`.

    Args:
        bins: of each number, see `PiecewiseLinearEncoder`; 0 takes the number alone.
        columns: names of those to use, in this order; None takes all but those that cannot help.
        without: names of columns to leave out.
        decimal: "." or ",", what stands before the decimals of texts; None finds it by all of them.
        missing: texts that stand for a missing value; in columns of text they replace the usual ones, such as "NA".
        date_format: of dates that may be read in several ways, as in "%d/%m/%Y".

    Attributes:
        encoder_: the `hdnn.data.TableEncoder` of the columns that are used.
        left_out_: names of the columns that cannot help, by the reason why.
        n_features_in_: columns of X.
        feature_names_in_: their names, if all are text.

    Example:
        >>> import hdnn, pandas as pd
        >>> from sklearn.pipeline import make_pipeline
        >>> paid = ["1.200,50 €", "80,00 €", None, "9,90 €"]
        >>> visits = pd.DataFrame({"town": ["Bern", "Lund"] * 50, "paid": paid * 25})
        >>> DataFrameEncoder(bins=2).fit(visits).get_feature_names_out().tolist()
        ['town_Bern', 'town_Lund', 'paid', 'paid_1', 'paid_2', 'paid_missing']
        >>> model = make_pipeline(DataFrameEncoder(), hdnn.HamiltonianClassifier(encode=False, random_state=0))
        >>> model.fit(visits, visits["town"] == "Bern").score(visits, visits["town"] == "Bern")
        1.0
    """

    def __init__(
        self,
        *,
        bins: int = BINS,
        columns: Sequence[str] | None = None,
        without: Sequence[str] = (),
        decimal: str | None = None,
        missing: Sequence[str] | None = None,
        date_format: str | None = None,
    ) -> None:
        self.bins = bins
        self.columns = columns
        self.without = without
        self.decimal = decimal
        self.missing = missing
        self.date_format = date_format

    def fit(self, X: Any, y: Any = None) -> Self:
        """Decide what each column is, and take means, edges and categories from a table.

        Args:
            X: a data frame of pandas or polars, or an array, of numbers, texts, dates, true and false.
            y: not used.

        Raises:
            ValueError: if a column can be read in several ways, or none is left; the message names the option.
        """
        marks = absent.listed(self.missing)
        given = Dialect(decimal=self.decimal, missing=marks, date_format=self.date_format)
        with unchanged_by_failure(self):
            frame = self._frame(X, reset=True)
            frame = frame.drop(columns=without_columns(frame, self.without, self.columns or ()))
            found = kinds(frame, given, ",")
            bins = whole("bins", self.bins)
            used = inputs(frame, found, np.arange(len(frame)), columns=self.columns, bins=bins)
            self.encoder_, self.left_out_ = used.encoder, used.left_out
        said = [f"Left out: {used.dropped}."] if used.dropped else []
        for each in (*said, *cautions(frame, found, used.encoder)):
            warnings.warn(each, UserWarning, stacklevel=2)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The inputs of a network of the rows of a table, (s, d), finite."""
        check_is_fitted(self)
        return self.encoder_.encode(self._frame(X, reset=False))

    def report(self, X: Any) -> Report:
        """What `transform` makes up for: values that are missing, new, or far outside of what `fit` saw."""
        check_is_fitted(self)
        return self.encoder_.report(self._frame(X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the inputs: of a number, its pieces counted from 1, its gaps; of a column's categories."""
        check_is_fitted(self)
        return np.array(self.encoder_.labels, dtype=object)

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """The cells of a table."""
        import pandas as pd

        if hasattr(X, "to_pandas"):
            X = X.to_pandas()
        if not isinstance(X, pd.DataFrame):
            X = check_array(X, dtype=None, ensure_all_finite=False, estimator=self)
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not isinstance(X, pd.DataFrame):
            X = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        if len(X) <= reset:
            raise ValueError(f"X has {count(len(X), 'sample')}, too few to {'see what varies' if reset else 'read'}.")
        return as_read(X, self.missing)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of transformers: this one reads texts and gaps."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags
