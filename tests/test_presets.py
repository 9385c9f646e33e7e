"""The presets are the layers that the papers print, transcribed here in NumPy from the equations alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import hdnn
from families import ACTIVATIONS, F64, PRESETS, fill, jacobian, preset, random, skew, state
from hdnn.interconnections import Fixed, Inverse, block, canonical, upper_ones
from hdnn.spaces import Signals

Array = np.ndarray[Any, Any]
SIGMA = {
    "tanh": np.tanh,
    "relu": lambda u: np.maximum(u, 0.0),
    "leaky_relu": lambda u: np.where(u > 0, u, 0.01 * u),
    "leaky_relu_0.3": lambda u: np.where(u > 0, u, 0.3 * u),
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "softplus": lambda u: np.log1p(np.exp(u)),
    "identity": lambda u: u,
}


def ms1(y: Array, K0: Array, b: Array, h: float, s: Any) -> Array:
    """z+ = z + h s(−K0ᵀ y + b2), y+ = y + h s(K0 z+ + b1)."""
    half = len(K0)
    first, second = y[:half], y[half:]
    second = second + h * s(-K0.T @ first + b[half:])
    first = first + h * s(K0 @ second + b[:half])
    return np.concatenate([first, second])


def ms2(y: Array, free: Array, b: Array, h: float, s: Any) -> Array:
    """y+ = y + h s(K y + b), K = −Kᵀ."""
    n = len(y)
    K = np.zeros((n, n))
    count = 0
    for i in range(n):
        for j in range(i + 1, n):
            K[i, j], K[j, i] = free[count], -free[count]
            count += 1
    return y + h * s(K @ y + b)


def ms3(y: Array, free: Array, b: Array, h: float, s: Any) -> Array:
    """y+ = y + h K1ᵀ s(K1 z + b1), z+ = z − h K2ᵀ s(K2 y+ + b2)."""
    K1, K2 = free
    half = len(K1)
    first, second = y[:half], y[half:]
    first = first + h * K1.T @ s(K1 @ second + b[:half])
    second = second - h * K2.T @ s(K2 @ first + b[half:])
    return np.concatenate([first, second])


def h1(y: Array, K: Array, b: Array, h: float, s: Any, J: Array) -> Array:
    """y+ = y + h J Kᵀ s(K y + b)."""
    return y + h * J @ K.T @ s(K @ y + b)


def h2(y: Array, free: Array, b: Array, h: float, s: Any, X: Array) -> Array:
    """p+ = p − h Xᵀ Kqᵀ s(Kq q + bq), q+ = q + h X Kpᵀ s(Kp p+ + bp)."""
    Kp, Kq = free
    half, units = Kp.shape[1], Kp.shape[0]
    p, q = y[:half], y[half:]
    p = p - h * X.T @ Kq.T @ s(Kq @ q + b[units:])
    q = q + h * X @ Kp.T @ s(Kp @ p + b[:units])
    return np.concatenate([p, q])


N, LAYERS, H = 6, 4, 0.2
X = random(3, 3, seed=30)
J1 = np.block([[np.zeros((3, 3)), np.eye(3)], [-np.eye(3), np.zeros((3, 3))]])
J2 = np.sign(np.arange(N)[None] - np.arange(N)[:, None]).astype(float)
CASES: dict[str, tuple[str, dict[str, Any], Any, tuple[Array, ...]]] = {
    "ms1": ("ms1", {}, ms1, ()),
    "ms2": ("ms2", {}, ms2, ()),
    "ms3": ("ms3", {}, ms3, ()),
    "h1": ("h1", {}, h1, (J1,)),
    "h1 wide": ("h1", {"width": 9}, h1, (J1,)),
    "h1 J2": ("h1", {"interconnection": Fixed(upper_ones(N))}, h1, (J2,)),
    "h1 any J": ("h1", {"interconnection": Fixed(skew(N, seed=31))}, h1, (skew(N, seed=31).numpy(),)),
    "h2": ("h2", {}, h2, (-np.eye(3),)),
    "h2 X": ("h2", {"interconnection": Fixed(block(X))}, h2, (X.numpy(),)),
    "h2 wide": ("h2", {"width": 10, "interconnection": Fixed(block(X))}, h2, (X.numpy(),)),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", CASES)
def test_layers_of_the_papers(case: str, activation: str, shared: bool) -> None:
    name, options, layer, extra = CASES[case]
    flow = preset(name, N, LAYERS, 1.0, step=H, activation=ACTIVATIONS[activation], shared=shared, **options)
    weight, bias = flow.weight.detach().numpy(), flow.bias.detach().numpy()
    batch = random(3, N, seed=32)
    expected = []
    for row in batch.numpy():
        y, path = row, [row]
        for j in range(LAYERS):
            stored = 0 if shared else j
            y = layer(y, weight[stored], bias[stored], H, SIGMA[activation], *extra)
            path.append(y)
        expected.append(path)
    truth = torch.from_numpy(np.array(expected)).movedim(0, 1)
    torch.testing.assert_close(flow.trajectory(batch), truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flow(batch), truth[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ms3_is_h2_up_to_the_order_of_rows(activation: str, k: int | None) -> None:
    one = preset("ms3", N, LAYERS, kernel_size=k, activation=ACTIVATIONS[activation])
    two = preset("h2", N, LAYERS, kernel_size=k, activation=ACTIVATIONS[activation])
    with torch.no_grad():
        two.weight.copy_(one.weight.flip(1))
        two.bias.copy_(one.bias.roll(N // 2, 1))
    y = state(one, 2)
    torch.testing.assert_close(two(y), one(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [2, 4, 10])
def test_parameters_of_the_table(n: int) -> None:
    counts = {
        "ms1": n**2 // 4 + n,
        "ms2": (n**2 + n) // 2,
        "ms3": n**2 // 2 + n,
        "h1": n**2 + n,
        "h2": n**2 // 2 + n,
    }
    for name, make in PRESETS.items():
        flow = make(n, layers=3, step=0.1)
        assert sum(p.numel() for p in flow.parameters()) == 3 * counts[name]


def test_what_the_table_says_is_kept() -> None:
    claims = {name: (f.preserves_structure, f.preserves_volume) for name in PRESETS for f in [preset(name)]}
    assert claims == {
        "ms1": (False, True),
        "ms2": (False, False),
        "ms3": (True, True),
        "h1": (False, False),
        "h2": (True, True),
    }
    assert preset("ms1", shared=True).preserves_structure
    M = jacobian(preset("ms1", std=1.5), random(4))
    assert abs(torch.linalg.det(M) - 1) < 1e-12


@pytest.mark.parametrize("name", PRESETS)
def test_no_gradient_vanishes(name: str) -> None:
    for seed in range(5):
        flow = fill(preset(name, layers=20), std=1.0, seed=seed)
        assert torch.linalg.matrix_norm(jacobian(flow, random(4, seed=seed)), 2) >= 1


@pytest.mark.parametrize("name", ["ms1", "ms3", "h1", "h2"])
@pytest.mark.parametrize("features", [1, 5])
def test_odd_features(name: str, features: int) -> None:
    phrase = rf"`features` must be even to split the state into \(p, q\); got {features}. Lift the input to"
    with pytest.raises(ValueError, match=phrase):
        PRESETS[name](features, 2, step=0.1)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("features", [0, -2])
def test_no_features(name: str, features: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1; got {features}"):
        PRESETS[name](features, 2, step=0.1)


def test_odd_features_where_they_make_sense() -> None:
    for flow in (preset("ms2", 5), preset("h1", 5, interconnection=Fixed(upper_ones(5)))):
        assert flow(random(2, 5)).shape == (2, 5)
    with pytest.raises(ValueError, match="singular"):
        _ = preset("ms2", 5).J


def test_h2_needs_a_block_J() -> None:
    with pytest.raises(ValueError, match="neither half may drive itself"):
        preset("h2", interconnection=Fixed(upper_ones(4)))
    with pytest.raises(ValueError, match="skew only if K is"):
        preset("h2", interconnection=Inverse())
    with pytest.raises(ValueError, match="J is 6 x 6, but the flow has 4 features"):
        preset("h2", interconnection=Fixed(canonical(6)))


@pytest.mark.parametrize("name", PRESETS)
def test_options_reach_the_flow(name: str) -> None:
    flow = PRESETS[name](
        4,
        2,
        horizon=3.0,
        activation=ACTIVATIONS["relu"],
        kernel_size=3,
        shared=True,
        backend="eager",
        memory="recompute",
        init_std=0.0,
        device="meta",
        dtype=torch.float64,
    )
    assert (flow.step, flow.horizon, flow.kernel_size, flow.shared, flow.backend) == (1.5, 3.0, 3, True, "eager")
    assert (flow.init_std, flow.weight.is_meta, flow.weight.dtype) == (0.0, True, F64)
    assert (flow.activation, flow.memory) == (ACTIVATIONS["relu"], "recompute")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_every_space_and_inputs(name: str) -> None:
    flow = PRESETS[name](4, 2, step=0.1, space=Signals(3))
    assert flow.space == Signals(3)
    driven = PRESETS[name](4, step=0.1, inputs=2, shared=True)
    assert driven(random(3, 4).to(driven.weight.dtype), inputs=random(5, 3, 2).to(driven.weight.dtype)).shape == (3, 4)


def test_ms1_moves_q_first_in_splittings_by_name_and_by_class() -> None:
    for given in ("stormer_verlet", hdnn.StormerVerlet):
        assert hdnn.ms1(4, 1, step=0.1, integrator=given).integrator == hdnn.StormerVerlet("q")


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        (
            "ms3",
            {"interconnection": "canonical"},
            "`ms3` takes no `interconnection`: it is the flow with the canonical J",
        ),
        ("ms1", {"interconnection": "canonical"}, "it is the flow with `Inverse()`"),
        ("h2", {"structure": hdnn.Dense()}, "it is the flow with `BlockDiagonal(width)`. Use a preset that leaves"),
        ("ms2", {"width": 8}, "or `Flow(..., structure=...)`"),
        (
            "h1",
            {"damping": 0.3},
            "Use `h2`, `ms1` or `ms3`; or lose energy by `h1(..., interconnection=Dissipation(J, R))`",
        ),
        ("h2", {"dampin": 0.3}, "`h2` takes no `dampin`. Did you mean 'damping'?"),
    ],
)
def test_options_that_a_preset_does_not_have(name: str, option: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as found:
        PRESETS[name](4, 2, step=0.1, **option)
    assert words in str(found.value)


def test_one_damping() -> None:
    made = hdnn.h2(4, 2, step=0.1, damping=0.2, integrator=hdnn.StormerVerlet(damping=0.2))
    assert made.integrator == hdnn.StormerVerlet(damping=0.2)
    with pytest.raises(ValueError, match=r"`damping=0\.3` and that of .* are two answers"):
        hdnn.h2(4, 2, step=0.1, damping=0.3, integrator=hdnn.StormerVerlet(damping=0.2))
