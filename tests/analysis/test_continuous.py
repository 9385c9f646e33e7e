"""Sensitivities of the ODE against matrix exponentials, and against the papers' equation solved backward in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from families import F64, PRESETS, preset, random, skew, state
from hdnn.activations import identity, tanh
from hdnn.analysis.continuous import continuous_sensitivities
from hdnn.analysis.ode import HamiltonianODE
from hdnn.analysis.sensitivity import sensitivities
from hdnn.integrators import StormerVerlet
from hdnn.interconnections import Fixed, canonical

TIGHT = {"rtol": 1e-8, "atol": 1e-8}


def test_linear_networks_are_matrix_exponentials() -> None:
    K, J, T = random(5, 4, seed=1), skew(4, seed=2), 1.5
    A = J @ K.T @ K
    ode = HamiltonianODE.piecewise(K, torch.zeros(5, dtype=F64), J, T, identity)
    y0 = random(2, 4)
    times = [0.0, 0.2, 1.1]
    found = continuous_sensitivities(ode, y0, times)
    assert found.times.tolist() == times
    for t, y, forward, backward in zip(times, found.states, found.forward, found.backward, strict=True):
        torch.testing.assert_close(forward, torch.matrix_exp(t * A).expand(2, 4, 4), **TIGHT)
        torch.testing.assert_close(backward, torch.matrix_exp((T - t) * A).expand(2, 4, 4), **TIGHT)
        torch.testing.assert_close(y, y0 @ torch.matrix_exp(t * A).T, **TIGHT)


def test_time_is_not_reversed_in_a_network_that_varies() -> None:
    """K(t) = c(t) K: all A(t) = c² J KᵀK commute, so Φ = exp(∫ c² J KᵀK) with the integral over the right times."""
    K, J, T = random(4, 4, seed=3), skew(4, seed=4), 1.2
    A, b = J @ K.T @ K, torch.zeros(4, dtype=F64)
    ode = HamiltonianODE.varying(lambda t: (math.sqrt(1 + 2 * t) * K, b), J, T, identity)
    found = continuous_sensitivities(ode, random(4), torch.linspace(0, T, 5))
    for t, forward, backward in zip(found.times.tolist(), found.forward, found.backward, strict=True):
        torch.testing.assert_close(forward, torch.matrix_exp((t + t**2) * A), **TIGHT)
        torch.testing.assert_close(backward, torch.matrix_exp((T + T**2 - t - t**2) * A), **TIGHT)


def test_a_piece_is_exact_beside_one_of_very_different_size() -> None:
    K, J, T = random(4, 4, 4, seed=5) * torch.tensor([1.0, 3.0, 0.1, 2.0])[:, None, None], skew(4, seed=6) / 4, 0.4
    ode = HamiltonianODE.piecewise(K, torch.zeros(4, 4, dtype=F64), J, T, identity)
    found = continuous_sensitivities(ode, random(4), tolerance=1e-12)
    Phi = torch.eye(4, dtype=F64)
    for K_j, forward in zip(K, found.forward[1:], strict=True):
        Phi = torch.matrix_exp(T / 4 * J @ K_j.T @ K_j) @ Phi
        torch.testing.assert_close(forward, Phi, rtol=1e-10, atol=1e-10)


def test_no_step_straddles_a_jump() -> None:
    """Once the weights after the jump have been read, those before it are never read again."""
    read: list[float] = []

    def weights(t: float) -> tuple[Tensor, Tensor]:
        read.append(t)
        return (1 if t < 0.2 else 5) * random(4, 4), random(4)

    ode = HamiltonianODE.varying(weights, canonical(4), 0.3, jumps=[0.2])
    read.clear()
    continuous_sensitivities(ode, random(4), [0.3])
    after = [t >= 0.2 for t in read]
    assert after == sorted(after)
    assert sum(after) > 10
    assert len(after) - sum(after) > 10


def in_reverse(ode: HamiltonianODE, y0: Tensor, times: list[float]) -> Tensor:
    """M(t) from the papers' own equation, dM/dt = M A(y(T − t), T − t), piece by piece, last piece first."""
    n, T = len(y0), ode.horizon
    edges = [0.0, *ode.jumps, T]
    pieces = list(itertools.pairwise(edges))
    options = {"method": "LSODA", "rtol": 1e-11, "atol": 1e-12, "dense_output": True}
    paths, y = [], y0.numpy()
    for start, stop in pieces:
        field = ode.field((start + stop) / 2)
        found = solve_ivp(lambda t, y, f=field: f(torch.from_numpy(y)).numpy(), (start, stop), y, **options)
        paths.append(found.sol)
        y = found.y[:, -1]
    M, result = np.eye(n), {T: np.eye(n)}
    for (start, stop), path in zip(reversed(pieces), reversed(paths), strict=True):
        field = ode.field((start + stop) / 2)

        def rate(
            t: float, M: np.ndarray, field: Callable = field, path: Callable = path
        ) -> np.ndarray:  # t counts back from T
            A = field.jacobian(torch.from_numpy(path(T - t))).numpy()
            return (M.reshape(n, n) @ A).ravel()

        found = solve_ivp(rate, (T - stop, T - start), M.ravel(), **options)
        result |= {t: found.sol(T - t).reshape(n, n) for t in times if start <= t <= stop}
        M = found.y[:, -1].reshape(n, n)
    return torch.from_numpy(np.stack([result[t] for t in times]))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_the_papers_equation_solved_backward(name: str, shared: bool) -> None:
    flow = preset(name, std=1.0, shared=shared)
    ode, y0, times = HamiltonianODE.of(flow), random(4), [0.0, 0.05, 0.17, 0.2, 0.29]
    found = continuous_sensitivities(flow, y0, times)
    torch.testing.assert_close(found.backward, in_reverse(ode, y0, times), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shared", [False, True])
def test_forward_and_backward_meet(name: str, shared: bool) -> None:
    found = continuous_sensitivities(preset(name, layers=4, shared=shared), random(3, 4))
    assert found.times.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(found.backward @ found.forward, found.forward[-1].expand(5, 3, 4, 4))
    torch.testing.assert_close(found.backward[-1], torch.eye(4, dtype=F64).expand(3, 4, 4))


def test_a_finer_flow_comes_nearer() -> None:
    """Störmer-Verlet is of order 2: halving the step divides the distance to the ODE by 4."""
    coarse = preset("h2", layers=8, step=0.1, shared=True)
    exact = continuous_sensitivities(coarse, random(4)).backward[0]
    errors = []
    for refinement in (1, 2, 4):
        flow = type(coarse)(
            4,
            8 * refinement,
            step=0.1 / refinement,
            structure=coarse.structure,
            interconnection=coarse.interconnection,
            integrator=StormerVerlet(),
            shared=True,
            dtype=F64,
        )
        flow.load_state_dict(coarse.state_dict())
        errors.append(float((sensitivities(flow, random(4))[0] - exact).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


def test_a_constant_J_is_kept_while_the_weights_vary() -> None:
    """M J Mᵀ = J, hence ‖M‖ ≥ 1, for weights that depend on time (TAC paper)."""
    J = skew(4, seed=8)
    ode = HamiltonianODE.varying(lambda t: (random(6, 4) * math.cos(3 * t), t * random(6, seed=1)), J, 1.0, tanh)
    found = continuous_sensitivities(ode, random(5, 4), [0.0, 0.4, 1.0])
    assert found.residuals is not None
    assert found.residuals.shape == (3, 5)
    assert found.residuals.max() < 1e-8
    assert torch.linalg.matrix_norm(found.backward, 2).min() >= 1 - 1e-9
    # The measure is not blind: the same matrices do not keep another J.
    other = found.backward[0] @ canonical(4, dtype=F64) @ found.backward[0].mT - canonical(4, dtype=F64)
    assert torch.linalg.matrix_norm(other).min() > 0.1


def test_no_residual_without_one_J() -> None:
    assert continuous_sensitivities(preset("ms2"), random(4)).residuals is None
    varying = preset("h1", interconnection=Fixed(torch.stack([skew(4, seed=j) for j in range(3)])))
    assert continuous_sensitivities(varying, random(4)).residuals is None


def test_images_and_wrong_input_are_refused() -> None:
    flow = preset("h2")
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4\); got \(3,\)"):
        continuous_sensitivities(flow, random(3))
    with pytest.raises(ValueError, match="initial state has NaN"):
        continuous_sensitivities(flow, random(4) * math.nan)
    with pytest.raises(ValueError, match=r"between 0 and the horizon 0\.3; got 0\.4"):
        continuous_sensitivities(flow, random(4), [0.1, 0.4])
    with pytest.raises(ValueError, match="`times` is empty"):
        continuous_sensitivities(flow, random(4), [])
    with pytest.raises(ValueError, match="between 1e-13 and 1"):
        continuous_sensitivities(flow, random(4), tolerance=1e-20)
    image = preset("h2", kernel_size=3)
    with pytest.raises(ValueError, match="acts on `Images"):
        continuous_sensitivities(image, state(image, 2))


def test_what_no_solver_reaches() -> None:
    """A K that is finite while J Kᵀ K is not; and oscillations at times whose rounding is longer than they are."""
    y0, J = random(4), canonical(4)
    with pytest.raises(RuntimeError, match="overflow between t = 0 and 1"):
        continuous_sensitivities(HamiltonianODE.piecewise(1e200 * random(4, 4), y0, J, 1.0, identity), y0)
    late = HamiltonianODE.piecewise(torch.stack((0 * J, 100 * J)), y0, J, 2e15, identity)
    with pytest.raises(RuntimeError, match=r"gave up between t = 1e\+15 and 2e\+15.*loosen `tolerance`"):
        continuous_sensitivities(late, y0)


def test_weights_that_are_no_function_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdnn.analysis.continuous._EVALUATIONS", 1000)
    seeds = itertools.count()
    noise = HamiltonianODE.varying(lambda t: (random(4, 4, seed=next(seeds)), random(4)), canonical(4), 1.0)
    with pytest.raises(RuntimeError, match=r"1,000 evaluations .* do not suffice between t = 0 and 1"):
        continuous_sensitivities(noise, random(4))
