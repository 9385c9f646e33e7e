"""What all three estimators do alike; every one goes through the same bodies."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import hdnn
from estimator_cases import KINDS, X, Y, answer, each, scores
from hdnn.estimator.network_estimator import NetworkEstimator


def test_all_kinds_are_here():
    assert set(KINDS) == set(NetworkEstimator.__subclasses__())


@each
def test_fit_is_the_library_called_by_hand(kind):
    rate, seed = 0.03, np.random.RandomState(5).randint(2**31 - 1)
    task = "regression" if kind is hdnn.HamiltonianRegressor else "classification"
    y = torch.tensor(Y)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = hdnn.h2(16, 3, horizon=0.9)
        make = hdnn.vector_regressor if task == "regression" else hdnn.vector_classifier
        network = make(4, 1 if task == "regression" else 3, flow).double()
    if task == "regression":
        y = torch.tensor((Y - Y.mean()) / Y.std())[:, None]
    x = torch.tensor((X - X.mean(0)) / X.std(0))
    recipe = hdnn.Recipe(
        epochs=3,
        batch_size=50,
        optimizer="adamw",
        learning_rate=rate,
        weight_decay=0.1,
        seed=int(seed),
        label_smoothing=0.0 if task == "regression" else 0.1,
    )
    history = hdnn.fit(network, x, y, recipe)
    model = kind(layers=3, horizon=0.9, epochs=3, batch_size=50, learning_rate=rate, random_state=5, bins=0).fit(X, Y)
    for found, expected in zip(model.network_.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.loss_curve_, [record["loss"] for record in history], rtol=1e-9)
    assert model.n_iter_ == 3


@each
def test_columns_in_other_units_give_the_same_network(kind):
    model = kind(epochs=2, random_state=0).fit(X, Y)
    other = kind(epochs=2, random_state=0).fit(1000.0 * X - 5.0, Y)
    np.testing.assert_allclose(scores(model), scores(other, 1000.0 * X - 5.0), rtol=1e-6, atol=1e-9)
    raw = kind(epochs=2, random_state=0, standardize=False).fit(X, Y)
    assert not np.allclose(scores(model), scores(raw), rtol=1e-3)


@each
def test_the_same_random_state_gives_the_same_bits_and_leaves_the_global_one_alone(kind):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    model = kind(epochs=2, random_state=3).fit(X, Y)
    again = kind(epochs=2, random_state=np.random.RandomState(3)).fit(X, Y)
    assert (scores(model) == scores(again)).all()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == torch.get_num_threads()
    assert (scores(model) != scores(clone(model).set_params(random_state=4).fit(X, Y))).any()


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kind_of_numbers(kind, dtype):
    asked = kind(epochs=1, random_state=0, dtype=dtype, bins=0).fit(X, Y)
    followed = kind(epochs=1, random_state=0, bins=0).fit(X.astype(dtype), Y)
    assert asked.network_.head.weight.dtype == followed.network_.head.weight.dtype == getattr(torch, dtype)


@each
def test_what_was_saved_answers_alike(kind):
    model = kind(epochs=1, random_state=0).fit(X, Y).partial_fit(X, Y)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    copies = pickle.loads(pickle.dumps(model)), joblib.load(file)
    assert all((scores(copy) == scores(model)).all() for copy in copies)
    model.partial_fit(X, Y)
    assert all((scores(copy.partial_fit(X, Y)) == scores(model)).all() for copy in copies)


@each
def test_partial_fit_is_training_at_a_constant_rate_with_pauses(kind):
    task = "regression" if kind is hdnn.HamiltonianRegressor else "classification"
    chosen = {"layers": 2, "horizon": 0.8, "batch_size": 40, "bins": 0, "standardize": False, "random_state": 1}
    model = kind(**chosen)
    first = {} if task == "regression" else {"classes": [0, 1, 2]}
    model.partial_fit(X, Y, **first)
    start = kind(**chosen).partial_fit(X, Y, **first).network_  # the same first epoch
    for a, b in zip(model.network_.parameters(), start.parameters(), strict=True):
        assert torch.equal(a, b)
    model.partial_fit(X, Y).partial_fit(X, Y)
    seed = int(np.random.RandomState(1).randint(2**31 - 1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make = hdnn.vector_regressor if task == "regression" else hdnn.vector_classifier
        network = make(4, 1 if task == "regression" else 3, hdnn.h2(16, 2, horizon=0.8)).double()
    y = torch.tensor(Y, dtype=torch.float64)[:, None] if task == "regression" else torch.tensor(Y)
    recipe = hdnn.Recipe(
        epochs=3,
        batch_size=40,
        optimizer="adamw",
        learning_rate=model.learning_rate,
        schedule="constant",
        weight_decay=model.weight_decay,
        label_smoothing=0.0 if task == "regression" else 0.1,
        seed=seed,
    )
    hdnn.fit(network, torch.tensor(X), y, recipe)
    for found, expected in zip(model.network_.parameters(), network.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert model.n_iter_ == 3
    assert [record["epoch"] for record in model.history_] == [1, 2, 3]


@each
def test_the_scale_follows_all_rows_seen(kind):
    model = kind(epochs=1, random_state=0, bins=0)
    more = {} if kind is hdnn.HamiltonianRegressor else {"classes": [0, 1, 2]}
    model.partial_fit(X[:50], Y[:50], **more).partial_fit(X[50:], Y[50:])
    inputs = model._fitted.inputs(X).numpy()
    np.testing.assert_allclose(inputs, (X - X.mean(0)) / X.std(0), rtol=1e-9, atol=1e-12)


@each
def test_a_warm_start_goes_on_from_the_weights(kind):
    model = kind(epochs=2, random_state=0, warm_start=True).fit(X, Y)
    before = scores(model)
    model.set_params(learning_rate=1e-9).fit(X, Y)
    np.testing.assert_allclose(scores(model), before, rtol=1e-4, atol=1e-6)
    assert model.n_iter_ == 4
    cold = kind(epochs=2, random_state=0, learning_rate=1e-9).fit(X, Y)
    assert not np.allclose(scores(cold), before, rtol=1e-2)


@each
def test_training_stops_when_patience_runs_out_and_the_best_weights_return(kind):
    y = np.random.RandomState(0).permutation(Y)  # nothing to learn
    model = kind(epochs=60, validation_fraction=0.3, n_iter_no_change=3, random_state=0).fit(X, y)
    assert 3 < model.n_iter_ < 60
    name = "validation_loss" if kind is hdnn.HamiltonianRegressor else "validation_accuracy"
    watched = [record[name] for record in model.history_]
    best = min(watched) if name.endswith("loss") else max(watched)
    assert best in watched[: model.n_iter_ - 3]


@each
def test_rows_of_weight_zero_take_no_part(kind):
    weight = np.where(np.arange(150) % 3, 2.0, 0.0)
    weighted = kind(epochs=2, random_state=0).fit(X, Y, sample_weight=weight)
    left_out = kind(epochs=2, random_state=0).fit(X[weight > 0], Y[weight > 0])
    np.testing.assert_allclose(scores(weighted), scores(left_out), rtol=1e-9)


@each
def test_heavy_rows_are_fitted_better(kind):
    if kind is hdnn.HamiltonianFeatures:
        pytest.skip("features have no score; their training is that of the others")
    y = np.r_[Y, (Y + 1) % 3]  # every row twice, with two answers
    for heavy in (slice(0, 150), slice(150, 300)):
        weight = np.full(300, 0.01)
        weight[heavy] = 1.0
        model = kind(layers=2, epochs=10, batch_size=32, random_state=0).fit(np.r_[X, X], y, sample_weight=weight)
        assert model.score(X, y[heavy]) > 0.7


@each
def test_data_frames_and_their_names(kind):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = kind(epochs=1, random_state=0).fit(frame, pd.Series(Y))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert (scores(model, frame) == scores(kind(epochs=1, random_state=0).fit(X, Y))).all()
    with pytest.raises(ValueError, match="feature names should match"):
        answer(model, frame[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="4 features"):
        answer(kind(epochs=1).fit(X, Y), X[:, :3])


@each
def test_sparse_tables_are_refused(kind):
    with pytest.raises(TypeError, match=r"dense data is required.*toarray"):
        kind().fit(sparse.csr_matrix(X), Y)


@each
def test_verbose_prints_a_line_an_epoch(kind, capsys):
    kind(epochs=3, verbose=True, validation_fraction=0.2, random_state=0).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("Epoch 3 of 3: loss 0")
    kind(epochs=1).fit(X, Y)
    assert capsys.readouterr().out == ""


@each
def test_the_page_of_a_notebook(kind):
    assert kind.__name__ in kind(layers=3)._repr_html_()


def pipeline():
    return make_pipeline(PolynomialFeatures(2), hdnn.HamiltonianClassifier(epochs=3, random_state=0))


def test_search_in_a_pipeline():
    search = GridSearchCV(pipeline(), {"hamiltonianclassifier__layers": [2, 4]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0.6


@pytest.mark.slow
def test_two_processes_find_what_one_finds():
    search = GridSearchCV(pipeline(), {"hamiltonianclassifier__layers": [2, 4]}, cv=2, n_jobs=2).fit(X, Y)
    alone = GridSearchCV(pipeline(), {"hamiltonianclassifier__layers": [2, 4]}, cv=2).fit(X, Y)
    assert (search.cv_results_["mean_test_score"] == alone.cv_results_["mean_test_score"]).all()
    assert (cross_val_score(pipeline(), X, Y, cv=2, n_jobs=2) == cross_val_score(pipeline(), X, Y, cv=2)).all()


MISTAKES = [
    ({"model": "h3"}, ValueError, "There is no model 'h3'. Did you mean 'h2'"),
    ({"layers": 2.5}, TypeError, "`layers` must be a whole number; got 2.5"),
    ({"layers": -1}, ValueError, "`layers` must be 0"),
    ({"horizon": 0}, ValueError, "`horizon` must be a positive"),
    ({"features": 5}, ValueError, "must be even"),
    ({"features": 2, "lift": "zeros"}, ValueError, "Zeros can only be appended"),
    ({"lift": "ones"}, ValueError, "`lift` must be"),
    ({"activation": "gelu"}, ValueError, "There is no activation 'gelu'"),
    ({"epochs": 0}, ValueError, "`epochs`"),
    ({"epochs": True}, TypeError, "`epochs`"),
    ({"batch_size": "all"}, TypeError, "`batch_size`"),
    ({"optimizer": "rmsprop"}, ValueError, "`optimizer` must be one of adam"),
    ({"optimizer": "lbfgs"}, ValueError, "`weight_decay` is not part of"),
    ({"learning_rate": "fast"}, TypeError, "`learning_rate` must be a number"),
    ({"n_iter_no_change": 0}, ValueError, "`n_iter_no_change` must be a whole number, at least 1"),
    ({"dtype": "float16"}, ValueError, "There is no dtype 'float16'"),
    ({"device": "abacus"}, ValueError, "There is no device 'abacus'"),
    ({"device": "meta"}, ValueError, "does not work"),
]


@each
@pytest.mark.parametrize(("chosen", "error", "words"), MISTAKES, ids=lambda value: str(value)[:30])
def test_arguments_that_make_no_sense_are_refused_at_fit(kind, chosen, error, words):
    model = kind(**chosen)
    assert model.get_params()[next(iter(chosen))] == next(iter(chosen.values()))
    with pytest.raises(error, match=words):
        model.fit(X, Y)
    assert not hasattr(model, "network_")


@each
@pytest.mark.parametrize(
    ("weight", "words"),
    [(np.ones(3), "one number a row"), (-np.ones(150), "not negative"), (np.zeros(150), "nothing to learn from")],
)
def test_weights_that_make_no_sense_are_refused(kind, weight, words):
    with pytest.raises(ValueError, match=words):
        kind(epochs=1).fit(X, Y, sample_weight=weight)


@each
def test_numbers_beyond_their_kind_are_refused(kind):
    with pytest.raises(ValueError, match="too large for torch"):
        kind(epochs=1, standardize=False, dtype="float32").fit(1e60 * X, Y)


@each
def test_a_fit_that_fails_leaves_the_last_one(kind):
    model = kind(epochs=2, random_state=0, warm_start=True).fit(X, Y)
    before = scores(model)
    with pytest.raises(FloatingPointError):
        model.set_params(learning_rate=1e300).fit(X, Y)
    assert (scores(model) == before).all()


@each
def test_numbers_of_numpy_are_numbers(kind):
    model = kind(layers=np.int64(2), epochs=np.int32(1), learning_rate=np.float32(0.01)).fit(X, Y)
    assert model.network_.flow.layers == 2


@each
def test_lbfgs(kind):
    model = kind(
        layers=2, optimizer="lbfgs", learning_rate=1.0, weight_decay=0.0, head_decay=1e-3, epochs=2, random_state=0
    )
    assert model.fit(X, Y).loss_curve_[-1] < 0.9 * model.loss_curve_[0]


@each
def test_many_columns_are_lifted_linearly(kind):
    x = np.random.RandomState(0).randn(60, 200)
    model = kind(epochs=1).fit(x, Y[:60] if kind is hdnn.HamiltonianRegressor else Y[::2][:60])
    assert isinstance(model.network_.lift, torch.nn.Linear)
    assert model.network_.flow.features == 128


def test_large_states_are_in_single_precision_unless_asked_otherwise():
    x = np.random.default_rng(0).normal(size=(100, 33))
    found = [
        hdnn.HamiltonianRegressor(epochs=1, bins=0, dtype=dtype).fit(x[:, :columns], x[:, 0]).network_.head.weight.dtype
        for columns, dtype in ((32, None), (33, None), (33, "float64"))
    ]
    assert found == [torch.float64, torch.float32, torch.float64]
    few = hdnn.HamiltonianRegressor(epochs=1, bins=0).fit(x[:99], x[:99, 0])
    assert few.network_.head.weight.dtype == torch.float64
