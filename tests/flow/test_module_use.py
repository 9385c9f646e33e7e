"""The module among PyTorch's tools: states on disk, devices, dtypes, torch.func, compile and export."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from families import (
    ACTIVATIONS,
    COMBINATIONS,
    DISSIPATIONS,
    F64,
    IMPLICIT,
    INTEGRATORS,
    INTERCONNECTIONS,
    ONE_EACH,
    PRESETS,
    STRUCTURES,
    SWEEP,
    Factors,
    explicit_first,
    fill,
    jacobian,
    preset,
    random,
    state,
    tight,
)
from hdnn.hamiltonian import Hamiltonian
from hdnn.interconnections import Fixed, Learned, block, canonical, upper_ones

each = pytest.mark.parametrize("name", PRESETS)

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


class _OnCuda(pickle.Unpickler):
    """As `torch.load(map_location="cuda")` reads a pickle: every tensor comes back there."""

    def persistent_load(self, kind: tuple[torch.Size, torch.dtype]) -> torch.Tensor:
        return torch.zeros(kind[0], dtype=kind[1], device="cuda")


class _WithoutNumbers(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple[torch.Size, torch.dtype] | None:
        return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else None


@pytest.mark.parametrize("J", [*INTERCONNECTIONS, *DISSIPATIONS])
@pytest.mark.parametrize("structure", ["Skew", "Masked_Skew"])
def test_constants_stay_on_the_cpu_on_whatever_device_a_pickle_is_loaded(structure: str, J: str) -> None:
    interconnection = (INTERCONNECTIONS | DISSIPATIONS)[J](4, 3)
    hamiltonian, file = Hamiltonian(4, STRUCTURES[structure](4), interconnection, ACTIVATIONS["tanh"]), io.BytesIO()
    vars(hamiltonian).pop("canonical")  # earlier pickles do not say it
    _WithoutNumbers(file).dump(hamiltonian)
    file.seek(0)
    with FakeTensorMode():  # needs no such device
        loaded = _OnCuda(file).load()
    parts = [loaded, loaded.structure, loaded.interconnection, getattr(loaded.interconnection, "inner", None)]
    found = [value.device.type for part in parts if part for value in vars(part).values() if torch.is_tensor(value)]
    assert set(found) == {"cpu"}


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
        assert name == "interconnection_matrix"
        assert buffer.dtype is F64
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
    assert "space=Images(kernel_size=3), shared=True" in repr(preset("h1", kernel_size=3, shared=True))


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
    if factors.integrator not in IMPLICIT:
        tight(torch.func.jacfwd(flow)(y), M)
        tight(torch.vmap(torch.func.jacrev(flow))(y[None])[0], M)


@pytest.mark.parametrize("name", explicit_first(INTEGRATORS))
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
@pytest.mark.parametrize("factors", [f for f in COMBINATIONS if f.integrator not in IMPLICIT], ids=str)
def test_every_explicit_combination_compiles_and_exports(factors: Factors) -> None:
    torch._dynamo.reset()
    flow = factors.flow(4, 2)
    y = state(flow, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tight(torch.compile(flow, fullgraph=True, backend="aot_eager")(y), flow(y))
        tight(torch.export.export(flow, (y,)).module()(y), flow(y))
