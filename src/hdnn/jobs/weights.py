"""What the rows of a classification weigh in the loss, by their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdnn.data import Dataset
from hdnn.doors import shelled
from hdnn.names import unknown

BALANCED = "balanced"


def written(chosen: Any) -> tuple[str, ...]:
    """Weights of classes as a run keeps them; those of the estimators, a text or a mapping, are understood, too.

    Example:
        >>> written("balanced"), written({"yes": 3}), written(["yes=3"])
        (('balanced',), ('yes=3',), ('yes=3',))
    """
    if isinstance(chosen, str):
        return (chosen,)
    return tuple(f"{label}={weight}" for label, weight in chosen.items()) if isinstance(chosen, Mapping) else (*chosen,)


def row_weights(dataset: Dataset, chosen: tuple[str, ...] | None) -> Tensor | None:
    """Weights of the training rows, the same that `HamiltonianClassifier(class_weight=...)` gives them.

    Args:
        dataset: with classes.
        chosen: "balanced", for classes that weigh the same in sum, or "CLASS=WEIGHT" for each class whose weight is
            not 1; None weighs all rows alike.

    Returns:
        (s,), float64, or None.

    Raises:
        ValueError: if there are no classes, or what was chosen names none of them, or no weight.
    """
    if chosen is None:
        return None
    if not dataset.classes:
        raise ValueError(
            f"`class_weight` is for classes, and {dataset.target.columns[0]!r} is predicted as a number. Leave it out, "
            f"or give `task=classification`."
        )
    from hdnn.estimator.targets import Labels

    weights: Any = BALANCED if tuple(chosen) == (BALANCED,) else dict(_weight(text, dataset.classes) for text in chosen)
    indices = np.arange(len(dataset.classes))
    return torch.from_numpy(np.asarray(Labels(indices, weights).weights(dataset.y_train, None), dtype=np.float64))


def _weight(text: str, classes: tuple[str, ...]) -> tuple[int, float]:
    """A class, as its index, and its weight."""
    label, equals, written = text.rpartition("=")
    try:
        weight = float(written)
    except ValueError:
        equals = ""
    if not equals:
        alone = " It stands alone, without weights of single classes." if text == BALANCED else ""
        python = f"`class_weight` is ('balanced',) or texts like '{classes[0]}=2.5'; got {text!r}."
        shell = f"--class-weight is balanced, or a class and its weight as in '{classes[0]}=2.5'; got {text!r}."
        raise shelled(ValueError(python + alone), shell + alone)
    if label not in classes:
        raise ValueError(unknown("class", label, classes))
    if not 0 <= weight < float("inf"):
        raise ValueError(f"The weight of a class must be finite and not negative; got {weight:g} for {label!r}.")
    return classes.index(label), weight
