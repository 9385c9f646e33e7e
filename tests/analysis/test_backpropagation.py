"""Gradients by layer against plain autograd, and the share of them that must shrink."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from families import F64, INTEGRATORS, Factors, preset, random, state
from hdnn.analysis import Gradients, contracting_share, gradients, norms, sensitivities


def loss(y: Tensor) -> Tensor:
    return torch.sin(y).square().mean()


@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize("name", ["h1", "h2", "ms2"])
def test_gradients_are_those_of_backward(name: str, k: int | None) -> None:
    flow = preset(name, layers=4, std=1.0, kernel_size=k)
    y0 = state(flow, 3)
    found = gradients(flow, y0, loss)
    assert isinstance(found, Gradients)
    assert all(p.grad is None for p in flow.parameters())
    twin = y0.clone().requires_grad_()
    value = loss(flow(twin))
    value.backward()
    assert found.loss == pytest.approx(float(value.detach()))
    torch.testing.assert_close(found.states[0], twin.grad)
    torch.testing.assert_close(found.parameter_norms["weight"], flow.weight.grad.flatten(1).norm(dim=1))
    torch.testing.assert_close(found.parameter_norms["bias"], flow.bias.grad.norm(dim=1))
    torch.testing.assert_close(found.state_norms[0], twin.grad.flatten(1).norm(dim=1))
    assert found.state_norms.shape == (5, 3)
    assert not any(g.requires_grad for g in found.states)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_gradients_of_states_are_pulled_back_by_the_sensitivities(name: str) -> None:
    flow = Factors("BlockDiagonal", "canonical", name).flow(4, 5, std=1.0)
    y0 = state(flow, 3)
    found, M = gradients(flow, y0, loss), sensitivities(flow, y0)
    expected = (M.mT @ found.states[-1].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(torch.stack(found.states), expected, rtol=1e-11, atol=1e-14)


def test_learned_shared_and_frozen_parameters() -> None:
    flow = Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_p").flow(4, 5, shared=True)
    flow.bias.requires_grad_(False)
    found = gradients(flow, state(flow, 3), loss)
    assert {name: norm.shape for name, norm in found.parameter_norms.items()} == {
        "weight": (1,),
        "interconnection_weight": (1,),
    }
    assert all((norm > 0).all() for norm in found.parameter_norms.values())
    frozen = preset("h2").requires_grad_(False)
    assert gradients(frozen, state(frozen, 2), loss).parameter_norms == {}


def test_a_network_with_its_head_in_the_loss() -> None:
    torch.manual_seed(0)
    network = hdnn.vector_classifier(2, 3, preset("h2", layers=6), lift="linear")
    nn.init.normal_(network.head.weight)
    x, labels = random(5, 2), torch.tensor([0, 1, 2, 0, 1])
    found = gradients(
        network.flow, network.lift(x), lambda y: functional.cross_entropy(network.head(y.flatten(1)), labels)
    )
    functional.cross_entropy(network(x), labels).backward()
    torch.testing.assert_close(found.parameter_norms["weight"], network.flow.weight.grad.flatten(1).norm(dim=1))
    assert found.state_norms.shape == (7, 5)


def test_lists_of_modules() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4, dtype=F64), nn.ReLU(inplace=True), nn.Linear(4, 2, bias=False, dtype=F64)]
    y0 = random(5, 3)
    for given in (layers, iter(layers), nn.Sequential(*layers)):
        found = gradients(given, y0, loss)
        loss(nn.Sequential(*layers)(y0)).backward()
        for name in ("weight", "bias"):
            of_layers = [getattr(getattr(layer, name, None), "grad", None) for layer in layers]
            expected = torch.stack([torch.zeros((), dtype=F64) if g is None else g.norm() for g in of_layers])
            torch.testing.assert_close(found.parameter_norms[name], expected)
        nn.Sequential(*layers).zero_grad()
        assert [g.shape for g in found.states] == [(5, 3), (5, 4), (5, 4), (5, 2)]
        assert found.state_norms.shape == (4, 5)


def test_gradients_also_under_no_grad() -> None:
    flow = preset("h2")
    with torch.no_grad():
        assert gradients(flow, state(flow, 2), loss).state_norms.min() > 0


def test_losses_that_are_none() -> None:
    flow = preset("h2")
    y0 = state(flow, 2)
    with pytest.raises(ValueError, match=r"must return one number, a tensor; got \(2, 4\)\. Take its mean"):
        gradients(flow, y0, torch.sin)
    with pytest.raises(ValueError, match="must return one number, a tensor; got float"):
        gradients(flow, y0, lambda y: float(y.detach().sum()))  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="does not depend on the output"):
        gradients(flow, y0, lambda y: y.detach().sum())
    with pytest.raises(ValueError, match="The loss is nan"):
        gradients(flow, y0, lambda y: y.sum() * float("nan"))


# The share that shrinks -----------------------------------------------------------------------------------------


def test_share_of_known_directions() -> None:
    U, V = (torch.linalg.qr(random(4, 4, seed=seed)).Q for seed in (1, 2))
    M = U @ torch.diag(torch.tensor([3.0, 1.0, 0.9, 0.1], dtype=F64)) @ V.mT
    coefficients = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=F64)
    share = contracting_share(M.expand(1, 4, 4, 4), coefficients @ U.mT)
    torch.testing.assert_close(share, torch.tensor([[25 / 30, 0, 1, 0]], dtype=F64))


def test_an_orthogonal_matrix_shrinks_nothing() -> None:
    Q = torch.linalg.qr(random(50, 6, 6)).Q
    assert contracting_share(Q.unsqueeze(0), random(50, 6)).max() < 1e-13
    flow = preset("h2", std=1.0)
    y0 = state(flow, 7)
    assert contracting_share(sensitivities(flow, y0), random(7, 4))[-1].max() < 1e-13


def test_what_a_share_says_of_the_gradient() -> None:
    """A gradient that lies in contracting directions shrinks, one without a share does not."""
    flow = preset("h2", layers=16, std=1.0, step=0.2)
    y0 = state(flow, 20)
    M = sensitivities(flow, y0)
    U, s, _ = torch.linalg.svd(M[0])
    assert ((s > 1).any(-1) & (s < 1).any(-1)).all()
    largest, smallest = U[:, :, 0], U[:, :, -1]
    torch.testing.assert_close(contracting_share(M, largest)[0], torch.zeros(20, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(contracting_share(M, smallest)[0], torch.ones(20, dtype=F64), rtol=0, atol=1e-9)
    g = random(20, 4)
    share = contracting_share(M, g)[0]
    pulled = torch.linalg.vector_norm((M[0].mT @ g.unsqueeze(-1)).squeeze(-1), dim=-1)
    assert (pulled >= (1 - share).sqrt() * torch.linalg.vector_norm(g, dim=-1) - 1e-12).all()


def test_share_of_images_and_of_changing_sizes() -> None:
    flow = preset("h2", kernel_size=3, std=1.0)
    y0 = state(flow, 2)
    share = contracting_share(sensitivities(flow, y0), gradients(flow, y0, loss).states[-1])
    assert share.shape == (4, 2)
    assert ((share >= 0) & (share <= 1)).all()
    widening = [nn.Linear(2, 5, bias=False, dtype=F64)]
    M = sensitivities(widening, random(3, 2))
    assert isinstance(M, list)
    across = torch.linalg.svd(M[0][0]).U[:, -1]  # no input moves the output along it
    torch.testing.assert_close(contracting_share(M, across.expand(3, 5))[0], torch.ones(3, dtype=F64))


def test_share_errors() -> None:
    flow = preset("h2")
    M = sensitivities(flow, state(flow, 3))
    with pytest.raises(ValueError, match=r"4 numbers for each of the \(3,\) samples; got \(2, 4\)"):
        contracting_share(M, random(2, 4))
    with pytest.raises(ValueError, match="holds NaN"):
        contracting_share(M, random(3, 4).fill_(float("nan")))
    assert norms(M).shape == (4, 3)
