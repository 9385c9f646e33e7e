"""What Optuna draws of a study, with its noise kept away from the user's settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from optuna.importance import FanovaImportanceEvaluator

from hdnn import plots


def drawn(study: optuna.Study, score: str, history: Path, importances: Path) -> list[str]:
    """Draw the history of a study and the importances of the choices.

    Args:
        study: with a trial at least that came to its end.
        score: what the values are, for the axes.
        history: the file to write.
        importances: the file to write.

    Returns:
        What could not be drawn and why, in sentences.
    """
    from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

    _save(lambda: plot_optimization_history(study, target_name=score), history)
    try:
        evaluator = FanovaImportanceEvaluator(seed=0)
        _save(lambda: plot_param_importances(study, evaluator=evaluator, target_name=score), importances)
    except (ValueError, RuntimeError) as error:
        importances.unlink(missing_ok=True)
        return [f"The importances of the choices are not drawn: {error}"]
    return []


def _save(draw: Callable[[], Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    with matplotlib.rc_context():  # Optuna's look is set for the whole process
        figure = draw().figure
        figure.set_layout_engine("constrained")  # else long names of choices are cut off
        try:
            plots.save(figure, path)
        finally:
            plt.close(figure)


@contextmanager
def quietly() -> Iterator[None]:
    """Without Optuna's own lines about every trial, and its warnings that parts of it are new."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
