"""PyTorch's private names stand in one file, and a flow is right on a PyTorch that lacks any of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, jvp, vmap

from families import ACTIVATIONS, preset, random, state
from hdnn.flow import Flow
from hdnn.kernels import native, transforms

SOURCES = Path(transforms.__file__).parents[1]
PRIVATE = re.compile(r"torch(?:\.\w+)*\._(?!_version__)\w+|from torch\S*\._\w+|_current_level|super\(torch\.")
NAMES = [
    "autograd.forward_ad._current_level",
    "_C._are_functorch_transforms_active",
    "_C._len_torch_dispatch_stack",
    "_C._is_tracing",
    "_C._functorch.is_legacy_batchedtensor",
    "_C._functorch.is_functorch_wrapped_tensor",
    "_C._functorch",
    "_C",
    "compiler._is_exporting_flag",
]


# PyTorch itself, where it first loads its rules of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


class Without:
    """A module that lacks a name, given by its path."""

    def __init__(self, module: Any, path: str) -> None:
        self._module, (self._name, _, self._rest) = module, path.partition(".")

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(self._module, name)
        if not self._rest:
            raise AttributeError(name)
        return Without(getattr(self._module, name), self._rest)


def test_private_names_of_pytorch_stand_in_one_file() -> None:
    used = {str(p.relative_to(SOURCES)): PRIVATE.findall(p.read_text(encoding="utf-8")) for p in SOURCES.rglob("*.py")}
    moving = used.pop("training/optimizers.py")  # which falls back to torch.optim where they are missing
    assert {name.partition("torch.")[2].split("_")[1] for name in moving} <= {"foreach", "fused"}
    assert {name for name, found in used.items() if {*found} - {"torch.__file__"}} == {"kernels/transforms.py"}
    here = {f"torch.{name}" for name in NAMES[:-1]} | {"torch._C._functorch"}
    assert {name for name in used["kernels/transforms.py"] if name.startswith("torch.")} <= here


def numbers(flow: Flow) -> list[Tensor]:
    """Values and gradients by every door that asks what PyTorch is doing."""
    y, many = state(flow, 5), random(3, 5, 4, seed=8)
    p = {name: x.detach() for name, x in flow.named_parameters()}
    stacked = {name: torch.stack([x, x + 0.1]) for name, x in p.items()}
    x = y.detach().clone().requires_grad_()
    out = flow(x)
    batched = torch.autograd.grad(out, [x, *flow.parameters()], many, is_grads_batched=True, retain_graph=True)
    plain = torch.autograd.grad(out.sin().sum(), [x, *flow.parameters()])
    each = vmap(grad(lambda p, y: functional_call(flow, p, (y,)).sin().sum()), in_dims=(0, None))(stacked, y)
    found = [out.detach(), *plain, *batched, *each.values(), jacrev(flow)(y), vmap(flow)(many)]
    return found if flow.backend == "native" else [*found, jvp(flow, (y,), (many[0],))[1]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", [("auto", None), ("native", None), ("eager", "recompute"), ("eager", "reverse")])
def test_a_name_that_is_gone_changes_no_number(door: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, memory = door
    if backend == "native" and not native.available():
        pytest.skip("this install lacks the compiled extension")
    flow = preset("h2", 4, 3, backend=backend, memory=memory)
    expected = numbers(flow)
    monkeypatch.setattr(transforms, "torch", Without(torch, name))
    for mine, truth in zip(numbers(flow), expected, strict=True):
        torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_way_back_is_seen_without_a_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubt may cost time, never the check that gradients are right."""
    flow = preset("h2", 8, 200, 1.0, activation=ACTIVATIONS["relu"], backend="eager", memory="reverse").float()
    monkeypatch.setattr(transforms, "torch", Without(torch, name))
    with pytest.raises(RuntimeError, match="lost its way back"):
        flow(state(flow, 3).float()).sum().backward()


@pytest.mark.parametrize("name", ["", "_foreach_copy_", "autograd.graph._engine_run_backward"])
def test_copies_and_ways_back_without_private_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name:
        monkeypatch.setattr(transforms, "torch", Without(torch, name))
    x, y = torch.ones(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    transforms.overwrite([x, y], [torch.tensor([2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])])
    transforms.backward(x.square().sum() + y.prod())
    assert x.grad is not None
    assert y.grad is not None
    assert (x.tolist(), x.grad.tolist(), y.grad.tolist()) == ([2.0, 3.0], [4.0, 6.0], [30.0, 24.0, 20.0])


def test_answers_without_private_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "torch", Without(Without(torch, "_C"), "autograd.forward_ad._current_level"))
    assert not transforms.forward_mode()
    with torch.autograd.forward_ad.dual_level():
        assert transforms.forward_mode()
    assert transforms.transformed()
    assert transforms.watched()
    assert not transforms.batched(torch.ones(2))
    seen: list[bool] = []
    vmap(lambda x: (seen.append(transforms.batched(x)), x)[1])(torch.ones(2))
    assert seen == [True]
