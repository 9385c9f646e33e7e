"""`HamiltonianClassifier` and scikit-learn's perceptron at equal work: times of a fit, in turns; prints JSON.

    python benchmarks/perceptrons.py --rounds 5

Equal work: as many parameters within a tenth, in one hidden layer, which costs the perceptron least; the same epochs
and batch size, and nobody stops early. Both standardize their columns within the fit.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import hdnn
from estimators import SETS
from hdnn.training.tabular import batch_for

OURS, PERCEPTRON = "hdnn", "perceptron"
NAMES = ("wine", "breast cancer", "digits")
EPOCHS = 40  # the estimator's own


def hidden_units(parameters: int, inputs: int, outputs: int) -> int:
    """Of the perceptron whose number of parameters is nearest: (d + 1) m + (m + 1) k."""
    return max(1, round((parameters - outputs) / (inputs + outputs + 1)))


def count(model: Any) -> int:
    """The parameters of a model that was fitted."""
    if isinstance(model, hdnn.HamiltonianClassifier):
        return sum(p.numel() for p in model.network_.parameters())
    perceptron = model[-1]
    return sum(array.size for array in (*perceptron.coefs_, *perceptron.intercepts_))


def contenders(X: Any, y: Any) -> dict[str, Any]:
    """Both, the perceptron with as many parameters as ours."""
    ours = hdnn.HamiltonianClassifier(random_state=0, epochs=EPOCHS, early_stopping=False).fit(X, y)
    outputs = ours.network_.head.out_features
    perceptron = MLPClassifier(
        (hidden_units(count(ours), X.shape[1], outputs),),
        batch_size=batch_for(len(X)),
        max_iter=EPOCHS,
        tol=0.0,
        n_iter_no_change=EPOCHS + 1,
        random_state=0,
    )
    return {OURS: ours, PERCEPTRON: make_pipeline(StandardScaler(), perceptron)}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Parameters, epochs, test accuracy, and the fewest seconds of processor time of a fit.

    Raises:
        SystemExit: if the work is not equal.
    """
    X, y = SETS[name](return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    models = contenders(X, y)
    seconds: dict[str, list[float]] = {each: [] for each in models}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in models.values():
            model.fit(X, y)  # warm
        for _ in range(rounds):
            for each, model in models.items():
                start = time.process_time()
                model.fit(X, y)
                seconds[each].append(time.process_time() - start)
    found = {
        each: {"parameters": count(model), "seconds": min(seconds[each]), "accuracy": model.score(X_test, y_test)}
        for each, model in models.items()
    }
    mine, other = (found[each]["parameters"] for each in (OURS, PERCEPTRON))
    if not abs(mine - other) <= 0.1 * mine or models[PERCEPTRON][-1].n_iter_ != EPOCHS:
        raise SystemExit(f"{name}: the work is not equal, {found}.")
    return {"rows": len(X), "batch_size": batch_for(len(X)), "epochs": EPOCHS, "models": found}


def main() -> None:
    """Print the timings of all data sets as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        print(json.dumps({name: measure(name, chosen.rounds) for name in NAMES}))


if __name__ == "__main__":
    main()
