"""A backend from outside of the package: what its author writes is one class, and everything else is there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacfwd, jacrev, vmap

from families import F64, Factors, preset, random, state
from hdnn.flow import Flow
from hdnn.info import info
from hdnn.integrators import RungeKutta4
from hdnn.interconnections import canonical
from hdnn.kernels import choice, operators
from hdnn.kernels.backend import Backend, Gradients, Layers, Wants
from hdnn.kernels.plan import Plan
from native_cases import close, twin


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    """What other tests have compiled counts towards the limit of recompilations."""
    torch.compiler.reset()


class Toy(Backend):
    """Forward Euler with tanh, on vectors in float64: y⁺ = y + h Wᵀ tanh(K y + b)."""

    name: ClassVar[str] = "toy"

    def describe(self) -> str:
        return "available"

    def why_not(self, plan: Plan | None, y: Tensor | None, weight: Tensor | None, wants: Wants) -> str:
        if plan is None or (plan.method, plan.activation, plan.images) != ("euler", "tanh", False):
            return 'backend=Toy() runs ForwardEuler with tanh on vectors. Use backend="auto".'
        if any(wants) or (y is not None and y.dtype is not F64):
            return 'backend=Toy() runs plain calls in float64. Use backend="auto".'
        return ""

    def forward(self, plan: Plan, y: Tensor, layers: Layers, keep: bool) -> tuple[Tensor, list[Tensor]]:
        ran.append("forward")
        states = [y]
        for K, b, W in numbers(plan, layers):
            states.append(states[-1] + plan.step * torch.tanh(states[-1] @ K.mT + b) @ W)
        return states[-1] if plan.layers else y.clone(), states[:-1] if keep else []

    def backward(self, plan: Plan, g: Tensor, y: Tensor, layers: Layers, kept: Any, weights_too: bool) -> Gradients:
        ran.append("backward")
        states = kept or self.forward(plan, y, layers, True)[1]
        to = [None if x is None else torch.zeros(x.shape, dtype=F64) for x in (layers.weight, layers.bias, layers.W)]
        g = g.clone()
        for j, (K, b, W) in reversed(list(enumerate(numbers(plan, layers)))):
            z = torch.tanh(states[j] @ K.mT + b)
            at_u = plan.step * (g @ W.mT) * (1 - z * z)
            to_W = plan.step * z.mT @ g
            weight, bias, drive = (None if x is None else x[j if len(x) > 1 else 0] for x in to)
            weight += at_u.mT @ states[j]
            bias += at_u.sum(0)
            if drive is not None:
                drive += to_W
            elif plan.drive == "canonical":
                weight += to_W @ canonical(plan.features).double()
            g = g + at_u @ K
        return (g, *to) if weights_too else (g, None, None, None)  # type: ignore[return-value]


ran: list[str] = []
TOY = Toy()


def numbers(plan: Plan, layers: Layers) -> list[tuple[Tensor, Tensor, Tensor]]:
    """K, b and W of every layer."""
    weight, bias, W, *_ = layers
    if W is None:
        J = canonical(plan.features).double()
        W = weight @ J.mT if plan.drive == "canonical" else torch.eye(plan.features, dtype=F64).expand_as(weight)
    each = [x.expand(plan.layers, *x.shape[1:]) for x in (weight, bias, W)]
    return list(zip(*each, strict=True))


# One of each: a matrix J, one for each layer, a learned one, J Kᵀ = I, canonical, shared, wide.
FLOWS: dict[str, Callable[..., Flow]] = {
    "h1": lambda **o: preset("h1", 4, 3, **o),
    "ms2": lambda **o: preset("ms2", 4, 3, **o),
    "shared": lambda **o: preset("h1", 4, 3, shared=True, **o),
    "learned": lambda **o: Factors("Dense", "Learned", "ForwardEuler").flow(4, 3, **o),
    "per layer": lambda **o: Factors("Dense_wide", "per_layer_skew", "ForwardEuler").flow(4, 3, **o),
}
COMPILED = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FORWARD_MODE = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
each_flow = pytest.mark.parametrize("kind", FLOWS)


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setattr(choice, "BACKENDS", (TOY, *choice.BACKENDS))


def both(kind: str, ask: Callable[[Flow], Any], backend: Any = TOY) -> None:
    """The toy and the eager path give the same, and the toy is who ran."""
    flow = FLOWS[kind](backend=backend)
    ran.clear()
    mine = ask(flow)
    assert ran
    before = list(ran)
    truth = ask(twin(flow))
    assert ran == before
    for a, b in zip(*(torch.utils._pytree.tree_leaves(x) for x in (mine, truth)), strict=True):
        close(a, b)


def loss(flow: Flow, parameters: dict[str, Tensor], y: Tensor) -> Tensor:
    return functional_call(flow, parameters, (y,)).sin().sum()


@each_flow
def test_flows_and_gradients(kind: str) -> None:
    def ask(flow: Flow) -> list[Tensor]:
        y = state(flow, 5).requires_grad_()
        out = flow(y)
        found = torch.autograd.grad(out.sin().sum(), [y, *flow.parameters()], materialize_grads=True)
        return [out, flow(random(4)), flow(random(2, 3, 4)), *found]

    both(kind, ask)


def test_no_layers() -> None:
    y = random(2, 4)
    assert torch.equal(preset("h1", 4, 0, backend=TOY)(y), y)


@each_flow
def test_transforms(kind: str) -> None:
    """Mapped parameters make an axis of flows, which the toy knows nothing of."""

    def ask(flow: Flow) -> list[Any]:
        y, many = state(flow, 5), random(3, 5, 4, seed=8)
        parameters = {name: x.detach() for name, x in flow.named_parameters()}
        stacked = {name: torch.stack([x, x + 0.1]) for name, x in parameters.items()}
        x = y.clone().requires_grad_()
        batched = torch.autograd.grad(flow(x), [x, *flow.parameters()], many, is_grads_batched=True)
        return [
            vmap(flow)(many),
            jacrev(flow)(y),
            vmap(grad(lambda p, y: loss(flow, p, y)), (None, 0))(parameters, many),
            vmap(grad(lambda p, y: loss(flow, p, y)), (0, None))(stacked, y),
            vmap(vmap(lambda p, y: functional_call(flow, p, (y,)), (None, 0)), (0, None))(stacked, many),
            batched,
        ]

    both(kind, ask)


@COMPILED
@pytest.mark.parametrize("kind", ["h1", "learned"])
def test_compilation(kind: str) -> None:
    """The operators carry plain values; which code they reach is told by the name."""

    def ask(flow: Flow) -> list[Tensor]:
        y = state(flow, 5).requires_grad_()
        run = torch.compile(flow, fullgraph=True, backend="aot_eager")
        return [run(y), *torch.autograd.grad(run(y).sin().sum(), [y, *flow.parameters()])]

    both(kind, ask)


@COMPILED
@pytest.mark.slow
def test_compilation_by_inductor() -> None:
    both("h1", lambda flow: torch.compile(flow, fullgraph=True)(state(flow, 5)))


@each_flow
def test_second_derivatives_under_auto(kind: str, third: None) -> None:
    """The loop that comes with a call is differentiated, as for every fused backend."""

    def ask(flow: Flow) -> list[Tensor]:
        y = state(flow, 2).requires_grad_()
        of = [y, *flow.parameters()]
        first = torch.autograd.grad(flow(y).sin().sum(), of, create_graph=True)
        energy = torch.stack([x.square().sum() for x in first]).sum()
        hessian = jacrev(jacrev(lambda y: flow(y).sum()))(state(flow, 2))
        return [*torch.autograd.grad(energy, of, materialize_grads=True), hessian]

    both(kind, ask, "auto")


@FORWARD_MODE
def test_a_named_backend_never_falls_back() -> None:
    for other in (lambda **o: preset("h2", **o), lambda **o: preset("h1", memory="store", **o)):
        with pytest.raises(ValueError, match=r"backend=Toy\(\) runs"):
            other(backend=TOY)
    flow = FLOWS["h1"](backend=TOY)
    with pytest.raises(ValueError, match="runs plain calls in float64"):
        flow(state(flow, 2).float())
    with pytest.raises(ValueError, match="runs plain calls in float64"):
        jacfwd(flow)(random(4))
    y = state(flow, 2).requires_grad_()
    (first,) = torch.autograd.grad(flow(y).sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match=r"The toy backend has no second derivatives.*never falls back"):
        torch.autograd.grad(first.sum(), y)


@FORWARD_MODE
def test_auto_falls_back(third: None) -> None:
    flow = FLOWS["h1"]()
    ran.clear()
    jacfwd(flow)(random(4))
    preset("h1", memory="store")(random(4))
    preset("h2")(random(4))
    Factors("Dense", "canonical", "RungeKutta4").flow(4, 2)(random(4))
    assert not ran
    flow(random(4))
    assert ran == ["forward"]


def test_what_a_flow_keeps_of_it(third: None) -> None:
    """A flow keeps its backend for life, through copies, pickles, slices and new settings."""
    flow = FLOWS["h1"](backend=TOY)
    y = state(flow, 2)
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow)), flow[:], flow.refine(1)):
        ran.clear()
        close(other(y), flow(y))
        assert ran == ["forward", "forward"]
    flow.backend = "eager"
    ran.clear()
    flow(y)
    assert not ran
    with pytest.raises(ValueError, match="runs ForwardEuler"):
        FLOWS["h1"](backend=TOY).integrator = RungeKutta4()
    assert FLOWS["h1"](backend="toy")(y).shape == y.shape


def test_names(third: None) -> None:
    class Other(Toy):
        name: ClassVar[str] = "native"

    with pytest.raises(ValueError, match='There is another backend called "native"'):
        FLOWS["h1"](backend=Other())
    names = '"auto", "eager", "triton", "native" or "toy"'
    with pytest.raises(ValueError, match=f"`backend` must be {names}, or a `Backend`; got 5"):
        FLOWS["h1"](backend=5)
    assert info()["backends"]["toy"] == "available"
    assert "step=0.1, backend=Toy()," in repr(FLOWS["h1"](backend=TOY))


@each_flow
def test_all_are_of_one_contract(kind: str) -> None:
    """Whoever runs, forward and backward give the same through the six words of the contract alone."""
    flow = FLOWS[kind]()
    y, g, plan = state(flow, 5), random(5, 4, seed=7), flow.plan
    J = flow.interconnection.drive(flow._J(), flow.K, flow.space)
    results = []
    for backend in (TOY, *choice.BACKENDS):
        if backend.describe().startswith("not available"):
            continue
        W = J if plan.drive == "matrix" or not backend.fused else None
        loop = twin(flow)

        def again(y: Tensor, K: Tensor, b: Tensor, W: Tensor | None, loop: Flow = loop) -> Tensor:
            fields = loop.hamiltonian.driven(K, b, W, loop.layers, halves=False)
            for field in fields:
                y = loop.integrator.step(field, y, loop.step)
            return y

        layers = Layers(flow.K.detach(), flow.bias.detach(), None if W is None else W.detach(), again)
        out, kept = backend.forward(plan, y, layers, True)
        to_y, *rest = backend.backward(plan, g, y, layers, kept, True)
        close(backend.backward(plan, g, y, layers, None, False)[0], to_y)
        results.append([out, to_y, rest[1]])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            close(a, b)


def test_operators_ask_before_they_run() -> None:
    flow = FLOWS["h1"](backend=TOY)
    plan, y = flow.plan, state(flow, 5)
    given = (flow.K.detach(), flow.bias.detach(), None, 0, "toy")
    close(torch.ops.hdnn.flow_run(y, *given, *plan.values()), flow(y))
    with pytest.raises(ValueError, match="runs plain calls in float64"):
        torch.ops.hdnn.flow_run(y.float(), *(x.float() if isinstance(x, Tensor) else x for x in given), *plan.values())
    assert "toy" in operators._SERVING
