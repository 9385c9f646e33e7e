"""The number of epochs is found on rows held back, and these are not lost."""

import dataclasses

import pytest
import torch

import hdnn
from hdnn.training import TrainingState, split

RECIPE = hdnn.Recipe(
    epochs=12, batch_size=16, learning_rate=0.1, optimizer="adamw", validation_fraction=0.2, patience=3, refit=True
)


def rows(task="classification"):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(90, 2, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(90, generator=generator, dtype=torch.float64)
    y = x[:, 0] * x[:, 1] + noise
    return x, (y > 0).long() if task == "classification" else y[:, None]


def network(task="classification", seed=0):
    torch.manual_seed(seed)
    flow = hdnn.h2(4, layers=4, horizon=1.0, dtype=torch.float64)
    return hdnn.vector_classifier(2, 2, flow) if task == "classification" else hdnn.vector_regressor(2, 1, flow)


def told():
    """Callbacks, and what they were told."""
    states, records = [], []

    def keep(progress):
        states.append(progress.state())
        if progress.record is not None:
            records.append((len(progress.search), progress.record))

    return keep, states, records


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_refit_is_a_training_on_all_rows_for_the_epochs_that_were_best(task, backend):
    x, y = rows(task)
    keep, _, records = told()
    model = network(task)
    history = hdnn.fit(model, x, y, RECIPE, callbacks=[keep], backend=backend)
    search = [record for before, record in records if not before]

    def score(record):
        return record.get("validation_accuracy", 0.0), -record["validation_loss"]

    best = 1 + max(range(len(search)), key=lambda k: (score(search[k]), -k))
    other = network(task)
    plain = dataclasses.replace(RECIPE, refit=False, validation_fraction=0.0, patience=None, epochs=best)
    expected = hdnn.fit(other, x, y, plain, backend=backend)
    assert same(model, other)
    assert [r["loss"] for r in history] == [r["loss"] for r in expected]
    assert "validation_loss" not in history[0]


def test_search_is_the_training_that_holds_rows_back():
    x, y = rows()
    keep, _, records = told()
    hdnn.fit(network(), x, y, RECIPE, callbacks=[keep])
    search = [record["validation_loss"] for before, record in records if not before]
    stopped = hdnn.fit(network(), x, y, dataclasses.replace(RECIPE, refit=False))
    assert search == [record["validation_loss"] for record in stopped]


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_resumed_from_any_step_of_both_trainings_it_gets_the_same_bits(backend, restarts):
    x, y = rows()
    recipe = dataclasses.replace(RECIPE, epochs=4, batch_size=32, restarts=restarts, restart_epochs=2)
    keep, states, _ = told()
    starts = []
    model = network()
    history = hdnn.fit(
        model, x, y, recipe, callbacks=[keep], start_callbacks=[lambda p: starts.append(p.state())], backend=backend
    )
    assert {bool(state.search) for state in states} == {False, True}
    assert bool(starts) == (restarts > 1)
    for state in [*starts, *states]:
        again = network(seed=1)
        state = TrainingState.from_tensors(state.to_tensors())
        resumed = hdnn.fit(again, x, y, recipe, resume=state, backend=backend)
        assert same(model, again)
        assert [r["loss"] for r in resumed] == [r["loss"] for r in history]


def test_patience_begins_after_the_warm_up():
    x, y = rows()
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]  # nothing to learn: never better for long
    recipe = dataclasses.replace(RECIPE, epochs=60, warmup=0.5, patience=1, refit=False)
    assert len(hdnn.fit(network(), x, y, recipe)) > 30
    constant = dataclasses.replace(recipe, schedule="constant")
    assert len(hdnn.fit(network(), x, y, constant)) < 30


def test_weights_of_rows_take_part_in_both_trainings():
    x, y = rows()
    weight = torch.rand(len(y), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    train, _ = split(y, RECIPE.validation_fraction, RECIPE.seed, stratify=True)
    model, other = network(), network()
    hdnn.fit(model, x, y, RECIPE, sample_weight=weight)
    alike = torch.where(torch.zeros(len(y)).index_fill(0, train, 1.0) > 0, weight, weight * 1e3)
    hdnn.fit(other, x, y, RECIPE, sample_weight=alike)
    assert not same(model, other)  # rows that were held back count in the end


def test_what_cannot_be_refitted_is_refused_in_words():
    x, y = rows()
    with pytest.raises(ValueError, match="`refit` trains on the rows that were held back"):
        hdnn.Recipe(refit=True)
    with pytest.raises(ValueError, match="names data to watch"):
        hdnn.fit(network(), x, y, RECIPE, validation=(x, y))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 16)
    with pytest.raises(ValueError, match="a loader holds nothing back"):
        hdnn.fit(network(), loader, recipe=RECIPE)
