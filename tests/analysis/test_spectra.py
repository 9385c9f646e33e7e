"""The spectrum of A = J Kᵀ D K: exactly imaginary, and when its dynamics stay bounded."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from families import ACTIVATIONS, F64, PRESETS, preset, random, skew
from hdnn.activations import Activation, relu, tanh
from hdnn.analysis.spectra import Linearization, linearize, marginal_stability
from hdnn.interconnections import Fixed, block, canonical


def growth(system: Linearization, t: float) -> float:
    """‖exp(t A)‖₂ by scaling and squaring, which knows nothing of S or J."""
    return float(torch.linalg.matrix_norm(torch.matrix_exp(t * system.A), 2))


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest distance between two spectra, matched by sorting."""
    order = [sorted(x.tolist(), key=lambda z: (round(z.imag, 6), round(z.real, 6))) for x in (found, expected)]
    return max(abs(a - b) for a, b in zip(*order, strict=True))


@pytest.mark.parametrize("m", [2, 3, 5, 6, 9])
@pytest.mark.parametrize("symmetric_first", [False, True])
def test_eigenvalues_are_those_of_A(m: int, symmetric_first: bool) -> None:
    """With more units than features, fewer, and an odd number of them: the others are zeros."""
    system = Linearization(skew(6), random(m, 6, seed=1), random(4, m, seed=2).abs(), symmetric_first)
    assert (system.eigenvalues.real == 0).all()
    for A, eigenvalues in zip(system.A, system.eigenvalues, strict=True):
        # Jordan blocks at 0 move by the root of the rounding in the general solver.
        assert distance(eigenvalues, torch.linalg.eigvals(A)) < 1e-6


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_linearization_of_a_layer(name: str, activation: Activation) -> None:
    flow, y = preset(name, activation=activation), random(5, 4)
    for layer in (0, 2, -1):
        A = torch.stack([torch.func.jacrev(_whole(flow, layer))(sample) for sample in y])
        torch.testing.assert_close(linearize(flow, y, layer).A, A.detach(), rtol=1e-12, atol=1e-12)


def _whole(flow: object, layer: int) -> object:
    """The field of a layer, from its formula."""
    K, b = flow.K[layer], flow.bias[layer]
    J = None if type(flow.interconnection).__name__ == "Inverse" else flow.J
    return lambda y: (flow.activation.value(K @ y + b) @ K @ J.T) if J is not None else flow.activation.value(K @ y + b)


def test_shared_weights_pixels_and_one_J_per_layer() -> None:
    y = random(5, 4)
    shared = preset("h2", shared=True)
    assert torch.equal(linearize(shared, y, 0).A, linearize(shared, y, 2).A)
    pixels, vectors = preset("h1", kernel_size=1), preset("h1")
    assert torch.equal(linearize(pixels, y).A, linearize(vectors, y).A)
    Js = torch.stack([skew(4, seed=j) for j in range(3)])
    assert torch.equal(linearize(preset("h1", interconnection=Fixed(Js)), y, 1).J, Js[1])


@pytest.mark.parametrize("symmetric_first", [False, True])
def test_positive_definite_is_stable_and_bounded_by_its_conditioning(symmetric_first: bool) -> None:
    for seed in range(20):
        system = Linearization(skew(5, seed), random(7, 5, seed=seed + 50), random(7, seed=seed).abs(), symmetric_first)
        found = marginal_stability(system)
        assert found.answer == "yes"
        assert found.jordan_blocks == 0
        assert found.smallest == pytest.approx(float(torch.linalg.eigvalsh(system.S)[0]), rel=1e-6)
        assert found.conditioning == pytest.approx(float(torch.linalg.cond(system.S)), rel=1e-6)
        assert max(growth(system, t) for t in (1.0, 30.0, 1e3, -1e3)) <= found.conditioning**0.5 * (1 + 1e-6)
        assert found.scaled_real_part < 1e-14


def test_the_jordan_block() -> None:
    """J canonical, S = diag(1, 0): the eigenvalues are imaginary, M grows like t all the same."""
    system = Linearization(canonical(2), torch.eye(2), torch.tensor([1.0, 0.0]))
    assert system.S.tolist() == [[1, 0], [0, 0]]
    assert system.eigenvalues.tolist() == [0, 0]
    assert [growth(system, t) for t in (10.0, 1e3)] == pytest.approx([10.0, 1e3], rel=0.02)
    found = marginal_stability(system)
    assert found.answer == "no"
    assert found.jordan_blocks == 1
    assert found.smallest == 0
    assert "rank 1 of 2" in found.reason
    assert "grows like t" in found.reason


# J, K, slopes, symmetric_first, answer, number of 2 x 2 blocks
SINGULAR = {
    "nothing active": (canonical(4), torch.eye(4), [0, 0, 0, 0], False, "yes", 0),
    "a canonical pair left": (canonical(4), torch.eye(4), [2, 0, 1, 0], False, "yes", 0),
    "two positions left": (canonical(4), torch.eye(4), [2, 1, 0, 0], False, "no", 2),
    "three of four left": (canonical(4), torch.eye(4), [2, 1, 3, 0], False, "no", 1),
    "K of one row": (canonical(4), torch.tensor([[1.0, 2.0, 3.0, 4.0]]), [1], False, "no", 1),
    "almost singular J, S definite": (
        block(torch.diag(torch.tensor([1, 1e-10]))),
        torch.eye(4),
        [1] * 4,
        False,
        "yes",
        0,
    ),
    "odd J, S definite": (skew(3), torch.eye(3), [1, 2, 3], False, "yes", 0),
    "odd skew K, D definite (MS2)": (skew(3), torch.eye(3), [1, 2, 3], True, "yes", 0),
    "odd skew K, a unit off (MS2, ReLU)": (skew(3), torch.eye(3), [1, 1, 0], True, "yes", 0),
    "odd skew K, two units off (MS2, ReLU)": (skew(3), torch.eye(3), [1, 0, 0], True, "no", 1),
    "even skew K, a unit off (MS2, ReLU)": (skew(4), torch.eye(4), [1, 1, 1, 0], True, "no", 1),
    "tiny but active": (canonical(2), torch.eye(2), [1, 1e-5], False, "yes", 0),
    "too tiny to tell": (canonical(2), torch.eye(2), [1, 1e-15], False, "not established", 0),
    "rows almost parallel": (canonical(2), torch.tensor([[1.0, 0], [1, 1e-10]]), [1, 1], False, "not established", 0),
    "regular, 1e-15 from singular": (
        canonical(2),
        torch.tensor([[1.0, 0], [1, 1e-15]], dtype=F64),
        [1, 1],
        False,
        "not established",
        0,
    ),
    "a third unit almost in the plane of two": (
        canonical(4),
        torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1e-14, 0], [0, 0, 0, 1]], dtype=F64),
        [1, 1, 1, 1],
        False,
        "not established",
        0,
    ),
    "one row twice": (canonical(2), torch.tensor([[0.1, 0.3], [0.1, 0.3]]), [1, 1], False, "no", 1),
    "a row and its third": (canonical(2), torch.tensor([[3.0, 9.0], [1.0, 3.0]]), [1, 1], False, "no", 1),
    "almost singular skew K, a unit off (MS2, ReLU)": (
        block(torch.diag(torch.tensor([1, 1e-14], dtype=F64))),
        torch.eye(4),
        [1, 0, 1, 0],
        True,
        "yes",
        0,
    ),
}


@pytest.mark.parametrize("case", SINGULAR.values(), ids=SINGULAR)
def test_answers_where_S_may_be_singular(case: tuple) -> None:
    J, K, slopes, symmetric_first, answer, blocks = case
    system = Linearization(J, K.double(), torch.tensor(slopes, dtype=F64), symmetric_first)
    found = marginal_stability(system)
    assert found.answer == answer, found.reason
    assert found.jordan_blocks == blocks
    if answer != "not established":
        assert (growth(system, 1e3) > 100 * growth(system, 1.0)) == (answer == "no")


def test_the_reason_names_the_factor_of_the_layer() -> None:
    """Of ms1 and ms2 it is D, of the others S; for odd n and σ′ > 0 ms2 is stable, though its K is singular."""
    for n in (3, 4, 5, 6):
        found = marginal_stability(linearize(preset("ms2", features=n, std=1.0), random(n)))
        assert found.answer == "yes"
        assert found.reason.startswith("D is positive definite")
    assert marginal_stability(linearize(preset("h1", std=1.0), random(4))).reason.startswith("S is positive definite")


def test_skew_layers_are_bounded_for_every_size() -> None:
    """A = D K is similar to a skew matrix: no Jordan block, odd n included."""
    for n in (3, 5):
        system = linearize(preset("ms2", features=n, std=1.0), random(n))
        bound = float((system.slopes.amax() / system.slopes.amin()).sqrt())
        assert max(growth(system, t) for t in (1.0, 1e2, 1e4)) <= bound * (1 + 1e-9)


def test_ill_conditioned_is_not_established() -> None:
    system = Linearization(canonical(4), torch.eye(4), torch.tensor([1.0, 1.0, 1.0, 1e-11]))
    found = marginal_stability(system)
    assert found.answer == "not established"
    assert found.conditioning == pytest.approx(1e11)
    assert "ill-conditioned" in found.reason
    assert marginal_stability(system, largest_conditioning=1e12).answer == "yes"


def test_a_slope_that_is_never_zero_is_never_taken_for_zero() -> None:
    """1 − tanh² rounds to 0 at u = 30, where sech² is 3e-26: too small to establish, but no Jordan block. ReLU's is."""
    for activation, answer in ((tanh, "not established"), (relu, "no")):
        flow = preset("h1", features=2, layers=1, activation=activation)
        with torch.no_grad():
            flow.weight.copy_(torch.eye(2))
            flow.bias.copy_(torch.tensor([0.5, -30.0]))
        assert marginal_stability(linearize(flow, torch.zeros(2, dtype=F64))).answer == answer


def test_a_falling_activation_leaves_the_axis() -> None:
    """S = diag(1, −1) with the canonical J gives A = [0 −1; −1 0], eigenvalues ±1."""
    system = Linearization(canonical(2), torch.eye(2), torch.tensor([1.0, -1.0]))
    assert distance(system.eigenvalues, torch.tensor([-1.0, 1.0])) < 1e-12
    found = marginal_stability(system)
    assert found.answer == "no"
    assert found.real_part == pytest.approx(1)
    assert "off the imaginary axis" in found.reason
    negative = marginal_stability(Linearization(canonical(2), torch.eye(2), torch.tensor([-1.0, -2.0])))
    assert negative.answer == "not established"


def test_wrong_input_is_refused() -> None:
    J, K, slopes = canonical(4), random(3, 4), torch.ones(3)
    with pytest.raises(ValueError, match="J must be skew"):
        Linearization(random(4, 4), K, slopes)
    with pytest.raises(ValueError, match="one 4 x 4 matrix, for 4 features"):
        Linearization(canonical(6), K, slopes)
    with pytest.raises(ValueError, match=r"one slope for each row of K; got \(3, 4\) and \(4,\)"):
        Linearization(J, K, torch.ones(4))
    with pytest.raises(ValueError, match="`K` has NaN"):
        Linearization(J, K * math.nan, slopes)
    with pytest.raises(ValueError, match=r"One state at a time: the slopes have shape \(5, 4\)"):
        marginal_stability(linearize(preset("h1"), random(5, 4)))
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4\); got \(5, 3\)"):
        linearize(preset("h1"), random(5, 3))
    with pytest.raises(IndexError, match="3 layers; got layer 3"):
        linearize(preset("h1"), random(4), 3)
    with pytest.raises(ValueError, match="kernel_size=3"):
        linearize(preset("h1", kernel_size=3), random(4))
    with pytest.raises(ValueError, match="`slopes` has NaN"):
        linearize(preset("h1"), random(4) * math.nan)
