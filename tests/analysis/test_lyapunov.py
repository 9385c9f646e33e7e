"""Lyapunov exponents against eigenvalues, singular values and determinants."""

from __future__ import annotations

import math

import pytest
import torch

from families import F64, PRESETS, REPRESENTATIVE, Factors, fill, preset, random, skew, state
from hdnn.activations import identity
from hdnn.analysis.invariants import log_volume
from hdnn.analysis.lyapunov import lyapunov_exponents, lyapunov_statistics
from hdnn.analysis.sensitivity import log_norms
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler
from hdnn.interconnections import Fixed
from hdnn.structures import Dense


def test_a_linear_network_grows_like_its_eigenvalues() -> None:
    """Forward Euler multiplies the oscillation of frequency ω by |1 + i h ω| a step; two directions each."""
    flow = Flow(
        5,
        5000,
        step=0.1,
        structure=Dense(),
        interconnection=Fixed(skew(5)),
        activation=identity,
        integrator=ForwardEuler(),
        shared=True,
        dtype=F64,
    )
    fill(flow, std=0.7)
    torch.nn.init.zeros_(flow.bias)
    K = flow.K[0].detach()
    frequencies = torch.linalg.eigvals(skew(5) @ K.T @ K).imag
    expected = (0.5 * torch.log1p((0.1 * frequencies) ** 2) / 0.1).sort(descending=True).values
    torch.testing.assert_close(
        lyapunov_exponents(flow, torch.zeros(5, dtype=F64)), expected, rtol=0, atol=10 / flow.horizon
    )


@pytest.mark.parametrize("factors", REPRESENTATIVE, ids=lambda c: "-".join(c))
def test_their_sum_is_the_growth_of_volume(factors: Factors) -> None:
    flow = factors.flow(4, 3, std=1.0)
    y0 = state(flow, 2, 5)
    found = lyapunov_exponents(flow, y0)
    assert found.shape == (2, 5, 4)
    assert (found.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(found.sum(-1), log_volume(flow, y0) / flow.horizon, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_the_largest_is_the_rate_of_the_norm(name: str) -> None:
    """‖M‖ grows at the largest rate, up to the (bounded) share of Q_0 in the direction that grows most."""
    flow, y0 = preset(name, layers=3000, std=2.0, step=0.2), random(3, 4)
    rate = log_norms(flow, y0)[0] / flow.horizon
    torch.testing.assert_close(lyapunov_exponents(flow, y0)[:, 0], rate, rtol=0.01, atol=10 / flow.horizon)


def test_symplectic_rates_come_in_pairs() -> None:
    flow, y0 = preset("h2", layers=3000, std=2.0, step=0.2), random(3, 4)
    found = lyapunov_exponents(flow, y0)
    assert found[:, 0].min() > 0.02
    torch.testing.assert_close(found, -found.flip(-1), rtol=0, atol=10 / flow.horizon)


def test_images() -> None:
    flow = preset("h2", kernel_size=3)
    assert lyapunov_exponents(flow, state(flow, 2, size=(2, 3))).shape == (2, 24)


@pytest.mark.parametrize("name", ["h2", "ms2"])
def test_statistics_over_a_data_set_are_those_of_all_rates(name: str) -> None:
    """Also in batches, and in those of a loader."""
    flow, states = preset(name, layers=12), random(23, 4)
    rates = lyapunov_exponents(flow, states)
    whole = lyapunov_statistics(flow, states, levels=[0.1, 0.9])
    for found in (whole, lyapunov_statistics(flow, states, batch=5, levels=[0.1, 0.9])):
        torch.testing.assert_close(found.mean, rates.mean(0))
        torch.testing.assert_close(found.deviation, rates.std(0))
        torch.testing.assert_close(found.quantiles, torch.quantile(rates, torch.tensor([0.1, 0.9], dtype=F64), dim=0))
        torch.testing.assert_close(torch.stack((found.minimum, found.maximum)), torch.stack(rates.aminmax(dim=0)))
    loaded = lyapunov_statistics(flow, torch.utils.data.DataLoader(states, batch_size=7), levels=[0.1, 0.9])  # type: ignore[arg-type]
    torch.testing.assert_close(loaded.mean, whole.mean)


def test_statistics_of_too_little() -> None:
    flow = preset("h2")
    assert lyapunov_statistics(flow, random(1, 4)).deviation.tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="got none"):
        lyapunov_statistics(flow, [])
    with pytest.raises(ValueError, match="`batch` counts samples"):
        lyapunov_statistics(flow, random(3, 4), batch=0)


def test_what_has_no_rates() -> None:
    with pytest.raises(ValueError, match="takes no time"):
        lyapunov_exponents(preset("h2", layers=0), random(4))
    flow = preset("h2")
    with torch.no_grad():
        flow.bias[1] = math.nan
    with pytest.raises(ValueError, match=r"bias.*from layer 1 on"):
        lyapunov_exponents(flow, random(4))
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4\)"):
        lyapunov_exponents(preset("h2"), random(3))
