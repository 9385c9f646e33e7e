"""What functions of a user's own give: of another shape it would be spread over other numbers without a word."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hdnn
from families import random
from hdnn import Energy, Separable
from hdnn.analysis import energy_drift
from hdnn.flow import Flow
from hdnn.training import fit, fit_together

F64 = torch.float64
Y = random(5, 4)


class Given(Energy):
    """|y|² / 2, in the shape that is asked for."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape

    def value(self, y: Tensor, t: float) -> Tensor:
        found = y.square().sum(-1, keepdim=True) / 2
        return {"column": found, "total": found.sum(), "number": 3.0}[self.shape]  # type: ignore[return-value]


class OfGradient(Energy):
    """|y|² / 2 with a false gradient, or a false mean of it."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def value(self, y: Tensor, t: float) -> Tensor:
        return y.square().sum(-1) / 2

    def gradient(self, y: Tensor, t: float) -> Tensor:
        return y.mean(0) if self.method == "gradient" else y

    def mean(self, y: Tensor, after: Tensor, t: float) -> Tensor:
        return ((y + after) / 2).sum(-1) if self.method == "mean" else (y + after) / 2


def column(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True) / 2


def square(x: Tensor) -> Tensor:
    return x.square().sum(-1) / 2


def flow_of(energy: Energy, integrator: str, **units: Any) -> Flow:
    return Flow(4, 2, step=0.1, energy=energy, interconnection="canonical", integrator=integrator, dtype=F64, **units)


ENERGIES = {
    "column": (Given("column"), ValueError, r"`Given.value` must give one number a state.*\(5, 1\).*`.squeeze\(-1\)`"),
    "total": (Given("total"), ValueError, r"here \(5,\); got \(\)\. Sum over the features alone: `\.sum\(-1\)`"),
    "number": (Given("number"), TypeError, r"got 3\.0, a float"),
    "T": (Separable(column, square), ValueError, r"`T` must give one number a state"),
    "V": (Separable(square, column), ValueError, r"`V` must give one number a state"),
    "energy": (Separable(square, Given("column")), ValueError, r"`Given.value` must give"),
}


@pytest.mark.parametrize("case", ENERGIES)
def test_energies_are_one_number_a_state(case: str) -> None:
    energy, error, words = ENERGIES[case]
    flow = flow_of(energy, "forward_euler")
    beside = hdnn.h1(4, 2, step=0.1, energy=energy, dtype=F64)
    for ask in (
        flow.energy,
        flow,
        partial(energy_drift, flow[0]),
        flow_of(energy, "discrete_gradient"),  # which looked for its step without an end
        beside,
        beside.energy,
    ):
        with pytest.raises(error, match=words):
            ask(Y)
    if isinstance(energy, Separable):
        with pytest.raises(error, match=words):
            flow_of(energy, "stormer_verlet")(Y)


def test_gradients_are_those_of_the_states() -> None:
    for method, step in (("gradient", "forward_euler"), ("mean", "discrete_gradient")):
        with pytest.raises(ValueError, match=rf"`OfGradient.{method}` must have the shape of the states.*\(5, 4\)"):
            flow_of(OfGradient(method), step)(Y)
    with pytest.raises(ValueError, match=r"`OfGradient.gradient` must have the shape"):
        flow_of(OfGradient("gradient"), "forward_euler", ports=1).port(Y)


@pytest.mark.parametrize("given", [(0,), (2, 1), 2.0, (0, float("nan")), ("a", 1), (0, 1, 2)])
def test_curvatures_are_two_bounds(given: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"curvature.* must be"):
        flow_of(Separable(square, square, curvature=given), "forward_euler")  # type: ignore[arg-type]
    assert flow_of(Separable(square, square, curvature=(1, 1)), "forward_euler").energy(Y).shape == (5,)


def test_the_module_of_J_gives_tensors() -> None:
    class Pair(nn.Module):
        def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
            return y, y

    J = hdnn.StateDependent(Pair(), features=4)
    with pytest.raises(ValueError, match=r"must give the 6 entries above the diagonal.*got a tuple"):
        hdnn.h1(4, 2, step=0.1, interconnection=J, integrator="runge_kutta4", dtype=F64)(Y)


# Losses and penalties -----------------------------------------------------------------------------------------------

LOSSES = {
    "spread": (lambda output, y: (output - y).square(), r"spread outputs \(12, 1\) and targets \(12,\).*squeeze"),
    "parts": (lambda output, y: torch.stack([output.mean()] * 5), r"one for each of 12 samples; got shape \(5,\)"),
}
RECIPE = hdnn.Recipe(epochs=1, batch_size=12)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 1)).double()


@pytest.mark.parametrize("case", LOSSES)
def test_losses_are_one_number_or_one_a_sample(case: str) -> None:
    loss, words = LOSSES[case]
    with pytest.raises(ValueError, match=words):
        fit(model(), random(12, 4), random(12), RECIPE, loss=loss)
    with pytest.raises(ValueError, match=words):
        fit_together([model(), model()], random(2, 12, 4), random(2, 12), RECIPE, seeds=[0, 1], loss=loss)


def test_losses_of_samples_are_averaged() -> None:
    x, y, net = random(12, 4), random(12), model()
    for loss in (
        lambda output, y: (output[:, 0] - y).square(),
        lambda output, y: (output[:, 0] - y).square().mean().reshape(1),
        lambda output, y: (output - y[:, None]).square(),
    ):
        found = hdnn.evaluate(net, x, y, loss)["loss"]
        assert found == pytest.approx(float((net(x)[:, 0] - y).detach().square().mean()))


def test_penalties_are_one_number() -> None:
    penalties = [(1.0, lambda network: network[0].weight.square())]
    with pytest.raises(ValueError, match=r"Penalty 0 must return one number.*got \(1, 4\)\. Sum it up"):
        fit_together(
            [model(), model()],
            random(2, 12, 4),
            random(2, 12),
            RECIPE,
            seeds=[0, 1],
            loss=lambda output, y: (output[:, 0] - y).square(),
            penalties=penalties,
        )
