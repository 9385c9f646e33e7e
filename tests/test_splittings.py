"""Moves of the halves of a state in turn: compositions, one's own, and what makes no step."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from families import Factors, preset, random, tight
from hdnn.hamiltonian import Field
from hdnn.integrators import (
    Integrator,
    Splitting,
    StormerVerlet,
    Suzuki4,
    SymplecticEuler,
    Yoshida4,
)
from hdnn.kernels import calls


@pytest.mark.parametrize("first", ["p", "q"])
@pytest.mark.parametrize(
    ("integrator", "weights"),
    [
        (Yoshida4, [w := 1 / (2 - 2 ** (1 / 3)), 1 - 2 * w, w]),
        (Suzuki4, [w := 1 / (4 - 4 ** (1 / 3)), w, 1 - 4 * w, w, w]),
    ],
)
def test_compositions_are_steps_of_stormer_verlet(
    integrator: type[Splitting], weights: list[float], first: Literal["p", "q"]
) -> None:
    assert sum(weights) == pytest.approx(1)
    assert sum(w**3 for w in weights) == pytest.approx(0, abs=1e-14)
    flow = Factors("BlockDiagonal", "canonical", "StormerVerlet_p").flow(4, 1, std=1.0, step=0.3)
    (field,), y = flow.fields(), random(20, 4)
    expected = y
    for w in weights:
        expected = StormerVerlet(first).step(field, expected, 0.3 * w)
    tight(integrator(first).step(field, y, 0.3), expected)
    back = integrator(first).step(field, y, -0.3)
    tight(integrator(first).inverse(field, y, 0.3), back)


class Ruth3(Splitting):
    """One that the library does not have: order 3, not symmetric (Ruth 1983; Hairer, Lubich, Wanner, II.5)."""

    order = 3
    fractions = (7 / 24, 2 / 3, 3 / 4, -2 / 3, -1 / 24, 1)


@torch.no_grad()
def test_a_splitting_of_ones_own() -> None:
    def at_one(integrator: Integrator, steps: int) -> torch.Tensor:
        flow = Factors("BlockDiagonal", "canonical", "StormerVerlet_p").flow(
            4, steps, std=0.8, shared=True, step=None, horizon=0.5
        )
        flow.integrator = integrator
        y = random(20, 4)
        tight(flow.inverse(flow(y)), y)
        return flow(y)

    truth = at_one(Suzuki4(), 200)
    errors = [(at_one(Ruth3(), steps) - truth).norm().log2() for steps in (8, 16)]
    assert abs(errors[0] - errors[1] - 3) < 0.1
    assert Ruth3().symplectic
    assert Ruth3().reversible


class Slow(SymplecticEuler):
    """Other moves than those of its parent."""

    fractions = (0.5, 0.5, 0.5, 0.5)


class Slower(SymplecticEuler):
    """More moves than kernels have room for."""

    fractions = (0.1,) * 20


class Own(SymplecticEuler):
    """A step of its own, which no kernel knows."""

    def step(self, field: Field, y: torch.Tensor, h: float) -> torch.Tensor:
        return y


@pytest.mark.parametrize(("integrator", "times"), [(Slow(), 2), (Slower(), 10)])
def test_kernels_run_the_fractions_of_whoever_states_them(integrator: SymplecticEuler, times: int) -> None:
    flow = preset("h2")
    flow.integrator = integrator
    assert flow.plan is not None
    assert flow.plan.fractions == integrator.fractions
    y = random(5, 4)
    expected = y
    for field in flow.fields(y):
        for _ in range(times):
            expected = SymplecticEuler().step(field, expected, flow.step / times)
    tight(flow(y), expected)


def test_kernels_do_not_run_a_step_of_ones_own() -> None:
    flow = preset("h2")
    flow.integrator = Own()
    assert flow.plan is None
    y = random(5, 4)
    assert torch.equal(flow(y), y)


def test_more_moves_than_kernels_have_room_for_are_eager() -> None:
    flow = preset("h2")
    flow.integrator = Slower()
    assert flow.plan is not None
    assert not calls.knows(flow.plan)
    with pytest.raises(ValueError, match="splittings of a few moves"):
        preset("h2", integrator=Slower(), backend="native")


@pytest.mark.parametrize(
    ("moves", "half"), [((0.5, 1.0), "first"), ((1.0,), "second"), ((), "first"), ((0.5, 0.5, 0.5), "second")]
)
def test_moves_that_make_no_step_are_refused(moves: tuple[float, ...], half: str) -> None:
    class Wrong(Splitting):
        fractions = moves

    with pytest.raises(ValueError, match=rf"`fractions` of the {half} half of `Wrong` sum to .*, not 1; got"):
        Wrong()
