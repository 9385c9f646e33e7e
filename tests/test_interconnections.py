"""J = −Jᵀ, how it acts, what trains, and what is refused."""

import pytest
import torch

from families import F64, INTERCONNECTIONS, fill, random, skew
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler
from hdnn.interconnections import Fixed, Inverse, Learned, block, canonical, upper_ones
from hdnn.spaces import VECTORS, Images
from hdnn.structures import Dense, Skew

each = pytest.mark.parametrize("name", INTERCONNECTIONS)
N, LAYERS = 4, 3


def build(name: str) -> torch.Tensor | None:
    interconnection = INTERCONNECTIONS[name](N, LAYERS)
    free = interconnection.initial_free() if isinstance(interconnection, Learned) else None
    return interconnection.build(free, interconnection.constant(N, LAYERS))


@each
def test_J_is_skew_and_within_its_pattern(name: str) -> None:
    J, pattern = build(name), INTERCONNECTIONS[name](N, LAYERS).pattern(N)
    if J is None:
        assert pattern is None
        return
    assert torch.equal(J, -J.mT)
    assert pattern is not None
    assert (J[..., ~pattern] == 0).all()
    assert torch.equal(pattern, pattern.mT)


@each
@pytest.mark.parametrize("k", [None, 3])
def test_drive_is_the_adjoint_of_J_K_transposed(name: str, k: int | None) -> None:
    J = build(name)
    space = VECTORS if k is None else Images(k)
    K = random(LAYERS, *space.weights(5, N))
    W = INTERCONNECTIONS[name](N, LAYERS).drive(J, K, space)
    if J is None:
        assert W is None
        return
    assert W is not None
    z = random(2, 5, *(() if k is None else (3, 4)), seed=1)
    for j in range(LAYERS):
        J_j = J if J.dim() == 2 else J[j]
        expected = torch.einsum("ik,bk...->bi...", J_j, space.adjoint(K[j], z))
        torch.testing.assert_close(space.adjoint(W[j], z), expected, rtol=1e-12, atol=1e-12)


def test_the_named_matrices() -> None:
    assert canonical(4).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]]
    assert upper_ones(3).tolist() == [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]
    X = random(3, 3)
    J = block(X)
    assert torch.equal(J[:3, 3:], -X.T)
    assert torch.equal(J[3:, :3], X)
    assert J.dtype is F64
    assert torch.equal(block(-torch.eye(2)), canonical(4))
    assert block(random(5, 2, 2)).shape == (5, 4, 4)
    assert canonical(2, dtype=F64).dtype is F64
    assert upper_ones(2, device="meta").is_meta


def test_is_canonical_is_a_matter_of_values_not_of_names() -> None:
    assert Fixed(block(-torch.eye(3))).is_canonical
    assert not Fixed(-canonical(4)).is_canonical
    assert not Fixed(upper_ones(3)).is_canonical
    assert Fixed(upper_ones(2)).is_canonical


@pytest.mark.parametrize(
    ("J", "error", "phrase"),
    [
        ([[0, 1], [-1, 0]], TypeError, "J must be a tensor; got list"),
        (torch.zeros(2, 3), ValueError, r"J must have shape \(n, n\)"),
        (torch.zeros(2), ValueError, r"J must have shape \(n, n\)"),
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ValueError, r"must be skew, J = -Jᵀ.*reaches 2"),
        (torch.eye(2), ValueError, "Use its skew part"),
        (torch.tensor([[0.0, float("nan")], [0.0, 0.0]]), ValueError, "J must be finite"),
    ],
)
def test_fixed_refuses(J: object, error: type[Exception], phrase: str) -> None:
    with pytest.raises(error, match=phrase):
        Fixed(J)  # type: ignore[arg-type]


def test_fixed_is_a_copy() -> None:
    J = canonical(2)
    fixed = Fixed(J)
    J.zero_()
    assert fixed.is_canonical


@pytest.mark.parametrize("name", ["canonical", "skew", "per_layer", "Learned"])
def test_sizes_must_agree(name: str) -> None:
    interconnection = INTERCONNECTIONS[name](N, LAYERS)
    for ask in (lambda: interconnection.constant(6, LAYERS), lambda: interconnection.pattern(6)):
        with pytest.raises(ValueError, match="but the flow has 6 features"):
            ask()


def test_one_J_per_layer_needs_as_many_layers() -> None:
    with pytest.raises(ValueError, match="one matrix for each of 3 layers, but the flow has 5"):
        INTERCONNECTIONS["per_layer"](N, 3).constant(N, 5)


def test_odd_canonical_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be even.*got 5. Lift the input to 6.*upper_ones\(5\)"):
        canonical(5)


@pytest.mark.parametrize("masked", [False, True])
def test_learned_starts_at_initial_and_stays_skew_in_training(masked: bool) -> None:
    X = random(2, 2)
    initial = block(X) if masked else skew(N)
    mask = block(torch.ones(2, 2)) != 0 if masked else None
    flow = Flow(
        N,
        LAYERS,
        step=0.1,
        structure=Dense(),
        interconnection=Learned(initial, mask),
        integrator=ForwardEuler(),
        dtype=F64,
    )
    fill(flow)
    assert torch.equal(flow.J, initial)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        flow(random(8, N, seed=step)).square().sum().backward()
        optimizer.step()
    J = flow.J.detach()
    assert torch.equal(J, -J.mT)
    assert ((J - initial) != 0).sum() == (8 if masked else 12)
    flow.reset_parameters()
    assert torch.equal(flow.J, initial)


@pytest.mark.parametrize(
    ("initial", "mask", "phrase"),
    [
        (random(2, 4, 4) * 0, None, r"must be one \(n, n\) matrix"),
        (canonical(4), torch.ones(4, 4).triu(), "`mask` must be a symmetric"),
        (canonical(4), torch.ones(2, 2), "`mask` must be a symmetric"),
        (upper_ones(4), block(torch.ones(2, 2)) != 0, "`initial` must be zero where `mask` is zero"),
        (torch.eye(4), None, "must be skew"),
    ],
)
def test_learned_refuses(initial: torch.Tensor, mask: torch.Tensor | None, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        Learned(initial, mask)


def test_constant_over_layers() -> None:
    expected = {"per_layer": False, "per_layer_skew": False, "Inverse": False}
    for name, make in INTERCONNECTIONS.items():
        assert make(N, LAYERS).constant_over_layers is expected.get(name, True)
    assert Fixed(canonical(4).expand(3, 4, 4)).constant_over_layers


def test_slices_of_layers() -> None:
    per_layer = INTERCONNECTIONS["per_layer"](N, LAYERS)
    part = per_layer.layers(1, 3)
    assert isinstance(part, Fixed)
    assert torch.equal(part.J, per_layer.J[1:3])  # type: ignore[attr-defined]
    for name in ("canonical", "Inverse", "Learned"):
        whole = INTERCONNECTIONS[name](N, LAYERS)
        assert whole.layers(1, 2) is whole


def test_names() -> None:
    shown = {name: repr(make(N, LAYERS)) for name, make in INTERCONNECTIONS.items()}
    assert shown["canonical"] == "Fixed(canonical)"
    assert shown["upper_ones"] == "Fixed(upper_ones)"
    assert shown["per_layer"] == "Fixed(3x4x4 matrix)"
    assert shown["Inverse"] == "Inverse()"
    assert shown["Learned_block"] == "Learned(4x4, 4 free)"


def test_inverse_gives_the_skew_inverse() -> None:
    flow = Flow(
        4, 2, step=0.1, structure=Skew(), interconnection=Inverse(), integrator=ForwardEuler(), dtype=F64, init_std=1.0
    )
    J = flow.J
    torch.testing.assert_close(J @ flow.K.mT, torch.eye(4, dtype=F64).expand(2, 4, 4))
    torch.testing.assert_close(J, -J.mT)
