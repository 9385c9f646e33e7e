"""Norms, spectra and determinants against their definitions; statistics against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from families import F64, PRESETS, preset, random, state
from hdnn.analysis import (
    Statistics,
    condition_numbers,
    layer_jacobians,
    log_determinants,
    norms,
    sensitivities,
    singular_values,
    statistics,
)


def of_spectrum(*values: float) -> Tensor:
    """A matrix with these singular values and random singular vectors."""
    U, V = (torch.linalg.qr(random(len(values), len(values), seed=seed)).Q for seed in (1, 2))
    return U @ torch.diag(torch.tensor(values, dtype=F64)) @ V.mT


def test_norms_are_their_definitions() -> None:
    M = random(3, 5, 4, 6)
    torch.testing.assert_close(norms(M, 1), M.abs().sum(-2).amax(-1))
    torch.testing.assert_close(norms(M, math.inf), M.abs().sum(-1).amax(-1))
    torch.testing.assert_close(norms(M, "fro"), M.square().sum((-2, -1)).sqrt())
    torch.testing.assert_close(norms(M), torch.linalg.eigvalsh(M @ M.mT)[..., -1].sqrt())
    assert norms(of_spectrum(3.0, 0.5, 0.1)) == pytest.approx(3)


def test_norms_bound_what_a_matrix_does() -> None:
    M, v = random(50, 4, 4), random(50, 4, seed=1)
    for order in (1, 2, math.inf):
        grown = torch.linalg.vector_norm((M @ v.unsqueeze(-1)).squeeze(-1), order, dim=-1)
        assert (grown <= norms(M, order) * torch.linalg.vector_norm(v, order, dim=-1) + 1e-12).all()


def test_singular_values_from_largest_to_smallest() -> None:
    torch.testing.assert_close(singular_values(of_spectrum(0.5, 7.0, 2.0)), torch.tensor([7, 2, 0.5], dtype=F64))
    assert singular_values(random(2, 3, 5)).shape == (2, 3)


def test_singular_values_of_a_symplectic_flow_come_in_pairs() -> None:
    flow = preset("h2", features=6, layers=8, std=1.0)
    s = singular_values(sensitivities(flow, state(flow, 20)))
    torch.testing.assert_close(s * s.flip(-1), torch.ones_like(s), rtol=1e-8, atol=0)


def test_condition_numbers() -> None:
    assert condition_numbers(of_spectrum(6.0, 3.0, 2.0)) == pytest.approx(3)
    assert condition_numbers(torch.zeros(2, 2)).isposinf()
    assert condition_numbers(torch.diag(torch.tensor([1.0, 0.0]))).isposinf()
    several = [random(5, 2, 3), random(5, 2, 2)]
    torch.testing.assert_close(condition_numbers(several)[1], torch.linalg.cond(several[1]))


def test_log_determinants_add_up() -> None:
    L = random(6, 4, 3, 3)
    sign, log = log_determinants(L)
    M = torch.eye(3, dtype=F64).expand(4, 3, 3)
    for j in reversed(range(7)):
        torch.testing.assert_close(sign[j] * log[j].exp(), torch.linalg.det(M))
        M = M @ L[j - 1] if j else M


@pytest.mark.parametrize("name", PRESETS)
def test_no_layer_of_a_preset_shrinks_volume(name: str) -> None:
    flow = preset(name, layers=600, std=1.0, step=0.3)
    sign, log = log_determinants(layer_jacobians(flow, state(flow, 5)))
    assert (sign == 1).all()
    assert (log.diff(dim=0) <= 1e-13).all()
    if flow.preserves_volume:
        assert log.abs().max() < 1e-11
    else:
        assert (log[0] > 1).all()


def test_singular_layers() -> None:
    sign, log = log_determinants(torch.stack([random(2, 2), torch.zeros(2, 2, dtype=F64), random(2, 2)]))
    assert sign[:2].tolist() == [0, 0]
    assert log[:2].isneginf().all()
    assert log[2:].isfinite().all()


def test_statistics_over_all_samples() -> None:
    values = random(4, 3, 7).exp()
    found = statistics(values, levels=[0.1, 0.5, 1.0])
    rows = values.reshape(4, -1).numpy()
    assert isinstance(found, Statistics)
    np.testing.assert_allclose(found.minimum, rows.min(1))
    np.testing.assert_allclose(found.mean, rows.mean(1))
    np.testing.assert_allclose(found.maximum, rows.max(1))
    np.testing.assert_allclose(found.quantiles, np.quantile(rows, [0.1, 0.5, 1.0], axis=1))
    assert found.levels == (0.1, 0.5, 1.0)


def test_one_sample_is_its_own_statistics() -> None:
    found = statistics(torch.tensor([2.0, 5.0]))
    assert found.mean.tolist() == found.minimum.tolist() == found.maximum.tolist() == [2, 5]
    assert found.quantiles.shape == (5, 2)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r'`order` must be 1, 2, math\.inf or "fro"; got 3'):
        norms(random(2, 2), 3)
    for function in (norms, singular_values, condition_numbers, log_determinants):
        with pytest.raises(ValueError, match="A matrix holds NaN or infinity"):
            function(torch.full((1, 2, 2), math.nan))
        with pytest.raises(ValueError, match=r"matrices of shape \(..., n, n\); got \(3,\)"):
            function(random(3))
    with pytest.raises(ValueError, match="value at depth 1 is not finite"):
        statistics(torch.tensor([[1.0, 2.0], [1.0, math.inf]]))
    with pytest.raises(ValueError, match=r"one sample at least; got \(3, 0\)"):
        statistics(torch.ones(3, 0))
    with pytest.raises(ValueError, match="between 0 and 1; got"):
        statistics(torch.ones(3, 2), levels=[50])
