"""The plan holds plain values and says None where only the eager path serves."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn

from families import ACTIVATIONS, INTEGRATORS, PRESETS, STRUCTURES, Factors, preset
from hdnn.activations import LeakyReLU, Tanh
from hdnn.dissipation import Dissipation
from hdnn.energies import Quadratic
from hdnn.integrators import ForwardEuler, Integrator, RungeKutta4
from hdnn.interconnections import Fixed, canonical, upper_ones
from hdnn.poisson import StateDependent


@pytest.mark.parametrize(
    ("name", "method", "first", "structure", "drive"),
    [
        ("ms1", "partitioned", "q", "block_skew", "identity"),
        ("ms2", "euler", "", "skew", "identity"),
        ("ms3", "partitioned", "p", "off_diagonal", "canonical"),
        ("h1", "euler", "", "dense", "canonical"),
        ("h2", "partitioned", "p", "block_diagonal", "canonical"),
    ],
)
def test_presets(name: str, method: str, first: str, structure: str, drive: str) -> None:
    plan = preset(name, 4, 3).plan
    assert plan is not None
    assert (plan.method, plan.first, plan.structure, plan.drive) == (method, first, structure, drive)
    assert (plan.features, plan.hidden, plan.layers, plan.step) == (4, 4, 3, 0.1)
    assert (plan.activation, plan.negative_slope, plan.shared, plan.images) == ("tanh", 0.0, False, False)
    assert all(isinstance(value, str | float | int | bool | tuple) for value in asdict(plan).values())
    assert hash(plan) == hash(preset(name, 4, 3).plan)


def test_other_choices() -> None:
    plan = preset("h1", 4, 3, activation=LeakyReLU(0.3), width=7, shared=True, kernel_size=1).plan
    assert plan is not None
    assert (plan.activation, plan.negative_slope, plan.hidden) == ("leaky_relu", 0.3, 7)
    assert plan.shared
    assert plan.images
    matrix = preset("h1", interconnection=Fixed(upper_ones(4))).plan
    assert matrix is not None
    assert matrix.drive == "matrix"


def test_every_activation_and_structure_has_a_name() -> None:
    for name, activation in ACTIVATIONS.items():
        plan = preset("h1", activation=activation).plan
        assert plan is not None
        assert name.startswith(plan.activation)
    for name in STRUCTURES:
        assert Factors(name, "canonical", "ForwardEuler").flow(4, 2).plan is not None


class OwnTanh(Tanh):
    kernel = None


@pytest.mark.parametrize("integrator", [RungeKutta4(), ForwardEuler()], ids=str)
@pytest.mark.parametrize(
    "more",
    [
        {"energy": Quadratic(torch.ones(4))},
        {"unit_weights": 2.0},
        {"ports": 2},
        {"interconnection": StateDependent(nn.Linear(4, 6), 4)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_none_of_what_is_more_than_units(more: dict[str, Any], integrator: Integrator) -> None:
    flow = preset("h1", 4, 2, integrator=integrator, **more)
    assert flow.plan is None
    with pytest.raises(ValueError, match="no energy, J of the state, unit weights or ports"):
        flow.backend = "native"
    assert preset("h1", 4, 2, integrator=integrator, interconnection=Dissipation(canonical(4), torch.ones(4))).plan


def test_none_where_no_kernel_serves() -> None:
    for name, integrator in INTEGRATORS.items():
        plan = Factors("BlockDiagonal", "canonical", name).flow(4, 2).plan
        assert (plan is None) is (integrator.kernel is None)
    for name in PRESETS:
        assert preset(name, kernel_size=3).plan is None
        assert preset(name, activation=OwnTanh()).plan is None
