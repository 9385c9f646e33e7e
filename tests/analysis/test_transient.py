"""Transient growth, Kreiss constant and numerical abscissa, against closed forms, brute force and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from families import F64, gram, preset, random, skew
from hdnn.analysis.spectra import linearize, marginal_stability
from hdnn.analysis.transient import TransientGrowth, kreiss_constant, numerical_abscissa, transient_growth
from hdnn.interconnections import canonical


def stable(seed: int, features: int = 6) -> Tensor:
    """A matrix whose eigenvalues lie left of the axis, far from normal."""
    A = 3 * random(features, features, seed=seed).triu()
    return A - (A.diagonal().max() + 0.1) * torch.eye(features, dtype=F64)


@pytest.mark.parametrize("eps", [0.9, 0.1, 0.01, 1e-4, 1e-6])
def test_the_closed_forms_of_the_plane(eps: float) -> None:
    """S = diag(1, ε) with the canonical J: 1/√ε, (1 + ε) / (2 √ε) and (1 − ε) / 2."""
    A = canonical(2, dtype=F64) @ torch.diag(torch.tensor([1, eps], dtype=F64))
    grown = transient_growth(A, horizon=4 / math.sqrt(eps))
    assert grown.value == pytest.approx(1 / math.sqrt(eps), rel=1e-9)
    quarters = grown.time / (math.pi / 2 / math.sqrt(eps))
    assert quarters == pytest.approx(round(quarters), abs=1e-3)
    assert round(quarters) % 2 == 1
    assert kreiss_constant(A) == pytest.approx((1 + eps) / (2 * math.sqrt(eps)), rel=1e-7)
    assert float(numerical_abscissa(A)) == pytest.approx((1 - eps) / 2, rel=1e-9)


def turning(seed: int) -> Tensor:
    """One whose resolvent is largest between the frequencies of its eigenvalues."""
    A = random(6, 6, seed=seed) + 6 * random(6, 6, seed=seed + 100).triu(1)
    return A - (float(torch.linalg.eigvals(A).real.max()) + 0.3) * torch.eye(6, dtype=F64)


@pytest.mark.parametrize("A", [*(stable(seed) for seed in range(3)), *(turning(seed) for seed in (90, 95))])
def test_the_kreiss_constant_is_the_supremum_over_the_half_plane(A: Tensor) -> None:
    x, ω = torch.logspace(-3, 2, 200, dtype=F64), torch.linspace(-20, 20, 401, dtype=F64)
    resolvents = torch.complex(x[:, None], ω)[..., None, None] * torch.eye(6) - A
    brute = float((x[:, None] / torch.linalg.svdvals(resolvents)[..., -1]).max())
    assert brute * (1 - 1e-9) <= kreiss_constant(A) <= brute * 1.01


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("marginal", [False, True])
def test_the_kreiss_matrix_theorem(seed: int, marginal: bool) -> None:
    """𝒦 ≤ max ‖exp(t A)‖ ≤ e n 𝒦; and for J S also ‖exp(t A)‖ ≤ √cond S."""
    A = skew(6, seed) @ gram(6, seed) if marginal else stable(seed)
    K, grown = kreiss_constant(A), transient_growth(A, 300.0).value
    assert grown * (1 + 1e-3) >= K
    assert grown <= math.e * 6 * K
    if marginal:
        assert grown <= math.sqrt(float(torch.linalg.cond(gram(6, seed)))) * (1 + 1e-9)
        assert grown > 1.01


@pytest.mark.parametrize("P", [None, gram(6) + torch.eye(6)])
def test_the_abscissa_bounds_the_growth_and_is_its_first_slope(P: Tensor | None) -> None:
    A = stable(3)
    μ = float(numerical_abscissa(A, P))
    L = torch.eye(6, dtype=F64) if P is None else torch.linalg.cholesky(P)
    for t in (1e-6, 0.1, 1.0, 5.0):
        norm = float(torch.linalg.matrix_norm(L.mT @ torch.matrix_exp(t * A) @ torch.linalg.inv(L.mT), 2))
        assert math.log(norm) <= μ * t + 1e-12
        if t < 1e-3:
            assert math.log(norm) / t == pytest.approx(μ, rel=1e-3)


def test_normal_and_unstable_matrices() -> None:
    assert kreiss_constant(-torch.eye(3)) == 1
    assert kreiss_constant(torch.zeros(2, 2)) == 1
    assert kreiss_constant(canonical(4)) == pytest.approx(1, abs=1e-6)
    assert float(numerical_abscissa(canonical(4))) == 0
    assert kreiss_constant(torch.tensor([[0.1, 1], [0, -1]])) == math.inf
    assert kreiss_constant(torch.tensor([[0.0, 1], [0, 0]])) == math.inf  # a Jordan block: exp(t A) grows like t
    assert transient_growth(-torch.eye(3), 5.0) == TransientGrowth(1.0, 0.0)


def test_marginally_stable_layers_of_a_flow_may_grow_on_the_way() -> None:
    """Eigenvalues on the axis say nothing of it: 𝒦 > 1 wherever S is no multiple of the identity."""
    system = linearize(preset("h1", std=1.0), random(4))
    found = marginal_stability(system)
    assert found.answer == "yes"
    K, grown = kreiss_constant(system.A), transient_growth(system.A, 200.0).value
    assert 1.1 < K <= grown * (1 + 1e-6)
    assert grown <= math.sqrt(found.conditioning) * (1 + 1e-9)
    assert float(numerical_abscissa(system.A)) > 0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"square matrix.*got \(2, 3\)"):
        numerical_abscissa(random(2, 3))
    with pytest.raises(ValueError, match="NaN"):
        kreiss_constant(math.nan * random(2, 2))
    with pytest.raises(ValueError, match=r"One matrix at a time; got \(3, 2, 2\)"):
        kreiss_constant(random(3, 2, 2))
    with pytest.raises(ValueError, match="positive, finite time"):
        transient_growth(random(2, 2), -1.0)
    with pytest.raises(ValueError, match="turns too often"):
        transient_growth(1e6 * canonical(2), 10.0)
    with pytest.raises(ValueError, match="overflows before"):
        transient_growth(torch.eye(2), 1000.0)
    with pytest.raises(ValueError, match="symmetric 2 x 2"):
        numerical_abscissa(random(2, 2), random(2, 2))
    with pytest.raises(ValueError, match="positive definite"):
        numerical_abscissa(random(2, 2), -torch.eye(2))
