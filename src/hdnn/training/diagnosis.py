"""Where numbers went bad, and what to do.

Legend: y_j the state before layer j = 0 … N − 1; a gradient flows from the last layer to the first.

Looked for only after the fact, so that steps need not pay for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.training.batches import Call, Inputs, called, tensors_of
from hdnn.training.models import flows_of

_REMEDY = (
    "Use a smaller learning rate or step, clip the gradient (`clip=1.0`), add a regulariser (`smoothness`, "
    "`weight_decay`), or check the inputs for extreme values."
)


def stopped(what: str, when: str, where: str) -> str:
    """The message of a training that cannot go on: "The objective became nan in epoch 3, …"."""
    return " ".join(f"The {what} {when}, so training stopped. {where} {_REMEDY}".split())


def where_weights(model: nn.Module) -> str:
    """Which parameter is not finite, or the gradient that will make it so; empty if all are finite."""
    flows = flows_of(model)
    layers = {
        f"{name}.{part}" if name else part: flow.layers
        for name, flow in flows.items()
        if not flow.recurrent  # those have one layer, as often as their inputs say
        for part in ("weight", "bias")
    }
    for name, p in model.named_parameters():
        if bool(p.isfinite().all()):
            continue
        found = f"The weights are not finite in `{name}`{_layer(p, layers.get(name, 0), last=False)}."
        gradients = {other: q.grad for other, q in model.named_parameters() if q.grad is not None}
        if not gradients:
            return f"{found} They were so before the first step."
        bad = [(other, g) for other, g in gradients.items() if not bool(g.isfinite().all())]
        if not bad:
            return (
                f"{found} The last gradient was finite, of norm {_norm(gradients.values()):.3g}: the step was too long."
            )
        # Of the parameters of a flow, the layer nearest to the output is where the way back went bad first.
        other, g = max(bad, key=lambda item: _last_bad(item[1]) if item[0].rpartition(".")[0] in flows else -1)
        return (
            f"{found} The gradient of the last step was infinite or not a number, norm {_norm(gradients.values()):.3g},"
            f" in `{other}`{_layer(g, layers.get(other, 0), last=True)}."
        )
    return ""


def where_states(model: nn.Module, x: Inputs, call: Call) -> str:
    """Where a batch makes numbers that are not finite on its way through a model of finite weights."""
    for part in tensors_of(x):
        if not bool(part.isfinite().all()):
            row = int((~part.isfinite()).nonzero()[0, 0]) if part.dim() else 0
            return f"The inputs of sample {row} of the batch are infinite or not a number."
    model = copy.deepcopy(model)  # in the mode that the step had, whose statistics it would move
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        if found or not isinstance(output, Tensor) or bool(output.isfinite().all()):
            return
        reached = max((_largest(value) for value in inputs if isinstance(value, Tensor)), default=0.0)
        where = _in_layer(module, *inputs, **options) if isinstance(module, Flow) else ""
        found.append(where or f"`{name}` ({type(module).__name__}) overflows: what it gets reaches {reached:.3g}.")

    for name, module in model.named_modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(partial(look, name or "the model"), with_kwargs=True)
    with torch.no_grad():
        output = called(model, x, call)
    if found:
        return found[0]
    if not isinstance(output, Tensor):
        return "The weights are finite, so it is the outputs, the loss, a regulariser or a penalty that overflow."
    if not bool(output.isfinite().all()):
        return "The outputs are not finite, though inputs and weights are."
    return (
        f"Weights and outputs are finite (the outputs reach {_largest(output):.3g}), so it is the loss, a regulariser "
        f"or a penalty that overflows."
    )


def _in_layer(flow: Flow, y: Tensor, **call: Any) -> str:
    """Which layer of a flow overflows, if layer after layer does what all at once did."""
    fields = flow.fields(y, **call)
    for j, field in enumerate(fields):
        before, y = y, flow.integrator.step(field, y, flow.step)
        if not bool(y.isfinite().all()):
            return (
                f"The state overflows in layer {j} of 0 … {len(fields) - 1}, before which it reaches "
                f"{_largest(before):.3g}."
            )
    return ""


def _layer(value: Tensor, layers: int, *, last: bool) -> str:
    """Of a parameter of a flow the layer, of others nothing."""
    if layers < 2 or len(value) != layers:
        return ""
    bad = (~value.flatten(1).isfinite()).any(1).nonzero().flatten()
    return f", layer {int(bad[-1 if last else 0])} of 0 … {layers - 1} ({len(bad)} of {layers} layers)"


def _last_bad(gradient: Tensor) -> int:
    return int((~gradient.flatten(1).isfinite()).any(1).nonzero()[-1]) if gradient.dim() > 1 else 0


def _norm(gradients: Iterable[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(g.double()) for g in gradients]).norm())


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0
