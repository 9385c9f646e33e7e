"""The module as a map: shapes, slices, what is shared, and its parts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import (
    ACTIVATIONS,
    F64,
    INTEGRATORS,
    INTERCONNECTIONS,
    ONE_EACH,
    PRESETS,
    SWEEP,
    Factors,
    preset,
    random,
    state,
    tight,
)
from hdnn.interconnections import Learned

each = pytest.mark.parametrize("name", PRESETS)
taps = pytest.mark.parametrize("k", [None, 1, 3])


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)])
@each
def test_free_leading_dimensions(name: str, leading: tuple[int, ...]) -> None:
    flow = preset(name)
    y = state(flow, *leading)
    out = flow(y)
    assert out.shape == y.shape
    tight(out.reshape(-1, 4), flow(y.reshape(-1, 4)))
    assert flow.trajectory(y).shape == (4, *y.shape)
    assert flow.energy(y).shape == leading


@pytest.mark.parametrize("factors", SWEEP, ids=str)
def test_one_sample_at_a_time_is_the_batch(factors: Factors) -> None:
    flow = factors.flow(4, 2)
    y = state(flow, 3)
    tight(flow(y), torch.stack([flow(row) for row in y]))


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize("leading", [(), (0,), (2, 1, 3)])
def test_leading_dimensions_of_every_integrator(name: str, leading: tuple[int, ...]) -> None:
    flow = Factors("BlockDiagonal", "canonical", name).flow(4, 2)
    assert flow(state(flow, *leading)).shape == (*leading, 4)


@each
@taps
def test_strided_and_empty_inputs(name: str, k: int | None) -> None:
    flow = preset(name, kernel_size=k)
    y = state(flow, 6)
    tight(flow(y[::2]), flow(y[::2].contiguous()))
    turned = y.transpose(0, 1).contiguous().transpose(0, 1)
    assert not turned.is_contiguous()
    tight(flow(turned), flow(y))
    assert flow(y[:0]).shape == y[:0].shape
    if k is not None:
        tight(flow(y.to(memory_format=torch.channels_last)), flow(y))
        tight(flow(y[0]), flow(y)[0])


@each
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pointwise_images_are_vectors_at_every_pixel(name: str, activation: str) -> None:
    images = preset(name, kernel_size=1, activation=ACTIVATIONS[activation])
    vectors = preset(name, activation=ACTIVATIONS[activation])
    assert images.weight.numel() == vectors.weight.numel()
    y = state(images, 2)
    tight(images(y).movedim(1, -1), vectors(y.movedim(1, -1)))
    tight(images.energy(y), vectors.energy(y.movedim(1, -1)).sum((-1, -2)))


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
@pytest.mark.parametrize("k", [None, 3])
def test_shared_is_repeated_weights(factors: Factors, k: int | None) -> None:
    shared = factors.flow(4, 3, shared=True, kernel_size=k)
    plain = factors.flow(4, 3, kernel_size=k)
    with torch.no_grad():
        plain.weight.copy_(shared.weight.expand_as(plain.weight))
        plain.bias.copy_(shared.bias.expand_as(plain.bias))
    y = state(shared, 2)
    tight(shared(y), plain(y))
    tight(shared.energy(y, -1), plain.energy(y, 2))
    assert shared.weight.shape[0] == shared.K.shape[0] == 1
    assert all(bool(term == 0) for term in shared.smoothness())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_no_layers_are_the_identity(name: str, shared: bool) -> None:
    flow = Factors("BlockDiagonal", "canonical", name).flow(4, 0, shared=shared, step=9.0)
    y = state(flow, 3)
    assert torch.equal(flow(y), y)
    assert torch.equal(flow.inverse(y), y)
    assert torch.equal(flow.trajectory(y), y[None])
    assert flow.horizon == 0
    assert all(bool(term == 0) for term in flow.smoothness())
    assert Factors("BlockDiagonal", "per_layer", "ForwardEuler").flow(4, 0)(y) is not None


@taps
@each
def test_trajectory_begins_with_the_input_and_ends_with_the_output(name: str, k: int | None) -> None:
    flow = preset(name, kernel_size=k)
    y = state(flow, 2)
    path = flow.trajectory(y)
    assert path.shape == (4, *y.shape)
    assert torch.equal(path[0], y)
    tight(path[-1], flow(y))
    for j in range(3):
        tight(flow[j](path[j]), path[j + 1])


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_slices_compose(factors: Factors, shared: bool) -> None:
    flow = factors.flow(4, 4, shared=shared)
    y = state(flow, 2)
    whole = flow(y)
    for a in (0, 1):
        tight(flow[a:](flow[:a](y)), whole)
    assert flow[2:2].layers == 0
    assert flow[3:1].layers == 0
    assert torch.equal(flow[2:2](y), y)
    assert flow[-1].layers == 1
    assert torch.equal(flow[-1](y), flow[3](y))
    assert [part.layers for part in flow] == [1] * 4  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=15)
@given(a=st.integers(-7, 7), b=st.integers(-7, 7))
def test_slices_are_those_of_a_list(a: int, b: int) -> None:
    flow = preset("h2", layers=5)
    part = flow[a:b]
    assert torch.equal(part.weight, flow.weight[a:b])
    assert part.layers == len(range(5)[a:b])


def test_slices_are_copies_that_keep_what_was_learned() -> None:
    flow = Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_p").flow(4, 4)
    with torch.no_grad():
        assert flow.interconnection_weight is not None
        flow.interconnection_weight.mul_(3)
    flow.eval()
    before = torch.get_rng_state()
    part = flow[1:3]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(part.J, flow.J)
    assert not part.training
    assert (part.step, part.backend, part.init_std) == (flow.step, flow.backend, flow.init_std)
    with torch.no_grad():
        part.weight.zero_()
    assert (flow.weight != 0).all()
    assert flow.to(torch.float32)[0].weight.dtype is torch.float32


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
@pytest.mark.parametrize("k", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_smoothness_is_the_double_sum_over_the_full_K(factors: Factors, k: int | None) -> None:
    flow = factors.flow(4, 4, kernel_size=k, step=0.3)
    K, b = flow.K, flow.bias
    weight, bias = torch.zeros((), dtype=F64), torch.zeros((), dtype=F64)
    for j in range(1, 4):
        for new, old in zip(K[j].flatten(), K[j - 1].flatten(), strict=True):
            weight = weight + 0.15 * (new - old) ** 2
        bias = bias + 0.15 * (b[j] - b[j - 1]).square().sum()
    mine = flow.smoothness()
    tight(mine[0], weight)
    tight(mine[1], bias)


def test_step_and_horizon() -> None:
    flow = preset("h1", layers=8, step=None, horizon=2.0)
    assert (flow.step, flow.horizon) == (0.25, 2.0)
    assert preset("h1", layers=8, step=0.25).horizon == 2.0


@pytest.mark.parametrize(
    ("options", "of_K"),
    [
        ({}, 1 / 4),
        ({"kernel_size": 1}, 1 / 4),
        ({"kernel_size": 3}, 1 / 12),
        ({"kernel_size": 5}, 1 / 20),
        ({"width": 64}, 1 / 6),
        ({"width": 64, "kernel_size": 3}, 1 / 18),
        ({"width": 8}, 1 / 4),
    ],
)
@pytest.mark.parametrize("name", ["h1", "h2"])
def test_initial_values(name: str, options: dict[str, int], of_K: float) -> None:
    torch.manual_seed(0)
    flow = PRESETS[name](16, 100, step=0.1, **options)
    assert flow.weight.std().item() == pytest.approx(of_K, rel=0.02)
    assert flow.bias.std().item() == pytest.approx(1 / 4, rel=0.1)
    assert all(abs(parameter.mean().item()) < 0.02 for parameter in flow.parameters())
    assert flow[1:].init_std is flow.init_std is None
    given = PRESETS[name](16, 100, step=0.1, init_std=1.0, **options)
    assert [round(parameter.std().item(), 1) for parameter in given.parameters()] == [1.0, 1.0]
    assert (PRESETS[name](4, 2, step=0.1, init_std=0.0).weight == 0).all()


def test_norms_of_initial_weights_do_not_grow_with_width_and_taps() -> None:
    torch.manual_seed(0)
    for width in (None, 64, 256):
        norms = torch.linalg.matrix_norm(PRESETS["h1"](16, 50, step=0.1, width=width).K, 2)
        assert norms.mean().item() == pytest.approx(2, rel=0.1)
    for k in (3, 5, 7):
        K = PRESETS["h1"](16, 20, step=0.05, kernel_size=k).K
        seen = torch.fft.fft2(K, s=(16, 16)).movedim((-2, -1), (1, 2))
        largest = torch.linalg.matrix_norm(seen, 2).amax((1, 2))  # 0.05 ||K||^2 was 1.1, 3.1 and 6.4
        assert 0.05 * largest.square().mean().item() == pytest.approx(0.3, abs=0.1)


def test_J_of_a_convolution_is_no_matrix() -> None:
    with pytest.raises(ValueError, match="operator on whole states"):
        _ = preset("ms1", kernel_size=3).J
    tight(preset("ms1", kernel_size=1).J, preset("ms1").J)


def test_J_of_learned_and_fixed() -> None:
    for name, make in INTERCONNECTIONS.items():
        if name != "Inverse":
            flow = Factors("Dense", name, "ForwardEuler").flow(4, 3)
            interconnection = make(4, 3)
            expected = interconnection.initial if isinstance(interconnection, Learned) else interconnection.J  # type: ignore[attr-defined]
            tight(flow.J, expected.to(F64))


def test_midpoint_accepts_any_skew_J_of_odd_size() -> None:
    flow = Factors("Dense", "skew", "ImplicitMidpoint").flow(3, 2)
    assert flow.preserves_structure
    y = random(2, 3)
    torch.testing.assert_close(flow.inverse(flow(y)), y)
