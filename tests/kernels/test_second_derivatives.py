"""Gradient penalties, Hessians and what else differentiates a gradient: with the default backend as layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from families import preset, random, state
from hdnn.flow import Flow
from hdnn.kernels import native
from memory_cases import SPARING
from native_cases import TRANSFORMED, close, twin

# PyTorch itself, where it first loads its rules of forward mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
    pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension"),
]


def number(flow: Flow) -> Callable[[Tensor], Tensor]:
    return lambda y: flow(y).sin().sum()


def penalty(flow: Flow, y: Tensor) -> list[Tensor]:
    """Gradients of the squared norm of all gradients, by plain autograd."""
    inputs = [y.detach().clone().requires_grad_(), *flow.parameters()]
    first = torch.autograd.grad(number(flow)(inputs[0]), inputs, create_graph=True)
    squares = torch.stack([g.square().sum() for g in first]).sum()
    return [squares.detach(), *torch.autograd.grad(squares, inputs)]


def agree(fast: Flow, f: Callable[[Flow], Any]) -> None:
    for a, b in zip(*(torch.utils._pytree.tree_leaves(f(flow)) for flow in (fast, twin(fast))), strict=True):
        close(a, b)


FAST = ("h2", "ms2", "learned", "images")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in TRANSFORMED]
)
def test_auto_differentiates_gradients_as_eager_does(kind: str) -> None:
    fast = TRANSFORMED[kind]()
    one = state(fast, 2)
    many = random(3, *one.shape, seed=8)
    params = {name: p.detach() for name, p in fast.named_parameters()}
    stacked = {name: torch.stack([p + 0.1 * j for j in range(3)]) for name, p in params.items()}

    def squares(flow: Flow, p: dict[str, Tensor], y: Tensor) -> Tensor:
        first = grad(lambda p, y: functional_call(flow, p, (y,)).sin().sum(), argnums=(0, 1))(p, y)
        return torch.stack([g.square().sum() for g in (*first[0].values(), first[1])]).sum()

    agree(fast, lambda flow: penalty(flow, one))
    agree(fast, lambda flow: vjp(grad(number(flow)), one)[1](many[0]))
    agree(fast, lambda flow: jvp(grad(number(flow)), (one,), (many[0],)))
    agree(fast, lambda flow: grad(lambda y: jvp(flow, (y,), (many[0],))[1].sin().sum())(one))
    agree(fast, lambda flow: torch.autograd.functional.hvp(number(flow), one, many[0]))
    agree(fast, lambda flow: vmap(vjp(grad(number(flow)), one)[1])(many))
    agree(fast, lambda flow: grad(lambda p: squares(flow, p, one))(params))
    agree(fast, lambda flow: vmap(grad(lambda p, y: squares(flow, p, y)))(stacked, many))
    agree(fast, lambda flow: vmap(grad(lambda p, y: squares(flow, p, y)), in_dims=(None, 0))(params, many))


@pytest.mark.parametrize("twice", [hessian, lambda f: jacrev(jacrev(f)), lambda f: jacrev(jacfwd(f))])
@pytest.mark.parametrize("kind", ["h2", "ms2", "images"])
def test_hessians(kind: str, twice: Callable[[Any], Any]) -> None:
    fast = TRANSFORMED[kind]()
    agree(fast, lambda flow: twice(number(flow))(state(fast, 1)))


@pytest.mark.parametrize("memory", SPARING)
def test_the_second_pass_spares_memory_too(memory: Any) -> None:
    """Where levels of vjp are nested: an autograd function may not use `torch.func.vjp` in its backward."""
    flow = preset("h2", 4, 5, memory=memory)
    y = state(flow, 2)
    agree(flow, lambda flow: penalty(flow, y))
    agree(flow, lambda flow: vjp(grad(number(flow)), y)[1](y))
    slow = twin(flow)
    stored = twin(flow)
    stored.memory = "store"
    params = {name: p.detach() for name, p in flow.named_parameters()}

    def pulled(flow: Flow) -> list[Tensor]:
        def first(p: dict[str, Tensor], g: Tensor) -> Any:
            return vjp(lambda p: functional_call(flow, p, (y,)), p)[1](g)

        out, back = vjp(first, params, y)
        return [x for gradients in back(out) for x in torch.utils._pytree.tree_leaves(gradients)]

    for a, b in zip(pulled(slow), pulled(stored), strict=True):
        close(a, b)


def test_third_derivatives() -> None:
    flow = preset("h2")
    y = state(flow)
    agree(flow, lambda flow: jacrev(jacrev(jacrev(number(flow))))(y))

    def thrice(flow: Flow) -> Tensor:
        x = y.clone().requires_grad_()
        value = number(flow)(x)
        for _ in range(2):
            value = torch.autograd.grad(value, x, create_graph=True)[0].sin().sum()
        return torch.autograd.grad(value, x)[0]

    agree(flow, thrice)


def test_second_derivatives_are_exact() -> None:
    flow = preset("h1", 4, 2, step=0.3)
    names, values = zip(*flow.named_parameters(), strict=True)

    def call(y: Tensor, *values: Tensor) -> Tensor:
        return functional_call(flow, dict(zip(names, values, strict=True)), (y,))  # type: ignore[no-any-return]

    inputs = (state(flow, 1), *(v.detach().clone() for v in values))
    assert torch.autograd.gradgradcheck(call, tuple(x.requires_grad_() for x in inputs), fast_mode=True)


def test_autocast_leaves_the_second_pass_alone() -> None:
    flow = preset("h2")
    y = state(flow, 3).requires_grad_()
    (first,) = torch.autograd.grad(number(flow)(y), y, create_graph=True)
    (expected,) = torch.autograd.grad(first.sum(), y, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        close(torch.autograd.grad(first.sum(), y)[0], expected)


def test_a_named_native_backend_refuses() -> None:
    flow = preset("h2", backend="native")
    y = state(flow, 5).requires_grad_()
    message = r'no second derivatives, and a backend that is named never falls back\. Use backend="auto"'
    (first,) = torch.autograd.grad(number(flow)(y), y, create_graph=True)
    with pytest.raises(RuntimeError, match=message):
        first.sum().backward()
    with pytest.raises(RuntimeError, match=message):
        jacrev(jacrev(number(flow)))(y[0].detach())


def test_a_gradient_of_a_transform_that_has_ended() -> None:
    """`vjp` differentiates when its level is over, with tensors that only the public `apply` unwraps."""
    for backend in ("auto", "native"):
        flow = preset("h2", backend=backend)
        agree(flow, lambda flow: vjp(flow, state(flow, 3))[1](random(3, 4)))
    y = state(flow, 3)
    seen: list[Tensor] = []
    grad(lambda x: (seen.append(x), x.sum())[1])(y)
    assert torch.equal(flow(seen[0]), flow(y))


@pytest.mark.slow
@pytest.mark.parametrize("f", [grad, lambda f: vmap(grad(f)), lambda f: jacrev(jacrev(f))])
def test_transforms_inside_a_compiled_function(f: Callable[[Any], Any]) -> None:
    """The compiler follows neither our rule of vmap nor our second derivatives: it gave Hessians that were wrong."""
    torch._dynamo.reset()
    flow = preset("h2")
    y = state(flow, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f(number(twin(flow)))(y)
        close(torch.compile(f(number(flow)), backend="aot_eager")(y), expected)
        # A named backend runs what the compiler leaves to it, or refuses in words; it never answers wrongly.
        refused, found = "", expected
        try:
            found = torch.compile(f(number(twin(flow, "native"))), backend="aot_eager")(y)
        except (ValueError, RuntimeError) as error:
            refused = str(error)
        close(found, expected)
        assert not refused or "inside a compiled function" in refused or "never falls back" in refused
