"""Data that want gradients, losses that give none, targets that are no numbers, parameters that nobody moves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from hdnn.training import Progress, Recipe, TrainingState, evaluate, every, fit, fit_together

x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
classes, numbers = (x[:, 0] > 0).long(), x.prod(1, keepdim=True)
RECIPE = Recipe(epochs=3, batch_size=8)
backends = pytest.mark.parametrize("backend", ["auto", "torch"])


def classifier() -> hdnn.Network:
    torch.manual_seed(0)
    return hdnn.vector_classifier(2, 2, hdnn.h2(4, 2, step=0.1))


def regressor() -> hdnn.Network:
    torch.manual_seed(0)
    return hdnn.vector_regressor(2, 1, hdnn.h2(4, 2, step=0.1))


def weights(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach()


@backends
@pytest.mark.parametrize("recipe", [RECIPE, Recipe(epochs=2, batch_size=8, restarts=2, restart_epochs=1)])
def test_inputs_may_want_gradients(backend: str, recipe: Recipe) -> None:
    before, wanting = nn.Linear(2, 2), x.clone().requires_grad_()
    for inputs in (wanting, before(x)):
        network, other = classifier(), classifier()
        fit(network, inputs, classes, recipe, backend=backend)
        fit(other, inputs.detach(), classes, recipe, backend="torch")
        torch.testing.assert_close(weights(network), weights(other), rtol=0, atol=1e-6)
    assert wanting.grad is None
    assert wanting.requires_grad
    assert before.weight.grad is None


def test_many_networks_may_share_inputs_that_want_gradients() -> None:
    wanting = x.clone().requires_grad_()
    networks, others = [classifier(), classifier()], [classifier(), classifier()]
    fit_together(networks, wanting.expand(2, 40, 2), classes.expand(2, 40), RECIPE, seeds=[0, 1])
    fit_together(others, x.expand(2, 40, 2), classes.expand(2, 40), RECIPE, seeds=[0, 1], backend="torch")
    for network, other in zip(networks, others, strict=True):
        torch.testing.assert_close(weights(network), weights(other), rtol=0, atol=1e-6)
    assert not torch.equal(weights(networks[0]), weights(networks[1]))
    assert wanting.grad is None


def test_targets_may_want_gradients() -> None:
    network, other = regressor(), regressor()
    fit(network, x, numbers.clone().requires_grad_(), RECIPE, functional.mse_loss)
    fit(other, x, numbers, RECIPE, functional.mse_loss)
    torch.testing.assert_close(weights(network), weights(other), rtol=0, atol=0)


class Force(nn.Module):
    """−∂U/∂x of a learned U: it differentiates by its inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.potential = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, q: Tensor) -> Tensor:
        return -torch.autograd.grad(self.potential(q).sum(), q, create_graph=True)[0]


def test_a_model_may_differentiate_by_its_inputs() -> None:
    history = fit(Force(), x.clone().requires_grad_(), -x, Recipe(epochs=20, batch_size=8), functional.mse_loss)
    assert history[-1]["loss"] < history[0]["loss"] / 2


@backends
@pytest.mark.parametrize("smoothness", [0.0, 0.1])
def test_a_loss_that_gives_no_gradient_is_refused(backend: str, smoothness: float) -> None:
    recipe = Recipe(epochs=1, batch_size=8, smoothness=smoothness)
    plain = nn.Sequential(nn.Linear(2, 4), hdnn.h2(4, 2, step=0.1), nn.Linear(4, 1))
    for network in (regressor(), plain):
        before = weights(network)
        for loss in (lambda y, t: (y - t).square().mean().detach(), lambda y, t: torch.tensor(1.0)):
            with pytest.raises(ValueError, match="does not depend on the outputs"):
                fit(network, x, numbers, recipe, loss, backend=backend)
        assert torch.equal(weights(network), before)
        assert evaluate(network, x, numbers, lambda y, t: torch.tensor(1.0))["loss"] == 1


@backends
@pytest.mark.parametrize("smoothness", [0.0, 0.1])
def test_a_later_batch_may_have_nothing_to_learn_from(backend: str, smoothness: float) -> None:
    recipe = Recipe(epochs=2, batch_size=8, smoothness=smoothness)
    losses: list[Tensor] = []
    paused: list[tuple[nn.Module, TrainingState]] = []

    def loss(y: Tensor, t: Tensor) -> Tensor:
        losses.append(torch.tensor(0.0) if len(losses) == 3 else (y - t).square().mean())
        return losses[-1]

    def pause(progress: Progress) -> None:
        if progress.iteration == 3:
            paused.append((copy.deepcopy(network), progress.state()))

    network = regressor()
    assert len(fit(network, x, numbers, recipe, loss, backend=backend, callbacks=[pause])) == 2
    assert len(losses) == 10
    del losses[3:]
    (other, state), *_ = paused
    fit(other, x, numbers, recipe, loss, backend=backend, resume=state)
    assert torch.equal(weights(other), weights(network))


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_later_batch_that_has_no_gradient_is_refused_in_words(method: Literal["joint", "alternating"]) -> None:
    losses: list[Tensor] = []

    def loss(y: Tensor, t: Tensor) -> Tensor:
        losses.append(torch.tensor(0.0) if len(losses) == 3 else (y - t).square().mean())
        return losses[-1]

    network = hdnn.vector_regressor(2, 1, hdnn.h2(4, 2, step=0.1, integrator=hdnn.ImplicitMidpoint()))
    with pytest.raises(ValueError, match="does not depend on the outputs"):
        fit(network, x, numbers, Recipe(epochs=1, batch_size=8, method=method), loss)
    assert len(losses) == 4


@backends
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_targets_that_are_no_numbers_are_named(backend: str, bad: float) -> None:
    y = torch.where(torch.arange(40)[:, None] == 3, bad, numbers)
    with pytest.raises(ValueError, match="targets of sample 3 are infinite or not a number"):
        fit(regressor(), x, y, RECIPE, backend=backend)
    with pytest.raises(ValueError, match="targets of sample 3"):
        fit(regressor(), x, numbers, RECIPE, validation=(x, y), backend=backend)
    with pytest.raises(ValueError, match="targets of sample 3"):
        fit(regressor(), [(x, y)], recipe=RECIPE)


def replace(network: nn.Module) -> None:
    network[-1] = nn.Linear(4, 1)  # type: ignore[operator]


def add(network: nn.Module) -> None:
    network[0].late = nn.Parameter(torch.zeros(2))  # type: ignore[index]


def assign(network: nn.Module) -> None:
    network.load_state_dict({name: value.clone() for name, value in network.state_dict().items()}, assign=True)


@pytest.mark.parametrize(("change", "name"), [(replace, "2.weight"), (add, "0.late"), (assign, "0.weight")])
def test_parameters_that_nobody_moves_are_named(change: Callable[[nn.Module], None], name: str) -> None:
    network = nn.Sequential(nn.Linear(2, 4), hdnn.h2(4, 2, step=0.1), nn.Linear(4, 1))
    callback = every(epochs=1)(lambda _: change(network))
    with pytest.raises(ValueError, match=rf"not trained \({name}\)"):
        fit(network, x, numbers, RECIPE, functional.mse_loss, backend="torch", callbacks=[callback])
    network.zero_grad()
    fit(network, x, numbers, RECIPE, functional.mse_loss)
    unmoved = [name for name, p in network.named_parameters() if p.grad is None]
    assert unmoved == (["0.late"] if change is add else [])
