"""The three ways to train start from the same network and end with numbers that can be compared."""

import dataclasses

import pytest
import torch

import machine
import perceptrons
import trainers
import training
import trainings


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


@pytest.fixture(params=["Swiss roll, 16 layers", "digits"])
def short_case(request):
    """A case with one epoch of three batches, the last of which is smaller."""
    case = trainings.made(request.param, None)
    rows = 2 * case.recipe.batch_size + 7
    return dataclasses.replace(
        case, x=case.x[:rows], y=case.y[:rows], recipe=dataclasses.replace(case.recipe, epochs=1)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend
def test_every_way_of_jax_trains_alike(short_case):
    pytest.importorskip("jax")
    found = trainings.measure(short_case, 1)["trainings"]
    assert list(found) == [trainings.OURS, "JAX, jitted step", "JAX, epoch in a scan", "JAX, unrolled epoch"]
    for each in found.values():
        assert each["loss"] == pytest.approx(found[trainings.OURS]["loss"], rel=1e-5)
        assert each["microseconds"] > 0


def test_another_training_is_refused(short_case, monkeypatch):
    monkeypatch.setattr(trainings, "by_jax", lambda case: {"other": [lambda epochs: 2 * case.fit(epochs)]})
    with pytest.raises(SystemExit, match="The trainings differ"):
        trainings.measure(short_case, 1)


def test_a_training_by_the_schedule_of_a_case_is_that_of_fit(short_case):
    """What JAX goes by: the same order of batches, rates and mean."""
    torch.manual_seed(1)
    network, recipe = trainings.copy.deepcopy(short_case.network), short_case.recipe
    objective = trainings.hdnn.training.Objective(
        network,
        smoothness=recipe.smoothness,
        head_decay=recipe.head_decay,
        label_smoothing=recipe.label_smoothing,
    )
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(network.parameters(), weight_decay=recipe.weight_decay)
    losses = []
    for order, rates in short_case.schedule(1):
        for chosen, rate in zip(order.split(recipe.batch_size), rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss, _ = objective(short_case.x[chosen], short_case.y[chosen])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    assert short_case.mean(losses) == pytest.approx(short_case.fit(1), rel=1e-5)


def test_the_work_of_perceptrons_is_equal():
    found = perceptrons.measure("wine", 1)["models"]
    assert list(found) == [perceptrons.OURS, perceptrons.PERCEPTRON]
    assert all(each["seconds"] > 0 and each["accuracy"] > 0.8 for each in found.values())


def test_perceptrons_of_other_sizes_are_refused(monkeypatch):
    monkeypatch.setattr(perceptrons, "hidden_units", lambda parameters, inputs, outputs: 3)
    with pytest.raises(SystemExit, match="wine: the work is not equal"):
        perceptrons.measure("wine", 1)


def test_the_report_holds_times_accuracies_and_verdict():
    def result(seed, seconds):
        each = {"seconds": seconds, "test_accuracy": 0.9975}
        names = {trainers.OURS: each, trainers.PLAIN: each | {"seconds": 16 * seconds}, trainers.CAREFUL: each}
        return {"seed": seed, **names}

    def by(microseconds):
        return {"loss": 0.69, "first": 1.5, "microseconds": microseconds}

    raw = {
        "epochs": 50,
        "loops": [result(0, 1.0), result(1, 2.0), result(2, 4.0)],
        "trainings": {
            "digits": {
                "goal": 1.2,
                "trainings": {trainings.OURS: by(50.0), "JAX, one": by(100.0), "JAX, two": by(55.0)},
            },
            "MNIST": {"goal": 1.5, "trainings": {trainings.OURS: by(50.0), "JAX, one": by(100.0)}},
        },
        "perceptrons": {
            "wine": {
                "rows": 142,
                "epochs": 40,
                "batch_size": 32,
                "models": {
                    perceptrons.OURS: {"parameters": 2993, "seconds": 0.02, "accuracy": 1.0},
                    perceptrons.PERCEPTRON: {"parameters": 2995, "seconds": 0.03, "accuracy": 0.975},
                },
            }
        },
    }
    text = "\n".join(training.report(machine.facts(), raw))
    assert "| 1 | 2.00 s, 99.75 % | 32.00 s, 99.75 % | 2.00 s, 99.75 % |" in text
    assert "**16.0 times** as long as hdnn (goal 15, met), the careful loop 1.0 times" in text
    assert "| digits | 50 | 100 | 55 | **1.10** (missed: 1.2) |" in text
    assert "| MNIST | 50 | 100 | – | **2.00** (met: 1.5) |" in text
    assert "| digits | 0.690000, 1.5 s |" in text
    work = "142 rows, 40 epochs, batches of 32 | 2,993: 20.0 ms, 1.000 | 2,995: 30.0 ms, 0.975"
    assert f"| wine | {work} | **1.50** (met: 1) |" in text
