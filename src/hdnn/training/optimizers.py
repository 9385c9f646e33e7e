"""Adam, AdamW and SGD: the kernels of PyTorch's own, without what stands around them.

`torch.optim` asks at every step what cannot change while one training runs, which takes small networks as long as the
rest of a step, and imports PyTorch's compiler, which takes over a second. These move parameters to the same bits.
Where PyTorch lacks a kernel, or a parameter is not one that the kernels take, `optimizer_of` makes PyTorch's.

Legend: θ parameters, g their gradients, m and v their first and second moments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Kept = dict[str, Tensor]
Moved = Sequence[tuple[nn.Parameter, Tensor, Kept]]  # with their gradients, and what is remembered of them

_DEVICES = ("cpu", "cuda", "xpu", "mps")


class Optimizer(ABC):
    """Moves parameters along their gradients; used as those of `torch.optim`.

    Args:
        parameters: of one kind of number, on one device; or one group of them as PyTorch has it, with its settings.
        lr: the learning rate of the next step, until `param_groups` say another.
        weight_decay: of all parameters.

    Attributes:
        param_groups: one, with the parameters and their settings.
        kernels: private names of PyTorch that the class needs.
    """

    param_groups: list[dict[str, Any]]
    kernels: ClassVar[tuple[str, ...]]

    def __init__(
        self, parameters: Iterable[nn.Parameter | Mapping[str, Any]], lr: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        given: list[Any] = list(parameters)
        group = given[0] if len(given) == 1 and isinstance(given[0], Mapping) else {"params": given}
        self.param_groups = [{"lr": lr, "weight_decay": weight_decay, **group}]
        self._rows: list[tuple[nn.Parameter, Kept]] = [(p, {}) for p in group["params"]]

    @property
    def state(self) -> dict[nn.Parameter, Kept]:
        """What is remembered of the parameters that have moved."""
        return {p: kept for p, kept in self._rows if kept}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters that have a gradient; the others stay, and are not counted as moved.

        Args:
            closure: computes the gradients first, where it is given; its answer comes back.
        """
        answer = None if closure is None else closure()
        if moved := [(p, g, kept) for p, kept in self._rows if (g := p.grad) is not None]:
            with torch.no_grad():
                self._move(moved, self.param_groups[0])
        return answer

    @abstractmethod
    def _move(self, moved: Moved, group: Mapping[str, Any]) -> None:
        """Move parameters, without being watched."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p, _ in self._rows:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, by the number of the parameter, and the settings."""
        settings = {name: value for name, value in self.param_groups[0].items() if name != "params"}
        return {
            "state": {i: dict(kept) for i, (_, kept) in enumerate(self._rows) if kept},
            "param_groups": [{**settings, "params": list(range(len(self._rows)))}],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what another of this kind remembers."""
        for i, (p, kept) in enumerate(self._rows):
            kept.clear()
            for name, value in state["state"].get(i, {}).items():
                dtype = torch.float32 if name == "step" else p.dtype
                kept[name] = value.detach().to(p.device, dtype, copy=True)
        self.param_groups[0].update({name: x for name, x in state["param_groups"][0].items() if name != "params"})


class Adam(Optimizer):
    """m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g², θ ← θ − η m̂ / (√v̂ + 10⁻⁸), hats correcting the start from zero.

    References:
        Kingma, Ba, Adam: a method for stochastic optimization, ICLR 2015, https://arxiv.org/abs/1412.6980
    """

    kernels: ClassVar[tuple[str, ...]] = ("_fused_adam_", "_foreach_add_")

    def _move(self, moved: Moved, group: Mapping[str, Any]) -> None:
        for p, g, kept in moved:
            if g.is_sparse:
                raise RuntimeError("Adam takes no sparse gradients. Make embeddings with sparse=False.")
            if not kept:
                kept["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                kept["exp_avg"], kept["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        parameters, gradients, states = zip(*moved, strict=True)
        steps = [kept["step"] for kept in states]
        torch._foreach_add_(steps, _constant(1.0, torch.float32, steps[0].device), alpha=1)
        getattr(torch, self.kernels[0])(
            parameters,
            gradients,
            [kept["exp_avg"] for kept in states],
            [kept["exp_avg_sq"] for kept in states],
            [],
            steps,
            lr=group["lr"],
            beta1=0.9,
            beta2=0.999,
            weight_decay=group["weight_decay"],
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


class AdamW(Adam):
    """Adam whose weight decay λ is no part of the gradient: θ ← (1 − η λ) θ before each step.

    References:
        Loshchilov, Hutter, Decoupled weight decay regularization, ICLR 2019, https://arxiv.org/abs/1711.05101
    """

    kernels: ClassVar[tuple[str, ...]] = ("_fused_adamw_", "_foreach_add_")


class SGD(Optimizer):
    """m ← 0.9 m + g + λ θ, θ ← θ − η m; m begins as the first g + λ θ."""

    kernels: ClassVar[tuple[str, ...]] = ("_foreach_add", "_foreach_add_", "_foreach_mul_")

    def _move(self, moved: Moved, group: Mapping[str, Any]) -> None:
        if any(g.is_sparse for _, g, _ in moved) and len(moved) > 1:  # which kernels of lists do not take
            for one in moved:
                self._move([one], group)
            return
        parameters, gradients, states = zip(*moved, strict=True)
        if decay := group["weight_decay"]:
            gradients = tuple(torch._foreach_add(gradients, parameters, alpha=decay))
        if old := [(g, kept["momentum_buffer"]) for g, kept in zip(gradients, states, strict=True) if kept]:
            going, buffers = zip(*old, strict=True)
            torch._foreach_mul_(buffers, _constant(0.9, buffers[0].dtype, buffers[0].device))
            torch._foreach_add_(buffers, going)
        for g, kept in zip(gradients, states, strict=True):
            if not kept:
                kept["momentum_buffer"] = g.detach().clone()
        torch._foreach_add_(parameters, [kept["momentum_buffer"] for kept in states], alpha=-group["lr"])


AnyOptimizer = Optimizer | torch.optim.Optimizer
KINDS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


def optimizer_of(
    kind: str, parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0
) -> AnyOptimizer:
    """The optimizer of a kind, "adam", "adamw" or "sgd": ours where its kernels take the parameters, else PyTorch's.

    Args:
        kind: which.
        parameters: to be moved.
        lr: the learning rate.
        weight_decay: of all parameters.
    """
    made = KINDS[kind]
    if all(hasattr(torch, name) for name in made.kernels) and _alike(parameters):
        return made(parameters, lr, weight_decay)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9)
    return getattr(torch.optim, made.__name__)(parameters, lr=lr, weight_decay=weight_decay, fused=True)  # type: ignore[no-any-return]


def clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradient of all parameters to a norm of at most `largest`, as `nn.utils.clip_grad_norm_` does.

    Args:
        parameters: whose gradients are scaled in place.
        largest: the norm.
    """
    gradients = [g for p in parameters if (g := p.grad) is not None]
    if not (gradients and hasattr(torch, "_foreach_norm") and hasattr(torch, "_foreach_mul_") and _alike(gradients)):
        nn.utils.clip_grad_norm_(parameters, largest)
        return
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)), 2.0)
        tiny, most, one = (_constant(value, norm.dtype, norm.device) for value in (1e-6, largest, 1.0))
        torch._foreach_mul_(gradients, torch.minimum(norm.add_(tiny).reciprocal_().mul_(most), one))


def _alike(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors are plain float32 or float64 numbers of one kind on one device that has the kernels."""
    first = tensors[0] if tensors else torch.empty(0, dtype=torch.int8)
    device, dtype = first.device, first.dtype
    if device.type not in _DEVICES or dtype not in (torch.float32, torch.float64):
        return False
    plain = torch.strided
    return all(type(x) in _PLAIN and x.dtype is dtype and x.layout is plain and x.device == device for x in tensors)


_PLAIN = (Tensor, nn.Parameter)


@lru_cache(maxsize=64)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as a tensor without axes: to make one of it anew takes longer than what is done with it."""
    return torch.tensor(value, dtype=dtype, device=device)
