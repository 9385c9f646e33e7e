"""M J Mᵀ = J: measured where it is promised, and refused, with the factor to blame, where it is not."""

from __future__ import annotations

import math

import pytest
import torch

from families import COMBINATIONS, F64, SWEEP, Factors, jacobian, preset, random, skew, state
from hdnn.analysis.invariants import check_symplecticity, symplecticity_residual
from hdnn.interconnections import Fixed, block, canonical, upper_ones

KEEPS = (
    "SymplecticEuler_p",
    "SymplecticEuler_q",
    "StormerVerlet_p",
    "StormerVerlet_q",
    "Yoshida4_p",
    "Suzuki4_q",
    "ImplicitMidpoint",
    "GaussLegendre2",
)
ONE_J = ("canonical", "upper_ones", "skew", "block", "Learned", "Learned_block")


@pytest.mark.parametrize("factors", SWEEP, ids=lambda c: "-".join(c))
def test_kept_exactly_where_it_is_promised_and_refused_elsewhere(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0)
    y0 = state(flow, 5)
    if factors.integrator in KEEPS and factors.interconnection in ONE_J:
        found = check_symplecticity(flow, y0)
        assert found.relative.shape == (5,)
        assert found.relative.max() < 1e-14
        torch.testing.assert_close(found.M[2], jacobian(flow, y0[2]), rtol=1e-10, atol=1e-10)
        return
    with pytest.raises(ValueError, match="keeps no"):
        check_symplecticity(flow, y0)


def test_both_outcomes_occur() -> None:
    promised = [c for c in COMBINATIONS if c.integrator in KEEPS and c.interconnection in ONE_J]
    assert 0 < len(promised) < len(COMBINATIONS)


def test_the_residual_is_M_J_Mt_and_not_its_transpose() -> None:
    """With a random X of h2, M J Mᵀ = J while Mᵀ J M is far from J (paper.md, section 1)."""
    J = block(random(2, 2, seed=8))
    flow = preset("h2", std=1.0, interconnection=Fixed(J))
    M = jacobian(flow, random(4))
    assert symplecticity_residual(M, J) < 1e-14
    assert symplecticity_residual(M.mT, J) > 1e-2


def test_what_the_numbers_mean() -> None:
    M, J = random(3, 4, 4), skew(4)
    residual = M @ J @ M.mT - J
    absolute = residual.square().sum((1, 2)).sqrt()
    torch.testing.assert_close(symplecticity_residual(M, J), absolute)
    relative = absolute / torch.linalg.svdvals(M)[:, 0] ** 2 / J.square().sum().sqrt()
    torch.testing.assert_close(symplecticity_residual(M, J, relative=True), relative)


def test_a_shared_inverse_keeps_the_transposed_inverse_of_K() -> None:
    flow = preset("ms1", std=1.0, shared=True)
    found = check_symplecticity(flow, random(5, 4))
    torch.testing.assert_close(found.J, torch.linalg.inv(flow.K[0]).mT.detach())
    assert found.relative.max() < 1e-13


def test_multiples_of_its_J_and_no_others() -> None:
    flow, y0 = preset("h2", std=1.0), random(5, 4)
    assert check_symplecticity(flow, y0, -3 * canonical(4, dtype=F64)).relative.max() < 1e-14
    assert check_symplecticity(flow, y0, canonical(4)).J.dtype == F64
    with pytest.raises(ValueError, match=r"keeps its own J, `Fixed\(canonical\)`, and no other.*`Fixed\(J\)`"):
        check_symplecticity(flow, y0, upper_ones(4))
    identity = preset("h2", layers=0)
    assert check_symplecticity(identity, y0, upper_ones(4)).absolute.max() == 0


def test_single_precision() -> None:
    flow = preset("h2", std=1.0, dtype=torch.float32)
    assert check_symplecticity(flow, random(5, 4).float()).relative.max() < 1e-6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("h1", {}, r"`ForwardEuler\(\)` is not symplectic.*`h2`, `ms3`.*symplecticity_residual"),
        ("ms1", {}, r"another matrix in every layer.*shared=True"),
        ("h2", {"interconnection": Fixed(block(random(3, 2, 2)))}, "another J in every layer.*Give all layers one J"),
    ],
)
def test_the_factor_to_blame_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_symplecticity(preset(name, **options), random(4))


def test_wrong_input_is_refused() -> None:
    flow, y0 = preset("h2"), random(5, 4)
    with pytest.raises(ValueError, match=r"J must be skew.*\(J - J.mT\) / 2"):
        check_symplecticity(flow, y0, random(4, 4))
    with pytest.raises(ValueError, match=r"one 4 x 4 matrix, for 4 features; got shape \(6, 6\)"):
        check_symplecticity(flow, y0, canonical(6))
    with pytest.raises(TypeError, match="J must be a tensor; got str"):
        check_symplecticity(flow, y0, "canonical")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="J must be finite"):
        symplecticity_residual(torch.eye(4), canonical(4) * math.inf)
    with pytest.raises(ValueError, match=r"square matrices, \(\.\.\., n, n\); got \(3, 4\)"):
        symplecticity_residual(random(3, 4), canonical(4))
    with pytest.raises(ValueError, match="acts on `Images"):
        check_symplecticity(preset("h2", kernel_size=1), y0)
    with torch.no_grad():
        flow.bias[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"bias.*from layer 2 on"):
        check_symplecticity(flow, y0)
