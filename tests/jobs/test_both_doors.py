"""The command and the estimators have one recipe: on the same rows they come to the same predictions."""

import numpy as np
import pandas as pd
import pytest
import torch

import hdnn
from hdnn import jobs
from hdnn.training import outputs


def numbers(rows, seed=0):
    """A table of numbers: one heavy in its tail, one whole, one of two values."""
    rng = np.random.default_rng(seed)
    x = np.c_[rng.lognormal(size=rows), rng.integers(0, 5, rows), rng.integers(0, 2, rows), rng.normal(size=rows)]
    frame = pd.DataFrame(x, columns=["long", "whole", "two", "normal"])
    signal = np.log(frame.long) * (frame.whole - 2) + frame.two * frame.normal
    noisy = signal + 0.5 * rng.normal(size=rows)
    return frame.assign(y=noisy, kind=np.where(noisy > 0, "up", "down"))


@pytest.mark.long
@pytest.mark.parametrize("rows", [300, 1500])  # a fixed number of epochs, and one that is found
@pytest.mark.parametrize("target", ["kind", "y"])
def test_both_doors_give_the_same_score_on_the_same_rows(tmp_path, rows, target):
    frame, random_state = numbers(rows), 7
    frame = frame.drop(columns="y" if target == "kind" else "kind")
    frame.to_csv(tmp_path / "table.csv", index=False)
    seed = int(np.random.RandomState(random_state).randint(2**31 - 1))  # what an estimator draws from it
    source = jobs.Source(str(tmp_path / "table.csv"), seed=1, target=target)
    outcome = jobs.train(source, {"epochs": 10}, tmp_path / "run", seed=seed)

    labels = frame.kind.to_numpy() if target == "kind" else None
    train, test = hdnn.data.split(rows, seed=1, labels=labels)
    x, y = frame.drop(columns=target).to_numpy(), frame[target].to_numpy()
    kind = hdnn.HamiltonianClassifier if target == "kind" else hdnn.HamiltonianRegressor
    model = kind(random_state=random_state, epochs=10, dtype="float32").fit(x[train], y[train])

    metrics = outcome.metrics
    assert metrics["epochs"] == model.n_iter_
    assert metrics.get("search_epochs", 0) == len(model.search_history_)
    assert bool(model.search_history_) == (rows == 1500)
    score = metrics["test_accuracy" if target == "kind" else "test_r2"]
    assert model.score(x[test], y[test]) == pytest.approx(score, abs=1e-3)
    dataset, network = source.load(), outcome.run.load_network()
    found = outputs(network, torch.from_numpy(dataset.x_test)).numpy()
    expected = model.decision_function(x[test])[:, None] if target == "kind" else model.predict(x[test])[:, None]
    told = found if target == "kind" else dataset.target.decode(found)
    np.testing.assert_allclose(told, expected, rtol=1e-2, atol=1e-2)
