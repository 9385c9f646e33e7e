"""How the gradient of a loss passes through the layers, and how much of it must shrink on the way.

Legend: L the loss, y_j the state before layer j = 0 … N − 1, y_N the output, g_j = dL/dy_j = M_jᵀ g_N with the
singular value decomposition M_j = ∂y_N/∂y_j = Σ s_i u_i v_iᵀ; θ parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.analysis.precision import in_full
from hdnn.analysis.pullback import Layers, check_start, functions, listed, modules, sample_axes, watched
from hdnn.flow import Flow
from hdnn.flow.depth import OF_LAYERS
from hdnn.modes import evaluating


@dataclass(frozen=True, eq=False)
class Gradients:
    """The gradients of one loss, by layer.

    Attributes:
        loss: L.
        states: dL/dy_j for j = 0 … N, each of the shape of y_j.
        state_norms: ‖dL/dy_j‖₂ of every sample, (N + 1, ...).
        parameter_norms: by name of the parameter, ‖dL/dθ‖₂ of every layer, (N,), of the whole batch; (1,) for a
            parameter of the flow that all layers share, as for those of a J, of ports and of an energy of one's own.
    """

    loss: float
    states: list[Tensor]
    state_norms: Tensor
    parameter_norms: dict[str, Tensor]


@in_full
def gradients(layers: Layers, y0: Tensor, loss: Callable[[Tensor], Tensor], **call: Any) -> Gradients:
    """The gradients of a loss with respect to the parameters and the state of every layer, by one backward pass.

    Nothing is added to `.grad`, and layers are read in evaluation mode, whatever mode they have. Of a loss that is a
    mean over the batch, the gradient of one sample's state carries the factor 1/B.

    Args:
        layers: a flow, or functions from states to states, as for `sensitivities`.
        y0: the state before the first layer.
        loss: from the output y_N to one number.
        **call: what a call of the flow brings besides y0, such as `edge_index` or `inputs`.

    Returns:
        The loss and its gradients, detached. Frozen parameters have no gradient and are left out. Of a list of modules,
        0 stands for a layer that lacks a parameter which others have.

    Raises:
        ValueError: if y0 does not fit, `loss` does not give one finite number that depends on the output, or gradients
            go through what was made in inference mode.

    Example:
        Of an hdnn network take the flow, the lifted inputs, and the head inside the loss:

        >>> import torch, hdnn
        >>> network = hdnn.vector_classifier(2, 3, hdnn.h2(4, layers=16, step=0.1))
        >>> x, labels = torch.randn(10, 2), torch.arange(10) % 3
        >>> found = gradients(
        ...     network.flow,
        ...     network.lift(x),
        ...     lambda y: torch.nn.functional.cross_entropy(network.head(y.flatten(1)), labels),
        ... )
        >>> found.state_norms.shape, found.parameter_norms["weight"].shape
        (torch.Size([17, 10]), torch.Size([16]))
    """
    layers = listed(layers)
    check_start(layers, y0)
    with _outside_inference_mode(), torch.enable_grad(), evaluating(*modules(layers)):
        # Copies, for what inference mode has made has no gradient.
        states = [y0.detach().clone().requires_grad_()]
        call = {name: value.clone() if _is_inference(value) else value for name, value in call.items()}
        for j, layer in enumerate(functions(layers, y0, **call)):
            states.append(watched(layer, j, states[-1]))
        value = loss(states[-1])
        _check_loss(value)
        owners, parameters = _trainable(layers)
        found = torch.autograd.grad(value.sum(), [*states, *parameters], materialize_grads=True)
    of_states, of_parameters = found[: len(states)], found[len(states) :]
    leading = sample_axes(layers, y0)
    norms = [torch.linalg.vector_norm(g.flatten(leading), dim=-1) for g in of_states]
    by_name: dict[str, Tensor] = {}
    for (name, j), g in zip(owners, of_parameters, strict=True):
        if isinstance(layers, Flow):
            rows = g.flatten(1) if _is_of_layers(layers, name, g) else g.reshape(1, g.numel())
            by_name[name] = torch.linalg.vector_norm(rows, dim=-1)
        else:
            by_name.setdefault(name, g.new_zeros(len(states) - 1))[j] = torch.linalg.vector_norm(g)
    return Gradients(float(value.detach()), list(of_states), torch.stack(norms), by_name)


@torch.no_grad()
def contracting_share(sensitivities: Tensor | Sequence[Tensor], gradient: Tensor) -> Tensor:
    """How much of a gradient lies where it must shrink on its way back to every layer, per sample.

    M_jᵀ g = Σ s_i v_i (u_iᵀ g): the part of g along u_i reaches layer j multiplied by s_i. The share is
    Σ (u_iᵀ g)² / ‖g‖² over the directions with s_i < 1. A norm ‖M_j‖₂ ≥ 1 promises one direction that does not shrink,
    not that the gradient points there; this says how far it does not.

    Singular values count as below 1 from the square root of the rounding on (1 − 1.5e-8 in float64), so that an
    orthogonal M has no share.

    Args:
        sensitivities: M_j for j = 0 … N, (N + 1, ..., n, n) or a list, as `sensitivities` returns them; of images
            the whole matrices.
        gradient: g = dL/dy_N, of the shape of y_N: `gradients(...).states[-1]`.

    Returns:
        (N + 1, ...), between 0 and 1; 0 where the gradient is zero.

    Raises:
        ValueError: if the gradient does not fit the matrices, or a number is not finite.

    Example:
        >>> M = torch.tensor([[[[2.0, 0.0], [0.0, 0.5]]]])
        >>> contracting_share(M, torch.tensor([[3.0, 4.0]]))
        tensor([[0.6400]])
    """
    samples, rows = sensitivities[0].shape[:-2], sensitivities[0].shape[-2]
    if gradient.shape[: len(samples)] != samples or gradient.shape[len(samples) :].numel() != rows:
        raise ValueError(
            f"`gradient` must hold {rows} numbers for each of the {tuple(samples)} samples; got "
            f"{tuple(gradient.shape)}. Pass dL/dy_N, `gradients(...).states[-1]`."
        )
    g = gradient.detach().reshape(*samples, rows)
    return torch.stack([_share(M, g) for M in sensitivities])


def _share(M: Tensor, g: Tensor) -> Tensor:
    if not (M.isfinite().all() and g.isfinite().all()):
        raise ValueError("A sensitivity or the gradient holds NaN or infinity, so it has no directions.")
    U, s, _ = torch.linalg.svd(M.detach(), full_matrices=False)
    size = torch.linalg.vector_norm(g, dim=-1, keepdim=True)
    along = U.mT @ (g / torch.where(size > 0, size, 1)).unsqueeze(-1)
    # Counted by what does not shrink, since directions that M has no column for shrink as well.
    kept = along.squeeze(-1).square() * (s >= 1 - torch.finfo(s.dtype).eps ** 0.5)
    return torch.where(size.squeeze(-1) > 0, 1 - kept.sum(-1), 0).clamp(0, 1)


@contextmanager
def _outside_inference_mode() -> Iterator[None]:
    try:
        with torch.inference_mode(False):
            yield
    except RuntimeError as error:
        if not str(error).startswith("Inference tensors"):
            raise
        raise ValueError(
            "Gradients go through what was made under `torch.inference_mode()`, where PyTorch keeps none: a layer, or "
            "what `loss` compares with. Make it outside, or under `torch.no_grad()`."
        ) from error


def _is_inference(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_inference()


def _trainable(layers: Layers) -> tuple[list[tuple[str, int]], list[nn.Parameter]]:
    """The trainable parameters: the name and the layer of each (0 where it is that of a flow), and the parameters."""
    found = [
        ((name, j), parameter)
        for j, module in enumerate([layers] if isinstance(layers, Flow) else layers)
        if isinstance(module, nn.Module)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    return [owner for owner, _ in found], [parameter for _, parameter in found]


def _is_of_layers(flow: Flow, name: str, g: Tensor) -> bool:
    """Whether layers stand along the first axis of a parameter, also of one that PyTorch computes another from."""
    of = name.removeprefix("parametrizations.").partition(".")[0]
    for part in ("_orig", "_g", "_v"):
        of = of.removesuffix(part)
    return of in OF_LAYERS and g.dim() > 1 and len(g) == len(getattr(flow, of))


def _check_loss(value: Tensor) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`loss` must return one number, a tensor; got {shape}. Take its mean or sum over the batch.")
    if not value.requires_grad:
        raise ValueError("`loss` does not depend on the output: a detach() or a no_grad() stands between them.")
    if not value.isfinite():
        raise ValueError(f"The loss is {float(value.detach())}, so it has no gradient. Check the data and the weights.")
