"""Mixed precision: under bfloat16 autocast a flow computes in its own precision, and training follows it closely."""

import copy

import pytest
import torch

import hdnn
from hdnn.training import Recipe, evaluate, fit

X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > X[:, 1]).long()


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def network_of(backend="auto", dtype=torch.float32):
    torch.manual_seed(0)
    flow = hdnn.h2(4, 8, step=0.2, backend=backend, dtype=dtype)
    network = hdnn.vector_classifier(2, 2, flow, lift="linear")
    torch.nn.init.normal_(network.head.weight)
    return network


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory", [None, "store", "recompute", "reverse"])
def test_a_flow_is_the_same_under_autocast(backend, dtype, memory):
    torch.manual_seed(0)
    flow = hdnn.h2(4, 8, step=0.2, backend=backend, memory=memory, dtype=dtype)
    found = []
    for mixed in (False, True):
        y = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            out = flow(y)
        assert out.dtype == dtype
        found.append((*torch.autograd.grad(out.square().sum(), [y, *flow.parameters()]), out))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_states_in_bfloat16_are_taken_and_answered_in_the_precision_of_the_weights():
    flow = network_of().flow
    y = torch.randn(5, 4).bfloat16()
    with autocast():
        out = flow(y)
    assert torch.equal(out, flow(y.float()))


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_gradients_are_close_to_those_of_single_precision(backend):
    network = network_of(backend)
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(X).squeeze(-1), Y.float())
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
    assert bool(found[1].isfinite().all())
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 0.02


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("weight", [None, torch.ones(200)])
def test_training_under_autocast_follows_training_without(optimizer, weight):
    rate = 1.0 if optimizer == "lbfgs" else 0.02
    recipe = Recipe(epochs=5, batch_size=25, optimizer=optimizer, learning_rate=rate)
    plain, mixed = network_of(), network_of()
    before = evaluate(plain, X, Y)["loss"]
    fit(plain, X, Y, recipe, sample_weight=weight)
    # Around the whole training, where PyTorch keeps casts of weights that have moved since.
    with autocast():
        fit(mixed, X, Y, recipe, sample_weight=weight)
    losses = [evaluate(network, X, Y)["loss"] for network in (plain, mixed)]
    assert losses[0] < 0.5 * before
    assert losses[1] == pytest.approx(losses[0], rel=0.15, abs=0.02)


def test_the_alternating_method_trains_its_heads_under_autocast():
    network = network_of()
    with autocast():
        fit(network, X, Y, Recipe(epochs=3, batch_size=50, method="alternating", head_epochs=10))
    assert evaluate(network, X, Y)["accuracy"] > 0.9


def test_a_copy_knows_nothing_of_the_casts():
    network = network_of()
    with autocast():
        out = network(X)
    assert torch.allclose(copy.deepcopy(network)(X), out.float(), atol=0.1)
