"""The three ways to train start from the same network and end with numbers that can be compared."""

import pytest
import torch

import machine
import trainers
import training


@pytest.fixture
def short(monkeypatch):
    """Data of four batches."""
    data = trainers.data_of(0)
    monkeypatch.setattr(trainers, "data_of", lambda seed: tuple(part[:500] for part in data))


@pytest.mark.usefixtures("short")
def test_three_ways_one_training():
    found = trainers.compare(seed=1, epochs=1)
    assert list(found) == [trainers.OURS, trainers.PLAIN, trainers.CAREFUL]
    assert all(result["seconds"] > 0 for result in found.values())
    accuracies = [result["test_accuracy"] for result in found.values()]
    assert max(accuracies) - min(accuracies) < 0.02  # the same batches: only rounding differs


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("model", [trainers.Plain, trainers.Careful])
def test_another_objective_is_refused(monkeypatch, model):
    right = model.smoothness
    monkeypatch.setattr(model, "smoothness", lambda self: 2 * right(self))
    with pytest.raises(FloatingPointError, match=f"The {model.__name__.lower()} loop pass is off by"):
        trainers.compare(seed=1, epochs=1)


def test_the_loops_train_every_parameter():
    network = trainers.network_of(0)
    count = sum(p.numel() for p in network.parameters())
    for model in (trainers.Plain(network), trainers.Careful(network)):
        assert sum(p.numel() for p in model.parameters()) == count
        torch.testing.assert_close(model(torch.ones(3, 2)), network(torch.ones(3, 2)).squeeze(1))


def test_the_report_holds_times_accuracies_and_verdict():
    def result(seed, seconds):
        each = {"seconds": seconds, "test_accuracy": 0.9975}
        names = {trainers.OURS: each, trainers.PLAIN: each | {"seconds": 16 * seconds}, trainers.CAREFUL: each}
        return {"seed": seed, **names}

    text = "\n".join(training.report(machine.facts(), [result(0, 1.0), result(1, 2.0), result(2, 4.0)], epochs=50))
    assert "| 1 | 2.00 s, 99.75 % | 32.00 s, 99.75 % | 2.00 s, 99.75 % |" in text
    assert "**16.0 times** as long as hdnn (goal 15, met), the careful loop 1.0 times" in text
