"""The module: shapes, slices, states on disk, PyTorch's habits, and every error."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import (
    ACTIVATIONS,
    COMBINATIONS,
    F64,
    INTEGRATORS,
    INTERCONNECTIONS,
    PAIRS,
    PRESETS,
    SEPARABLE,
    SWEEP,
    Factors,
    fill,
    jacobian,
    preset,
    random,
    skew,
    state,
)
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, ImplicitMidpoint, StormerVerlet, SymplecticEuler
from hdnn.interconnections import Fixed, Learned, block, canonical, upper_ones
from hdnn.structures import BlockDiagonal, Dense, Masked, OffDiagonal, Skew

each = pytest.mark.parametrize("name", PRESETS)
taps = pytest.mark.parametrize("k", [None, 1, 3])
# One integrator for each pair of structure and J, the partitioned one where it may be. The default suite takes every J
# with two structures and every structure with four J, the slow one all pairs.
ONE_EACH = [
    pytest.param(
        Factors(s, J, "SymplecticEuler_p" if (s, J) in SEPARABLE else "ForwardEuler"),
        marks=()
        if s in ("Dense", "BlockDiagonal") or J in ("canonical", "per_layer", "Inverse", "Learned")
        else pytest.mark.slow,
    )
    for s, J in PAIRS
]


def tight(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# The map ----------------------------------------------------------------------------------------------------------


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


def test_initial_values() -> None:
    torch.manual_seed(0)
    flow = PRESETS["h1"](16, 200, step=0.1)
    for parameter in flow.parameters():
        assert abs(parameter.std().item() - 0.25) < 0.01
        assert abs(parameter.mean().item()) < 0.01
    assert abs(PRESETS["h1"](16, 200, step=0.1, init_std=1.0).bias.std().item() - 1) < 0.05
    assert (PRESETS["h1"](4, 2, step=0.1, init_std=0.0).weight == 0).all()


# PyTorch's habits -------------------------------------------------------------------------------------------------

KEYS = {
    "canonical": ["weight", "bias", "interconnection_matrix"],
    "per_layer": ["weight", "bias", "interconnection_matrix"],
    "Inverse": ["weight", "bias"],
    "Learned": ["weight", "bias", "interconnection_weight"],
}


@pytest.mark.parametrize("J", KEYS)
@pytest.mark.parametrize("structure", ["Skew", "Masked_Skew"])
def test_keys_of_the_state_are_stable(structure: str, J: str) -> None:
    flow = Factors(structure, J, "ForwardEuler").flow(4, 3)
    assert sorted(flow.state_dict()) == sorted(KEYS[J])
    trained = {name for name, _ in flow.named_parameters()}
    assert trained == set(KEYS[J]) - {"interconnection_matrix"}


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_round_trips(factors: Factors) -> None:
    flow = factors.flow(4, 3)
    if flow.interconnection_weight is not None:
        with torch.no_grad():
            flow.interconnection_weight.mul_(2)
    y = state(flow, 2)
    expected = flow(y)
    other = factors.flow(4, 3, seed=9)
    assert not torch.equal(other(y), expected)
    assert str(other.load_state_dict(flow.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(other(y), expected)
    assert torch.equal(copy.deepcopy(flow)(y), expected)
    assert torch.equal(pickle.loads(pickle.dumps(flow))(y), expected)
    empty = factors.flow(4, 3, device="meta")
    assert all(tensor.is_meta for tensor in [*empty.parameters(), *empty.buffers()])
    empty.to_empty(device="cpu").load_state_dict(flow.state_dict())
    assert torch.equal(empty(y), expected)
    assigned = factors.flow(4, 3, device="meta")
    assigned.load_state_dict(flow.state_dict(), assign=True)
    assert torch.equal(assigned(y), expected)


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_reset_after_to_empty_fills_everything(factors: Factors) -> None:
    flow = factors.flow(4, 3, device="meta").to_empty(device="cpu")
    for buffer in flow.buffers():
        buffer.fill_(77)
    flow.reset_parameters()
    fill(flow, 0.5)
    y = state(flow, 2)
    assert torch.equal(flow(y), factors.flow(4, 3)(y))


@each
def test_under_a_default_device(name: str) -> None:
    with torch.device("meta"):
        flow = PRESETS[name](4, 3, step=0.1)
    assert all(tensor.is_meta for tensor in [*flow.parameters(), *flow.buffers()])
    assert flow(torch.empty(2, 4, device="meta")).is_meta
    assert flow[1:].weight.is_meta


def test_loading_is_strict_and_guards_J() -> None:
    flow, other = preset("h1"), preset("ms2")
    with pytest.raises(RuntimeError, match="interconnection_matrix"):
        flow.load_state_dict(other.state_dict())
    J2 = preset("h1", interconnection=Fixed(upper_ones(4)))
    with pytest.raises(ValueError, match=r"The loaded J differs from that of this flow, `Fixed\(canonical\)`"):
        flow.load_state_dict(J2.state_dict())
    rounded = preset("h2", interconnection=Fixed(block(random(2, 2)))).to(torch.float32)
    preset("h2", interconnection=Fixed(block(random(2, 2)))).load_state_dict(rounded.state_dict())


def test_factors_are_not_touched_by_the_models_that_share_them() -> None:
    J = Fixed(canonical(4))
    flow = preset("h2", interconnection=J)
    assert flow.interconnection_matrix is not None
    flow.interconnection_matrix.zero_()
    assert J.is_canonical
    learned = Learned(canonical(4))
    one, two = (preset("h1", interconnection=learned) for _ in range(2))
    with torch.no_grad():
        assert one.interconnection_weight is not None
        one.interconnection_weight.zero_()
    tight(two.J, canonical(4, dtype=F64))


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_buffers_follow_and_take_no_gradient(factors: Factors) -> None:
    flow = factors.flow(4, 3, dtype=torch.float32)
    y = state(flow, 2)
    rough = flow(y.float())
    assert rough.dtype is torch.float32
    flow.to(F64)
    for name, buffer in flow.named_buffers():
        assert buffer.dtype is (torch.int64 if name.endswith("index") else F64)
        assert not buffer.requires_grad
    torch.testing.assert_close(flow(y).float(), rough, rtol=1e-4, atol=1e-4)
    flow(y).sum().backward()
    assert all(parameter.grad is not None for parameter in flow.parameters())


def test_default_dtype_and_factories() -> None:
    assert preset("h1", dtype=None).weight.dtype is torch.float32
    torch.set_default_dtype(F64)
    try:
        flow = PRESETS["h2"](4, 2, step=0.1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in [*flow.parameters(), flow.interconnection_matrix]} == {F64}


def test_repr_shows_the_four_factors() -> None:
    shown = repr(preset("h2", layers=64))
    assert shown.splitlines() == [
        "Flow(",
        "  features=4, layers=64, step=0.1,",
        "  structure=BlockDiagonal(width=None),",
        "  interconnection=Fixed(canonical),",
        "  activation=tanh,",
        "  integrator=SymplecticEuler(first='p')",
        ")",
    ]
    assert "kernel_size=3, shared=True" in repr(preset("h1", kernel_size=3, shared=True))


# torch.func -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_vmap_over_stacked_parameters(factors: Factors) -> None:
    flows = [factors.flow(4, 2, seed=seed) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(flows)  # type: ignore[arg-type]
    y = random(5, 4)

    def call(p: dict[str, torch.Tensor], b: dict[str, torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(flows[0], (p, b), (y,))  # type: ignore[no-any-return]

    tight(torch.vmap(call, (0, 0, None))(parameters, buffers, y), torch.stack([flow(y) for flow in flows]))


@pytest.mark.parametrize("k", [1, 3])
def test_vmap_over_stacked_parameters_of_images(k: int) -> None:
    flows = [preset("h2", seed=seed, kernel_size=k) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(flows)  # type: ignore[arg-type]
    y = state(flows[0], 2)
    out = torch.vmap(lambda p, b: torch.func.functional_call(flows[0], (p, b), (y,)))(parameters, buffers)
    tight(out, torch.stack([flow(y) for flow in flows]))


# PyTorch itself, where it first loads its rules of forward mode.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("factors", SWEEP, ids=str)
def test_reverse_and_forward_mode_agree(factors: Factors) -> None:
    flow = factors.flow(4, 2)
    y, tangent = random(4), random(4, seed=1)
    M = jacobian(flow, y)
    tight(torch.func.jacrev(flow)(y), M)
    tight(torch.func.jvp(flow, (y,), (tangent,))[1], M @ tangent)
    if factors.integrator != "ImplicitMidpoint":
        tight(torch.func.jacfwd(flow)(y), M)
        tight(torch.vmap(torch.func.jacrev(flow))(y[None])[0], M)


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize("k", [None, 1])
def test_gradcheck_of_state_and_parameters(name: str, k: int | None) -> None:
    flow = Factors("BlockDiagonal", "Learned_block", name).flow(4, 2, kernel_size=k, step=0.3)
    names, values = zip(*flow.named_parameters(), strict=True)

    def call(y: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(flow, dict(zip(names, values, strict=True)), (y,))  # type: ignore[no-any-return]

    inputs = (state(flow, 1, size=(1, 2)).requires_grad_(), *(v.detach().clone().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(call, inputs)
    flow.backend = "eager"  # the native backend has no second derivatives and says so
    assert torch.autograd.gradgradcheck(call, inputs)


# torch.compile and torch.export: one representative fast, the matrix slow -------------------------------------------

TRACED = [
    pytest.param(name, k, marks=() if (name, k) == ("h2", None) else pytest.mark.slow)
    for name in PRESETS
    for k in (None, 1, 3)
]


@pytest.mark.parametrize(("name", "k"), TRACED)
def test_compiles_as_one_graph(name: str, k: int | None) -> None:
    torch._dynamo.reset()
    flow = preset(name, kernel_size=k)
    y = state(flow, 2).requires_grad_()
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out = compiled(y)
    tight(out, flow(y))
    mine = torch.autograd.grad(out.square().sum(), [y, flow.weight, flow.bias])
    for a, b in zip(mine, torch.autograd.grad(flow(y).square().sum(), [y, flow.weight, flow.bias]), strict=True):
        tight(a, b)


@pytest.mark.parametrize(("name", "k"), TRACED)
def test_exports_with_a_free_batch_size(name: str, k: int | None) -> None:
    flow = preset(name, kernel_size=k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(flow, (state(flow, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    y = state(flow, 7)
    tight(program.module()(y), flow(y))


@pytest.mark.slow
@pytest.mark.parametrize("factors", [f for f in COMBINATIONS if f.integrator != "ImplicitMidpoint"], ids=str)
def test_every_explicit_combination_compiles_and_exports(factors: Factors) -> None:
    torch._dynamo.reset()
    flow = factors.flow(4, 2)
    y = state(flow, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tight(torch.compile(flow, fullgraph=True, backend="aot_eager")(y), flow(y))
        tight(torch.export.export(flow, (y,)).module()(y), flow(y))


# Errors -----------------------------------------------------------------------------------------------------------


def flow_of(**changes: object) -> Flow:
    settings = {
        "features": 4,
        "layers": 2,
        "step": 0.1,
        "structure": Dense(),
        "interconnection": Fixed(canonical(4)),
        "integrator": ForwardEuler(),
    }
    return Flow(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"features": 0}, "`features` is the size of the state, so it must be at least 1; got 0"),
        ({"layers": -1}, r"`layers` must be 0 \(the identity\) or more; got -1"),
        ({"kernel_size": 2}, "`kernel_size` must be odd.*Use 3, or None for vectors"),
        ({"kernel_size": 0}, "`kernel_size` must be odd"),
        ({"step": None}, r"Give exactly one of `step` \(h\) and `horizon`.*got neither"),
        ({"horizon": 1.0}, "Give exactly one of .*got step=0.1 and horizon=1.0"),
        ({"step": 0.0}, "`step` must be a positive, finite time; got 0.0"),
        ({"step": -0.1}, "`step` must be a positive"),
        ({"step": float("nan")}, "`step` must be a positive"),
        ({"step": None, "horizon": float("inf")}, "`horizon` must be a positive, finite time; got inf"),
        ({"init_std": -1.0}, "`init_std` is a standard deviation"),
        ({"init_std": float("nan")}, "`init_std` is a standard deviation"),
        ({"dtype": torch.int64}, "`dtype` must be a floating-point type; got torch.int64"),
        ({"dtype": torch.complex64}, "`dtype` must be a floating-point type"),
        ({"backend": "cuda"}, "`backend` must be .*got 'cuda'"),
        (
            {"integrator": SymplecticEuler()},
            r"`SymplecticEuler` moves one half of the state by the other, so neither half may drive itself; "
            r"`Dense\(width=None\)` with `Fixed\(canonical\)` lets it. "
            r"Use `BlockDiagonal\(\)`.*`h2`.*`ForwardEuler\(\)`",
        ),
        ({"integrator": StormerVerlet(), "structure": Dense()}, "`StormerVerlet` moves one half"),
        (
            {"integrator": SymplecticEuler(), "structure": OffDiagonal(), "interconnection": Fixed(upper_ones(4))},
            "neither half may drive itself",
        ),
        (
            {"integrator": SymplecticEuler(), "structure": BlockDiagonal(), "interconnection": Learned(canonical(4))},
            "neither half may drive itself",
        ),
        (
            {"features": 5, "integrator": SymplecticEuler(), "interconnection": Fixed(upper_ones(5))},
            r"`features` must be even to split the state into \(p, q\); got 5. Lift the input to 6",
        ),
        ({"features": 6}, "J is 4 x 4, but the flow has 6 features"),
        ({"interconnection": Fixed(canonical(4).expand(3, 4, 4))}, "for each of 3 layers, but the flow has 2"),
        ({"structure": Masked(Dense(), torch.ones(3, 3))}, r"must have the shape of K, \(4, 4\)"),
        ({"structure": Masked(Skew(), torch.ones(4, 4).triu())}, "must fit the symmetry"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_flow_refuses(changes: dict[str, object], phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        flow_of(**changes)


@pytest.mark.parametrize("shape", [(128, 3), (), (4, 5)])
@pytest.mark.parametrize("method", ["forward", "trajectory", "inverse", "energy"])
def test_states_of_the_wrong_shape(method: str, shape: tuple[int, ...]) -> None:
    expected = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"Expected a state of shape \(..., 4\); got {expected}"):
        getattr(preset("h2"), method)(torch.zeros(shape, dtype=F64))


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4, 5), (1, 1, 4, 4, 4)])
def test_images_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(B, 4, H, W\); got"):
        preset("h2", kernel_size=3)(torch.zeros(shape, dtype=F64))


def test_layers_out_of_range() -> None:
    flow = preset("h2")
    for ask in (lambda: flow[3], lambda: flow[-4], lambda: flow.energy(random(4), 3)):
        with pytest.raises(IndexError, match="The flow has layers 0 to 2; got"):
            ask()
    with pytest.raises(ValueError, match="Only neighbouring layers make a flow; got a stride of 2"):
        _ = flow[::2]


def test_J_of_a_convolution_is_no_matrix() -> None:
    with pytest.raises(ValueError, match="operator on whole images"):
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
    flow = flow_of(features=3, interconnection=Fixed(skew(3)), integrator=ImplicitMidpoint(), dtype=F64)
    assert flow.preserves_structure
    y = random(2, 3)
    torch.testing.assert_close(flow.inverse(flow(y)), y)
