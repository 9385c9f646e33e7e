"""Each `memory` under the tools of PyTorch: transforms, second derivatives, compile, export, copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

from families import ACTIVATIONS, F64, IMPLICIT, INTEGRATORS, PRESETS, Factors, preset, random, state, tight
from hdnn.flow import Flow
from memory_cases import (
    KINDS,
    KINDS_AND_MEMORIES,
    SPARING,
    both,
    error,
    every_kind,
    gradients,
    kept,
    sparing,
    sparing_of,
)


@pytest.mark.parametrize("k", [None, 1])
@pytest.mark.parametrize(
    ("name", "memory"),
    [
        pytest.param(name, memory, marks=pytest.mark.long if name in IMPLICIT else ())
        for name in INTEGRATORS
        for memory in sparing_of(name)
    ],
)
def test_gradcheck_and_second_derivatives(name: str, memory: str, k: int | None) -> None:
    flow = Factors("BlockDiagonal", "Learned_block", name).flow(
        4, 4, kernel_size=k, step=0.3, backend="eager", memory=memory
    )
    names, values = zip(*flow.named_parameters(), strict=True)

    def call(y: Tensor, *values: Tensor) -> Tensor:
        return functional_call(flow, dict(zip(names, values, strict=True)), (y,))  # type: ignore[no-any-return]

    inputs = (state(flow, 1, size=(1, 2)).requires_grad_(), *(v.detach().clone().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


# PyTorch itself, where it first loads its rules of forward mode.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@every_kind
def test_transforms(kind: str, memory: str) -> None:
    flows = both(KINDS[kind], memory)
    one = state(flows[0]) if flows[0].kernel_size is None else state(flows[0], 1)
    many = random(3, *one.shape, seed=8)
    params = {name: p.detach() for name, p in flows[0].named_parameters()}
    stacked = {name: torch.stack([p + 0.1 * j for j in range(3)]) for name, p in params.items()}

    def loss(flow: Flow, p: dict[str, Tensor], y: Tensor) -> Tensor:
        return functional_call(flow, p, (y,)).sin().sum()  # type: ignore[no-any-return]

    def same(f: Callable[[Flow], Any]) -> None:
        for a, b in zip(*(torch.utils._pytree.tree_leaves(f(flow)) for flow in flows), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)

    same(lambda flow: jacrev(flow)(one))
    same(lambda flow: torch.autograd.functional.jacobian(flow, one, vectorize=True))
    same(lambda flow: vmap(flow)(many))
    same(lambda flow: vmap(jacrev(flow))(many))
    same(lambda flow: jacrev(lambda p: functional_call(flow, p, (one,)))(params))
    same(lambda flow: vmap(lambda p: functional_call(flow, p, (one,)))(stacked))
    same(lambda flow: vmap(grad(lambda p: loss(flow, p, one)))(stacked))
    same(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)), in_dims=(None, 0))(params, many))
    same(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)))(stacked, many))
    same(lambda flow: vmap(vmap(grad(lambda p, y: loss(flow, p, y)), (None, 0)), (0, None))(stacked, many))
    same(lambda flow: jvp(flow, (one,), (many[0],)))
    same(lambda flow: jacrev(jacrev(lambda y: loss(flow, params, y)))(one))
    same(lambda flow: jacfwd(jacrev(lambda y: loss(flow, params, y)))(one))
    # one of the parameters mapped, the others shared
    for name, values in stacked.items():
        same(lambda flow, n=name, v=values: vmap(grad(lambda x: loss(flow, {**params, n: x}, one)))(v))


def test_a_step_that_reads_its_residual_passes_jacrev() -> None:
    flow, truth = both(lambda **o: Factors("Dense", "skew", "ImplicitMidpoint").flow(4, 5, **o), "recompute")
    y = state(flow)
    tight(jacrev(flow)(y), jacrev(truth)(y))


@sparing
def test_vmap_of_the_bias_alone(memory: str) -> None:
    """With the identity for σ the last layer's gradient of K is not mapped, and that of every other layer is."""
    flow, truth = both(lambda **o: preset("h2", 4, 5, activation=ACTIVATIONS["identity"], **o), memory)
    y, biases = state(flow, 2), random(3, *flow.bias.shape)
    results = [
        vmap(grad(lambda w, b, f=f: functional_call(f, {"weight": w, "bias": b}, (y,)).sum()), (None, 0))(
            flow.weight, biases
        )
        for f in (flow, truth)
    ]
    tight(*results)


# Every way through a flow that the eager and the fused path have.
WAYS: list[dict[str, Any]] = [{}, {"memory": "store"}, *({"memory": memory, "backend": "eager"} for memory in SPARING)]


def changed_in_place(flow: Flow) -> Callable[[Tensor], Tensor]:
    return torch.nn.Sequential(flow, torch.nn.ReLU(inplace=True))


def checkpointed(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda y: checkpoint(run, y, use_reentrant=False)  # type: ignore[no-any-return]


def offloaded(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def on_cpu(y: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return run(y)

    return on_cpu


AROUND: dict[str, Callable[[Flow], Callable[[Tensor], Tensor]]] = {
    "checkpointed": checkpointed,
    "checkpointed, then changed in place": lambda flow: checkpointed(changed_in_place(flow)),
    "changed in place": changed_in_place,
    "scaled in place": lambda flow: lambda y: flow(y).mul_(2).add_(1),  # type: ignore[no-any-return]
    "offloaded": offloaded,
    "wrapped for FSDP": checkpoint_wrapper,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_inside_what_keeps_or_changes_tensors(way: dict[str, Any], around: str) -> None:
    """Checkpointing hands a saved tensor out once; who owns the output may write to it."""
    for layers in (1, 2, 5):
        flow, truth = preset("h2", 4, layers, **way), preset("h2", 4, layers, backend="eager", memory="store")
        y, inputs = state(flow, 3).requires_grad_(), list(flow.parameters())
        mine = torch.autograd.grad(AROUND[around](flow)(y).sin().sum(), [y, *inputs])
        expected = torch.autograd.grad(AROUND[around](truth)(y).sin().sum(), [y, *truth.parameters()])
        for a, b in zip(mine, expected, strict=True):
            tight(a, b)


def test_copies_slices_and_keys() -> None:
    flows = [preset("h2", 4, 5, memory=memory) for memory in (None, "store", *SPARING)]
    assert len({tuple(flow.state_dict()) for flow in flows}) == 1
    for flow in flows:
        assert (flow[1:3].memory, copy.deepcopy(flow).memory) == (flow.memory, flow.memory)
        assert str(flow.load_state_dict(flows[0].state_dict())) == "<All keys matched successfully>"
    assert "memory" not in repr(flows[0])
    assert "features=4, layers=5, step=0.1, memory='reverse'," in repr(flows[3])
    assert "backend" not in repr(flows[0])
    assert "step=0.1, backend='eager', memory='reverse'," in repr(preset("h2", memory="reverse", backend="eager"))
    assert all(make(4, 2, step=0.1, memory="recompute").memory == "recompute" for make in PRESETS.values())


@sparing
def test_on_tensors_without_numbers(memory: str) -> None:
    flow = preset("h2", memory=memory, device="meta")
    y = torch.empty(2, 4, dtype=F64, device="meta", requires_grad=True)
    flow(y).sum().backward()
    assert y.grad is not None
    assert flow.weight.grad is not None


# torch.compile and torch.export: one representative fast, the matrix slow -------------------------------------------

TRACED = [
    pytest.param(
        kind,
        m,
        backend,
        marks=pytest.mark.slow
        if backend != "aot_eager" or (kind != "halves" and (kind, m) != ("images", "reverse"))
        else pytest.mark.long
        if m == "reverse"
        else (),
    )
    for kind, m in KINDS_AND_MEMORIES
    for backend in (("aot_eager", "inductor") if kind in ("halves", "whole", "images") else ("aot_eager",))
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "memory", "backend"), TRACED)
def test_compiles_as_one_graph(kind: str, memory: str, backend: str) -> None:
    torch._dynamo.reset()
    flow, truth = both(KINDS[kind], memory)
    compiled = torch.compile(flow, fullgraph=True, backend=backend)
    y = state(flow, 100)
    g = random(*y.shape, seed=6)
    assert error(gradients(compiled, y, g), gradients(truth, y, g)) <= 1e-12
    # Whatever the depth: a compiler keeps copies of its own of the first state, of the output, and of small weights.
    assert kept(compiled, y) <= kept(flow, y) + 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["h2", "h1"])
@sparing
def test_compiles_for_any_batch(memory: str, name: str) -> None:
    torch._dynamo.reset()
    if memory not in sparing_of(name):
        return
    flow, truth = both(lambda **o: preset(name, 4, 5, **o), memory)
    compiled = torch.compile(flow, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (5, 7, 30):
        y = state(flow, batch)
        g = random(*y.shape, seed=6)
        assert error(gradients(compiled, y, g), gradients(truth, y, g)) <= 1e-12


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@sparing
def test_transforms_inside_a_compiled_function(memory: str) -> None:
    torch._dynamo.reset()
    flow, truth = both(lambda **o: preset("h2", 4, 2, **o), memory)
    y = state(flow, 2)
    inside = torch.compile(lambda y: grad(lambda y: flow(y).sum())(y), fullgraph=True, backend="aot_eager")
    tight(inside(y), grad(lambda y: truth(y).sum())(y))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "memory"),
    [pytest.param(kind, m, marks=() if kind == "halves" else pytest.mark.slow) for kind, m in KINDS_AND_MEMORIES],
)
def test_exports(kind: str, memory: str) -> None:
    flow, truth = both(KINDS[kind], memory)
    y = state(flow, 2)
    program = torch.export.export(flow, (y,)).module()
    tight(program(y), truth(y))
