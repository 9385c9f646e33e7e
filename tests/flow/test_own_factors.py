"""A user's own factors: what a flow promises of them is what they state, never what a neighbour does."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import hdnn
from families import F64, PRESETS, fill, random, state, tight
from hdnn.activations import LeakyReLU, Tanh
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, Integrator, SymplecticEuler
from hdnn.interconnections import Fixed, Interconnection, block, canonical
from hdnn.spaces import Vectors
from hdnn.structures import Dense, Masked, Skew, Structure


class Toeplitz(Structure):
    """Constant along every diagonal, n of some numbers and one of others."""

    def free_shape(self, features: int, kernel_size: int | None = None) -> tuple[int, ...]:
        return (2 * features - 1,)

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        n = (free.shape[-1] + 1) // 2
        rows = torch.arange(n)
        return free[:, rows[:, None] - rows + n - 1]


class LowRank(Structure):
    """K = U Vᵀ, which is not linear in its numbers."""

    def free_shape(self, features: int, kernel_size: int | None = None) -> tuple[int, ...]:
        return (2, features, 2)

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        return free[:, 0] @ free[:, 1].mT


class Scaled(Dense):
    """Of a parent whose K has no such factor."""

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        return 3 * free


class Slotted(Dense):
    """With room of its own for what it knows."""

    __slots__ = ("factor",)

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        return self.factor * free


@dataclass(slots=True)
class Made(Structure):
    """The same, as Python makes it."""

    factor: Tensor

    def free_shape(self, features: int, kernel_size: int | None = None) -> tuple[int, ...]:
        return (features, features)

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        return self.factor * free


def flow_of(structure: Structure, **options: object) -> Flow:
    given = {"interconnection": Fixed(canonical(4)), "integrator": ForwardEuler(), "step": 0.3, "dtype": F64, **options}
    return fill(Flow(4, 5, structure=structure, **given), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Slotted, Made])
def test_factors_with_slots_are_copied(make: Any) -> None:
    flow = flow_of(make(torch.tensor(3.0, dtype=F64)))
    for copied in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        tight(copied(state(flow)), flow(state(flow)))
        assert copied.structure.factor == 3
        assert copied.structure.factor is not flow.structure.factor


@pytest.mark.parametrize("structure", [Toeplitz(), LowRank(), Scaled()])
def test_smoothness_is_that_of_K(structure: Structure) -> None:
    flow = flow_of(structure)
    expected = sum(0.15 * (new - old).square().sum() for old, new in zip(flow.K[:-1], flow.K[1:], strict=True))
    found = flow.smoothness()[0]
    tight(found, torch.as_tensor(expected))
    (gradient,) = torch.autograd.grad(found, flow.weight)
    assert (gradient != 0).any()
    y = state(flow, 3)
    tight(flow[2:](flow[:2](y)), flow(y))
    assert flow.refine(2)(y).isfinite().all()
    assert not hdnn.Flow(
        4, 1, structure=structure, interconnection=Fixed(canonical(4)), integrator=ForwardEuler(), step=0.1
    ).hamiltonian.separable


def test_a_structure_without_places_takes_no_mask() -> None:
    with pytest.raises(ValueError, match=r"those of `LowRank` have no places in K"):
        Masked(LowRank(), torch.ones(4, 4)).free_shape(4)
    with pytest.raises(TypeError, match="Implement `contains`"):
        LowRank().contains(torch.ones(4, 4))


class Dissipative(Interconnection):
    """J − R with R = r I: skew is what it is not."""

    skew = False
    constant_over_layers = True

    def free_shape(self, features: int) -> tuple[int, ...]:
        return ()

    def constant(self, features: int, layers: int) -> Tensor | None:
        return canonical(features, dtype=F64) - 0.8 * torch.eye(features, dtype=F64)

    def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
        return constant

    def pattern(self, features: int) -> Tensor | None:
        return torch.ones(features, features, dtype=torch.bool)

    def layers(self, start: int, stop: int) -> Interconnection:
        return self


@pytest.mark.parametrize("integrator", [ImplicitMidpoint(), ForwardEuler()])
def test_dissipation_promises_nothing(integrator: Integrator) -> None:
    flow = flow_of(Dense(), interconnection=Dissipative(), integrator=integrator)
    assert not flow.preserves_structure
    assert not flow.preserves_volume
    M = hdnn.analysis.sensitivities(flow, random(3, 4))[0]
    assert (torch.linalg.det(M).abs() < 1).all()
    with pytest.raises(ValueError, match="keeps no"):
        hdnn.analysis.check_symplecticity(flow, random(3, 4))
    assert flow_of(Dense(), interconnection=Dissipative(), integrator=integrator)[:0].preserves_volume


@pytest.mark.parametrize("parent", [Interconnection, Fixed, Dissipative])
def test_who_adds_a_J_must_say_whether_it_is_skew(parent: type[Interconnection]) -> None:
    with pytest.raises(TypeError, match="`Own` has a J of its own, so it must say whether it is skew"):

        class Own(parent):  # type: ignore[valid-type, misc]
            def build(self, free: Tensor | None, constant: Tensor | None) -> Tensor | None:
                return constant


class Steep(Tanh):
    """2 tanh u, no name of whose the kernels know."""

    def value(self, u: Tensor) -> Tensor:
        return 2 * torch.tanh(u)


class Backwards(SymplecticEuler):
    """Steps of another integrator, which is not known to keep anything."""

    def step(self, field: hdnn.Field, y: Tensor, h: float) -> Tensor:
        return 0.5 * super().step(field, y, h)


class Turned(Skew):
    """Members of a parent with another sign in some places."""

    def build(self, free: Tensor, index: Tensor | None) -> Tensor:
        return super().build(free, index).abs()


def test_facts_are_not_inherited_with_another_method() -> None:
    assert Steep().slopes is None
    assert Steep().kernel is None
    y = random(3, 4)
    flow = flow_of(Dense(), activation=Steep())
    by_hand = y
    for K, b in zip(flow.K, flow.bias, strict=True):
        by_hand = by_hand + 0.3 * (2 * torch.tanh(by_hand @ K.mT + b)) @ K @ canonical(4, dtype=F64).mT
    tight(flow(y), by_hand)
    assert not Backwards().symplectic
    assert Backwards().kernel is None
    x = (torch.ones(1), torch.ones(1))
    assert Backwards().log_growth(x, monotone=True) is None
    assert Backwards().log_inverse_growth(x, monotone=True) is None
    assert not Backwards().explicit
    assert not Steep().increasing
    assert not Turned().skew
    with pytest.raises(ValueError, match="skew only if K is"):
        flow_of(Turned(), interconnection=hdnn.Inverse())


class Named(LeakyReLU):
    """A subclass that changes no method keeps what its parent states."""

    note: ClassVar[str] = "mine"


@pytest.mark.parametrize("a", [0.0, 0.2, 1.5])
def test_slopes_are_what_is_found(a: float) -> None:
    smallest, largest = Named(a).slopes
    found = Named(a).slope(random(1000))
    assert (float(found.min()), float(found.max())) == (smallest, largest)


class Twice(Vectors):
    """K 2y + b: what is known of Vectors is false of it."""

    def map(self, K, y, b=None):
        return super().map(K, 2 * y, b)

    def adjoint(self, K, z):
        return 2 * super().adjoint(K, z)


class Varying(Fixed):
    """Another J in every layer, made where one is kept."""

    skew = True

    def build(self, free, constant):
        return torch.stack([block(torch.tensor([[1.0, j], [0.0, 1.0]], dtype=F64)) for j in range(6)])

    def pattern(self, features):
        return block(torch.ones(features // 2, features // 2)) != 0


def test_facts_about_a_map_or_a_J_are_not_inherited_over_another() -> None:
    flow = PRESETS["h2"](4, 3, step=0.5, space=Twice(), dtype=F64)
    with pytest.raises(ValueError, match="No bound of"):
        hdnn.analysis.log_upper_bound(flow)
    y = random(2, 4)
    expected = torch.stack([torch.func.jacrev(flow)(x) for x in y])
    torch.testing.assert_close(hdnn.analysis.sensitivities(flow, y)[0], expected)
    assert not flow.space.transposes
    varying = PRESETS["h2"](4, 6, step=0.4, interconnection=Varying(canonical(4)), dtype=F64)
    assert not varying.preserves_structure
