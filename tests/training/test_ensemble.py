"""Training together: each member ends where a training of its own would."""

import copy
import dataclasses
from functools import partial

import pytest
import torch

import hdnn
from hdnn.training import Recipe, fit, fit_together, starts
from hdnn.training.batches import Batch
from hdnn.training.objective import objective_of

DOUBLE = torch.float64


def make(task: str, layers: int = 3) -> torch.nn.Module:
    if task == "regression":
        return hdnn.vector_regressor(2, 2, hdnn.h2(4, layers, horizon=1.0, dtype=DOUBLE))
    flow = hdnn.h1(4, layers, horizon=1.0, dtype=DOUBLE)
    return hdnn.vector_classifier(2, 2 if task == "two classes" else 3, flow, lift="linear")


def draw(task: str, members: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(members, rows, 2, dtype=DOUBLE)
    if task == "regression":
        return x, torch.randn(members, rows, 2, dtype=DOUBLE)
    return x, torch.randint(2 if task == "two classes" else 3, (members, rows))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["joint", "alternating"])
@pytest.mark.parametrize("task", ["two classes", "three classes", "regression"])
def test_each_member_ends_where_its_own_training_ends(task, method, weighted) -> None:
    weight = torch.rand(3, 70, dtype=DOUBLE) if weighted else None
    networks = [make(task) for _ in range(3)]
    alone = copy.deepcopy(networks)
    x, y = draw(task, 3, 70)
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        clip=0.1,
        smoothness=1e-2,
        head_decay=1e-3,
        weight_decay=1e-3,
        label_smoothing=0.0 if task == "regression" else 0.1,
        method=method,
        head_epochs=2,
    )
    histories = fit_together(networks, x, y, recipe, seeds=[1, 2, 3], sample_weight=weight)
    for i, seed in enumerate([1, 2, 3]):
        own_weight = None if weight is None else weight[i]
        expected = fit(alone[i], x[i], y[i], dataclasses.replace(recipe, seed=seed), sample_weight=own_weight)
        for together, own in zip(networks[i].parameters(), alone[i].parameters(), strict=True):
            torch.testing.assert_close(together, own, rtol=1e-8, atol=1e-8)
        for record, own_record in zip(histories[i], expected, strict=True):
            assert record.keys() == own_record.keys()
            for name in record.keys() - {"seconds"}:
                assert record[name] == pytest.approx(own_record[name], rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["exponential", "constant"])
def test_other_optimizers_and_schedules(optimizer, schedule) -> None:
    networks = [make("two classes") for _ in range(2)]
    alone = copy.deepcopy(networks)
    x, y = draw("two classes", 2, 40)
    recipe = Recipe(epochs=2, batch_size=16, optimizer=optimizer, schedule=schedule, weight_decay=1e-2)
    fit_together(networks, x, y, recipe, seeds=[5, 6])
    fit(alone[1], x[1], y[1], dataclasses.replace(recipe, seed=6))
    for together, own in zip(networks[1].parameters(), alone[1].parameters(), strict=True):
        torch.testing.assert_close(together, own, rtol=1e-9, atol=1e-9)


def test_a_member_that_diverges_leaves_the_others_alone() -> None:
    networks = [make("two classes") for _ in range(2)]
    with torch.no_grad():
        networks[0].flow.weight.fill_(float("nan"))
    x, y = draw("two classes", 2, 40)
    lost, kept = fit_together(networks, x, y, Recipe(epochs=2), seeds=[0, 1])
    assert lost[-1]["loss"] != lost[-1]["loss"]
    assert kept[-1]["loss"] < 1.0
    assert all(p.isfinite().all() for p in networks[1].parameters())


def test_frozen_parameters_stay() -> None:
    networks = [make("two classes") for _ in range(2)]
    for network in networks:
        network.flow.bias.requires_grad_(False)
    before = networks[1].flow.bias.clone()
    x, y = draw("two classes", 2, 40)
    fit_together(networks, x, y, Recipe(epochs=1), seeds=[0, 1])
    assert torch.equal(networks[1].flow.bias, before)


def test_one_set_of_data_serves_all() -> None:
    networks = [make("two classes") for _ in range(2)]
    x, y = draw("two classes", 1, 40)
    histories = fit_together(networks, x.expand(2, 40, 2), y.expand(2, 40), Recipe(epochs=1), seeds=[0, 1])
    assert len(histories) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lbfgs", "learning_rate": 1.0}, "one by one"),
        ({"validation_fraction": 0.2}, "one by one"),
    ],
)
def test_recipes_that_need_their_own_time_are_refused(change, message) -> None:
    x, y = draw("two classes", 2, 40)
    with pytest.raises(ValueError, match=message):
        fit_together([make("two classes") for _ in range(2)], x, y, Recipe(**change), seeds=[0, 1])


def test_unlike_networks_are_refused() -> None:
    x, y = draw("two classes", 2, 40)
    with pytest.raises(ValueError, match="alike"):
        fit_together([make("two classes", 3), make("two classes", 4)], x, y, Recipe(), seeds=[0, 1])


def test_every_network_needs_a_seed_of_its_own() -> None:
    x, y = draw("two classes", 2, 40)
    with pytest.raises(ValueError, match="its own inputs, targets and seed"):
        fit_together([make("two classes") for _ in range(2)], x, y, Recipe(), seeds=[0])


# Several starts


def fresh(seed: int = 0) -> hdnn.Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make("two classes")


RESTARTS = Recipe(epochs=2, batch_size=16, restarts=3, restart_epochs=4, restart_learning_rate=0.05)


def test_several_starts_give_the_same_bits_again_and_leave_the_generator_alone() -> None:
    x, y = draw("two classes", 1, 40)
    before = torch.random.get_rng_state()
    first, second = fresh(), fresh()
    for network in (first, second):
        fit(network, x[0], y[0], RESTARTS)
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_goes_on_from_the_start_with_the_smallest_objective(monkeypatch) -> None:
    seen = []
    honest = starts.train_together

    def listening(networks, *arguments, **options):
        histories = honest(networks, *arguments, **options)
        seen.append(([history[-1]["loss"] for history in histories], [copy.deepcopy(n) for n in networks]))
        return histories

    monkeypatch.setattr(starts, "train_together", listening)
    network = fresh()
    x, y = draw("two classes", 1, 40)
    starts.start_well([network], Batch(x, y), RESTARTS, partial(objective_of, recipe=RESTARTS), seeds=[0])
    [(losses, begun)] = seen
    assert len(set(losses)) == RESTARTS.restarts, "starts must differ"
    best = begun[losses.index(min(losses))]
    for own, expected in zip(network.parameters(), best.parameters(), strict=True):
        assert torch.equal(own, expected)


def test_together_or_alone_the_starts_are_the_same() -> None:
    x, y = draw("two classes", 2, 40)
    together, alone = [fresh(0), fresh(1)], [fresh(0), fresh(1)]
    fit_together(together, x, y, RESTARTS, seeds=[7, 8])
    for i, seed in enumerate([7, 8]):
        fit(alone[i], x[i], y[i], dataclasses.replace(RESTARTS, seed=seed))
        for a, b in zip(together[i].parameters(), alone[i].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_one_start_that_diverges_is_passed_over() -> None:
    network = fresh()
    with torch.no_grad():
        network.flow.weight.fill_(float("nan"))
    x, y = draw("two classes", 1, 40)
    fit(network, x[0], y[0], RESTARTS)
    assert all(p.isfinite().all() for p in network.parameters())


def test_starts_that_all_diverge_are_an_error() -> None:
    x, y = draw("two classes", 1, 40)
    wild = dataclasses.replace(RESTARTS, optimizer="sgd", restart_learning_rate=1e200)
    with pytest.raises(FloatingPointError, match="All 3 starts diverged"):
        fit(fresh(), x[0], y[0], wild)


def test_resuming_does_not_start_again() -> None:
    x, y = draw("two classes", 1, 40)
    states = []
    network, again = fresh(), fresh()
    fit(network, x[0], y[0], RESTARTS, callbacks=[lambda progress: states.append(progress.state())])
    fit(again, x[0], y[0], RESTARTS, resume=states[1])
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_members_with_other_graphs_or_masks_are_refused() -> None:
    def graph(end: int) -> torch.nn.Module:
        return hdnn.h2(4, 2, step=0.1, space=hdnn.Graph(torch.tensor([[0, end], [end, 0]]), nodes=3))

    def masked(row: int) -> torch.nn.Module:
        mask = torch.ones(4, 4)
        mask[row, 0] = 0
        return hdnn.Flow(
            4,
            2,
            step=0.1,
            structure=hdnn.Masked(hdnn.Dense(), mask),
            interconnection="canonical",
            integrator="forward_euler",
        )

    for make, shape in ((graph, (2, 8, 3, 4)), (masked, (2, 8, 4))):
        x = torch.randn(*shape)
        with pytest.raises(ValueError, match="same graphs and masks"):
            fit_together([make(1), make(2)], x, x, Recipe(epochs=1), torch.nn.functional.mse_loss, seeds=range(2))
