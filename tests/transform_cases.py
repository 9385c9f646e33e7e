"""What the tests of all fused backends share: transforms of `torch.func`, and operators as PyTorch wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from families import Factors, preset, random, state
from hdnn.flow import Flow
from hdnn.kernels import operators
from native_cases import TRANSFORMED, close


def transforms_are_those_of_the_loop(kind: str, backend: str) -> None:
    """Values and derivatives of one kind of flow, mapped over states and parameters, one and several deep."""
    fast, slow = TRANSFORMED[kind](backend=backend), TRANSFORMED[kind](backend="eager")
    one = state(fast) if fast.kernel_size is None else state(fast, 1)
    many, grid = (random(*leading, *one.shape, seed=8).to(one.device) for leading in ((5,), (2, 5)))
    params = {name: p.detach() for name, p in fast.named_parameters()}
    stacked = {name: torch.stack([p + 0.1 * j for j in range(3)]) for name, p in params.items()}

    def loss(flow: Flow, p: dict[str, Tensor], y: Tensor) -> Tensor:
        return functional_call(flow, p, (y,)).sin().sum()  # type: ignore[no-any-return]

    def both(f: Callable[[Flow], Any]) -> None:
        for a, b in zip(*(torch.utils._pytree.tree_leaves(f(flow)) for flow in (fast, slow)), strict=True):
            close(a, b)

    both(lambda flow: jacrev(flow)(one))
    both(lambda flow: vmap(flow)(many))
    both(lambda flow: vmap(flow, in_dims=1, out_dims=1)(many.movedim(0, 1)))
    both(lambda flow: vmap(jacrev(flow))(many))
    both(lambda flow: vmap(vmap(flow))(grid))
    both(lambda flow: grad(lambda p: loss(flow, p, one))(params))
    both(lambda flow: jacrev(lambda p: functional_call(flow, p, (one,)))(params))
    both(lambda flow: vmap(lambda p: functional_call(flow, p, (one,)))(stacked))
    both(lambda flow: vmap(grad(lambda p: loss(flow, p, one)))(stacked))
    both(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)), in_dims=(None, 0))(params, many))
    both(lambda flow: vmap(grad(lambda p, y: loss(flow, p, y)))(stacked, many[:3]))
    both(lambda flow: vmap(vmap(lambda p, y: functional_call(flow, p, (y,)), (None, 0)), (0, None))(stacked, many))
    both(lambda flow: vmap(vmap(grad(lambda p, y: loss(flow, p, y)), (None, 0)), (0, None))(stacked, many))
    both(lambda flow: vmap(jacrev(lambda p: functional_call(flow, p, (one,))))(stacked))
    # one of the parameters mapped, the others shared
    for name, values in stacked.items():
        both(lambda flow, n=name, v=values: vmap(grad(lambda x: loss(flow, {**params, n: x}, one)))(v))


def operators_are_well_formed(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch, kernel_size: int | None = None
) -> None:
    """By PyTorch's own checks, of what a call of a flow gives its operators."""
    seen: list[tuple[Any, ...]] = []
    for function in (operators.Run, operators.Pull):
        apply = function.apply
        monkeypatch.setattr(function, "apply", lambda *x, apply=apply: (seen.append(x), apply(*x))[1])
    monkeypatch.setattr(operators, "_is_plain", lambda *tensors: False)
    flow = preset(name, kernel_size=kernel_size, backend=backend)
    if name == "h1":  # with a W of its own
        flow = Factors("Dense_narrow", "skew", "ForwardEuler").flow(4, 3, kernel_size=kernel_size, backend=backend)
    flow(state(flow, 3).requires_grad_()).sum().backward()
    (*of_run, flows, _, plan, _), (*of_pull, _, _, _, _, weights_too) = seen
    assert weights_too
    checks = ((torch.ops.hdnn.flow_run, of_run, ()), (torch.ops.hdnn.flow_pull, of_pull, (True,)),
              (torch.ops.hdnn.flow_pull, of_pull, (False,)))  # fmt: skip
    for operator, tensors, wants in checks:
        plain = [None if x is None else x.detach() for x in tensors]
        checked = torch.library.opcheck(operator.default, (*plain, *wants, flows, backend, *plan.values()))
        assert set(checked.values()) == {"SUCCESS"}
