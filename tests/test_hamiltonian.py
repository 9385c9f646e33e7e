"""Energy, gradient, field, separability."""

import pytest
import torch

from families import (
    ACTIVATIONS,
    COMBINATIONS,
    F64,
    INTERCONNECTIONS,
    PAIRS,
    PRESETS,
    SEPARABLE,
    STRUCTURES,
    Factors,
    hamiltonian,
    preset,
    random,
    ring,
    state,
)
from hdnn.activations import tanh
from hdnn.hamiltonian import Hamiltonian
from hdnn.interconnections import Fixed, Inverse, Learned, block, canonical, upper_ones
from hdnn.spaces import Images, space_of
from hdnn.structures import BlockDiagonal, BlockSkew, Dense, Masked, OffDiagonal, Skew

taps = pytest.mark.parametrize("k", [None, 1, 3])


def times_J(J: torch.Tensor, gradient: torch.Tensor, images: bool) -> torch.Tensor:
    return torch.einsum("ik,bk...->bi...", J, gradient) if images else gradient @ J.T


@taps
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PRESETS)
def test_field_is_J_times_the_gradient_of_the_energy(name: str, activation: str, k: int | None) -> None:
    flow = preset(name, activation=ACTIVATIONS[activation], kernel_size=k)
    y = state(flow, 2).requires_grad_()
    J = flow._J()
    for j, field in enumerate(flow.fields()):
        (gradient,) = torch.autograd.grad(flow.energy(y, j).sum(), y)
        mine = flow.hamiltonian.gradient(flow.K[j], flow.bias[j], y)
        torch.testing.assert_close(mine, gradient, rtol=1e-11, atol=1e-12)
        if J is not None:
            torch.testing.assert_close(field(y), times_J(J, gradient, k is not None), rtol=1e-11, atol=1e-12)
        elif k in (None, 1):
            # J = K⁻ᵀ: the field solves Kᵀ f = −K f = gradient, since K is skew.
            pulled = times_J(flow.K[j].reshape(4, 4).T, field(y), k is not None)
            torch.testing.assert_close(pulled, gradient, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(field(y), times_J(flow.J[j], gradient, k is not None), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close((gradient * field(y)).sum(), torch.zeros((), dtype=F64), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("structure", "J"), PAIRS)
def test_energy_is_conserved_by_the_field_of_every_pair(structure: str, J: str) -> None:
    flow = Factors(structure, J, "ForwardEuler").flow(4, 3)
    y = state(flow, 5)
    for j, field in enumerate(flow.fields()):
        gradient = flow.hamiltonian.gradient(flow.K[j], flow.bias[j], y)
        assert (gradient * field(y)).sum(-1).abs().max() < 1e-12


@pytest.mark.parametrize(("structure", "J"), PAIRS)
def test_separable_is_what_was_written_by_hand(structure: str, J: str) -> None:
    for k in (None, 1, 3):
        assert hamiltonian(structure, J, space=space_of(None, k)).separable is ((structure, J) in SEPARABLE)


@pytest.mark.parametrize(("structure", "J"), PAIRS)
def test_separable_fields_have_no_diagonal_blocks(structure: str, J: str) -> None:
    flow = Factors(structure, J, "ForwardEuler").flow(6, 2)
    coupled = False
    for field in flow.fields():
        A = field.jacobian(state(flow, 3))
        coupled |= bool(A[:, :3, :3].any() or A[:, 3:, 3:].any())
    assert coupled is ((structure, J) not in SEPARABLE)


def test_separability_is_structural_never_a_matter_of_values() -> None:
    learned = Learned(canonical(4))
    assert not Hamiltonian(4, BlockDiagonal(), learned, tanh).separable
    assert Hamiltonian(4, BlockDiagonal(), Learned(canonical(4), block(torch.ones(2, 2)) != 0), tanh).separable
    assert not Hamiltonian(4, OffDiagonal(), Fixed(upper_ones(4)), tanh).separable
    assert Hamiltonian(2, OffDiagonal(), Fixed(upper_ones(2)), tanh).separable
    assert Hamiltonian(2, Skew(), Inverse(), tanh).separable
    assert not Hamiltonian(3, Dense(), Fixed(upper_ones(3)), tanh).separable
    per_layer = torch.stack([canonical(4), upper_ones(4)])
    assert not Hamiltonian(4, BlockDiagonal(), Fixed(per_layer), tanh).separable


def test_the_distributed_network_is_separable() -> None:
    n = 16
    mask = torch.block_diag(ring(8).float(), ring(8).float())
    assert Hamiltonian(n, Masked(Dense(), mask), Fixed(canonical(n)), tanh).separable
    assert Hamiltonian(n, Masked(BlockDiagonal(), mask), Fixed(canonical(n)), tanh).separable
    assert not Hamiltonian(n, Masked(Dense(), ring(n)), Fixed(canonical(n)), tanh).separable


@taps
@pytest.mark.parametrize("factors", [c for c in COMBINATIONS if c.integrator == "SymplecticEuler_p"], ids=str)
def test_halves_are_the_halves_of_the_whole(factors: Factors, k: int | None) -> None:
    flow = factors.flow(6, 2, kernel_size=k)
    y = state(flow, 2)
    H, J = flow.hamiltonian, flow._J()
    whole = H.fields(flow.K, flow.bias, J, 2, halves=False)
    parts = H.fields(flow.K, flow.bias, J, 2, halves=True)
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(two(y), one(y), rtol=1e-12, atol=1e-12)
        p, q = two.split(y)
        torch.testing.assert_close(two.join(two.p(q), two.q(p)), one(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [None, 1])
@pytest.mark.parametrize(("structure", "J"), PAIRS)
def test_jacobian_of_the_field_is_jacrev(structure: str, J: str, k: int | None) -> None:
    flow = Factors(structure, J, "ForwardEuler").flow(4, 2, kernel_size=k)
    y = random(3, 4)
    for field in flow.fields():
        of_vector = field if k is None else lambda x, f=field: f(x[:, None, None])[:, 0, 0]
        expected = torch.vmap(torch.func.jacrev(of_vector))(y)
        torch.testing.assert_close(field.jacobian(y), expected, rtol=1e-11, atol=1e-13)


@taps
@pytest.mark.parametrize("integrator", ["ForwardEuler", "SymplecticEuler_p"])
def test_J_of_zeros_stands_still(integrator: str, k: int | None) -> None:
    INTERCONNECTIONS_ZERO = Fixed(torch.zeros(4, 4))
    assert Hamiltonian(4, Dense(), INTERCONNECTIONS_ZERO, tanh).separable
    flow = preset("h2", interconnection=INTERCONNECTIONS_ZERO, kernel_size=k)
    y = state(flow, 2)
    torch.testing.assert_close(flow(y), y, rtol=0, atol=0)


def test_errors() -> None:
    for structure in (Dense(), OffDiagonal(), BlockDiagonal(), Dense(6)):
        with pytest.raises(ValueError, match=r"`Inverse` sets J = K⁻ᵀ, skew only if K is; `.*` is not. Use `Skew\(\)`"):
            Hamiltonian(4, structure, Inverse(), tanh)
    for structure in (BlockSkew(), Masked(Skew(), torch.ones(4, 4))):
        Hamiltonian(4, structure, Inverse(), tanh)
    whole = preset("h1").fields()[0]
    with pytest.raises(ValueError, match="only a separable field has halves"):
        _ = whole.p
    with pytest.raises(ValueError, match="bind it whole"):
        preset("h2").fields()[0].jacobian(random(4))
    with pytest.raises(ValueError, match="couple all positions"):
        preset("h1", kernel_size=3).fields()[0].jacobian(random(4))


def test_hidden_units_and_axis() -> None:
    for name, make in STRUCTURES.items():
        structure = make(4)
        found = hamiltonian(name, "canonical")
        assert found.hidden == structure.index(4).shape[0]
        assert (found.space.axis, found.kernel_size) == (-1, None)
    assert hamiltonian("Dense", "canonical", space=Images(3)).space.axis == -3
    assert set(INTERCONNECTIONS) == {J for _, J in PAIRS}
