"""Where numbers went bad, and what to do.

Legend: y_j the state before layer j = 0 … N − 1; a gradient flows from the last layer to the first.

Looked for only after the fact, so that steps need not pay for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from hdnn.flow import Flow
from hdnn.networks import Network

_REMEDY = (
    "Use a smaller learning rate or step, clip the gradient (`clip=1.0`), add a regulariser (`smoothness`, "
    "`weight_decay`), or check the inputs for extreme values."
)


def stopped(what: str, when: str, where: str) -> str:
    """The message of a training that cannot go on: "The objective became nan in epoch 3, …"."""
    return " ".join(f"The {what} {when}, so training stopped. {where} {_REMEDY}".split())


def where_weights(network: Network) -> str:
    """Which parameter is not finite, or the gradient that will make it so; empty if all are finite."""
    layers = network.flow.layers if isinstance(network.flow, Flow) else 0
    for name, p in network.named_parameters():
        if bool(p.isfinite().all()):
            continue
        found = f"The weights are not finite in `{name}`{_layer(name, p, layers, last=False)}."
        gradients = {other: q.grad for other, q in network.named_parameters() if q.grad is not None}
        if not gradients:
            return f"{found} They were so before the first step."
        bad = [(other, g) for other, g in gradients.items() if not bool(g.isfinite().all())]
        if not bad:
            return (
                f"{found} The last gradient was finite, of norm {_norm(gradients.values()):.3g}: the step was too long."
            )
        # Of the parameters of a flow, the layer nearest to the output is where the way back went bad first.
        other, g = max(bad, key=lambda item: _last_bad(item[1]) if item[0].startswith("flow.") else -1)
        return (
            f"{found} The gradient of the last step was infinite or not a number, norm {_norm(gradients.values()):.3g},"
            f" in `{other}`{_layer(other, g, layers, last=True)}."
        )
    return ""


def where_states(network: Network, x: Tensor) -> str:
    """Where a batch makes numbers that are not finite on its way through a network of finite weights."""
    if not bool(x.isfinite().all()):
        row = int((~x.flatten(1).isfinite()).any(1).nonzero()[0])
        return f"The inputs of sample {row} of the batch are infinite or not a number."
    network = copy.deepcopy(network)  # in the mode that the step had, whose statistics it would move
    with torch.no_grad():
        y = network.lift(x)
        if not bool(y.isfinite().all()):
            return f"The lift overflows: inputs reach {_largest(x):.3g}."
        if isinstance(network.flow, Flow):
            for j, field in enumerate(network.flow.fields()):
                before, y = y, network.flow.integrator.step(field, y, network.flow.step)
                if not bool(y.isfinite().all()):
                    return (
                        f"The state overflows in layer {j} of 0 … {network.flow.layers - 1}, before which it reaches "
                        f"{_largest(before):.3g}."
                    )
        output = network(x)
    if not bool(output.isfinite().all()):
        return "The outputs are not finite, though inputs and weights are."
    return (
        f"Weights and outputs are finite (the outputs reach {_largest(output):.3g}), so it is the loss, a regulariser "
        f"or a penalty that overflows."
    )


def _layer(name: str, value: Tensor, layers: int, *, last: bool) -> str:
    """Of a parameter of a flow the layer, of others nothing."""
    if name not in ("flow.weight", "flow.bias") or len(value) != layers or layers < 2:
        return ""
    bad = (~value.flatten(1).isfinite()).any(1).nonzero().flatten()
    return f", layer {int(bad[-1 if last else 0])} of 0 … {layers - 1} ({len(bad)} of {layers} layers)"


def _last_bad(gradient: Tensor) -> int:
    return int((~gradient.flatten(1).isfinite()).any(1).nonzero()[-1]) if gradient.dim() > 1 else 0


def _norm(gradients: Iterable[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(g.double()) for g in gradients]).norm())


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0
