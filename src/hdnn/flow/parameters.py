"""The numbers of a flow whatever stands for them: parameters, shards of them, parametrizations of PyTorch, pruned ones.

Legend: a parametrization computes `weight` from other parameters whenever it is read; pruning keeps `weight_orig` and a
mask, of which a hook makes `weight` before every forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from hdnn.entries import Slot


def register(
    module: nn.Module, slots: Mapping[str, Slot], device: torch.device | str | None, dtype: torch.dtype
) -> None:
    """Make parameters and buffers for what the factors keep; those that other factors would have read None."""
    for name, slot in slots.items():
        if slot.trained:
            module.register_parameter(name, nn.Parameter(torch.empty(slot.shape, device=device, dtype=dtype)))
        else:
            module.register_buffer(name, None)
    for name in {"input_weight", "interconnection_weight", "damping_weight", "unit_weight"} - slots.keys():
        module.register_parameter(name, None)
    if "interconnection_matrix" not in slots:  # a buffer that stays None would confuse torch.export
        object.__setattr__(module, "interconnection_matrix", None)


def fill(module: nn.Module, slots: Mapping[str, Slot]) -> None:
    """Give all of them the values that they start with."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    for name, slot in slots.items():
        if not isinstance(slot.start, Tensor):
            draw(module, name, slot.start)
        elif slot.trained:
            put(module, name, slot.start)
        else:
            # A copy: the factors may be shared between models, a buffer may be written to.
            setattr(module, name, slot.start.to(weight, copy=True))


@torch.no_grad()
def draw(module: nn.Module, name: str, std: float) -> None:
    """Fill a parameter with numbers from N(0, std²); see `put` for what may stand in its place."""
    parameter = module._parameters.get(name)
    if parameter is not None and parameter.is_meta:
        return  # nothing to fill; PyTorch would import its compiler, which takes a second, to find that out
    if parameter is not None:
        nn.init.normal_(parameter, std=std)
    else:
        put(module, name, torch.empty_like(getattr(module, name)).normal_(std=std))


@torch.no_grad()
def put(module: nn.Module, name: str, value: Tensor) -> None:
    """Give a parameter its value.

    Args:
        module: that holds it.
        name: of the parameter; it may be a shard of a mesh, parametrized or pruned.
        value: what reading it shall give; of a pruned one, where its mask is 1.

    Raises:
        RuntimeError: if something stands in its place that cannot be told to give this value.
    """
    parameter = module._parameters.get(name)
    if parameter is not None:
        parameter.copy_(_spread(value.to(parameter.dtype), parameter))
    elif parametrize.is_parametrized(module, name):
        try:
            setattr(module, name, value.to(getattr(module, name)))
        except (NotImplementedError, RuntimeError) as error:
            raise RuntimeError(
                f"`{name}` is computed by a parametrization that cannot be given a value ({error}). Give it a "
                f"`right_inverse`, or call `torch.nn.utils.parametrize.remove_parametrizations(flow, {name!r})` first."
            ) from error
    elif f"{name}_orig" in module._parameters and _pruning(module, name):
        getattr(module, f"{name}_orig").copy_(value)
        refresh(module)
    else:
        raise RuntimeError(
            f"`{name}` is no parameter any more: a hook of PyTorch computes it from others, which cannot be told what "
            f"to give. Remove the hook first, or use `torch.nn.utils.parametrizations`."
        )


def refresh(module: nn.Module) -> None:
    """Compute what hooks of PyTorch compute before a forward pass, as pruning does.

    Until then a step of an optimizer, or a state that is loaded, does not show; and what reads weights without a
    forward pass of this module would go back through a graph that is gone.
    """
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod | WeightNorm):
            hook(module, ())
        elif isinstance(hook, SpectralNorm):
            setattr(module, hook.name, hook.compute_weight(module, do_power_iteration=False))


def trained(module: nn.Module, name: str) -> bool:
    """Whether gradients are asked for a parameter, or for what stands in its place."""
    if name in module._parameters:
        return bool(getattr(module, name).requires_grad)
    if parametrize.is_parametrized(module, name):
        return any(p.requires_grad for p in module.parametrizations[name].parameters())  # type: ignore[index, union-attr]
    return bool(getattr(module, f"{name}_orig", getattr(module, name)).requires_grad)


def _pruning(module: nn.Module, name: str) -> bool:
    return any(
        isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == name
        for hook in module._forward_pre_hooks.values()
    )


def _spread(value: Tensor, parameter: Tensor) -> Tensor:
    """The value, or this process's shard of it where the parameter is one."""
    if not hasattr(parameter, "device_mesh"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def inverse_transpose(K: Tensor) -> Tensor:
    """J = K⁻ᵀ, the interconnection that `Inverse` implies.

    Args:
        K: (N, n, n), or (N, n, n, 1, ...) of a pointwise flow of images or signals.

    Returns:
        (N, n, n).

    Raises:
        ValueError: if a K has no inverse: an odd number of features, a singular K, or a convolution of several taps.
    """
    if (taps := K.shape[3:]).numel() > 1:
        raise ValueError(
            f"J = K⁻ᵀ of weights with {' x '.join(map(str, taps))} taps is an operator on whole states, not a matrix. "
            f"Only kernel_size=1 has one per position."
        )
    features = K.shape[1]
    if features % 2 and not K.diagonal(dim1=1, dim2=2).any():
        raise ValueError(
            f"J = K⁻ᵀ does not exist: a skew K with an odd number of features, {features}, is singular. "
            f"The flow itself never inverts K and is fine."
        )
    try:
        inverse: Tensor = torch.linalg.inv(K.reshape(-1, features, features))
    except RuntimeError as error:
        raise ValueError(f"J = K⁻ᵀ does not exist: a K is singular ({error}). The flow itself is fine.") from error
    return inverse.mT
