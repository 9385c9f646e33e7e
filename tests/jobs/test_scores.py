import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from sklearn.metrics import log_loss as sklearn_log_loss

import hdnn
from hdnn.data import TargetEncoder
from hdnn.jobs.measures import confusion, log_loss, of_classes, of_numbers, reliability
from hdnn.jobs.scores import finite_outputs, measure


def randomized(network):
    for p in network.head.parameters():
        torch.nn.init.normal_(p)
    return network


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_is_scored_as_scikit_learn_does(classes):
    network = randomized(hdnn.vector_classifier(3, classes, hdnn.h1(4, 2, step=0.2)))
    x, y = torch.randn(50, 3), torch.arange(50) % classes
    labels = tuple(map(str, range(classes)))
    scores = measure(network, TargetEncoder(("t",), classes=labels), x, y)
    probabilities = network.probabilities(x).detach().double().numpy()
    assert set(scores) == {"loss", "accuracy", "balanced_accuracy", "roc_auc", "calibration_error"}
    assert scores["accuracy"] == accuracy_score(y, network.predict(x))
    assert scores["loss"] == pytest.approx(
        sklearn_log_loss(y, probabilities / probabilities.sum(1, keepdims=True)), rel=1e-5
    )


def test_regression_is_scored_in_the_users_units():
    network = randomized(hdnn.vector_regressor(3, 2, hdnn.h1(4, 2, step=0.2)))
    target = TargetEncoder(("a", "b"), mean=(10.0, -3.0), scale=(100.0, 0.5))
    x, y = torch.randn(50, 3), torch.randn(50, 2)
    scores = measure(network, target, x, y)
    truth, said = target.decode(y.numpy()), target.decode(network(x).detach().numpy())
    errors = np.sqrt(mean_squared_error(truth, said, multioutput="raw_values"))
    assert scores["error"] == pytest.approx(errors.mean())
    assert scores["absolute_error"] == pytest.approx(mean_absolute_error(truth, said))
    assert scores["r2"] == pytest.approx(r2_score(truth, said))
    assert scores["loss"] == pytest.approx(mean_squared_error(y, network(x).detach()), rel=1e-5)


def test_one_row_has_no_variance_to_explain():
    network = randomized(hdnn.vector_regressor(3, 1, hdnn.h1(4, 2, step=0.2)))
    scores = measure(network, TargetEncoder(("a",), mean=(0.0,), scale=(1.0,)), torch.zeros(1, 3), torch.zeros(1, 1))
    assert scores["r2"] == 0.0


@pytest.mark.parametrize("weight", [0.0, 1.0], ids=["exact", "inexact"])
def test_a_target_that_never_varies_is_scored_as_scikit_learn_does(weight):
    torch.manual_seed(0)
    network = hdnn.vector_regressor(3, 2, hdnn.h1(4, 2, step=0.2))
    torch.nn.init.constant_(network.head.weight, weight)
    torch.nn.init.constant_(network.head.bias, 2.0)
    x, y = torch.randn(6, 3), torch.full((6, 2), 2.0)
    y[:, 1] = torch.arange(6)
    target = TargetEncoder(("a", "b"), mean=(0.0, 0.0), scale=(1.0, 1.0))
    scores = measure(network, target, x, y)
    assert scores["r2"] == pytest.approx(r2_score(y.numpy(), network(x).detach().numpy()))


@pytest.mark.parametrize("seed", range(5))
def test_confusion_is_that_of_scikit_learn(seed):
    true, said = np.random.default_rng(seed).integers(0, 5, (2, 12))
    np.testing.assert_array_equal(confusion(true, said, 6), confusion_matrix(true, said, labels=range(6)))


def test_outputs_that_overflow_are_named_and_large_ones_are_scored():
    network = randomized(hdnn.vector_regressor(2, 1, hdnn.h1(2, 0, step=0.2)))
    torch.nn.init.ones_(network.head.weight)
    target = TargetEncoder(("a",), mean=(0.0,), scale=(1.0,))
    x = torch.tensor([[0.0, 0.0], [3e38, 3e38], [1.0, 1.0]])
    with pytest.raises(FloatingPointError, match="output for row 2 is not finite"):
        measure(network, target, x, torch.zeros(3, 1))
    assert finite_outputs(network, x[::2]).shape == (2, 1)
    scores = measure(network, target, torch.tensor([[1e38, 1e38], [1.0, 1.0]]), torch.zeros(2, 1))
    assert all(np.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_measures_of_classes_are_those_of_scikit_learn(classes, ties):
    random = np.random.default_rng(classes)
    y = random.integers(classes, size=200)
    raw = random.random((200, classes)) + np.eye(classes)[y] * random.random((200, 1))
    if ties:
        raw = np.ceil(raw * 3)
    probabilities = raw / raw.sum(1, keepdims=True)
    said = probabilities.argmax(1)
    found = of_classes(y, said, probabilities)
    assert found["accuracy"] == accuracy_score(y, said)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, said))
    score = probabilities[:, 1] if classes == 2 else probabilities
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, score, multi_class="ovr"))
    assert log_loss(y, probabilities) == pytest.approx(sklearn_log_loss(y, probabilities))
    sure = probabilities.max(1)
    share, mean = calibration_curve(said == y, sure, n_bins=10)
    rows = np.histogram(sure, np.linspace(0, 1, 11))[0]
    if not ties:  # a probability on the border of two bins is put into one or the other
        np.testing.assert_allclose(reliability(y, said, probabilities)[1][rows > 0], share)
        expected = np.sum(rows[rows > 0] * np.abs(share - mean)) / 200
        assert found["calibration_error"] == pytest.approx(expected)


def test_rows_of_a_single_class_have_no_area():
    found = of_classes(np.zeros(4, int), np.array([0, 0, 1, 0]), np.full((4, 2), 0.5))
    assert "roc_auc" not in found
    assert found["balanced_accuracy"] == found["accuracy"] == 0.75


def test_classes_without_a_row_are_left_out():
    y, said = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    probabilities = np.array([[0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    found = of_classes(y, said, probabilities)
    assert found["balanced_accuracy"] == 0.75
    assert found["roc_auc"] == 1.0


def test_the_spread_is_the_error_of_the_mean():
    truth = np.random.default_rng(0).normal(3, 2, (50, 2))
    found = of_numbers(truth, np.tile(truth.mean(0), (50, 1)))
    assert found["error"] == pytest.approx(found["spread"])
    assert found["r2"] == pytest.approx(0)
